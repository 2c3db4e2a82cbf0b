// The blobs of this node, by digest, laid out as an OCI image layout (image-layout.md), so that other tools can read it. A blob is
// visible under its name only after it was verified: whatever is in blobs/ is right, however the process ended.
import { closeSync, createReadStream, existsSync, mkdirSync, openSync, readFileSync, readSync, renameSync, statSync } from "node:fs";
import { open, readdir, rename, rm, stat, statfs, writeFile, type FileHandle } from "node:fs/promises";
import { createHash, type Hash } from "node:crypto";
import { join } from "node:path";
import { Readable } from "node:stream";
import { GantryError } from "../../base/errors.ts";
import { newId } from "../../base/ids.ts";
import { isErrno } from "../linux/libc.ts";
import { algorithmOf, digestOf, hashFor, hexOf, isDigest, matches, parseDigest, type Digest } from "./digest.ts";

const PARTIAL = ".partial";
/** Larger chunks are no quicker, and cost memory: the garbage collector is always a few behind. */
const CHUNK_BYTES = 64 * 1024;
const DISK_RESERVE_BYTES = 64 * 1024 * 1024;
/** What who runs into it can do. */
export const MAKE_ROOM = `make room there (gantry system df, gantry image prune -a); of each disk ${DISK_RESERVE_BYTES / 2 ** 20} MiB stay free`;

export class ContentStore {
  readonly #root: string;
  readonly #ingest: string;
  readonly #underWay = new Map<Digest, Ingest>();

