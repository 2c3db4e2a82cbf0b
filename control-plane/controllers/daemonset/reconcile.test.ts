import test from "ava";
import type { DaemonSet, DaemonSetSpec, Node, Pod, PodSpec, Taint } from "../../../base/kube/types.gen.ts";
import { isActive, isReady } from "../objects.ts";
import { REVISION_HASH } from "../revision-history.ts";
import { NS, template } from "../testing.ts";
import { daemonTolerations, judgeNode, nodeOf, templateFor } from "./placement.ts";
import { reconcile } from "./reconcile.ts";

const NOW = Date.UTC(2026, 0, 1, 12);
const at = (secondsAgo: number): string => `${new Date(NOW - secondsAgo * 1000).toISOString().slice(0, 19)}Z`;

const node = (name: string, more: { labels?: Record<string, string>; taints?: Taint[] } = {}): Node => ({ apiVersion: "v1", kind: "Node", metadata: { name, uid: name, labels: more.labels ?? {} }, spec: { taints: more.taints } });
const daemonSet = (rollingUpdate: object | null = { maxUnavailable: 1, maxSurge: 0 }, more: Partial<DaemonSetSpec> = {}): DaemonSet => ({
  apiVersion: "apps/v1", kind: "DaemonSet", metadata: { name: "d", namespace: NS, uid: "d", generation: 2 },
  spec: { selector: { matchLabels: { app: "d" } }, template: template({ app: "d" }), updateStrategy: rollingUpdate ? { type: "RollingUpdate", rollingUpdate } : { type: "OnDelete" }, ...more },
});
interface Traits { hash?: string; ready?: number; leaving?: boolean; phase?: string; age?: number; placed?: boolean; ended?: number }
const pod = (name: string, on: string, { hash = "new", ready, leaving, phase = "Running", age = 100, placed = true, ended }: Traits = {}): Pod => ({
  apiVersion: "v1", kind: "Pod", metadata: { name, namespace: NS, uid: name, labels: { app: "d", [REVISION_HASH]: hash }, creationTimestamp: at(age), ...(leaving && { deletionTimestamp: at(0) }) },
  spec: placed ? { containers: [], nodeName: on } : { ...templateFor(template({}), on).spec!, containers: [] },
  status: {
    phase, ...(ready !== undefined && { conditions: [{ type: "Ready", status: "True", lastTransitionTime: at(ready) }] }),
    ...(ended !== undefined && { containerStatuses: [{ name: "c", ready: false, restartCount: 0, image: "", imageID: "", state: { terminated: { exitCode: 1, finishedAt: at(ended) } } }] }),
  },
});
const plan = (ds: DaemonSet, nodes: readonly Node[], pods: readonly Pod[]) => reconcile({ daemonSet: ds, nodes, pods, hash: "new", nowMs: NOW });
const names = (pods: readonly Pod[]): string[] => pods.map((p) => p.metadata.name!).sort();
const THREE = [node("a"), node("b"), node("c")];

const affinity = (terms: object[]): PodSpec["affinity"] => ({ nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: terms } } });
for (const [title, spec, on, shouldRun, shouldContinue] of [
  ["any node", {}, node("a"), true, true],
  ["a selected label", { nodeSelector: { disk: "ssd" } }, node("a", { labels: { disk: "ssd" } }), true, true],
  ["a label that is not there", { nodeSelector: { disk: "ssd" } }, node("a"), false, false],
  ["an affinity to another node", { affinity: affinity([{ matchFields: [{ key: "metadata.name", operator: "In", values: ["b"] }] }]) }, node("a"), false, false],
  ["a fixed node", { nodeName: "b" }, node("a"), false, false],
  ["NoSchedule keeps what is there", {}, node("a", { taints: [{ key: "x", effect: "NoSchedule" }] }), false, true],
  ["NoExecute keeps nothing", {}, node("a", { taints: [{ key: "x", effect: "NoExecute" }] }), false, false],
  ["a preference decides nothing", {}, node("a", { taints: [{ key: "x", effect: "PreferNoSchedule" }] }), true, true],
  ["a toleration of its own", { tolerations: [{ key: "x", operator: "Exists" }] }, node("a", { taints: [{ key: "x", effect: "NoExecute" }] }), true, true],
  ["cordoned", {}, node("a", { taints: [{ key: "node.kubernetes.io/unschedulable", effect: "NoSchedule" }] }), true, true],
  ["short of memory", {}, node("a", { taints: [{ key: "node.kubernetes.io/memory-pressure", effect: "NoSchedule" }] }), true, true],
  ["unreachable", {}, node("a", { taints: [{ key: "node.kubernetes.io/unreachable", effect: "NoExecute" }] }), true, true],
  ["without network", {}, node("a", { taints: [{ key: "node.kubernetes.io/network-unavailable", effect: "NoSchedule" }] }), false, true],
  ["without network, on the host's", { hostNetwork: true }, node("a", { taints: [{ key: "node.kubernetes.io/network-unavailable", effect: "NoSchedule" }] }), true, true],
] as const) {
  test(`belongs on a node: ${title}`, (t) => {
    const plain = template({});
    t.deepEqual(judgeNode({ ...plain, spec: { ...plain.spec!, ...spec as Partial<PodSpec> } }, on), { shouldRun, shouldContinue });
  });
}

