// A node's condition and taints, and what becomes of its pods, from what is known of its health. Pure. Taints and tolerations:
// https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/#taint-based-evictions
import { DISRUPTION_TARGET } from "../../../base/kube/disruption.ts";
import { tolerates } from "../../../base/kube/node-match.ts";
import { DISK_PRESSURE, MEMORY_PRESSURE, NETWORK_UNAVAILABLE, NOT_READY, OUT_OF_SERVICE, PID_PRESSURE, UNREACHABLE, UNSCHEDULABLE } from "../../../base/kube/node-taints.ts";
import type { Node, NodeCondition, Pod, PodCondition, Taint } from "../../../base/kube/types.gen.ts";
import { isTerminal, sameJson, timeMs, timestamp, withCondition } from "../objects.ts";
import type { Liveness } from "./health.ts";

/** Condition of the node -> the taint that keeps pods away from it. */
const CONDITION_TAINTS = { MemoryPressure: MEMORY_PRESSURE, DiskPressure: DISK_PRESSURE, PIDPressure: PID_PRESSURE, NetworkUnavailable: NETWORK_UNAVAILABLE } as const;
/** Taints that follow from the node's state; all others are the users'. */
const OURS: ReadonlySet<string> = new Set([UNREACHABLE, NOT_READY, UNSCHEDULABLE, ...Object.values(CONDITION_TAINTS)]);

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

/** The taint of a node that can't be relied on now. */
const troubleOf = (node: Node): string | undefined => (isMarkedLost(node) ? UNREACHABLE : (readyOf(node)?.status ?? "True") === "True" ? undefined : NOT_READY);
const executes = ({ key, effect }: Taint): boolean => effect === "NoExecute" && (key === UNREACHABLE || key === NOT_READY);

/** It is in trouble, and its pods are not asked to go yet: that takes the zone's leave. */
export const awaitsTurn = (node: Node): boolean => troubleOf(node) !== undefined && node.spec?.taints?.some(executes) !== true;

/** Epoch ms (whole seconds) from which the node keeps new pods away; what is in no trouble has no such time: 0. */
export const troubledSinceMs = (node: Node): number => timeMs(node.spec?.taints?.find((t) => t.key === troubleOf(node) && t.effect === "NoSchedule")?.timeAdded);

const wantedTaints = (node: Node, mayExecute: boolean, nowMs: number): Taint[] => {
  const before = node.spec?.taints ?? [];
  const timeAdded = timestamp(nowMs);
  const keep = (taint: Taint): Taint => before.find((t) => t.key === taint.key && t.effect === taint.effect) ?? taint;
  const trouble = troubleOf(node);
  return [
    ...before.filter((t) => !OURS.has(t.key)),
    ...(trouble ? [keep({ key: trouble, effect: "NoSchedule", timeAdded })] : []),
    ...(trouble && (mayExecute || before.some(executes)) ? [keep({ key: trouble, effect: "NoExecute", timeAdded })] : []),
    ...(node.status?.conditions ?? []).flatMap((c) => (c.status === "True" && c.type in CONDITION_TAINTS ? [keep({ key: CONDITION_TAINTS[c.type as keyof typeof CONDITION_TAINTS], effect: "NoSchedule", timeAdded })] : [])),
    ...(node.spec?.unschedulable ? [keep({ key: UNSCHEDULABLE, effect: "NoSchedule", timeAdded })] : []),
  ];
};

/** The node as it should stand; the same reference when nothing is to be written. `mayExecute`: it may get the taint that its pods have to go by. */
export const reconcileNode = (node: Node, liveness: Liveness, mayExecute: boolean, nowMs: number): Node => {
  const judged = withReadiness(node, liveness, nowMs);
  const taints = wantedTaints(judged, mayExecute, nowMs);
  if (sameJson(taints, node.spec?.taints ?? [])) return judged;
  return { ...judged, spec: { ...judged.spec, taints: taints.length > 0 ? taints : undefined } };
};

export interface EvictionInput {
  readonly taints: readonly Taint[];
  /**
   * Wall time (epoch ms) from which the tolerance of an unreachable node counts: extended after our own stalls, unlike timeAdded, and not
   * by the wait for the zone's leave.
   */
  readonly lostAtMs: number;
  /** Tolerance of a node that is unreachable or not ready for pods that don't say: only those from before pods got a toleration. */
  readonly podEvictionMs: number;
}

