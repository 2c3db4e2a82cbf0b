// Unpacked layers, each once per node, by diff ID: layers/<hex>/fs is an overlayfs lower directory shared by every container whose image has it.
// A layer stands under its name only when it is complete and its bytes were verified. Only this file writes below layers/.
import { existsSync, mkdirSync, readFileSync, statSync } from "node:fs";
import { mkdir, readdir, rename, rm, writeFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { GantryError, describeError, isCode } from "../../base/errors.ts";
import { newId } from "../../base/ids.ts";
import type { Clock } from "../../base/clock.ts";
import type { Logger } from "../../base/logger.ts";
import type { Metrics } from "../../base/metrics.ts";
import { spreadDirectories } from "../linux/directories.ts";
import { MAKE_ROOM, renamedIfThere, type ContentStore } from "./content-store.ts";
import { hexOf, type Digest } from "./digest.ts";
import type { ExtractCalls, ExtractLimits } from "./extract.ts";
import { SharedTasks, Slots, throwIfAborted } from "./shared-task.ts";
import { UnpackThreads } from "./unpack-threads.ts";

export interface LayerStoreOptions {
  readonly root: string;
  readonly content: ContentStore;
  readonly limits: ExtractLimits;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly calls?: ExtractCalls;
  readonly bootId?: string;
}

interface LayerRecord {
  readonly bytes: number;
  readonly entries: number;
  /** The boot in which it was unpacked; "" once its files are surely on disk. */
  readonly bootId: string;
}

/** By then the kernel has written everything back (vm.dirty_expire_centisecs is 30 s, vm.dirty_writeback_centisecs 5 s). */
const SETTLED_AFTER_MS = 120_000;
/** Unpacking is bound by the processors and the disk: more at once would only take memory. */
const LEAST_AT_ONCE = 2;
const MOST_AT_ONCE = 4;

export class LayerStore {
  readonly #options: LayerStoreOptions;
  readonly #root: string;
  readonly #bootId: string;
  readonly #tasks = new SharedTasks<void>();
  readonly #slots: Slots;
  readonly #threads: UnpackThreads;
  readonly #seconds;

  static async open(options: LayerStoreOptions): Promise<LayerStore> {
    const store = new LayerStore(options);
    mkdirSync(store.#root, { recursive: true, mode: 0o700 });
    spreadDirectories(store.#root);
    await store.#cleanUp();
    return store;
  }

  private constructor(options: LayerStoreOptions) {
    this.#options = options;
    this.#root = join(options.root, "layers");
    this.#slots = new Slots(Math.min(MOST_AT_ONCE, Math.max(LEAST_AT_ONCE, availableParallelism() - 1)));
    this.#threads = new UnpackThreads(options.clock, options.calls);
    this.#bootId = options.bootId ?? readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
    this.#seconds = options.metrics.histogram("gantry_image_unpack_seconds", "Time to unpack one image layer.");
  }

  close(): void {
    this.#threads.close();
  }

  directory(diffId: Digest): string {
    return join(this.#root, hexOf(diffId), "fs");
  }

  has(diffId: Digest): boolean {
    return existsSync(this.directory(diffId));
  }

  /** Size of its files; 0 when it is not here. */
  bytesOf(diffId: Digest): number {
    return this.#read(hexOf(diffId))?.bytes ?? 0;
  }

  /** A layer of this size, compressed, is to be unpacked soon. */
  expect(blobBytes: number): void {
    this.#threads.expect(blobBytes);
  }

  /** Unpacks the blob unless the layer is here. Errors: "Invalid" (damaged, unsafe, not what the diff ID says), "RequestEntityTooLarge", "Cancelled". */
  async unpack(diffId: Digest, blob: Digest, what: string, signal: AbortSignal): Promise<void> {
    if (this.has(diffId)) return;
    await this.#tasks.run(diffId, signal, (shared) => this.#slots.run(async () => {
      throwIfAborted(shared);
      if (!this.has(diffId)) await this.#unpack(diffId, blob, what, shared);
    }));
  }

  async #unpack(diffId: Digest, blob: Digest, what: string, signal: AbortSignal): Promise<void> {
    const { clock, content, limits, logger } = this.#options;
    const startedMs = clock.monotonicMs();
    const temporary = join(this.#root, `.${newId()}`);
    await mkdir(join(temporary, "fs"), { recursive: true, mode: 0o700 });
    try {
      const freeBytes = await content.freeBytes();
      const order = { blob: content.path(blob), blobBytes: content.sizeBytes(blob), diffId, root: join(temporary, "fs"), what, limits: { ...limits, maxBytes: Math.min(limits.maxBytes, freeBytes) } };
      const extracted = await this.#threads.run(order, signal).catch((error: unknown) => {
        if (isCode(error, "RequestEntityTooLarge") && freeBytes < limits.maxBytes) {
          throw new GantryError("RequestEntityTooLarge", `${error.message}: more than the disk of ${this.#root} has to spare: ${MAKE_ROOM}`);
        }
        throw error;
      });
      if (extracted.skipped.length > 0) logger.warn("left out of an image layer: devices or attributes that this node does not make", { layer: diffId, entries: extracted.skipped.slice(0, 10), count: extracted.skipped.length });
      await this.#record(temporary, { bytes: extracted.bytes, entries: extracted.entries, bootId: this.#bootId });
      await rename(temporary, join(this.#root, hexOf(diffId)));
      clock.setTimer(SETTLED_AFTER_MS, () => void this.#settle(diffId));
      this.#seconds.observe((clock.monotonicMs() - startedMs) / 1000);
    } catch (error) {
      await rm(temporary, { recursive: true, force: true });
      throw error;
    }
  }

  /** Takes a directory that was made here as the unpacked layer; it is gone from its place afterwards. `bytes`: its size as tar. */
  async adopt(diffId: Digest, directory: string, bytes: number): Promise<void> {
    if (this.has(diffId)) return;
    const temporary = join(this.#root, `.${newId()}`);
    await mkdir(temporary, { mode: 0o700 });
    try {
      await rename(directory, join(temporary, "fs"));
      await this.#record(temporary, { bytes, entries: 0, bootId: this.#bootId });
      await rename(temporary, join(this.#root, hexOf(diffId)));
      this.#options.clock.setTimer(SETTLED_AFTER_MS, () => void this.#settle(diffId));
    } catch (error) {
      await rm(temporary, { recursive: true, force: true });
      // The same layer came from elsewhere meanwhile.
      if (!this.has(diffId)) throw error;
    }
  }

  async *diffIds(): AsyncGenerator<string, void> {
    for (const name of await readdir(this.#root)) {
      if (!name.startsWith(".")) yield name;
    }
  }

  /**
   * Returns the bytes freed, 0 when somebody else deletes it at the same time. The name goes first, and at once: a half-deleted layer never looks like a whole one, and nobody can find it
   * and then lose it.
   */
  async delete(hex: string): Promise<number> {
    const bytes = this.#read(hex)?.bytes ?? 0;
    const trash = join(this.#root, `.${newId()}`);
    if (!renamedIfThere(join(this.#root, hex), trash)) return 0;
    await rm(trash, { recursive: true, force: true });
    return bytes;
  }

  /** Half-made layers of an earlier process; and layers that a power cut, or whatever ended the last boot, may have caught before they were on disk. */
  async #cleanUp(): Promise<void> {
    for (const name of await readdir(this.#root)) {
      const record = name.startsWith(".") ? undefined : this.#read(name);
      if (record !== undefined && (record.bootId === "" || record.bootId === this.#bootId)) {
        if (record.bootId !== "") this.#options.clock.setTimer(SETTLED_AFTER_MS, () => void this.#settleName(name));
        continue;
      }
      if (!name.startsWith(".")) this.#options.logger.info("an image layer was not surely on disk when the machine went down; it is unpacked anew", { layer: name });
      await rm(join(this.#root, name), { recursive: true, force: true });
    }
  }

  #read(name: string): LayerRecord | undefined {
    try {
      if (!statSync(join(this.#root, name, "fs")).isDirectory()) return undefined;
      const record = JSON.parse(readFileSync(join(this.#root, name, "layer.json"), "utf8")) as LayerRecord;
      return typeof record.bootId === "string" && typeof record.bytes === "number" ? record : undefined;
    } catch {
      return undefined;
    }
  }

  async #record(directory: string, record: LayerRecord): Promise<void> {
    const temporary = join(directory, "layer.json.new");
    await writeFile(temporary, JSON.stringify(record), { flush: true });
    await rename(temporary, join(directory, "layer.json"));
  }

  #settle(diffId: Digest): Promise<void> {
    return this.#settleName(hexOf(diffId));
  }

  async #settleName(name: string): Promise<void> {
    const record = this.#read(name);
    if (record === undefined || record.bootId === "") return;
    await this.#record(join(this.#root, name), { ...record, bootId: "" }).catch((error: unknown) => {
      // Harmless: it is unpacked anew after the next boot.
      this.#options.logger.debug("could not mark an image layer as settled", { layer: name, err: describeError(error) });
    });
  }
}
