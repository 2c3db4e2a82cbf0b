// Keeps the pods of ReplicaSets, and of ReplicationControllers, at their number. It alone creates and marks these pods, and writes
// their owners' status.
import { describeError } from "../../../base/errors.ts";
import { nameSuffix, newUid } from "../../../base/ids.ts";
import { PODS, REPLICA_SETS, REPLICATION_CONTROLLERS } from "../../../base/kube/resources.ts";
import type { KubeObject, ResourceType } from "../../../base/kube/resources.ts";
import { STAGED_REPLICAS, startingAt } from "../../../base/kube/staging.ts";
import type { Pod, ReplicaSet, ReplicaSetStatus, ReplicationController } from "../../../base/kube/types.gen.ts";
import type { CacheEvent } from "../../state/cache.ts";
import { adoptersOf, applyClaim, candidatesOf, claim, selectorOf, takesNewObjects } from "../claim.ts";
import { newPod } from "../new-pod.ts";
import type { PodIds } from "../new-pod.ts";
import { createPods, type CreateFailures } from "../pod-creates.ts";
import { annotationChanged, controllerOf, isActive, objectKey, sameJson, specChanged, splitKey } from "../objects.ts";
import type { Controller, ControllerContext, Pass, Requeue } from "../reconcile-loop.ts";
import { reconcile } from "./reconcile.ts";
import type { Plan } from "./reconcile.ts";

const IDS: PodIds = { uid: newUid, suffix: nameSuffix };

/** A kind that keeps a number of pods; `asReplicaSet` shows it as what the pure part knows. */
interface Kind<T extends KubeObject> {
  readonly name: string;
  readonly type: ResourceType<T>;
  readonly asReplicaSet: (object: T) => ReplicaSet;
  /** The part of the status that the kind has. */
  readonly statusOf: (status: ReplicaSetStatus) => object;
}

/** Its selector is labels alone; all else is the same. */
const fromReplicationController = (rc: ReplicationController): ReplicaSet =>
  ({ ...rc, spec: rc.spec && { ...rc.spec, selector: { matchLabels: rc.spec.selector } } });

const withoutTerminating = (status: ReplicaSetStatus): object => {
  const { terminatingReplicas: _, ...known } = status;
  return known;
};

export const replicaSetController = (context: ControllerContext): Controller =>
  keeping(context, { name: "replicaset", type: REPLICA_SETS, asReplicaSet: (rs) => rs, statusOf: (status) => status });
export const replicationController = (context: ControllerContext): Controller =>
  keeping(context, { name: "replicationcontroller", type: REPLICATION_CONTROLLERS, asReplicaSet: fromReplicationController, statusOf: withoutTerminating });

const keeping = <T extends KubeObject>(context: ControllerContext, { name, type: kind, asReplicaSet, statusOf }: Kind<T>): Controller => {
  const { cache, clock } = context;
  const owners = cache.resource(kind);
  const pods = cache.resource(PODS);
  const failures: CreateFailures = new Map();

  const podChanged = (queue: Requeue, { type, stored: { object: pod }, previous }: CacheEvent<Pod>): void => {
    const before = previous && controllerOf(previous.object);
    const owner = controllerOf(pod);
    for (const reference of [owner, before?.uid === owner?.uid ? undefined : before]) {
      if (reference?.kind !== kind.kind) continue;
      const replicaSet = owners.byUid(reference.uid)?.object;
      if (!replicaSet) continue;
      // A pod that stopped counting wants a replacement now; all else only changes counts in the status.
      const lost = type === "deleted" ? isActive(pod) : type === "modified" && isActive(previous!.object) && !isActive(pod);
      if (lost || reference !== owner) queue.add(objectKey(replicaSet));
      else queue.addAfter(objectKey(replicaSet), context.options.statusDelayMs);
    }
    if (!owner && type !== "deleted" && (!previous || before || previous.object.metadata.labels !== pod.metadata.labels)) {
      for (const adopter of adoptersOf(owners, pod, (o) => asReplicaSet(o).spec?.selector)) queue.add(objectKey(adopter));
    }
  };

  /** Pods of all ReplicaSets of the same owner: in the middle of a rollout a node that has an old and a new pod is the crowded one. */
  const relatedTo = (replicaSet: ReplicaSet, owned: readonly Pod[]): readonly Pod[] => {
    const owner = controllerOf(replicaSet);
    if (!owner) return owned;
    const siblings = Array.from(owners.byIndex("owner", owner.uid), (s) => s.object).filter((o) => o.metadata.uid !== replicaSet.metadata.uid);
    return [...owned, ...siblings.flatMap((o) => Array.from(pods.byIndex("owner", o.metadata.uid!), (s) => s.object))];
  };

  const remove = async (replicaSet: ReplicaSet, victims: readonly Pod[], { writes, announce }: Pass): Promise<void> => {
    await Promise.all(victims.map((pod) => writes.delete(PODS, pod, clock.nowMs())));
    for (const pod of victims) announce({ regarding: replicaSet, type: "Normal", reason: "SuccessfulDelete", message: `Deleted pod: ${pod.metadata.name!}` });
  };

  const create = async (key: string, replicaSet: ReplicaSet, { create: count, stage }: Plan, pass: Pass): Promise<void> => {
    const one = (): Pod => newPod(replicaSet.spec!.template!, { type: kind, object: replicaSet }, clock.nowMs(), IDS);
    const made = [...Array.from({ length: count }, one), ...Array.from({ length: stage?.count ?? 0 }, () => startingAt(one(), stage!.atMs))];
    await createPods(key, replicaSet, made, failures, pass);
  };

  return {
    name,
    writer: "controller",
    *watch(queue) {
      yield owners.subscribe(({ stored, previous }) => {
        // Its own status writes come back as events and ask for nothing.
        if (!previous || specChanged(previous.object, stored.object) || annotationChanged(previous.object, stored.object, STAGED_REPLICAS)) queue.add(objectKey(stored.object));
      });
      yield pods.subscribe((event) => podChanged(queue, event));
      for (const { object } of owners.list()) queue.add(objectKey(object));
    },

    async sync(key, pass) {
      const object = owners.get(...splitKey(key))?.object;
      const replicaSet = object && asReplicaSet(object);
      if (!object || !replicaSet?.spec) {
        failures.delete(key);
        return;
      }
      const claimed = claim(replicaSet, selectorOf(replicaSet.spec.selector), candidatesOf(pods, replicaSet, replicaSet.spec.selector));
      const owned = await applyClaim(pass.writes, PODS, kind, replicaSet, claimed);
      const plan = reconcile(replicaSet, owned, clock.nowMs(), failures.get(key), () => relatedTo(replicaSet, owned));
      let failure: unknown;
      try {
        if (plan.remove.length > 0) await remove(replicaSet, plan.remove, pass);
        if ((plan.create > 0 || plan.stage) && takesNewObjects(cache, replicaSet.metadata.namespace!)) await create(key, replicaSet, plan, pass);
      } catch (error) {
        failure = error;
      }
      // After creating or deleting, the pods' own events bring the next pass, whose counts are true.
      const acted = failure === undefined && plan.create + (plan.stage?.count ?? 0) + plan.remove.length > 0;
      const status = statusOf((failure === undefined ? plan : reconcile(replicaSet, owned, clock.nowMs(), describeError(failure))).status);
      if (!acted && !sameJson(status, replicaSet.status)) await pass.writes.update(kind, object, (current) => ({ ...current, status }));
      if (failure !== undefined) throw failure;
      if (plan.againMs !== undefined) pass.again(plan.againMs);
    },
  };
};
