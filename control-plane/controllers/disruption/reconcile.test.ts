import test from "ava";
import type { Pod, PodDisruptionBudget } from "../../../base/kube/types.gen.ts";
import { reconcile } from "./reconcile.ts";

const NOW = Date.UTC(2026, 0, 1);
const ago = (seconds: number): string => new Date(NOW - seconds * 1000).toISOString();
const pod = (name: string, ready = true, more: { readonly deleting?: boolean; readonly phase?: string } = {}): Pod => ({
  apiVersion: "v1", kind: "Pod", metadata: { name, namespace: "default", ...(more.deleting && { deletionTimestamp: ago(1) }) }, spec: { containers: [] },
  status: { phase: more.phase ?? "Running", conditions: [{ type: "Ready", status: ready ? "True" : "False" }] },
});
const budget = (spec: PodDisruptionBudget["spec"], status: PodDisruptionBudget["status"] = {}): PodDisruptionBudget => ({ apiVersion: "policy/v1", kind: "PodDisruptionBudget", metadata: { name: "b", namespace: "default", generation: 2 }, spec, status });
const many = (ready: number, unready = 0): Pod[] => [...Array.from({ length: ready }, (_, i) => pod(`r${i}`)), ...Array.from({ length: unready }, (_, i) => pod(`u${i}`, false))];

for (const [title, spec, pods, wanted, [allowed, healthy, desired, expected]] of [
  ["a number that must stay", { minAvailable: 2 }, many(3), "no controller", [1, 3, 2, 3]],
  ["of bare pods those that are there are expected", { minAvailable: 2 }, many(2, 1), "no controller", [0, 2, 2, 3]],
  ["a share that must stay is rounded up", { minAvailable: "50%" }, many(5), 5, [2, 5, 3, 5]],
  ["a number that may go", { maxUnavailable: 1 }, many(3), 3, [1, 3, 2, 3]],
  ["a number that may go, and one is missing", { maxUnavailable: 1 }, many(2), 3, [0, 2, 2, 3]],
  ["a share that may go is rounded up", { maxUnavailable: "30%" }, many(5), 5, [2, 5, 3, 5]],
  ["all may go", { maxUnavailable: "100%" }, many(2), 2, [2, 2, 0, 2]],
  ["none may go", { minAvailable: "100%" }, many(2), 2, [0, 2, 2, 2]],
  ["a pod on its way out is not healthy", { minAvailable: 1 }, [pod("a"), pod("b", true, { deleting: true })], "no controller", [0, 1, 1, 2]],
  ["an ended pod doesn't count", { minAvailable: 1 }, [pod("a"), pod("b", true, { phase: "Succeeded" })], "no controller", [0, 1, 1, 1]],
  ["no pods", { minAvailable: 0 }, [], 0, [0, 0, 0, 0]],
] as const) {
  test(title, (t) => {
    const { status } = reconcile({ budget: budget(spec), pods, wanted, nowMs: NOW });
    t.like(status, { disruptionsAllowed: allowed, currentHealthy: healthy, desiredHealthy: desired, expectedPods: expected, observedGeneration: 2 });
    t.like(status.conditions![0], { type: "DisruptionAllowed", status: allowed > 0 ? "True" : "False", reason: allowed > 0 ? "SufficientPods" : "InsufficientPods" });
  });
}

test("what was granted counts as gone until it is seen to go, or didn't for two minutes", (t) => {
  const plan = reconcile({ budget: budget({ minAvailable: 1 }, { disruptedPods: { r0: ago(10), r1: ago(130), gone: ago(5) } }), pods: many(3), wanted: 3, nowMs: NOW });
  t.like(plan.status, { disruptionsAllowed: 1, currentHealthy: 2, disruptedPods: { r0: ago(10) } });
  t.is(plan.againMs, 110_000);
  const after = reconcile({ budget: budget({ minAvailable: 1 }, { disruptedPods: { r0: ago(10) } }), pods: [pod("r0", true, { deleting: true }), pod("r1")], wanted: 3, nowMs: NOW });
  t.is(after.status.disruptedPods, undefined);
});

test("a share of pods without a controller can't be told", (t) => {
  const { status } = reconcile({ budget: budget({ minAvailable: "50%" }), pods: many(2), wanted: 'found no controllers for pod "r0"', nowMs: NOW });
  t.is(status.disruptionsAllowed, 0);
  t.like(status.conditions![0], { status: "False", reason: "SyncFailed", message: 'found no controllers for pod "r0"' });
});
