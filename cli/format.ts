// --format as docker has it: a small subset of Go's text/template, `json`, and tables. Pure. Shared by every command that prints rows.
// https://pkg.go.dev/text/template and https://docs.docker.com/engine/cli/formatting/
import { GantryError } from "../base/errors.ts";

type Node =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "output"; readonly pipeline: Pipeline }
  | { readonly kind: "if" | "with"; readonly pipeline: Pipeline; readonly body: readonly Node[]; readonly otherwise: readonly Node[] }
  | { readonly kind: "range"; readonly pipeline: Pipeline; readonly key: string; readonly body: readonly Node[]; readonly otherwise: readonly Node[] };

interface Pipeline {
  /** "" when nothing is assigned. */
  readonly variable: string;
  readonly commands: readonly (readonly Operand[])[];
}

type Operand =
  | { readonly kind: "literal"; readonly value: unknown }
  | { readonly kind: "function"; readonly name: string }
  | { readonly kind: "path"; readonly variable: string | undefined; readonly fields: readonly string[] }
  | { readonly kind: "group"; readonly pipeline: Pipeline; readonly fields: readonly string[] };

interface Scope {
  readonly dot: unknown;
  readonly variables: ReadonlyMap<string, unknown>;
}

export interface TemplateOptions {
  /** A field that isn't there: an error that lists those that are (rows), or Go's "<no value>" (objects whose fields may be absent). */
  readonly missing?: "error" | "no value";
}

const wrong = (template: string, why: string): GantryError => new GantryError("BadRequest", `--format: template ${JSON.stringify(template)}: ${why}`);

// ---- reading

interface Action {
  readonly text: string;
}

/** Texts and actions in turn; `{{-` and `-}}` take white space away (text/template, "Text and spaces"). */
const pieces = (template: string): readonly (string | Action)[] => {
  const found: (string | Action)[] = [];
  let trim = false;
  for (let at = 0; at < template.length;) {
    const open = template.indexOf("{{", at);
    const text = open < 0 ? template.slice(at) : template.slice(at, open);
    const trimsBefore = open >= 0 && /^-\s/.test(template.slice(open + 2, open + 4));
    let kept = trim ? text.trimStart() : text;
    if (trimsBefore) kept = kept.trimEnd();
    if (kept !== "") found.push(kept);
    if (open < 0) break;
    const close = endOfAction(template, open + 2);
    let inner = template.slice(open + 2, close);
    if (trimsBefore) inner = inner.slice(1);
    trim = /\s-$/.test(inner);
    if (trim) inner = inner.slice(0, -1);
    if (!/^\s*\/\*[^]*\*\/\s*$/.test(inner)) found.push({ text: inner.trim() });
    at = close + 2;
  }
  return found;
};

const endOfAction = (template: string, from: number): number => {
  for (let at = from, quote = ""; at < template.length; at++) {
    const c = template[at]!;
    if (quote !== "") {
      if (c === "\\" && quote === '"') at++;
      else if (c === quote) quote = "";
    } else if (c === '"' || c === "`") quote = c;
    else if (template.startsWith("}}", at)) return at;
  }
  throw wrong(template, "an action is not closed with }}");
};

const TOKEN = /\s*(?:("(?:[^"\\]|\\.)*")|`([^`]*)`|(:=)|([|(),])|(-?\d+(?:\.\d+)?)|(\$\w*(?:\.\w+)*)|(\)?(?:\.\w+)+|\.)|(\w+))/y;

type Token =
  | { readonly kind: "literal"; readonly value: unknown }
  | { readonly kind: "mark"; readonly text: string }
  | { readonly kind: "path"; readonly text: string }
  | { readonly kind: "word"; readonly text: string };

const WORDS: Readonly<Record<string, unknown>> = { true: true, false: false, nil: undefined };

