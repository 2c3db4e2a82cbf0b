// What may stand where the cursor is: commands, flags and values of flags from the option tables; names of things in the cluster as a
// source, for names.ts to look up. Pure.
import { flagOf, takesNoWord, type OptionTable } from "../../base/config.ts";
import type { Command, CommandFamily } from "../command.ts";

export interface Candidate {
  readonly value: string;
  readonly help?: string;
}

/** Whose names: "objects" of the type that `type` names. */
export type Source = "containers" | "images" | "nodes" | "namespaces" | "volumes" | "networks" | "services" | "types" | "contexts" | "objects";

export type Completion =
  | { readonly kind: "fixed"; readonly candidates: readonly Candidate[] }
  | { readonly kind: "files" }
  /** `prefix` stands before the name in the same word ("--namespace="); `flags` say which cluster. */
  | { readonly kind: "names"; readonly source: Source; readonly type?: string; readonly prefix: string; readonly flags: Readonly<Record<string, string>> };

const NOTHING: Completion = { kind: "fixed", candidates: [] };
const FILES: Completion = { kind: "files" };

/** Sources of a command's words behind its name; the last one goes on. "" ends it. */
const WORDS: Readonly<Record<string, readonly (Source | "files" | "")[]>> = {
  run: ["images", ""], create: ["images", ""], rm: ["containers"], logs: ["containers", ""], exec: ["containers", ""], attach: ["containers", ""], start: ["containers"], stop: ["containers"], restart: ["containers"], kill: ["containers"],
  pause: ["containers"], unpause: ["containers"], wait: ["containers"], top: ["containers", ""], stats: ["containers"], port: ["containers", ""], update: ["containers"], inspect: ["containers"], diff: ["containers", ""], commit: ["containers", ""],
  "port-forward": ["containers", ""], cp: ["files"], load: ["files"], build: ["files"], pull: ["images"], push: ["images"], rmi: ["images"], save: ["images"], history: ["images", ""], tag: ["images", "images", ""],
  "image inspect": ["images"], "volume rm": ["volumes"], "volume inspect": ["volumes"], get: ["types", "objects"], describe: ["types", "objects"], delete: ["types", "objects"], scale: ["types", "objects"], why: ["types", "objects"],
  cordon: ["nodes"], uncordon: ["nodes"], drain: ["nodes"],
  "compose up": ["services"], "compose ps": ["services"], "compose logs": ["services"], "compose stop": ["services"], "compose start": ["services"], "compose restart": ["services"], "compose kill": ["services"], "compose rm": ["services"],
  "compose pause": ["services"], "compose unpause": ["services"], "compose exec": ["services", ""], "compose run": ["services", ""], "compose build": ["services"], "compose pull": ["services"], "compose images": ["services"],
};

const FLAG_SOURCES: Readonly<Record<string, Source | "files">> = {
  namespace: "namespaces", context: "contexts", node: "nodes", network: "networks", kubeconfig: "files", file: "files", filename: "files", envFile: "files", volume: "files", link: "containers", volumesFrom: "containers", labelFile: "files", cidfile: "files", device: "files", stateDir: "files", projectDirectory: "files", config: "files", output: "files",
};

const starting = (prefix: string, candidates: readonly Candidate[]): Completion => ({ kind: "fixed", candidates: candidates.filter((c) => c.value.startsWith(prefix)) });

const flagsOf = (options: OptionTable, daemon: boolean): readonly Candidate[] => [
  ...Object.entries(options).filter(([, o]) => o.refused === undefined).map(([key, o]) => ({ value: `--${flagOf(key)}`, help: o.help })), ...(daemon ? [{ value: "--config", help: "YAML file of settings" }] : []), { value: "--help", help: "Say more" },
];

/** Which option a flag word means, and the value behind its =. */
const flagIn = (options: OptionTable, word: string): { readonly key: string | undefined; readonly inline: string | undefined } => {
  const long = /^--([^=]+)(?:=([\s\S]*))?$/.exec(word);
  if (long) return { key: Object.keys(options).find((k) => flagOf(k) === long[1] || options[k]!.aliases?.includes(long[1]!)), inline: long[2] };
  // -it: the last letter is the one that may take a value.
  return { key: Object.keys(options).find((k) => options[k]!.short === word.at(-1)), inline: undefined };
};

interface Typed {
  readonly positionals: readonly string[];
  readonly flags: Readonly<Record<string, string>>;
  /** The flag whose value the last word is, with what stands before the value in that word. */
  readonly valueOf: { readonly key: string; readonly prefix: string; readonly typed: string } | undefined;
  /** Flags are over: behind -- or the words of another command. */
  readonly over: boolean;
}

