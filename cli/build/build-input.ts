// What `gantry build` sends: options out of the flags, the Dockerfile, and where the context comes from (a directory, a tar, standard input).
import { createReadStream, existsSync, openSync, closeSync, readFileSync, readSync, statSync } from "node:fs";
import { join, relative, resolve } from "node:path";
import { GantryError } from "../../base/errors.ts";
import type { BuildOptions } from "../../node-agent/build/build-events.ts";
import { parseIgnoreFile, PathMatcher } from "../../node-agent/build/patterns.ts";
import { dockerConfigPath, readCredentials } from "../images/docker-config.ts";
import { packContext } from "./pack-context.ts";

export interface BuildFlags {
  readonly tag: readonly string[];
  readonly file: string;
  readonly buildArg: readonly string[];
  readonly target: string;
  readonly noCache: boolean;
  readonly platform: string;
  readonly secret: readonly string[];
  readonly pull: boolean;
  readonly label: readonly string[];
  readonly network: string;
  readonly push: boolean;
}

export interface BuildInput {
  readonly options: BuildOptions;
  /** undefined: there is none. */
  readonly context: AsyncIterable<Uint8Array> | undefined;
}

const bad = (message: string): GantryError => new GantryError("BadRequest", message);

const pairs = (flag: string, given: readonly string[], fallback: (name: string) => string | undefined): Readonly<Record<string, string>> =>
  Object.fromEntries(given.flatMap((text) => {
    const equals = text.indexOf("=");
    const name = equals < 0 ? text : text.slice(0, equals);
    if (name === "") throw bad(`--${flag}: ${JSON.stringify(text)} is not NAME=value`);
    const value = equals < 0 ? fallback(name) : text.slice(equals + 1);
    return value === undefined ? [] : [[name, value] as const];
  }));

/** `id=npmrc,src=FILE` or `id=token,env=NAME`; the id alone stands for the variable or file of that name. */
export const readSecret = (text: string, env: NodeJS.ProcessEnv): readonly [string, string] => {
  const fields = new Map(text.split(",").map((part) => {
    const equals = part.indexOf("=");
    return [equals < 0 ? part : part.slice(0, equals), equals < 0 ? "" : part.slice(equals + 1)] as const;
  }));
  for (const key of fields.keys()) if (!["id", "src", "source", "env", "type"].includes(key)) throw bad(`--secret: ${JSON.stringify(text)}: unknown key ${JSON.stringify(key)}; write id=NAME,src=FILE or id=NAME,env=VARIABLE`);
  const id = fields.get("id") ?? "";
  if (id === "") throw bad(`--secret: ${JSON.stringify(text)} has no id; write id=NAME,src=FILE or id=NAME,env=VARIABLE`);
  const type = fields.get("type") ?? "";
  const source = fields.get("src") ?? fields.get("source");
  const variable = fields.get("env") ?? (type === "env" ? (source ?? id) : source === undefined && type !== "file" && env[id] !== undefined ? id : undefined);
  if (variable !== undefined) {
    const value = env[variable];
    if (value === undefined) throw bad(`--secret: id=${id}: the environment has no variable ${variable}`);
    return [id, Buffer.from(value).toString("base64")];
  }
  const path = source ?? id;
  if (!(statSync(path, { throwIfNoEntry: false })?.isFile() ?? false)) throw bad(`--secret: id=${id}: there is no file ${path}`);
  return [id, readFileSync(path).toString("base64")];
};

const optionsOf = (flags: BuildFlags, env: NodeJS.ProcessEnv): Omit<BuildOptions, "dockerfile"> => ({
  names: flags.tag, target: flags.target, noCache: flags.noCache, platform: flags.platform, pull: flags.pull, network: flags.network as "default" | "host" | "none",
  buildArgs: { ...(env["SOURCE_DATE_EPOCH"] === undefined ? {} : { SOURCE_DATE_EPOCH: env["SOURCE_DATE_EPOCH"] }), ...pairs("build-arg", flags.buildArg, (name) => env[name]) },
  push: flags.push, credentials: readCredentials(dockerConfigPath(env)),
  labels: pairs("label", flags.label, () => ""), secrets: Object.fromEntries(flags.secret.map((text) => readSecret(text, env))),
});

const TAR_MAGIC_AT = 257;
/** Enough to tell a tar from a Dockerfile. */
const HEAD_BYTES = 512;

export type Content = "tar" | "unsupported" | "text";
export const contentOfHead = (head: Uint8Array): Content => {
  const starts = (...magic: readonly number[]): boolean => magic.every((byte, i) => head[i] === byte);
  if (starts(0x42, 0x5a, 0x68) || starts(0xfd, 0x37, 0x7a, 0x58, 0x5a)) return "unsupported";
  if (starts(0x1f, 0x8b) || starts(0x28, 0xb5, 0x2f, 0xfd)) return "tar";
  return Buffer.from(head.subarray(TAR_MAGIC_AT, TAR_MAGIC_AT + 5)).toString("latin1") === "ustar" ? "tar" : "text";
};

