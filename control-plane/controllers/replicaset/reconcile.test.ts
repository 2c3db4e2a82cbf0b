import test from "ava";
import { stagedReplicasText, startingAt, withStagedReplicas } from "../../../base/kube/staging.ts";
import type { Pod, ReplicaSet } from "../../../base/kube/types.gen.ts";
import { isActive } from "../objects.ts";
import { reconcile, victimsFirst } from "./reconcile.ts";

const NOW = Date.UTC(2026, 0, 1, 12);
const at = (secondsAgo: number): string => `${new Date(NOW - secondsAgo * 1000).toISOString().slice(0, 19)}Z`;

const replicaSet = (replicas: number, more: Partial<NonNullable<ReplicaSet["spec"]>> = {}): ReplicaSet => ({
  apiVersion: "apps/v1", kind: "ReplicaSet", metadata: { name: "web", namespace: "default", uid: "rs", generation: 3 },
  spec: { replicas, selector: { matchLabels: { app: "web" } }, template: { metadata: { labels: { app: "web", tier: "x" } } }, ...more },
});

interface Traits { phase?: string; node?: string; ready?: number; deleting?: boolean; restarts?: number; age?: number; cost?: string; labels?: Record<string, string> }
const pod = (name: string, { phase = "Running", node = "n", ready, deleting, restarts = 0, age = 100, cost, labels = { app: "web" } }: Traits = {}): Pod => ({
  apiVersion: "v1", kind: "Pod",
  metadata: { name, namespace: "default", labels, creationTimestamp: at(age), ...(deleting && { deletionTimestamp: at(0) }), ...(cost && { annotations: { "controller.kubernetes.io/pod-deletion-cost": cost } }) },
  spec: { containers: [], ...(node && { nodeName: node }) },
  status: { phase, ...(ready !== undefined && { conditions: [{ type: "Ready", status: "True", lastTransitionTime: at(ready) }] }), containerStatuses: [{ name: "c", ready: true, restartCount: restarts, image: "", imageID: "" }] },
});

for (const [title, doomed, kept] of [
  ["not placed before placed", pod("x", { node: "" }), pod("y")],
  ["pending before running", pod("x", { phase: "Pending" }), pod("y")],
  ["not ready before ready", pod("x"), pod("y", { ready: 10 })],
  ["cheaper before dearer", pod("x", { ready: 10, cost: "-5" }), pod("y", { ready: 1 })],
  ["ready for a shorter time before longer", pod("x", { ready: 5 }), pod("y", { ready: 50 })],
  ["more restarts before fewer", pod("x", { ready: 5, restarts: 3 }), pod("y", { ready: 5 })],
  ["younger before older", pod("x", { ready: 5, age: 20 }), pod("y", { ready: 5, age: 30 })],
] as const) {
  test(`goes first: ${title}`, (t) => {
    t.is(victimsFirst([kept, doomed])[0]!.metadata.name, "x");
    t.is(victimsFirst([doomed, kept])[0]!.metadata.name, "x");
  });
}

test("of equal pods those on the fullest node go first", (t) => {
  const pods = [pod("a", { node: "one", ready: 5 }), pod("b", { node: "two", ready: 5 }), pod("c", { node: "two", ready: 5 })];
  t.not(victimsFirst(pods)[0]!.metadata.name, "a");
});

test("pods of a sibling crowd a node too", (t) => {
  const [a, b] = [pod("a", { node: "one", ready: 5 }), pod("b", { node: "two", ready: 5 })];
  const plan = reconcile(replicaSet(1), [a, b], NOW, undefined, () => [a, b, pod("c", { node: "two", ready: 5 })]);
  t.deepEqual(plan.remove, [b]);
});

test("finished pods and pods on their way out don't count: they are replaced, and not deleted again", (t) => {
  const plan = reconcile(replicaSet(3), [pod("a"), pod("b", { phase: "Failed" }), pod("c", { deleting: true })], NOW);
  t.is(plan.create, 2);
  t.deepEqual(plan.remove, []);
  t.like(plan.status, { replicas: 1, terminatingReplicas: 1 });
});

