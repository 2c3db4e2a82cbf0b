// ${VAR} in Compose files: https://docs.docker.com/reference/compose-file/interpolation/. Pure.
import { GantryError } from "../../base/errors.ts";

export type Lookup = (name: string) => string | undefined;

/** End of the ${...} whose inside begins at `from`: braces of nested ones are counted. */
const closing = (text: string, from: number): number => {
  for (let at = from, depth = 1; at < text.length; at++) {
    if (text.startsWith("${", at)) depth++;
    else if (text[at] === "}" && --depth === 0) return at;
  }
  return -1;
};

/** `where` is the value's path, for messages. Variables that aren't set become "", and `unset` hears of them. "BadRequest" for what can't be read and for ${VAR:?message}. */
export const interpolate = (where: string, text: string, lookup: Lookup, unset: (name: string) => void = () => undefined): string => {
  let out = "";
  for (let at = 0; at < text.length;) {
    const dollar = text.indexOf("$", at);
    if (dollar < 0) return out + text.slice(at);
    out += text.slice(at, dollar);
    const fault = (why: string): GantryError => new GantryError("BadRequest", `${where}: ${JSON.stringify(text)}: ${why} (a $ of its own is written $$)`);
    if (text[dollar + 1] === "$") {
      out += "$";
      at = dollar + 2;
      continue;
    }
    if (text[dollar + 1] !== "{") {
      const name = /^[A-Za-z_]\w*/.exec(text.slice(dollar + 1))?.[0];
      if (name === undefined) throw fault("$ without the name of a variable");
      const value = lookup(name);
      if (value === undefined) unset(name);
      out += value ?? "";
      at = dollar + 1 + name.length;
      continue;
    }
    const end = closing(text, dollar + 2);
    if (end < 0) throw fault("${ without }");
    const inner = text.slice(dollar + 2, end);
    at = end + 1;
    const match = /^([A-Za-z_]\w*)(?:(:?[-?+])([\s\S]*))?$/.exec(inner);
    if (!match) throw fault(`\${${inner}} is not \${NAME}, \${NAME:-default}, \${NAME:?message} or \${NAME:+other}`);
    const [, name = "", operator = "", rest = ""] = match;
    const value = lookup(name);
    const isSet = value !== undefined && (!operator.startsWith(":") || value !== "");
    const other = (): string => interpolate(where, rest, lookup, unset);
    if (operator.endsWith("-")) out += isSet ? value : other();
    else if (operator.endsWith("+")) out += isSet ? other() : "";
    else if (operator.endsWith("?")) {
      if (!isSet) throw new GantryError("BadRequest", `${where}: variable ${name} is needed${rest === "" ? "" : `: ${other()}`}`);
      out += value;
    } else {
      if (value === undefined) unset(name);
      out += value ?? "";
    }
  }
  return out;
};

/** Every text below `value`, keys excepted. */
export const interpolateAll = (where: string, value: unknown, lookup: Lookup, unset?: (name: string) => void): unknown => {
  if (typeof value === "string") return interpolate(where, value, lookup, unset);
  if (Array.isArray(value)) return value.map((item, i) => interpolateAll(`${where}[${i}]`, item, lookup, unset));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, interpolateAll(where === "" ? key : `${where}.${key}`, item, lookup, unset)]));
};
