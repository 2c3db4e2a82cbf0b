import test from "ava";
import type { Pod } from "../../base/kube/types.gen.ts";
import { selectPods, type DrainRules } from "./select.ts";

const NOW = Date.UTC(2026, 0, 1);
const RULES: DrainRules = { force: false, ignoreDaemonsets: false, deleteEmptydirData: false, skipWaitMs: 0 };
const owner = (kind: string): NonNullable<Pod["metadata"]["ownerReferences"]> => [{ apiVersion: "apps/v1", kind, name: "o", uid: "u", controller: true }];
const pod = (more: Partial<Pod["metadata"]> = {}, spec: Partial<NonNullable<Pod["spec"]>> = {}, phase = "Running"): Pod => ({
  apiVersion: "v1", kind: "Pod", metadata: { name: "p", namespace: "ns", ...more }, spec: { containers: [], ...spec }, status: { phase },
});
const OWNED = { ownerReferences: owner("ReplicaSet") };
const DAEMON = { ownerReferences: owner("DaemonSet") };
const FILES = { volumes: [{ name: "v", emptyDir: {} }] };

for (const [title, given, rules, exists, evicted, faults, warnings] of [
  ["of a ReplicaSet goes", pod(OWNED), {}, true, 1, [], []],
  ["alone may not", pod(), {}, true, 0, ["cannot delete Pods that declare no controller (use --force to override): ns/p"], []],
  ["alone goes when forced", pod(), { force: true }, true, 1, [], ["deleting Pods that declare no controller: ns/p"]],
  ["alone that has ended goes", pod({}, FILES, "Succeeded"), {}, true, 1, [], []],
  ["with files may not", pod(OWNED, FILES), {}, true, 0, ["cannot delete Pods with local storage (use --delete-emptydir-data to override): ns/p"], []],
  ["with files goes when they may be lost", pod(OWNED, FILES), { deleteEmptydirData: true }, true, 1, [], ["deleting Pods with local storage: ns/p"]],
  ["alone with files has two faults", pod({}, FILES), {}, true, 0, ["cannot delete Pods that declare no controller (use --force to override): ns/p", "cannot delete Pods with local storage (use --delete-emptydir-data to override): ns/p"], []],
  ["alone with files isn't let go by one flag", pod({}, FILES), { force: true }, true, 0, ["cannot delete Pods with local storage (use --delete-emptydir-data to override): ns/p"], ["deleting Pods that declare no controller: ns/p"]],
  ["of a DaemonSet may not", pod(DAEMON), {}, true, 0, ["cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore): ns/p"], []],
  ["of a DaemonSet, with files, stays when they are ignored", pod(DAEMON, FILES), { ignoreDaemonsets: true }, true, 0, [], ["ignoring DaemonSet-managed Pods: ns/p"]],
  ["of a DaemonSet that has ended goes", pod(DAEMON, {}, "Failed"), {}, true, 1, [], []],
  ["of a DaemonSet that is gone may not", pod(DAEMON), { ignoreDaemonsets: true }, false, 0, ["cannot delete Pods whose DaemonSet is gone (use --force to override): ns/p"], []],
  ["of a DaemonSet that is gone goes when forced", pod(DAEMON), { force: true }, false, 1, [], ["deleting Pods whose DaemonSet is gone: ns/p"]],
  ["of a file on the node stays", pod({ annotations: { "kubernetes.io/config.mirror": "x" } }), {}, true, 0, [], []],
  ["that is ending is waited for", pod({ ...OWNED, deletionTimestamp: "2025-12-31T23:59:00Z" }), {}, true, 1, [], []],
  ["that has been ending for long is not, when told so", pod({ deletionTimestamp: "2025-12-31T23:59:00Z" }), { skipWaitMs: 30_000 }, true, 0, [], []],
  ["that has not been ending for long is", pod({ ...OWNED, deletionTimestamp: "2025-12-31T23:59:00Z" }), { skipWaitMs: 90_000 }, true, 1, [], []],
] as const) {
  test(`drain: a pod ${title}`, (t) => {
    const selection = selectPods([given], () => exists, { ...RULES, ...rules }, NOW);
    t.is(selection.evict.length, evicted);
    t.deepEqual(selection.faults, [...faults]);
    t.deepEqual(selection.warnings, [...warnings]);
  });
}

test("drain: pods of one fault are named together", (t) => {
  const { faults } = selectPods([pod(), pod({ name: "q" }), pod(DAEMON)], () => true, RULES, NOW);
  t.deepEqual(faults, ["cannot delete Pods that declare no controller (use --force to override): ns/p, ns/q", "cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore): ns/p"]);
});
