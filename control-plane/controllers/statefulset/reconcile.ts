// What a StatefulSet needs next, and its status. Pure. The rules are upstream's (pkg/controller/statefulset/stateful_set_control.go), the
// known one too: in OrderedReady order a pod that never becomes ready holds up everything, also the return to a template that works.
// Somebody has to delete that pod; from then on the rollback goes by itself.
// https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#forced-rollback
import { isAhead, stagedReplicasOf, startAtMs } from "../../../base/kube/staging.ts";
import type { Pod, StatefulSet, StatefulSetStatus } from "../../../base/kube/types.gen.ts";
import { isReady, isTerminal, readySinceMs } from "../objects.ts";
import { ordinalOf, ordinalsOf, revisionOf } from "./identity.ts";

export interface Input {
  readonly set: StatefulSet;
  /** All that it owns. */
  readonly pods: readonly Pod[];
  /** Names of the revisions: what ordinals below the partition run, and what the rest is to run. */
  readonly currentRevision: string;
  readonly updateRevision: string;
  readonly nowMs: number;
}

export interface Creation {
  readonly ordinal: number;
  readonly revision: string;
  /** Made ahead of this instant, at which a ScheduledScaler scales up. */
  readonly startAtMs?: number;
}

export interface Plan {
  readonly create: readonly Creation[];
  readonly remove: readonly Pod[];
  /** Those of `remove` that had ended: their ordinal is made anew. */
  readonly ended: readonly Pod[];
  /** Beyond the wanted ordinals, whether they go now or wait for their turn. */
  readonly condemned: readonly Pod[];
  /** What the next ordinal waits for, where order holds it up. */
  readonly waitsFor: Pod | undefined;
  readonly status: StatefulSetStatus;
  readonly againMs: number | undefined;
}

const isLeaving = (pod: Pod): boolean => pod.metadata.deletionTimestamp !== undefined;
const runs = (pod: Pod): boolean => pod.status?.phase === "Running" && isReady(pod);

const limitOf = ({ spec }: StatefulSet): number => {
  const value = spec?.updateStrategy?.rollingUpdate?.maxUnavailable;
  const total = spec?.replicas ?? 1;
  return Math.max(1, typeof value === "string" ? Math.floor((total * Number.parseInt(value, 10)) / 100) : (value ?? 1));
};

/** Pods beyond `replicas` that are created in one pass: bounds its memory. */
const MAX_CREATES = 500;