const tokens = (template: string, text: string): Token[] => {
  const found: Token[] = [];
  TOKEN.lastIndex = 0;
  while (text.slice(TOKEN.lastIndex).trim() !== "") {
    const at = TOKEN.lastIndex;
    const match = TOKEN.exec(text);
    if (match === null) throw wrong(template, `${JSON.stringify(text.slice(at).trim())} is not understood`);
    const [, quoted, raw, assign, mark, number, variable, path, word] = match;
    if (quoted !== undefined) {
      try {
        found.push({ kind: "literal", value: JSON.parse(quoted) as string });
      } catch {
        throw wrong(template, `${quoted} is not a string`);
      }
    } else if (raw !== undefined) found.push({ kind: "literal", value: raw });
    else if (number !== undefined) found.push({ kind: "literal", value: Number(number) });
    else if (assign !== undefined || mark !== undefined) found.push({ kind: "mark", text: (assign ?? mark)! });
    else if (path?.startsWith(")")) found.push({ kind: "mark", text: ")" }, { kind: "path", text: path.slice(1) });
    else if (variable !== undefined || path !== undefined) found.push({ kind: "path", text: (variable ?? path)! });
    else found.push(Object.hasOwn(WORDS, word!) ? { kind: "literal", value: WORDS[word!] } : { kind: "word", text: word! });
  }
  return found;
};

const parsePipeline = (template: string, list: Token[]): Pipeline => {
  let variable = "";
  if (list[0]?.kind === "path" && list[0].text.startsWith("$") && list[1]?.kind === "mark" && list[1].text === ":=") {
    variable = list[0].text;
    list.splice(0, 2);
  }
  const commands: Operand[][] = [[]];
  while (list.length > 0) {
    const token = list[0]!;
    if (token.kind === "mark" && token.text === ")") break;
    list.shift();
    const command = commands.at(-1)!;
    if (token.kind === "literal") command.push(token);
    else if (token.kind === "word") {
      if (!Object.hasOwn(FUNCTIONS, token.text)) throw wrong(template, `there is no function ${JSON.stringify(token.text)}; there are ${Object.keys(FUNCTIONS).join(", ")}`);
      command.push({ kind: "function", name: token.text });
    } else if (token.kind === "path") {
      const [head = "", ...fields] = token.text.split(".");
      command.push({ kind: "path", variable: head === "" ? undefined : head, fields: fields.filter((f) => f !== "") });
    } else if (token.text === "|") commands.push([]);
    else if (token.text === "(") {
      const pipeline = parsePipeline(template, list);
      if (list.shift() === undefined) throw wrong(template, "a ( is not closed");
      const next = list[0];
      const fields = next?.kind === "path" && next.text.startsWith(".") && next.text !== "." ? next.text.slice(1).split(".") : [];
      if (fields.length > 0) list.shift();
      command.push({ kind: "group", pipeline, fields });
    } else throw wrong(template, `${JSON.stringify(token.text)} is not expected here`);
  }
  if (commands.some((c) => c.length === 0)) throw wrong(template, "an action or a part of a pipeline is empty");
  return { variable, commands };
};

const parse = (template: string): readonly Node[] => {
  const all = pieces(template);
  let at = 0;
  const whole = (text: string): Pipeline => {
    const list = tokens(template, text);
    const pipeline = parsePipeline(template, list);
    if (list.length > 0) throw wrong(template, "there is a ) too many");
    return pipeline;
  };
  /** Up to the `end` or `else` that closes the block; at the top level up to the end. */
  const block = (isTop: boolean): { readonly nodes: readonly Node[]; readonly end: string } => {
    const nodes: Node[] = [];
    while (at < all.length) {
      const piece = all[at++]!;
      if (typeof piece === "string") {
        nodes.push({ kind: "text", text: piece });
        continue;
      }
      const [, word = "", rest = ""] = /^(\w*)\s*([^]*)$/.exec(piece.text)!;
      if (word === "end" || word === "else") {
        if (isTop) throw wrong(template, `{{${word}}} without a beginning`);
        return { nodes, end: piece.text };
      }
      if (word === "if" || word === "with" || word === "range") nodes.push(branch(word, rest));
      else nodes.push({ kind: "output", pipeline: whole(piece.text) });
    }
    if (!isTop) throw wrong(template, "an {{if}}, {{range}} or {{with}} has no {{end}}");
    return { nodes, end: "" };
  };
  const branch = (kind: "if" | "with" | "range", text: string): Node => {
    const two = kind === "range" ? /^(\$\w+)\s*,\s*(\$\w+\s*:=[^]*)$/.exec(text) : null;
    const pipeline = whole(two === null ? text : two[2]!);
    const { nodes: body, end } = block(false);
    let otherwise: readonly Node[] = [];
    const chained = /^else\s+if\s+([^]*)$/.exec(end);
    if (chained !== null) otherwise = [branch("if", chained[1]!)];
    else if (end === "else") otherwise = block(false).nodes;
    return kind === "range" ? { kind, pipeline, key: two?.[1] ?? "", body, otherwise } : { kind, pipeline, body, otherwise };
  };
  return block(true).nodes;
};

