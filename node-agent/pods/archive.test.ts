import { chmodSync, closeSync, constants, linkSync, lstatSync, mkdirSync, mkdtempSync, openSync, readFileSync, readlinkSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { TarReader, type TarEntry } from "../images/tar.ts";
import { writeTar, type TarInput } from "../images/tar-writer.ts";
import { readArchive, statPath, writeArchive } from "./archive.ts";

interface Box {
  readonly fd: number;
  readonly root: string;
  /** Beside the root: what must not be reached. */
  readonly outside: string;
}

const box = (t: ExecutionContext): Box => {
  const directory = mkdtempSync(join(tmpdir(), "gantry-archive-"));
  const [root, outside] = [join(directory, "root"), join(directory, "outside")];
  for (const path of [join(root, "data/sub"), join(root, "etc"), outside]) mkdirSync(path, { recursive: true });
  writeFileSync(join(outside, "secret"), "secret");
  writeFileSync(join(root, "data/a"), "one");
  writeFileSync(join(root, "data/sub/b"), "two");
  writeFileSync(join(root, "etc/passwd"), "inside");
  const fd = openSync(root, constants.O_RDONLY | constants.O_DIRECTORY);
  t.teardown(() => {
    closeSync(fd);
    rmSync(directory, { recursive: true });
  });
  return { fd, root, outside };
};

const entriesOf = async (archive: AsyncIterable<Buffer>): Promise<Record<string, TarEntry & { readonly text: string }>> => {
  const tar = new TarReader(archive, "test");
  const found: Record<string, TarEntry & { text: string }> = {};
  for (let entry = await tar.next(); entry; entry = await tar.next()) found[entry.path] = { ...entry, text: (await tar.bytes(1 << 20)).toString() };
  return found;
};

const write = (fd: number, path: string, entries: readonly TarInput[], keepOwners = false): Promise<void> =>
  writeArchive({ fd, firstId: 0 }, path, new TarReader((async function* () { yield await Promise.resolve(writeTar(entries)); })(), "the archive"), { keepOwners });

test("a tree under its last name: directories, files, links, names of one file", async (t) => {
  const { fd, root } = box(t);
  chmodSync(join(root, "data/a"), 0o640);
  linkSync(join(root, "data/a"), join(root, "data/again"));
  symlinkSync("/etc/passwd", join(root, "data/link"));
  const found = await entriesOf(readArchive({ fd, firstId: 0 }, "/data", false));
  t.deepEqual(Object.keys(found), ["data/", "data/a", "data/again", "data/link", "data/sub/", "data/sub/b"]);
  t.like(found["data/a"], { type: "file", text: "one", mode: 0o640 });
  t.like(found["data/again"], { type: "hardlink", linkPath: "data/a" });
  t.like(found["data/link"], { type: "symlink", linkPath: "/etc/passwd" });
  t.deepEqual(Object.keys(await entriesOf(readArchive({ fd, firstId: 0 }, "data/sub/b", false))), ["b"]);
  t.true(Object.keys(await entriesOf(readArchive({ fd, firstId: 0 }, "/", false))).includes("./etc/passwd"));
});

test("links are taken as in the container: none leads out, at the end only when asked for", async (t) => {
  const { fd, root, outside } = box(t);
  symlinkSync(outside, join(root, "out"));
  symlinkSync("../../../../../../../../../etc", join(root, "data/up"));
  symlinkSync("/data/a", join(root, "to-a"));
  await t.throwsAsync(entriesOf(readArchive({ fd, firstId: 0 }, "/out/secret", false)), { code: "NotFound" });
  t.is((await entriesOf(readArchive({ fd, firstId: 0 }, "/data/up/passwd", false)))["passwd"]?.text, "inside");
  t.like(statPath(fd, "/to-a", false), { linkTarget: "/data/a", name: "to-a" });
  t.like(statPath(fd, "/to-a", true), { linkTarget: "", size: 3, isDirectory: false });
  t.is((await entriesOf(readArchive({ fd, firstId: 0 }, "/to-a", true)))["to-a"]?.text, "one");
  t.is((await entriesOf(readArchive({ fd, firstId: 0 }, "/to-a", false)))["to-a"]?.type, "symlink");
  t.throws(() => statPath(fd, "/data/a/x", false), { code: "BadRequest", message: /not a directory/ });
  t.throws(() => statPath(fd, "/none", false), { code: "NotFound", message: /no such file or directory in the container: \/none/ });
  t.like(statPath(fd, "/", true), { isDirectory: true });
});

test("what is written stays below its directory, replaces files and links, and never a directory", async (t) => {
  const { fd, root, outside } = box(t);
  symlinkSync(join(outside, "secret"), join(root, "data/link"));
  symlinkSync(outside, join(root, "data/dir-link"));
  await write(fd, "/data", [{ path: "new/", type: "directory", mode: 0o750 }, { path: "new/f", content: "f", mode: 0o4755 }, { path: "link", content: "mine" }, { path: "deep/er/x", content: "x" }, { path: "s", type: "symlink", linkPath: "/anywhere" }, { path: "h", type: "hardlink", linkPath: "new/f" }]);
  t.is(readFileSync(join(root, "data/new/f"), "utf8"), "f");
  t.is(lstatSync(join(root, "data/new")).mode & 0o777, 0o750);
  t.is(readFileSync(join(outside, "secret"), "utf8"), "secret");
  t.is(readFileSync(join(root, "data/link"), "utf8"), "mine");
  t.is(readFileSync(join(root, "data/deep/er/x"), "utf8"), "x");
  t.is(readlinkSync(join(root, "data/s")), "/anywhere");
  t.is(lstatSync(join(root, "data/h")).ino, lstatSync(join(root, "data/new/f")).ino);
  await t.throwsAsync(write(fd, "/data", [{ path: "dir-link/evil", content: "x" }]));
  await t.throwsAsync(write(fd, "/data", [{ path: "../evil", content: "x" }]), { code: "Invalid", message: /leads out/ });
  await t.throwsAsync(write(fd, "/data", [{ path: "/evil", content: "x" }]), { code: "Invalid" });
  await t.throwsAsync(write(fd, "/data", [{ path: "sub", content: "x" }]), { code: "BadRequest", message: /cannot overwrite directory/ });
  await t.throwsAsync(write(fd, "/data", [{ path: "a/", type: "directory" }]), { code: "BadRequest", message: /cannot overwrite non-directory/ });
  await t.throwsAsync(write(fd, "/data", [{ path: "h2", type: "hardlink", linkPath: "../etc/passwd" }]), { code: "Invalid" });
  await t.throwsAsync(write(fd, "/none", [{ path: "x" }]), { code: "NotFound" });
  t.deepEqual([lstatSync(join(outside, "secret")).size, lstatSync(join(outside, "evil"), { throwIfNoEntry: false })], [6, undefined]);
});

if (process.geteuid?.() === 0) {
  test("owners: root's, unless the archive's are wanted", async (t) => {
    const { fd, root } = box(t);
    await write(fd, "/data", [{ path: "x", content: "", uid: 5, gid: 6 }]);
    t.like(lstatSync(join(root, "data/x")), { uid: 0, gid: 0 });
    await write(fd, "/data", [{ path: "x", content: "", uid: 5, gid: 6 }], true);
    t.like(lstatSync(join(root, "data/x")), { uid: 5, gid: 6 });
  });
}
