import test from "ava";
import type { ExecutionContext } from "ava";
import { NOT_READY, OUT_OF_SERVICE, UNREACHABLE } from "../../../base/kube/node-taints.ts";
import { LEASES, NAMESPACES, NODES, PODS } from "../../../base/kube/resources.ts";
import type { Lease, Node, Pod, Taint, Toleration } from "../../../base/kube/types.gen.ts";
import { keyOf } from "../../state/store.ts";
import { replicaSetController } from "../replicaset/controller.ts";
import { createBench, NS } from "../testing.ts";
import type { Bench } from "../testing.ts";
import { timestamp } from "../objects.ts";
import { LEASE_NAMESPACE, nodeLifecycleController } from "./controller.ts";
import { evictAtMs } from "./reconcile.ts";

const node = (name: string): Node => ({
  apiVersion: "v1", kind: "Node", metadata: { name, uid: `uid-${name}` }, spec: {},
  status: { conditions: [{ type: "Ready", status: "True", reason: "AgentReady", message: "" }] },
});

const pod = (name: string, nodeName: string, tolerations: Toleration[] = []): Pod => ({
  apiVersion: "v1", kind: "Pod", metadata: { name, namespace: NS, uid: `uid-${name}` },
  spec: { containers: [{ name: "main", image: "example" }], nodeName, tolerations, terminationGracePeriodSeconds: 1 },
  status: { phase: "Running", conditions: [{ type: "ContainersReady", status: "True" }, { type: "Ready", status: "True" }] },
});

interface Cluster {
  readonly bench: Bench;
  /** Nodes that renew their lease every 5 s while time passes. */
  readonly alive: Set<string>;
  readonly pass: (ms: number) => Promise<void>;
  readonly renew: (name: string) => Promise<void>;
}

let renewals = 0;

const cluster = async (t: ExecutionContext, names: readonly string[], failing: { reads: boolean } = { reads: false }): Promise<Cluster> => {
  const bench = await createBench(t, [nodeLifecycleController, replicaSetController], {
    store: { intercept: (operation, target) => {
      if (failing.reads && operation === "get" && target && "type" in target && target.type === LEASES) throw new Error("the store is down");
    } },
  });
  await bench.put(NAMESPACES, { apiVersion: "v1", kind: "Namespace", metadata: { name: LEASE_NAMESPACE, uid: "ns-lease" }, status: { phase: "Active" } });
  const renew = async (name: string): Promise<void> => {
    const lease: Lease = { apiVersion: "coordination.k8s.io/v1", kind: "Lease", metadata: { name, namespace: LEASE_NAMESPACE, uid: `lease-${name}` }, spec: { renewTime: String(renewals++) } };
    if (bench.cache.resource(LEASES).get(LEASE_NAMESPACE, name)) await bench.store.update(keyOf(LEASES, lease), () => lease, { writer: "agent" });
    else await bench.store.create(keyOf(LEASES, lease), lease, { writer: "agent" });
  };
  const alive = new Set(names);
  for (const name of names) {
    await bench.put(NODES, node(name));
    await bench.run();
    await renew(name);
  }
  await bench.run();
  return {
    bench, alive, renew,
    pass: async (ms) => {
      for (let left = ms; left > 0; left -= 5000) {
        for (const name of alive) await renew(name);
        await bench.run(Math.min(5000, left));
      }
    },
  };
};

const readyOf = (bench: Bench, name: string) => bench.get(NODES, name)?.status?.conditions?.find((c) => c.type === "Ready");
const taintsOf = (bench: Bench, name: string): string[] => (bench.get(NODES, name)?.spec?.taints ?? []).map((x) => `${x.key}:${x.effect}`);
const marked = (bench: Bench): string[] => bench.list(PODS).filter((p) => p.metadata.deletionTimestamp).map((p) => p.metadata.name!).sort((a, b) => (a < b ? -1 : 1));