// ---- evaluating

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> => typeof value === "object" && value !== null;
/** text/template, "Actions": false, 0, nil, and what is empty. */
const isTrue = (value: unknown): boolean => (Array.isArray(value) ? value.length > 0 : isObject(value) ? Object.keys(value).length > 0 : Boolean(value));

const show = (value: unknown): string => {
  if (value === undefined || value === null) return "<no value>";
  if (Array.isArray(value)) return `[${value.map(show).join(" ")}]`;
  if (isObject(value)) return `map[${Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)).map(([k, v]) => `${k}:${show(v)}`).join(" ")}]`;
  return typeof value === "string" ? value : JSON.stringify(value);
};

const lengthOf = (value: unknown): number => (typeof value === "string" ? Buffer.byteLength(value) : Array.isArray(value) ? value.length : isObject(value) ? Object.keys(value).length : 0);
const compare = (a: unknown, b: unknown): number => (typeof a === "number" && typeof b === "number" ? a - b : String(a) < String(b) ? -1 : String(a) > String(b) ? 1 : 0);
const quote = (value: unknown): string => JSON.stringify(typeof value === "string" ? value : show(value));

const printf = (format: string, args: readonly unknown[]): string => {
  let next = 0;
  return format.replaceAll(/%([-0]*)(\d*)(?:\.(\d+))?([a-z%])/g, (_, flags: string, width: string, precision: string | undefined, verb: string) => {
    if (verb === "%") return "%";
    const value = args[next++];
    let text = verb === "q" ? quote(value) : verb === "d" ? String(Math.trunc(Number(value))) : verb === "f" ? Number(value).toFixed(Number(precision ?? 6)) : verb === "x" ? Number(value).toString(16) : show(value);
    if (verb === "s" && precision !== undefined) text = text.slice(0, Number(precision));
    return flags.includes("-") ? text.padEnd(Number(width)) : text.padStart(Number(width), flags.includes("0") ? "0" : " ");
  });
};

const FUNCTIONS: Readonly<Record<string, (...args: readonly unknown[]) => unknown>> = {
  json: (value) => JSON.stringify(value) ?? "null",
  join: (list, separator) => (Array.isArray(list) ? list.map(show).join(String(separator)) : show(list)),
  split: (text, separator) => show(text).split(String(separator)),
  upper: (text) => show(text).toUpperCase(),
  lower: (text) => show(text).toLowerCase(),
  title: (text) => show(text).replaceAll(/\b\w/g, (c) => c.toUpperCase()),
  truncate: (text, length) => show(text).slice(0, Number(length)),
  pad: (text, before, after) => " ".repeat(Number(before)) + show(text) + " ".repeat(Number(after)),
  len: lengthOf,
  index: (value, ...keys) => keys.reduce<unknown>((at, key) => (isObject(at) && Object.hasOwn(at, String(key)) ? at[String(key)] : undefined), value),
  slice: (value, from = 0, to) => (typeof value === "string" || Array.isArray(value) ? value.slice(Number(from), to === undefined ? undefined : Number(to)) : value),
  print: (...values) => values.map(show).join(""),
  println: (...values) => `${values.map(show).join(" ")}\n`,
  printf: (format, ...values) => printf(show(format), values),
  eq: (a, ...others) => others.some((b) => a === b),
  ne: (a, b) => a !== b,
  lt: (a, b) => compare(a, b) < 0,
  le: (a, b) => compare(a, b) <= 0,
  gt: (a, b) => compare(a, b) > 0,
  ge: (a, b) => compare(a, b) >= 0,
  and: (...values) => values.find((v) => !isTrue(v)) ?? values.at(-1),
  or: (...values) => values.find(isTrue) ?? values.at(-1),
  not: (value) => !isTrue(value),
};

