// Options of a command: one table gives its flags, environment variables, config file keys, defaults and --help. Precedence:
// flag, then environment (GANTRY_ and the flag in capitals), then the YAML file of --config, then the default. Pure but for readFile.
// Environment and file are for daemons: for a command at a prompt, a GANTRY_NAMESPACE that somebody forgot would be a trap.
import { GantryError } from "./errors.ts";
import { parseYaml } from "./yaml.ts";

export type OptionType = "string" | "number" | "boolean" | "list" | "each" | "duration";

export interface Option<V> {
  readonly type: OptionType;
  readonly fallback: V;
  readonly help: string;
  /** Shown in --help for the value. */
  readonly placeholder?: string;
  /** One-letter flag. */
  readonly short?: string;
  /** Allowed values. */
  readonly choices?: readonly string[];
  /** What the flag means when it stands alone. Another value then has to follow in the same word: `--flag=VALUE`. */
  readonly bare?: string;
  /** Other long flags for the same; not listed. */
  readonly aliases?: readonly string[];
  /** Known from elsewhere, and not to be had here: why, and what to use instead. Giving it is an error; it is not listed. */
  readonly refused?: string;
  /** Bounds of a number, both inclusive. */
  readonly least?: number;
  readonly most?: number;
}

type Extra = Pick<Option<unknown>, "placeholder" | "short" | "choices" | "bare" | "aliases">;
export const stringOption = (help: string, fallback = "", extra: Extra = {}): Option<string> => ({ type: "string", fallback, help, ...extra });
/** A whole number. A fallback of NaN: there is none, the command itself says when it is needed. */
export const numberOption = (help: string, fallback: number, extra: Extra & Pick<Option<unknown>, "least" | "most"> = {}): Option<number> => ({ type: "number", fallback, help, ...extra });
export const booleanOption = (help: string, extra: Extra = {}): Option<boolean> => ({ type: "boolean", fallback: false, help, ...extra });
/** Given several times or separated by commas. */
export const listOption = (help: string, fallback: readonly string[] = [], extra: Extra = {}): Option<readonly string[]> => ({ type: "list", fallback, help, ...extra });
/** Given several times; each value is taken as it stands, commas and all (`-e LIST=a,b`). */
export const eachOption = (help: string, extra: Extra = {}): Option<readonly string[]> => ({ type: "each", fallback: [], help, ...extra });
/** Value in ms; written as 500ms, 30s, 5m, 1h. */
export const durationOption = (help: string, fallbackMs: number, extra: Extra = {}): Option<number> => ({ type: "duration", fallback: fallbackMs, help, ...extra });

/** A flag that people know from another program, and that this one doesn't have. */
export const refusedOption = (why: string, extra: Extra = {}): Option<string> => ({ type: "string", fallback: "", help: "", refused: why, ...extra });

export type OptionTable = Readonly<Record<string, Option<string> | Option<number> | Option<boolean> | Option<readonly string[]>>>;
export type OptionValues<T extends OptionTable> = { readonly [K in keyof T]: T[K] extends Option<infer V> ? V : never };

export const flagOf = (key: string): string => key.replaceAll(/[A-Z]/g, (c) => `-${c.toLowerCase()}`);
export const environmentNameOf = (key: string): string => `GANTRY_${flagOf(key).replaceAll("-", "_").toUpperCase()}`;

const DURATION = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/;
const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

export const parseDurationMs = (text: string): number | undefined => {
  const match = DURATION.exec(text);
  return match ? Number(match[1]) * UNIT_MS[match[2]!]! : text === "0" ? 0 : undefined;
};

export const formatDuration = (ms: number): string =>
  ms % 3_600_000 === 0 && ms > 0 ? `${ms / 3_600_000}h` : ms % 60_000 === 0 && ms > 0 ? `${ms / 60_000}m` : ms % 1000 === 0 ? `${ms / 1000}s` : `${ms}ms`;

const isScalar = (raw: unknown): raw is string | number | boolean => ["string", "number", "boolean"].includes(typeof raw);

