// What a Job needs now. Pure: (job, its pods, now) -> plan. Rules, reasons and messages: upstream's pkg/controller/job. How finished
// pods are counted: counting.ts.
import { BOOKS_AFTER_MS, isAhead, startAtMs } from "../../../base/kube/staging.ts";
import type { Job, JobCondition, JobStatus, Pod } from "../../../base/kube/types.gen.ts";
import { isActive, isReady, isTerminal, restartsOf, timeMs, timestamp, withCondition } from "../objects.ts";
import { victimsFirst } from "../replicaset/reconcile.ts";
import { count, endedMs, hasFailed, isHeld, MAX_PER_PASS } from "./counting.ts";
import type { Counts } from "./counting.ts";
import { finishedAt, finishedBy } from "./defaults.ts";
import { formatIndexes, hasLimitPerIndex, indexOf, isIndexed, metSuccessRule } from "./indexes.ts";
import type { Attempt } from "./indexes.ts";

export interface Say {
  readonly type: "Normal" | "Warning";
  readonly reason: string;
  readonly message: string;
}

export interface Plan {
  /** One entry for each pod to create: its completion index, or undefined. */
  readonly create: readonly (Attempt | undefined)[];
  /** To be deleted uncounted: the hold goes in the same write. */
  readonly remove: readonly Pod[];
  /** To be deleted and counted: the job is over, and what still ran has failed. */
  readonly end: readonly Pod[];
  /** Their hold goes, after the status is written. */
  readonly release: readonly Pod[];
  readonly status: JobStatus;
  readonly say: readonly Say[];
  /** ttlSecondsAfterFinished has passed. */
  readonly expired: boolean;
  readonly againMs: number | undefined;
}

const BACKOFF_MS = 10_000;
const MAX_BACKOFF_MS = 600_000;
const DEFAULT_BACKOFF_LIMIT = 6;
/** The reason of a job that came to its end by itself. */
const REACHED = "CompletionsReached";

const delayAfter = (failures: number): number => Math.min(MAX_BACKOFF_MS, BACKOFF_MS * 2 ** (failures - 1));

/** Until the next pod may be created: 10 s after a failure, doubled with each one since the last success, at most 10 minutes. */
export const backoffMs = (job: Job, pods: readonly Pod[], nowMs: number): number => {
  const lastSuccess = Math.max(0, ...pods.filter((p) => p.status?.phase === "Succeeded").map(endedMs));
  const failures = pods.filter((p) => hasFailed(job, p)).map(endedMs).filter((ms) => ms > lastSuccess);
  return failures.length === 0 ? 0 : Math.max(0, Math.max(...failures) + delayAfter(failures.length) - nowMs);
};

const condition = (type: string, status: "True" | "False", reason: string, message: string, nowMs: number): JobCondition =>
  ({ type, status, lastProbeTime: timestamp(nowMs), lastTransitionTime: timestamp(nowMs), reason, message });

interface Ending {
  readonly type: "FailureTarget" | "SuccessCriteriaMet";
  readonly reason: string;
  readonly message: string;
}

const failed = (reason: string, message: string): Ending => ({ type: "FailureTarget", reason, message });
const met = (reason: string, message: string): Ending => ({ type: "SuccessCriteriaMet", reason, message });

