// Runs Jobs to completion. It alone creates a Job's pods, takes their hold off (see reconcile.ts), and writes the Job's status.
import { nameSuffix, newUid } from "../../../base/ids.ts";
import { CRON_JOBS, JOBS, PODS } from "../../../base/kube/resources.ts";
import { START_AT } from "../../../base/kube/staging.ts";
import type { Job, Pod } from "../../../base/kube/types.gen.ts";
import { adoptersOf, applyClaim, candidatesOf, claim, selectorOf, takesNewObjects } from "../claim.ts";
import type { ClaimMarks } from "../claim.ts";
import { isNoted } from "../cronjob/reconcile.ts";
import { generatedName, newPod } from "../new-pod.ts";
import type { PodIds } from "../new-pod.ts";
import { createPods, type CreateFailures } from "../pod-creates.ts";
import { controllerOf, isActive, isTerminal, objectKey, sameJson, splitKey } from "../objects.ts";
import type { Controller, ControllerContext, Pass } from "../reconcile-loop.ts";
import { withoutFinalizer } from "../writes.ts";
import { HOLD, isHeld } from "./counting.ts";
import { isOurs } from "./defaults.ts";
import { templateAt } from "./indexes.ts";
import type { Attempt } from "./indexes.ts";
import { reconcile } from "./reconcile.ts";

const IDS: PodIds = { uid: newUid, suffix: nameSuffix };
/** Keys of pods whose Job is gone; "|" is in no name. */
const ABANDONED = "abandoned|";

const withHold = (pod: Pod): Pod => (isHeld(pod) ? pod : { ...pod, metadata: { ...pod.metadata, finalizers: [...(pod.metadata.finalizers ?? []), HOLD] } });

/** A pod without the hold could end and be deleted uncounted; one that is no longer the job's has nobody who would take it off. */
const MARKS: ClaimMarks<Pod> = { adopted: withHold, released: (pod) => withoutFinalizer(pod, HOLD) };

const jobPod = (job: Job, attempt: Attempt | undefined, nowMs: number): Pod => {
  const { template } = job.spec!;
  const pod = newPod(attempt ? templateAt(job, template, attempt) : template, { type: JOBS, object: job }, nowMs, IDS);
  const base = attempt ? `${job.metadata.name!}-${attempt.index}-` : pod.metadata.generateName!;
  const startAt = job.metadata.annotations?.[START_AT];
  const annotations = startAt === undefined ? pod.metadata.annotations : { ...pod.metadata.annotations, [START_AT]: startAt };
  return withHold({ ...pod, metadata: { ...pod.metadata, ...(annotations && { annotations }), name: generatedName(base, nameSuffix()), generateName: base } });
};

