// What raw instructions mean, before variables are put in. Pure.
// https://docs.docker.com/reference/dockerfile/
import { GantryError } from "../../base/errors.ts";
import type { Flag, Heredoc, RawInstruction } from "./dockerfile.ts";
import { splitWords } from "./words.ts";

export type CommandForm = { readonly exec: readonly string[] } | { readonly shell: string };

export interface RunMount {
  readonly type: "bind" | "cache" | "tmpfs" | "secret";
  /** "" where only a default is known later. */
  readonly target: string;
  readonly source: string;
  /** Stage or image; "" is the context. */
  readonly from: string;
  readonly id: string;
  readonly readOnly: boolean;
  readonly sharing: "shared" | "private" | "locked";
  readonly mode: number | undefined;
  readonly uid: number;
  readonly gid: number;
  readonly required: boolean;
  readonly sizeBytes: number | undefined;
  /** secret: the variable that it is given in, besides or instead of the file. */
  readonly env: string;
}

export interface CopyFlags {
  readonly from: string;
  readonly chown: string;
  readonly chmod: string;
  readonly link: boolean;
  readonly parents: boolean;
  readonly exclude: readonly string[];
  readonly checksum: string;
  readonly unpack: boolean | undefined;
}

export type Instruction =
  | { readonly kind: "run"; readonly command: CommandForm; readonly script: Heredoc | undefined; readonly mounts: readonly RunMount[]; readonly network: "default" | "none" | "host" }
  | { readonly kind: "copy"; readonly isAdd: boolean; readonly paths: readonly string[]; readonly heredocs: readonly Heredoc[]; readonly flags: CopyFlags }
  | { readonly kind: "cmd" | "entrypoint"; readonly command: CommandForm }
  | { readonly kind: "shell"; readonly exec: readonly string[] }
  | { readonly kind: "env" | "label"; readonly pairs: readonly (readonly [string, string])[] }
  | { readonly kind: "arg"; readonly args: readonly { readonly name: string; readonly value: string | undefined }[] }
  | { readonly kind: "expose" | "volume"; readonly words: readonly string[] }
  | { readonly kind: "workdir" | "user" | "stopsignal" | "maintainer"; readonly value: string }
  | { readonly kind: "healthcheck"; readonly test: readonly string[]; readonly times: Readonly<Record<string, number>> }
  | { readonly kind: "onbuild"; readonly trigger: string };

const invalid = (message: string): GantryError => new GantryError("Invalid", message);

/** The JSON form, when it is one: a list of strings. */
const jsonWords = (text: string): readonly string[] | undefined => {
  if (!text.startsWith("[")) return undefined;
  try {
    const value: unknown = JSON.parse(text);
    return Array.isArray(value) && value.every((word) => typeof word === "string") ? value : undefined;
  } catch {
    return undefined;
  }
};

const commandOf = (text: string): CommandForm => {
  const exec = jsonWords(text);
  return exec === undefined ? { shell: text } : { exec };
};

class Flags {
  readonly #keyword: string;
  readonly #flags: readonly Flag[];

  constructor({ keyword, flags }: RawInstruction, known: readonly string[]) {
    this.#keyword = keyword;
    this.#flags = flags;
    for (const { name } of flags) {
      if (!known.includes(name)) throw invalid(`unknown flag: ${keyword} has no --${name}${known.length === 0 ? "" : `; it has ${known.map((k) => `--${k}`).join(", ")}`}`);
    }
  }

  all(name: string): readonly string[] {
    return this.#flags.filter((flag) => flag.name === name).map(({ value }) => {
      if (value === undefined) throw invalid(`--${name} needs a value: --${name}=...`);
      return value;
    });
  }

  one(name: string): string | undefined {
    const values = this.all(name);
    if (values.length > 1) throw invalid(`--${name} is given ${values.length} times`);
    return values[0];
  }

  boolean(name: string): boolean | undefined {
    const flag = this.#flags.find((f) => f.name === name);
    if (flag === undefined) return undefined;
    if (!["true", "false", undefined].includes(flag.value)) throw invalid(`--${name}: ${JSON.stringify(flag.value)} is neither true nor false`);
    return flag.value !== "false";
  }

  duration(name: string): number | undefined {
    const text = this.one(name);
    if (text === undefined) return undefined;
    const ns = goDurationNs(text);
    if (ns === undefined) throw invalid(`${this.#keyword} --${name}: ${JSON.stringify(text)} is not a duration such as 30s or 1m30s`);
    return ns;
  }
}