/** What ends the job now; undefined while it goes on. */
const endingOf = (job: Job, counts: Counts, active: readonly Pod[], startMs: number | undefined, nowMs: number): Ending | undefined => {
  const { backoffLimit = DEFAULT_BACKOFF_LIMIT, activeDeadlineSeconds, completions, maxFailedIndexes, successPolicy, template } = job.spec!;
  if (counts.fatal) return failed("PodFailurePolicy", counts.fatal.message);
  const restarts = template.spec?.restartPolicy === "OnFailure" ? active.reduce((sum, pod) => sum + restartsOf(pod), 0) : 0;
  if (counts.failed > backoffLimit || (restarts > 0 && restarts >= backoffLimit)) return failed("BackoffLimitExceeded", "Job has reached the specified backoff limit");
  if (activeDeadlineSeconds !== undefined && startMs !== undefined && nowMs - startMs >= activeDeadlineSeconds * 1000) {
    return failed("DeadlineExceeded", "Job was active longer than specified deadline");
  }
  if (maxFailedIndexes !== undefined && counts.failedIndexes.size > maxFailedIndexes) {
    return failed("MaxFailedIndexesExceeded", "Job has exceeded the specified maximal number of failed indexes");
  }
  if (counts.failedIndexes.size > 0 && counts.failedIndexes.size + counts.completed.size >= (completions ?? 0)) return failed("FailedIndexes", "Job has failed indexes");
  const rule = isIndexed(job) ? metSuccessRule(successPolicy, counts.completed) : undefined;
  if (rule !== undefined) return met("SuccessPolicy", `Matched rules at index ${rule}`);
  const reached = completions === undefined ? counts.succeeded > 0 && active.length === 0 : counts.succeeded >= completions;
  return reached ? met(REACHED, "Reached expected number of succeeded pods") : undefined;
};

export const reconcile = (job: Job, pods: readonly Pod[], nowMs: number): Plan => {
  const spec = job.spec!;
  const before = job.status ?? {};
  const active = pods.filter(isActive);
  const terminating = pods.filter((p) => p.metadata.deletionTimestamp !== undefined && !isTerminal(p));
  const base: Plan = { create: [], remove: [], end: [], release: [], status: before, say: [], expired: false, againMs: undefined };
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
  const staged = isAhead(job, nowMs) && before.startTime === undefined;
  const startTime = suspended || staged ? undefined : before.startTime === undefined && startAtMs(job) > 0 ? timestamp(startAtMs(job)) : wasSuspended || before.startTime === undefined ? timestamp(nowMs) : before.startTime;
  // From the exact instant where it starts now: the text has whole seconds only.
  const startMs = startTime === undefined ? undefined : startTime === before.startTime ? timeMs(startTime) : nowMs;

  if (!stands("FailureTarget") && !stands("SuccessCriteriaMet")) {
    const decided = endingOf(job, counts, active, startMs, nowMs);
    if (decided) put(decided.type, "True", decided.reason, decided.message);
  }
  const failing = stands("FailureTarget");
  const succeeding = stands("SuccessCriteriaMet");
  const ending = failing ?? succeeding;
  const last = ending !== undefined && active.length === 0 && terminating.length === 0 && counts.all;
  if (last && failing) {
    put("Failed", "True", failing.reason!, failing.message!);
    say.push({ type: "Warning", reason: failing.reason!, message: failing.message! });
  } else if (last) {
    put("Complete", "True", succeeding!.reason!, succeeding!.message!);
    say.push({ type: "Normal", reason: "Completed", message: "Job completed" });
  }

  const wanted = wantedPods(job, pods, active, terminating, counts, ending, nowMs);
  const leftMs = spec.activeDeadlineSeconds !== undefined && startMs !== undefined && !ending ? Math.max(1, startMs + spec.activeDeadlineSeconds * 1000 - nowMs) : undefined;
  const again = [leftMs, wanted.waitMs > 0 ? wanted.waitMs : undefined, counts.all ? undefined : 1, staged ? startAtMs(job) - nowMs + BOOKS_AFTER_MS : undefined].filter((ms) => ms !== undefined);
  const { uncounted } = counts;
  const completedIndexes = isIndexed(job) ? formatIndexes(counts.completed) : "";
  return {
    ...base, create: wanted.create, remove: wanted.remove, end: wanted.end, say,
    release: ending ? counts.release : counts.release.filter((pod) => !counts.needed.has(pod.metadata.uid!)),
    againMs: again.length > 0 ? Math.min(...again) : undefined,
    status: {
      ...(conditions.length > 0 && { conditions: [...conditions] }),
      ...(startTime !== undefined && { startTime }),
      ...(last && succeeding && !failing && { completionTime: timestamp(nowMs) }),
      ...(active.length > 0 && { active: active.length }),
      ...(counts.succeeded > 0 && { succeeded: counts.succeeded }),
      ...(counts.failed > 0 && { failed: counts.failed }),
      terminating: terminating.length,
      ready: active.filter(isReady).length,
      ...(completedIndexes !== "" && { completedIndexes }),
      ...(hasLimitPerIndex(job) && { failedIndexes: formatIndexes(counts.failedIndexes) }),
      uncountedTerminatedPods: { ...(uncounted.succeeded.length > 0 && { succeeded: [...uncounted.succeeded] }), ...(uncounted.failed.length > 0 && { failed: [...uncounted.failed] }) },
    },
  };
};

