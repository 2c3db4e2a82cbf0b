// Which nodes a DaemonSet's pods belong on, and how a pod is bound to its node before it is scheduled. Pure.
// Upstream: NodeShouldRunDaemonPod in pkg/controller/daemon, pkg/controller/daemon/util/daemonset_util.go.
import { selectsNode, tolerates } from "../../../base/kube/node-match.ts";
import { DISK_PRESSURE, MEMORY_PRESSURE, NETWORK_UNAVAILABLE, NOT_READY, PID_PRESSURE, UNREACHABLE, UNSCHEDULABLE } from "../../../base/kube/node-taints.ts";
import type { Node, NodeSelectorTerm, Pod, PodSpec, PodTemplateSpec, Taint, Toleration } from "../../../base/kube/types.gen.ts";

/** A node that is in trouble keeps its daemons, and gets those that it lacks: they may be what mends it. */
const CONDITION_TOLERATIONS: readonly Toleration[] = [
  { key: NOT_READY, operator: "Exists", effect: "NoExecute" },
  { key: UNREACHABLE, operator: "Exists", effect: "NoExecute" },
  { key: DISK_PRESSURE, operator: "Exists", effect: "NoSchedule" },
  { key: MEMORY_PRESSURE, operator: "Exists", effect: "NoSchedule" },
  { key: PID_PRESSURE, operator: "Exists", effect: "NoSchedule" },
  { key: UNSCHEDULABLE, operator: "Exists", effect: "NoSchedule" },
];
const NETWORK: Toleration = { key: NETWORK_UNAVAILABLE, operator: "Exists", effect: "NoSchedule" };

const same = (a: Toleration, b: Toleration): boolean => a.key === b.key && a.operator === b.operator && a.effect === b.effect && (a.value ?? "") === (b.value ?? "");

export const daemonTolerations = ({ tolerations = [], hostNetwork }: PodSpec): Toleration[] => {
  const added = hostNetwork ? [...CONDITION_TOLERATIONS, NETWORK] : CONDITION_TOLERATIONS;
  return [...tolerations.filter((t) => !added.some((a) => same(a, t))), ...added];
};

export interface Verdict {
  /** A pod that is missing is created. */
  readonly shouldRun: boolean;
  /** A pod that is there may stay. */
  readonly shouldContinue: boolean;
}

export const judgeNode = (template: PodTemplateSpec, node: Node): Verdict => {
  const spec = template.spec!;
  const fits = (!spec.nodeName || spec.nodeName === node.metadata.name) && selectsNode(spec, node);
  if (!fits) return { shouldRun: false, shouldContinue: false };
  const tolerations = daemonTolerations(spec);
  const unmet = (effects: readonly string[]): Taint | undefined =>
    (node.spec?.taints ?? []).find((taint) => effects.includes(taint.effect) && !tolerations.some((t) => tolerates(t, taint)));
  return { shouldRun: !unmet(["NoSchedule", "NoExecute"]), shouldContinue: !unmet(["NoExecute"]) };
};

/** The template of the pod for one node: the scheduler can put it nowhere else, and decides only when. The node fits already, so other required terms fall away. */
export const templateFor = (template: PodTemplateSpec, node: string): PodTemplateSpec => {
  const spec = template.spec!;
  const terms: NodeSelectorTerm[] = [{ matchFields: [{ key: "metadata.name", operator: "In", values: [node] }] }];
  const nodeAffinity = { ...spec.affinity?.nodeAffinity, requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: terms } };
  return { ...template, spec: { ...spec, affinity: { ...spec.affinity, nodeAffinity }, tolerations: daemonTolerations(spec) } };
};

/** The node that a pod is on, or is meant for while it is not placed yet; "" for a pod that names none. */
export const nodeOf = (pod: Pod): string => {
  if (pod.spec?.nodeName) return pod.spec.nodeName;
  const terms = pod.spec?.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms ?? [];
  const field = terms.flatMap((t) => t.matchFields ?? []).find((f) => f.key === "metadata.name" && f.operator === "In");
  return field?.values?.length === 1 ? field.values[0]! : "";
};
