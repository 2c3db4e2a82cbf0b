// Reads a Dockerfile into stages of raw instructions: keyword, flags, text, heredocs, place. Pure. dockerfile-ast finds the directives and where
// instructions begin and end; lines are joined, and flags and heredocs taken out, here. What the words mean is in instructions.ts.
import dockerfileAst from "dockerfile-ast";
import { nearest } from "../../base/config.ts";
import { GantryError } from "../../base/errors.ts";
import { within, type Location, type Source } from "./source.ts";

export interface Heredoc {
  readonly name: string;
  readonly content: string;
  /** Not after <<"NAME": variables in it are left alone then. */
  readonly expands: boolean;
}

export interface Flag {
  readonly name: string;
  /** undefined: `--link` alone. */
  readonly value: string | undefined;
}

export interface RawInstruction {
  /** Upper case. */
  readonly keyword: string;
  readonly flags: readonly Flag[];
  /** What follows the flags, continued lines joined. */
  readonly text: string;
  /** Bodies of heredocs as they stand, with their end lines: for a shell that is to read them itself. */
  readonly heredocText: string;
  readonly heredocs: readonly Heredoc[];
  readonly location: Location;
}

export interface RawStage {
  readonly index: number;
  /** Lower case; "" without AS. */
  readonly name: string;
  readonly from: RawInstruction;
  /** As written, variables and all. */
  readonly base: string;
  readonly instructions: readonly RawInstruction[];
}

export interface Dockerfile {
  readonly source: Source;
  /** ARGs before the first FROM. */
  readonly globalArgs: readonly RawInstruction[];
  readonly stages: readonly RawStage[];
  readonly escape: string;
}

