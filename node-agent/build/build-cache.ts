// What build steps gave, by what they depend on. One small file a step below DIRECTORY, with the time of its last use as its own: whoever kills the agent
// loses at most the last few. Layers that it names are spared by garbage collection until prune() drops the entry.
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import { newId } from "../../base/ids.ts";
import { isDigest, type Digest } from "../images/digest.ts";
import type { MadeLayer } from "../images/image-maker.ts";

export interface CachedStep {
  /** undefined: it changed no file. */
  readonly layer: MadeLayer | undefined;
  readonly createdMs: number;
}

interface Entry extends CachedStep {
  usedMs: number;
}

const MAX_AGE_MS = 7 * 86_400_000;
const MAX_BYTES = 20 * 1024 ** 3;
/** A time of use that is newer is as good as now: no write. */
const TOUCH_AFTER_MS = 60_000;

/** A key: of everything that decides what a step gives. */
export const cacheKey = (...parts: readonly unknown[]): string => createHash("sha256").update(JSON.stringify(parts)).digest("hex");

export class BuildCache {
  readonly #directory: string;
  readonly #clock: Clock;
  readonly #entries = new Map<string, Entry>();

  constructor(directory: string, clock: Clock) {
    this.#directory = directory;
    this.#clock = clock;
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    for (const name of readdirSync(directory)) {
      const path = join(directory, name);
      const step = /^[0-9a-f]{64}$/.test(name) ? readStep(path) : undefined;
      if (step === undefined) rmSync(path, { force: true });
      else this.#entries.set(name, { ...step, usedMs: statSync(path).mtimeMs });
    }
  }

  get(key: string): CachedStep | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    const nowMs = this.#clock.nowMs();
    if (nowMs - entry.usedMs > TOUCH_AFTER_MS) {
      entry.usedMs = nowMs;
      utimesSync(join(this.#directory, key), nowMs / 1000, nowMs / 1000);
    }
    return entry;
  }

  put(key: string, step: CachedStep): void {
    const temporary = join(this.#directory, `.${newId()}`);
    writeFileSync(temporary, JSON.stringify(step), { mode: 0o600 });
    renameSync(temporary, join(this.#directory, key));
    this.#entries.set(key, { ...step, usedMs: this.#clock.nowMs() });
  }

  drop(key: string): void {
    this.#entries.delete(key);
    rmSync(join(this.#directory, key), { force: true });
  }

  *digests(): Generator<Digest, void> {
    for (const { layer } of this.#entries.values()) {
      if (layer === undefined) continue;
      yield layer.diffId;
      yield layer.blob.digest;
    }
  }

  /** Drops what was not used for long, and the longest unused above the limit of bytes. */
  prune(maxAgeMs = MAX_AGE_MS, maxBytes = MAX_BYTES): void {
    const nowMs = this.#clock.nowMs();
    let bytes = 0;
    for (const [key, { layer, usedMs }] of [...this.#entries].sort(([, a], [, b]) => b.usedMs - a.usedMs)) {
      bytes += layer?.blob.sizeBytes ?? 0;
      if (nowMs - usedMs > maxAgeMs || bytes > maxBytes) this.drop(key);
    }
  }
}

const readStep = (path: string): CachedStep | undefined => {
  try {
    const { layer, createdMs } = JSON.parse(readFileSync(path, "utf8")) as Partial<CachedStep>;
    if (typeof createdMs !== "number" || (layer !== undefined && !(isDigest(layer.diffId) && isDigest(layer.blob.digest)))) return undefined;
    return { layer, createdMs };
  } catch {
    return undefined;
  }
};
