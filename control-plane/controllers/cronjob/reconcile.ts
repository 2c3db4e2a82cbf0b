// Whether a CronJob is due or soon will be, and what of its Jobs may go. Pure: (cron job, its jobs, now) -> plan. Rules: upstream's
// pkg/controller/cronjob/cronjob_controllerv2.go; where we are stricter, and how a tick is staged, is docs/design/cron.md.
import { createHash } from "node:crypto";
import { latestAt, nextAfter, parseCron } from "../../../base/cron.ts";
import type { CronSchedule } from "../../../base/cron.ts";
import { describeError } from "../../../base/errors.ts";
import { CRON_JOBS, JOBS } from "../../../base/kube/resources.ts";
import { BOOKS_AFTER_MS, START_AT, isAhead, isWithdrawn, stageAheadMs, startAtMs } from "../../../base/kube/staging.ts";
import type { CronJob, CronJobStatus, Job, ObjectReference } from "../../../base/kube/types.gen.ts";
import { finishedAt, finishedBy, newJob } from "../job/defaults.ts";
import { canonicalJson, controllerReference, timeMs, timestamp } from "../objects.ts";

export interface Say {
  readonly type: "Normal" | "Warning";
  readonly reason: string;
  readonly message: string;
}

export interface Plan {
  readonly create: Job | undefined;
  /** To be made ready ahead of its tick; it counts as a run from that on. */
  readonly stage: Job | undefined;
  /** Staged ones whose tick is not to come: taken away without a trace. */
  readonly withdraw: readonly Job[];
  /** Those that stand ready, or nearly. */
  readonly staged: readonly Job[];
  /** Running jobs that give way (concurrencyPolicy Replace). The tick's Job is created when they, and their pods, are gone. */
  readonly replace: readonly Job[];
  /** Finished ones beyond the history limits. To be removed after the status is written: until then a tick may stand in its Job alone. */
  readonly remove: readonly Job[];
  /** `active` without the created job: that is added once it exists. */
  readonly status: CronJobStatus;
  readonly say: readonly Say[];
  /** Until the next tick, or until it is to be staged. */
  readonly againMs: number | undefined;
}

export interface Known {
  readonly cronJob: CronJob;
  readonly jobs: readonly Job[];
  /** Of `status.active`: Jobs that are gone but whose pods still run. */
  readonly lingering?: readonly ObjectReference[];
}

const SCHEDULED_AT = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/** On staged Jobs: what they were made from. A change of the template before the tick makes them anew. */
const TEMPLATE_HASH = "gantry.io/template-hash";
/** A change that comes later than this before a tick counts from the next one on: nodes start by themselves, and the tick might run twice. */
const TOO_LATE_MS = 2000;

/** Upstream's limit for a CronJob's name is 52: "-" and minutes, or seconds, since 1970 in at most 10 digits fit into 63. */
export const jobName = (cronJob: CronJob, tickMs: number, { hasSeconds }: Pick<CronSchedule, "hasSeconds">): string =>
  `${cronJob.metadata.name!}-${Math.floor(tickMs / (hasSeconds ? 1000 : 60_000))}`;

const referenceTo = ({ metadata }: Job): ObjectReference => ({
  kind: JOBS.kind, namespace: metadata.namespace, name: metadata.name, uid: metadata.uid, apiVersion: JOBS.apiVersion, ...(metadata.resourceVersion && { resourceVersion: metadata.resourceVersion }),
});

const beyond = (jobs: readonly Job[], limit: number): Job[] =>
  [...jobs].sort((a, b) => timeMs(a.status?.startTime ?? a.metadata.creationTimestamp) - timeMs(b.status?.startTime ?? b.metadata.creationTimestamp)).slice(0, Math.max(0, jobs.length - limit));

const hashes = new WeakMap<object, string>();
const templateHash = ({ spec: { jobTemplate } }: CronJob): string => {
  let hash = hashes.get(jobTemplate);
  if (hash === undefined) hashes.set(jobTemplate, (hash = createHash("sha256").update(canonicalJson(jobTemplate)).digest("hex").slice(0, 16)));
  return hash;
};

/** The Job of one tick. The same tick always has the same name, so that it is created once however often it is tried. */
const jobFor = (cronJob: CronJob, tickMs: number, schedule: CronSchedule, nowMs: number, uid: string): Job => {
  const { metadata, spec } = cronJob.spec.jobTemplate;
  return newJob({
    name: jobName(cronJob, tickMs, schedule), namespace: cronJob.metadata.namespace!, uid, creationTimestamp: timestamp(nowMs),
    ...(metadata?.labels && { labels: metadata.labels }),
    annotations: { ...metadata?.annotations, [SCHEDULED_AT]: timestamp(tickMs), ...(tickMs > nowMs && { [START_AT]: timestamp(tickMs), [TEMPLATE_HASH]: templateHash(cronJob) }) },
    ownerReferences: [controllerReference(CRON_JOBS, cronJob)],
  }, spec!);
};

/** The status once the Job of `tickMs` exists. */
export const started = (status: CronJobStatus, job: Job, tickMs: number): CronJobStatus => ({
  ...status, active: [...(status.active ?? []).filter((r) => r.uid !== job.metadata.uid), referenceTo(job)], lastScheduleTime: timestamp(tickMs),
});

export const tickOf = (job: Job): number => timeMs(job.metadata.annotations?.[SCHEDULED_AT]);

/** Its tick stands in the CronJob's status, so the Job may go. */
export const isNoted = (job: Job, cronJob: CronJob): boolean => timeMs(cronJob.status?.lastScheduleTime) >= tickOf(job);