const convert = (where: string, option: OptionTable[string], raw: unknown): unknown => {
  const fault = (wanted: string): GantryError => new GantryError("BadRequest", `${where}: ${JSON.stringify(raw)} is not ${wanted}`);
  switch (option.type) {
    case "string": {
      if (typeof raw !== "string" && typeof raw !== "number") throw fault("a text");
      if (option.choices && !option.choices.includes(String(raw))) throw fault(`one of ${option.choices.filter((c) => c !== "").join(", ")}`);
      return String(raw);
    }
    case "number": {
      const { least = -Infinity, most = Infinity } = option;
      // Number() takes "", " " and null for 0.
      const value = typeof raw === "number" ? raw : typeof raw === "string" && raw.trim() !== "" ? Number(raw) : Number.NaN;
      if (Number.isSafeInteger(value) && value >= least && value <= most) return value;
      throw fault(`a whole number${most < Infinity ? ` from ${least} to ${most}` : least > -Infinity ? ` of ${least} or more` : ""}`);
    }
    case "boolean": {
      if (raw === true || raw === "true" || raw === "1") return true;
      if (raw === false || raw === "false" || raw === "0") return false;
      throw fault("true or false");
    }
    case "list": {
      const items = Array.isArray(raw) ? raw : [raw];
      if (!items.every(isScalar)) throw fault("a list of texts");
      return Array.isArray(raw) ? items.map(String) : String(raw).split(",").map((s) => s.trim()).filter((s) => s !== "");
    }
    case "each": {
      const items = Array.isArray(raw) ? raw : [raw];
      if (!items.every(isScalar)) throw fault("a list of texts");
      return items.map(String);
    }
    case "duration": {
      const ms = typeof raw === "string" ? parseDurationMs(raw) : undefined;
      if (ms === undefined) throw fault("a duration such as 500ms, 30s, 5m or 1h");
      return ms;
    }
  }
};

/** Edits (a letter more, less, other, or two swapped) that turn one word into the other. */
const editDistance = (a: string, b: string): number => {
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) next[j] = Math.min(next[j]!, before[j - 2]! + 1);
    }
    [before, row] = [row, next];
  }
  return row[b.length]!;
};

/** The known word that is nearest to a mistyped one, if one is near: one edit for each three letters. */
export const nearest = (word: string, known: readonly string[]): string | undefined => {
  const best = known.map((k) => ({ k, distance: editDistance(word, k) })).sort((a, b) => a.distance - b.distance)[0];
  return best && best.distance <= Math.max(1, word.length / 3) ? best.k : undefined;
};

export interface ParsedOptions<T extends OptionTable> {
  readonly values: OptionValues<T>;
  readonly positionals: readonly string[];
  /** Everything after `--`. */
  readonly rest: readonly string[];
  /** --help or -h was among the flags: nothing behind it was looked at. */
  readonly help: boolean;
}

export interface OptionSources {
  readonly argv: readonly string[];
  /** Daemons only: their other two sources. */
  readonly daemon?: {
    readonly env: Readonly<Record<string, string | undefined>>;
    readonly readFile: (path: string) => string;
  };
  /** Flags end after this many positionals: what follows is another command's (`exec POD ls -l`). */
  readonly stopAtPositional?: number;
}

/** The next word is never its value. */
export const takesNoWord = ({ type, bare }: Pick<Option<unknown>, "type" | "bare">): boolean => type === "boolean" || bare !== undefined;

