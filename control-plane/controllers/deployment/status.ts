// A Deployment's status from its ReplicaSets. Pure. Reasons and messages are upstream's (progress.go, sync.go): kubectl's
// `rollout status` and `wait` match them.
import type { Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet } from "../../../base/kube/types.gen.ts";
import { timeMs, timestamp } from "../objects.ts";
import { sizeOf } from "./sizes.ts";
import type { Bounds } from "./sizes.ts";

const DEFAULT_DEADLINE_SECONDS = 600;
/** Upstream's: "never", the largest int32. */
const NO_DEADLINE_SECONDS = 2 ** 31 - 1;

const sum = (sets: readonly ReplicaSet[], of: (status: NonNullable<ReplicaSet["status"]>) => number | undefined): number =>
  sets.reduce((total, rs) => total + ((rs.status && of(rs.status)) ?? 0), 0);

type Fresh = Pick<DeploymentCondition, "type" | "status" | "reason" | "message">;

/** `lastUpdateTime` is when something last moved: the progress deadline counts from it. */
const put = (conditions: readonly DeploymentCondition[], next: Fresh, nowMs: number, moved = false): readonly DeploymentCondition[] => {
  const at = conditions.findIndex((c) => c.type === next.type);
  const before = conditions[at];
  if (before && before.status === next.status && before.reason === next.reason && before.message === next.message && !moved) return conditions;
  const now = timestamp(nowMs);
  const made = { ...next, lastUpdateTime: now, lastTransitionTime: before?.status === next.status ? before.lastTransitionTime : now };
  return before ? conditions.with(at, made) : [...conditions, made];
};

export interface StatusInput {
  readonly deployment: Deployment;
  readonly bounds: Bounds;
  readonly current: ReplicaSet | undefined;
  readonly old: readonly ReplicaSet[];
  readonly nowMs: number;
  /** The current ReplicaSet is made by this pass. */
  readonly created: ReplicaSet | undefined;
}

export interface StatusResult {
  readonly status: DeploymentStatus;
  /** Everything runs the newest template and is available: old ReplicaSets may be cleaned up. */
  readonly complete: boolean;
  /** Until the progress deadline strikes; undefined when it can't. */
  readonly againMs: number | undefined;
}

export const deploymentStatus = ({ deployment, bounds, current, old, nowMs, created }: StatusInput): StatusResult => {
  const { metadata, spec, status: before } = deployment;
  const all = current ? [current, ...old] : old;
  const available = sum(all, (s) => s.availableReplicas);
  const terminating = sum(all, (s) => s.terminatingReplicas);
  const counts = {
    replicas: sum(all, (s) => s.replicas), updatedReplicas: sum(current ? [current] : [], (s) => s.replicas),
    readyReplicas: sum(all, (s) => s.readyReplicas), availableReplicas: available,
  };
  const { replicas } = bounds;
  const complete = current !== undefined && !created && counts.updatedReplicas === replicas && counts.replicas === replicas && available === replicas && (current.status?.observedGeneration ?? 0) >= (current.metadata.generation ?? 0);

  const enough = available >= replicas - bounds.maxUnavailable;
  let conditions = put(before?.conditions ?? [], enough
    ? { type: "Available", status: "True", reason: "MinimumReplicasAvailable", message: "Deployment has minimum availability." }
    : { type: "Available", status: "False", reason: "MinimumReplicasUnavailable", message: "Deployment does not have minimum availability." }, nowMs);

  let againMs: number | undefined;
  const progressing = conditions.find((c) => c.type === "Progressing");
  const say = (status: string, reason: string, message: string, moved = false): void => {
    conditions = put(conditions, { type: "Progressing", status, reason, message }, nowMs, moved);
  };
  const name = JSON.stringify((created ?? current)?.metadata.name ?? "");
  const deadlineMs = (spec?.progressDeadlineSeconds ?? DEFAULT_DEADLINE_SECONDS) * 1000;
  if (spec?.paused) say("Unknown", "DeploymentPaused", "Deployment is paused");
  else if (progressing?.reason === "DeploymentPaused") say("Unknown", "DeploymentResumed", "Deployment is resumed");
  else if (created) say("True", "NewReplicaSetCreated", `Created new replica set ${name}`, true);
  else if (complete) {
    if (progressing?.reason !== "NewReplicaSetAvailable" || progressing.message !== `ReplicaSet ${name} has successfully progressed.`) say("True", "NewReplicaSetAvailable", `ReplicaSet ${name} has successfully progressed.`);
  } else if (!(progressing?.reason === "NewReplicaSetAvailable" && progressing.message?.includes(name))) {
    // A finished rollout that loses a pod, or is scaled, is not a rollout again: without the test above it would run into its deadline.
    const moved = counts.updatedReplicas > (before?.updatedReplicas ?? 0) || counts.readyReplicas > (before?.readyReplicas ?? 0)
      || available > (before?.availableReplicas ?? 0) || counts.replicas - counts.updatedReplicas < (before?.replicas ?? 0) - (before?.updatedReplicas ?? 0);
    if (moved || !progressing || progressing.status === "Unknown") say("True", "ReplicaSetUpdated", `ReplicaSet ${name} is progressing.`, true);
    else if (deadlineMs < NO_DEADLINE_SECONDS * 1000) {
      const leftMs = timeMs(progressing.lastUpdateTime) + deadlineMs - nowMs;
      if (leftMs <= 0) say("False", "ProgressDeadlineExceeded", `ReplicaSet ${name} has timed out progressing.`);
    }
    const since = conditions.find((c) => c.type === "Progressing");
    if (since?.status === "True" && deadlineMs < NO_DEADLINE_SECONDS * 1000) againMs = Math.max(0, timeMs(since.lastUpdateTime) + deadlineMs - nowMs) + 1000;
  }

  const failure = current?.status?.conditions?.find((c) => c.type === "ReplicaFailure");
  conditions = failure
    ? put(conditions, { type: "ReplicaFailure", status: failure.status, reason: failure.reason, message: failure.message }, nowMs)
    : conditions.filter((c) => c.type !== "ReplicaFailure");

  return {
    status: {
      observedGeneration: metadata.generation ?? 0,
      ...counts,
      unavailableReplicas: Math.max(0, all.reduce((total, rs) => total + sizeOf(rs), 0) - available),
      ...(terminating > 0 && { terminatingReplicas: terminating }),
      conditions: [...conditions],
      ...(before?.collisionCount !== undefined && { collisionCount: before.collisionCount }),
    },
    complete, againMs,
  };
};
