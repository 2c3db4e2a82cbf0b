// `--filter KEY=VALUE`, given several times: values of one key are alternatives, different keys must all hold. Pure.
import { nearest } from "../../base/config.ts";
import { GantryError } from "../../base/errors.ts";

export type Filters = ReadonlyMap<string, readonly string[]>;

export const parseFilters = (texts: readonly string[], known: readonly string[]): Filters => {
  const filters = new Map<string, string[]>();
  for (const text of texts) {
    const at = text.indexOf("=");
    const key = at < 0 ? text : text.slice(0, at);
    if (at < 1) throw new GantryError("BadRequest", `--filter: ${JSON.stringify(text)} is not KEY=VALUE; keys: ${known.join(", ")}`);
    if (!known.includes(key)) {
      const hint = nearest(key, known);
      throw new GantryError("BadRequest", `--filter: there is no key ${JSON.stringify(key)}${hint ? `; did you mean ${hint}?` : ""} (${known.join(", ")})`);
    }
    filters.set(key, [...(filters.get(key) ?? []), text.slice(at + 1)]);
  }
  return filters;
};

/** A key that isn't among the filters lets everything pass. */
export const passes = (filters: Filters, key: string, test: (value: string) => boolean): boolean => filters.get(key)?.some(test) ?? true;
/** Labels are all needed, as docker has it. */
export const passesAll = (filters: Filters, key: string, test: (value: string) => boolean): boolean => filters.get(key)?.every(test) ?? true;

/** "key" or "key=value". */
export const labelTest = (labels: Readonly<Record<string, string>>) => (wanted: string): boolean => {
  const at = wanted.indexOf("=");
  return at < 0 ? wanted in labels : labels[wanted.slice(0, at)] === wanted.slice(at + 1);
};
