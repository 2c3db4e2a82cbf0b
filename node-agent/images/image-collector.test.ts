import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { FakeClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/logger.ts";
import { Metrics } from "../../base/metrics.ts";
import { ImageCollector, type CollectorOptions } from "./image-collector.ts";
import type { Image } from "./image-service.ts";

const MINUTE = 60_000;
const MB = 1_000_000;

/** Images of 100 MB each on a disk of 1 GB. */
const world = (ages: Readonly<Record<string, number>>, options: Partial<CollectorOptions> = {}) => {
  const clock = new FakeClock();
  const start = clock.nowMs();
  const there = new Map(Object.keys(ages).map((id): [string, Image] => [id, {
    id, manifestDigest: id, manifestBytes: 1, mediaType: "", names: [`docker.io/library/${id}:latest`], sizeBytes: 100 * MB, createdMs: 0, architecture: "amd64", layers: [], layerDirs: [],
    config: { entrypoint: [], cmd: [], env: [], workingDir: "", user: "", stopSignal: "", volumes: [], labels: {}, exposedPorts: [] },
  }]));
  const used = new Set<string>();
  const untagged: string[] = [];
  const disk = { usedBytes: 0 };
  const collector = new ImageCollector({
    images: {
      list: () => [...there.values()],
      untag: async (names) => void untagged.push(...names),
      isMadeHere: (image) => image.id.startsWith("made"),
      arrivedMs: (image) => start - ages[image.id]! * MINUTE,
      collectGarbage: async (inUse, spare = () => false) => {
        let freed = 0;
        for (const [id, image] of there) {
          if (inUse.has(id) || spare(image)) continue;
          there.delete(id);
          freed += image.sizeBytes;
        }
        disk.usedBytes -= freed;
        return freed;
      },
    },
    inUse: () => used, disk: async () => ({ capacityBytes: 1000 * MB, availableBytes: 1000 * MB - disk.usedBytes }),
    clock, logger: silentLogger, metrics: new Metrics(), periodMs: 5 * MINUTE, minAgeMs: 2 * MINUTE, maxAgeMs: 0, highPercent: 85, lowPercent: 70, ...options,
  });
  return { clock, collector, used, disk, untagged, left: () => [...there.keys()] };
};

test("a disk that is not full loses nothing", async (t) => {
  const w = world({ a: 1000, b: 10 });
  w.disk.usedBytes = 840 * MB;
  t.is(await w.collector.run(), 0);
  t.deepEqual(w.left(), ["a", "b"]);
});

test("a full disk loses the longest unused images, down to the low mark, but none that is used or new", async (t) => {
  const w = world({ used: 1000, old: 500, older: 800, young: 100, fresh: 1 });
  w.used.add("used");
  w.disk.usedBytes = 860 * MB;
  t.is(await w.collector.run(), 200 * MB);
  t.deepEqual(w.left(), ["used", "young", "fresh"]);
  t.deepEqual(w.untagged, ["docker.io/library/older:latest", "docker.io/library/old:latest"]);
  w.disk.usedBytes = 990 * MB;
  await w.collector.run();
  t.deepEqual(w.left(), ["used", "fresh"]);
});

test("what no registry may have goes last, however old it is", async (t) => {
  const w = world({ made: 1000, old: 500, young: 100 });
  w.disk.usedBytes = 860 * MB;
  await w.collector.run();
  t.deepEqual(w.left(), ["made"]);
  w.disk.usedBytes = 860 * MB;
  await w.collector.run();
  t.deepEqual(w.left(), []);
});

test("age counts from the last use", async (t) => {
  const w = world({ a: 1000, b: 1000 }, { maxAgeMs: 60 * MINUTE });
  w.used.add("a");
  await w.collector.run();
  t.deepEqual(w.left(), ["a"]);
  w.used.delete("a");
  await w.clock.advance(30 * MINUTE);
  await w.collector.run();
  t.deepEqual(w.left(), ["a"]);
  await w.clock.advance(31 * MINUTE);
  await w.collector.run();
  t.deepEqual(w.left(), []);
});

test("a pod that comes in the midst keeps its image", async (t) => {
  const w = world({ a: 1000, b: 900 });
  w.disk.usedBytes = 999 * MB;
  const running = w.collector.run();
  w.used.add("b");
  await running;
  t.deepEqual(w.left(), ["b"]);
});

test("it runs by itself, and whoever needs space can ask", async (t) => {
  const w = world({ a: 1000, b: 900 });
  t.is(await w.collector.relieve(1), 100 * MB);
  w.disk.usedBytes = 999 * MB;
  w.collector.start();
  await w.clock.advance(5 * MINUTE);
  t.deepEqual(w.left(), []);
  w.collector.close();
});

test("when an image was last used outlives a restart", async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "gantry-collector-"));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const stateFile = join(directory, "last-used.json");
  const before = world({ old: 1000, other: 500 }, { stateFile });
  before.used.add("old");
  await before.collector.run();
  const after = world({ old: 1000, other: 500 }, { stateFile, lowPercent: 80 });
  after.disk.usedBytes = 860 * MB;
  await after.clock.advance(3 * MINUTE);
  await after.collector.run();
  t.deepEqual(after.left(), ["old"], "the other one was not used for longer");
  writeFileSync(stateFile, '{"ol');
  t.notThrows(() => world({ old: 1 }, { stateFile }));
});
