// SPDY/3.1's header blocks: names and values, compressed by one zlib stream for the whole of a connection, each way, with a dictionary
// that both sides know. Source: the draft's section 2.6.10.
import { constants, createInflate } from "node:zlib";
import { GantryError } from "../../../../base/errors.ts";
import { DICTIONARY } from "./dictionary.ts";

export type SpdyHeaders = ReadonlyMap<string, string>;

const MAX_BLOCK_BYTES = 64 * 1024;
const MAX_STORED_BYTES = 65_535;

const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};

export const encodePairs = (headers: SpdyHeaders): Buffer =>
  Buffer.concat([u32(headers.size), ...[...headers].flatMap(([name, value]) => [name.toLowerCase(), value].flatMap((text) => [u32(Buffer.byteLength(text)), Buffer.from(text)]))]);

/** Of several values of one name, the first. "BadRequest" when lengths don't add up. */
export const decodePairs = (block: Buffer): SpdyHeaders => {
  const headers = new Map<string, string>();
  let at = 0;
  const number = (): number => {
    if (at + 4 > block.length) throw new GantryError("BadRequest", "SPDY: a header block is cut off");
    at += 4;
    return block.readUInt32BE(at - 4);
  };
  const text = (): string => {
    const length = number();
    if (at + length > block.length) throw new GantryError("BadRequest", "SPDY: a header block is cut off");
    at += length;
    return block.toString("utf8", at - length, at);
  };
  for (let left = number(); left > 0; left--) {
    const name = text().toLowerCase();
    headers.set(name, text().split("\0")[0]!);
  }
  return headers;
};

/** For what comes in. Blocks must be given one after the other, each waited for. */
export class HeaderDecompressor {
  readonly #inflate = createInflate({ dictionary: DICTIONARY, finishFlush: constants.Z_SYNC_FLUSH });

  constructor() {
    // Told to whoever waits for a block.
    this.#inflate.on("error", () => undefined);
  }

  async decode(block: Buffer): Promise<SpdyHeaders> {
    const inflate = this.#inflate;
    const pieces: Buffer[] = [];
    let size = 0;
    await new Promise<void>((resolve, reject) => {
      const take = (chunk: Buffer): void => {
        size += chunk.length;
        if (size > MAX_BLOCK_BYTES) reject(new GantryError("BadRequest", `SPDY: headers of more than ${MAX_BLOCK_BYTES} bytes`));
        else pieces.push(chunk);
      };
      inflate.on("data", take);
      const done = (error?: Error | null): void => {
        // What was decompressed is handed on in a later turn.
        setImmediate(() => {
          inflate.off("data", take).off("error", done);
          if (error) reject(new GantryError("BadRequest", "SPDY: headers can't be decompressed", { cause: error }));
          else resolve();
        });
      };
      // An error of its own doesn't reach the callback.
      inflate.once("error", done);
      inflate.write(block, done);
    });
    return decodePairs(Buffer.concat(pieces, size));
  }

  close(): void {
    this.#inflate.destroy();
  }
}

/** An empty stored block, as a sync flush ends with: Go's inflater hands out what came before only when it meets one, and fails for good where it runs out of input instead. */
const FLUSH = Buffer.from([0, 0, 0, 0xff, 0xff]);

/** For what goes out: the format of a zlib stream, without compression. Nothing has to be waited for, and replies have next to no headers. */
export class HeaderWriter {
  #begun = false;

  encode(headers: SpdyHeaders): Buffer {
    const pairs = encodePairs(headers);
    if (pairs.length > MAX_STORED_BYTES) throw new GantryError("InternalError", `SPDY: ${pairs.length} bytes of headers in a reply`);
    // RFC 1951, 3.2.4: not the last block, stored; length and its complement.
    const head = Buffer.from([0, 0, 0, 0, 0]);
    head.writeUInt16LE(pairs.length, 1);
    head.writeUInt16LE(~pairs.length & 0xffff, 3);
    const start = this.#begun ? Buffer.alloc(0) : Buffer.from([0x78, 0x01]);
    this.#begun = true;
    return Buffer.concat([start, head, pairs, FLUSH]);
  }
}
