// SPDY/3.1's frames, as far as Kubernetes' clients use them: streams, data, resets, pings. Bytes to frames and back; no connection, no I/O.
// Source: https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/ (sections 2.2, 2.6)
import { GantryError } from "../../../../base/errors.ts";

export type SpdyFrame =
  | { readonly type: "synStream"; readonly streamId: number; readonly fin: boolean; readonly headerBlock: Buffer }
  | { readonly type: "synReply"; readonly streamId: number; readonly fin: boolean; readonly headerBlock: Buffer }
  | { readonly type: "data"; readonly streamId: number; readonly fin: boolean; readonly data: Buffer }
  | { readonly type: "rstStream"; readonly streamId: number; readonly status: number }
  | { readonly type: "ping"; readonly id: number }
  | { readonly type: "goAway"; readonly lastStreamId: number; readonly status: number }
  /** SETTINGS, HEADERS, WINDOW_UPDATE, NOOP: nothing that this side acts on, but headers must pass the decompressor. */
  | { readonly type: "headers"; readonly streamId: number; readonly headerBlock: Buffer }
  | { readonly type: "other" };

const TYPE = { synStream: 1, synReply: 2, rstStream: 3, ping: 6, goAway: 7, headers: 8 } as const;
const FIN = 1;
const HEAD_BYTES = 8;
const VERSION = 3;
/** Go's clients send at most 32 KiB of data at a time, and a few hundred bytes of headers. */
const MAX_FRAME_BYTES = 1024 * 1024;

/** Cuts a stream of bytes, in whatever pieces it comes, into frames. "BadRequest" for what is no SPDY/3. */
export class SpdyParser {
  #pieces: Buffer[] = [];
  #bytes = 0;

  *push(chunk: Buffer): Iterable<SpdyFrame> {
    this.#pieces.push(chunk);
    this.#bytes += chunk.length;
    let buffer: Buffer | undefined;
    for (;;) {
      if (this.#bytes < HEAD_BYTES) break;
      buffer = this.#whole();
      const length = buffer.readUInt32BE(4) & 0xffffff;
      if (length > MAX_FRAME_BYTES) throw new GantryError("BadRequest", `SPDY: a frame of ${length} bytes; at most ${MAX_FRAME_BYTES} are allowed`);
      if (this.#bytes < HEAD_BYTES + length) break;
      this.#keep(buffer.subarray(HEAD_BYTES + length));
      yield parseFrame(buffer.subarray(0, HEAD_BYTES), buffer.subarray(HEAD_BYTES, HEAD_BYTES + length));
    }
  }

  #whole(): Buffer {
    if (this.#pieces.length > 1) this.#pieces = [Buffer.concat(this.#pieces, this.#bytes)];
    return this.#pieces[0]!;
  }

  #keep(rest: Buffer): void {
    this.#pieces = rest.length > 0 ? [rest] : [];
    this.#bytes = rest.length;
  }
}

const parseFrame = (head: Buffer, body: Buffer): SpdyFrame => {
  const first = head.readUInt32BE(0);
  const fin = (head[4]! & FIN) !== 0;
  if (first >>> 31 === 0) return { type: "data", streamId: first, fin, data: body };
  const [version, type] = [(first >>> 16) & 0x7fff, first & 0xffff];
  if (version !== VERSION) throw new GantryError("BadRequest", `SPDY: version ${version}; only 3 (SPDY/3.1) is spoken here`);
  const need = (bytes: number): void => {
    if (body.length < bytes) throw new GantryError("BadRequest", `SPDY: a frame of type ${type} with ${body.length} bytes; it needs ${bytes}`);
  };
  const id = (at: number): number => body.readUInt32BE(at) & 0x7fffffff;
  switch (type) {
    case TYPE.synStream:
      need(10);
      return { type: "synStream", streamId: id(0), fin, headerBlock: body.subarray(10) };
    case TYPE.synReply:
      need(4);
      return { type: "synReply", streamId: id(0), fin, headerBlock: body.subarray(4) };
    case TYPE.headers:
      need(4);
      return { type: "headers", streamId: id(0), headerBlock: body.subarray(4) };
    case TYPE.rstStream:
      need(8);
      return { type: "rstStream", streamId: id(0), status: body.readUInt32BE(4) };
    case TYPE.ping:
      need(4);
      return { type: "ping", id: body.readUInt32BE(0) };
    case TYPE.goAway:
      need(8);
      return { type: "goAway", lastStreamId: id(0), status: body.readUInt32BE(4) };
    default:
      return { type: "other" };
  }
};

const control = (type: number, flags: number, body: Buffer): Buffer => {
  const head = Buffer.alloc(HEAD_BYTES);
  head.writeUInt32BE((0x80000000 | (VERSION << 16) | type) >>> 0, 0);
  head.writeUInt32BE(body.length, 4);
  head[4] = flags;
  return Buffer.concat([head, body]);
};

const numbers = (...values: readonly number[]): Buffer => {
  const bytes = Buffer.alloc(values.length * 4);
  for (const [i, value] of values.entries()) bytes.writeUInt32BE(value, i * 4);
  return bytes;
};

export const encodeFrame = (frame: Exclude<SpdyFrame, { readonly type: "other" | "headers" }>): Buffer => {
  switch (frame.type) {
    case "synStream": return control(TYPE.synStream, frame.fin ? FIN : 0, Buffer.concat([numbers(frame.streamId, 0), Buffer.alloc(2), frame.headerBlock]));
    case "synReply": return control(TYPE.synReply, frame.fin ? FIN : 0, Buffer.concat([numbers(frame.streamId), frame.headerBlock]));
    case "rstStream": return control(TYPE.rstStream, 0, numbers(frame.streamId, frame.status));
    case "ping": return control(TYPE.ping, 0, numbers(frame.id));
    case "goAway": return control(TYPE.goAway, 0, numbers(frame.lastStreamId, frame.status));
    case "data": {
      const head = numbers(frame.streamId, frame.data.length);
      head[4] = frame.fin ? FIN : 0;
      return Buffer.concat([head, frame.data]);
    }
  }
};
