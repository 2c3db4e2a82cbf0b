import test from "ava";
import { allocatableOf } from "./allocatable.ts";
import { NO_PRESSURE, judge, parseThresholds, type Observations, type PressureState } from "./thresholds.ts";

const plenty = { available: 1000, capacity: 1000 };
const all = (change: Partial<Observations> = {}): Observations => ({
  "memory.available": plenty, "nodefs.available": plenty, "nodefs.inodesFree": plenty, "imagefs.available": plenty, "imagefs.inodesFree": plenty, "pid.available": plenty, ...change,
});
const parse = (hard: readonly string[], soft: readonly string[] = [], softGrace: readonly string[] = []) => parseThresholds({ hard, soft, softGrace });

test("thresholds are quantities or parts of the capacity; 0 switches one off", (t) => {
  t.deepEqual(parse(["memory.available<100Mi", "nodefs.available<10%", "pid.available<0"]), [
    { signal: "memory.available", amount: { quantity: 100 << 20 }, graceMs: undefined }, { signal: "nodefs.available", amount: { percent: 10 }, graceMs: undefined },
  ]);
  t.deepEqual(parse([], ["memory.available<1Gi"], ["memory.available=90s"]), [{ signal: "memory.available", amount: { quantity: 2 ** 30 }, graceMs: 90_000 }]);
});

const BAD: readonly (readonly [readonly string[], readonly string[], readonly string[], RegExp])[] = [
  [["memory.available"], [], [], /--eviction-hard: "memory.available" is not SIGNAL<AMOUNT/], [["frob<1"], [], [], /"frob" is not a signal: one of memory.available/],
  [["memory.available<lots"], [], [], /"lots" is neither a quantity .* nor a percentage/], [["memory.available<101%"], [], [], /101%/],
  [[], ["memory.available<1Gi"], [], /--eviction-soft-grace-period: memory.available has none/], [[], ["memory.available<1Gi"], ["memory.available=soon"], /"soon" of memory.available is not a duration/],
];
for (const [hard, soft, grace, message] of BAD) test(`${[...hard, ...soft, ...grace].join(" ")} is refused`, (t) => t.throws(() => parse(hard, soft, grace), { code: "BadRequest", message }));

test("a hard threshold acts at once, a soft one after its grace; a condition outlives what it was seen for", (t) => {
  const thresholds = parse(["nodefs.available<10%"], ["memory.available<500"], ["memory.available=30s"]);
  const look = (observed: Observations, state: PressureState, nowMs: number) => judge(thresholds, observed, state, { nowMs, transitionMs: 60_000, minimumReclaim: new Map() });
  const low = all({ "memory.available": { available: 400, capacity: 1000 }, "nodefs.available": { available: 99, capacity: 1000 } });
  const first = look(low, NO_PRESSURE, 0);
  t.deepEqual(first.due.map((d) => d.signal), ["nodefs.available"]);
  t.deepEqual([...first.conditions].sort(), ["DiskPressure", "MemoryPressure"]);
  const second = look(low, first.state, 30_000);
  t.deepEqual(second.due.map((d) => d.signal), ["nodefs.available", "memory.available"], "hard ones first");
  const relieved = look(all(), second.state, 40_000);
  t.is(relieved.due.length, 0);
  t.is(relieved.conditions.size, 2);
  t.is(look(all(), relieved.state, 90_000).conditions.size, 0);
  t.deepEqual(look(low, look(all(), first.state, 10_000).state, 35_000).due.map((d) => d.signal), ["nodefs.available"], "the grace begins anew");
});

test("once met, a threshold lies higher by what is to be won back", (t) => {
  const thresholds = parse(["memory.available<100"]);
  const options = { nowMs: 0, transitionMs: 0, minimumReclaim: new Map([["memory.available", { quantity: 50 }]] as const) };
  const at = (available: number) => all({ "memory.available": { available, capacity: 1000 } });
  t.is(judge(thresholds, at(120), NO_PRESSURE, options).due.length, 0);
  const met = judge(thresholds, at(90), NO_PRESSURE, options);
  t.is(judge(thresholds, at(120), met.state, options).due.length, 1);
  t.is(judge(thresholds, at(150), met.state, options).due.length, 0);
});

test("what a node does not count can't run short", (t) => {
  t.is(judge(parse(["nodefs.inodesFree<5%"]), all({ "nodefs.inodesFree": { available: 0, capacity: 0 } }), NO_PRESSURE, { nowMs: 0, transitionMs: 0, minimumReclaim: new Map() }).due.length, 0);
});

test("allocatable: capacity without reserves, hard thresholds, and memory that is huge pages", (t) => {
  const capacity = { milliCpu: 4000, memoryBytes: 1000, ephemeralStorageBytes: 500, pods: 10, extended: { "hugepages-2Mi": 50 } };
  t.deepEqual(allocatableOf(capacity, { milliCpu: 500, memoryBytes: 200, storageBytes: 30 }, parse(["memory.available<10%", "nodefs.available<50"], ["nodefs.available<90%"], ["nodefs.available=1s"])),
    { milliCpu: 3500, memoryBytes: 650, ephemeralStorageBytes: 420, pods: 10, extended: { "hugepages-2Mi": 50 } });
});