export const reconcile = ({ set, pods, currentRevision, updateRevision, nowMs }: Input): Plan => {
  const spec = set.spec!;
  // Pods that wait for their instant are no replicas yet. Past it they are, also before the write that raises spec.replicas.
  const staged = stagedReplicasOf(set);
  const isDue = staged !== undefined && staged.atMs <= nowMs;
  const [start, endNow] = ordinalsOf(set);
  const end = endNow + (isDue ? staged.more : 0);
  const ordered = spec.podManagementPolicy !== "Parallel";
  const rolling = spec.updateStrategy?.type !== "OnDelete";
  const partition = spec.updateStrategy?.rollingUpdate?.partition ?? 0;
  const minReadyMs = (spec.minReadySeconds ?? 0) * 1000;
  const waits: number[] = [];
  const isAvailable = (pod: Pod): boolean => {
    if (!runs(pod)) return false;
    const leftMs = readySinceMs(pod) + minReadyMs - nowMs;
    if (leftMs > 0) waits.push(leftMs);
    return leftMs <= 0;
  };

  const byOrdinal = new Map(pods.map((pod) => [ordinalOf(set, pod), pod]));
  const isBeyond = (pod: Pod): boolean => ordinalOf(set, pod) < start || ordinalOf(set, pod) >= end;
  const present = pods.filter((pod) => !isAhead(pod, nowMs));
  const ordinals = Array.from({ length: end - start }, (_, i) => start + i);
  const revisionAt = (ordinal: number): string => (rolling && ordinal < start + partition ? currentRevision : updateRevision);
  const status = statusOf({ set, pods: present, currentRevision, updateRevision, nowMs }, runs, isAvailable);
  if (staged && !isDue) waits.push(staged.atMs - nowMs);

  // In order only the next ordinal can be made ahead: those after it wait for it. In parallel all can.
  const awaitedOrdinals = staged && !isDue ? Array.from({ length: Math.min(ordered ? 1 : MAX_CREATES, staged.more) }, (_, i) => end + i) : [];
  const isAwaited = (pod: Pod): boolean =>
    awaitedOrdinals.includes(ordinalOf(set, pod)) && startAtMs(pod) === staged!.atMs && !isTerminal(pod) && revisionOf(pod) === revisionAt(ordinalOf(set, pod));
  const ahead = pods.filter((pod) => isAhead(pod, nowMs) && !isLeaving(pod));
  const unawaited = ahead.filter((pod) => !isAwaited(pod));
  const condemned = [...present.filter(isBeyond), ...unawaited.filter(isBeyond)].sort((a, b) => ordinalOf(set, b) - ordinalOf(set, a));
  const nothing: Plan = { create: [], remove: [], ended: [], condemned, waitsFor: undefined, status, againMs: undefined };
  /** `settled`: nothing holds up the next ordinal. Where something does, what waits for its instant must not overtake it. */
  const done = (plan: Partial<Plan>, settled = !ordered): Plan =>
    ({ ...nothing, ...plan, remove: [...(plan.remove ?? []), ...(settled ? unawaited : ahead)], againMs: waits.length > 0 ? Math.min(...waits) : undefined });
  if (set.metadata.deletionTimestamp !== undefined) return { ...done({}), remove: [] };

  const create: Creation[] = [];
  const ended: Pod[] = [];
  for (const ordinal of ordinals) {
    const pod = byOrdinal.get(ordinal);
    if (pod && isAhead(pod, nowMs)) {
      // It is wanted now, and can't be told: it is made anew when it is gone.
      if (ordered) return done({ waitsFor: pod });
    } else if (!pod) {
      if (create.length < MAX_CREATES) create.push({ ordinal, revision: revisionAt(ordinal) });
      if (ordered) return done({ create });
    } else if (isTerminal(pod) && !isLeaving(pod)) {
      ended.push(pod);
      if (ordered) return done({ remove: ended, ended });
    } else if (ordered && (isLeaving(pod) || !isAvailable(pod))) return done({ waitsFor: pod });
  }

  // From the highest ordinal down; in order each waits until the others work, so that a broken one holds up what is scaled down too,
  // unless the broken one is itself the next to go.
  const leaving: Pod[] = [];
  const unhealthy = present.filter((pod) => isLeaving(pod) || (!runs(pod) && !isTerminal(pod))).sort((a, b) => ordinalOf(set, a) - ordinalOf(set, b))[0];
  for (const pod of condemned.filter((p) => !isAhead(p, nowMs))) {
    if (isLeaving(pod)) {
      if (ordered) return done({ waitsFor: pod });
      continue;
    }
    // What has ended will never work: nobody waits for it (upstream does, for ever when there are two).
    if (ordered && !isTerminal(pod) && !isAvailable(pod) && pod !== unhealthy) return done({ waitsFor: pod });
    leaving.push(pod);
    if (ordered) return done({ remove: leaving });
  }

  const update: Pod[] = [];
  if (rolling && create.length === 0) {
    const limit = limitOf(set);
    let unavailable = 0;
    for (const ordinal of ordinals.toReversed()) {
      if (unavailable >= limit || ordinal < start + partition) break;
      const pod = byOrdinal.get(ordinal)!;
      if (isLeaving(pod) || ended.includes(pod) || isAhead(pod, nowMs)) unavailable++;
      else if (revisionOf(pod) !== updateRevision) {
        update.push(pod);
        unavailable++;
      } else if (!isAvailable(pod)) unavailable++;
    }
  }
  const stage = ordered && update.length > 0 ? [] : awaitedOrdinals.filter((ordinal) => !byOrdinal.has(ordinal)).map((ordinal) => ({ ordinal, revision: revisionAt(ordinal), startAtMs: staged!.atMs }));
  return done({ create: [...create, ...stage], ended, remove: [...ended, ...leaving, ...update] }, true);
};

const statusOf = ({ set, pods, currentRevision, updateRevision }: Input, isRunning: (pod: Pod) => boolean, isAvailable: (pod: Pod) => boolean): StatefulSetStatus => {
  const before = set.status;
  const staying = pods.filter((pod) => !isLeaving(pod));
  const counts = {
    replicas: pods.length, readyReplicas: pods.filter(isRunning).length, availableReplicas: pods.filter(isAvailable).length,
    currentReplicas: staying.filter((pod) => revisionOf(pod) === currentRevision).length, updatedReplicas: staying.filter((pod) => revisionOf(pod) === updateRevision).length,
  };
  // Everything runs the new revision: from now on it is the current one.
  const complete = set.spec?.updateStrategy?.type !== "OnDelete" && counts.updatedReplicas === counts.replicas && counts.readyReplicas === counts.replicas && counts.replicas === (set.spec?.replicas ?? 1);
  return {
    observedGeneration: set.metadata.generation ?? 0, ...counts,
    ...(complete && { currentReplicas: counts.updatedReplicas }),
    currentRevision: complete ? updateRevision : currentRevision, updateRevision,
    ...(before?.collisionCount !== undefined && { collisionCount: before.collisionCount }),
    ...(before?.conditions && { conditions: before.conditions }),
  };
};
