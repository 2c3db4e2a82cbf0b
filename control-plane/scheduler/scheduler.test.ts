import test from "ava";
import { FakeClock, settle } from "../../base/clock.ts";
import { NODES, POD_DISRUPTION_BUDGETS, PODS } from "../../base/kube/resources.ts";
import { START_AT } from "../../base/kube/staging.ts";
import type { Node, Pod } from "../../base/kube/types.gen.ts";
import { silentLogger } from "../../base/logger.ts";
import { Metrics } from "../../base/metrics.ts";
import { keyOf } from "../state/store.ts";
import { createTestState } from "../state/testing.ts";
import { createExplainer } from "./explain.ts";
import { runScheduler } from "./scheduler.ts";
import { aNode, aPod } from "./testing.ts";

const setup = async (t: { teardown(fn: () => unknown): void }) => {
  const clock = new FakeClock();
  const { store, cache } = await createTestState({ clock });
  const abort = new AbortController();
  const events: string[] = [];
  const running = runScheduler({ store, cache, clock, logger: silentLogger, metrics: new Metrics(), events: { record: (e) => void events.push(`${e.reason} ${e.regarding.metadata.name!}: ${e.message}`) } }, undefined, abort.signal);
  t.teardown(async () => {
    abort.abort();
    await running;
    cache.close();
    await store.close();
  });
  return {
    store, cache, clock, events,
    addNode: (node: Node) => store.create(keyOf(NODES, node), node, { writer: "api" }),
    addPod: (pod: Pod) => store.create(keyOf(PODS, pod), pod, { writer: "api" }),
    pod: (name: string): Pod => cache.resource(PODS).get("default", name)!.object,
  };
};

test("pods are bound evenly, with their condition and an event", async (t) => {
  const { addNode, addPod, pod, events } = await setup(t);
  for (const name of ["a", "b", "c"]) await addNode(aNode(name));
  await Promise.all(Array.from({ length: 9 }, (_, i) => addPod(aPod(`p${i}`, { cpu: "100m", owner: "o" }))));
  await settle();
  const bound = Array.from({ length: 9 }, (_, i) => pod(`p${i}`));
  t.deepEqual(["a", "b", "c"].map((n) => bound.filter((p) => p.spec!.nodeName === n).length), [3, 3, 3]);
  t.is(bound[0]!.status!.conditions!.find((c) => c.type === "PodScheduled")!.status, "True");
  t.is(events.filter((e) => e.startsWith("Scheduled ")).length, 9);
});

test("a pod that fits nowhere says why once, and is bound when room appears", async (t) => {
  const { addNode, addPod, pod, events, clock, store } = await setup(t);
  await addNode(aNode("a", { cpu: "1" }));
  await addPod(aPod("big", { cpu: "2" }));
  await clock.advance(1000);
  const condition = pod("big").status!.conditions!.find((c) => c.type === "PodScheduled")!;
  t.is(condition.status, "False");
  t.is(condition.reason, "Unschedulable");
  t.regex(condition.message!, /^0\/1 nodes are available: 1 Insufficient cpu\. Hint: to fit on node a: request at most 1 of cpu \(now 2\)/);
  await clock.advance(60_000);
  t.is(events.filter((e) => e.startsWith("FailedScheduling")).length, 1);
  await addNode(aNode("b", { cpu: "4" }));
  await clock.advance(10);
  t.is(pod("big").spec!.nodeName, "b");
  await store.delete({ type: PODS, namespace: "default", name: "big" }, { writer: "api" });
  await addPod({ ...aPod("next", { cpu: "4" }) });
  await clock.advance(10);
  t.is(pod("next").spec!.nodeName, "b");
});

test("what is deleted, finished, gated or another scheduler's is left alone", async (t) => {
  const { addNode, addPod, pod, clock } = await setup(t);
  await addNode(aNode("a"));
  await addPod({ ...aPod("done"), status: { phase: "Succeeded" } });
  await addPod(aPod("gated", { spec: { schedulingGates: [{ name: "wait" }] } }));
  await addPod(aPod("other", { spec: { schedulerName: "mine" } }));
  await clock.advance(1000);
  for (const name of ["done", "gated", "other"]) t.is(pod(name).spec!.nodeName, undefined, name);
});

