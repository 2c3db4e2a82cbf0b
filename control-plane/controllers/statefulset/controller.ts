// Keeps a StatefulSet's pods, each with its ordinal, its name and its claims. It alone creates and marks them, creates their claims, and
// writes the set's status and its revisions.
import { describeError, isCode } from "../../../base/errors.ts";
import { nameSuffix, newUid } from "../../../base/ids.ts";
import { CONTROLLER_REVISIONS, PERSISTENT_VOLUME_CLAIMS, PODS, STATEFUL_SETS } from "../../../base/kube/resources.ts";
import { STAGED_REPLICAS, startingAt } from "../../../base/kube/staging.ts";
import type { PersistentVolumeClaim, Pod, StatefulSet } from "../../../base/kube/types.gen.ts";
import { inBatches } from "../batch.ts";
import { adoptersOf, applyClaim, candidatesOf, claim, selectorOf, takesNewObjects } from "../claim.ts";
import { clearHistory, keepHistory } from "../history-writes.ts";
import type { Revisions } from "../history-writes.ts";
import type { PodIds } from "../new-pod.ts";
import { annotationChanged, controllerOf, isActive, objectKey, sameJson, specChanged, splitKey } from "../objects.ts";
import type { Controller, ControllerContext, Pass } from "../reconcile-loop.ts";
import { templateOf } from "../revision-history.ts";
import { claimName, newClaims, newStatefulPod, ordinalOf, revisionOf, withClaimOwners, withIdentity } from "./identity.ts";
import { reconcile } from "./reconcile.ts";
import type { Creation, Plan } from "./reconcile.ts";

const IDS: PodIds = { uid: newUid, suffix: nameSuffix };

