import { lstatSync, mkdirSync, mkdtempSync, readFileSync, readlinkSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { TarReader } from "../../node-agent/images/tar.ts";
import { writeTar, type TarInput } from "../../node-agent/images/tar-writer.ts";
import { packFiles, unpackFiles } from "./local-files.ts";

const folder = (t: ExecutionContext): string => {
  const path = mkdtempSync(join(tmpdir(), "gantry-cp-"));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
};
const reader = (bytes: Uint8Array): TarReader => new TarReader((async function* () { yield await Promise.resolve(bytes); })(), "the archive");
const unpack = (t: ExecutionContext, entries: readonly TarInput[], name = "x", into = folder(t)): Promise<string> => unpackFiles(reader(writeTar(entries)), into, name, false).then(() => into);

test("a tree comes back as it was, under another name", async (t) => {
  const from = folder(t);
  mkdirSync(join(from, "d/e"), { recursive: true });
  writeFileSync(join(from, "d/e/f"), "content", { mode: 0o751 });
  symlinkSync("/no/where", join(from, "d/link"));
  const pieces: Buffer[] = [];
  for await (const piece of packFiles(join(from, "d"), "d", false)) pieces.push(piece);
  const to = folder(t);
  await unpackFiles(reader(Buffer.concat(pieces)), to, "other", false);
  t.is(readFileSync(join(to, "other/e/f"), "utf8"), "content");
  t.is(lstatSync(join(to, "other/e/f")).mode & 0o777, 0o751);
  t.is(readlinkSync(join(to, "other/link")), "/no/where");
});

test("nothing of an archive gets out of its directory", async (t) => {
  const outside = folder(t);
  await t.throwsAsync(unpack(t, [{ path: "d/../../evil", content: "x" }]), { code: "Invalid", message: /leads out/ });
  await t.throwsAsync(unpack(t, [{ path: "d/", type: "directory" }, { path: "d/link", type: "symlink", linkPath: outside }, { path: "d/link/evil", content: "x" }]), { code: "Invalid", message: /symbolic link/ });
  await t.throwsAsync(unpack(t, [{ path: "d/h", type: "hardlink", linkPath: "d/../../etc/passwd" }]), { code: "Invalid", message: /leads out/ });
  const into = folder(t);
  writeFileSync(join(outside, "kept"), "kept");
  symlinkSync(join(outside, "kept"), join(into, "x"));
  await unpack(t, [{ path: "f", content: "new" }], "x", into);
  t.is(readFileSync(join(outside, "kept"), "utf8"), "kept", "a link in the way is replaced, not followed");
  t.is(readFileSync(join(into, "x"), "utf8"), "new");
  await t.throwsAsync(unpack(t, [{ path: "f", content: "new" }], "d", (() => { const d = folder(t); mkdirSync(join(d, "d")); return d; })()), { code: "BadRequest", message: /directory/ });
});
