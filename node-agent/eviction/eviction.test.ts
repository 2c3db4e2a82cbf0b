// Who goes, and why; and the loop that sees to it, on a node of numbers.
import test from "ava";
import { SystemClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/logger.ts";
import { Metrics } from "../../base/metrics.ts";
import { Resources, StatsSample, type Volume } from "../../proto/gen/gantry/v1/agent.ts";
import { makePod, type PodShape } from "../pods/testing.ts";
import type { RunningPod } from "../pods/pod-service.ts";
import { EvictionManager } from "./eviction-manager.ts";
import { evictionMessage, rank, type Candidate } from "./ranking.ts";
import { exceededLimit, hasStorageLimits } from "./storage-limits.ts";
import { parseThresholds, type Observations } from "./thresholds.ts";

const MI = 1 << 20;
const candidate = (uid: string, usage: number, request = 0, priority = 0): Candidate =>
  ({ uid, usage, priority, qosClass: "Burstable", containers: [{ name: "main", usage, requests: Resources.fromPartial({ memoryBytes: request }) }] });

test("those above their request go first, then by priority, then by how far above", (t) => {
  const order = rank([candidate("within", 500, 600), candidate("little", 150, 100), candidate("much", 900, 100), candidate("important", 900, 0, 1000), candidate("none", 300), candidate("system", 9999, 0, 2_000_000_000)], "memory");
  t.deepEqual(order.map((c) => c.uid), ["much", "none", "little", "important", "within"]);
  t.deepEqual(rank([candidate("few", 3), candidate("many", 30), candidate("important", 300, 0, 1)], "pids").map((c) => c.uid), ["many", "few", "important"]);
});

test("the message names the resource, the threshold, and the containers above their request", (t) => {
  const [threshold] = parseThresholds({ hard: ["memory.available<100Mi"], soft: [], softGrace: [] });
  t.is(evictionMessage(threshold!, { available: 50 * MI, capacity: 1000 * MI }, candidate("u", 30 * MI, 10 * MI)),
    "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. Container main was using 30Mi, request is 10Mi, has larger consumption of memory. ");
});

const limited = (shape: PodShape = {}) => makePod({ containers: [{ name: "main", limits: Resources.fromPartial({ ephemeralStorageBytes: 10 * MI }) }], ...shape });
const emptyDir = (name: string, sizeLimitBytes: number, memory = false): Volume => ({ name, source: { $case: "emptyDir", value: { memory, sizeLimitBytes, hugePageBytes: 0 } } });

test("limits of storage: a volume's, a container's, the pod's", (t) => {
  t.false(hasStorageLimits(makePod()));
  t.false(hasStorageLimits(makePod({ volumes: [emptyDir("v", 1, true)] })), "memory limits itself");
  t.true(hasStorageLimits(makePod({ volumes: [emptyDir("v", 1)] })));
  const usage = (container: number, volume: number) => ({ containers: new Map([["main", container]]), volumes: new Map([["v", volume]]) });
  t.is(exceededLimit(limited(), usage(10 * MI, 0)), undefined);
  t.is(exceededLimit(limited(), usage(10 * MI + 1, 0)), 'Container main exceeded its local ephemeral storage limit "10Mi". ');
  t.is(exceededLimit(limited({ volumes: [emptyDir("v", 0)] }), usage(6 * MI, 5 * MI)), "Pod ephemeral local storage usage exceeds the total limit of containers 10Mi. ");
  t.is(exceededLimit(makePod({ volumes: [emptyDir("v", MI)] }), usage(0, 2 * MI)), 'Usage of EmptyDir volume "v" exceeds the limit "1Mi". ');
});

const plenty = { available: 1000 * MI, capacity: 1000 * MI };
const node = (change: Partial<Observations>): Observations =>
  ({ "memory.available": plenty, "nodefs.available": plenty, "nodefs.inodesFree": plenty, "imagefs.available": plenty, "imagefs.inodesFree": plenty, "pid.available": plenty, ...change });

const setUp = (options: { readonly observe: () => Observations; readonly hard: readonly string[]; readonly pods: readonly RunningPod[]; readonly used?: number; readonly reclaimed?: number }) => {
  const evicted: { readonly uid: string; readonly message: string; readonly graceMs: number }[] = [];
  const gone = new Set<string>();
  let collected = 0;
  const manager = new EvictionManager({
    pods: {
      running: () => options.pods.filter((p) => !gone.has(p.assignment.uid)),
      evict: (uid, e) => {
        gone.add(uid);
        evicted.push({ uid, ...e });
        return true;
      },
    },
    stats: {
      counters: async () => StatsSample.fromPartial({ pods: options.pods.map((p, i) => ({ uid: p.assignment.uid, memory: { workingSetBytes: (i + 1) * MI }, storageBytes: (i + 1) * MI, containers: [{ name: "main", memory: { workingSetBytes: (i + 1) * MI } }] })) }),
      storageOf: async () => ({ containers: new Map([["main", options.used ?? 0]]), volumes: new Map() }),
    },
    observe: options.observe, collectImages: async () => (collected++, options.reclaimed ?? 0), thresholds: parseThresholds({ hard: options.hard, soft: [], softGrace: [] }),
    minimumReclaim: new Map(), transitionMs: 1000, maxGraceMs: 0, periodMs: 1000, clock: new SystemClock(), logger: silentLogger, metrics: new Metrics(),
  });
  return { manager, evicted, collected: () => collected };
};
const running = (shape: PodShape): RunningPod => ({ assignment: makePod(shape), startTimeMs: 0, containers: [] });

test("a node short of memory says so and lets one pod go a look, best effort first, until there is enough", async (t) => {
  let available = 10 * MI;
  const guaranteed = { uid: "guaranteed", qosClass: "Guaranteed", containers: [{ name: "main", requests: Resources.fromPartial({ memoryBytes: 100 * MI }) }] };
  const { manager, evicted } = setUp({ hard: ["memory.available<100Mi"], observe: () => node({ "memory.available": { available, capacity: 1000 * MI } }), pods: [running({ uid: "small" }), running({ uid: "large" }), running(guaranteed)] });
  t.false(manager.conditions().some((c) => c.status));
  await manager.look();
  t.deepEqual(evicted.map((e) => e.uid), ["large"]);
  t.is(evicted[0]!.graceMs, 0);
  t.like(manager.conditions().find((c) => c.type === "MemoryPressure")!, { status: true, reason: "AgentHasInsufficientMemory" });
  await manager.look();
  available = 500 * MI;
  await manager.look();
  t.deepEqual(evicted.map((e) => e.uid), ["large", "small"]);
});

test("short of disk, images that nothing uses go before any pod", async (t) => {
  let available = 1 * MI;
  const freed = setUp({ hard: ["imagefs.available<100Mi"], reclaimed: 500 * MI, observe: () => node({ "imagefs.available": { available: (available += 60 * MI), capacity: 1000 * MI } }), pods: [running({ uid: "a" })] });
  await freed.manager.look();
  t.is(freed.collected(), 1);
  t.deepEqual(freed.evicted, []);
  const stuck = setUp({ hard: ["nodefs.available<100Mi"], reclaimed: 0, observe: () => node({ "nodefs.available": { available: MI, capacity: 1000 * MI } }), pods: [running({ uid: "a" }), running({ uid: "b" })] });
  await stuck.manager.look();
  t.deepEqual(stuck.evicted.map((e) => e.uid), ["b"]);
  t.regex(stuck.evicted[0]!.message, /low on resource: ephemeral-storage. Threshold quantity: 100Mi, available: 1Mi. /);
});

test("a pod above its own limit of storage goes, whatever the node has", async (t) => {
  const { manager, evicted } = setUp({ hard: [], observe: () => node({}), used: 11 * MI, pods: [{ assignment: limited(), startTimeMs: 0, containers: [] }, running({ uid: "free" })] });
  await manager.look();
  t.deepEqual(evicted.map((e) => e.uid), ["u"]);
});
