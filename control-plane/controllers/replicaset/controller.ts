// Keeps each ReplicaSet's pods at their number. It alone creates and marks a ReplicaSet's pods, and writes its status.
import { describeError } from "../../../base/errors.ts";
import { nameSuffix, newUid } from "../../../base/ids.ts";
import { PODS, REPLICA_SETS } from "../../../base/kube/resources.ts";
import type { Pod, ReplicaSet } from "../../../base/kube/types.gen.ts";
import type { CacheEvent } from "../../state/cache.ts";
import { inBatches } from "../batch.ts";
import { adoptersOf, applyClaim, candidatesOf, claim, selectorOf, takesNewObjects } from "../claim.ts";
import { newPod } from "../new-pod.ts";
import type { PodIds } from "../new-pod.ts";
import { controllerOf, isActive, objectKey, sameJson, specChanged, splitKey } from "../objects.ts";
import type { Controller, ControllerContext, Pass, Requeue } from "../reconcile-loop.ts";
import { reconcile } from "./reconcile.ts";

const IDS: PodIds = { uid: newUid, suffix: nameSuffix };

export const replicaSetController = (context: ControllerContext): Controller => {
  const { cache, clock } = context;
  const replicaSets = cache.resource(REPLICA_SETS);
  const pods = cache.resource(PODS);
  /** Keys whose last creates failed, with the reason. Only a hint to go slowly: losing it costs a burst of failing writes. */
  const failures = new Map<string, string>();

  const podChanged = (queue: Requeue, { type, stored: { object: pod }, previous }: CacheEvent<Pod>): void => {
    const before = previous && controllerOf(previous.object);
    const owner = controllerOf(pod);
    for (const reference of [owner, before?.uid === owner?.uid ? undefined : before]) {
      if (reference?.kind !== REPLICA_SETS.kind) continue;
      const replicaSet = replicaSets.byUid(reference.uid)?.object;
      if (!replicaSet) continue;
      // A pod that stopped counting wants a replacement now; all else only changes counts in the status.
      const lost = type === "deleted" ? isActive(pod) : type === "modified" && isActive(previous!.object) && !isActive(pod);
      if (lost || reference !== owner) queue.add(objectKey(replicaSet));
      else queue.addAfter(objectKey(replicaSet), context.options.statusDelayMs);
    }
    if (!owner && type !== "deleted" && (!previous || before || previous.object.metadata.labels !== pod.metadata.labels)) {
      for (const adopter of adoptersOf(replicaSets, pod)) queue.add(objectKey(adopter));
    }
  };

  const remove = async (replicaSet: ReplicaSet, victims: readonly Pod[], { writes, announce }: Pass): Promise<void> => {
    await Promise.all(victims.map((pod) => writes.delete(PODS, pod, clock.nowMs())));
    for (const pod of victims) announce({ regarding: replicaSet, type: "Normal", reason: "SuccessfulDelete", message: `Deleted pod: ${pod.metadata.name!}` });
  };

  /** Throws what the first failing create threw, after the others were counted. */
  const create = async (key: string, replicaSet: ReplicaSet, count: number, { writes, announce }: Pass): Promise<void> => {
    const made = Array.from({ length: count }, () => newPod(replicaSet.spec!.template!, { type: REPLICA_SETS, object: replicaSet }, clock.nowMs(), IDS));
    const { done, error, failed } = await inBatches(made, failures.has(key), (pod) => writes.create(PODS, pod));
    for (const pod of done) announce({ regarding: replicaSet, type: "Normal", reason: "SuccessfulCreate", message: `Created pod: ${pod.metadata.name!}` });
    if (failed === 0) {
      failures.delete(key);
      return;
    }
    failures.set(key, describeError(error));
    announce({ regarding: replicaSet, type: "Warning", reason: "FailedCreate", message: `Error creating: ${describeError(error)}` });
    throw error;
  };

  return {
    name: "replicaset",
    writer: "controller",
    *watch(queue) {
      yield replicaSets.subscribe(({ stored, previous }) => {
        // Its own status writes come back as events and ask for nothing.
        if (!previous || specChanged(previous.object, stored.object)) queue.add(objectKey(stored.object));
      });
      yield pods.subscribe((event) => podChanged(queue, event));
      for (const { object } of replicaSets.list()) queue.add(objectKey(object));
    },

    async sync(key, pass) {
      const replicaSet = replicaSets.get(...splitKey(key))?.object;
      if (!replicaSet?.spec) {
        failures.delete(key);
        return;
      }
      const claimed = claim(replicaSet, selectorOf(replicaSet.spec.selector), candidatesOf(pods, replicaSet, replicaSet.spec.selector));
      const owned = await applyClaim(pass.writes, PODS, REPLICA_SETS, replicaSet, claimed);
      const plan = reconcile(replicaSet, owned, clock.nowMs(), failures.get(key));
      let failure: unknown;
      try {
        if (plan.remove.length > 0) await remove(replicaSet, plan.remove, pass);
        if (plan.create > 0 && takesNewObjects(cache, replicaSet.metadata.namespace!)) await create(key, replicaSet, plan.create, pass);
      } catch (error) {
        failure = error;
      }
      // After creating or deleting, the pods' own events bring the next pass, whose counts are true.
      const acted = failure === undefined && plan.create + plan.remove.length > 0;
      const { status } = failure === undefined ? plan : reconcile(replicaSet, owned, clock.nowMs(), describeError(failure));
      if (!acted && !sameJson(status, replicaSet.status)) await pass.writes.update(REPLICA_SETS, replicaSet, (current) => ({ ...current, status }));
      if (failure !== undefined) throw failure;
      if (plan.againMs !== undefined) pass.again(plan.againMs);
    },
  };
};
