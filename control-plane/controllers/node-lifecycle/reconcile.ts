// A node's condition, taints and evictions from what is known of its health. Pure. Taints and tolerations:
// https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/#taint-based-evictions
import { DISRUPTION_TARGET } from "../../../base/kube/disruption.ts";
import { tolerates } from "../../../base/kube/node-match.ts";
import type { Node, NodeCondition, Pod, PodCondition, Taint } from "../../../base/kube/types.gen.ts";
import { isTerminal, sameJson, timeMs, timestamp, withCondition } from "../objects.ts";
import type { Liveness } from "./health.ts";

export const UNREACHABLE = "node.kubernetes.io/unreachable";
export const NOT_READY = "node.kubernetes.io/not-ready";
export const UNSCHEDULABLE = "node.kubernetes.io/unschedulable";
/** Condition of the node -> the taint that keeps pods away from it. */
const PRESSURES = { MemoryPressure: "node.kubernetes.io/memory-pressure", DiskPressure: "node.kubernetes.io/disk-pressure", PIDPressure: "node.kubernetes.io/pid-pressure" } as const;
/** Taints that follow from the node's state; all others are the users'. */
const OURS: ReadonlySet<string> = new Set([UNREACHABLE, NOT_READY, UNSCHEDULABLE, ...Object.values(PRESSURES)]);

const UNKNOWN_REASON = "NodeStatusUnknown";
const UNKNOWN_MESSAGE = "the node's agent stopped renewing its lease";

const readyOf = (node: Node): NodeCondition | undefined => node.status?.conditions?.find((c) => c.type === "Ready");
export const isMarkedLost = (node: Node): boolean => readyOf(node)?.reason === UNKNOWN_REASON;

/** The Ready condition changed by what the lease says; the agent's own word stands otherwise. */
const withReadiness = (node: Node, liveness: Liveness, nowMs: number): Node => {
  const conditions = node.status?.conditions ?? [];
  const put = (status: string, reason: string, message: string): Node => ({
    ...node,
    status: { ...node.status, conditions: [...withCondition(conditions, { type: "Ready", status, reason, message, lastHeartbeatTime: readyOf(node)?.lastHeartbeatTime, lastTransitionTime: timestamp(nowMs) })] },
  });
  if (liveness === "lost" && !isMarkedLost(node)) return put("Unknown", UNKNOWN_REASON, UNKNOWN_MESSAGE);
  if (liveness !== "alive" || !isMarkedLost(node)) return node;
  // A session that outlived the silence doesn't report anew, so what we marked we unmark.
  const network = conditions.find((c) => c.type === "NetworkUnavailable" && c.status === "True");
  return network ? put("False", network.reason ?? "NetworkUnavailable", network.message ?? "") : put("True", "AgentReady", "the agent is connected and can run pods");
};

const wantedTaints = (node: Node, mayEvict: boolean, nowMs: number): Taint[] => {
  const before = node.spec?.taints ?? [];
  const timeAdded = timestamp(nowMs);
  const keep = (taint: Taint): Taint => before.find((t) => t.key === taint.key && t.effect === taint.effect) ?? taint;
  const ready = readyOf(node);
  const lost = isMarkedLost(node);
  const hadNoExecute = before.some((t) => t.key === UNREACHABLE && t.effect === "NoExecute");
  return [
    ...before.filter((t) => !OURS.has(t.key)),
    ...(lost ? [keep({ key: UNREACHABLE, effect: "NoSchedule", timeAdded })] : []),
    ...(lost && (mayEvict || hadNoExecute) ? [keep({ key: UNREACHABLE, effect: "NoExecute", timeAdded })] : []),
    ...(!lost && ready && ready.status !== "True" ? [keep({ key: NOT_READY, effect: "NoSchedule", timeAdded })] : []),
    ...(node.status?.conditions ?? []).flatMap((c) => (c.status === "True" && c.type in PRESSURES ? [keep({ key: PRESSURES[c.type as keyof typeof PRESSURES], effect: "NoSchedule", timeAdded })] : [])),
    ...(node.spec?.unschedulable ? [keep({ key: UNSCHEDULABLE, effect: "NoSchedule", timeAdded })] : []),
  ];
};

/** The node as it should stand; the same reference when nothing is to be written. `mayEvict` is false while all nodes seem lost. */
export const reconcileNode = (node: Node, liveness: Liveness, mayEvict: boolean, nowMs: number): Node => {
  const judged = withReadiness(node, liveness, nowMs);
  const taints = wantedTaints(judged, mayEvict, nowMs);
  if (sameJson(taints, node.spec?.taints ?? [])) return judged;
  return { ...judged, spec: { ...judged.spec, taints: taints.length > 0 ? taints : undefined } };
};

export interface EvictionInput {
  readonly taints: readonly Taint[];
  /** Wall time (epoch ms) from which the tolerance of an unreachable node counts: extended after our own stalls, unlike timeAdded. */
  readonly lostAtMs: number;
  /** Tolerance of an unreachable node for pods that don't say. */
  readonly podEvictionMs: number;
}

/** When the pod has to go (epoch ms); undefined for never. */
export const evictAtMs = (pod: Pod, { taints, lostAtMs, podEvictionMs }: EvictionInput): number | undefined => {
  const times = taints.filter((t) => t.effect === "NoExecute").map((taint) => {
    const startMs = taint.key === UNREACHABLE ? lostAtMs : timeMs(taint.timeAdded);
    const matching = (pod.spec?.tolerations ?? []).filter((t) => tolerates(t, taint));
    if (matching.length === 0) return taint.key === UNREACHABLE ? startMs + podEvictionMs : 0;
    // Of several the shortest counts; one without seconds tolerates for ever.
    const seconds = matching.map((t) => t.tolerationSeconds).filter((s) => s !== undefined);
    return seconds.length === 0 ? Infinity : startMs + Math.max(0, Math.min(...seconds)) * 1000;
  });
  const at = Math.min(Infinity, ...times);
  return at === Infinity ? undefined : at;
};

const NODE_LOST = "NodeUnreachable";

/** A lost node's pod is not ready, for whoever counts; a returned node's is again what its containers were. The same reference when nothing changes. */
export const reconcilePodReadiness = (pod: Pod, nodeLost: boolean, nowMs: number): Pod => {
  const conditions = pod.status?.conditions ?? [];
  const ready = conditions.find((c) => c.type === "Ready");
  if (!ready || isTerminal(pod)) return pod;
  const put = (next: Omit<PodCondition, "type" | "lastTransitionTime">): Pod =>
    ({ ...pod, status: { ...pod.status, conditions: [...withCondition(conditions, { ...next, type: "Ready", lastTransitionTime: timestamp(nowMs) })] } });
  if (nodeLost) return ready.status === "True" ? put({ status: "False", reason: NODE_LOST, message: UNKNOWN_MESSAGE }) : pod;
  if (ready.reason !== NODE_LOST) return pod;
  const containers = conditions.find((c) => c.type === "ContainersReady");
  return put(containers?.status === "False" ? { status: "False", reason: containers.reason, message: containers.message } : { status: "True" });
};

/** Says in the pod itself why it goes: jobs and people read it. */
export const withDisruption = (pod: Pod, message: string, nowMs: number): Pod => ({
  ...pod,
  status: {
    ...pod.status,
    conditions: [...withCondition(pod.status?.conditions ?? [], { type: DISRUPTION_TARGET, status: "True", reason: "DeletionByTaintManager", message, lastTransitionTime: timestamp(nowMs) })],
  },
});