test("a silent node is marked after its lease, its pods stop being ready, and they are evicted after the tolerance", async (t) => {
  const { bench, alive, pass } = await cluster(t, ["a", "b", "c"]);
  for (const [name, on] of [["p1", "a"], ["p2", "a"], ["p3", "b"]] as const) await bench.put(PODS, pod(name, on));
  await pass(10_000);
  alive.delete("a");
  await pass(10_000);
  t.is(readyOf(bench, "a")?.status, "True");
  await pass(10_000);
  t.like(readyOf(bench, "a"), { status: "Unknown", reason: "NodeStatusUnknown" });
  t.deepEqual(taintsOf(bench, "a"), [`${UNREACHABLE}:NoSchedule`, `${UNREACHABLE}:NoExecute`]);
  t.like(bench.get(PODS, "p1")!.status!.conditions!.find((c) => c.type === "Ready"), { status: "False", reason: "NodeUnreachable" });
  t.deepEqual(marked(bench), []);
  t.true(bench.events.some((e) => e.reason === "NodeNotReady"));
  await pass(35_000);
  t.deepEqual(marked(bench), ["p1", "p2"]);
  t.true(bench.get(PODS, "p1")!.status!.conditions!.some((c) => c.type === "DisruptionTarget"));
});

test("a silent node is marked also when its time comes in the middle of the pass that judges it", async (t) => {
  const { bench, alive, pass } = await cluster(t, ["a", "b"]);
  const { clock } = bench;
  const [setTimer, monotonicMs] = [clock.setTimer.bind(clock), clock.monotonicMs.bind(clock)];
  // As Node's timers may, these come 1 ms early; that ms is over once the clock was read so many times.
  clock.setTimer = (delayMs, fn) => setTimer(delayMs > 100 ? delayMs - 1 : delayMs, fn);
  for (let readsBefore = 0; readsBefore < 10; readsBefore++) {
    let [instant, reads] = [0, 0];
    clock.monotonicMs = () => {
      if (monotonicMs() !== instant) [instant, reads] = [monotonicMs(), 0];
      return instant + (reads++ < readsBefore ? 0 : 1);
    };
    await pass(10_000);
    t.is(readyOf(bench, "a")?.status, "True");
    alive.delete("a");
    await pass(30_000);
    t.is(readyOf(bench, "a")?.status, "Unknown", `${readsBefore} reads`);
    alive.add("a");
  }
});

test("a node that returns in time keeps its pods, ready as before, and loses the taints", async (t) => {
  const { bench, alive, pass } = await cluster(t, ["a", "b"]);
  await bench.put(PODS, pod("p1", "a"));
  await pass(5000);
  alive.delete("a");
  await pass(30_000);
  t.is(readyOf(bench, "a")?.status, "Unknown");
  alive.add("a");
  await pass(60_000);
  t.is(readyOf(bench, "a")?.status, "True");
  t.deepEqual(taintsOf(bench, "a"), []);
  t.deepEqual(marked(bench), []);
  t.is(bench.get(PODS, "p1")!.status!.conditions!.find((c) => c.type === "Ready")?.status, "True");
});

test("a session that says Ready before its first renewal is not called lost again", async (t) => {
  const { bench, alive, pass } = await cluster(t, ["a", "b"]);
  await pass(5000);
  alive.delete("a");
  await pass(30_000);
  let unknown = 0;
  using _watch = bench.cache.resource(NODES).subscribe(({ stored }) => (unknown += stored.object.status!.conditions!.some((c) => c.status === "Unknown") ? 1 : 0));
  await bench.store.update({ type: NODES, namespace: "", name: "a" }, (current) => ({ ...current, status: { ...current.status, conditions: [{ type: "Ready", status: "True", reason: "AgentReady" }] } }), { writer: "agent" });
  await bench.run(100);
  t.is(unknown, 0);
  t.deepEqual(taintsOf(bench, "a"), []);
});