test("a pod is pinned to its node, keeps its preferences, and tolerates no taint twice", (t) => {
  const plain = template({});
  const made = templateFor({ ...plain, spec: { ...plain.spec!, tolerations: [{ key: "node.kubernetes.io/not-ready", operator: "Exists", effect: "NoExecute" }], affinity: { ...affinity([{ matchExpressions: [] }]), podAffinity: {} } } }, "b");
  t.is(nodeOf({ apiVersion: "v1", kind: "Pod", metadata: {}, spec: made.spec! }), "b");
  t.deepEqual(made.spec!.affinity!.podAffinity, {});
  t.is(made.spec!.tolerations!.length, 6);
  t.is(daemonTolerations({ containers: [], hostNetwork: true }).length, 7);
});

for (const [title, ds, pods, create, remove] of [
  ["each node gets one", daemonSet(), [pod("a1", "a")], ["b", "c"], []],
  ["one that waits for the scheduler counts", daemonSet(), [pod("a1", "a", { placed: false }), pod("b1", "b"), pod("c1", "c")], [], []],
  ["of two on a node the older stays", daemonSet(), [pod("a1", "a", { age: 5 }), pod("a2", "a", { age: 50 }), pod("b1", "b"), pod("c1", "c")], [], ["a1"]],
  ["the next waits for the last to be gone", daemonSet(), [pod("a1", "a", { leaving: true }), pod("b1", "b"), pod("c1", "c")], [], []],
  ["one that ended is replaced", daemonSet(), [pod("a1", "a", { phase: "Failed", ended: 6 }), pod("b1", "b"), pod("c1", "c")], [], ["a1"]],
  ["but not as fast as it can fail", daemonSet(), [pod("a1", "a", { phase: "Failed", ended: 1 }), pod("b1", "b"), pod("c1", "c")], [], []],
  ["a pod for a node that is no more", daemonSet(), [pod("a1", "a"), pod("b1", "b"), pod("c1", "c"), pod("d1", "d", { placed: false })], [], ["d1"]],
  ["an old one is replaced when the others are available", daemonSet(), [pod("a1", "a", { hash: "old", ready: 9 }), pod("b1", "b", { hash: "old", ready: 9 }), pod("c1", "c", { ready: 9 })], [], ["a1"]],
  ["but not while one is not", daemonSet(), [pod("a1", "a", { hash: "old", ready: 9 }), pod("b1", "b", { hash: "old", ready: 9 }), pod("c1", "c")], [], []],
  ["old ones that don't work go at once", daemonSet(), [pod("a1", "a", { hash: "old" }), pod("b1", "b", { hash: "old" }), pod("c1", "c", { hash: "old", ready: 9 })], [], ["a1", "b1"]],
  ["a share rounds up", daemonSet({ maxUnavailable: "50%", maxSurge: 0 }), [pod("a1", "a", { hash: "old", ready: 9 }), pod("b1", "b", { hash: "old", ready: 9 }), pod("c1", "c", { hash: "old", ready: 9 })], [], ["a1", "b1"]],
  ["OnDelete replaces nothing", daemonSet(null), [pod("a1", "a", { hash: "old", ready: 9 }), pod("b1", "b", { hash: "old" })], ["c"], []],
  ["surge adds beside the old one", daemonSet({ maxUnavailable: 0, maxSurge: 1 }), [pod("a1", "a", { hash: "old", ready: 9 }), pod("b1", "b", { hash: "old", ready: 9 }), pod("c1", "c", { ready: 9 })], ["a"], []],
  ["and waits while the new one starts", daemonSet({ maxUnavailable: 0, maxSurge: 1 }), [pod("a1", "a", { hash: "old", ready: 9 }), pod("a2", "a", { age: 1 }), pod("b1", "b", { hash: "old", ready: 9 }), pod("c1", "c", { ready: 9 })], [], []],
  ["and then takes the old one, while the next node surges", daemonSet({ maxUnavailable: 0, maxSurge: 1 }), [pod("a1", "a", { hash: "old", ready: 9 }), pod("a2", "a", { age: 1, ready: 1 }), pod("b1", "b", { hash: "old", ready: 9 }), pod("c1", "c", { ready: 9 })], ["b"], ["a1"]],
] as const) {
  test(title, (t) => {
    const made = plan(ds, THREE, pods);
    t.deepEqual([made.create, names(made.remove)], [[...create], [...remove]]);
  });
}

