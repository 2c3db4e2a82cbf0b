// Docker's label filters: KEY, KEY=VALUE, and with a ! in front those that don't have it. All must hold. Pure.
export const matchesLabelFilters = (labels: Readonly<Record<string, string>>, filters: readonly string[]): boolean => filters.every((filter) => {
  const negated = filter.startsWith("!");
  const text = negated ? filter.slice(1) : filter;
  const equals = text.indexOf("=");
  const [key, value] = equals < 0 ? [text, undefined] : [text.slice(0, equals), text.slice(equals + 1)];
  const has = Object.hasOwn(labels, key) && (value === undefined || labels[key] === value);
  return has !== negated;
});
