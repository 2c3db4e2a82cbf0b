// Runs Jobs to completion. It alone creates a Job's pods, takes their hold off (see reconcile.ts), and writes the Job's status.
import { nameSuffix, newUid } from "../../../base/ids.ts";
import { JOBS, PODS } from "../../../base/kube/resources.ts";
import type { Job, Pod } from "../../../base/kube/types.gen.ts";
import { inBatches } from "../batch.ts";
import { takesNewObjects } from "../claim.ts";
import { generatedName, newPod } from "../new-pod.ts";
import type { PodIds } from "../new-pod.ts";
import { controllerOf, isActive, isTerminal, objectKey, sameJson, splitKey } from "../objects.ts";
import type { Controller, ControllerContext, Pass } from "../reconcile-loop.ts";
import { templateAt } from "./indexes.ts";
import { HOLD, isHeld, reconcile } from "./reconcile.ts";

const IDS: PodIds = { uid: newUid, suffix: nameSuffix };
/** Keys of pods whose Job is gone; "|" is in no name. */
const ABANDONED = "abandoned|";

const jobPod = (job: Job, index: number | undefined, nowMs: number): Pod => {
  const { template } = job.spec!;
  const pod = newPod(index === undefined ? template : templateAt(job, template, index), { type: JOBS, object: job }, nowMs, IDS);
  const base = index === undefined ? pod.metadata.generateName! : `${job.metadata.name!}-${index}-`;
  return { ...pod, metadata: { ...pod.metadata, name: generatedName(base, nameSuffix()), generateName: base, finalizers: [...(pod.metadata.finalizers ?? []), HOLD] } };
};

export const jobController = (context: ControllerContext): Controller => {
  const { cache, clock, options } = context;
  const jobs = cache.resource(JOBS);
  const pods = cache.resource(PODS);
  const failing = new Set<string>();

  const ownerOf = (pod: Pod): { readonly job: Job | undefined } | undefined => {
    const owner = controllerOf(pod);
    return owner?.kind === JOBS.kind && owner.apiVersion === JOBS.apiVersion ? { job: jobs.byUid(owner.uid)?.object } : undefined;
  };

  const create = async (key: string, job: Job, indexes: readonly (number | undefined)[], { writes, announce }: Pass): Promise<void> => {
    const made = indexes.map((index) => jobPod(job, index, clock.nowMs()));
    const { done, error, failed } = await inBatches(made, failing.has(key), (pod) => writes.create(PODS, pod));
    for (const pod of done) announce({ regarding: job, type: "Normal", reason: "SuccessfulCreate", message: `Created pod: ${pod.metadata.name!}` });
    if (failed === 0) {
      failing.delete(key);
      return;
    }
    failing.add(key);
    announce({ regarding: job, type: "Warning", reason: "FailedCreate", message: `Error creating: ${String(error)}` });
    throw error;
  };

  const syncJob = async (key: string, pass: Pass): Promise<void> => {
    const job = jobs.get(...splitKey(key))?.object;
    if (!job?.spec) {
      failing.delete(key);
      return;
    }
    const { writes, announce } = pass;
    const nowMs = clock.nowMs();
    const owned = Array.from(pods.byIndex("owner", job.metadata.uid!), (s) => s.object);
    const plan = reconcile(job, owned, nowMs);
    // First: what is released below must be counted by then. A Job that is gone meanwhile has nothing to count.
    if (!sameJson(plan.status, job.status ?? {})) {
      const written = await writes.update(JOBS, job, (current) => ({ ...current, status: plan.status }));
      if (!written) return;
    }
    for (const said of plan.say) announce({ regarding: job, ...said });
    await Promise.all([
      ...plan.release.map((pod) => writes.removeFinalizer(PODS, pod, HOLD)),
      ...plan.remove.map((pod) => writes.delete(PODS, pod, nowMs, { dropFinalizer: HOLD })),
    ]);
    for (const pod of plan.remove) announce({ regarding: job, type: "Normal", reason: "SuccessfulDelete", message: `Deleted pod: ${pod.metadata.name!}` });
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
