// Files of environment variables: docker's --env-file takes lines as they are; Compose's .env and env_file know quotes, comments and
// ${VAR}. Pure.
import { GantryError } from "../../base/errors.ts";

const NAME = /^[^\s=#][^\s=]*$/;

/** docker's form: NAME=value to the end of the line, quotes and all; NAME alone takes the value of `env`, or is left out. */
export const parseEnvFile = (where: string, text: string, env: Readonly<Record<string, string | undefined>>): ReadonlyMap<string, string> => {
  const found = new Map<string, string>();
  for (const [i, raw] of text.replace(/^\uFEFF/, "").split("\n").entries()) {
    const line = raw.replace(/\r$/, "").trimStart();
    if (line === "" || line.startsWith("#")) continue;
    const at = line.indexOf("=");
    const name = at < 0 ? line.trimEnd() : line.slice(0, at);
    if (!NAME.test(name)) throw new GantryError("BadRequest", `${where}:${i + 1}: ${JSON.stringify(line)} is not NAME=value`);
    const value = at < 0 ? env[name] : line.slice(at + 1);
    if (value !== undefined) found.set(name, value);
  }
  return found;
};

/** `-e NAME=value`, or `-e NAME` for the value that it has here. */
export const parseEnvFlag = (where: string, text: string, env: Readonly<Record<string, string | undefined>>): readonly [string, string] | undefined => {
  const at = text.indexOf("=");
  const name = at < 0 ? text : text.slice(0, at);
  if (!NAME.test(name)) throw new GantryError("BadRequest", `${where}: ${JSON.stringify(text)} is not NAME=value or NAME`);
  const value = at < 0 ? env[name] : text.slice(at + 1);
  return value === undefined ? undefined : [name, value];
};

const DOUBLE_ESCAPES: Readonly<Record<string, string>> = { n: "\n", r: "\r", t: "\t", "\\": "\\", '"': '"', $: "$$" };

/** Compose's form (https://docs.docker.com/compose/how-tos/environment-variables/variable-interpolation/#env-file-syntax); `expand` replaces ${VAR}, which single quotes keep from happening. */
export const parseDotEnv = (where: string, text: string, expand: (value: string, soFar: ReadonlyMap<string, string>) => string, env: Readonly<Record<string, string | undefined>> = {}): ReadonlyMap<string, string> => {
  const found = new Map<string, string>();
  const source = text.replace(/^\uFEFF/, "").replaceAll("\r\n", "\n");
  const line = /[^\S\n]*(?:#[^\n]*|(?:export[^\S\n]+)?([^\s=:#'"]+)[^\S\n]*(?:([=:])[^\S\n]*(?:'([^']*)'|"((?:[^"\\]|\\[\s\S])*)"|([^\n]*)))?|)([^\n]*)(?:\n|$)/y;
  while (line.lastIndex < source.length) {
    const at = line.lastIndex;
    const match = line.exec(source);
    const number = source.slice(0, at).split("\n").length;
    const fault = (): GantryError => new GantryError("BadRequest", `${where}:${number}: ${JSON.stringify(source.slice(at).split("\n")[0])} is not NAME=value`);
    if (!match) throw fault();
    const [, name, assigned, single, double, bare, trailing = ""] = match;
    if (name === undefined) {
      if (trailing.trim() !== "") throw fault();
      continue;
    }
    if ((single ?? double) !== undefined && !/^\s*(#.*)?$/.test(trailing)) throw fault();
    if (assigned === undefined) {
      if (trailing.trim() !== "") throw fault();
      const inherited = env[name];
      if (inherited !== undefined) found.set(name, inherited);
    } else if (single !== undefined) {
      found.set(name, single);
    } else if (double !== undefined) {
      found.set(name, expand(double.replaceAll(/\\([\s\S])/g, (whole, c: string) => DOUBLE_ESCAPES[c] ?? whole), found));
    } else {
      found.set(name, expand(bare!.replace(/(^|\s)#.*$/, "").trimEnd(), found));
    }
  }
  return found;
};
