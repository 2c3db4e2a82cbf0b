// The server's side of one SPDY/3.1 connection over any carrier of bytes: streams that the client opens, data both ways. Go's clients never send WINDOW_UPDATE, so
// their window counts as endless; what holds them up is that nothing more is read while a stream has enough unread.
import { GantryError } from "../../../../base/errors.ts";
import { encodeFrame, SpdyParser, type SpdyFrame } from "./frames.ts";
import { HeaderDecompressor, HeaderWriter, type SpdyHeaders } from "./headers.ts";

export interface SpdyTransport {
  readonly chunks: AsyncIterable<Buffer>;
  /** In the order of calls; resolves when there is room for more. */
  write(data: Buffer): Promise<void>;
}

/** Unread data of one stream from which on the connection is not read any further. */
const MAX_UNREAD_BYTES = 256 * 1024;
const FRAME_BYTES = 32 * 1024;
const MAX_STREAMS = 1000;
const REFUSED_STREAM = 3;

export class SpdyStream {
  readonly id: number;
  readonly headers: SpdyHeaders;
  readonly #write: (frame: Parameters<typeof encodeFrame>[0]) => Promise<void>;
  readonly #unread: Buffer[] = [];
  #unreadBytes = 0;
  #ended = false;
  #wake: (() => void) | undefined;
  #taken: (() => void) | undefined;
  #closed = false;

  constructor(id: number, headers: SpdyHeaders, write: (frame: Parameters<typeof encodeFrame>[0]) => Promise<void>) {
    this.id = id;
    this.headers = headers;
    this.#write = write;
  }

  /** What the client sends, until it ends its side or the connection breaks. One reader. */
  async *data(): AsyncGenerator<Buffer> {
    for (;;) {
      const next = this.#unread.shift();
      if (next) {
        this.#unreadBytes -= next.length;
        this.#taken?.();
        yield next;
      } else if (this.#ended) return;
      else await new Promise<void>((resolve) => { this.#wake = resolve; });
    }
  }

  async send(data: Uint8Array): Promise<void> {
    for (let at = 0; at < data.length && !this.#closed; at += FRAME_BYTES) {
      const part = data.subarray(at, at + FRAME_BYTES);
      await this.#write({ type: "data", streamId: this.id, fin: false, data: Buffer.from(part.buffer, part.byteOffset, part.byteLength) });
    }
  }

  /** Nothing more comes from here. */
  async end(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#write({ type: "data", streamId: this.id, fin: true, data: Buffer.alloc(0) });
  }

  /** Resolves when there is room for more. The connection's. */
  async push(data: Buffer): Promise<void> {
    if (this.#ended) return;
    this.#unread.push(data);
    this.#unreadBytes += data.length;
    this.#wake?.();
    while (this.#unreadBytes > MAX_UNREAD_BYTES && !this.#ended) await new Promise<void>((resolve) => { this.#taken = resolve; });
  }

  /** The client's side is at its end. The connection's, and of those who read no further. */
  finish(): void {
    this.#ended = true;
    this.#wake?.();
    this.#taken?.();
  }

  /** Neither side sends any more. */
  reset(): void {
    this.#closed = true;
    this.finish();
  }
}

export class SpdyConnection {
  readonly #transport: SpdyTransport;
  readonly #onStream: (stream: SpdyStream) => void;
  readonly #streams = new Map<number, SpdyStream>();
  readonly #inflate = new HeaderDecompressor();
  readonly #replies = new HeaderWriter();

  constructor(transport: SpdyTransport, onStream: (stream: SpdyStream) => void) {
    this.#transport = transport;
    this.#onStream = onStream;
  }

  /** Until the client is gone. Throws "BadRequest" for what is not SPDY. */
  async run(): Promise<void> {
    const parser = new SpdyParser();
    try {
      for await (const chunk of this.#transport.chunks) for (const frame of parser.push(chunk)) if (!(await this.#take(frame))) return;
    } finally {
      for (const stream of this.#streams.values()) stream.reset();
      this.#inflate.close();
    }
  }

  async #take(frame: SpdyFrame): Promise<boolean> {
    switch (frame.type) {
      case "synStream": {
        const headers = await this.#inflate.decode(frame.headerBlock);
        if (this.#streams.has(frame.streamId)) throw new GantryError("BadRequest", `SPDY: stream ${frame.streamId} was opened twice`);
        if (this.#streams.size >= MAX_STREAMS) {
          await this.#write({ type: "rstStream", streamId: frame.streamId, status: REFUSED_STREAM });
          return true;
        }
        const stream = new SpdyStream(frame.streamId, headers, (f) => this.#write(f));
        this.#streams.set(frame.streamId, stream);
        await this.#write({ type: "synReply", streamId: frame.streamId, fin: false, headerBlock: this.#replies.encode(new Map()) });
        if (frame.fin) stream.finish();
        this.#onStream(stream);
        return true;
      }
      case "data": {
        const stream = this.#streams.get(frame.streamId);
        // Of a stream that is over here: the client did not know yet.
        if (!stream) return true;
        if (frame.data.length > 0) await stream.push(frame.data);
        if (frame.fin) stream.finish();
        return true;
      }
      case "rstStream":
        this.#streams.get(frame.streamId)?.reset();
        this.#streams.delete(frame.streamId);
        return true;
      case "ping":
        await this.#write(frame);
        return true;
      case "headers": case "synReply":
        // They are part of the compressed stream, whatever they say.
        await this.#inflate.decode(frame.headerBlock);
        return true;
      case "goAway": return this.#streams.size > 0;
      case "other": return true;
    }
  }

  /** Over on both sides: a later frame for it is ignored. */
  forget(stream: SpdyStream): void {
    stream.reset();
    this.#streams.delete(stream.id);
  }

  #write(frame: Parameters<typeof encodeFrame>[0]): Promise<void> {
    return this.#transport.write(encodeFrame(frame));
  }
}