/** Errors: "BadRequest", which name the template and what is wrong with it. */
export const compileTemplate = (template: string, { missing = "no value" }: TemplateOptions = {}): ((data: unknown) => string) => {
  const nodes = parse(template);
  const walk = (value: unknown, fields: readonly string[]): unknown => fields.reduce<unknown>((at, field) => {
    if (isObject(at) && Object.hasOwn(at, field)) return at[field];
    if (missing === "error" && isObject(at)) throw wrong(template, `there is no field .${field}; there are ${Object.keys(at).map((k) => `.${k}`).join(", ")}`);
    return undefined;
  }, value);
  const operand = (op: Operand, scope: Scope): unknown => {
    switch (op.kind) {
      case "literal": return op.value;
      case "group": return walk(pipeline(op.pipeline, scope).value, op.fields);
      case "function": return FUNCTIONS[op.name]!();
      case "path":
        if (op.variable !== undefined && !scope.variables.has(op.variable)) throw wrong(template, `there is no variable ${op.variable}`);
        return walk(op.variable === undefined ? scope.dot : scope.variables.get(op.variable), op.fields);
    }
  };
  const pipeline = (p: Pipeline, scope: Scope): { readonly value: unknown; readonly scope: Scope } => {
    let value: unknown;
    for (const [i, [first, ...rest]] of p.commands.entries()) {
      const args = [...rest.map((op) => operand(op, scope)), ...(i > 0 ? [value] : [])];
      if (first!.kind === "function") value = FUNCTIONS[first!.name]!(...args);
      else if (args.length > 0) throw wrong(template, "only functions take arguments");
      else value = operand(first!, scope);
    }
    return { value, scope: p.variable === "" ? scope : { ...scope, variables: new Map([...scope.variables, [p.variable, value]]) } };
  };
  const render = (list: readonly Node[], start: Scope): string => {
    let scope = start;
    let text = "";
    for (const node of list) {
      if (node.kind === "text") {
        text += node.text;
        continue;
      }
      const { value, scope: after } = pipeline(node.pipeline, scope);
      if (node.kind === "output") {
        if (node.pipeline.variable === "") text += show(value);
        scope = after;
      } else if (node.kind === "range") {
        const items: readonly (readonly [unknown, unknown])[] = Array.isArray(value) ? value.map((v, i) => [i, v] as const) : isObject(value) ? Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)) : [];
        for (const [key, item] of items) {
          const variables = new Map(scope.variables);
          if (node.key !== "") variables.set(node.key, key);
          if (node.pipeline.variable !== "") variables.set(node.pipeline.variable, item);
          text += render(node.body, { dot: item, variables });
        }
        if (items.length === 0) text += render(node.otherwise, scope);
      } else if (isTrue(value)) text += render(node.body, node.kind === "with" ? { ...after, dot: value } : after);
      else text += render(node.otherwise, scope);
    }
    return text;
  };
  return (data) => render(nodes, { dot: data, variables: new Map([["$", data]]) });
};

// ---- tables

/** As Go's tabwriter with docker's settings: cells at least 10 wide, 3 between them. */
export const alignColumns = (lines: readonly string[]): string => {
  const rows = lines.map((line) => line.split("\t"));
  const widths: number[] = [];
  for (const cells of rows) for (const [i, cell] of cells.slice(0, -1).entries()) widths[i] = Math.max(widths[i] ?? 10, cell.length + 3);
  return rows.map((cells) => cells.map((cell, i) => (i === cells.length - 1 ? cell : cell.padEnd(widths[i]!))).join("").trimEnd()).join("\n");
};

export interface RowFormat {
  /** Headings by field: what `table` prints above a column. */
  readonly headings: Readonly<Record<string, string>>;
  /** Of the table that is printed when --format is absent: "{{.Repository}}\t{{.Tag}}". */
  readonly table: string;
}

/** The text for rows, without a last line feed: `format` is "", "table", "table TEMPLATE", "json" or TEMPLATE. Errors: "BadRequest". */
export const formatRows = (format: string, rows: readonly Readonly<Record<string, unknown>>[], { headings, table }: RowFormat): string => {
  if (format === "json") return rows.map((row) => JSON.stringify(row)).join("\n");
  const isTable = format === "" || format === "table" || format.startsWith("table ");
  // A shell hands on \t and \n as two characters; docker takes them for tab and line feed.
  const template = (isTable ? format.slice("table ".length) || table : format).replaceAll("\\t", "\t").replaceAll("\\n", "\n");
  const render = compileTemplate(template, { missing: "error" });
  const lines = rows.map(render);
  return isTable ? alignColumns([compileTemplate(template, { missing: "no value" })(headings).replaceAll("<no value>", ""), ...lines]) : lines.join("\n");
};
