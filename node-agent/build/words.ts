// How a Dockerfile's words are told apart and how variables in them are put in. Pure. The rules are those of BuildKit's parser and of its
// shell lexer: https://docs.docker.com/reference/dockerfile/#environment-replacement
import { GantryError } from "../../base/errors.ts";

/** undefined: not set. */
export type Lookup = (name: string) => string | undefined;

const invalid = (message: string): GantryError => new GantryError("Invalid", message);

/** Splits at white space outside of quotes; quotes and escapes stay in, for `expand` to take off. */
export const splitWords = (text: string, escape: string): readonly string[] => {
  const words: string[] = [];
  let word = "";
  let quote = "";
  let inWord = false;
  for (let i = 0; i < text.length; i++) {
    const char = text[i]!;
    if (quote === "" && /\s/.test(char)) {
      if (inWord) words.push(word);
      word = "";
      inWord = false;
      continue;
    }
    inWord = true;
    word += char;
    if (char === escape && quote !== "'" && i + 1 < text.length) word += text[++i]!;
    else if (quote === "" && (char === "'" || char === '"')) quote = char;
    else if (char === quote) quote = "";
  }
  if (inWord) words.push(word);
  return words;
};

/** The word with its variables put in and without quotes and escapes. Errors: "Invalid" (a quote or brace without its end, `${x:?message}`). */
export const expand = (word: string, lookup: Lookup, escape = "\\"): string => new Expansion(word, lookup, escape).run();

class Expansion {
  readonly #text: string;
  readonly #lookup: Lookup;
  readonly #escape: string;
  #at = 0;

  constructor(text: string, lookup: Lookup, escape: string) {
    this.#text = text;
    this.#lookup = lookup;
    this.#escape = escape;
  }

  run(): string {
    return this.#until("");
  }

  /** `pattern`: escapes stay, since they mean something to the pattern. */
  #until(stops: string, pattern = false): string {
    let out = "";
    while (this.#at < this.#text.length) {
      const char = this.#text[this.#at]!;
      if (stops.includes(char)) return out;
      this.#at++;
      if (char === "'") out += this.#singleQuoted();
      else if (char === '"') out += this.#doubleQuoted();
      else if (char === "$") out += this.#variable();
      else if (char === this.#escape) {
        if (this.#at === this.#text.length) {
          out += char;
          break;
        }
        out += (pattern ? "\\" : "") + this.#text[this.#at++]!;
      } else out += char;
    }
    if (stops !== "") throw invalid(`${JSON.stringify(this.#text)}: a variable's closing } is missing`);
    return out;
  }

  #singleQuoted(): string {
    const end = this.#text.indexOf("'", this.#at);
    if (end < 0) throw invalid(`${JSON.stringify(this.#text)}: the closing ' is missing`);
    const inside = this.#text.slice(this.#at, end);
    this.#at = end + 1;
    return inside;
  }

  #doubleQuoted(): string {
    let out = "";
    while (this.#at < this.#text.length) {
      const char = this.#text[this.#at++]!;
      if (char === '"') return out;
      if (char === "$") out += this.#variable();
      else if (char === this.#escape) {
        const next = this.#text[this.#at++] ?? "";
        out += next === '"' || next === "$" || next === this.#escape ? next : char + next;
      } else out += char;
    }
    throw invalid(`${JSON.stringify(this.#text)}: the closing " is missing`);
  }

  #name(): string {
    const name = /^(?:[A-Za-z_]\w*|\d+|[@*#?$!-])/.exec(this.#text.slice(this.#at))?.[0] ?? "";
    this.#at += name.length;
    return name;
  }

  #variable(): string {
    if (this.#text[this.#at] !== "{") {
      const name = this.#name();
      return name === "" ? "$" : (this.#lookup(name) ?? "");
    }
    this.#at++;
    const name = this.#name();
    const wrong = (): GantryError => invalid(`${JSON.stringify(this.#text)}: unsupported variable substitution; there are \${x}, \${x:-y}, \${x-y}, \${x:+y}, \${x+y}, \${x:?y}, \${x#y}, \${x##y}, \${x%y}, \${x%%y}, \${x/y/z} and \${x//y/z}`);
    if (name === "") throw wrong();
    const value = this.#lookup(name);
    const operator = /^(?:\}|:?[-+?]|##?|%%?|\/\/?)/.exec(this.#text.slice(this.#at))?.[0];
    if (operator === undefined) throw wrong();
    this.#at += operator.length;
    if (operator === "}") return value ?? "";
    const word = (stops: string, pattern = false): string => {
      const found = this.#until(stops, pattern);
      this.#at++;
      return found;
    };
    const isSet = value !== undefined && (!operator.startsWith(":") || value !== "");
    switch (operator.at(-1)) {
      case "-": {
        const fallback = word("}");
        return isSet ? value : fallback;
      }
      case "+": {
        const instead = word("}");
        return isSet ? instead : "";
      }
      case "?": {
        const message = word("}");
        if (!isSet) throw invalid(`${name}: ${message === "" ? "is not set" : message}`);
        return value;
      }
      case "#": return withoutPrefix(value ?? "", word("}", true), operator === "##");
      case "%": return withoutSuffix(value ?? "", word("}", true), operator === "%%");
      default: {
        const pattern = word("/}", true);
        const replacement = this.#text[this.#at - 1] === "/" ? word("}") : "";
        const regex = new RegExp(shellPattern(pattern, true), operator === "//" ? "gs" : "s");
        return (value ?? "").replace(regex, () => replacement);
      }
    }
  }
}

const escapeRegex = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");

const shellPattern = (pattern: string, greedy: boolean): string => {
  let out = "";
  for (let i = 0; i < pattern.length; i++) {
    const char = pattern[i]!;
    if (char === "\\" && i + 1 < pattern.length) out += escapeRegex(pattern[++i]!);
    else if (char === "*") out += greedy ? ".*" : ".*?";
    else if (char === "?") out += ".";
    else out += escapeRegex(char);
  }
  return out;
};

const withoutPrefix = (value: string, pattern: string, longest: boolean): string => value.replace(new RegExp(`^${shellPattern(pattern, longest)}`, "s"), "");

/** The shortest suffix starts last: a regular expression alone finds the one that starts first. */
const withoutSuffix = (value: string, pattern: string, longest: boolean): string => {
  const regex = new RegExp(`^${shellPattern(pattern, true)}$`, "s");
  const starts = Array.from({ length: value.length + 1 }, (_, i) => i);
  const start = (longest ? starts : starts.reverse()).find((i) => regex.test(value.slice(i)));
  return start === undefined ? value : value.slice(0, start);
};