test("a node that a daemon no longer belongs on loses it, and the status says what is where", (t) => {
  const ds = daemonSet(null, { minReadySeconds: 30 });
  const made = plan(ds, [node("a"), node("b"), node("x", { taints: [{ key: "x", effect: "NoExecute" }] }), node("y", { taints: [{ key: "x", effect: "NoSchedule" }] })],
    [pod("a1", "a", { ready: 40, hash: "old" }), pod("b1", "b", { ready: 10 }), pod("x1", "x"), pod("y1", "y")]);
  t.deepEqual(names(made.remove), ["x1"]);
  t.deepEqual(made.status, {
    desiredNumberScheduled: 2, currentNumberScheduled: 2, numberMisscheduled: 2, numberReady: 2, numberAvailable: 1, numberUnavailable: 1, updatedNumberScheduled: 1, observedGeneration: 2,
  });
  t.is(made.againMs, 20_000);
});

test("any rollout ends with one new pod on each node and stays within its bounds (seeded)", (t) => {
  let state = 17;
  const random = (n: number): number => (state = (state * 48271) % 2147483647) % n;
  for (let run = 0; run < 80; run++) {
    const surge = random(2);
    const bound = 1 + random(4);
    const ds = daemonSet(surge ? { maxUnavailable: 0, maxSurge: bound } : { maxUnavailable: bound, maxSurge: 0 });
    let nodes = Array.from({ length: 1 + random(10) }, (_, i) => node(`n${i}`));
    let pods = nodes.map((n, i) => pod(`p${i}`, n.metadata.name!, { hash: "old", ready: 50 }));
    let made = pods.length;
    const fresh = new Set<string>();
    for (let step = 0; ; step++) {
      t.true(step < 400, `run ${run} does not end`);
      const next = reconcile({ daemonSet: ds, nodes, pods, hash: "new", nowMs: NOW + step * 10_000 });
      const down = nodes.filter((n) => !pods.some((p) => nodeOf(p) === n.metadata.name && isReady(p) && isActive(p) && !next.remove.includes(p))).length;
      t.true(down <= (surge ? 0 : bound) + fresh.size, `run ${run}: ${down} nodes without a working daemon`);
      const extra = pods.filter((p) => isActive(p) && !next.remove.includes(p)).length + next.create.length - nodes.length;
      t.true(extra <= (surge ? bound : 0), `run ${run}: ${extra} pods too many`);
      const removed = new Set(next.remove);
      pods = pods.map((p) => (removed.has(p) ? { ...p, metadata: { ...p.metadata, deletionTimestamp: at(0) } } : p));
      pods.push(...next.create.map((on) => pod(`p${made++}`, on, { placed: false, phase: "Pending", age: -step })));
      // Scheduler and agents: some are placed, some become ready, some of those marked end.
      pods = pods.filter((p) => !p.metadata.deletionTimestamp || random(2) === 0).map((p) => {
        if (p.metadata.deletionTimestamp || random(2) === 0) return p;
        if (!p.spec!.nodeName) return { ...p, spec: { ...p.spec!, nodeName: nodeOf(p) } };
        if (isReady(p)) return p;
        fresh.delete(nodeOf(p));
        return { ...p, status: { phase: "Running", conditions: [{ type: "Ready", status: "True", lastTransitionTime: at(100 - step * 10) }] } };
      });
      if (step === 5) {
        fresh.add("late");
        nodes = [...nodes, node("late")];
      }
      const done = step > 5 && pods.length === nodes.length && pods.every((p) => p.metadata.labels![REVISION_HASH] === "new" && isReady(p) && !p.metadata.deletionTimestamp);
      if (done) {
        t.is(new Set(pods.map(nodeOf)).size, nodes.length);
        break;
      }
    }
  }
});