const UNIT_NS: Readonly<Record<string, number>> = { ns: 1, us: 1e3, "µs": 1e3, ms: 1e6, s: 1e9, m: 60e9, h: 3600e9 };
/** https://pkg.go.dev/time#ParseDuration */
export const goDurationNs = (text: string): number | undefined => {
  if (text === "0") return 0;
  if (!/^(?:\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h))+$/.test(text)) return undefined;
  return [...text.matchAll(/(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)/g)].reduce((sum, [, n, unit]) => sum + Math.round(Number(n) * UNIT_NS[unit!]!), 0);
};

const isOctal = (text: string): boolean => /^0?[0-7]{1,4}$/.test(text);

const SIZE: Readonly<Record<string, number>> = { "": 1, b: 1, k: 1024, kb: 1024, m: 1024 ** 2, mb: 1024 ** 2, g: 1024 ** 3, gb: 1024 ** 3 };
const sizeOf = (text: string): number => {
  const [, n, unit] = /^(\d+)([a-z]*)$/i.exec(text) ?? [];
  const factor = SIZE[unit?.toLowerCase() ?? "?"];
  if (factor === undefined) throw invalid(`size: ${JSON.stringify(text)} is not a size such as 64m`);
  return Number(n) * factor;
};

const MOUNT_KEYS: Readonly<Record<string, readonly string[]>> = {
  bind: ["target", "source", "from", "rw"], cache: ["id", "target", "ro", "sharing", "from", "source", "mode", "uid", "gid"],
  tmpfs: ["target", "size"], secret: ["id", "target", "required", "mode", "uid", "gid", "env"],
};
const ALIASES: Readonly<Record<string, string>> = { dst: "target", destination: "target", src: "source", readonly: "ro", readwrite: "rw" };

/** `type=cache,target=/root/.npm`. Values are expanded already. */
export const parseMount = (text: string): RunMount => {
  const fields = new Map<string, string>();
  for (const part of text.split(",")) {
    const equals = part.indexOf("=");
    const key = (equals < 0 ? part : part.slice(0, equals)).trim().toLowerCase();
    fields.set(ALIASES[key] ?? key, equals < 0 ? "true" : part.slice(equals + 1).replace(/^"(.*)"$/, "$1"));
  }
  const type = fields.get("type") ?? "bind";
  fields.delete("type");
  if (type === "ssh") throw invalid("--mount=type=ssh is not supported: give keys with --mount=type=secret");
  const known = MOUNT_KEYS[type];
  if (known === undefined) throw invalid(`--mount: unsupported type ${JSON.stringify(type)}; there are bind, cache, tmpfs and secret`);
  // Both are allowed where one of them is: ro=false is rw.
  const keys = new Set([...known, ...(known.some((key) => key === "ro" || key === "rw") ? ["ro", "rw"] : [])]);
  for (const key of fields.keys()) if (!keys.has(key)) throw invalid(`--mount=type=${type}: unexpected key ${JSON.stringify(key)}; there are ${[...keys].join(", ")}`);
  const get = (key: string): string => fields.get(key) ?? "";
  const flag = (key: string, fallback: boolean): boolean => (fields.has(key) ? get(key) !== "false" && get(key) !== "0" : fallback);
  const number = (key: string): number => {
    if (!/^\d*$/.test(get(key))) throw invalid(`--mount=type=${type}: ${key}: ${JSON.stringify(get(key))} is not a number`);
    return Number(get(key));
  };
  if (get("mode") !== "" && !isOctal(get("mode"))) throw invalid(`--mount=type=${type}: mode: ${JSON.stringify(get("mode"))} is not an octal number such as 0644`);
  const sharing = get("sharing") || "shared";
  if (sharing !== "shared" && sharing !== "private" && sharing !== "locked") throw invalid(`--mount: sharing: ${JSON.stringify(sharing)} is none of shared, private, locked`);
  const readOnly = type === "bind" ? !(flag("rw", false) || !flag("ro", true)) : flag("ro", false) || !flag("rw", true);
  const id = get("id") || (type === "secret" ? get("target").split("/").at(-1)! : "");
  if (type !== "secret" && get("target") === "") throw invalid(`--mount=type=${type}: target is missing`);
  if (type === "secret" && id === "") throw invalid("--mount=type=secret: id is missing");
  return {
    type: type as RunMount["type"], target: get("target"), source: get("source"), from: get("from"), id, readOnly, sharing,
    mode: get("mode") === "" ? undefined : Number.parseInt(get("mode"), 8), uid: number("uid"), gid: number("gid"), required: flag("required", false),
    sizeBytes: get("size") === "" ? undefined : sizeOf(get("size")), env: get("env"),
  };
};

