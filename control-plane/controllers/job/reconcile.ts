// What a Job needs now. Pure: (job, its pods, now) -> plan. Rules, reasons and messages: upstream's pkg/controller/job.
//
// Counting. A finished pod may be deleted by anyone at any time, so it can't be counted by looking. Each pod carries a finalizer, the
// hold. In one write of the status a finished pod is added to succeeded or failed and its uid to uncountedTerminatedPods; then its hold
// is taken off; then the uid is dropped. A crash between any two of these counts nothing twice and nothing never. (Upstream adds to
// succeeded only when it drops the uid; the sum is the same, the number is right one write earlier here.)
import type { Job, JobCondition, JobStatus, Pod } from "../../../base/kube/types.gen.ts";
import { isActive, isReady, isTerminal, restartsOf, timeMs, timestamp, withCondition } from "../objects.ts";
import { victimsFirst } from "../replicaset/reconcile.ts";
import { finishedAt, finishedBy } from "./defaults.ts";
import { formatIndexes, indexOf, isIndexed, parseIndexes } from "./indexes.ts";

export const HOLD = "batch.kubernetes.io/job-tracking";

export interface Say {
  readonly type: "Normal" | "Warning";
  readonly reason: string;
  readonly message: string;
}

export interface Plan {
  /** One entry for each pod to create: its completion index, or undefined. */
  readonly create: readonly (number | undefined)[];
  /** To be deleted uncounted: the hold goes in the same write. */
  readonly remove: readonly Pod[];
  /** Their hold goes, after the status is written. */
  readonly release: readonly Pod[];
  readonly status: JobStatus;
  readonly say: readonly Say[];
  /** ttlSecondsAfterFinished has passed. */
  readonly expired: boolean;
  readonly againMs: number | undefined;
}

/** Pods counted, and created, in one pass: bounds the status. */
const MAX_PER_PASS = 500;
const BACKOFF_MS = 10_000;
const MAX_BACKOFF_MS = 600_000;

export const isHeld = (pod: Pod): boolean => pod.metadata.finalizers?.includes(HOLD) === true;

/** A pod on its way out never reaches the phase Failed when its node is lost: it counts as failed at once, unless only failed ones may be replaced. */
const hasFailed = (job: Job, pod: Pod): boolean =>
  pod.status?.phase === "Failed" || (job.spec?.podReplacementPolicy !== "Failed" && pod.metadata.deletionTimestamp !== undefined && pod.status?.phase !== "Succeeded");

const endedMs = (pod: Pod): number => {
  const ends = [...(pod.status?.containerStatuses ?? []), ...(pod.status?.initContainerStatuses ?? [])].map((c) => timeMs(c.state?.terminated?.finishedAt));
  return Math.max(...ends, 0) || timeMs(pod.metadata.deletionTimestamp) || timeMs(pod.metadata.creationTimestamp);
};

/** Until the next pod may be created: 10 s after a failure, doubled with each one since the last success, at most 10 minutes. */
export const backoffMs = (job: Job, pods: readonly Pod[], nowMs: number): number => {
  const lastSuccess = Math.max(0, ...pods.filter((p) => p.status?.phase === "Succeeded").map(endedMs));
  const failures = pods.filter((p) => hasFailed(job, p)).map(endedMs).filter((ms) => ms > lastSuccess);
  if (failures.length === 0) return 0;
  return Math.max(0, Math.max(...failures) + Math.min(MAX_BACKOFF_MS, BACKOFF_MS * 2 ** (failures.length - 1)) - nowMs);
};

const condition = (type: string, status: "True" | "False", reason: string, message: string, nowMs: number): JobCondition =>
  ({ type, status, lastProbeTime: timestamp(nowMs), lastTransitionTime: timestamp(nowMs), reason, message });

interface Counts {
  readonly succeeded: number;
  readonly failed: number;
  readonly completed: ReadonlySet<number>;
  readonly uncounted: { readonly succeeded: readonly string[]; readonly failed: readonly string[] };
}

