import test from "ava";
import { NOT_READY, OUT_OF_SERVICE, UNREACHABLE } from "../../../base/kube/node-taints.ts";
import type { Node, Pod, Taint, Toleration } from "../../../base/kube/types.gen.ts";
import type { Liveness } from "./health.ts";
import { isMarkedLost, reconcile } from "./reconcile.ts";
import type { Input } from "./reconcile.ts";

const NOW = Date.UTC(2026, 0, 1);
const condition = (type: string, status: string) => ({ type, status, reason: "Agent", message: "" });
const node = (conditions: readonly ReturnType<typeof condition>[], taints: Taint[] = [], unschedulable = false): Node => ({
  apiVersion: "v1", kind: "Node", metadata: { name: "n", uid: "u" }, spec: { ...(taints.length > 0 && { taints }), ...(unschedulable && { unschedulable }) }, status: { conditions: [...conditions] },
});
const READY = condition("Ready", "True");
const input = (of: Node, more: Partial<Input> = {}): Input => ({ node: of, pods: [], liveness: "alive", mayEvict: true, mayExecute: true, lostAtMs: NOW, podEvictionMs: 30_000, ...more });
const keys = (of: Node): string[] => (of.spec?.taints ?? []).map((t) => `${t.key.replace("node.kubernetes.io/", "")}:${t.effect}`);

for (const [title, of, more, expected] of [
  ["is ready", node([READY]), {}, []],
  ["has pressures", node([READY, condition("MemoryPressure", "True"), condition("DiskPressure", "True"), condition("PIDPressure", "True")]), {}, ["memory-pressure:NoSchedule", "disk-pressure:NoSchedule", "pid-pressure:NoSchedule"]],
  ["has no network", node([condition("Ready", "False"), condition("NetworkUnavailable", "True")]), { mayExecute: false }, ["not-ready:NoSchedule", "network-unavailable:NoSchedule"]],
  ["is not ready", node([condition("Ready", "False")]), {}, ["not-ready:NoSchedule", "not-ready:NoExecute"]],
  ["is not ready, as all are", node([condition("Ready", "False")]), { mayEvict: false }, ["not-ready:NoSchedule"]],
  ["is lost", node([READY]), { liveness: "lost" }, ["unreachable:NoSchedule", "unreachable:NoExecute"]],
  ["is lost, and has to wait for its turn", node([READY]), { liveness: "lost", mayExecute: false }, ["unreachable:NoSchedule"]],
  ["was not ready, with its turn, and now is lost", node([condition("Ready", "False")], [{ key: NOT_READY, effect: "NoExecute" }]), { liveness: "lost", mayExecute: false }, ["unreachable:NoSchedule", "unreachable:NoExecute"]],
  ["was lost and is back", node([{ ...condition("Ready", "Unknown"), reason: "NodeStatusUnknown" }], [{ key: UNREACHABLE, effect: "NoExecute" }, { key: "mine", effect: "NoExecute" }]), {}, ["mine:NoExecute"]],
  ["is cordoned", node([READY], [], true), {}, ["unschedulable:NoSchedule"]],
] as const) test(`taints of a node that ${title}`, (t) => t.deepEqual(keys(reconcile(input(of, more), NOW).node), [...expected]));

test("whatever a node has been through, it settles in one step, keeps its users' taints, and nobody goes who may stay (seeded)", (t) => {
  let state = 5;
  const below = (n: number): number => (state = (state * 48271) % 2147483647) % n;
  const oneOf = <T>(...choices: T[]): T => choices[below(choices.length)]!;
  const some = <T>(...choices: T[]): T[] => choices.filter(() => below(2) === 0);
  for (let run = 0; run < 3000; run++) {
    const taints = some<Taint>({ key: "mine", effect: "NoSchedule" }, { key: "mine", effect: "NoExecute", timeAdded: "2025-12-31T23:00:00Z" }, { key: OUT_OF_SERVICE, effect: "NoExecute" },
      { key: UNREACHABLE, effect: "NoExecute" }, { key: NOT_READY, effect: "NoSchedule" }, { key: "node.kubernetes.io/disk-pressure", effect: "NoSchedule" });
    const of = node([oneOf(READY, condition("Ready", "False"), { ...condition("Ready", "Unknown"), reason: "NodeStatusUnknown" }), ...some(condition("DiskPressure", "True"))], taints, below(2) === 0);
    const pods = Array.from({ length: 6 }, (_, i): Pod => ({
      apiVersion: "v1", kind: "Pod", metadata: { name: `p${i}`, ...(below(4) === 0 && { deletionTimestamp: "2026-01-01T00:00:10Z" }) },
      spec: { containers: [], nodeName: "n", tolerations: some<Toleration>({ operator: "Exists" }, { key: UNREACHABLE, operator: "Exists", tolerationSeconds: below(60) }, { key: "mine", operator: "Exists", tolerationSeconds: below(7200) }) },
      status: { phase: oneOf("Running", "Pending", "Succeeded"), conditions: some(condition("Ready", "True")) },
    }));
    const given = input(of, { pods, liveness: oneOf<Liveness>("alive", "unknown", "lost"), mayEvict: below(3) > 0, mayExecute: below(2) === 0, lostAtMs: NOW - below(60_000) });
    const plan = reconcile(given, NOW);
    t.is(reconcile({ ...given, node: plan.node }, NOW).node, plan.node, "nothing is left to write");
    const users = (x: Node): Taint[] => (x.spec?.taints ?? []).filter((taint) => taint.key === "mine" || taint.key === OUT_OF_SERVICE);
    t.deepEqual(users(plan.node), users(of));
    t.is(plan.node.spec?.unschedulable, of.spec?.unschedulable);
    const trouble = isMarkedLost(plan.node) ? "unreachable" : plan.node.status!.conditions!.some((c) => c.type === "Ready" && c.status !== "True") ? "not-ready" : undefined;
    for (const key of ["unreachable", "not-ready"]) t.is(keys(plan.node).includes(`${key}:NoSchedule`), trouble === key);
    for (const pod of plan.evict) {
      t.is(pod.metadata.deletionTimestamp, undefined);
      t.not(pod.status!.phase, "Succeeded");
      t.false(pod.spec!.tolerations!.length === 1 && pod.spec!.tolerations![0]!.key === undefined, "it tolerates everything for ever");
    }
    t.true(plan.againMs === undefined || plan.againMs > 0);
    if (!given.mayEvict && users(of).every((x) => x.effect !== "NoExecute")) t.deepEqual(plan.evict, [], "all are unhealthy");
    const isOff = trouble !== undefined && taints.some((x) => x.key === OUT_OF_SERVICE);
    t.true(isOff ? plan.evict.length === 0 : plan.release.length === 0);
    if (isOff) t.true(pods.filter((p) => p.metadata.deletionTimestamp).every((p) => plan.release.includes(p)));
  }
});