export const statefulSetController = (context: ControllerContext): Controller => {
  const { cache, clock } = context;
  const sets = cache.resource(STATEFUL_SETS);
  const pods = cache.resource(PODS);
  const claims = cache.resource(PERSISTENT_VOLUME_CLAIMS);
  /** Keys whose last creates failed. Only a hint to go slowly: losing it costs a burst of failing writes. */
  const failing = new Set<string>();

  const ownerKey = (pod: Pod): string | undefined => {
    const owner = controllerOf(pod);
    const found = owner?.kind === STATEFUL_SETS.kind ? sets.byUid(owner.uid)?.object : undefined;
    return found && objectKey(found);
  };

  const claimsOf = (set: StatefulSet, ordinal: number): PersistentVolumeClaim[] =>
    (set.spec?.volumeClaimTemplates ?? []).flatMap((template) => claims.get(set.metadata.namespace!, claimName(template, set, ordinal))?.object ?? []);

  /** False while one of the ordinal's claims is on its way out: the new pod must not start on it. */
  const makeClaims = async (set: StatefulSet, ordinal: number, { writes, announce }: Pass): Promise<boolean> => {
    const found = claimsOf(set, ordinal);
    const going = (c: PersistentVolumeClaim): boolean => c.metadata.deletionTimestamp !== undefined
      || c.metadata.ownerReferences?.some((r) => r.kind === "Pod" && pods.byUid(r.uid) === undefined) === true;
    if (found.some(going)) return false;
    const missing = newClaims(set, ordinal, clock.nowMs(), newUid).filter((c) => !found.some((f) => f.metadata.name === c.metadata.name));
    await Promise.all(missing.map(async (wanted) => {
      try {
        await writes.create(PERSISTENT_VOLUME_CLAIMS, withClaimOwners(set, wanted, undefined));
        announce({ regarding: set, type: "Normal", reason: "SuccessfulCreate", message: `create Claim ${wanted.metadata.name!} Pod ${set.metadata.name!}-${ordinal} in StatefulSet ${set.metadata.name!} success` });
      } catch (error) {
        // An earlier pod's, which the cache doesn't show yet: it is the one that is wanted.
        if (!isCode(error, "AlreadyExists")) throw error;
      }
    }));
    return true;
  };

  const keepClaims = async (set: StatefulSet, owned: readonly Pod[], { condemned }: Plan, { writes }: Pass): Promise<void> => {
    const doomed = new Set(condemned);
    await Promise.all(owned.flatMap((pod) => claimsOf(set, ordinalOf(set, pod)).map(async (found) => {
      const by = doomed.has(pod) ? pod : undefined;
      if (withClaimOwners(set, found, by) !== found) await writes.update(PERSISTENT_VOLUME_CLAIMS, found, (current) => withClaimOwners(set, current, by));
    })));
  };

  const create = async (key: string, set: StatefulSet, wanted: readonly Creation[], { all }: Revisions, pass: Pass): Promise<void> => {
    const { writes, announce } = pass;
    const nowMs = clock.nowMs();
    const templates = new Map(all.map((revision) => [revision.metadata.name!, templateOf(revision)]));
    const make = async ({ ordinal, revision, startAtMs }: Creation): Promise<void> => {
      const plain = newStatefulPod(set, templates.get(revision) ?? set.spec!.template, revision, ordinal, nowMs, IDS);
      const pod = startAtMs === undefined ? plain : startingAt(plain, startAtMs);
      try {
        if (!(await makeClaims(set, ordinal, pass))) return;
        await writes.create(PODS, pod);
      } catch (error) {
        announce({ regarding: set, type: "Warning", reason: "FailedCreate", message: `create Pod ${pod.metadata.name!} in StatefulSet ${set.metadata.name!} failed: ${describeError(error)}` });
        throw error;
      }
      announce({ regarding: set, type: "Normal", reason: "SuccessfulCreate", message: `create Pod ${pod.metadata.name!} in StatefulSet ${set.metadata.name!} successful` });
    };
    const { error, failed } = await inBatches(wanted, failing.has(key), make);
    if (failed === 0) {
      failing.delete(key);
      return;
    }
    failing.add(key);
    throw error;
  };

  return {
    name: "statefulset",
    writer: "controller",
    *watch(queue) {
      yield sets.subscribe(({ stored, previous }) => {
        if (!previous || specChanged(previous.object, stored.object) || annotationChanged(previous.object, stored.object, STAGED_REPLICAS) || previous.object.status?.collisionCount !== stored.object.status?.collisionCount) queue.add(objectKey(stored.object));
      });
      yield pods.subscribe(({ type, stored: { object: pod }, previous }) => {
        const before = previous && ownerKey(previous.object);
        const owner = ownerKey(pod);
        // Ready, gone, ended: what the next step in order waits for.
        const moves = type === "deleted" || (previous !== undefined && (isActive(previous.object) !== isActive(pod) || !sameJson(previous.object.status?.conditions, pod.status?.conditions)));
        if (owner !== undefined) queue.addAfter(owner, moves ? 0 : context.options.statusDelayMs);
        if (before !== undefined && before !== owner) queue.add(before);
        if (type === "deleted") {
          // A pod of somebody else's that stood in the way of an ordinal.
          for (const { object } of sets.list(pod.metadata.namespace)) if (owner === undefined && ordinalOf(object, pod) >= 0) queue.add(objectKey(object));
        } else if (!previous || before !== undefined || previous.object.metadata.labels !== pod.metadata.labels) {
          for (const adopter of adoptersOf(sets, pod)) if (ordinalOf(adopter, pod) >= 0) queue.add(objectKey(adopter));
        }
      });
      yield claims.subscribe(({ type, stored: { object: { metadata } } }) => {
        // What an ordinal that came back may have waited for.
        if (type !== "deleted") return;
        for (const { object } of sets.list(metadata.namespace)) {
          if (object.spec?.volumeClaimTemplates?.some((template) => metadata.name?.startsWith(`${template.metadata.name!}-${object.metadata.name!}-`))) queue.add(objectKey(object));
        }
      });
      yield cache.resource(CONTROLLER_REVISIONS).subscribe(({ type, stored: { object } }) => {
        const owner = controllerOf(object);
        const set = type === "deleted" && owner?.kind === STATEFUL_SETS.kind ? sets.byUid(owner.uid)?.object : undefined;
        if (set) queue.add(objectKey(set));
      });
      for (const { object } of sets.list()) queue.add(objectKey(object));
    },

    async sync(key, pass) {
      const set = sets.get(...splitKey(key))?.object;
      if (!set?.spec) {
        failing.delete(key);
        return;
      }
      const { selector } = set.spec;
      // A pod that has the labels but not the name of one of its ordinals is none of the set's.
      const candidates = [...candidatesOf(pods, set, selector)].filter((pod) => ordinalOf(set, pod) >= 0);
      const owned = await applyClaim(pass.writes, PODS, STATEFUL_SETS, set, claim(set, selectorOf(selector), candidates));
      const revisions = await keepHistory(context, STATEFUL_SETS, set, pass);
      if (!revisions) {
        pass.again(0);
        return;
      }
      const updateRevision = revisions.current.metadata.name!;
      const known = (name: string | undefined): string | undefined => revisions.all.find((r) => r.metadata.name === name)?.metadata.name;
      const currentRevision = known(set.status?.currentRevision) ?? updateRevision;
      const plan = reconcile({ set, pods: owned, currentRevision, updateRevision, nowMs: clock.nowMs() });
      if (!sameJson(plan.status, set.status)) await pass.writes.update(STATEFUL_SETS, set, (current) => ({ ...current, status: plan.status }));
      await Promise.all(owned.filter((pod) => isActive(pod) && withIdentity(set, pod)).map((pod) => pass.writes.update(PODS, pod, (current) => withIdentity(set, current))));
      // Before the pods go: the last owner of a claim that goes with a pod is that pod.
      await keepClaims(set, owned, plan, pass);
      await Promise.all(plan.remove.map((pod) => pass.writes.delete(PODS, pod, clock.nowMs())));
      for (const pod of plan.remove) {
        const [type, reason, message] = plan.ended.includes(pod)
          ? ["Warning", "RecreatingFailedPod", `StatefulSet ${key} is recreating ended Pod ${pod.metadata.name!}`] as const
          : ["Normal", "SuccessfulDelete", `delete Pod ${pod.metadata.name!} in StatefulSet ${set.metadata.name!} successful`] as const;
        pass.announce({ regarding: set, type, reason, message });
      }
      if (plan.create.length > 0 && takesNewObjects(cache, set.metadata.namespace!)) await create(key, set, plan.create, revisions, pass);
      await clearHistory(context, set, revisions, new Set([updateRevision, plan.status.currentRevision!, ...owned.map(revisionOf)]), pass);
      if (plan.againMs !== undefined) pass.again(plan.againMs);
    },
  };
};
