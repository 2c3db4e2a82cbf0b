import { existsSync, lstatSync, mkdtempSync, readFileSync, readdirSync, readlinkSync, rmSync, statSync, symlinkSync, mkdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { isCode } from "../../base/errors.ts";
import { checkPath, writeAtomically } from "./atomic-files.ts";
import { withSubPath } from "./volume-service.ts";

const folder = (t: ExecutionContext): string => {
  const dir = mkdtempSync(join(tmpdir(), "gantry-volume-"));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
};
const file = (path: string, text: string, mode = 0o644) => ({ path, data: Buffer.from(text), mode });

test("files appear under their names, with their modes, behind one symlink", (t) => {
  const dir = folder(t);
  t.true(writeAtomically(dir, [file("a", "1", 0o400), file("sub/b", "2")]));
  t.is(readFileSync(join(dir, "a"), "utf8"), "1");
  t.is(readFileSync(join(dir, "sub/b"), "utf8"), "2");
  t.is(statSync(join(dir, "a")).mode & 0o777, 0o400);
  t.is(readlinkSync(join(dir, "a")), "..data/a");
});

test("an update replaces all files at once and leaves nothing of the old", (t) => {
  const dir = folder(t);
  writeAtomically(dir, [file("a", "1"), file("gone", "x")]);
  t.false(writeAtomically(dir, [file("a", "1"), file("gone", "x")]));
  t.true(writeAtomically(dir, [file("a", "2"), file("new", "y")]));
  t.is(readFileSync(join(dir, "a"), "utf8"), "2");
  t.falsy(lstatSync(join(dir, "gone"), { throwIfNoEntry: false }));
  t.deepEqual(readdirSync(dir).sort(), ["..data", "..v2", "a", "new"]);
});

test("a writer that died half-way is no obstacle", (t) => {
  const dir = folder(t);
  writeAtomically(dir, [file("a", "1")]);
  mkdirSync(join(dir, "..v2"));
  writeFileSync(join(dir, "..v2/junk"), "");
  writeAtomically(dir, [file("a", "2")]);
  t.deepEqual(readdirSync(join(dir, "..data")), ["a"]);
});

test("no file name leads out of the volume or hides its own names", (t) => {
  for (const path of ["", "/etc/passwd", "../x", "a/../../x", "..data", "..v1/x", "."]) t.true(isCode(t.throws(() => checkPath(path)), "Invalid"), path);
  t.is(checkPath("a/./b"), "a/b");
});

test("a subPath is made when missing and never leads out through a symlink", (t) => {
  const dir = folder(t);
  const volume = join(dir, "volume");
  mkdirSync(volume);
  mkdirSync(join(dir, "outside"));
  t.is(withSubPath(volume, "a/b", (p) => readlinkSync(p)), join(volume, "a/b"));
  symlinkSync("../outside", join(volume, "relative"));
  symlinkSync("/etc", join(volume, "absolute"));
  // Inside the volume "..", and "/", are the volume itself.
  t.regex(t.throws(() => withSubPath(volume, "relative/x", (p) => readlinkSync(p))).message, /"relative" is a symlink to something that the volume doesn't hold/);
  mkdirSync(join(volume, "etc"));
  t.is(withSubPath(volume, "absolute/x", (p) => readlinkSync(p)), join(volume, "etc/x"));
  t.false(existsSync(join(dir, "outside/x")));
  t.true(isCode(t.throws(() => withSubPath(volume, "../outside", (p) => readlinkSync(p))), "Invalid"));
});