const count = (job: Job, pods: readonly Pod[]): Counts => {
  const { status } = job;
  const held = new Set(pods.filter(isHeld).map((p) => p.metadata.uid!));
  const known = status?.uncountedTerminatedPods ?? {};
  const kept = { succeeded: (known.succeeded ?? []).filter((uid) => held.has(uid)), failed: (known.failed ?? []).filter((uid) => held.has(uid)) };
  const counted = new Set([...kept.succeeded, ...kept.failed]);
  const fresh = pods.filter((p) => isHeld(p) && !counted.has(p.metadata.uid!) && (p.status?.phase === "Succeeded" || hasFailed(job, p))).slice(0, MAX_PER_PASS);
  const won = fresh.filter((p) => p.status?.phase === "Succeeded");
  const lost = fresh.filter((p) => p.status?.phase !== "Succeeded");
  const completed = parseIndexes(status?.completedIndexes);
  if (isIndexed(job)) for (const index of won.map(indexOf)) if (index >= 0 && index < (job.spec?.completions ?? 0)) completed.add(index);
  return {
    succeeded: isIndexed(job) ? completed.size : (status?.succeeded ?? 0) + won.length, failed: (status?.failed ?? 0) + lost.length, completed,
    uncounted: { succeeded: [...kept.succeeded, ...won.map((p) => p.metadata.uid!)], failed: [...kept.failed, ...lost.map((p) => p.metadata.uid!)] },
  };
};

const failureOf = (job: Job, counts: Counts, active: readonly Pod[], startMs: number | undefined, nowMs: number): { reason: string; message: string } | undefined => {
  const { backoffLimit = 6, activeDeadlineSeconds, template } = job.spec!;
  const restarts = template.spec?.restartPolicy === "OnFailure" ? active.reduce((sum, pod) => sum + restartsOf(pod), 0) : 0;
  if (counts.failed > backoffLimit || (restarts > 0 && restarts >= backoffLimit)) return { reason: "BackoffLimitExceeded", message: "Job has reached the specified backoff limit" };
  if (activeDeadlineSeconds !== undefined && startMs !== undefined && nowMs - startMs >= activeDeadlineSeconds * 1000) {
    return { reason: "DeadlineExceeded", message: "Job was active longer than specified deadline" };
  }
  return undefined;
};

