import { gzipSync, zstdCompressSync } from "node:zlib";
import test from "ava";
import { isCode } from "../../base/errors.ts";
import { decompressed } from "./decompress.ts";

async function* pieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array, void> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

const all = async (bytes: Uint8Array, size = 1000): Promise<string> => {
  const out: Uint8Array[] = [];
  for await (const chunk of decompressed(pieces(bytes, size), "layer x")) out.push(chunk);
  return Buffer.concat(out).toString();
};

const PARTS = Array.from({ length: 30 }, (_, i) => `part ${i} `.repeat(i % 5 === 0 ? 20_000 : i));
const WHOLE = PARTS.join("");
/** A skippable frame of zstd: magic, length, content. */
const SKIPPABLE = Buffer.from([0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);

for (const size of [1, 3, 1000, 1_000_000]) {
  test(`gzip with several members, zstd with several frames, and neither, in pieces of ${size}`, async (t) => {
    t.is(await all(Buffer.concat(PARTS.map((p) => gzipSync(p))), size), WHOLE);
    t.is(await all(Buffer.concat(PARTS.map((p) => zstdCompressSync(Buffer.from(p)))), size), WHOLE);
    t.is(await all(Buffer.concat([SKIPPABLE, ...PARTS.flatMap((p) => [zstdCompressSync(Buffer.from(p)), SKIPPABLE])]), size), WHOLE);
    t.is(await all(Buffer.from("plain text"), size), "plain text");
    t.is(await all(Buffer.from("ab"), size), "ab");
    t.is(await all(Buffer.alloc(0), size), "");
  });
}

test("damaged and cut data is refused by name", async (t) => {
  const [gzip, zstd] = [gzipSync(WHOLE), zstdCompressSync(Buffer.from(WHOLE))];
  for (const bytes of [gzip.subarray(0, 50), zstd.subarray(0, 50), Buffer.concat([gzip.subarray(0, 20), Buffer.alloc(100, 0xff)]), Buffer.concat([zstd.subarray(0, 6), Buffer.alloc(100, 0xff)])]) {
    const error = await t.throwsAsync(all(bytes));
    t.true(isCode(error, "Invalid"), String(error));
    t.regex(error?.message ?? "", /layer x: the compressed data is damaged/);
  }
});

test("the source is ended when the reader stops early", async (t) => {
  let ended = false;
  async function* source(): AsyncGenerator<Uint8Array, void> {
    try {
      for (;;) yield Buffer.from("plain");
    } finally {
      ended = true;
    }
  }
  for await (const _ of decompressed(source(), "x")) break;
  t.true(ended);
});
