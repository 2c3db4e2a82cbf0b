import { chmodSync, linkSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { makeNode } from "../linux/files.ts";
import { diffLayer, isEmptyUpper, type LayerDiffOptions } from "./layer-diff.ts";
import { TarReader } from "./tar.ts";

const directory = (t: ExecutionContext): string => {
  const path = mkdtempSync(join(tmpdir(), "gantry-diff-"));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
};

const bytesOf = async (root: string, options: LayerDiffOptions = {}): Promise<Buffer> => {
  const pieces: Buffer[] = [];
  for await (const piece of diffLayer(root, options)) pieces.push(piece);
  return Buffer.concat(pieces);
};

const entriesOf = async (root: string, options: LayerDiffOptions = {}): Promise<readonly string[]> => {
  const tar = new TarReader((async function* () { yield await bytesOf(root, options); })(), "the layer");
  const lines: string[] = [];
  for (let e = await tar.next(); e !== undefined; e = await tar.next()) {
    lines.push(`${e.type} ${e.path} ${e.mode.toString(8)} ${e.mtimeMs}${e.linkPath === "" ? "" : ` -> ${e.linkPath}`}${e.type === "file" ? ` ${(await tar.bytes(1e7)).length}` : ""}`);
  }
  return lines;
};

test("files, directories, links and hard links come in the order of their names, with their modes and times", async (t) => {
  const root = directory(t);
  t.true(isEmptyUpper(root));
  mkdirSync(join(root, "b"));
  writeFileSync(join(root, "b/two"), "22", { mode: 0o640 });
  linkSync(join(root, "b/two"), join(root, "a-first"));
  linkSync(join(root, "b/two"), join(root, "z"));
  symlinkSync("../b", join(root, "link"));
  writeFileSync(join(root, "big"), Buffer.alloc(700_001, 7));
  writeFileSync(join(root, "n".repeat(120)), "");
  chmodSync(join(root, "b"), 0o1777);
  makeNode(join(root, "pipe"), { type: "fifo", mode: 0o600 });
  makeNode(join(root, "socket"), { type: "socket", mode: 0o600 });
  for (const name of ["b/two", "big", "pipe", "n".repeat(120), "b"]) utimesSync(join(root, name), 1_600_000_000.9, 1_600_000_000.9);
  const lines = await entriesOf(root, { exclude: new Set(["link"]) });
  t.deepEqual(lines, [
    "file a-first 640 1600000000000 2",
    "directory b/ 1777 1600000000000",
    "hardlink b/two 640 1600000000000 -> a-first",
    "file big 644 1600000000000 700001",
    `file ${"n".repeat(120)} 644 1600000000000 0`,
    "fifo pipe 600 1600000000000",
    "hardlink z 640 1600000000000 -> a-first",
  ]);
  t.false(isEmptyUpper(root));
});

test("times are cut off at the given one, and then two directories with the same files give the same bytes", async (t) => {
  const make = (seconds: number): string => {
    const root = directory(t);
    mkdirSync(join(root, "d"));
    for (const name of ["x", "d/y", "old"]) writeFileSync(join(root, name), name);
    utimesSync(join(root, "old"), 1000, 1000);
    for (const name of ["x", "d/y", "d"]) utimesSync(join(root, name), seconds, seconds);
    return root;
  };
  const [one, two] = [make(1_700_000_000), make(1_750_000_000)];
  t.notDeepEqual(await bytesOf(one), await bytesOf(two));
  t.deepEqual(await bytesOf(one, { latestMs: 1_600_000_000_000 }), await bytesOf(two, { latestMs: 1_600_000_000_000 }));
  t.true((await entriesOf(one, { latestMs: 1_600_000_000_000 })).includes("file old 644 1000000 3"));
});

test("a name that is not UTF-8 is refused with words", async (t) => {
  const root = directory(t);
  writeFileSync(Buffer.concat([Buffer.from(`${root}/bad-`), Buffer.from([0xff])]), "");
  await t.throwsAsync(bytesOf(root), { message: /not UTF-8/ });
});
