// Takes off gzip or zstd, told by the first bytes (media types lie, and docker's archives have none); anything else passes as it is.
import type { Transform } from "node:stream";
import { setImmediate as nextTurn } from "node:timers/promises";
import { createZstdDecompress } from "node:zlib";
import { Gunzip } from "minizlib";
import { GantryError } from "../../base/errors.ts";

const OUTPUT_BYTES = 256 * 1024;
/** What goes in at a time, at first and at most: it may come out a thousandfold, and all of that at once. */
const GZIP_FIRST_BYTES = 4 * 1024;
const GZIP_MOST_BYTES = 32 * 1024;
/** Then the event loop has its turn: some ms of work. */
const BYTES_PER_TURN = 2 * 1024 * 1024;

/** Errors: "Invalid" when the compressed data is damaged or cut off. */
export async function* decompressed(source: AsyncIterable<Uint8Array>, what: string): AsyncGenerator<Uint8Array, void> {
  const iterator = source[Symbol.asyncIterator]();
  let head: Uint8Array = new Uint8Array(0);
  try {
    while (head.length < 4) {
      const { value, done } = await iterator.next();
      if (done === true) break;
      head = head.length === 0 ? value : Buffer.concat([head, value]);
    }
    const gzip = head[0] === 0x1f && head[1] === 0x8b;
    const zstd = head.length >= 4 && ((head[0] === 0x28 && head[1] === 0xb5 && head[2] === 0x2f && head[3] === 0xfd) ||
      // A skippable frame (seekable zstd, zstd:chunked) may come first: RFC 8878, section 3.1.2.
      ((head[0]! & 0xf0) === 0x50 && head[1] === 0x2a && head[2] === 0x4d && head[3] === 0x18));
    const whole = prepend(head, iterator);
    if (gzip) yield* gunzip(whole, what);
    else if (zstd) yield* unzstd(whole, what);
    else yield* whole;
  } finally {
    await iterator.return?.();
  }
}

async function* prepend(head: Uint8Array, rest: AsyncIterator<Uint8Array>): AsyncGenerator<Uint8Array, void> {
  if (head.length > 0) yield head;
  for (let next = await rest.next(); next.done !== true; next = await rest.next()) yield next.value;
}

const damaged = (what: string, cause: unknown): unknown =>
  cause instanceof Error && /^(Z_|ZSTD_|ERR_ZSTD)/.test((cause as NodeJS.ErrnoException).code ?? "")
    ? new GantryError("Invalid", `${what}: the compressed data is damaged or cut off`, { cause })
    : cause;

/**
 * In this thread: Node's own streams hand each piece to a thread of the pool and back, which takes twice the processor time in all
 * (bench/engine/pull.ts). Who unpacks much does it in a thread of its own.
 */
async function* gunzip(source: AsyncIterable<Uint8Array>, what: string): AsyncGenerator<Uint8Array, void> {
  const options: ConstructorParameters<typeof Gunzip>[0] & { readonly chunkSize: number } = { chunkSize: OUTPUT_BYTES }; // handed on to node:zlib; its types forgot it
  const inflater = new Gunzip(options);
  let pieces: Uint8Array[] = [];
  let failure: Error | undefined;
  let [total, atTurn] = [0, 0];
  inflater.on("data", (piece: Uint8Array) => {
    pieces.push(piece);
    total += piece.length;
  });
  inflater.on("error", (error) => (failure = error as Error));
  const out = (): readonly Uint8Array[] => {
    const ready = pieces;
    pieces = [];
    if (failure) throw damaged(what, failure);
    return ready;
  };
  try {
    let step = GZIP_FIRST_BYTES;
    for await (const chunk of source) {
      for (let at = 0; at < chunk.length;) {
        const input = Buffer.from(chunk.buffer, chunk.byteOffset + at, Math.min(step, chunk.length - at));
        const before = total;
        inflater.write(input);
        yield* out();
        at += input.length;
        // As much as would come out of the like of it within one turn.
        step = Math.ceil(Math.min(GZIP_MOST_BYTES, BYTES_PER_TURN / Math.max(1, (total - before) / input.length)));
        if (total - atTurn < BYTES_PER_TURN) continue;
        atTurn = total;
        await nextTurn();
      }
    }
    inflater.end();
    yield* out();
  } finally {
    inflater.close();
  }
}

/**
 * Zstd files may have several frames, and Node's decoder (24) ends after the first when a chunk goes on behind it: the rest of the
 * chunk then goes to a new decoder.
 */
async function* unzstd(source: AsyncIterator<Uint8Array>, what: string): AsyncGenerator<Uint8Array, void> {
  let rest: Uint8Array | undefined;
  /** True when the source is at its end. */
  const feed = async (decoder: Transform & { readonly bytesWritten: number }): Promise<boolean> => {
    try {
      for (;;) {
        const next = rest === undefined ? await source.next() : { done: false, value: rest };
        if (next.done === true) {
          decoder.end();
          return true;
        }
        const piece: Uint8Array = next.value;
        const before = decoder.bytesWritten;
        await new Promise<void>((resolve, reject) => void decoder.write(piece, (error) => (error ? reject(error) : resolve())));
        const used = decoder.bytesWritten - before;
        rest = used < piece.length ? piece.subarray(used) : undefined;
        if (rest !== undefined) return false;
      }
    } catch (error) {
      decoder.destroy(error as Error);
      return true;
    }
  };
  for (let atEnd: Promise<boolean> | undefined; atEnd === undefined || !(await atEnd);) {
    const decoder = createZstdDecompress({ chunkSize: OUTPUT_BYTES });
    atEnd = feed(decoder);
    try {
      yield* decoder as AsyncIterable<Uint8Array>;
    } catch (error) {
      throw damaged(what, error);
    }
  }
}
