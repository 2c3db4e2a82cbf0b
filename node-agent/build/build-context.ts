// The build context on the agent's disk: unpacked from the tar that comes with the build, confined, gone with it. Archives that ADD unpacks take the same way.
import { spawn } from "node:child_process";
import { closeSync, createReadStream, lstatSync, mkdirSync, openSync, readFileSync, readSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { GantryError, describeError } from "../../base/errors.ts";
import { decompressed } from "../images/decompress.ts";
import { extractLayer, type ExtractLimits, type ExtractPolicy } from "../images/extract.ts";
import { TarReader } from "../images/tar.ts";
import { resolveInRoot } from "../runtime/user.ts";
import { parseIgnoreFile, PathMatcher } from "./patterns.ts";

const PLAIN_FILES: ExtractPolicy = { whiteouts: false, climbingLinks: true };
const LIMITS: ExtractLimits = { maxEntries: 2_000_000, maxBytes: 128 * 1024 ** 3, maxRatio: 0 };

/** Unpacks a tar (perhaps compressed) into an empty directory. Errors: "Invalid", "RequestEntityTooLarge". */
export const unpack = async (source: AsyncIterable<Uint8Array>, directory: string, freeBytes: number, what: string, signal: AbortSignal): Promise<void> => {
  const watched = async function* (): AsyncGenerator<Uint8Array, void> {
    for await (const chunk of source) {
      signal.throwIfAborted();
      yield chunk;
    }
  };
  const tar = new TarReader(decompressed(watched(), what), what);
  try {
    await extractLayer(tar, directory, { ...LIMITS, maxBytes: Math.min(LIMITS.maxBytes, freeBytes) }, what, undefined, PLAIN_FILES);
    await tar.drain();
  } finally {
    await tar.close().catch(() => undefined);
  }
};

/** Takes away what the context's own .dockerignore leaves out: for a context that somebody else packed. */
export const applyIgnoreFile = (directory: string, dockerfile: string): void => {
  const text = readInContext(directory, `${dockerfile}.dockerignore`) ?? readInContext(directory, ".dockerignore");
  if (text === undefined) return;
  const matcher = new PathMatcher(parseIgnoreFile(text));
  const clean = (prefix: string): void => {
    for (const name of readdirSync(join(directory, prefix))) {
      const path = prefix === "" ? name : `${prefix}/${name}`;
      const isDirectory = lstatSync(join(directory, path)).isDirectory();
      const ignored = matcher.matches(path);
      if (isDirectory && (!ignored || matcher.mayKeepBelow(path))) clean(path);
      if (ignored && (!isDirectory || readdirSync(join(directory, path)).length === 0)) rmSync(join(directory, path), { recursive: true });
    }
  };
  clean("");
};

const MAX_DOCKERFILE_BYTES = 4 * 1024 * 1024;

/** undefined when there is no such file. Links are followed inside the context only. */
export const readInContext = (directory: string, path: string): string | undefined => {
  const real = resolveInRoot(directory, path);
  const stat = lstatSync(real, { throwIfNoEntry: false });
  if (stat?.isFile() !== true) return undefined;
  if (stat.size > MAX_DOCKERFILE_BYTES) throw new GantryError("RequestEntityTooLarge", `${path} has ${stat.size} bytes; at most ${MAX_DOCKERFILE_BYTES} are allowed`);
  return readFileSync(real, "utf8");
};

const headOf = (path: string): Buffer => {
  const fd = openSync(path, "r");
  try {
    const head = Buffer.alloc(512);
    return head.subarray(0, readSync(fd, head, 0, head.length, 0));
  } finally {
    closeSync(fd);
  }
};

/** Node has no decoder for these two; the programs are part of every distribution. */
const PROGRAMS: readonly (readonly [Buffer, string])[] = [[Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0]), "xz"], [Buffer.from("BZh"), "bzip2"]];

async function* contentOf(path: string, head: Buffer): AsyncGenerator<Uint8Array, void> {
  const program = PROGRAMS.find(([magic]) => head.subarray(0, magic.length).equals(magic))?.[1];
  const file = createReadStream(path, { highWaterMark: 1 << 18 });
  if (program === undefined) {
    yield* file as AsyncIterable<Uint8Array>;
    return;
  }
  const child = spawn(program, ["-dc"], { stdio: ["pipe", "pipe", "ignore"] });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.on("error", (error) => reject(new GantryError("FailedPrecondition", `ADD of a .${program === "xz" ? "xz" : "bz2"} archive needs ${program} on the node`, { cause: error })));
    child.on("exit", resolve);
  });
  ended.catch(() => undefined);
  const feeding = pipeline(file, child.stdin).catch(() => undefined); // its exit code says more
  try {
    yield* child.stdout as AsyncIterable<Uint8Array>;
    await feeding;
    if ((await ended) !== 0) throw new GantryError("Invalid", `${program} can't unpack it: it is damaged or cut off`);
  } finally {
    child.kill("SIGKILL");
  }
}

/** Is it a tar, perhaps compressed? By its content, as Docker tells it; a compressed file of another kind is none. */
export const isArchive = async (path: string): Promise<boolean> => {
  const head = headOf(path);
  const isCompressed = (head[0] === 0x1f && head[1] === 0x8b) || head.subarray(0, 4).equals(Buffer.from([0x28, 0xb5, 0x2f, 0xfd])) || PROGRAMS.some(([magic]) => head.subarray(0, magic.length).equals(magic));
  if (!isCompressed && head.toString("latin1", 257, 262) !== "ustar") return false;
  const tar = new TarReader(decompressed(contentOf(path, head), "archive"), "archive");
  try {
    return (await tar.next()) !== undefined;
  } catch (error) {
    if (error instanceof GantryError && error.code === "FailedPrecondition") throw error;
    return false;
  } finally {
    await tar.close().catch(() => undefined);
  }
};

export const unpackArchive = async (path: string, directory: string, freeBytes: number, what: string, signal: AbortSignal): Promise<void> => {
  mkdirSync(directory, { recursive: true, mode: 0o755 });
  try {
    await unpack(contentOf(path, headOf(path)), directory, freeBytes, what, signal);
  } catch (error) {
    throw error instanceof GantryError ? error : new GantryError("Invalid", `${what} can't be unpacked: ${describeError(error)}`, { cause: error });
  }
};
