import test from "ava";
import type { Pod, PodDisruptionBudget } from "../../base/kube/types.gen.ts";
import { granted } from "./eviction.ts";

const pod = (ready: boolean): Pod => ({ apiVersion: "v1", kind: "Pod", metadata: { name: "p" }, status: { phase: "Running", conditions: [{ type: "Ready", status: ready ? "True" : "False" }] } });
const budget = (status: PodDisruptionBudget["status"], unhealthyPodEvictionPolicy?: string): PodDisruptionBudget =>
  ({ apiVersion: "policy/v1", kind: "PodDisruptionBudget", metadata: { name: "b", generation: 1 }, spec: { minAvailable: 2, unhealthyPodEvictionPolicy }, status: { observedGeneration: 1, ...status } });

test("what is allowed is taken from the budget, once each", (t) => {
  const first = granted(budget({ disruptionsAllowed: 1, currentHealthy: 3, desiredHealthy: 2 }), pod(true), Date.UTC(2026, 0, 1))!;
  t.like(first.status, { disruptionsAllowed: 0, disruptedPods: { p: "2026-01-01T00:00:00Z" } });
  t.like(t.throws(() => granted(first, pod(true), 0)), { code: "TooManyRequests", details: { causes: [{ reason: "DisruptionBudget", message: "The disruption budget b needs 2 healthy pods and has 3 currently" }] } });
});

test("a budget that its controller has not seen yet grants nothing", (t) => {
  t.like(t.throws(() => granted(budget({ disruptionsAllowed: 5, observedGeneration: 0 }), pod(true), 0)), { code: "TooManyRequests", details: { causes: [{ message: "The disruption budget b is still being processed by the server." }], retryAfterSeconds: 10 } });
});

for (const [title, status, policy, free] of [
  ["while the budget is met", { currentHealthy: 2, desiredHealthy: 2, disruptionsAllowed: 0 }, undefined, true],
  ["not while too few are healthy", { currentHealthy: 1, desiredHealthy: 2, disruptionsAllowed: 0 }, undefined, false],
  ["always, if the budget says so", { currentHealthy: 1, desiredHealthy: 2, disruptionsAllowed: 0 }, "AlwaysAllow", true],
] as const) {
  test(`one that is not ready may go ${title}`, (t) => {
    if (free) t.is(granted(budget(status, policy), pod(false), 0), undefined);
    else t.throws(() => granted(budget(status, policy), pod(false), 0), { message: /would violate the pod's disruption budget/ });
  });
}