/** "BadRequest" names the flag, variable or file key, the value, and what would be right. Daemons' tables understand `--config FILE` too. */
export const parseOptions = <T extends OptionTable>(table: T, { argv, daemon, stopAtPositional }: OptionSources): ParsedOptions<T> => {
  const flags = new Map<string, unknown[]>();
  const positionals: string[] = [];
  let rest: readonly string[] = [];
  let help = false;
  const keys = Object.keys(table);
  const keyOfFlag = (flag: string): string => {
    const key = flag.length === 1 ? keys.find((k) => table[k]!.short === flag) : (keys.find((k) => flagOf(k) === flag) ?? keys.find((k) => table[k]!.aliases?.includes(flag)));
    const refused = key && table[key]!.refused;
    if (refused) throw new GantryError("BadRequest", `--${flagOf(key)} is not supported: ${refused}`);
    if (key) return key;
    if (flag === "help" || flag === "h") return "help";
    if (flag === "config" && daemon) return "config";
    const hint = nearest(flag, keys.filter((k) => table[k]!.refused === undefined).map(flagOf));
    throw new GantryError("BadRequest", `unknown flag ${flag.length === 1 ? "-" : "--"}${flag}${hint ? `; did you mean --${hint}?` : ""} (--help lists them)`);
  };
  const standsAlone = (key: string): boolean => key === "help" || (table[key] !== undefined && takesNoWord(table[key]));
  const add = (key: string, value: unknown): void => void flags.set(key, [...(flags.get(key) ?? []), value]);
  for (let i = 0; i < argv.length && !help; i++) {
    const arg = argv[i]!;
    if (arg === "--") {
      rest = argv.slice(i + 1);
      break;
    }
    const long = /^--([^=]+)(?:=(.*))?$/s.exec(arg);
    const short = /^-([A-Za-z])(.*)$/s.exec(arg);
    if (!long && !short) {
      positionals.push(arg);
      if (stopAtPositional !== undefined && positionals.length > stopAtPositional) {
        positionals.push(...argv.slice(i + 1));
        break;
      }
      continue;
    }
    const take = (key: string, inline: string | undefined, shown: string): void => {
      if (standsAlone(key)) add(key, inline ?? table[key]?.bare ?? true);
      else if (inline !== undefined) add(key, inline);
      else if (i + 1 < argv.length) add(key, argv[++i]);
      else throw new GantryError("BadRequest", `${shown} needs a value`);
    };
    if (long) {
      take(keyOfFlag(long[1]!), long[2], `--${long[1]!}`);
    } else {
      // -it is -i -t; -ofile and -o file are the same.
      let letters = short![1]! + short![2]!;
      while (letters !== "") {
        const key = keyOfFlag(letters[0]!);
        if (standsAlone(key) && !letters.startsWith("=", 1)) {
          add(key, table[key]?.bare ?? true);
          letters = letters.slice(1);
        } else {
          take(key, letters.length > 1 ? letters.slice(1).replace(/^=/, "") : undefined, `-${letters[0]!}`);
          letters = "";
        }
      }
    }
    help = flags.has("help");
  }
  const env = daemon?.env ?? {};
  const file = help || !daemon ? undefined : ((flags.get("config")?.at(-1) ?? env["GANTRY_CONFIG"]) as string | undefined);
  const fileValues = file === undefined ? {} : readConfigFile(file, daemon!.readFile, keys);
  const valueOf = (key: string): unknown => {
    const option = table[key]!;
    const fromFlags = flags.get(key);
    const fromEnv = env[environmentNameOf(key)];
    const flag = `--${flagOf(key)}`;
    if (help) return option.fallback;
    if (fromFlags !== undefined) return option.type === "list" || option.type === "each" ? fromFlags.flatMap((v) => convert(flag, option, v)) : convert(flag, option, fromFlags.at(-1));
    if (fromEnv !== undefined) return convert(`environment variable ${environmentNameOf(key)}`, option, fromEnv);
    return key in fileValues ? convert(`${file!}: ${key}`, option, fileValues[key]) : option.fallback;
  };
  return { values: Object.fromEntries(keys.map((key) => [key, valueOf(key)])) as OptionValues<T>, positionals, rest, help };
};

const readConfigFile = (path: string, readFile: (path: string) => string, known: readonly string[]): Record<string, unknown> => {
  let parsed: unknown;
  try {
    parsed = parseYaml(readFile(path));
  } catch (error) {
    throw new GantryError("BadRequest", `config file ${path} can't be read`, { cause: error });
  }
  if (parsed === null || parsed === undefined) return {};
  if (typeof parsed !== "object" || Array.isArray(parsed)) throw new GantryError("BadRequest", `config file ${path}: expected keys and values`);
  for (const key of Object.keys(parsed)) {
    if (known.includes(key)) continue;
    const hint = nearest(key, known);
    throw new GantryError("BadRequest", `config file ${path}: unknown key ${JSON.stringify(key)}${hint ? `; did you mean ${hint}?` : ""}`);
  }
  return parsed as Record<string, unknown>;
};

/** The options' part of --help; `daemon` adds the names of environment variables and config keys. */
export const describeOptions = (table: OptionTable, daemon = false): string => {
  const rows = Object.entries(table).filter(([, option]) => option.refused === undefined).map(([key, option]) => {
    const value = option.type === "boolean" || option.bare !== undefined ? "" : ` ${option.placeholder ?? { string: "TEXT", number: "N", list: "A,B", each: "TEXT", duration: "30s" }[option.type]}`;
    const fallback = option.type === "boolean" || option.fallback === "" || Number.isNaN(option.fallback) || (Array.isArray(option.fallback) && option.fallback.length === 0) ? ""
      : ` (default ${option.type === "duration" ? formatDuration(option.fallback as number) : Array.isArray(option.fallback) ? option.fallback.join(",") : String(option.fallback)})`;
    return { left: `  ${option.short ? `-${option.short}, ` : "    "}--${flagOf(key)}${value}`, right: option.help + fallback + (option.choices ? ` [${option.choices.filter((c) => c !== "").join("|")}]` : "") };
  });
  const width = Math.min(44, Math.max(...rows.map((r) => r.left.length)) + 2);
  const lines = rows.map(({ left, right }) => (left.length >= width ? `${left}\n${" ".repeat(width)}${right}` : left.padEnd(width) + right));
  if (daemon) {
    lines.push("", "Every option can also be set by an environment variable (--data-dir is GANTRY_DATA_DIR) or, in camel case", "(dataDir: ...), in the YAML file that --config FILE names. A flag beats the environment, which beats the file.");
  }
  return lines.join("\n");
};