const refuse = (what: string): GantryError => bad(`${what} is compressed with xz or bzip2; compress it with gzip or zstd, or not at all`);

/** Reads what is needed to tell what it is; the whole comes out of `rest`. */
const peek = async (source: AsyncIterable<Uint8Array>): Promise<{ readonly head: Buffer; readonly rest: AsyncGenerator<Uint8Array, void> }> => {
  const iterator = source[Symbol.asyncIterator]();
  const pieces: Uint8Array[] = [];
  for (let bytes = 0; bytes < HEAD_BYTES;) {
    const { value, done } = await iterator.next();
    if (done === true) break;
    pieces.push(value);
    bytes += value.length;
  }
  const head = Buffer.concat(pieces);
  return {
    head,
    rest: (async function* () {
      yield head;
      for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) yield next.value;
    })(),
  };
};

const textOf = async (source: AsyncIterable<Uint8Array>): Promise<string> => {
  const pieces: Uint8Array[] = [];
  for await (const piece of source) pieces.push(piece);
  return Buffer.concat(pieces).toString("utf8");
};

/** Errors: "BadRequest" for what the user typed. */
export const readBuildInput = async (context: string, flags: BuildFlags, env: NodeJS.ProcessEnv, stdin: AsyncIterable<Uint8Array>): Promise<BuildInput> => {
  const common = optionsOf(flags, env);
  if (/^(?:https?:\/\/|git@|git:\/\/|ssh:\/\/|github\.com\/)/.test(context)) throw bad(`${context}: contexts from the network are not supported; clone or download it first`);
  if (context === "-") {
    if (flags.file === "-") throw bad("-f - and the context - can't both be standard input");
    const { head, rest } = await peek(stdin);
    const kind = contentOfHead(head);
    if (kind === "unsupported") throw refuse("the context");
    if (kind === "tar") return { options: { ...common, dockerfile: flags.file || "Dockerfile", applyIgnore: true }, context: rest };
    if (flags.file !== "") throw bad("-f names a file in the context, but standard input is a Dockerfile itself");
    return { options: { ...common, dockerfile: "Dockerfile", dockerfileText: await textOf(rest), noContext: true }, context: undefined };
  }
  const stat = statSync(context, { throwIfNoEntry: false });
  if (stat === undefined) throw bad(`there is no directory ${context}`);
  if (stat.isFile()) {
    const kind = contentOfHead(headOf(context));
    if (kind === "unsupported") throw refuse(context);
    if (kind === "text") throw bad(`${context} is neither a directory nor a tar; name a Dockerfile with -f`);
    return { options: { ...common, dockerfile: flags.file || "Dockerfile", applyIgnore: true }, context: createReadStream(context, { highWaterMark: 1 << 18 }) as AsyncIterable<Uint8Array> };
  }
  const { name, text, ignoreFile } = await dockerfileOf(context, flags.file, stdin);
  const ignore = new PathMatcher(ignoreFile === undefined ? [] : parseIgnoreFile(readFileSync(ignoreFile, "utf8")));
  return { options: { ...common, dockerfile: name, dockerfileText: text }, context: packContext(context, ignore) };
};

const headOf = (path: string): Buffer => {
  const fd = openSync(path, "r");
  try {
    const head = Buffer.alloc(HEAD_BYTES);
    return head.subarray(0, readSync(fd, head, 0, head.length, 0));
  } finally {
    closeSync(fd);
  }
};

const dockerfileOf = async (context: string, file: string, stdin: AsyncIterable<Uint8Array>): Promise<{ readonly name: string; readonly text: string; readonly ignoreFile: string | undefined }> => {
  const ignore = join(context, ".dockerignore");
  if (file === "-") return { name: "Dockerfile", text: await textOf(stdin), ignoreFile: existsSync(ignore) ? ignore : undefined };
  // As docker: seen from here; where that leads nowhere, from the context.
  const candidates = file === "" ? [join(context, "Dockerfile")] : [resolve(file), join(context, file)];
  const path = candidates.find((candidate) => statSync(candidate, { throwIfNoEntry: false })?.isFile());
  if (path === undefined) throw bad(file === "" ? `there is no Dockerfile in ${context}; name another with -f` : `-f: there is no file ${file}`);
  const inside = relative(context, path);
  return { name: inside.startsWith("..") || inside === "" ? file : inside, text: readFileSync(path, "utf8"), ignoreFile: [`${path}.dockerignore`, ignore].find((p) => existsSync(p)) };
};