test("a pod's own toleration decides how long it waits: longer, shorter, or for ever", async (t) => {
  const { bench, alive, pass } = await cluster(t, ["a", "b"]);
  const tolerate = (seconds?: number): Toleration[] => [{ key: UNREACHABLE, operator: "Exists", effect: "NoExecute", ...(seconds !== undefined && { tolerationSeconds: seconds }) }];
  for (const p of [pod("short", "a", tolerate(5)), pod("long", "a", tolerate(300)), pod("ever", "a", tolerate()), pod("plain", "a")]) await bench.put(PODS, p);
  alive.delete("a");
  await pass(40_000);
  t.deepEqual(marked(bench), ["short"]);
  await pass(20_000);
  t.deepEqual(marked(bench), ["plain", "short"]);
  await pass(400_000);
  t.deepEqual(marked(bench), ["long", "plain", "short"]);
});

test("when this process was stopped for longer than the lease, nobody is declared lost", async (t) => {
  const { bench, pass } = await cluster(t, ["a", "b", "c"]);
  await bench.put(PODS, pod("p1", "a"));
  await pass(10_000);
  const { clock } = bench;
  // SIGSTOP: the clock goes on, no timer fires meanwhile, and then all that are due fire at once.
  const stop = clock.monotonicMs() + 60_000;
  const real = clock.monotonicMs.bind(clock);
  clock.monotonicMs = () => Math.max(real(), stop);
  // A node is judged before the watchdog's timer fires.
  await bench.change(NODES, "a", (current) => ({ ...current, metadata: { ...current.metadata, labels: { touched: "yes" } } }));
  await bench.run();
  t.is(readyOf(bench, "a")?.status, "True");
  await bench.run(15_000);
  t.is(readyOf(bench, "a")?.status, "True");
  t.deepEqual(marked(bench), []);
});

test("when all nodes are silent at once nothing is evicted; those that stay away after the others returned get their full time", async (t) => {
  const { bench, alive, pass } = await cluster(t, ["a", "b", "c"]);
  for (const on of ["a", "b", "c"]) await bench.put(PODS, pod(`p-${on}`, on));
  await pass(10_000);
  alive.clear();
  await bench.run(300_000);
  t.is(readyOf(bench, "a")?.status, "Unknown");
  t.deepEqual(marked(bench), []);
  alive.add("b").add("c");
  await pass(40_000);
  t.is(readyOf(bench, "b")?.status, "True");
  t.deepEqual(marked(bench), []);
  await pass(20_000);
  t.deepEqual(marked(bench), ["p-a"]);
});

test("after an outage of the store the nodes that are heard of last are not declared lost", async (t) => {
  const failing = { reads: false };
  const { bench, pass, renew } = await cluster(t, ["a", "b", "c"], failing);
  await pass(10_000);
  failing.reads = true;
  await bench.run(25_000);
  failing.reads = false;
  await renew("a");
  await bench.run(4000);
  await renew("b");
  await bench.run(4000);
  await renew("c");
  await bench.run(1000);
  for (const name of ["a", "b", "c"]) t.is(readyOf(bench, name)?.status, "True");
});

test("a taint NoExecute set by a user evicts what does not tolerate it, at once or after the tolerated time", async (t) => {
  const { bench, pass } = await cluster(t, ["a"]);
  await bench.put(PODS, pod("plain", "a"));
  await bench.put(PODS, pod("minute", "a", [{ key: "maintenance", operator: "Exists", tolerationSeconds: 60 }]));
  await bench.put(PODS, pod("always", "a", [{ operator: "Exists" }]));
  const taint: Taint = { key: "maintenance", value: "now", effect: "NoExecute", timeAdded: timestamp(bench.clock.nowMs()) };
  await bench.change(NODES, "a", (current) => ({ ...current, spec: { ...current.spec, taints: [taint] } }));
  await bench.run(10);
  t.deepEqual(marked(bench), ["plain"]);
  await pass(70_000);
  t.deepEqual(marked(bench), ["minute", "plain"]);
});

