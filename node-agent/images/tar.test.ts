import { createHash } from "node:crypto";
import test from "ava";
import { GantryError } from "../../base/errors.ts";
import { header, writeTar, type TarInput } from "./tar-writer.ts";
import { TarReader, type TarEntry } from "./tar.ts";

async function* pieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array, void> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

const read = async (bytes: Uint8Array, size = 700): Promise<readonly (TarEntry & { readonly content: Buffer })[]> => {
  const tar = new TarReader(pieces(bytes, size), "the archive");
  const entries = [];
  for (let entry = await tar.next(); entry !== undefined; entry = await tar.next()) entries.push({ ...entry, content: await tar.bytes(1e7) });
  return entries;
};

const invalid = async (t: { throwsAsync: (p: Promise<unknown>, e: object) => Promise<unknown> }, bytes: Uint8Array, message: RegExp): Promise<void> =>
  void (await t.throwsAsync(read(bytes), { instanceOf: GantryError, message }));

const pad = (bytes: Buffer): Buffer => Buffer.concat([bytes, Buffer.alloc((512 - (bytes.length % 512)) % 512)]);
const pax = (text: string, type = "x"): Buffer => Buffer.concat([header({ path: "pax" }, type, Buffer.byteLength(text)), pad(Buffer.from(text))]);
const record = (key: string, value: string): string => {
  const length = key.length + value.length + 3;
  return `${length + String(length + 2).length} ${key}=${value}\n`;
};
const END = Buffer.alloc(1024);

const SAMPLE: readonly TarInput[] = [
  { path: "dir/", type: "directory", mode: 0o1777, uid: 12, gid: 34, mtimeMs: 1_000_000_000_000 },
  { path: "dir/file", content: "hello", mode: 0o4755 },
  { path: "dir/empty" },
  { path: `long/${"x".repeat(150)}/${"é".repeat(60)}`, content: Buffer.alloc(1500, "q"), xattrs: { "security.capability": Buffer.from([1, 0, 0, 2, 0xff, 0x0a]) } },
  { path: "link", type: "symlink", linkPath: `t/${"y".repeat(200)}` },
  { path: "hard", type: "hardlink", linkPath: "dir/file" },
  { path: "null", type: "character", device: { major: 1, minor: 3 } },
  { path: "pipe", type: "fifo" },
];

for (const size of [1, 511, 512, 513, 100_000]) {
  test(`reads what was written, in pieces of ${size} bytes`, async (t) => {
    const entries = await read(writeTar(SAMPLE), size);
    t.deepEqual(entries.map((e) => [e.path, e.type, e.linkPath]), SAMPLE.map((e) => [e.path, e.type ?? "file", e.linkPath ?? ""]));
    t.like(entries[0], { mode: 0o1777, uid: 12, gid: 34, mtimeMs: 1_000_000_000_000 });
    t.is(entries[1]!.content.toString(), "hello");
    t.is(entries[1]!.mode, 0o4755);
    t.is(entries[3]!.content.length, 1500);
    t.deepEqual([...entries[3]!.xattrs], [["security.capability", Buffer.from([1, 0, 0, 2, 0xff, 0x0a])]]);
    t.deepEqual([entries[6]!.deviceMajor, entries[6]!.deviceMinor], [1, 3]);
  });
}

test("skips contents that nobody reads", async (t) => {
  const tar = new TarReader(pieces(writeTar(SAMPLE), 333), "x");
  const paths = [];
  for (let entry = await tar.next(); entry !== undefined; entry = await tar.next()) paths.push(entry.path);
  t.is(paths.length, SAMPLE.length);
});

test("PAX values replace the header's, also the size, and global ones hold until the end", async (t) => {
  // A reader that skipped the header's size instead of PAX's would take the content for an entry (CVE-2025-62518).
  const inner = writeTar([{ path: "smuggled", content: "x" }]);
  const bytes = Buffer.concat([
    pax(record("uid", "1234") + record("mtime", "7.5"), "g"), pax(record("size", String(inner.length))), header({ path: "file" }, "0", 0), pad(inner),
    header({ path: "next", mtimeMs: 9000 }, "0", 0), END,
  ]);
  const entries = await read(bytes);
  t.deepEqual(entries.map((e) => [e.path, e.sizeBytes, e.uid, e.mtimeMs]), [["file", inner.length, 1234, 7500], ["next", 0, 1234, 7500]]);
});

