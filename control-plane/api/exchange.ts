// Owns one request and its answer, over HTTP/1.1 and HTTP/2 alike: what the handlers see, and the ways to answer (whole,
// in chunks with back-pressure, or as an open stream).
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import { stringify } from "yaml";
import type { User } from "./authentication.ts";
import { negotiate } from "./negotiate.ts";
import type { Negotiated } from "./negotiate.ts";
import type { RequestInfo } from "./router.ts";

export type HttpRequest = IncomingMessage | Http2ServerRequest;
export type HttpResponse = ServerResponse | Http2ServerResponse;

/** Chunks of an answer are gathered to about this size: few system calls, and little memory for a slow reader. */
const CHUNK_BYTES = 64 * 1024;

export interface ByteSink {
  /** False when the reader is slow: wait for `ready` before the next write. */
  write(chunk: Buffer | string): boolean;
  /** Resolves when there is room again, or the reader is gone. */
  ready(): Promise<void>;
  end(): void;
}

export class Exchange {
  readonly info: RequestInfo;
  readonly request: HttpRequest;
  readonly response: HttpResponse;
  readonly user: User;
  /** Aborted when the client is gone or the server closes. */
  readonly signal: AbortSignal;
  readonly #warnings: string[] = [];
  #negotiated: Negotiated | undefined;
  #bytesSent = 0;

  constructor(info: RequestInfo, request: HttpRequest, response: HttpResponse, user: User, signal: AbortSignal) {
    this.info = info;
    this.request = request;
    this.response = response;
    this.user = user;
    this.signal = signal;
  }

  get query(): URLSearchParams {
    return this.info.query;
  }

  get headers(): IncomingHttpHeaders {
    return this.request.headers;
  }

  /** The body as it comes. Leaving early keeps the stream: destroyed half-way, it would hold up its HTTP/2 connection's end. */
  body(): AsyncIterable<Buffer> {
    return this.request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>;
  }

  get bytesSent(): number {
    return this.#bytesSent;
  }

  /** Throws NotAcceptable. */
  get accept(): Negotiated {
    return (this.#negotiated ??= negotiate(this.headers.accept, this.query));
  }

  /** Goes out as a Warning header (RFC 7234, 5.5, code 299), which kubectl prints. Before the answer begins. */
  warn(text: string): void {
    if (this.#warnings.length < 20 && !this.#warnings.includes(text)) this.#warnings.push(text);
  }

  /** Answers with a value in the encoding that the client accepts. */
  value(code: number, value: unknown): void {
    if (this.accept.encoding === "yaml") this.bytes(code, "application/yaml", stringify(value, { aliasDuplicateObjects: false }));
    else this.bytes(code, "application/json", JSON.stringify(value));
  }

  bytes(code: number, contentType: string, body: Buffer | string, headers: Readonly<Record<string, string>> = {}): void {
    const length = typeof body === "string" ? Buffer.byteLength(body) : body.length;
    this.#head(code, { "content-type": contentType, "content-length": String(length), ...headers });
    this.#bytesSent += length;
    this.response.end(body);
  }

  /** Answers in pieces, made as the client takes them: a big list never stands in memory as a whole. */
  async pieces(code: number, contentType: string, pieces: Iterable<Buffer | string>): Promise<void> {
    const sink = this.open(code, contentType);
    let gathered: Buffer[] = [];
    let size = 0;
    for (const piece of pieces) {
      const bytes = typeof piece === "string" ? Buffer.from(piece) : piece;
      gathered.push(bytes);
      size += bytes.length;
      if (size < CHUNK_BYTES) continue;
      const room = sink.write(Buffer.concat(gathered, size));
      gathered = [];
      size = 0;
      if (!room) await sink.ready();
      if (this.signal.aborted) return;
    }
    if (size > 0) sink.write(Buffer.concat(gathered, size));
    sink.end();
  }

  open(code: number, contentType: string, headers: Readonly<Record<string, string>> = {}): ByteSink {
    this.#head(code, { "content-type": contentType, ...headers });
    // Clients of watches and followed logs wait for the head before anything happens.
    if ("flushHeaders" in this.response) this.response.flushHeaders();
    const { response, signal } = this;
    return {
      write: (chunk) => {
        if (signal.aborted || response.writableEnded) return true;
        this.#bytesSent += chunk.length;
        // The compatibility layers' types disagree on overloads; both take a chunk and tell whether there is room.
        return (response as ServerResponse).write(chunk);
      },
      ready: () => this.#drained(),
      end: () => void response.end(),
    };
  }

  #head(code: number, headers: Readonly<Record<string, string>>): void {
    const warnings = this.#warnings.map((text) => `299 - "${text.replace(/[\\"]/g, "\\$&").replace(/[^\x20-\x7e]/g, " ")}"`);
    const all: Record<string, string | string[]> = { "cache-control": "no-cache, private", ...headers, ...(warnings.length > 0 ? { warning: warnings } : {}) };
    (this.response as ServerResponse).writeHead(code, all);
  }

  #drained(): Promise<void> {
    const { response, signal } = this;
    if (signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const done = (): void => {
        response.removeListener("drain", done);
        signal.removeEventListener("abort", done);
        resolve();
      };
      response.on("drain", done);
      signal.addEventListener("abort", done, { once: true });
    });
  }
}
