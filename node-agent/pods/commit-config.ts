// The config of an image that `commit` makes: that of the container's image, with what the container was started with and the changes that the user asked for
// (a few instructions of a Dockerfile). Pure.
import { GantryError } from "../../base/errors.ts";

type Json = Readonly<Record<string, unknown>>;

export interface CommitInput {
  readonly author: string;
  readonly message: string;
  readonly changes: readonly string[];
  readonly nowMs: number;
  /** For the history. */
  readonly command: readonly string[];
  /** False: no file was changed, and no layer is added. */
  readonly hasLayer: boolean;
  /** Of the container, where it says something. */
  readonly container: { readonly entrypoint: readonly string[]; readonly cmd: readonly string[]; readonly env: readonly string[]; readonly workingDir: string };
}

const KNOWN = ["CMD", "ENTRYPOINT", "ENV", "EXPOSE", "LABEL", "ONBUILD", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"];

/** Words by blanks; "..." and '...' hold together, a backslash takes the next character as it is. */
const words = (text: string): string[] => [...text.matchAll(/(?:[^\s"'\\]|\\.|"(?:[^"\\]|\\.)*"|'[^']*')+/g)].map((m) =>
  m[0].replaceAll(/\\(.)|"((?:[^"\\]|\\.)*)"|'([^']*)'/g, (_, escaped?: string, double?: string, single?: string) => escaped ?? single ?? (double ?? "").replaceAll(/\\(.)/g, "$1")));

const list = (text: string, instruction: string): string[] => {
  if (!text.startsWith("[")) return [];
  try {
    const value = JSON.parse(text) as unknown;
    if (Array.isArray(value) && value.every((v) => typeof v === "string")) return value;
  } catch {
    // Said below.
  }
  throw new GantryError("BadRequest", `change ${JSON.stringify(`${instruction} ${text}`)}: a list of texts such as ["a","b"] was expected`);
};

/** A command: as a list, or for the shell. */
const commandOf = (text: string, instruction: string): string[] => (text.startsWith("[") ? list(text, instruction) : ["/bin/sh", "-c", text]);

const pairs = (text: string, instruction: string): [string, string][] => {
  const all = words(text);
  // The old form: NAME and, after a blank, the rest of the line.
  if (all.length > 0 && !all[0]!.includes("=")) return [[all[0]!, text.slice(all[0]!.length).trim()]];
  return all.map((word) => {
    const equals = word.indexOf("=");
    if (equals < 1) throw new GantryError("BadRequest", `change ${JSON.stringify(`${instruction} ${text}`)}: ${JSON.stringify(word)} is not NAME=VALUE`);
    return [word.slice(0, equals), word.slice(equals + 1)];
  });
};

const withEnv = (env: readonly string[], added: readonly (readonly [string, string])[]): string[] => {
  const all = new Map([...env.map((e): [string, string] => [e.slice(0, e.indexOf("=")), e.slice(e.indexOf("=") + 1)]), ...added]);
  return [...all].map(([name, value]) => `${name}=${value}`);
};

/** "BadRequest" names the change and what would be right. */
export const applyChange = (config: Json, change: string): Json => {
  const [, word = "", rest = ""] = /^\s*(\S+)\s*([\s\S]*)$/.exec(change) ?? [];
  const [instruction, text] = [word.toUpperCase(), rest.trim()];
  if (!KNOWN.includes(instruction)) throw new GantryError("BadRequest", `change ${JSON.stringify(change)}: ${JSON.stringify(word)} can't be changed by a commit; known are ${KNOWN.join(", ")}`);
  if (text === "" && instruction !== "CMD" && instruction !== "ENTRYPOINT") throw new GantryError("BadRequest", `change ${JSON.stringify(change)}: ${instruction} needs a value`);
  const objects = (name: string, keys: readonly string[]): Json => ({ ...config, [name]: { ...(config[name] as Json | undefined), ...Object.fromEntries(keys.map((k) => [k, {}])) } });
  switch (instruction) {
    case "CMD": return { ...config, Cmd: text === "" ? [] : commandOf(text, instruction) };
    // As in a build: a new entrypoint has no use for the old one's arguments.
    case "ENTRYPOINT": return { ...config, Entrypoint: text === "" ? [] : commandOf(text, instruction), Cmd: undefined };
    case "ENV": return { ...config, Env: withEnv((config["Env"] as string[] | undefined) ?? [], pairs(text, instruction)) };
    case "LABEL": return { ...config, Labels: { ...(config["Labels"] as Json | undefined), ...Object.fromEntries(pairs(text, instruction)) } };
    case "EXPOSE": {
      const ports = words(text).map((p) => (p.includes("/") ? p : `${p}/tcp`));
      const wrong = ports.find((p) => !/^\d{1,5}(?:-\d{1,5})?\/(?:tcp|udp|sctp)$/.test(p));
      if (wrong !== undefined) throw new GantryError("BadRequest", `change ${JSON.stringify(change)}: ${JSON.stringify(wrong)} is no port such as 80 or 53/udp`);
      return objects("ExposedPorts", ports);
    }
    case "VOLUME": return objects("Volumes", text.startsWith("[") ? list(text, instruction) : words(text));
    case "ONBUILD": return { ...config, OnBuild: [...((config["OnBuild"] as string[] | undefined) ?? []), text] };
    case "USER": return { ...config, User: text };
    case "STOPSIGNAL": return { ...config, StopSignal: text };
    default: return { ...config, WorkingDir: text.startsWith("/") ? text : `${((config["WorkingDir"] as string | undefined) ?? "/").replace(/\/$/, "")}/${text}` };
  }
};

/** Without rootfs, which follows from the layers. */
export const commitConfig = (image: Json, input: CommitInput): Json => {
  const { entrypoint, cmd, env, workingDir } = input.container;
  let config = (image["config"] as Json | undefined) ?? {};
  if (entrypoint.length > 0) config = { ...config, Entrypoint: entrypoint, Cmd: undefined };
  if (cmd.length > 0) config = { ...config, Cmd: cmd };
  if (env.length > 0) config = { ...config, Env: withEnv((config["Env"] as string[] | undefined) ?? [], env.map((e) => [e.slice(0, e.indexOf("=")), e.slice(e.indexOf("=") + 1)])) };
  if (workingDir !== "") config = { ...config, WorkingDir: workingDir };
  for (const change of input.changes) config = applyChange(config, change);
  const created = new Date(input.nowMs).toISOString();
  const history = (image["history"] as readonly Json[] | undefined) ?? [];
  const { rootfs: _, ...rest } = image;
  return {
    ...rest, created, ...(input.author === "" ? {} : { author: input.author }), config,
    history: [...history, {
      created, created_by: input.command.join(" "), ...(input.author === "" ? {} : { author: input.author }), ...(input.message === "" ? {} : { comment: input.message }), ...(input.hasLayer ? {} : { empty_layer: true }),
    }],
  };
};