const KEYWORDS = ["ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER", "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"];
const WITH_HEREDOCS: ReadonlySet<string> = new Set(["RUN", "COPY", "ADD"]);
const HEREDOC = /<<(-?)(["']?)([A-Za-z_][\w.]*)\2/g;

/** Errors: "Invalid", with file, line and the line itself. */
export const parseDockerfile = (text: string, file: string): Dockerfile => {
  const lines = text.replace(/^\uFEFF/, "").split(/\r?\n/);
  const source: Source = { file, lines };
  const parsed = dockerfileAst.DockerfileParser.parse(lines.join("\n"));
  const escape = escapeOf(parsed.getDirectives(), source);
  const instructions = parsed.getInstructions().map((i) => {
    const { start, end } = i.getRange();
    return rawInstruction(lines.slice(start.line, end.line + 1), { source, first: start.line + 1, last: end.line + 1 }, escape);
  });
  if (instructions.length === 0) throw new GantryError("Invalid", `${file}: there is no instruction in it; a Dockerfile begins with FROM`);
  const globalArgs: RawInstruction[] = [];
  const stages: (RawStage & { readonly instructions: RawInstruction[] })[] = [];
  for (const instruction of instructions) {
    within(instruction.location, () => {
      if (instruction.keyword === "FROM") stages.push(stageOf(instruction, stages));
      else if (stages.length > 0) stages.at(-1)!.instructions.push(instruction);
      else if (instruction.keyword === "ARG") globalArgs.push(instruction);
      else throw new GantryError("Invalid", `no build stage in current context: only ARG can stand before the first FROM, not ${instruction.keyword}`);
    });
  }
  if (stages.length === 0) throw new GantryError("Invalid", `${file}: there is no FROM in it`);
  return { source, globalArgs, stages, escape };
};

/** One instruction that does not stand in a file: an ONBUILD trigger. */
export const parseTrigger = (text: string, origin: string, escape = "\\"): RawInstruction => {
  const lines = text.split("\n");
  const location: Location = { source: { file: origin, lines }, first: 1, last: lines.length };
  return within(location, () => {
    const instruction = rawInstruction(lines, location, escape);
    if (["ONBUILD", "FROM", "MAINTAINER"].includes(instruction.keyword)) throw new GantryError("Invalid", `${instruction.keyword} isn't allowed as an ONBUILD trigger`);
    return instruction;
  });
};

const escapeOf = (directives: readonly { getName(): string; getValue(): string | null; getRange(): { start: { line: number } } }[], source: Source): string => {
  const seen = new Set<string>();
  let escape = "\\";
  for (const directive of directives) {
    const [name, value, line] = [directive.getName().toLowerCase(), directive.getValue() ?? "", directive.getRange().start.line + 1];
    within({ source, first: line, last: line }, () => {
      if (["syntax", "escape", "check"].includes(name) && seen.has(name)) throw new GantryError("Invalid", `only one ${name} parser directive can be used`);
      if (name === "escape" && value !== "\\" && value !== "`") throw new GantryError("Invalid", `the escape character is ${JSON.stringify(value)}; it can be \\ or \``);
    });
    seen.add(name);
    if (name === "escape") escape = value;
  }
  return escape;
};

const stageOf = (from: RawInstruction, before: readonly RawStage[]): RawStage & { readonly instructions: RawInstruction[] } => {
  const words = from.text.split(/\s+/).filter((word) => word !== "");
  const [base, as, name = ""] = words;
  if (base === undefined || (words.length !== 1 && (words.length !== 3 || as!.toLowerCase() !== "as"))) throw new GantryError("Invalid", "FROM requires either one or three arguments: FROM IMAGE, or FROM IMAGE AS NAME");
  const lower = name.toLowerCase();
  if (lower !== "" && !/^[a-z][a-z0-9-_.]*$/.test(lower)) throw new GantryError("Invalid", `invalid name for build stage: ${JSON.stringify(name)}; it begins with a letter and has letters, digits, - _ and .`);
  if (lower !== "" && before.some((stage) => stage.name === lower)) throw new GantryError("Invalid", `there is a build stage ${JSON.stringify(name)} already`);
  return { index: before.length, name: lower, from, base, instructions: [] };
};

const rawInstruction = (lines: readonly string[], location: Location, escape: string): RawInstruction =>
  within(location, () => {
    const { text, rest } = joined(lines, escape);
    const [, word = "", behind = ""] = /^\s*(\S+)\s*([\s\S]*)$/.exec(text) ?? [];
    const keyword = word.toUpperCase();
    if (!KEYWORDS.includes(keyword)) {
      const hint = nearest(keyword, KEYWORDS);
      throw new GantryError("Invalid", `unknown instruction: ${word}${hint === undefined ? "" : ` (did you mean ${hint}?)`}`);
    }
    const { flags, text: content } = keyword === "ONBUILD" ? { flags: [], text: behind } : flagsOf(behind, escape);
    const inner = keyword === "ONBUILD" ? (/^\S+/.exec(content)?.[0] ?? "").toUpperCase() : keyword;
    const heredocs = WITH_HEREDOCS.has(inner) ? heredocsOf(content, rest) : [];
    return { keyword, flags, text: content.trim(), heredocs, heredocText: heredocs.length === 0 ? "" : rest.join("\n"), location };
  });

/** Continued lines as one, without comments and empty lines between them; `rest` is what follows: bodies of heredocs. */
const joined = (lines: readonly string[], escape: string): { readonly text: string; readonly rest: readonly string[] } => {
  const continued = new RegExp(escape === "\\" ? "(^|[^\\\\])\\\\[ \\t]*$" : "(^|[^`])`[ \\t]*$");
  let text = "";
  for (const [i, line] of lines.entries()) {
    if (i > 0 && /^\s*(?:#|$)/.test(line)) continue;
    const match = continued.exec(line);
    if (match === null) return { text: text + line, rest: lines.slice(i + 1) };
    text += line.slice(0, match.index) + match[1]!;
  }
  return { text, rest: [] };
};

/** `--name`, `--name=value`, quotes allowed; up to the first word of another form. */
const flagsOf = (text: string, escape: string): { readonly flags: readonly Flag[]; readonly text: string } => {
  const flags: Flag[] = [];
  let at = 0;
  for (;;) {
    while (/\s/.test(text[at] ?? "")) at++;
    if (!text.startsWith("--", at)) return { flags, text: text.slice(at) };
    let word = "";
    let quote = "";
    for (; at < text.length && (quote !== "" || !/\s/.test(text[at]!)); at++) {
      const char = text[at]!;
      if (quote === "" && (char === "'" || char === '"')) quote = char;
      else if (char === quote) quote = "";
      else if (char === escape && quote !== "'" && at + 1 < text.length) word += text[++at]!;
      else word += char;
    }
    if (word === "--") return { flags, text: text.slice(at) };
    const equals = word.indexOf("=");
    flags.push(equals < 0 ? { name: word.slice(2), value: undefined } : { name: word.slice(2, equals), value: word.slice(equals + 1) });
  }
};

const heredocsOf = (text: string, body: readonly string[]): readonly Heredoc[] => {
  const found: Heredoc[] = [];
  let at = 0;
  for (const [, dash, quote, name] of outsideQuotes(text).matchAll(HEREDOC)) {
    const strip = (line: string): string => (dash === "-" ? line.replace(/^\t+/, "") : line);
    const end = body.findIndex((line, i) => i >= at && strip(line) === name);
    if (end < 0) throw new GantryError("Invalid", `unterminated heredoc: there is no line ${name}`);
    found.push({ name: name!, expands: quote === "", content: body.slice(at, end).map((line) => `${strip(line)}\n`).join("") });
    at = end + 1;
  }
  return found;
};

/** `<<` in a quoted word, or `<<<`, is the shell's own. Blanked out, so that positions stay. The quotes of <<"NAME" itself stay. */
const outsideQuotes = (text: string): string =>
  text.replace(/<<-?(["'])[A-Za-z_][\w.]*\1|<<<|"(?:[^"\\]|\\.)*"|'[^']*'/g, (match) => (/^<<-?["']/.test(match) ? match : " ".repeat(match.length)));
