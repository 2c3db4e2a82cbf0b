// Removes images that nothing uses: when they are old, and when the disk is nearly full, the longest unused first. Never what a pod uses or is
// about to; and last of all what was made in the cluster, for no registry may have it. Owns when an image was last used, and the file in which that outlives a restart; without it an image counts as unused since it came here.
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import type { Clock } from "../../base/clock.ts";
import { describeError } from "../../base/errors.ts";
import type { Logger } from "../../base/logger.ts";
import type { Metrics } from "../../base/metrics.ts";
import type { Image, ImageService } from "./image-service.ts";

export interface CollectorOptions {
  readonly images: Pick<ImageService, "list" | "untag" | "collectGarbage" | "arrivedMs" | "isMadeHere">;
  /** Image ids. */
  readonly inUse: () => ReadonlySet<string>;
  /** Of the file system that holds the images. */
  readonly disk: () => Promise<{ readonly capacityBytes: number; readonly availableBytes: number }>;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** Image id -> when it was last used, as JSON. Absent: not kept. */
  readonly stateFile?: string;
  readonly periodMs: number;
  /** What was used within this time stays, however full the disk is. */
  readonly minAgeMs: number;
  /** What was not used for this long goes; 0: never for its age alone. */
  readonly maxAgeMs: number;
  /** Of the disk: above `high` images go until it is below `low`. */
  readonly highPercent: number;
  readonly lowPercent: number;
}

const readLastUsed = (path: string | undefined): Map<string, number> => {
  try {
    return new Map(path === undefined ? [] : Object.entries(JSON.parse(readFileSync(path, "utf8")) as Record<string, unknown>).filter((entry): entry is [string, number] => typeof entry[1] === "number"));
  } catch {
    return new Map(); // the first start, or half a file
  }
};

export class ImageCollector {
  readonly #options: CollectorOptions;
  readonly #lastUsedMs: Map<string, number>;
  readonly #freed;
  #timer: Disposable | undefined;
  #running: Promise<unknown> = Promise.resolve();
  #closed = false;

  constructor(options: CollectorOptions) {
    this.#options = options;
    this.#lastUsedMs = readLastUsed(options.stateFile);
    this.#freed = options.metrics.counter("gantry_image_collected_bytes_total", "Bytes of images that were removed because nothing used them, by why.", ["reason"]);
  }

  start(): void {
    this.#timer = this.#options.clock.setTimer(this.#options.periodMs, () => {
      this.run().catch((error: unknown) => this.#options.logger.warn("images could not be collected", { err: describeError(error) })).finally(() => {
        if (!this.#closed) this.start();
      });
    });
  }

  close(): void {
    this.#closed = true;
    this.#timer?.[Symbol.dispose]();
  }

  /** One round. Returns the bytes freed. */
  run(): Promise<number> {
    return this.#oneByOne(async () => {
      const { maxAgeMs, minAgeMs, highPercent, lowPercent, disk, logger } = this.#options;
      this.#note();
      let freed = 0;
      if (maxAgeMs > 0) freed += await this.#remove(Math.max(maxAgeMs, minAgeMs), Number.POSITIVE_INFINITY, "age");
      const { capacityBytes, availableBytes } = await disk();
      const usedPercent = capacityBytes === 0 ? 0 : 100 - (availableBytes / capacityBytes) * 100;
      if (usedPercent < highPercent) return freed;
      const wanted = Math.ceil(((usedPercent - lowPercent) / 100) * capacityBytes);
      const relieved = await this.#remove(minAgeMs, wanted, "disk");
      if (relieved < wanted) logger.warn("the disk is nearly full, and no more images can be removed: all others are in use or new", { usedPercent: Math.round(usedPercent), wantedBytes: wanted, freedBytes: relieved });
      return freed + relieved;
    });
  }

  /** For those who need space now: removes unused images, the longest unused first, until so many bytes are free. Returns the bytes freed. */
  relieve(wantedBytes: number): Promise<number> {
    return this.#oneByOne(async () => {
      this.#note();
      return this.#remove(this.#options.minAgeMs, wantedBytes, "disk");
    });
  }

  #oneByOne<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#running.then(work);
    this.#running = done.catch(() => undefined);
    return done;
  }

  #note(): void {
    const { images, inUse, clock } = this.#options;
    const used = inUse();
    const here = new Set(images.list().map((image) => image.id));
    for (const id of used) this.#lastUsedMs.set(id, clock.nowMs());
    for (const id of this.#lastUsedMs.keys()) if (!here.has(id)) this.#lastUsedMs.delete(id);
    const { stateFile } = this.#options;
    if (stateFile === undefined) return;
    // Losing the last minutes of it costs nothing that a pull doesn't bring back: no sync.
    writeFileSync(`${stateFile}.new`, JSON.stringify(Object.fromEntries(this.#lastUsedMs)));
    renameSync(`${stateFile}.new`, stateFile);
  }

  #unusedSinceMs(image: Image): number {
    return this.#lastUsedMs.get(image.id) ?? this.#options.images.arrivedMs(image);
  }

  async #remove(olderThanMs: number, wantedBytes: number, reason: string): Promise<number> {
    const { images, inUse, clock, logger } = this.#options;
    const before = clock.nowMs() - olderThanMs;
    const candidates = images.list().filter((image) => this.#unusedSinceMs(image) <= before)
      .sort((a, b) => Number(images.isMadeHere(a)) - Number(images.isMadeHere(b)) || this.#unusedSinceMs(a) - this.#unusedSinceMs(b));
    let freed = 0;
    for (const image of candidates) {
      if (freed >= wantedBytes) break;
      // Asked anew each time: a pod may have come while the one before was deleted.
      if (inUse().has(image.id)) continue;
      await images.untag(image.names);
      const bytes = await images.collectGarbage(inUse(), (other) => other.id !== image.id);
      freed += bytes;
      logger.info("image removed: nothing uses it", { image: image.names[0] ?? image.id, reason, freedBytes: bytes });
    }
    if (freed > 0) this.#freed.inc({ reason }, freed);
    return freed;
  }
}