test("GNU long names, base-256 numbers, old directories and the ustar prefix", async (t) => {
  const long = `${"n".repeat(300)}/file`;
  const prefixed = header({ path: "name" }, "0", 0);
  prefixed.write("some/prefix", 345);
  const big = header({ path: "negative" }, "0", 0);
  big.fill(0xff, 136, 148); // -1 in two's complement: a second before 1970
  const bytes = Buffer.concat([
    header({ path: "././@LongLink" }, "L", long.length + 1), pad(Buffer.from(`${long}\0`)), header({ path: "cut" }, "0", 0),
    resum(prefixed), resum(big), header({ path: "old/" }, "\0", 0), END,
  ]);
  const entries = await read(bytes);
  t.deepEqual(entries.map((e) => [e.path, e.type]), [[long, "file"], ["some/prefix/name", "file"], ["negative", "file"], ["old/", "directory"]]);
  t.is(entries[2]!.mtimeMs, -1000);
});

const resum = (block: Buffer): Buffer => {
  block.write("        ", 148, "latin1");
  block.write(`${block.reduce((sum, b) => sum + b, 0).toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return block;
};

test("an archive without its end blocks, or with only one, is whole", async (t) => {
  const bytes = writeTar([{ path: "a", content: "x" }]);
  t.is((await read(bytes.subarray(0, bytes.length - 1024))).length, 1);
  t.is((await read(bytes.subarray(0, bytes.length - 512))).length, 1);
  t.deepEqual(await read(Buffer.alloc(0)), []);
});

test("damaged, cut and unsupported archives are refused by name", async (t) => {
  const whole = writeTar([{ path: "first", content: "x".repeat(2000) }, { path: "second" }]);
  await invalid(t, whole.subarray(0, 1500), /the archive is cut off in or after the entry "first"/);
  await invalid(t, whole.subarray(0, 100), /cut off/);
  await invalid(t, Buffer.from("x".repeat(2000)), /not a tar archive/);
  await invalid(t, Buffer.concat([header({ path: "s" }, "S", 0), END]), /"s" is a sparse file/);
  await invalid(t, Buffer.concat([pax("22 GNU.sparse.major=1\n"), header({ path: "s" }, "0", 0), END]), /sparse/);
  await invalid(t, Buffer.concat([...Array.from({ length: 20 }, () => pax(record("mtime", "1"))), header({ path: "m" }, "0", 0), END]), /more than 8 extended headers in a row/);
  await invalid(t, Buffer.concat([header({ path: "m" }, "M", 0), END]), /unknown type "M"/);
  await invalid(t, Buffer.concat([header({ path: "pax" }, "x", 2 ** 31), END]), /extended header of 2147483648 bytes/);
  await invalid(t, Buffer.concat([header({ path: "l" }, "L", 2 ** 40), END]), /extended header/);
  for (const damaged of ["99 path=a\n", "x path=a\n", "0 path=a\n", "9 path=a", "-9 path=a\n", "9 pathaa\n"]) {
    await invalid(t, Buffer.concat([pax(damaged), header({ path: "a" }, "0", 0), END]), /damaged PAX header/);
  }
  await invalid(t, Buffer.concat([pax("11 size=-1\n"), header({ path: "a" }, "0", 0), END]), /size "-1"/);
  await invalid(t, Buffer.concat([pax("12 path=a\0b\n"), header({ path: "a" }, "0", 0), END]), /unusable name/);
  const latin = header({ path: "a" }, "0", 0);
  latin[0] = 0xe9;
  await invalid(t, Buffer.concat([resum(latin), END]), /not UTF-8/);
});

test("no damage to an archive makes the reader do anything but end or refuse", async (t) => {
  const whole = writeTar(SAMPLE);
  let seed = 1;
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return Math.floor((seed / 2 ** 32) * below);
  };
  const outcomes = new Set<string>();
  for (let i = 0; i < 400; i++) {
    const damaged = Buffer.from(whole.subarray(0, random(4) === 0 ? random(whole.length) : whole.length));
    for (let n = random(4); n >= 0 && damaged.length > 0; n--) damaged[random(damaged.length)] = random(256);
    try {
      await read(damaged, 1 + random(2000));
      outcomes.add("read");
    } catch (error) {
      t.true(error instanceof GantryError, String(error));
      outcomes.add("refused");
    }
  }
  t.is(outcomes.size, 2);
});

test("content goes through unchanged", async (t) => {
  const content = Buffer.alloc(3_000_000, "0123456789abcde");
  const [entry] = await read(writeTar([{ path: "f", content }]), 65_536);
  t.is(createHash("sha1").update(entry!.content).digest("hex"), createHash("sha1").update(content).digest("hex"));
});