export const jobController = (context: ControllerContext): Controller => {
  const { cache, clock, options } = context;
  const jobs = cache.resource(JOBS);
  const pods = cache.resource(PODS);
  const cronJobs = cache.resource(CRON_JOBS);
  const failures: CreateFailures = new Map();

  const ownerOf = (pod: Pod): { readonly job: Job | undefined } | undefined => {
    const owner = controllerOf(pod);
    return owner?.kind === JOBS.kind && owner.apiVersion === JOBS.apiVersion ? { job: jobs.byUid(owner.uid)?.object } : undefined;
  };

  /** The CronJob has not written yet that this tick has run: were the Job gone now, the next leader would run it again. */
  const isUnnoted = (job: Job): boolean => {
    const owner = controllerOf(job);
    const cronJob = owner?.kind === CRON_JOBS.kind ? cronJobs.byUid(owner.uid)?.object : undefined;
    return cronJob !== undefined && !isNoted(job, cronJob);
  };

  const create = async (key: string, job: Job, attempts: readonly (Attempt | undefined)[], pass: Pass): Promise<void> => {
    const made = attempts.map((attempt) => jobPod(job, attempt, clock.nowMs()));
    await createPods(key, job, made, failures, pass);
  };

  const syncJob = async (key: string, pass: Pass): Promise<void> => {
    const job = jobs.get(...splitKey(key))?.object;
    if (!job?.spec) {
      failures.delete(key);
      return;
    }
    const { writes, announce } = pass;
    const nowMs = clock.nowMs();
    if (!isOurs(job)) return;
    const { selector } = job.spec;
    const owned = selector
      ? await applyClaim(writes, PODS, JOBS, job, claim(job, selectorOf(selector), candidatesOf(pods, job, selector)), MARKS)
      : Array.from(pods.byIndex("owner", job.metadata.uid!), (s) => s.object);
    const plan = reconcile(job, owned, nowMs);
    // First: what is released below must be counted by then. A Job that is gone meanwhile has nothing to count.
    if (!sameJson(plan.status, job.status ?? {})) {
      const written = await writes.update(JOBS, job, (current) => ({ ...current, status: plan.status }));
      if (!written) return;
    }
    for (const said of plan.say) announce({ regarding: job, ...said });
    await Promise.all([
      ...plan.release.map((pod) => writes.removeFinalizer(PODS, pod, HOLD)),
      // One that has ended meanwhile has a result, which the next pass counts.
      ...plan.remove.map((pod) => writes.delete(PODS, pod, nowMs, { dropFinalizer: HOLD }, isActive)),
      ...plan.end.map((pod) => writes.delete(PODS, pod, nowMs, {}, isActive)),
    ]);
    for (const pod of [...plan.remove, ...plan.end]) announce({ regarding: job, type: "Normal", reason: "SuccessfulDelete", message: `Deleted pod: ${pod.metadata.name!}` });
    if (plan.expired && isUnnoted(job)) {
      pass.again(options.statusDelayMs);
      return;
    }
    if (plan.expired) {
      await writes.delete(JOBS, job, nowMs);
      return;
    }
    if (plan.create.length > 0 && takesNewObjects(cache, job.metadata.namespace!)) await create(key, job, plan.create, pass);
    if (plan.againMs !== undefined) pass.again(plan.againMs);
  };

  return {
    name: "job",
    writer: "controller",
    *watch(queue) {
      const podChanged = (pod: Pod, delayMs: number): void => {
        const owner = ownerOf(pod);
        if (owner?.job) queue.addAfter(objectKey(owner.job), delayMs);
        else if (owner && isHeld(pod)) queue.add(`${ABANDONED}${objectKey(pod)}`);
      };
      yield jobs.subscribe(({ type, stored: { object: job } }) => {
        queue.add(objectKey(job));
        if (type === "deleted") for (const { object: pod } of pods.byIndex("owner", job.metadata.uid!)) podChanged(pod, 0);
      });
      yield pods.subscribe(({ type, stored: { object: pod }, previous }) => {
        // A pod that fails or is taken away is replaced at once; all else is counted with the next write of the status.
        const lost = type === "deleted" || (previous !== undefined && isActive(previous.object) && !isActive(pod) && !(isTerminal(pod) && pod.status?.phase === "Succeeded"));
        podChanged(pod, lost ? 0 : options.statusDelayMs);
        if (type !== "deleted" && (!previous || controllerOf(previous.object) || previous.object.metadata.labels !== pod.metadata.labels)) {
          for (const adopter of adoptersOf(jobs, pod)) queue.add(objectKey(adopter));
        }
      });
      for (const { object } of jobs.list()) queue.add(objectKey(object));
      for (const { object } of pods.list()) if (isHeld(object)) podChanged(object, 0);
    },

    async sync(key, pass) {
      if (!key.startsWith(ABANDONED)) {
        await syncJob(key, pass);
        return;
      }
      const pod = pods.get(...splitKey(key.slice(ABANDONED.length)))?.object;
      if (pod && isHeld(pod) && !ownerOf(pod)?.job) await pass.writes.removeFinalizer(PODS, pod, HOLD);
    },
  };
};