const readWords = (options: OptionTable, words: readonly string[], last: string, stopAt: number): Typed => {
  const positionals: string[] = [];
  const flags: Record<string, string> = {};
  let pending: string | undefined;
  let over = false;
  for (const word of words) {
    if (pending !== undefined) {
      flags[pending] = word;
      pending = undefined;
    } else if (over || !word.startsWith("-") || word === "-") {
      positionals.push(word);
      if (positionals.length > stopAt) over = true;
    } else if (word === "--") {
      over = true;
    } else {
      const { key, inline } = flagIn(options, word);
      if (key === undefined || takesNoWord(options[key]!)) continue;
      if (inline === undefined) pending = key;
      else flags[key] = inline;
    }
  }
  const inline = over ? undefined : /^(--[^=]+=)([\s\S]*)$/.exec(last);
  const key = pending ?? (inline ? flagIn(options, last).key : undefined);
  return { positionals, flags, over, valueOf: key === undefined ? undefined : { key, prefix: pending === undefined ? inline![1]! : "", typed: pending === undefined ? inline![2]! : last } };
};

const clusterFlags = (flags: Readonly<Record<string, string>>): Readonly<Record<string, string>> =>
  Object.fromEntries(["kubeconfig", "context", "namespace", "file", "project"].flatMap((k) => (flags[k] === undefined ? [] : [[k, flags[k]]])));

const ofValue = (options: OptionTable, { key, prefix, typed }: NonNullable<Typed["valueOf"]>, flags: Readonly<Record<string, string>>): Completion => {
  const option = options[key]!;
  if (option.choices) return starting(prefix + typed, option.choices.filter((c) => c !== "").map((c) => ({ value: prefix + c })));
  if (option.type === "boolean") return starting(prefix + typed, ["true", "false"].map((c) => ({ value: prefix + c })));
  const source = FLAG_SOURCES[key];
  if (source === "files") return FILES;
  return source === undefined ? NOTHING : { kind: "names", source, prefix, flags: clusterFlags(flags) };
};

const ofCommand = (command: Command, words: readonly string[], last: string, family: Readonly<Record<string, string>>): Completion => {
  const { positionals, flags, valueOf, over } = readWords(command.options, words, last, command.stopAtPositional ?? Number.POSITIVE_INFINITY);
  const given = clusterFlags({ ...family, ...flags });
  if (valueOf) return ofValue(command.options, valueOf, given);
  if (last.startsWith("-") && !over) return starting(last, flagsOf(command.options, command.daemon ?? false));
  const sources = WORDS[command.name] ?? [""];
  const source = sources[Math.min(positionals.length, sources.length - 1)]!;
  // "pods/web": the type is in the same word.
  if (source === "types" && last.includes("/")) return { kind: "names", source: "objects", type: last.slice(0, last.indexOf("/")), prefix: last.slice(0, last.indexOf("/") + 1), flags: given };
  if (source === "files") return FILES;
  if (source === "") return command.usage.includes("FILE") ? FILES : NOTHING;
  return { kind: "names", source, prefix: "", flags: given, ...(source === "objects" ? { type: positionals[0]! } : {}) };
};

/** `words`: what stands behind `gantry`; the last one, perhaps empty, is the one to complete. */
export const complete = (commands: readonly Command[], families: readonly CommandFamily[], words: readonly string[]): Completion => {
  const visible = commands.filter((c) => !c.hidden);
  const names = (c: Command): readonly string[] => [c.name, ...(c.aliases ?? [])];
  const last = words.at(-1) ?? "";
  const [first, ...between] = words.slice(0, -1);
  if (first === undefined) {
    if (last.startsWith("-")) return starting(last, [{ value: "--help", help: "List the commands" }, { value: "--version", help: "The version of this command" }]);
    const firsts = new Map<string, Candidate>();
    for (const command of visible) {
      for (const name of names(command)) {
        const [word = "", second] = name.split(" ");
        if (!firsts.has(word)) firsts.set(word, { value: word, help: second === undefined ? command.summary : (families.find((f) => f.name === word)?.summary ?? "") });
      }
    }
    return starting(last, [...firsts.values(), { value: "help", help: "Say more about a command" }]);
  }
  if (first === "help") return complete(commands, families, [...between, last]);
  const members = visible.flatMap((c) => names(c).filter((n) => n.startsWith(`${first} `)).map((n) => ({ value: n.slice(first.length + 1), help: c.summary, command: c })));
  const single = visible.find((c) => names(c).includes(first));
  if (members.length > 0) {
    const options = families.find((f) => f.name === first)?.options ?? {};
    const { positionals, flags, valueOf, over } = readWords(options, between, last, 0);
    const [second, ...more] = positionals;
    if (second === undefined && !single) {
      if (valueOf) return ofValue(options, valueOf, flags);
      return last.startsWith("-") && !over ? starting(last, flagsOf(options, false)) : starting(last, members);
    }
    const member = members.find((m) => m.value === second);
    // Words behind the second are read anew: its flags are its own.
    if (member) return ofCommand(member.command, between.slice(between.indexOf(second!) + 1), last, flags);
    if (!single || more.length > 0) return NOTHING;
    if (second === undefined && !last.startsWith("-")) return starting(last, members);
  }
  return single ? ofCommand(single, between, last, {}) : NOTHING;
};