test("pods of a deleted node are removed at once, pods of a node that never was after a grace", async (t) => {
  const { bench, pass } = await cluster(t, ["a", "b"]);
  await bench.put(PODS, pod("p1", "a"));
  await bench.put(PODS, pod("p2", "ghost"));
  await pass(5000);
  await bench.remove(NODES, "a");
  await bench.run(10);
  t.deepEqual(bench.list(PODS).map((p) => p.metadata.name), ["p2"]);
  await pass(45_000);
  t.deepEqual(bench.list(PODS), []);
});

const NODES_OF_TEN = Array.from({ length: 10 }, (_, i) => `n${i}`);
const executing = (bench: Bench): string[] => bench.list(NODES).filter((n) => n.spec?.taints?.some((x) => x.effect === "NoExecute")).map((n) => n.metadata.name!);

test("of several lost nodes one after another loses its pods, ten seconds apart", async (t) => {
  const { bench, alive, pass } = await cluster(t, NODES_OF_TEN);
  for (const on of NODES_OF_TEN) await bench.put(PODS, pod(`p-${on}`, on));
  await pass(10_000);
  for (const name of ["n0", "n1", "n2", "n3", "n4"]) alive.delete(name);
  await pass(25_000);
  t.is(executing(bench).length, 1);
  await pass(10_000);
  t.is(executing(bench).length, 2);
  await pass(14_000);
  t.is(marked(bench).length, 3, "the wait for a turn is part of the tolerance: three have had theirs when it ends");
  await pass(20_000);
  t.is(marked(bench).length, 5);
});

test("in a small zone that is mostly gone nothing moves until enough of it returns, or somebody says that a node is off; another zone is not concerned", async (t) => {
  const { bench, alive, pass } = await cluster(t, NODES_OF_TEN);
  for (const [i, name] of NODES_OF_TEN.entries()) {
    await bench.change(NODES, name, (n) => ({ ...n, metadata: { ...n.metadata, labels: { "topology.kubernetes.io/zone": i < 5 ? "west" : "east" } } }));
    await bench.put(PODS, pod(`p-${name}`, name));
  }
  await pass(10_000);
  // One is lost, and then two more of its zone: three of five.
  for (const name of ["n0", "n9"]) alive.delete(name);
  await pass(25_000);
  for (const name of ["n1", "n2"]) alive.delete(name);
  await pass(300_000);
  t.deepEqual(marked(bench), ["p-n0", "p-n9"], "what was lost before goes");
  t.deepEqual(bench.events.filter((e) => e.reason === "EvictionsHeld").map((e) => /node (\S+) stay/.exec(e.message)?.[1]).sort(), ["n1", "n2"]);
  t.regex(bench.events.find((e) => e.reason === "EvictionsHeld")!.message, /The pods of node n1 stay: 3 of 5 nodes of zone west are lost or not ready/);
  await bench.change(NODES, "n2", (n) => ({ ...n, spec: { ...n.spec, taints: [...n.spec!.taints!, { key: OUT_OF_SERVICE, effect: "NoExecute" }] } }));
  await pass(1000);
  t.is(bench.get(PODS, "p-n2"), undefined);
  alive.add("n0");
  await pass(60_000);
  t.deepEqual(marked(bench), ["p-n0", "p-n1", "p-n9"], "two of five are gone still: each for itself");
});

test("a node that its agent calls not ready loses its pods after their tolerance, unless it is ready again", async (t) => {
  const { bench, pass } = await cluster(t, ["a", "b"]);
  for (const [name, on] of [["p1", "a"], ["p2", "b"]] as const) await bench.put(PODS, pod(name, on));
  await pass(10_000);
  const say = (status: string) => bench.store.update({ type: NODES, namespace: "", name: "a" }, (n) => ({ ...n, status: { ...n.status, conditions: [{ type: "Ready", status, reason: "NetworkBroken" }] } }), { writer: "agent" });
  await say("False");
  await pass(5000);
  t.deepEqual(taintsOf(bench, "a"), [`${NOT_READY}:NoSchedule`, `${NOT_READY}:NoExecute`]);
  await say("True");
  await pass(60_000);
  t.deepEqual(marked(bench), []);
  await say("False");
  await pass(40_000);
  t.deepEqual(marked(bench), ["p1"]);
  t.regex(bench.get(PODS, "p1")!.status!.conditions!.find((c) => c.type === "DisruptionTarget")!.message!, /node a is not ready/);
});