test("a ready pod is available after minReadySeconds, and the plan says when to look", (t) => {
  const plan = reconcile(replicaSet(2, { minReadySeconds: 30 }), [pod("a", { ready: 31 }), pod("b", { ready: 10 })], NOW);
  t.like(plan.status, { readyReplicas: 2, availableReplicas: 1, observedGeneration: 3 });
  t.is(plan.againMs, 20_000);
});

test("fully labeled are those with all labels of the template", (t) => {
  t.is(reconcile(replicaSet(2), [pod("a"), pod("b", { labels: { app: "web", tier: "x" } })], NOW).status.fullyLabeledReplicas, 1);
});

test("one that is being deleted does nothing but count", (t) => {
  const rs = replicaSet(5);
  const plan = reconcile({ ...rs, metadata: { ...rs.metadata, deletionTimestamp: at(0) } }, [pod("a")], NOW);
  t.is(plan.create, 0);
  t.is(plan.status.replicas, 1);
});

test("failed creates show as a condition that goes with the next success", (t) => {
  const failed = reconcile(replicaSet(1), [], NOW, "no room");
  t.like(failed.status.conditions?.[0], { type: "ReplicaFailure", status: "True", reason: "FailedCreate", message: "no room" });
  t.is(reconcile({ ...replicaSet(1), status: failed.status }, [], NOW).status.conditions, undefined);
});

test("whatever there is, the plan ends at the wanted number and never deletes and creates at once (seeded)", (t) => {
  let state = 11;
  const random = (n: number): number => (state = (state * 48271) % 2147483647) % n;
  for (let i = 0; i < 500; i++) {
    const pods = Array.from({ length: random(20) }, (_, k) => pod(`p${k}`, {
      phase: ["Pending", "Running", "Succeeded", "Failed", "Unknown"][random(5)]!, node: ["", "a", "b"][random(3)]!, deleting: random(5) === 0, restarts: random(3),
      ...(random(2) === 0 && { ready: random(100) }),
    }));
    const wanted = random(15);
    const plan = reconcile(replicaSet(wanted), pods, NOW);
    t.is(pods.filter(isActive).length + plan.create - plan.remove.length, wanted);
    t.true(plan.create === 0 || plan.remove.length === 0);
    t.true(plan.remove.every(isActive));
    t.true((plan.status.availableReplicas ?? 0) <= (plan.status.readyReplicas ?? 0) && (plan.status.readyReplicas ?? 0) <= plan.status.replicas);
  }
});

test("ahead of a scale-up it makes pods that wait, which count from their instant on, whoever writes spec.replicas when", (t) => {
  const tick = NOW + 30_000;
  const staging = (set: ReplicaSet, text: string | undefined): ReplicaSet => withStagedReplicas(set, text);
  const set = staging(replicaSet(1), stagedReplicasText({ more: 2, atMs: tick, by: "tides" }));
  const one = pod("a", { ready: 100 });
  const [b, c, other] = [startingAt(pod("b", { phase: "Pending" }), tick), startingAt(pod("c", { phase: "Pending" }), tick), startingAt(pod("d", { phase: "Pending" }), tick + 1000)];
  t.like(reconcile(set, [one], NOW), { create: 0, stage: { count: 2, atMs: tick }, remove: [], againMs: 30_000 });
  t.like(reconcile(set, [one, b, other], NOW), { create: 0, stage: { count: 1, atMs: tick }, remove: [other], status: { replicas: 1 } });
  t.like(reconcile(set, [one, b, c], NOW), { create: 0, stage: undefined, remove: [] });
  t.like(reconcile(set, [one, b, c], tick), { create: 0, stage: undefined, remove: [], status: { replicas: 3 } });
  t.like(reconcile(staging(replicaSet(3), undefined), [one, b, c], tick), { create: 0, remove: [], status: { replicas: 3 } });
  t.like(reconcile(replicaSet(1), [one, b, c], NOW), { create: 0, remove: [b, c] }, "it was called off");
  t.like(reconcile(set, [b, c], NOW), { create: 1, stage: undefined }, "a staged one is no stand-in for one that is missing now");
});