export const reconcile = (job: Job, pods: readonly Pod[], nowMs: number): Plan => {
  const spec = job.spec!;
  const before = job.status ?? {};
  const active = pods.filter(isActive);
  const terminating = pods.filter((p) => p.metadata.deletionTimestamp !== undefined && !isTerminal(p));
  const base: Plan = { create: [], remove: [], release: [], status: before, say: [], expired: false, againMs: undefined };
  if (job.metadata.deletionTimestamp !== undefined) return { ...base, release: pods.filter(isHeld) };
  if (finishedBy(job)) {
    const leftMs = spec.ttlSecondsAfterFinished === undefined ? undefined : timeMs(finishedAt(job)) + spec.ttlSecondsAfterFinished * 1000 - nowMs;
    const status = pods.some(isHeld) ? before : { ...before, uncountedTerminatedPods: {} };
    return { ...base, status, remove: active, release: pods.filter((p) => isHeld(p) && !isActive(p)), expired: leftMs !== undefined && leftMs <= 0, againMs: leftMs };
  }

  const counts = count(job, pods);
  const say: Say[] = [];
  let conditions: readonly JobCondition[] = before.conditions ?? [];
  const put = (type: string, status: "True" | "False", reason: string, message: string): void => {
    conditions = withCondition(conditions, condition(type, status, reason, message, nowMs));
  };
  const stands = (type: string): JobCondition | undefined => conditions.find((c) => c.type === type && c.status === "True");

  const suspended = spec.suspend === true;
  const wasSuspended = stands("Suspended") !== undefined;
  if (suspended && !wasSuspended) {
    put("Suspended", "True", "JobSuspended", "Job suspended");
    say.push({ type: "Normal", reason: "Suspended", message: "Job suspended" });
  } else if (!suspended && wasSuspended) {
    put("Suspended", "False", "JobResumed", "Job resumed");
    say.push({ type: "Normal", reason: "Resumed", message: "Job resumed" });
  }
  const startTime = suspended ? undefined : wasSuspended || before.startTime === undefined ? timestamp(nowMs) : before.startTime;
  // From the exact instant where it starts now: the text has whole seconds only.
  const startMs = startTime === undefined ? undefined : startTime === before.startTime ? timeMs(startTime) : nowMs;

  let failedNow = 0;
  if (!stands("FailureTarget") && !stands("SuccessCriteriaMet")) {
    const failure = failureOf(job, counts, active, startMs, nowMs);
    const done = spec.completions === undefined ? counts.succeeded > 0 && active.length === 0 : counts.succeeded >= spec.completions;
    if (failure) {
      put("FailureTarget", "True", failure.reason, failure.message);
      // They are ended by us and uncounted from here on: counted once, with the decision.
      failedNow = active.length;
    } else if (done) put("SuccessCriteriaMet", "True", "CompletionsReached", "Reached expected number of succeeded pods");
  }
  const failing = stands("FailureTarget");
  const succeeding = stands("SuccessCriteriaMet");
  const ending = failing ?? succeeding;
  const last = ending !== undefined && active.length === 0 && terminating.length === 0;
  if (last && failing) {
    put("Failed", "True", failing.reason!, failing.message!);
    say.push({ type: "Warning", reason: failing.reason!, message: failing.message! });
  } else if (last) {
    put("Complete", "True", succeeding!.reason!, succeeding!.message!);
    say.push({ type: "Normal", reason: "Completed", message: "Job completed" });
  }

  const wanted = ending || suspended ? { create: [], remove: active, waitMs: 0 } : wantedPods(job, pods, active, terminating, counts, nowMs);
  const leftMs = spec.activeDeadlineSeconds !== undefined && startMs !== undefined && !ending ? Math.max(1, startMs + spec.activeDeadlineSeconds * 1000 - nowMs) : undefined;
  const again = [leftMs, wanted.waitMs > 0 ? wanted.waitMs : undefined].filter((ms) => ms !== undefined);
  const ready = active.filter(isReady).length;
  const held = new Set([...counts.uncounted.succeeded, ...counts.uncounted.failed]);
  const failed = counts.failed + failedNow;
  const completedIndexes = isIndexed(job) ? formatIndexes(counts.completed) : "";
  return {
    create: wanted.create, remove: wanted.remove, release: pods.filter((p) => held.has(p.metadata.uid!)), say, expired: false,
    againMs: again.length > 0 ? Math.min(...again) : undefined,
    status: {
      ...(conditions.length > 0 && { conditions: [...conditions] }),
      ...(startTime !== undefined && { startTime }),
      ...(last && succeeding && !failing && { completionTime: timestamp(nowMs) }),
      ...(active.length > 0 && { active: active.length }),
      ...(counts.succeeded > 0 && { succeeded: counts.succeeded }),
      ...(failed > 0 && { failed }),
      terminating: terminating.length,
      ready,
      ...(completedIndexes !== "" && { completedIndexes }),
      uncountedTerminatedPods: { ...(counts.uncounted.succeeded.length > 0 && { succeeded: [...counts.uncounted.succeeded] }), ...(counts.uncounted.failed.length > 0 && { failed: [...counts.uncounted.failed] }) },
    },
  };
};

const wantedPods = (job: Job, pods: readonly Pod[], active: readonly Pod[], terminating: readonly Pod[], counts: Counts, nowMs: number): { create: (number | undefined)[]; remove: Pod[]; waitMs: number } => {
  const { parallelism = 1, completions, podReplacementPolicy } = job.spec!;
  const target = completions === undefined ? (counts.succeeded > 0 ? active.length : parallelism) : Math.min(parallelism, completions - counts.succeeded);
  const taken = new Set(counts.completed);
  const surplus = isIndexed(job) ? active.filter((pod) => {
    const index = indexOf(pod);
    if (index < 0 || index >= (completions ?? 0) || taken.has(index)) return true;
    taken.add(index);
    return false;
  }) : [];
  const useful = active.filter((pod) => !surplus.includes(pod));
  if (useful.length > target) return { create: [], remove: [...surplus, ...victimsFirst(useful).slice(0, useful.length - target)], waitMs: 0 };
  const lacking = Math.max(0, target - useful.length - (podReplacementPolicy === "Failed" ? terminating.length : 0));
  const waitMs = lacking > 0 ? backoffMs(job, pods, nowMs) : 0;
  if (lacking === 0 || waitMs > 0) return { create: [], remove: surplus, waitMs };
  const number = Math.min(lacking, MAX_PER_PASS);
  if (!isIndexed(job)) return { create: Array.from({ length: number }, () => undefined), remove: surplus, waitMs };
  // Indexes whose pod is still ending wait for it: two pods of one index must never run at once.
  for (const pod of terminating) taken.add(indexOf(pod));
  const create: number[] = [];
  for (let index = 0; index < (completions ?? 0) && create.length < number; index++) if (!taken.has(index)) create.push(index);
  return { create, remove: surplus, waitMs };
};
