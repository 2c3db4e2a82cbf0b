import { constants, createDeflate, createInflate } from "node:zlib";
import test from "ava";
import { SpdyConnection, type SpdyStream } from "./connection.ts";
import { DICTIONARY } from "./dictionary.ts";
import { encodeFrame, SpdyParser, type SpdyFrame } from "./frames.ts";
import { decodePairs, encodePairs, HeaderDecompressor, HeaderWriter } from "./headers.ts";

/** RFC 1950. */
const adler32 = (bytes: Uint8Array): number => {
  let [a, b] = [1, 0];
  for (const byte of bytes) {
    a = (a + byte) % 65521;
    b = (b + a) % 65521;
  }
  return b * 65536 + a;
};

/** As Go's clients compress: one stream, flushed after each block. */
class Compressor {
  readonly #deflate = createDeflate({ dictionary: DICTIONARY, level: 9 });

  async encode(headers: Record<string, string>): Promise<Buffer> {
    const pieces: Buffer[] = [];
    const take = (chunk: Buffer): void => void pieces.push(chunk);
    this.#deflate.on("data", take);
    this.#deflate.write(encodePairs(new Map(Object.entries(headers))));
    await new Promise<void>((resolve) => this.#deflate.flush(constants.Z_SYNC_FLUSH, () => setImmediate(resolve)));
    this.#deflate.off("data", take);
    return Buffer.concat(pieces);
  }
}

test("the dictionary is the one that clients name by its checksum", (t) => {
  t.is(adler32(DICTIONARY), 0xe3c6a7c2);
});

test("frames survive the way there and back, however they are cut", (t) => {
  const frames: Parameters<typeof encodeFrame>[0][] = [
    { type: "synStream", streamId: 1, fin: false, headerBlock: Buffer.from("abc") }, { type: "synReply", streamId: 1, fin: true, headerBlock: Buffer.from("x") },
    { type: "data", streamId: 2 ** 31 - 1, fin: true, data: Buffer.alloc(70_000, 7) }, { type: "data", streamId: 3, fin: false, data: Buffer.alloc(0) },
    { type: "rstStream", streamId: 5, status: 3 }, { type: "ping", id: 2 ** 32 - 1 }, { type: "goAway", lastStreamId: 9, status: 1 },
  ];
  const bytes = Buffer.concat(frames.map(encodeFrame));
  for (const size of [1, 3, 7, 8, 1000, bytes.length]) {
    const parser = new SpdyParser();
    const seen: SpdyFrame[] = [];
    for (let at = 0; at < bytes.length; at += size) seen.push(...parser.push(bytes.subarray(at, at + size)));
    t.deepEqual(seen, frames, `in pieces of ${size}`);
  }
});

test("what is no SPDY/3 is refused, before it fills the memory", (t) => {
  const push = (...bytes: readonly number[]): SpdyFrame[] => [...new SpdyParser().push(Buffer.from(bytes))];
  t.throws(() => push(0x80, 2, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1), { code: "BadRequest", message: /version 2/ });
  t.throws(() => push(0, 0, 0, 1, 0, 255, 255, 255), { code: "BadRequest", message: /16777215 bytes/ });
  t.throws(() => push(0x80, 3, 0, 1, 0, 0, 0, 2, 0, 0), { code: "BadRequest", message: /needs 10/ });
  t.deepEqual(push(0x80, 3, 0, 4, 0, 0, 0, 4, 0, 0, 0, 0), [{ type: "other" }], "SETTINGS");
});

test("header blocks of one connection are one compressed stream", async (t) => {
  const [compressor, decompressor] = [new Compressor(), new HeaderDecompressor()];
  const blocks = [{ streamtype: "error", port: "8080", requestid: "0" }, { streamtype: "data", port: "8080", requestid: "0" }, {}];
  for (const block of blocks) t.deepEqual(Object.fromEntries(await decompressor.decode(await compressor.encode(block))), block);
  decompressor.close();
  t.throws(() => decodePairs(Buffer.from([0, 0, 0, 1, 0, 0, 0, 9, 65])), { code: "BadRequest", message: /cut off/ });
  await t.throwsAsync(new HeaderDecompressor().decode(Buffer.from("not zlib")), { code: "BadRequest" });
});

test("replies are a zlib stream that any inflater reads", async (t) => {
  const writer = new HeaderWriter();
  const bytes = Buffer.concat([writer.encode(new Map([["a", "1"]])), writer.encode(new Map()), writer.encode(new Map([["b", "2"]]))]);
  const inflate = createInflate({ finishFlush: constants.Z_SYNC_FLUSH });
  inflate.end(bytes);
  const pieces: Buffer[] = [];
  for await (const piece of inflate) pieces.push(piece as Buffer);
  t.deepEqual(Buffer.concat(pieces), Buffer.concat([encodePairs(new Map([["a", "1"]])), encodePairs(new Map()), encodePairs(new Map([["b", "2"]]))]));
});

test("a connection: streams are answered before anything else, data and ends go both ways, pings come back", async (t) => {
  const compressor = new Compressor();
  const incoming: Buffer[] = [
    encodeFrame({ type: "synStream", streamId: 1, fin: false, headerBlock: await compressor.encode({ streamtype: "data" }) }),
    encodeFrame({ type: "data", streamId: 1, fin: false, data: Buffer.from("hello ") }),
    encodeFrame({ type: "ping", id: 1 }),
    encodeFrame({ type: "data", streamId: 7, fin: true, data: Buffer.from("of a stream that isn't there") }),
    encodeFrame({ type: "data", streamId: 1, fin: true, data: Buffer.from("world") }),
  ];
  const written: SpdyFrame[] = [];
  const parser = new SpdyParser();
  const done: Promise<void>[] = [];
  const serve = async (stream: SpdyStream): Promise<void> => {
    t.is(stream.headers.get("streamtype"), "data");
    for await (const data of stream.data()) await stream.send(data);
    await stream.end();
  };
  const connection = new SpdyConnection({
    chunks: (async function* () { for (const chunk of incoming) yield await Promise.resolve(chunk); await new Promise((resolve) => setImmediate(resolve)); })(),
    write: async (data) => void written.push(...parser.push(data)),
  }, (stream) => void done.push(serve(stream)));
  await connection.run();
  await Promise.all(done);
  t.is(written[0]!.type, "synReply");
  t.deepEqual(written.filter((f) => f.type === "ping"), [{ type: "ping", id: 1 }]);
  const data = written.filter((f) => f.type === "data");
  t.is(Buffer.concat(data.map((f) => f.data)).toString(), "hello world");
  t.deepEqual(data.map((f) => f.fin), [false, false, true]);
});

test("a stream that nobody reads holds up its connection instead of the memory", async (t) => {
  const compressor = new Compressor();
  const block = await compressor.encode({});
  let given = 0;
  const { promise: stream, resolve: open } = Promise.withResolvers<SpdyStream>();
  const connection = new SpdyConnection({
    chunks: (async function* () {
      yield encodeFrame({ type: "synStream", streamId: 1, fin: false, headerBlock: block });
      for (; given < 100; given++) yield await Promise.resolve(encodeFrame({ type: "data", streamId: 1, fin: false, data: Buffer.alloc(32 * 1024) }));
    })(),
    write: async () => undefined,
  }, open);
  const running = connection.run();
  // Header blocks are inflated in the thread pool, which takes a while on a busy machine.
  const opened = await stream;
  for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
  t.true(given < 20, String(given));
  let size = 0;
  for await (const data of opened.data()) size += data.length;
  await running;
  t.is(size, 100 * 32 * 1024);
});
