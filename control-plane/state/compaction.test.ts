import test from "ava";
import { FakeClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/logger.ts";
import { runCompaction } from "./compaction.ts";

test("each round compacts to the mark of the round before, and old group-commit markers go after an hour", async (t) => {
  const clock = new FakeClock();
  const stop = new AbortController();
  const compacted: number[] = [];
  const removed: number[] = [];
  let revision = 0;
  let failing = false;
  const store = {
    mark: async () => {
      if (failing) throw new Error("etcd is away");
      return (revision += 100);
    },
    compact: async (to: number) => void compacted.push(to),
    removeMarkersBefore: async (before: number) => removed.push(before),
  };
  const ended = runCompaction({ store, clock, logger: silentLogger, signal: stop.signal });
  await clock.advance(0);
  t.deepEqual(compacted, []);
  await clock.advance(300_000);
  t.deepEqual(compacted, [100]);
  failing = true;
  await clock.advance(300_000);
  failing = false;
  await clock.advance(300_000);
  t.deepEqual(compacted, [100, 200]);
  await clock.advance(50 * 60_000);
  t.deepEqual(removed, [100]);
  stop.abort();
  await ended;
  t.is(clock.pendingTimers, 0);
});
