// Turns Deployments into ReplicaSets. It alone creates, sizes and cleans up a Deployment's ReplicaSets, and writes its status.
import { isCode } from "../../../base/errors.ts";
import { newUid } from "../../../base/ids.ts";
import { DEPLOYMENTS, PODS, REPLICA_SETS } from "../../../base/kube/resources.ts";
import { STAGED_REPLICAS, withStagedReplicas } from "../../../base/kube/staging.ts";
import type { Deployment, ReplicaSet } from "../../../base/kube/types.gen.ts";
import { adoptersOf, applyClaim, candidatesOf, claim, selectorOf, takesNewObjects } from "../claim.ts";
import { controllerOf, isTerminal, objectKey, sameJson, specChanged, splitKey, withSpec } from "../objects.ts";
import type { Controller, ControllerContext, Pass } from "../reconcile-loop.ts";
import { currentOf, reconcile } from "./reconcile.ts";
import type { Plan } from "./reconcile.ts";
import { REVISION, sameTemplate } from "./revisions.ts";
import { sizeOf } from "./sizes.ts";

export const deploymentController = (context: ControllerContext): Controller => {
  const { cache, clock, store } = context;
  const deployments = cache.resource(DEPLOYMENTS);
  const replicaSets = cache.resource(REPLICA_SETS);
  const pods = cache.resource(PODS);

  const ownerKey = (replicaSet: ReplicaSet | undefined): string | undefined => {
    const owner = replicaSet && controllerOf(replicaSet);
    const deployment = owner?.kind === DEPLOYMENTS.kind ? deployments.byUid(owner.uid)?.object : undefined;
    return deployment && objectKey(deployment);
  };

  const podsRun = (sets: readonly ReplicaSet[]): boolean =>
    sets.some((rs) => Array.from(pods.byIndex("owner", rs.metadata.uid!)).some(({ object }) => !isTerminal(object)));

  /** The new ReplicaSet's name was taken. When the bearer is ours and has our template, all is well; else another hash is tried. */
  const collided = async (deployment: Deployment, wanted: ReplicaSet, { writes }: Pass): Promise<void> => {
    const taken = await store.get({ type: REPLICA_SETS, namespace: deployment.metadata.namespace!, name: wanted.metadata.name! });
    if (!taken) return;
    const { object } = taken;
    if (controllerOf(object)?.uid === deployment.metadata.uid && object.spec?.template && sameTemplate(object.spec.template, deployment.spec!.template)) return;
    await writes.update(DEPLOYMENTS, deployment, (current) => ({ ...current, status: { ...current.status, collisionCount: (deployment.status?.collisionCount ?? 0) + 1 } }));
  };

  const apply = async (deployment: Deployment, plan: Plan, pass: Pass): Promise<void> => {
    const { writes, announce } = pass;
    const scaled = (name: string, from: number, to: number): void => announce({
      regarding: deployment, type: "Normal", reason: "ScalingReplicaSet",
      message: `Scaled ${to > from ? "up" : "down"} replica set ${name} from ${from} to ${to}`,
    });
    await Promise.all(plan.update.map(({ before, after }) => writes.update(REPLICA_SETS, before, (current) => {
      const merged = { ...current, metadata: { ...current.metadata, annotations: { ...current.metadata.annotations, ...after.metadata.annotations } } };
      const annotated = withStagedReplicas(merged, after.metadata.annotations?.[STAGED_REPLICAS]);
      return after.spec === before.spec ? annotated : withSpec(annotated, { ...current.spec!, ...pick(after.spec!) });
    })));
    for (const { replicaSet, from, to } of plan.resizes) scaled(replicaSet.metadata.name!, from, to);
    if (plan.create) {
      try {
        await writes.create(REPLICA_SETS, plan.create);
        if (sizeOf(plan.create) > 0) scaled(plan.create.metadata.name!, 0, sizeOf(plan.create));
      } catch (error) {
        if (!isCode(error, "AlreadyExists")) throw error;
        await collided(deployment, plan.create, pass);
        pass.again(0);
        return;
      }
    }
    await Promise.all(plan.remove.map((rs) => writes.delete(REPLICA_SETS, rs, clock.nowMs())));
    const { status, revision } = plan;
    if (revision === undefined && sameJson(status, deployment.status)) return;
    await writes.update(DEPLOYMENTS, deployment, (current) => ({
      ...current, status,
      ...(revision !== undefined && { metadata: { ...current.metadata, annotations: { ...current.metadata.annotations, [REVISION]: revision } } }),
    }));
  };

  return {
    name: "deployment",
    writer: "controller",
    *watch(queue) {
      yield deployments.subscribe(({ stored, previous }) => {
        if (!previous || specChanged(previous.object, stored.object) || !sameJson(previous.object.metadata.annotations, stored.object.metadata.annotations)) queue.add(objectKey(stored.object));
      });
      yield replicaSets.subscribe(({ stored, previous }) => {
        const owners = [ownerKey(stored.object), ownerKey(previous?.object)].filter((key) => key !== undefined);
        for (const key of new Set(owners)) queue.add(key);
        if (owners.length === 0) for (const adopter of adoptersOf(deployments, stored.object)) queue.add(objectKey(adopter));
      });
      // Recreate waits for the last old pod to end; nothing in a ReplicaSet's status tells that.
      yield pods.subscribe(({ type, stored: { object: pod } }) => {
        if (type !== "deleted" && !isTerminal(pod)) return;
        const owner = controllerOf(pod);
        const key = owner?.kind === REPLICA_SETS.kind ? ownerKey(replicaSets.byUid(owner.uid)?.object) : undefined;
        if (key !== undefined && deployments.get(...splitKey(key))?.object.spec?.strategy?.type === "Recreate") queue.add(key);
      });
      for (const { object } of deployments.list()) queue.add(objectKey(object));
    },

    async sync(key, pass) {
      const deployment = deployments.get(...splitKey(key))?.object;
      if (!deployment?.spec) return;
      const claimed = claim(deployment, selectorOf(deployment.spec.selector), candidatesOf(replicaSets, deployment, deployment.spec.selector));
      const owned = await applyClaim(pass.writes, REPLICA_SETS, DEPLOYMENTS, deployment, claimed);
      const current = currentOf(deployment, owned);
      const isRecreate = deployment.spec.strategy?.type === "Recreate";
      const plan = reconcile({
        deployment, replicaSets: owned, nowMs: clock.nowMs(), uid: newUid,
        oldPodsRun: isRecreate && podsRun(owned.filter((rs) => rs !== current)),
      });
      const allowed = takesNewObjects(cache, deployment.metadata.namespace!);
      await apply(deployment, allowed ? plan : { ...plan, create: undefined }, pass);
      if (plan.againMs !== undefined) pass.again(plan.againMs);
    },
  };
};

/** What a Deployment decides about a ReplicaSet's spec; selector and template never change. */
const pick = ({ replicas, minReadySeconds }: NonNullable<ReplicaSet["spec"]>): Partial<NonNullable<ReplicaSet["spec"]>> => ({
  ...(replicas !== undefined && { replicas }), ...(minReadySeconds !== undefined && { minReadySeconds }),
});

