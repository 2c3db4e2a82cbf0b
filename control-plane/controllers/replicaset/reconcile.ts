// What a ReplicaSet lacks or has too much of, and its status. Pure. Order of victims and status rules: upstream's
// pkg/controller/controller_utils.go (ActivePodsWithRanks) and pkg/controller/replicaset/replica_set_utils.go.
import { isAhead, stagedReplicasOf, startAtMs } from "../../../base/kube/staging.ts";
import type { Pod, ReplicaSet, ReplicaSetCondition, ReplicaSetStatus } from "../../../base/kube/types.gen.ts";
import { isActive, isReady, readySinceMs, restartsOf, timeMs, timestamp, withCondition } from "../objects.ts";

export interface Plan {
  readonly create: number;
  /** Pods to make ahead of an instant at which a ScheduledScaler scales up. */
  readonly stage: { readonly count: number; readonly atMs: number } | undefined;
  readonly remove: readonly Pod[];
  readonly status: ReplicaSetStatus;
  /** Until a ready pod counts as available (minReadySeconds) or staged ones count as replicas; undefined when none is waiting for that. */
  readonly againMs: number | undefined;
}

/** Pods created in one pass: bounds the memory of a ReplicaSet of a million; the next pass goes on. */
export const MAX_CREATES = 500;

const DELETION_COST = "controller.kubernetes.io/pod-deletion-cost";
const PHASE_ORDER: Readonly<Record<string, number>> = { Pending: 0, Unknown: 1, Running: 2 };

/** Those that hurt least come first: not placed, not running, not ready, crowded nodes, young, often restarted. `related` crowd a node too. */
export const victimsFirst = (pods: readonly Pod[], related: readonly Pod[] = pods): Pod[] => {
  const perNode = new Map<string, number>();
  for (const { spec } of related) if (spec?.nodeName) perNode.set(spec.nodeName, (perNode.get(spec.nodeName) ?? 0) + 1);
  const ranks = pods.map((pod) => ({
    pod,
    // Compared from left to right, the smaller goes first.
    rank: [
      pod.spec?.nodeName ? 1 : 0,
      PHASE_ORDER[pod.status?.phase ?? "Pending"] ?? 0,
      isReady(pod) ? 1 : 0,
      Number(pod.metadata.annotations?.[DELETION_COST] ?? 0) || 0,
      -(perNode.get(pod.spec?.nodeName ?? "") ?? 0),
      -readySinceMs(pod),
      -restartsOf(pod),
      -timeMs(pod.metadata.creationTimestamp),
    ],
  }));
  ranks.sort((a, b) => {
    const at = a.rank.findIndex((value, i) => value !== b.rank[i]);
    return at === -1 ? (a.pod.metadata.name! < b.pod.metadata.name! ? -1 : 1) : a.rank[at]! - b.rank[at]!;
  });
  return ranks.map(({ pod }) => pod);
};

const soonest = (waitsMs: readonly number[]): number | undefined => (waitsMs.length === 0 ? undefined : Math.min(...waitsMs));

const failureCondition = (before: readonly ReplicaSetCondition[], failure: string | undefined, nowMs: number): readonly ReplicaSetCondition[] =>
  failure === undefined
    ? before.filter((c) => c.type !== "ReplicaFailure")
    : withCondition(before, { type: "ReplicaFailure", status: "True", reason: "FailedCreate", message: failure, lastTransitionTime: timestamp(nowMs) });

/** `pods` are all that the ReplicaSet owns; `failure` is why its last creates failed, if they did; `related` gives all pods of its owner's ReplicaSets. */
export const reconcile = (replicaSet: ReplicaSet, pods: readonly Pod[], nowMs: number, failure?: string, related: () => readonly Pod[] = () => pods): Plan => {
  const { metadata, spec, status } = replicaSet;
  // Pods that wait for their instant are no replicas yet. Past it they are, also before the write that raises spec.replicas.
  const staged = stagedReplicasOf(replicaSet);
  const isDue = staged !== undefined && staged.atMs <= nowMs;
  const wanted = (spec?.replicas ?? 1) + (isDue ? staged.more : 0);
  const alive = pods.filter(isActive);
  const ahead = alive.filter((pod) => isAhead(pod, nowMs));
  const active = ahead.length === 0 ? alive : alive.filter((pod) => !isAhead(pod, nowMs));
  const awaited = new Set(staged && !isDue ? ahead.filter((pod) => startAtMs(pod) === staged.atMs).slice(0, staged.more) : []);
  const lacking = staged && !isDue ? staged.more - awaited.size : 0;
  const unawaited = ahead.filter((pod) => !awaited.has(pod));
  const deleting = metadata.deletionTimestamp !== undefined;
  const templateLabels = Object.entries(spec?.template?.metadata?.labels ?? {});
  const minReadyMs = (spec?.minReadySeconds ?? 0) * 1000;
  const waitsMs = active.filter(isReady).map((pod) => Math.max(0, readySinceMs(pod) + minReadyMs - nowMs));
  const terminating = pods.filter((pod) => pod.metadata.deletionTimestamp !== undefined && pod.status?.phase !== "Succeeded" && pod.status?.phase !== "Failed").length;
  const conditions = failureCondition(status?.conditions ?? [], failure, nowMs);
  const pending = waitsMs.filter((ms) => ms > 0);
  return {
    create: deleting ? 0 : Math.min(MAX_CREATES, Math.max(0, wanted - active.length)),
    stage: deleting || lacking === 0 ? undefined : { count: Math.min(MAX_CREATES, lacking), atMs: staged!.atMs },
    remove: deleting ? [] : [...unawaited, ...(active.length <= wanted ? [] : victimsFirst(active, related().filter(isActive)).slice(0, active.length - wanted))],
    status: {
      replicas: active.length,
      fullyLabeledReplicas: active.filter((pod) => templateLabels.every(([k, v]) => pod.metadata.labels?.[k] === v)).length,
      readyReplicas: waitsMs.length,
      availableReplicas: waitsMs.length - pending.length,
      ...(terminating > 0 && { terminatingReplicas: terminating }),
      observedGeneration: metadata.generation ?? 0,
      ...(conditions.length > 0 && { conditions: [...conditions] }),
    },
    againMs: soonest([...pending, ...(staged && !isDue ? [staged.atMs - nowMs] : [])]),
  };
};