test("higher priority is placed first when room is short", async (t) => {
  const { addNode, addPod, pod, clock } = await setup(t);
  await Promise.all([addPod(aPod("low", { cpu: "1", spec: { priority: 1 } })), addPod(aPod("high", { cpu: "1", spec: { priority: 100 } }))]);
  await addNode(aNode("a", { cpu: "1" }));
  await clock.advance(10);
  t.is(pod("high").spec!.nodeName, "a");
  t.is(pod("low").spec!.nodeName, undefined);
});

test("an explanation of a bound pod does not count its own room against it", async (t) => {
  const { addNode, addPod, cache, clock } = await setup(t);
  await addNode(aNode("a", { cpu: "1" }));
  await addPod(aPod("p", { cpu: "1" }));
  await clock.advance(10);
  const explanation = createExplainer(cache).explain("default", "p");
  t.is(explanation.nodeName, "a");
  t.deepEqual(explanation.fits, ["a"]);
});

const ahead = (pod: Pod): Pod => ({ ...pod, metadata: { ...pod.metadata, creationTimestamp: "2026-01-01T00:00:00Z", annotations: { [START_AT]: "2026-01-01T01:00:00Z" } } });

test("staged pods are the first to give way, and as few of them as it takes", async (t) => {
  const { addNode, addPod, pod, clock, cache, store, events } = await setup(t);
  await addNode(aNode("a", { cpu: "4" }));
  await addNode(aNode("b", { cpu: "4" }));
  for (const i of [0, 1, 2, 3, 4, 5, 6, 7]) await addPod(ahead(aPod(`staged-${i}`, { cpu: "1" })));
  await clock.advance(10);
  t.true([0, 1, 2, 3, 4, 5, 6, 7].every((i) => pod(`staged-${i}`).spec!.nodeName !== undefined));
  await addPod(aPod("now", { cpu: "2" }));
  await clock.advance(10);
  const leaving = [...cache.resource(PODS).list()].map((s) => s.object).filter((p) => p.metadata.deletionTimestamp !== undefined);
  t.is(leaving.length, 2);
  t.is(new Set(leaving.map((p) => p.spec!.nodeName)).size, 1);
  t.is(events.filter((e) => e.startsWith("GaveWay")).length, 2);
  // Its Job makes another one at once, which must not take the room again.
  await addPod(ahead(aPod("another", { cpu: "2" })));
  for (const p of leaving) await store.delete(keyOf(PODS, p), { writer: "agent" });
  await clock.advance(10);
  t.is(pod("now").spec!.nodeName, leaving[0]!.spec!.nodeName);
  t.is(pod("another").spec!.nodeName, undefined);
  await clock.advance(500);
  t.true(events.some((e) => e.startsWith("FailedScheduling another")), "said before its tick");
});

test("staged pods give way neither to others that are staged, nor to less important ones, nor for nothing", async (t) => {
  const { addNode, addPod, clock, cache } = await setup(t);
  await addNode(aNode("a", { cpu: "2" }));
  await addPod(ahead(aPod("important", { cpu: "2", spec: { priority: 10 } })));
  await clock.advance(10);
  await addPod(aPod("now", { cpu: "1" }));
  await addPod(ahead(aPod("later", { cpu: "1", spec: { priority: 20 } })));
  await addPod(aPod("huge", { cpu: "8", spec: { priority: 20 } }));
  await clock.advance(1000);
  t.true([...cache.resource(PODS).list()].every((s) => s.object.metadata.deletionTimestamp === undefined));
});

