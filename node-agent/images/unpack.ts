// One layer, from its blob to a directory: taken apart, unpacked, and hashed on the way.
import { closeSync, openSync, readSync } from "node:fs";
import { GantryError } from "../../base/errors.ts";
import { decompressed } from "./decompress.ts";
import { algorithmOf, hashFor, type Digest } from "./digest.ts";
import { extractLayer, type ExtractCalls, type ExtractLimits, type Extracted } from "./extract.ts";
import { throwIfAborted } from "./shared-task.ts";
import { TarReader } from "./tar.ts";

/** Plain data: it goes to another thread as it is. */
export interface UnpackOrder {
  /** Path of the blob. */
  readonly blob: string;
  readonly blobBytes: number;
  /** What the unpacked bytes must hash to. */
  readonly diffId: Digest;
  /** An empty directory. */
  readonly root: string;
  /** Names the layer in errors. */
  readonly what: string;
  readonly limits: ExtractLimits;
}

const READ_BYTES = 256 * 1024;

/** By synchronous reads: they come out of the page cache mostly, where a stream would go through the thread pool for each. */
async function* blobPieces(path: string): AsyncGenerator<Uint8Array, void> {
  const fd = openSync(path, "r");
  try {
    for (;;) {
      const buffer = Buffer.allocUnsafe(READ_BYTES);
      const bytes = readSync(fd, buffer);
      if (bytes === 0) return;
      yield buffer.subarray(0, bytes);
    }
  } finally {
    closeSync(fd);
  }
}

/** Smaller ones may unpack as they like: they can do no harm. */
const RATIO_FROM_BYTES = 1024 ** 3;

/** Errors: "Invalid" (damaged, unsafe, not what the diff ID says), "RequestEntityTooLarge", "Cancelled", or the file system's own. What was made stays. */
export const unpackBlob = async (order: UnpackOrder, signal: AbortSignal, calls?: ExtractCalls): Promise<Extracted> => {
  const { blobBytes, diffId, limits, what } = order;
  const ratioBytes = limits.maxRatio === 0 ? Number.POSITIVE_INFINITY : Math.max(limits.ratioFromBytes ?? RATIO_FROM_BYTES, limits.maxRatio * blobBytes);
  const hash = hashFor(diffId);
  let unpackedBytes = 0;
  const hashed = async function* (): AsyncGenerator<Uint8Array, void> {
    for await (const chunk of decompressed(blobPieces(order.blob), what)) {
      throwIfAborted(signal);
      // Of all that comes out, not of the files alone: headers and what follows the archive cost time, too.
      unpackedBytes += chunk.length;
      if (unpackedBytes > ratioBytes) {
        throw new GantryError("RequestEntityTooLarge", `${what} unpacks to more than ${limits.maxRatio} times its ${blobBytes} bytes: it looks like an archive made to fill disks (--image-max-ratio allows more)`);
      }
      hash.update(chunk);
      yield chunk;
    }
  };
  const tar = new TarReader(hashed(), what);
  try {
    const extracted = await extractLayer(tar, order.root, limits, what, calls);
    await tar.drain();
    const actual = `${algorithmOf(diffId)}:${hash.digest("hex")}`;
    if (actual !== diffId) throw new GantryError("Invalid", `${what} unpacks to ${actual}, but the image's config says ${diffId}`);
    return extracted;
  } catch (error) {
    await tar.close().catch(() => undefined);
    throw error;
  }
};