/** When the pod has to go (epoch ms); undefined for never. */
export const evictAtMs = (pod: Pod, { taints, lostAtMs, podEvictionMs }: EvictionInput): number | undefined => {
  const times = taints.filter((t) => t.effect === "NoExecute").map((taint) => {
    const startMs = taint.key === UNREACHABLE ? lostAtMs : timeMs(taint.timeAdded);
    const matching = (pod.spec?.tolerations ?? []).filter((t) => tolerates(t, taint));
    if (matching.length === 0) return executes(taint) ? startMs + podEvictionMs : 0;
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
export const withDisruption = (pod: Pod, reason: "DeletionByTaintManager" | "DeletionByPodGC", message: string, nowMs: number): Pod => ({
  ...pod,
  status: { ...pod.status, conditions: [...withCondition(pod.status?.conditions ?? [], { type: DISRUPTION_TARGET, status: "True", reason, message, lastTransitionTime: timestamp(nowMs) })] },
});

/** A pod whose agent will never tell its end has failed: a Job must be able to count it. The same reference for one that has ended. */
export const failedWithNode = (pod: Pod, message: string, nowMs: number): Pod => {
  if (isTerminal(pod)) return pod;
  const told = withDisruption(pod, "DeletionByPodGC", message, nowMs);
  return { ...told, status: { ...told.status, phase: "Failed" } };
};

/** Failed and marked: what still keeps it are others' finalizers. */
const isReleased = (pod: Pod): boolean => isTerminal(pod) && pod.metadata.finalizers !== undefined && pod.metadata.finalizers.length > 0;

export interface Input extends Omit<EvictionInput, "taints"> {
  readonly node: Node;
  /** All that are bound to it. */
  readonly pods: readonly Pod[];
  readonly liveness: Liveness;
  /** False while no node is healthy: there is nowhere to go, and it is more likely us. */
  readonly mayEvict: boolean;
  /** It is the node's turn in its zone. */
  readonly mayExecute: boolean;
}

export interface Plan {
  /** The node as it should stand; the same reference when it does. */
  readonly node: Node;
  /** Pods whose readiness is wrong now. */
  readonly inDoubt: readonly Pod[];
  /** To be marked: they have their grace, if there is an agent that hears of it. */
  readonly evict: readonly Pod[];
  readonly why: string;
  /** To be deleted without waiting for their agent: somebody said that their machine is off. */
  readonly release: readonly Pod[];
  /** Until the next has to go. */
  readonly againMs: number | undefined;
}

export const reconcile = ({ node: before, pods, liveness, mayEvict, mayExecute, lostAtMs, podEvictionMs }: Input, nowMs: number): Plan => {
  const node = reconcileNode(before, liveness, mayEvict && mayExecute, nowMs);
  const lost = isMarkedLost(node);
  const taints = node.spec?.taints ?? [];
  // While we don't know whether it is lost, or still not ready, or while all are, nobody goes on account of that.
  const isKnown = liveness === (lost ? "lost" : "alive") && mayEvict;
  const judged = isKnown ? taints : taints.filter((t) => !executes(t));
  const running = pods.filter((pod) => !isTerminal(pod));
  const deadlines = running.filter((pod) => pod.metadata.deletionTimestamp === undefined)
    .flatMap((pod) => ({ pod, atMs: evictAtMs(pod, { taints: judged, lostAtMs, podEvictionMs }) ?? Infinity })).filter(({ atMs }) => atMs < Infinity);
  const due = deadlines.filter(({ atMs }) => atMs <= nowMs).map(({ pod }) => pod);
  const later = deadlines.filter(({ atMs }) => atMs > nowMs).map(({ atMs }) => atMs - nowMs);
  const isOff = troubleOf(node) !== undefined && taints.some((t) => t.key === OUT_OF_SERVICE);
  return {
    node,
    inDoubt: running.filter((pod) => reconcilePodReadiness(pod, lost, nowMs) !== pod),
    evict: isOff ? [] : due,
    release: isOff ? [...due, ...pods.filter((pod) => pod.metadata.deletionTimestamp !== undefined && !isReleased(pod))] : [],
    why: isOff ? "is out of service" : lost ? "is unreachable" : judged.some(executes) ? "is not ready" : "has a taint NoExecute that the pod does not tolerate",
    againMs: later.length === 0 ? undefined : Math.min(...later),
  };
};
