import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import test from "ava";
import { containerChanges, statInLayers } from "./container-diff.ts";

test("added and changed, with the directories that lead there; mount points and mere copies left out", (t) => {
  const root = mkdtempSync(join(tmpdir(), "gantry-diff-"));
  t.teardown(() => rmSync(root, { recursive: true }));
  const put = (path: string): void => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), "x");
  };
  for (const path of ["low/etc/passwd", "low/var/lib/a", "low/usr/bin/x", "high/etc/motd", "upper/etc/passwd", "upper/etc/new/file", "upper/etc/hosts", "upper/tmp/t"]) put(path);
  mkdirSync(join(root, "upper/var/lib"), { recursive: true });
  const layers = ["low", "high"].map((l) => join(root, l));
  const changes = containerChanges(join(root, "upper"), layers, new Set(["etc/hosts"]), () => false);
  t.deepEqual(changes.map((c) => `${c.kind} ${c.path}`), ["C /etc", "A /etc/new", "A /etc/new/file", "C /etc/passwd", "A /tmp", "A /tmp/t"]);
  t.true(statInLayers(layers, "etc/passwd", () => false)?.isFile());
  t.is(statInLayers(layers, "etc/passwd", (d) => d.endsWith("high/etc")), undefined, "an opaque directory hides what is below");
  t.is(statInLayers(layers, "usr/bin/x/y", () => false), undefined);
});
