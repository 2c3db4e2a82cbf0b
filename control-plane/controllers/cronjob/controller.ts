// Starts CronJobs' Jobs at their instants. It alone creates a CronJob's Jobs, removes old ones, and writes its status.
import { isCode } from "../../../base/errors.ts";
import { newUid } from "../../../base/ids.ts";
import { CRON_JOBS, JOBS } from "../../../base/kube/resources.ts";
import type { CronJob, CronJobStatus, Job } from "../../../base/kube/types.gen.ts";
import { takesNewObjects } from "../claim.ts";
import { finishedBy } from "../job/defaults.ts";
import { controllerOf, objectKey, sameJson, specChanged, splitKey } from "../objects.ts";
import type { Controller, ControllerContext, Pass } from "../reconcile-loop.ts";
import { reconcile, started, tickOf } from "./reconcile.ts";

/** The timer runs on the monotonic clock; re-read at least this often, a step of the wall clock can't make it miss its instant by more. */
const LONGEST_SLEEP_MS = 60_000;

export const cronJobController = (context: ControllerContext): Controller => {
  const { cache, clock, store } = context;
  const cronJobs = cache.resource(CRON_JOBS);
  const jobs = cache.resource(JOBS);

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

  return {
    name: "cronjob",
    writer: "controller",
    *watch(queue) {
      yield cronJobs.subscribe(({ stored, previous }) => {
        if (!previous || specChanged(previous.object, stored.object)) queue.add(objectKey(stored.object));
      });
      yield jobs.subscribe(({ stored: { object: job } }) => {
        const owner = controllerOf(job);
        const cronJob = owner?.kind === CRON_JOBS.kind ? cronJobs.byUid(owner.uid)?.object : undefined;
        if (cronJob) queue.add(objectKey(cronJob));
      });
      for (const { object } of cronJobs.list()) queue.add(objectKey(object));
    },

    async sync(key, pass) {
      const cronJob = cronJobs.get(...splitKey(key))?.object;
      if (!cronJob?.spec || !takesNewObjects(cache, cronJob.metadata.namespace!)) return;
      const owned = Array.from(jobs.byIndex("owner", cronJob.metadata.uid!), (s) => s.object);
      const plan = reconcile(cronJob, owned, clock.nowMs(), newUid);
      if (plan.againMs !== undefined) pass.again(Math.min(plan.againMs, LONGEST_SLEEP_MS));
      for (const said of plan.say) pass.announce({ regarding: cronJob, ...said });
      await Promise.all(plan.remove.map((job) => pass.writes.delete(JOBS, job, clock.nowMs())));
      for (const job of plan.remove) {
        if (!finishedBy(job)) pass.announce({ regarding: cronJob, type: "Normal", reason: "SuccessfulDelete", message: `Deleted job ${job.metadata.name!}` });
      }
      const job = plan.create && (await create(cronJob, plan.create, pass));
      const status: CronJobStatus = job ? started(plan.status, job, tickOf(job)) : plan.status;
      if (!sameJson(status, cronJob.status ?? {})) await pass.writes.update(CRON_JOBS, cronJob, (current) => ({ ...current, status }));
    },
  };
};
