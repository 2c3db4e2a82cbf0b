// Building defaulted objects without touching the original: what does not change keeps its reference.

/** `object` with those of `defaults` that it lacks; itself when it lacks none. */
export const fill = <T extends object>(object: T, defaults: Partial<T>): T => {
  const missing = (Object.keys(defaults) as (keyof T)[]).filter((k) => object[k] === undefined && defaults[k] !== undefined);
  return missing.length === 0 ? object : { ...object, ...Object.fromEntries(missing.map((k) => [k, defaults[k]])) };
};

/** `object` with `key` changed by `change`, where present; itself when that gives the same reference. */
export const change = <T extends object, K extends keyof T>(object: T, key: K, by: (value: NonNullable<T[K]>) => T[K]): T => {
  const value = object[key];
  if (value === undefined || value === null) return object;
  const next = by(value);
  return next === value ? object : { ...object, [key]: next };
};

/** As `map`; the same array when every element stayed the same. */
export const each = <T>(list: T[], by: (item: T) => T): T[] => {
  const next = list.map(by);
  return next.every((item, i) => item === list[i]) ? list : next;
};

/** `object` without the field. */
export const without = <T extends object>(object: T, key: keyof T): T => {
  if (!(key in object)) return object;
  const { [key]: _, ...rest } = object;
  return rest as T;
};
