// Starts CronJobs' Jobs at their instants. It alone creates a CronJob's Jobs, removes old ones, and writes its status.
import { isCode } from "../../../base/errors.ts";
import { newUid } from "../../../base/ids.ts";
import { CRON_JOBS, JOBS, PODS } from "../../../base/kube/resources.ts";
import { STAGE_AHEAD, startAtMs } from "../../../base/kube/staging.ts";
import type { CronJob, CronJobStatus, Job, ObjectReference, Pod } from "../../../base/kube/types.gen.ts";
import { takesNewObjects } from "../claim.ts";
import { countNotStaged, notStagedText, TELL_AHEAD_MS } from "../not-staged.ts";
import { FOREGROUND } from "../garbage-collector/reconcile.ts";
import { annotationChanged, controllerOf, isTerminal, objectKey, sameJson, specChanged, splitKey } from "../objects.ts";
import type { Controller, ControllerContext, Pass } from "../reconcile-loop.ts";
import { reconcile, started, tickOf } from "./reconcile.ts";

/** The timer runs on the monotonic clock; re-read at least this often, a step of the wall clock can't make it miss its instant by more. */
const LONGEST_SLEEP_MS = 60_000;

const lacking = (job: Job, all: readonly Pod[]): string | undefined => notStagedText(all, Math.min(job.spec?.parallelism ?? 1, job.spec?.completions ?? Infinity), tickOf(job));

export const cronJobController = (context: ControllerContext): Controller => {
  const { cache, clock, store } = context;
  const cronJobs = cache.resource(CRON_JOBS);
  const jobs = cache.resource(JOBS);
  const pods = cache.resource(PODS);
  /** Key of a CronJob -> uid of the staged Job that was looked at last. */
  const told = new Map<string, string>();
  /** Uid of a lingering Job -> key of its CronJob. */
  const waiting = new Map<string, string>();

  /** Undefined when the name is taken by a Job that is not this CronJob's. */
  const create = async (cronJob: CronJob, job: Job, { writes, announce }: Pass): Promise<Job | undefined> => {
    try {
      const made = await writes.create(JOBS, job);
      announce({ regarding: cronJob, type: "Normal", reason: "SuccessfulCreate", message: `Created job ${job.metadata.name!}` });
      return made;
    } catch (error) {
      if (!isCode(error, "AlreadyExists")) throw error;
      // By an earlier pass or leader: the tick has its Job.
      const there = await store.get({ type: JOBS, namespace: job.metadata.namespace!, name: job.metadata.name! });
      if (there && controllerOf(there.object)?.uid === cronJob.metadata.uid) return there.object;
      announce({ regarding: cronJob, type: "Warning", reason: "FailedCreate", message: `Error creating job: a Job named ${job.metadata.name!} that is not this CronJob's exists already` });
      return undefined;
    }
  };

  /** Jobs of `status.active` that were deleted before their pods ended: for Forbid and Replace those still run. */
  const lingeringOf = (cronJob: CronJob): ObjectReference[] => (cronJob.status?.active ?? []).filter(({ uid = "" }) => {
    waiting.delete(uid);
    if (uid === "" || jobs.byUid(uid)) return false;
    const runs = [...pods.byIndex("owner", uid)].some(({ object }) => !isTerminal(object));
    if (runs) waiting.set(uid, objectKey(cronJob));
    return runs;
  });

  /** Without a word: nothing has run yet, and perhaps nothing will. */
  const stage = async (job: Job, { writes, again }: Pass): Promise<void> => {
    try {
      await writes.create(JOBS, job);
    } catch (error) {
      if (!isCode(error, "AlreadyExists")) throw error;
      // By an earlier leader, whose write will show up; or its name is another's, which is said when the tick comes.
      again(startAtMs(job) - clock.nowMs());
    }
  };

  return {
    name: "cronjob",
    writer: "controller",
    // Those that are due in the same minute are made together: the store commits them in a few transactions.
    concurrency: 256,
    *watch(queue) {
      yield cronJobs.subscribe(({ stored, previous }) => {
        if (!previous || specChanged(previous.object, stored.object) || annotationChanged(previous.object, stored.object, STAGE_AHEAD)) queue.add(objectKey(stored.object));
      });
      yield jobs.subscribe(({ stored: { object: job } }) => {
        const owner = controllerOf(job);
        const cronJob = owner?.kind === CRON_JOBS.kind ? cronJobs.byUid(owner.uid)?.object : undefined;
        if (cronJob) queue.add(objectKey(cronJob));
      });
      yield pods.subscribe(({ type, stored: { object: pod } }) => {
        if (waiting.size === 0 || (type !== "deleted" && !isTerminal(pod))) return;
        const key = waiting.get(controllerOf(pod)?.uid ?? "");
        if (key !== undefined) queue.add(key);
      });
      for (const { object } of cronJobs.list()) queue.add(objectKey(object));
    },

    async sync(key, pass) {
      const cronJob = cronJobs.get(...splitKey(key))?.object;
      if (!cronJob) told.delete(key);
      if (!cronJob?.spec || !takesNewObjects(cache, cronJob.metadata.namespace!)) return;
      const owned = Array.from(jobs.byIndex("owner", cronJob.metadata.uid!), (s) => s.object);
      const plan = reconcile({ cronJob, jobs: owned, lingering: lingeringOf(cronJob) }, clock.nowMs(), newUid);
      if (plan.againMs !== undefined) pass.again(Math.min(plan.againMs, LONGEST_SLEEP_MS));
      for (const job of plan.staged) {
        const leftMs = startAtMs(job) - clock.nowMs() - TELL_AHEAD_MS;
        if (leftMs > 0) pass.again(leftMs);
        else if (told.get(key) !== job.metadata.uid) {
          told.set(key, job.metadata.uid!);
          const message = lacking(job, Array.from(pods.byIndex("owner", job.metadata.uid!), (s) => s.object));
          if (message === undefined) continue;
          pass.announce({ regarding: cronJob, type: "Warning", reason: "NotStaged", message });
          countNotStaged(context.metrics);
        }
      }
      for (const said of plan.say) pass.announce({ regarding: cronJob, ...said });
      // With the finalizer a Job's name, and its place among the active ones, is taken until its pods are gone.
      await Promise.all([...plan.withdraw, ...plan.replace].map((job) => pass.writes.delete(JOBS, job, clock.nowMs(), { addFinalizer: FOREGROUND })));
      for (const job of plan.replace) {
        if (job.metadata.deletionTimestamp === undefined) pass.announce({ regarding: cronJob, type: "Normal", reason: "SuccessfulDelete", message: `Deleted job ${job.metadata.name!}` });
      }
      const job = plan.create && (await create(cronJob, plan.create, pass));
      const status: CronJobStatus = job ? started(plan.status, job, tickOf(job)) : plan.status;
      if (!sameJson(status, cronJob.status ?? {})) await pass.writes.update(CRON_JOBS, cronJob, (current) => ({ ...current, status }));
      await Promise.all(plan.remove.map((old) => pass.writes.delete(JOBS, old, clock.nowMs())));
      if (plan.stage) await stage(plan.stage, pass);
    },
  };
};
