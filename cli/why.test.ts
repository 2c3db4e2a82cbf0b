import test from "ava";
import type { Pod } from "../base/kube/types.gen.ts";
import type { Explanation } from "../control-plane/state/explain.ts";
import { explainPod } from "./why.ts";

const explain = (explanation: Partial<Explanation>, pod: object = {}): string[] =>
  explainPod({ pod: "default/x", nodeName: undefined, groups: [], fits: [], summary: "", suggestion: undefined, ...explanation }, { metadata: {}, ...pod } as Pod).split("\n");

test("a pod that fits nowhere: each group of nodes with its reasons, and the smallest change that would help", (t) => {
  const nodes = Array.from({ length: 7 }, (_, i) => `node-${i + 1}`);
  t.deepEqual(explain({
    summary: "0/8 nodes are available: 7 Insufficient cpu, 1 node(s) were unschedulable.", suggestion: "request 500m cpu less",
    groups: [{ nodes, failed: [{ check: "resources", message: "needs 2500m cpu, 2000m are free" }] }, { nodes: ["node-8"], failed: [{ check: "unschedulable", message: "the node is cordoned" }] }] as never,
  }, { status: { phase: "Pending" } }), [
    "Pod default/x: Pending",
    "Has no node: 0/8 nodes are available: 7 Insufficient cpu, 1 node(s) were unschedulable.",
    "  7 nodes (node-1, node-2, node-3, node-4 and 3 more):",
    "    resources: needs 2500m cpu, 2000m are free",
    "  1 node (node-8):",
    "    unschedulable: the node is cordoned",
    "Smallest change: request 500m cpu less",
  ]);
});

test("a pod that has a node: what its containers wait for or ended with", (t) => {
  t.deepEqual(explain({ nodeName: "node-1", fits: ["node-2"] }, {
    status: {
      phase: "Running",
      containerStatuses: [
        { name: "a", ready: false, restartCount: 2, state: { waiting: { reason: "CrashLoopBackOff", message: "back-off 20s" } }, lastState: { terminated: { reason: "Error", exitCode: 1 } } },
        { name: "b", ready: false, restartCount: 0, state: { running: {} } },
        { name: "c", ready: true, restartCount: 0, state: { running: {} } },
      ],
      conditions: [{ type: "Ready", status: "False", message: "containers with unready status: [a b]" }, { type: "PodScheduled", status: "True" }],
    },
  }), [
    "Pod default/x: Running",
    "Runs on node-1; fits on: node-2",
    "  container a waits: CrashLoopBackOff: back-off 20s",
    "  container a ended before: Error, exit code 1; restarted 2 times",
    "  container b runs, but is not ready",
    "Ready is false: containers with unready status: [a b]",
  ]);
});

test("a pod that fits but has no node yet, and one that is being deleted", (t) => {
  t.true(explain({ fits: ["node-1"] }).includes("  fits on: node-1; it will be placed in a moment"));
  t.is(explain({ nodeName: "n" }, { metadata: { deletionTimestamp: "2026-01-01T00:00:00Z" }, status: { phase: "Running" } })[0], "Pod default/x: Terminating");
});