interface Wanted {
  readonly create: readonly (Attempt | undefined)[];
  readonly remove: readonly Pod[];
  readonly end: readonly Pod[];
  readonly waitMs: number;
}

const NONE: Wanted = { create: [], remove: [], end: [], waitMs: 0 };

const wantedPods = (job: Job, pods: readonly Pod[], active: readonly Pod[], terminating: readonly Pod[], counts: Counts, ending: JobCondition | undefined, nowMs: number): Wanted => {
  const { parallelism = 1, completions, podReplacementPolicy, suspend } = job.spec!;
  // More pods than completions ask for are surplus, and no failures; neither are those of a job that only pauses.
  if (ending?.reason === REACHED || (suspend && !ending)) return { ...NONE, remove: active };
  if (ending) return { ...NONE, end: active };
  const target = completions === undefined ? (counts.succeeded > 0 ? active.length : parallelism) : Math.min(parallelism, completions - counts.succeeded - counts.failedIndexes.size);
  const taken = new Set([...counts.completed, ...counts.failedIndexes]);
  const surplus = isIndexed(job) ? active.filter((pod) => {
    const index = indexOf(pod);
    if (index < 0 || index >= (completions ?? 0) || taken.has(index)) return true;
    taken.add(index);
    return false;
  }) : [];
  const useful = active.filter((pod) => !surplus.includes(pod));
  if (useful.length > target) return { ...NONE, remove: [...surplus, ...victimsFirst(useful).slice(0, useful.length - target)] };
  const lacking = Math.min(MAX_PER_PASS, Math.max(0, target - useful.length - (podReplacementPolicy === "Failed" ? terminating.length : 0)));
  if (lacking === 0) return { ...NONE, remove: surplus };
  // Indexes whose pod is still ending wait for it: two pods of one index must never run at once.
  for (const pod of terminating) taken.add(indexOf(pod));
  if (hasLimitPerIndex(job)) return { ...NONE, remove: surplus, ...nextAttempts(completions ?? 0, taken, counts, lacking, nowMs) };
  const waitMs = backoffMs(job, pods, nowMs);
  if (waitMs > 0) return { ...NONE, remove: surplus, waitMs };
  if (!isIndexed(job)) return { ...NONE, remove: surplus, create: Array.from({ length: lacking }, () => undefined) };
  const create: Attempt[] = [];
  for (let index = 0; index < (completions ?? 0) && create.length < lacking; index++) if (!taken.has(index)) create.push({ index });
  return { ...NONE, remove: surplus, create };
};

/** With a limit per index each index waits for its own failures alone. */
const nextAttempts = (completions: number, taken: ReadonlySet<number>, { histories }: Counts, lacking: number, nowMs: number): Pick<Wanted, "create" | "waitMs"> => {
  const create: Attempt[] = [];
  let waitMs = 0;
  for (let index = 0; index < completions && create.length < lacking; index++) {
    if (taken.has(index)) continue;
    const history = histories.get(index);
    const leftMs = history ? history.endedMs + delayAfter(history.counted + history.ignored) - nowMs : 0;
    if (leftMs > 0) waitMs = waitMs === 0 ? leftMs : Math.min(waitMs, leftMs);
    else create.push({ index, failures: { counted: history?.counted ?? 0, ignored: history?.ignored ?? 0 } });
  }
  return { create, waitMs };
};
