// Path patterns: .dockerignore, COPY's wildcards, --exclude. Pure. The rules are those of github.com/moby/patternmatcher:
// https://docs.docker.com/build/concepts/context/#syntax
import { posix } from "node:path";
import { GantryError } from "../../base/errors.ts";

const invalid = (pattern: string, why: string): GantryError => new GantryError("Invalid", `pattern ${JSON.stringify(pattern)}: ${why}`);

/** `*` and `?` stop at slashes, `**` does not; [a-z] classes and backslashes as in Go's filepath.Match. Of the whole path. */
export const patternRegex = (pattern: string): RegExp => {
  let out = "^";
  for (let i = 0; i < pattern.length; i++) {
    const char = pattern[i]!;
    if (char === "*" && pattern[i + 1] === "*") {
      i++;
      if (pattern[i + 1] === "/") i++;
      out += i + 1 >= pattern.length ? ".*" : "(?:.*/)?";
    } else if (char === "*") out += "[^/]*";
    else if (char === "?") out += "[^/]";
    else if (char === "[") {
      const end = pattern.indexOf("]", i + (pattern[i + 1] === "^" ? 3 : 2));
      if (end < 0) throw invalid(pattern, "the closing ] is missing");
      out += `[${pattern.slice(i + 1, end).replaceAll("[", "\\[")}]`;
      i = end;
    } else if (char === "\\") {
      if (++i >= pattern.length) throw invalid(pattern, "it ends with a backslash");
      out += pattern[i]!.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");
    } else out += char.replace(/[$.+()|{}^]/g, "\\$&");
  }
  return new RegExp(`${out}$`, "s");
};

export const hasWildcard = (path: string): boolean => /[*?[]/.test(path.replaceAll(/\\./g, ""));

interface Rule {
  readonly regex: RegExp;
  readonly keeps: boolean;
  readonly parts: readonly string[];
}

export class PathMatcher {
  readonly #rules: readonly Rule[];
  /** There are rules that bring back something from a directory that is left out. */
  readonly #keeps: boolean;

  constructor(patterns: readonly string[]) {
    this.#rules = patterns.map((pattern) => {
      const keeps = pattern.startsWith("!");
      const path = posix.normalize(keeps ? pattern.slice(1).trim() : pattern).replace(/^\/+/, "").replace(/(?<=.)\/+$/, "");
      if (keeps && path === ".") throw invalid(pattern, "there is nothing behind the !");
      return { regex: patternRegex(path), keeps, parts: path.split("/") };
    });
    this.#keeps = this.#rules.some((rule) => rule.keeps);
  }

  get isEmpty(): boolean {
    return this.#rules.length === 0;
  }

  /** Does the last rule that matches the path, or a directory above it, say so? */
  matches(path: string): boolean {
    const parts = path.split("/");
    const prefixes = parts.map((_, i) => parts.slice(0, i + 1).join("/"));
    let matched = false;
    for (const rule of this.#rules) if (matched === rule.keeps && prefixes.some((prefix) => rule.regex.test(prefix))) matched = !rule.keeps;
    return matched;
  }

  /** May something below a directory that matches be kept all the same? */
  mayKeepBelow(directory: string): boolean {
    if (!this.#keeps) return false;
    const parts = directory.split("/");
    return this.#rules.some((rule) => rule.keeps && (rule.parts[0]!.includes("**") || parts.every((part, i) => rule.parts[i] === undefined || rule.parts[i].includes("**") || patternRegex(rule.parts[i]).test(part) || rule.parts.slice(0, i).some((p) => p.includes("**")))));
  }
}

/** Lines of a .dockerignore file. */
export const parseIgnoreFile = (text: string): readonly string[] =>
  text.replace(/^\uFEFF/, "").split(/\r?\n/).filter((line) => !line.startsWith("#")).map((line) => line.trim()).filter((line) => line !== "");
