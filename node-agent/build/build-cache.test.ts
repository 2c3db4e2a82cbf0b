import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { FakeClock } from "../../base/clock.ts";
import { BuildCache, cacheKey } from "./build-cache.ts";

const layer = (n: number, sizeBytes: number) => ({ diffId: `sha256:${String(n).padStart(64, "0")}` as const, blob: { mediaType: "x", digest: `sha256:${String(n + 50).padStart(64, "0")}` as const, sizeBytes } });

test("entries outlive the process, half-written ones don't; what is old or too much goes, the longest unused first", async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "gantry-cache-"));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const clock = new FakeClock(Date.now());
  const cache = new BuildCache(directory, clock);
  const keys = [1, 2, 3].map((n) => cacheKey("step", n));
  cache.put(keys[0]!, { layer: layer(1, 100), createdMs: 1 });
  cache.put(keys[1]!, { layer: undefined, createdMs: 2 });
  writeFileSync(join(directory, ".half"), "{");
  writeFileSync(join(directory, cacheKey("bad")), "{}");
  const again = new BuildCache(directory, clock);
  t.deepEqual(readdirSync(directory).sort(), keys.slice(0, 2).sort());
  t.like(again.get(keys[0]!), { layer: layer(1, 100), createdMs: 1 });
  t.deepEqual([...again.digests()], [layer(1, 100).diffId, layer(1, 100).blob.digest]);
  await clock.advance(3 * 86_400_000);
  again.put(keys[2]!, { layer: layer(3, 60), createdMs: 3 });
  again.prune(7 * 86_400_000, 100);
  t.is(again.get(keys[0]!), undefined);
  t.truthy(again.get(keys[2]!));
  await clock.advance(5 * 86_400_000);
  again.get(keys[2]!);
  again.prune();
  t.is(again.get(keys[1]!), undefined);
  t.truthy(again.get(keys[2]!));
});