test("a pod waits for the one that it wants to be near to, and is bound when that is", async (t) => {
  const { addNode, addPod, pod, clock } = await setup(t);
  for (const name of ["a", "b"]) await addNode(aNode(name));
  const term = { topologyKey: "kubernetes.io/hostname", labelSelector: { matchLabels: { app: "db" } } };
  await addPod(aPod("web", { spec: { affinity: { podAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [term] } } } }));
  await clock.advance(1000);
  t.regex(pod("web").status!.conditions!.find((c) => c.type === "PodScheduled")!.message!, /^0\/2 nodes are available: 2 node\(s\) didn't match pod affinity rules\./);
  await addPod(aPod("db", { labels: { app: "db" }, spec: { nodeName: undefined, nodeSelector: { "kubernetes.io/hostname": "b" } } }));
  await clock.advance(1000);
  t.is(pod("db").spec!.nodeName, "b");
  t.is(pod("web").spec!.nodeName, "b");
});

test("one a node, though a class of pods alike differs in labels; those that repel count from the moment they are placed", async (t) => {
  const { addNode, addPod, pod, clock } = await setup(t);
  for (const name of ["a", "b"]) await addNode(aNode(name));
  const apart = { spec: { affinity: { podAntiAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [{ topologyKey: "kubernetes.io/hostname", labelSelector: { matchLabels: { app: "web" } } }] } } }, labels: { app: "web" } };
  await Promise.all([addPod(aPod("w0", apart)), addPod(aPod("w1", apart)), addPod(aPod("w2", apart)), addPod(aPod("x", { labels: { app: "web" } })), addPod(aPod("y", { labels: { app: "other" } }))]);
  await clock.advance(1000);
  const nodes = ["w0", "w1", "w2", "x", "y"].map((name) => pod(name).spec!.nodeName);
  t.deepEqual(nodes.slice(0, 2).sort(), ["a", "b"]);
  t.deepEqual(nodes.slice(2, 4), [undefined, undefined]);
  t.truthy(nodes[4], "who isn't repelled goes where it likes");
});

const important = (name: string, priority: number, more: Parameters<typeof aPod>[1] = {}): Pod => aPod(name, { ...more, spec: { ...more.spec, priority } });

test("pods of lower priority make room, as few and as unimportant as will do; nobody slips into it", async (t) => {
  const { addNode, addPod, pod, clock, events, store } = await setup(t);
  for (const name of ["a", "b"]) await addNode(aNode(name, { cpu: "2" }));
  // a: 10 + 20; b: 5 + 30 (each one core).
  for (const [name, priority, node] of [["p10", 10, "a"], ["p20", 20, "a"], ["p5", 5, "b"], ["p30", 30, "b"]] as const) await addPod(important(name, priority, { cpu: "1", spec: { nodeSelector: { "kubernetes.io/hostname": node } } }));
  await clock.advance(10);
  await addPod(important("vip", 100, { cpu: "1" }));
  await clock.advance(1000);
  t.deepEqual(["p10", "p20", "p5", "p30"].filter((name) => pod(name).metadata.deletionTimestamp !== undefined), ["p5"], "the least important one");
  t.is(pod("vip").status!.nominatedNodeName, "b");
  t.like(pod("p5").status!.conditions!.find((c) => c.type === "DisruptionTarget"), { status: "True", reason: "PreemptionByScheduler" });
  t.regex(events.find((e) => e.startsWith("Preempted"))!, /^Preempted p5: Preempted by pod uid-vip on node b/);
  await addPod(important("slips", 0, { cpu: "1" }));
  await clock.advance(1000);
  t.is(pod("slips").spec!.nodeName, undefined);
  await store.delete({ type: PODS, namespace: "default", name: "p5" }, { writer: "agent" });
  await clock.advance(1000);
  t.is(pod("vip").spec!.nodeName, "b");
  t.is(pod("slips").spec!.nodeName, undefined);
  t.is(events.filter((e) => e.startsWith("Preempted")).length, 1);
});