const noFlags = (raw: RawInstruction): Flags => new Flags(raw, []);

const nonEmpty = (raw: RawInstruction): string => {
  if (raw.text === "") throw invalid(`${raw.keyword} requires at least one argument`);
  return raw.text;
};

const parsePairs = (raw: RawInstruction, escape: string): readonly (readonly [string, string])[] => {
  const words = splitWords(nonEmpty(raw), escape);
  if (!words[0]!.includes("=")) {
    const [, name = "", value = ""] = /^(\S+)\s+([\s\S]+)$/.exec(raw.text) ?? [];
    if (name === "") throw invalid(`${raw.keyword} must have two arguments: ${raw.keyword} NAME=value`);
    return [[name, value]];
  }
  return words.map((word) => {
    const equals = word.indexOf("=");
    if (equals < 0) throw invalid(`can't find = in ${JSON.stringify(word)}: must be of the form NAME=value`);
    if (equals === 0) throw invalid(`${raw.keyword} names can not be blank`);
    return [word.slice(0, equals), word.slice(equals + 1)];
  });
};

/** `mountText` puts variables into the text of a --mount. Errors: "Invalid". */
export const parseInstruction = (raw: RawInstruction, escape: string, mountText: (text: string) => string): Instruction => {
  switch (raw.keyword) {
    case "RUN": {
      const flags = new Flags(raw, ["mount", "network", "security"]);
      const network = flags.one("network") ?? "default";
      if (network !== "default" && network !== "none" && network !== "host") throw invalid(`--network: ${JSON.stringify(network)} is none of default, none, host`);
      const security = flags.one("security") ?? "sandbox";
      if (security !== "sandbox") throw invalid(`--security=${security}: builds run as ordinary containers only (sandbox)`);
      const [only] = raw.heredocs;
      const script = raw.heredocs.length === 1 && /^<<-?["']?[A-Za-z_][\w.]*["']?$/.test(raw.text) ? only : undefined;
      const command = raw.heredocs.length > 0 ? { shell: script === undefined ? `${raw.text}\n${raw.heredocText}` : script.content } : commandOf(nonEmpty(raw));
      return { kind: "run", command, script, mounts: flags.all("mount").map((text) => parseMount(mountText(text))), network };
    }
    case "COPY": case "ADD": {
      const isAdd = raw.keyword === "ADD";
      const flags = new Flags(raw, ["chown", "chmod", "link", "exclude", "parents", ...(isAdd ? ["checksum", "keep-git-dir", "unpack"] : ["from"])]);
      const paths = jsonWords(raw.text) ?? raw.text.split(/\s+/);
      if (paths.length < 2) throw invalid(`${raw.keyword} requires at least two arguments, but only ${raw.text === "" ? "none was" : "one was"} provided: ${raw.keyword} SOURCE... DESTINATION`);
      return {
        kind: "copy", isAdd, paths, heredocs: raw.heredocs,
        flags: {
          from: isAdd ? "" : (flags.one("from") ?? ""), chown: flags.one("chown") ?? "", chmod: flags.one("chmod") ?? "", link: flags.boolean("link") ?? false, parents: flags.boolean("parents") ?? false,
          exclude: flags.all("exclude"), checksum: isAdd ? (flags.one("checksum") ?? "") : "", unpack: isAdd ? flags.boolean("unpack") : undefined,
        },
      };
    }
    case "HEALTHCHECK": return parseHealthcheck(raw);
    default: noFlags(raw);
  }
  switch (raw.keyword) {
    case "CMD": case "ENTRYPOINT": return { kind: raw.keyword === "CMD" ? "cmd" : "entrypoint", command: commandOf(raw.text) };
    case "SHELL": {
      const exec = jsonWords(raw.text);
      if (exec === undefined || exec.length === 0) throw invalid('SHELL requires the arguments to be in JSON form: SHELL ["/bin/bash", "-c"]');
      return { kind: "shell", exec };
    }
    case "ENV": case "LABEL": return { kind: raw.keyword === "ENV" ? "env" : "label", pairs: parsePairs(raw, escape) };
    case "ARG":
      return {
        kind: "arg",
        args: splitWords(nonEmpty(raw), escape).map((word) => {
          const equals = word.indexOf("=");
          const name = equals < 0 ? word : word.slice(0, equals);
          if (!/^[A-Za-z_]\w*$/.test(name)) throw invalid(`ARG: ${JSON.stringify(name)} is not a name of a variable`);
          return { name, value: equals < 0 ? undefined : word.slice(equals + 1) };
        }),
      };
    case "EXPOSE": return { kind: "expose", words: nonEmpty(raw).split(/\s+/) };
    case "VOLUME": return { kind: "volume", words: jsonWords(nonEmpty(raw)) ?? raw.text.split(/\s+/) };
    case "WORKDIR": return { kind: "workdir", value: nonEmpty(raw) };
    case "USER": return { kind: "user", value: nonEmpty(raw) };
    case "STOPSIGNAL": return { kind: "stopsignal", value: nonEmpty(raw) };
    case "MAINTAINER": return { kind: "maintainer", value: nonEmpty(raw) };
    case "ONBUILD": {
      const inner = (/^\S+/.exec(nonEmpty(raw))?.[0] ?? "").toUpperCase();
      if (["ONBUILD", "FROM", "MAINTAINER"].includes(inner)) throw invalid(`${inner} isn't allowed as an ONBUILD trigger`);
      return { kind: "onbuild", trigger: raw.heredocText === "" ? raw.text : `${raw.text}\n${raw.heredocText}` };
    }
    default: throw invalid(`${raw.keyword} can't stand here`);
  }
};

const parseHealthcheck = (raw: RawInstruction): Instruction => {
  const flags = new Flags(raw, ["interval", "timeout", "start-period", "start-interval", "retries"]);
  const [, type = "", rest = ""] = /^(\S+)\s*([\s\S]*)$/.exec(raw.text) ?? [];
  if (type.toUpperCase() === "NONE") {
    if (rest !== "") throw invalid("HEALTHCHECK NONE takes no arguments");
    return { kind: "healthcheck", test: ["NONE"], times: {} };
  }
  if (type.toUpperCase() !== "CMD" || rest === "") throw invalid(`HEALTHCHECK: ${JSON.stringify(type)} is neither CMD with a command nor NONE`);
  const command = commandOf(rest);
  const retries = flags.one("retries");
  if (retries !== undefined && !/^\d+$/.test(retries)) throw invalid(`--retries: ${JSON.stringify(retries)} is not a number`);
  const times = { Interval: flags.duration("interval"), Timeout: flags.duration("timeout"), StartPeriod: flags.duration("start-period"), StartInterval: flags.duration("start-interval"), Retries: retries === undefined ? undefined : Number(retries) };
  return {
    kind: "healthcheck", test: "exec" in command ? ["CMD", ...command.exec] : ["CMD-SHELL", command.shell],
    times: Object.fromEntries(Object.entries(times).filter((entry): entry is [string, number] => entry[1] !== undefined)),
  };
};
