// Reading values of a Compose file: each reader knows the value's path, so that whatever is wrong is told with its place. Pure.
import { GantryError } from "../../base/errors.ts";

export type Mapping = Readonly<Record<string, unknown>>;

export const fault = (path: string, why: string): GantryError => new GantryError("BadRequest", `${path}: ${why}`);
const shown = (value: unknown): string => JSON.stringify(value)?.slice(0, 80) ?? "nothing";

export const isMapping = (value: unknown): value is Mapping => typeof value === "object" && value !== null && !Array.isArray(value);

export const mapping = (path: string, value: unknown): Mapping => {
  if (value === undefined || value === null) return {};
  if (!isMapping(value)) throw fault(path, `expected keys and values, not ${shown(value)}`);
  return value;
};

export const list = (path: string, value: unknown): readonly unknown[] => {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw fault(path, `expected a list, not ${shown(value)}`);
  return value;
};

export const text = (path: string, value: unknown): string => {
  if (value === undefined || value === null) return "";
  if (typeof value !== "string" && typeof value !== "number" && typeof value !== "boolean") throw fault(path, `expected a text, not ${shown(value)}`);
  return String(value);
};

export const texts = (path: string, value: unknown): readonly string[] => list(path, value).map((item, i) => text(`${path}[${i}]`, item));
/** One text, or a list of them. */
export const textOrTexts = (path: string, value: unknown): readonly string[] => (value === undefined || value === null ? [] : Array.isArray(value) ? texts(path, value) : [text(path, value)]);

export const bool = (path: string, value: unknown): boolean => {
  if (value === undefined || value === null) return false;
  if (value === true || value === "true") return true;
  if (value === false || value === "false") return false;
  throw fault(path, `expected true or false, not ${shown(value)}`);
};

export const whole = (path: string, value: unknown, least = 0): number => {
  const number = typeof value === "number" ? value : typeof value === "string" && value.trim() !== "" ? Number(value) : Number.NaN;
  if (!Number.isSafeInteger(number) || number < least) throw fault(path, `expected a whole number of ${least} or more, not ${shown(value)}`);
  return number;
};

/** KEY: value, or a list of KEY=value; a key alone has no value. */
export const pairs = (path: string, value: unknown, separator = "="): ReadonlyMap<string, string | undefined> => {
  if (Array.isArray(value)) {
    return new Map(texts(path, value).map((item) => {
      const at = item.indexOf(separator);
      return at < 0 ? [item, undefined] : [item.slice(0, at), item.slice(at + separator.length)];
    }));
  }
  return new Map(Object.entries(mapping(path, value)).map(([key, item]) => [key, item === null ? undefined : text(`${path}.${key}`, item)]));
};

/** A command as a shell would split it: quotes keep words together. */
export const shellWords = (path: string, line: string): readonly string[] => {
  const words: string[] = [];
  let word: string | undefined;
  for (let at = 0; at < line.length; at++) {
    const c = line[at]!;
    if (/\s/.test(c)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else if (c === "'" || c === '"') {
      const end = c === "'" ? line.indexOf("'", at + 1) : endOfDouble(line, at + 1);
      if (end < 0) throw fault(path, `${JSON.stringify(line)} has a ${c} without its second`);
      const inner = line.slice(at + 1, end);
      word = (word ?? "") + (c === "'" ? inner : inner.replaceAll(/\\(["\\$`])/g, "$1"));
      at = end;
    } else if (c === "\\" && at + 1 < line.length) {
      word = (word ?? "") + line[++at]!;
    } else {
      word = (word ?? "") + c;
    }
  }
  if (word !== undefined) words.push(word);
  return words;
};

const endOfDouble = (line: string, from: number): number => {
  for (let at = from; at < line.length; at++) {
    if (line[at] === "\\") at++;
    else if (line[at] === '"') return at;
  }
  return -1;
};

/** A command line as one text or as its words; undefined where there is none. */
export const commandWords = (path: string, value: unknown): readonly string[] | undefined => (value === undefined || value === null ? undefined : Array.isArray(value) ? texts(path, value) : shellWords(path, text(path, value)));