  /** Makes the folders and drops what an earlier process left half-made, but for downloads that can go on. */
  static async open(root: string): Promise<ContentStore> {
    const store = new ContentStore(root);
    for (const algorithm of ["sha256", "sha512"]) mkdirSync(join(root, "blobs", algorithm), { recursive: true, mode: 0o700 });
    mkdirSync(store.#ingest, { recursive: true, mode: 0o700 });
    for (const name of await readdir(store.#ingest)) {
      if (!name.endsWith(PARTIAL)) await rm(join(store.#ingest, name), { force: true });
    }
    if (!existsSync(join(root, "oci-layout"))) await writeFile(join(root, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }));
    return store;
  }

  private constructor(root: string) {
    this.#root = root;
    this.#ingest = join(root, "ingest");
  }

  path(digest: Digest): string {
    return join(this.#root, "blobs", algorithmOf(digest), hexOf(digest));
  }

  /** Is it here, with the size that it ought to have (a power cut may have shortened it)? */
  has(digest: Digest, sizeBytes?: number): boolean {
    const found = statSync(this.path(digest), { throwIfNoEntry: false });
    return found !== undefined && (sizeBytes === undefined || found.size === sizeBytes);
  }

  sizeBytes(digest: Digest): number {
    return statSync(this.path(digest), { throwIfNoEntry: false })?.size ?? 0;
  }

  /** A small blob (manifest, config) in memory, verified anew. Errors: "NotFound", "Invalid". */
  read(digest: Digest, maxBytes: number): Buffer {
    const size = statSync(this.path(digest), { throwIfNoEntry: false })?.size;
    if (size === undefined) throw new GantryError("NotFound", `blob ${digest} is not on this node`);
    if (size > maxBytes) throw new GantryError("Invalid", `blob ${digest} has ${size} bytes; at most ${maxBytes} are allowed here`);
    const bytes = readFileSync(this.path(digest));
    if (!matches(digest, bytes)) throw new GantryError("Invalid", `blob ${digest} is damaged on disk`);
    return bytes;
  }

  /** Reads all of a blob: is it still what its name says? */
  async verify(digest: Digest): Promise<boolean> {
    const hash = hashFor(digest);
    for await (const chunk of this.stream(digest)) hash.update(chunk);
    return hash.digest("hex") === hexOf(digest);
  }

  /** The first bytes of a blob: to tell its format. */
  head(digest: Digest, length: number): Buffer {
    const fd = openSync(this.path(digest), "r");
    try {
      const buffer = Buffer.alloc(length);
      return buffer.subarray(0, readSync(fd, buffer, 0, length, 0));
    } finally {
      closeSync(fd);
    }
  }

  /** Bytes that may still be written here: what is free, less a reserve, since a full disk stops the whole node. */
  async freeBytes(): Promise<number> {
    const disk = await statfs(this.#root);
    return Math.max(0, disk.bavail * disk.bsize - DISK_RESERVE_BYTES);
  }

  /** Refuses before the first byte what could not be stored. Errors: "RequestEntityTooLarge". */
  async ensureSpace(sizeBytes: number, what: string): Promise<void> {
    const freeBytes = await this.freeBytes();
    if (sizeBytes > freeBytes) throw new GantryError("RequestEntityTooLarge", `${what} has ${sizeBytes} bytes; ${this.#root} has only ${freeBytes} bytes to spare: ${MAKE_ROOM}`);
  }

  /** From byte `start` up to but without `end`. */
  stream(digest: Digest, start = 0, end = Number.POSITIVE_INFINITY): AsyncIterable<Uint8Array> {
    if (end <= start) return Readable.from([]);
    return createReadStream(this.path(digest), { highWaterMark: CHUNK_BYTES, start, end: end - 1 }) as AsyncIterable<Uint8Array>;
  }

  /** When the blob came here, Unix epoch ms; 0 when it is not here. */
  arrivedMs(digest: Digest): number {
    return statSync(this.path(digest), { throwIfNoEntry: false })?.mtimeMs ?? 0;
  }

  /** A download of this digest that is under way here, for those who want to read along. */
  underWay(digest: Digest): Ingest | undefined {
    return this.#underWay.get(digest);
  }

  async put(bytes: Uint8Array): Promise<{ readonly digest: Digest; readonly sizeBytes: number }> {
    const digest = digestOf(bytes);
    await this.write([bytes], { expected: digest });
    return { digest, sizeBytes: bytes.length };
  }

  /** Stores a stream under the digest that it turns out to have. Errors: "Invalid" when `expected` is another one. */
  async write(
    source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>, options: { readonly expected?: Digest; readonly what?: string; readonly onDigest?: (digest: Digest) => void } = {},
  ): Promise<{ readonly digest: Digest; readonly sizeBytes: number }> {
    const path = join(this.#ingest, newId());
    const algorithm = options.expected === undefined ? "sha256" : algorithmOf(options.expected);
    const hash = createHash(algorithm);
    const file = await open(path, "wx", 0o600);
    try {
      let sizeBytes = 0;
      for await (const chunk of source) {
        hash.update(chunk);
        await writeAll(file, chunk);
        sizeBytes += chunk.length;
      }
      const digest = parseDigest(`${algorithm}:${hash.digest("hex")}`, "hash");
      if (options.expected !== undefined && digest !== options.expected) {
        throw new GantryError("Invalid", `${options.what ?? "blob"} ${options.expected} has the digest ${digest}: it is damaged or was tampered with`);
      }
      // Before it can be seen, so that the caller can keep garbage collection away from it.
      options.onDigest?.(digest);
      await file.datasync();
      await file.close();
      await rename(path, this.path(digest));
      return { digest, sizeBytes };
    } catch (error) {
      await file.close().catch(() => undefined);
      await rm(path, { force: true });
      throw error;
    }
  }

  /** Goes on with a download, perhaps of an earlier process: `offsetBytes` are here and hashed. One at a time per digest. */
  async resume(digest: Digest, sizeBytes: number): Promise<Ingest> {
    const path = join(this.#ingest, `${digest.replace(":", "-")}${PARTIAL}`);
    const have = (await stat(path).catch(() => undefined))?.size ?? 0;
    await this.ensureSpace(sizeBytes - have, `blob ${digest}`);
    const file = await open(path, "a+", 0o600);
    try {
      const ingest = new Ingest(file, path, this.path(digest), digest, sizeBytes, () => void this.#underWay.delete(digest));
      await ingest.recover();
      this.#underWay.set(digest, ingest);
      return ingest;
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  async *digests(): AsyncGenerator<Digest, void> {
    for (const algorithm of ["sha256", "sha512"]) {
      for (const hex of await readdir(join(this.#root, "blobs", algorithm))) {
        const digest = `${algorithm}:${hex}`;
        if (isDigest(digest)) yield digest;
      }
    }
  }

  /** Returns the bytes freed, 0 when somebody else deletes it at the same time. Gone at once, before the first turn of the event loop: nobody can find it and then lose it. */
  async delete(digest: Digest): Promise<number> {
    const size = this.sizeBytes(digest);
    const trash = join(this.#ingest, newId());
    if (!renamedIfThere(this.path(digest), trash)) return 0;
    await rm(trash, { force: true });
    return size;
  }

  /** Half-made downloads that nobody (`wanted`) goes on with. Returns the bytes freed. */
  async deletePartials(wanted: ReadonlySet<Digest>): Promise<number> {
    let freed = 0;
    for (const name of await readdir(this.#ingest)) {
      const digest = name.replace("-", ":").slice(0, -PARTIAL.length);
      if (!name.endsWith(PARTIAL) || wanted.has(digest as Digest)) continue;
      const path = join(this.#ingest, name);
      freed += (await stat(path).catch(() => undefined))?.size ?? 0;
      await rm(path, { force: true });
    }
    return freed;
  }
}

/** A blob on its way in. Exactly one of commit and close ends it; close keeps what came so far. */
export class Ingest {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly #file: FileHandle;
  readonly #path: string;
  readonly #target: string;
  readonly #onEnd: () => void;
  #hash: Hash;
  #offset = 0;
  /** Rises with each reset: who reads along then has the wrong bytes. */
  #generation = 0;
  #ended = false;
  #wake: (() => void)[] = [];

  constructor(file: FileHandle, path: string, target: string, digest: Digest, sizeBytes: number, onEnd: () => void) {
    this.#file = file;
    this.#path = path;
    this.#target = target;
    this.#onEnd = onEnd;
    this.digest = digest;
    this.sizeBytes = sizeBytes;
    this.#hash = hashFor(digest);
  }

  get offsetBytes(): number {
    return this.#offset;
  }

  /** Hashes what an earlier process left. */
  async recover(): Promise<void> {
    const { size } = await this.#file.stat();
    if (size > this.sizeBytes) return this.reset();
    if (size === 0) return undefined;
    for await (const chunk of createReadStream(this.#path, { highWaterMark: CHUNK_BYTES }) as AsyncIterable<Buffer>) {
      this.#hash.update(chunk);
      this.#offset += chunk.length;
    }
    return undefined;
  }

  /** Errors: "Invalid" when more comes than was announced. */
  async append(chunk: Uint8Array): Promise<void> {
    if (this.#offset + chunk.length > this.sizeBytes) {
      throw new GantryError("Invalid", `blob ${this.digest} has more than the announced ${this.sizeBytes} bytes`);
    }
    this.#hash.update(chunk);
    await writeAll(this.#file, chunk);
    this.#offset += chunk.length;
    this.#notify();
  }

  /**
   * What is here from byte `start` on, and what comes as it comes, to the announced size. Unverified: the reader has to check it. Throws when the
   * download is given up or starts over.
   */
  async *follow(start: number, signal: AbortSignal): AsyncGenerator<Uint8Array, void> {
    const generation = this.#generation;
    // Opened once: it stays readable when the file gets its name, or loses it.
    const file = await open(this.#path, "r");
    try {
      for (let at = start; at < this.sizeBytes;) {
        if (signal.aborted) throw new GantryError("Cancelled", "was cancelled");
        if (generation !== this.#generation) throw new GantryError("ServiceUnavailable", `the download of ${this.digest} starts over`);
        const there = Math.min(this.#offset, this.sizeBytes);
        if (at < there) {
          const buffer = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, there - at));
          const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
          if (bytesRead === 0) throw new GantryError("ServiceUnavailable", `the download of ${this.digest} starts over`);
          at += bytesRead;
          yield buffer.subarray(0, bytesRead);
        } else if (this.#ended) {
          throw new GantryError("ServiceUnavailable", `the download of ${this.digest} was given up`);
        } else {
          await new Promise<void>((resolve) => {
            const wake = (): void => {
              signal.removeEventListener("abort", wake);
              resolve();
            };
            signal.addEventListener("abort", wake, { once: true });
            this.#wake.push(wake);
          });
        }
      }
    } finally {
      await file.close();
    }
  }

  #notify(): void {
    for (const wake of this.#wake.splice(0)) wake();
  }

  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#onEnd();
    this.#notify();
  }

  /** Starts over: what came was not the right thing. */
  async reset(): Promise<void> {
    await this.#file.truncate(0);
    this.#hash = hashFor(this.digest);
    this.#offset = 0;
    this.#generation++;
    this.#notify();
  }

  /** Does the whole of it have the digest? Only then may it be committed. */
  verify(): boolean {
    return this.#offset === this.sizeBytes && this.#hash.copy().digest("hex") === hexOf(this.digest);
  }

  async commit(): Promise<void> {
    if (!this.verify()) throw new GantryError("Invalid", `blob ${this.digest} is damaged`);
    await this.#file.datasync();
    await this.#file.close();
    await rename(this.#path, this.#target);
    this.#end();
  }

  async close(): Promise<void> {
    this.#end();
    await this.#file.close();
  }
}

const writeAll = async (file: FileHandle, chunk: Uint8Array): Promise<void> => {
  for (let done = 0; done < chunk.length;) done += (await file.write(chunk, done, chunk.length - done)).bytesWritten;
};

/** False when there is nothing (any more) at `from`. */
export const renamedIfThere = (from: string, to: string): boolean => {
  try {
    renameSync(from, to);
    return true;
  } catch (error) {
    if (isErrno(error, "ENOENT")) return false;
    throw error;
  }
};
