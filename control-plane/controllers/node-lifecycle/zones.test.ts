import test from "ava";
import { intervalMsOf, Turns, ZoneCensus, zoneStateOf } from "./zones.ts";
import type { EvictionPace, ZoneCount } from "./zones.ts";

const PACE: EvictionPace = { intervalMs: 10_000, slowIntervalMs: 100_000, unhealthyPercent: 55, largeZoneNodes: 50 };

for (const [healthy, unhealthy, state, intervalMs] of [
  [0, 0, "normal", 10_000],
  [3, 0, "normal", 10_000],
  [1, 2, "normal", 10_000],
  [0, 1, "full", 10_000],
  [0, 200, "full", 10_000],
  [2, 3, "partial", Infinity],
  [3, 3, "normal", 10_000],
  [9, 11, "partial", Infinity],
  [23, 27, "normal", 10_000],
  [22, 28, "partial", Infinity],
  [22, 29, "partial", 100_000],
  [900, 1100, "partial", 100_000],
  [901, 1099, "normal", 10_000],
] as const) {
  test(`a zone with ${healthy} healthy and ${unhealthy} unhealthy nodes is ${state}`, (t) => {
    t.is(zoneStateOf({ healthy, unhealthy }, PACE), state);
    t.is(intervalMsOf({ healthy, unhealthy }, PACE), intervalMs);
  });
}

/** Whole numbers below n, the same in every run. */
const seeded = (seed: number) => (n: number): number => (seed = (seed * 48271) % 2147483647) % n;

test("whatever comes, changes and goes, the census counts what a count from scratch does (seeded)", (t) => {
  const below = seeded(7);
  const census = new ZoneCensus();
  const nodes = new Map<string, { zone: string; healthy: boolean }>();
  for (let step = 0; step < 5000; step++) {
    const name = `n${below(12)}`;
    if (below(4) === 0) {
      nodes.delete(name);
      census.remove(name);
    } else {
      const node = { zone: `z${below(3)}`, healthy: below(2) === 0 };
      nodes.set(name, node);
      census.set(name, node.zone, node.healthy);
    }
    const all = [...nodes.values()];
    for (const zone of ["z0", "z1", "z2"]) {
      const mine = all.filter((n) => n.zone === zone);
      const count: ZoneCount = { healthy: mine.filter((n) => n.healthy).length, unhealthy: mine.filter((n) => !n.healthy).length };
      t.deepEqual(census.of(zone), count);
    }
    t.is(census.allUnhealthy, all.length > 0 && all.every((n) => !n.healthy));
  }
});

test("however nodes ask, turns of one zone are an interval apart, and everybody has theirs in the end (seeded)", (t) => {
  const below = seeded(11);
  const turns = new Turns();
  const waiting = new Set(Array.from({ length: 20 }, (_, i) => `n${i}`));
  const grantedMs: number[] = [];
  for (let nowMs = 0; waiting.size > 0 && nowMs < 400_000; nowMs += 1 + below(500)) {
    const node = [...waiting][below(waiting.size)]!;
    if (turns.take("z", node, PACE.intervalMs, nowMs) > 0) continue;
    t.is(turns.take("z", node, PACE.intervalMs, nowMs), 0, "it may ask again: its write may have failed");
    waiting.delete(node);
    grantedMs.push(nowMs);
  }
  t.is(waiting.size, 0);
  t.true(grantedMs.every((ms, i) => i === 0 || ms - grantedMs[i - 1]! >= PACE.intervalMs));
  t.is(turns.take("other", "n0", PACE.intervalMs, 0), 0, "another zone has turns of its own");
  t.is(turns.take("z", "n99", Infinity, 1e9), Infinity);
});
