import test from "ava";
import type { Pod } from "../../base/kube/types.gen.ts";
import { explainClass } from "./explain.ts";
import { failures, fits } from "./filters.ts";
import { NodeTable } from "./node-table.ts";
import { classOf } from "./pod-class.ts";
import { aNode, aPod } from "./testing.ts";

const tableOf = (...nodes: ReturnType<typeof aNode>[]): NodeTable => {
  const table = new NodeTable();
  for (const node of nodes) table.setNode(node);
  return table;
};
const checksOf = (pod: Pod, table: NodeTable): string[] => failures(classOf(pod), table, 0).map((f) => f.check);

test("a pod that asks for more than is free fails on each resource that lacks", (t) => {
  const table = tableOf(aNode("a", { cpu: "1", memory: "1Gi" }));
  table.place(aPod("other", { cpu: "800m" }), "a");
  const failed = failures(classOf(aPod("p", { cpu: "500m", memory: "2Gi" })), table, 0);
  t.deepEqual(failed.map((f) => f.message), ["cpu: needs 500m, free 200m of 1", "memory: needs 2Gi, free 1Gi of 1Gi"]);
});

test("a node takes no more pods than it says", (t) => {
  const table = tableOf(aNode("a", { pods: "1" }));
  t.true(fits(classOf(aPod("p")), table, 0));
  table.place(aPod("other"), "a");
  t.deepEqual(failures(classOf(aPod("p")), table, 0).map((f) => f.short), ["Too many pods"]);
});

test("a taint keeps out what does not tolerate it, PreferNoSchedule keeps out nothing", (t) => {
  const hard = tableOf(aNode("a", { taints: [{ key: "gpu", value: "yes", effect: "NoSchedule" }] }));
  t.deepEqual(checksOf(aPod("p"), hard), ["taints"]);
  t.deepEqual(checksOf(aPod("p", { spec: { tolerations: [{ key: "gpu", operator: "Equal", value: "yes", effect: "NoSchedule" }] } }), hard), []);
  t.deepEqual(checksOf(aPod("p", { spec: { tolerations: [{ key: "gpu", value: "no" }] } }), hard), ["taints"]);
  t.deepEqual(checksOf(aPod("p", { spec: { tolerations: [{ operator: "Exists" }] } }), hard), []);
  t.deepEqual(checksOf(aPod("p"), tableOf(aNode("a", { taints: [{ key: "x", effect: "PreferNoSchedule" }] }))), []);
});

test("a cordoned node and a node that is not ready take only what tolerates that", (t) => {
  t.deepEqual(checksOf(aPod("p"), tableOf(aNode("a", { unschedulable: true }))), ["unschedulable"]);
  t.deepEqual(checksOf(aPod("p"), tableOf(aNode("a", { ready: false }))), ["taints"]);
  t.deepEqual(checksOf(aPod("p", { spec: { tolerations: [{ key: "node.kubernetes.io/not-ready", operator: "Exists" }] } }), tableOf(aNode("a", { ready: false }))), []);
});

test("nodeSelector, required affinity and nodeName choose nodes", (t) => {
  const table = tableOf(aNode("a", { labels: { disk: "ssd" } }));
  const affinity = (values: string[], operator = "In"): Partial<Pod["spec"]> & object => ({
    affinity: { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [{ matchExpressions: [{ key: "disk", operator, values }] }] } } },
  });
  t.deepEqual(checksOf(aPod("p", { spec: { nodeSelector: { disk: "ssd" } } }), table), []);
  t.deepEqual(checksOf(aPod("p", { spec: { nodeSelector: { disk: "hdd" } } }), table), ["node-selector"]);
  t.deepEqual(checksOf(aPod("p", { spec: affinity(["ssd"]) }), table), []);
  t.deepEqual(checksOf(aPod("p", { spec: affinity(["ssd"], "NotIn") }), table), ["node-affinity"]);
  t.deepEqual(checksOf(aPod("p", { spec: { nodeName: "b" } }), table), ["node-name"]);
});

test("a host port is taken once, per protocol and address", (t) => {
  const table = tableOf(aNode("a"));
  table.place(aPod("other", { hostPort: 8080 }), "a");
  t.deepEqual(checksOf(aPod("p", { hostPort: 8080 }), table), ["host-ports"]);
  t.deepEqual(checksOf(aPod("p", { hostPort: 8081 }), table), []);
  table.remove("uid-other");
  t.deepEqual(checksOf(aPod("p", { hostPort: 8080 }), table), []);
});

test("an explanation groups nodes that fail alike and names the smallest change", (t) => {
  const table = tableOf(aNode("a", { cpu: "2" }), aNode("b", { cpu: "2" }), aNode("c", { cpu: "3" }), aNode("d", { cpu: "8", unschedulable: true }));
  const explained = explainClass(aPod("p", { cpu: "4" }), classOf(aPod("p", { cpu: "4" })), table);
  t.is(explained.summary, "0/4 nodes are available: 1 node(s) were unschedulable, 3 Insufficient cpu.");
  t.deepEqual(explained.groups[0]!.nodes, ["a", "b"]);
  t.is(explained.suggestion, "to fit on node c: request at most 3 of cpu (now 4)");
});