test("each of several gets room of its own; who may not preempt waits; who would gain nothing takes nobody away", async (t) => {
  const { addNode, addPod, pod, clock, events } = await setup(t);
  for (const name of ["a", "b"]) await addNode(aNode(name, { cpu: "1" }));
  for (const node of ["a", "b"]) await addPod(important(`low-${node}`, 1, { cpu: "1", spec: { nodeSelector: { "kubernetes.io/hostname": node } } }));
  await clock.advance(10);
  await addPod(important("polite", 50, { cpu: "1", spec: { preemptionPolicy: "Never" } }));
  await addPod(important("giant", 50, { cpu: "8" }));
  await clock.advance(1000);
  t.deepEqual(events.filter((e) => e.startsWith("Preempted")), []);
  await Promise.all([addPod(important("vip-1", 100, { cpu: "1" })), addPod(important("vip-2", 100, { cpu: "1" })), addPod(important("vip-3", 100, { cpu: "1" }))]);
  await clock.advance(1000);
  t.deepEqual(["vip-1", "vip-2", "vip-3"].map((name) => pod(name).status!.nominatedNodeName ?? "").sort(), ["", "a", "b"]);
  t.is(events.filter((e) => e.startsWith("Preempted")).length, 2);
});

test("of two nodes the one whose budget isn't broken is taken, though its pod is more important", async (t) => {
  const { addNode, addPod, pod, clock, store } = await setup(t);
  for (const name of ["a", "b"]) await addNode(aNode(name, { cpu: "1" }));
  await addPod(important("guarded", 1, { cpu: "1", labels: { app: "guarded" }, spec: { nodeSelector: { "kubernetes.io/hostname": "a" } } }));
  await addPod(important("other", 5, { cpu: "1", spec: { nodeSelector: { "kubernetes.io/hostname": "b" } } }));
  const budget = { apiVersion: "policy/v1", kind: "PodDisruptionBudget", metadata: { name: "b", namespace: "default", uid: "uid-b" }, spec: { minAvailable: 1, selector: { matchLabels: { app: "guarded" } } }, status: { disruptionsAllowed: 0 } };
  await store.create(keyOf(POD_DISRUPTION_BUDGETS, budget), budget, { writer: "api" });
  await clock.advance(10);
  await addPod(important("vip", 100, { cpu: "1" }));
  await clock.advance(1000);
  t.is(pod("vip").status!.nominatedNodeName, "b");
  t.is(pod("guarded").metadata.deletionTimestamp, undefined);
});

const a = (more: Parameters<typeof aNode>[1] = {}): Node => aNode("a", more);
const relabel = (app: string) => (pod: Pod): Pod => ({ ...pod, metadata: { ...pod.metadata, labels: { app } } });

test("of two pods on one node the one stays whose budget would be broken, though it is less important", async (t) => {
  const { addNode, addPod, pod, clock, store } = await setup(t);
  await addNode(a({ cpu: "2" }));
  await addPod(important("guarded", 1, { cpu: "1", labels: { app: "guarded" } }));
  await addPod(important("other", 5, { cpu: "1" }));
  const budget = { apiVersion: "policy/v1", kind: "PodDisruptionBudget", metadata: { name: "b", namespace: "default", uid: "uid-b" }, spec: { minAvailable: 1, selector: { matchLabels: { app: "guarded" } } }, status: { disruptionsAllowed: 0 } };
  await store.create(keyOf(POD_DISRUPTION_BUDGETS, budget), budget, { writer: "api" });
  await clock.advance(10);
  await addPod(important("vip", 100, { cpu: "1" }));
  await clock.advance(1000);
  t.deepEqual(["guarded", "other"].filter((name) => pod(name).metadata.deletionTimestamp !== undefined), ["other"]);
});

test("a pod without a class takes the room of one below it", async (t) => {
  const { addNode, addPod, pod, clock } = await setup(t);
  await addNode(a({ cpu: "1" }));
  await addPod(important("low", -10, { cpu: "1" }));
  await clock.advance(10);
  await addPod(aPod("plain", { cpu: "1" }));
  await clock.advance(1000);
  t.true(pod("low").metadata.deletionTimestamp !== undefined);
});