test("a node that is out of service: what ran there is gone at once, and counts as failed, once it is known not to be ready", async (t) => {
  const { bench, alive, pass } = await cluster(t, ["a", "b"]);
  await bench.put(PODS, pod("running", "a"));
  await bench.put(PODS, { ...pod("counted", "a"), metadata: { ...pod("counted", "a").metadata, finalizers: ["batch.kubernetes.io/job-tracking"] } });
  await bench.put(PODS, pod("tolerant", "a", [{ operator: "Exists" }]));
  await bench.put(PODS, { ...pod("leaving", "a", [{ operator: "Exists" }]), metadata: { ...pod("leaving", "a").metadata, deletionTimestamp: "2026-01-01T00:10:00Z", deletionGracePeriodSeconds: 600 } });
  await pass(5000);
  alive.delete("a");
  await pass(25_000);
  await bench.change(NODES, "a", (n) => ({ ...n, spec: { ...n.spec, taints: [...(n.spec?.taints ?? []), { key: OUT_OF_SERVICE, value: "nodeshutdown", effect: "NoExecute" }] } }));
  await bench.run(10);
  t.deepEqual(bench.list(PODS).map((p) => p.metadata.name).sort(), ["counted", "tolerant"]);
  const counted = bench.get(PODS, "counted")!;
  t.is(counted.status!.phase, "Failed");
  t.truthy(counted.metadata.deletionTimestamp);
  await bench.remove(PODS, "counted");
  await bench.change(PODS, "tolerant", (p) => ({ ...p, metadata: { ...p.metadata, deletionTimestamp: "2026-01-01T00:10:00Z", deletionGracePeriodSeconds: 600 } }));
  await bench.run(10);
  t.deepEqual(bench.list(PODS), [], "nor is one waited for that is deleted later");
});

test("a cordoned node gets its taint and loses it again", async (t) => {
  const { bench } = await cluster(t, ["a"]);
  await bench.changeSpec(NODES, "a", { unschedulable: true });
  await bench.run();
  t.deepEqual(taintsOf(bench, "a"), ["node.kubernetes.io/unschedulable:NoSchedule"]);
  await bench.changeSpec(NODES, "a", { unschedulable: false });
  await bench.run();
  t.deepEqual(taintsOf(bench, "a"), []);
});

for (const [title, tolerations, taints, at] of [
  ["no taint", [], [], undefined],
  ["only NoSchedule", [], [{ key: "k", effect: "NoSchedule" }], undefined],
  ["not tolerated", [], [{ key: "k", effect: "NoExecute", timeAdded: "2026-01-01T00:00:00Z" }], 0],
  ["value differs", [{ key: "k", operator: "Equal", value: "x" }], [{ key: "k", value: "y", effect: "NoExecute" }], 0],
  ["effect differs", [{ key: "k", operator: "Exists", effect: "NoSchedule" }], [{ key: "k", effect: "NoExecute" }], 0],
  ["tolerated for ever", [{ key: "k", operator: "Exists" }], [{ key: "k", effect: "NoExecute" }], undefined],
  ["the shortest of two", [{ key: "k", operator: "Exists", tolerationSeconds: 60 }, { operator: "Exists", tolerationSeconds: 10 }], [{ key: "k", effect: "NoExecute", timeAdded: "2026-01-01T00:00:00Z" }], Date.UTC(2026, 0, 1) + 10_000],
  ["negative seconds mean at once", [{ key: "k", operator: "Exists", tolerationSeconds: -5 }], [{ key: "k", effect: "NoExecute", timeAdded: "2026-01-01T00:00:00Z" }], Date.UTC(2026, 0, 1)],
] as const) {
  test(`eviction time: ${title}`, (t) => t.is(evictAtMs(pod("p", "a", [...tolerations]), { taints: [...taints], lostAtMs: 0, podEvictionMs: 30_000 }), at));
}
