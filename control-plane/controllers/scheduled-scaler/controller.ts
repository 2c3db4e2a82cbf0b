// Gives workloads the size that their ScheduledScaler has for this time. It alone writes a ScheduledScaler's status.
import { DEPLOYMENTS, PODS, REPLICATION_CONTROLLERS, REPLICA_SETS, SCHEDULED_SCALERS } from "../../../base/kube/resources.ts";
import type { KubeObject } from "../../../base/kube/resources.ts";
import { STAGE_AHEAD, STAGED_REPLICAS, stagedReplicasOf, stagedReplicasText, startAtMs, withStagedReplicas, type StagedReplicas } from "../../../base/kube/staging.ts";
import type { Pod, ScheduledScaler } from "../../../base/kube/types.gen.ts";
import { countNotStaged, notStagedText, TELL_AHEAD_MS } from "../not-staged.ts";
import { annotationChanged, objectKey, sameJson, specChanged, splitKey, withSpec } from "../objects.ts";
import type { Controller, ControllerContext, Pass } from "../reconcile-loop.ts";
import { SCALABLE } from "../scalable.ts";
import { reconcile } from "./reconcile.ts";

/** Their pods are all alike and may come in any order; a StatefulSet's come one after another. */
const STAGING: ReadonlySet<string> = new Set([DEPLOYMENTS, REPLICA_SETS, REPLICATION_CONTROLLERS].map((t) => t.kind));
/** The timer runs on the monotonic clock; the wall clock may step. */
const LONGEST_SLEEP_MS = 60_000;

export const scheduledScalerController = ({ cache, clock, metrics }: ControllerContext): Controller => {
  const scalers = cache.resource(SCHEDULED_SCALERS);
  /** Key of a scaler -> the instant whose staging was looked at last. */
  const told = new Map<string, number>();

  const podsAhead = (target: KubeObject, atMs: number): readonly Pod[] => {
    const owners = [target.metadata.uid!, ...Array.from(cache.resource(REPLICA_SETS).byIndex("owner", target.metadata.uid!), (s) => s.object.metadata.uid!)];
    return owners.flatMap((uid) => Array.from(cache.resource(PODS).byIndex("owner", uid), (s) => s.object)).filter((pod) => startAtMs(pod) === atMs);
  };

  const tell = (key: string, scaler: ScheduledScaler, target: KubeObject, { more, atMs }: StagedReplicas, { again, announce }: Pass): void => {
    const leftMs = atMs - clock.nowMs() - TELL_AHEAD_MS;
    if (leftMs > 0) {
      again(leftMs);
      return;
    }
    if (told.get(key) === atMs) return;
    told.set(key, atMs);
    const message = notStagedText(podsAhead(target, atMs), more, atMs);
    if (message === undefined) return;
    announce({ regarding: scaler, type: "Warning", reason: "NotStaged", message });
    countNotStaged(metrics);
  };

  return {
    name: "scheduled-scaler",
    writer: "controller",
    *watch(queue) {
      yield scalers.subscribe(({ stored, previous }) => {
        if (!previous || specChanged(previous.object, stored.object) || annotationChanged(previous.object, stored.object, STAGE_AHEAD)) queue.add(objectKey(stored.object));
      });
      for (const type of SCALABLE) {
        yield cache.resource(type).subscribe(({ type: what, stored: { object }, previous }) => {
          // Whether it is there; and its size, beyond which pods are staged.
          if (what === "modified" && object.spec?.replicas === previous?.object.spec?.replicas) return;
          for (const { object: scaler } of scalers.list(object.metadata.namespace ?? "")) {
            const ref = scaler.spec?.scaleTargetRef;
            if (ref?.kind === type.kind && ref.name === object.metadata.name) queue.add(objectKey(scaler));
          }
        });
      }
      for (const { object } of scalers.list()) queue.add(objectKey(object));
      // What a scaler staged that was deleted while nobody led.
      for (const type of SCALABLE) {
        for (const { object } of cache.resource(type).list()) {
          const staged = stagedReplicasOf(object);
          if (staged) queue.add(`${object.metadata.namespace!}/${staged.by}`);
        }
      }
    },

    async sync(key, pass) {
      const { writes, again, announce } = pass;
      const [namespace, name] = splitKey(key);
      const scaler = scalers.get(namespace, name)?.object;
      const { kind, name: targetName = "" } = scaler?.spec?.scaleTargetRef ?? {};
      // What it staged for a target that is its own no longer.
      for (const type of SCALABLE) {
        const stale = Array.from(cache.resource(type).list(namespace), (s) => s.object)
          .filter((o) => stagedReplicasOf(o)?.by === name && !(scaler && type.kind === kind && o.metadata.name === targetName));
        await Promise.all(stale.map((o) => writes.update(type, o, (current) => withStagedReplicas(current, undefined))));
      }
      if (!scaler) told.delete(key);
      if (!scaler?.spec || scaler.metadata.deletionTimestamp !== undefined) return;
      const type = SCALABLE.find((t) => t.kind === kind);
      const target = type && cache.resource(type).get(namespace, targetName)?.object;
      const plan = reconcile(scaler, target && (target.spec?.replicas ?? 1), clock.nowMs());
      if (plan.againMs !== undefined) again(Math.min(plan.againMs, LONGEST_SLEEP_MS));
      const { replicas } = plan;
      if (type && target) {
        const before = stagedReplicasOf(target);
        if (plan.staged && before?.by === name) tell(key, scaler, target, before, pass);
        // One write: the staged pods become replicas at the instant at which the size does. Another scaler's are not ours to touch.
        const stagedText = before && before.by !== name ? target.metadata.annotations?.[STAGED_REPLICAS]
          : plan.staged && STAGING.has(type.kind) ? stagedReplicasText(plan.staged) : undefined;
        // Before the status: who dies in between makes the same change again.
        if (replicas !== undefined || stagedText !== target.metadata.annotations?.[STAGED_REPLICAS]) await writes.update(type, target, (current) => {
          const staged = withStagedReplicas(current, stagedText);
          if (replicas === undefined || current.spec?.replicas === replicas) return staged === current ? undefined : staged;
          return withSpec(staged, { ...current.spec, replicas });
        });
      }
      for (const said of plan.say) announce({ regarding: scaler, ...said });
      if (!sameJson(plan.status, scaler.status ?? {})) await writes.update(SCHEDULED_SCALERS, scaler, (current) => ({ ...current, status: plan.status }));
    },
  };
};