for (const [title, isGone] of [["that is being made for a lower one", false], ["that was made for a lower one", true]] as const) {
  test(`a more important pod takes the room ${title}, as soon as it is there`, async (t) => {
    const { addNode, addPod, pod, clock, store } = await setup(t);
    const goes = (): Promise<unknown> => store.delete({ type: PODS, namespace: "default", name: "low" }, { writer: "agent" });
    await addNode(a({ cpu: "1" }));
    await addPod(important("low", 1, { cpu: "1" }));
    await clock.advance(10);
    await addPod(important("mid", 50, { cpu: "1" }));
    await clock.advance(1000);
    t.is(pod("mid").status!.nominatedNodeName, "a");
    await Promise.all([addPod(important("top", 90, { cpu: "1" })), ...(isGone ? [goes()] : [])]);
    if (!isGone) {
      await clock.advance(1000);
      t.deepEqual([pod("mid").status!.nominatedNodeName, pod("top").status!.nominatedNodeName], [undefined, "a"]);
      await goes();
    }
    await clock.advance(1000);
    t.deepEqual([pod("mid").spec!.nodeName, pod("top").spec!.nodeName], [undefined, "a"]);
  });
}

test("a waiting pod that gets other labels is tried again: nobody may keep it away any more", async (t) => {
  const { addNode, addPod, pod, clock, store } = await setup(t);
  await addNode(a());
  await addPod(aPod("loner", { spec: { affinity: { podAntiAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [{ topologyKey: "kubernetes.io/hostname", labelSelector: { matchLabels: { app: "web" } } }] } } } }));
  await clock.advance(10);
  await addPod(aPod("web", { labels: { app: "web" } }));
  await clock.advance(1000);
  t.is(pod("web").spec!.nodeName, undefined);
  await store.update({ type: PODS, namespace: "default", name: "web" }, relabel("db"), { writer: "api" });
  await clock.advance(1000);
  t.is(pod("web").spec!.nodeName, "a");
});

test("a gated pod says so, and why says what to remove; it is placed when the gates are gone", async (t) => {
  const { addNode, addPod, pod, clock, store, cache } = await setup(t);
  await addNode(a());
  await addPod(aPod("gated", { spec: { schedulingGates: [{ name: "wait" }] } }));
  await clock.advance(1000);
  t.like(pod("gated").status!.conditions!.find((c) => c.type === "PodScheduled"), { status: "False", reason: "SchedulingGated" });
  const why = createExplainer(cache).explain("default", "gated");
  t.like(why, { summary: 'held by scheduling gates "wait". Without them: 1/1 nodes are available.', suggestion: 'remove "wait" from spec.schedulingGates' });
  t.deepEqual(why.fits, []);
  await store.update({ type: PODS, namespace: "default", name: "gated" }, (p) => ({ ...p, spec: { ...p.spec!, schedulingGates: [] } }), { writer: "api" });
  await clock.advance(1000);
  t.is(pod("gated").spec!.nodeName, "a");
  t.is(pod("gated").status!.conditions!.find((c) => c.type === "PodScheduled")!.status, "True");
});

test("a node that goes and comes back still has its pods; those that ended meanwhile are gone", async (t) => {
  const { addNode, addPod, pod, clock, store } = await setup(t);
  await addNode(a({ cpu: "2" }));
  for (const name of ["stays", "ends"]) await addPod(aPod(name, { cpu: "1" }));
  await clock.advance(10);
  await store.delete({ type: NODES, namespace: "", name: "a" }, { writer: "api" });
  await store.delete({ type: PODS, namespace: "default", name: "ends" }, { writer: "agent" });
  await clock.advance(10);
  await addNode(a({ cpu: "2" }));
  for (const name of ["one", "two"]) await addPod(aPod(name, { cpu: "1" }));
  await clock.advance(1000);
  t.is(["one", "two"].filter((name) => pod(name).spec!.nodeName === "a").length, 1);
});
