// Directories of RUN --mount=type=cache: one for each id, kept from build to build below DIRECTORY, gone when nobody used them for long.
import { createHash } from "node:crypto";
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, renameSync, statSync, utimesSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import { GantryError } from "../../base/errors.ts";
import { newId } from "../../base/ids.ts";

export interface CacheMountRequest {
  readonly id: string;
  /** shared: all at once; locked: one after another; private: one of its own for each that is at it. */
  readonly sharing: "shared" | "private" | "locked";
  /** Of a directory that is made now. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Fills a directory that is made now. */
  readonly seed: (directory: string) => Promise<void>;
  readonly signal: AbortSignal;
}

const MAX_AGE_MS = 14 * 86_400_000;

export class CacheMounts {
  readonly #directory: string;
  readonly #clock: Clock;
  /** How many are at a directory, by its name. */
  readonly #users = new Map<string, number>();
  /** Who waits for the lock of a name. */
  readonly #waiting = new Map<string, (() => void)[]>();
  readonly #making = new Map<string, Promise<void>>();

  constructor(directory: string, clock: Clock) {
    this.#directory = directory;
    this.#clock = clock;
    mkdirSync(directory, { recursive: true, mode: 0o700 });
  }

  async take(request: CacheMountRequest): Promise<Disposable & { readonly directory: string }> {
    const name = await this.#reserve(createHash("sha256").update(request.id).digest("hex").slice(0, 32), request);
    const directory = join(this.#directory, name);
    try {
      if (!this.#making.has(name)) this.#making.set(name, this.#make(directory, request).finally(() => this.#making.delete(name)));
      await this.#making.get(name);
      const nowS = this.#clock.nowMs() / 1000;
      utimesSync(directory, nowS, nowS);
    } catch (error) {
      this.#release(name);
      throw error;
    }
    return { directory, [Symbol.dispose]: () => this.#release(name) };
  }

  /** Called while no build runs, or harmless: what is in use is newer. Also half-made ones of an earlier process. */
  async prune(maxAgeMs = MAX_AGE_MS): Promise<void> {
    for (const name of readdirSync(this.#directory)) {
      const path = join(this.#directory, name);
      const isOld = name.startsWith(".") || this.#clock.nowMs() - statSync(path).mtimeMs > maxAgeMs;
      if (isOld && !this.#users.has(name) && this.#making.size === 0) await rm(path, { recursive: true, force: true });
    }
  }

  async #reserve(base: string, { sharing, signal, id }: CacheMountRequest): Promise<string> {
    if (sharing === "private") {
      let name = base;
      for (let n = 2; this.#users.has(name); n++) name = `${base}-${n}`;
      this.#users.set(name, 1);
      return name;
    }
    if (sharing === "locked" && this.#users.has(base)) {
      await new Promise<void>((resolve, reject) => {
        const queue = this.#waiting.get(base) ?? [];
        this.#waiting.set(base, queue);
        const onAbort = (): void => {
          queue.splice(queue.indexOf(go), 1);
          reject(new GantryError("Cancelled", `the wait for the cache mount ${id} was cancelled`));
        };
        const go = (): void => {
          signal.removeEventListener("abort", onAbort);
          resolve();
        };
        queue.push(go);
        signal.addEventListener("abort", onAbort, { once: true });
      });
      return base; // handed over by #release, count and all
    }
    this.#users.set(base, (this.#users.get(base) ?? 0) + 1);
    return base;
  }

  #release(name: string): void {
    const left = (this.#users.get(name) ?? 1) - 1;
    const next = left === 0 ? this.#waiting.get(name)?.shift() : undefined;
    if (next !== undefined) {
      next();
      return;
    }
    if (left === 0) this.#users.delete(name);
    else this.#users.set(name, left);
  }

  async #make(directory: string, { mode, uid, gid, seed }: CacheMountRequest): Promise<void> {
    if (existsSync(directory)) return;
    const half = join(this.#directory, `.${newId()}`);
    mkdirSync(half);
    await seed(half);
    chownSync(half, uid, gid);
    chmodSync(half, mode);
    renameSync(half, directory);
  }
}