/** A Job that has not run and, unless it is withdrawn, will at its tick. A clock that was set back doesn't make a run undone. */
export const isStaged = (job: Job, cronJob: CronJob, nowMs: number): boolean => isAhead(job, nowMs) && !isNoted(job, cronJob) && !finishedBy(job);

export const reconcile = ({ cronJob, jobs, lingering = [] }: Known, nowMs: number, uid: () => string): Plan => {
  const { spec } = cronJob;
  const staged = jobs.filter((job) => isStaged(job, cronJob, nowMs) && !isWithdrawn(job));
  const runs = jobs.filter((job) => !isStaged(job, cronJob, nowMs) && !isWithdrawn(job));
  const active = runs.filter((job) => !finishedBy(job));
  const complete = runs.filter((job) => finishedBy(job) === "Complete");
  const failed = runs.filter((job) => finishedBy(job) === "Failed");
  const lastSuccess = Math.max(timeMs(cronJob.status?.lastSuccessfulTime), ...complete.map((job) => timeMs(job.status?.completionTime ?? finishedAt(job))));
  // The jobs count too: the process may have died between creating one and writing lastScheduleTime, and staged ones become runs by themselves.
  const lastTick = Math.max(timeMs(cronJob.status?.lastScheduleTime), ...runs.map(tickOf));
  const status: CronJobStatus = {
    ...(active.length + lingering.length > 0 && { active: [...active.map(referenceTo), ...lingering] }),
    ...(lastTick > 0 && { lastScheduleTime: timestamp(lastTick) }),
    ...(lastSuccess > 0 && { lastSuccessfulTime: timestamp(lastSuccess) }),
  };
  const say: Say[] = runs.filter((job) => startAtMs(job) > 0 && !isNoted(job, cronJob))
    .map((job) => ({ type: "Normal", reason: "SuccessfulCreate", message: `Created job ${job.metadata.name!} (staged, started at ${timestamp(tickOf(job))})` }));
  const base: Plan = {
    create: undefined, stage: undefined, withdraw: [], staged: [], replace: [], status, say, againMs: undefined,
    remove: [...beyond(complete, spec.successfulJobsHistoryLimit ?? 3), ...beyond(failed, spec.failedJobsHistoryLimit ?? 1)],
  };
  if (cronJob.metadata.deletionTimestamp !== undefined || spec.suspend) return { ...base, withdraw: staged };

  const since = Math.max(timeMs(cronJob.metadata.creationTimestamp), lastTick);
  let schedule: CronSchedule;
  let latest: number | undefined;
  let next: number | undefined;
  try {
    schedule = parseCron(spec.schedule);
    latest = latestAt(schedule, nowMs, spec.timeZone);
    // After a clock was set back nothing is due, nor staged, before what has been.
    next = nextAfter(schedule, Math.max(nowMs, since), spec.timeZone);
  } catch (error) {
    return { ...base, withdraw: staged, say: [...say, { type: "Warning", reason: "UnparseableSchedule", message: `unparseable schedule: ${describeError(error)}` }] };
  }
  const aheadMs = stageAheadMs(cronJob);
  const exclusive = spec.concurrencyPolicy === "Forbid" || spec.concurrencyPolicy === "Replace";
  const running = active.length + lingering.length > 0;
  const busy = exclusive && running;
  const isMade = (tickMs: number): boolean => jobs.some((job) => job.metadata.name === jobName(cronJob, tickMs, schedule));
  const withdraw = staged.filter((job) => busy
    || (tickOf(job) - nowMs > TOO_LATE_MS && (aheadMs === 0 || tickOf(job) !== next || job.metadata.annotations?.[TEMPLATE_HASH] !== templateHash(cronJob))));
  const stays = staged.length > withdraw.length;
  const untilMs = next === undefined ? undefined : next - nowMs;
  const againMs = untilMs === undefined ? undefined : stays ? untilMs + BOOKS_AFTER_MS : untilMs > aheadMs && aheadMs > 0 ? untilMs - aheadMs : untilMs;
  const plan: Plan = { ...base, withdraw, staged: staged.filter((job) => !withdraw.includes(job)), againMs };

  if (latest !== undefined && latest > since) {
    const due = { ...plan, againMs: untilMs };
    if (spec.startingDeadlineSeconds !== undefined && latest + spec.startingDeadlineSeconds * 1000 < nowMs) {
      say.push({ type: "Warning", reason: "MissSchedule", message: `Missed scheduled time to start a job: ${timestamp(latest)}` });
    } else if (busy && spec.concurrencyPolicy === "Forbid") {
      say.push({ type: "Normal", reason: "JobAlreadyActive", message: "Not starting job because prior execution is running and concurrency policy is Forbid" });
      return due;
    } else if (busy) {
      return { ...due, replace: active };
    } else if (!jobs.some((job) => job.metadata.name === jobName(cronJob, latest, schedule))) {
      return { ...due, create: jobFor(cronJob, latest, schedule, nowMs, uid()) };
    } else {
      // The tick's name belongs to one that was withdrawn before its time and is on its way out: its end comes as an event.
      return due;
    }
  }
  if (next === undefined || untilMs === undefined || aheadMs === 0 || untilMs > aheadMs || busy || stays || isMade(next)) return plan;
  return { ...plan, againMs: untilMs + BOOKS_AFTER_MS, stage: jobFor(cronJob, next, schedule, nowMs, uid()) };
};
