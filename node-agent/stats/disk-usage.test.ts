import test from "ava";
import { linkSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { diskUsage } from "./disk-usage.ts";

test("a folder's usage: what is allocated, hard links once, no link followed", async (t) => {
  const root = mkdtempSync(join(tmpdir(), "gantry-du-"));
  t.teardown(() => rmSync(root, { recursive: true }));
  const empty = await diskUsage(root);
  mkdirSync(join(root, "a/b"), { recursive: true });
  writeFileSync(join(root, "a/b/file"), Buffer.alloc(1 << 20, 1));
  linkSync(join(root, "a/b/file"), join(root, "a/again"));
  symlinkSync("/usr", join(root, "a/usr"));
  const used = await diskUsage(root);
  t.true(used - empty >= 1 << 20 && used - empty < (1 << 20) + (64 << 10), `${used - empty}`);
  t.true((await diskUsage(join(root, "a/again"))) >= 1 << 20, "of a file as well");
  t.is(await diskUsage(join(root, "missing")), 0);
});
