// Whether a CronJob is due, and what of its Jobs may go. Pure: (cron job, its jobs, now) -> plan. Rules: upstream's
// pkg/controller/cronjob/cronjob_controllerv2.go.
import { latestAt, nextAfter, parseCron } from "../../../base/cron.ts";
import { describeError } from "../../../base/errors.ts";
import { CRON_JOBS, JOBS } from "../../../base/kube/resources.ts";
import type { CronJob, CronJobStatus, Job, ObjectReference } from "../../../base/kube/types.gen.ts";
import { finishedAt, finishedBy, newJob } from "../job/defaults.ts";
import { controllerReference, timeMs, timestamp } from "../objects.ts";

export interface Say {
  readonly type: "Normal" | "Warning";
  readonly reason: string;
  readonly message: string;
}

export interface Plan {
  readonly create: Job | undefined;
  /** Running jobs that give way (concurrencyPolicy Replace) and finished ones beyond the history limits. */
  readonly remove: readonly Job[];
  /** `active` without the created job: that is added once it exists. */
  readonly status: CronJobStatus;
  readonly say: readonly Say[];
  /** Until the next tick. */
  readonly againMs: number | undefined;
}

const SCHEDULED_AT = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/** Upstream's limit for a CronJob's name is 52: "-" and minutes since 1970 in at most 10 digits fit into 63. */
const jobName = (cronJob: CronJob, tickMs: number): string => `${cronJob.metadata.name!}-${Math.floor(tickMs / 60_000)}`;

const referenceTo = ({ metadata }: Job): ObjectReference => ({
  kind: JOBS.kind, namespace: metadata.namespace, name: metadata.name, uid: metadata.uid, apiVersion: JOBS.apiVersion, ...(metadata.resourceVersion && { resourceVersion: metadata.resourceVersion }),
});

const beyond = (jobs: readonly Job[], limit: number): Job[] =>
  [...jobs].sort((a, b) => timeMs(a.status?.startTime ?? a.metadata.creationTimestamp) - timeMs(b.status?.startTime ?? b.metadata.creationTimestamp)).slice(0, Math.max(0, jobs.length - limit));

/** The Job of one tick. The same tick always has the same name, so that it is created once however often it is tried. */
export const jobFor = (cronJob: CronJob, tickMs: number, nowMs: number, uid: string): Job => {
  const { metadata, spec } = cronJob.spec.jobTemplate;
  return newJob({
    name: jobName(cronJob, tickMs), namespace: cronJob.metadata.namespace!, uid, creationTimestamp: timestamp(nowMs),
    ...(metadata?.labels && { labels: metadata.labels }), annotations: { ...metadata?.annotations, [SCHEDULED_AT]: timestamp(tickMs) },
    ownerReferences: [controllerReference(CRON_JOBS, cronJob)],
  }, spec!);
};

/** The status once the Job of `tickMs` exists. */
export const started = (status: CronJobStatus, job: Job, tickMs: number): CronJobStatus => ({
  ...status, active: [...(status.active ?? []).filter((r) => r.uid !== job.metadata.uid), referenceTo(job)], lastScheduleTime: timestamp(tickMs),
});

export const tickOf = (job: Job): number => timeMs(job.metadata.annotations?.[SCHEDULED_AT]);

export const reconcile = (cronJob: CronJob, jobs: readonly Job[], nowMs: number, uid: () => string): Plan => {
  const { spec } = cronJob;
  const active = jobs.filter((job) => !finishedBy(job));
  const complete = jobs.filter((job) => finishedBy(job) === "Complete");
  const failed = jobs.filter((job) => finishedBy(job) === "Failed");
  const history = [...beyond(complete, spec.successfulJobsHistoryLimit ?? 3), ...beyond(failed, spec.failedJobsHistoryLimit ?? 1)];
  const lastSuccess = Math.max(timeMs(cronJob.status?.lastSuccessfulTime), ...complete.map((job) => timeMs(job.status?.completionTime ?? finishedAt(job))));
  const status: CronJobStatus = {
    ...(active.length > 0 && { active: active.map(referenceTo) }),
    ...(cronJob.status?.lastScheduleTime && { lastScheduleTime: cronJob.status.lastScheduleTime }),
    ...(lastSuccess > 0 && { lastSuccessfulTime: timestamp(lastSuccess) }),
  };
  const rest = (more: Partial<Plan> = {}): Plan => ({ create: undefined, remove: history, status, say: [], againMs: undefined, ...more });
  if (cronJob.metadata.deletionTimestamp !== undefined || spec.suspend) return rest();

  let latest: number | undefined;
  let againMs: number | undefined;
  try {
    const schedule = parseCron(spec.schedule);
    latest = latestAt(schedule, nowMs, spec.timeZone);
    const next = nextAfter(schedule, nowMs, spec.timeZone);
    againMs = next === undefined ? undefined : next - nowMs;
  } catch (error) {
    return rest({ say: [{ type: "Warning", reason: "UnparseableSchedule", message: `unparseable schedule: ${describeError(error)}` }] });
  }
  // The last job counts too: the process may have died between creating it and writing lastScheduleTime.
  const since = Math.max(timeMs(cronJob.metadata.creationTimestamp), timeMs(cronJob.status?.lastScheduleTime), ...jobs.map(tickOf));
  if (latest === undefined || latest <= since) return rest({ againMs });
  if (spec.startingDeadlineSeconds !== undefined && latest + spec.startingDeadlineSeconds * 1000 < nowMs) {
    return rest({ againMs, say: [{ type: "Warning", reason: "MissSchedule", message: `Missed scheduled time to start a job: ${timestamp(latest)}` }] });
  }
  if (active.length > 0 && spec.concurrencyPolicy === "Forbid") {
    return rest({ againMs, say: [{ type: "Normal", reason: "JobAlreadyActive", message: "Not starting job because prior execution is running and concurrency policy is Forbid" }] });
  }
  return rest({
    againMs, create: jobFor(cronJob, latest, nowMs, uid()),
    ...(spec.concurrencyPolicy === "Replace" && { remove: [...history, ...active], status: { ...status, active: [] } }),
  });
};
