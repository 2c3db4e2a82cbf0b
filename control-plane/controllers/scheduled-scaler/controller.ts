// Gives workloads the size, and their HorizontalPodAutoscaler the bounds, that their ScheduledScaler has for this time. It alone writes a ScheduledScaler's status.
import { HORIZONTAL_POD_AUTOSCALERS, PODS, REPLICA_SETS, SCHEDULED_SCALERS, STATEFUL_SETS } from "../../../base/kube/resources.ts";
import type { KubeObject } from "../../../base/kube/resources.ts";
import { STAGE_AHEAD, STAGED_REPLICAS, stagedReplicasOf, stagedReplicasText, startAtMs, withStagedReplicas, type StagedReplicas } from "../../../base/kube/staging.ts";
import type { HorizontalPodAutoscaler, Pod, ScheduledScaler, StatefulSet } from "../../../base/kube/types.gen.ts";
import { countNotStaged, notStagedText, TELL_AHEAD_MS } from "../not-staged.ts";
import { annotationChanged, controllerOf, objectKey, sameJson, specChanged, splitKey, withSpec } from "../objects.ts";
import type { Controller, ControllerContext, Pass } from "../reconcile-loop.ts";
import { SCALABLE } from "../scalable.ts";
import type { Scalable } from "../scalable.ts";
import { reconcile } from "./reconcile.ts";
import type { Bounds } from "./reconcile.ts";

/** A StatefulSet's pods come one after another, unless it says otherwise: only the next one can be made ahead. */
const stageable = (target: Scalable, more: number): number =>
  (target.kind === STATEFUL_SETS.kind && (target as StatefulSet).spec?.podManagementPolicy !== "Parallel" ? Math.min(1, more) : more);
const boundsOf = ({ spec }: HorizontalPodAutoscaler): Bounds => ({ min: spec.minReplicas ?? 1, max: spec.maxReplicas });
/** The timer runs on the monotonic clock; the wall clock may step. */
const LONGEST_SLEEP_MS = 60_000;

export const scheduledScalerController = ({ cache, clock, metrics }: ControllerContext): Controller => {
  const scalers = cache.resource(SCHEDULED_SCALERS);
  const autoscalers = cache.resource(HORIZONTAL_POD_AUTOSCALERS);
  /** Key of a scaler -> the instant whose staging was looked at last. */
  const told = new Map<string, number>();

  const podsAhead = (target: KubeObject, atMs: number): readonly Pod[] => {
    const owners = [target.metadata.uid!, ...Array.from(cache.resource(REPLICA_SETS).byIndex("owner", target.metadata.uid!), (s) => s.object.metadata.uid!)];
    return owners.flatMap((uid) => Array.from(cache.resource(PODS).byIndex("owner", uid), (s) => s.object)).filter((pod) => startAtMs(pod) === atMs);
  };

  /** The one that scales the target; of several, which upstream calls a mistake, the first by name. */
  const autoscalerOf = (namespace: string, kind: string | undefined, name: string): HorizontalPodAutoscaler | undefined =>
    Array.from(autoscalers.list(namespace), (s) => s.object).filter(({ spec: { scaleTargetRef: ref } }) => ref.kind === kind && ref.name === name).sort((a, b) => (a.metadata.name! < b.metadata.name! ? -1 : 1))[0];

  const setBounds = async (autoscaler: HorizontalPodAutoscaler, choose: (before: Bounds) => Bounds, { writes }: Pass): Promise<void> => void (await writes.update(HORIZONTAL_POD_AUTOSCALERS, autoscaler, (current) => {
    const { min, max } = choose(boundsOf(current));
    return sameJson({ min, max }, boundsOf(current)) ? undefined : withSpec(current, { ...current.spec, minReplicas: min, maxReplicas: max });
  }));

  const tell = (key: string, scaler: ScheduledScaler, target: Scalable, { more, atMs }: StagedReplicas, { again, announce }: Pass): void => {
    const leftMs = atMs - clock.nowMs() - TELL_AHEAD_MS;
    if (leftMs > 0) {
      again(leftMs);
      return;
    }
    if (told.get(key) === atMs) return;
    told.set(key, atMs);
    const message = notStagedText(podsAhead(target, atMs), stageable(target, more), atMs);
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
      yield autoscalers.subscribe(({ type, stored: { object } }) => {
        // What an entry's bounds may have waited for.
        if (type === "deleted") return;
        for (const { object: scaler } of scalers.list(object.metadata.namespace ?? "")) {
          const ref = scaler.spec?.scaleTargetRef;
          if (ref?.kind === object.spec.scaleTargetRef.kind && ref.name === object.spec.scaleTargetRef.name) queue.add(objectKey(scaler));
        }
      });
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
      // What it staged for a target that is its own no longer. A ReplicaSet has it from its Deployment, which takes it back.
      for (const type of SCALABLE) {
        const stale = Array.from(cache.resource(type).list(namespace), (s) => s.object)
          .filter((o) => stagedReplicasOf(o)?.by === name && !controllerOf(o) && !(scaler && type.kind === kind && o.metadata.name === targetName));
        await Promise.all(stale.map((o) => writes.update(type, o, (current) => withStagedReplicas(current, undefined))));
      }
      if (!scaler) told.delete(key);
      if (!scaler?.spec || scaler.metadata.deletionTimestamp !== undefined) return;
      const type = SCALABLE.find((t) => t.kind === kind);
      const target = type && cache.resource(type).get(namespace, targetName)?.object;
      const autoscaler = autoscalerOf(namespace, kind, targetName);
      const plan = reconcile(scaler, target && { size: target.spec?.replicas ?? 1, bounds: autoscaler && boundsOf(autoscaler) }, clock.nowMs());
      if (plan.againMs !== undefined) again(Math.min(plan.againMs, LONGEST_SLEEP_MS));
      const { replicas, bounds } = plan;
      // The size comes between: bounds that allow the old one and the new, then the size, then what holds. The autoscaler must neither undo it nor come first.
      if (bounds && autoscaler) await setBounds(autoscaler, ({ min, max }) => ({ min: Math.min(min, bounds.min), max: Math.max(max, bounds.max) }), pass);
      if (type && target) {
        const before = stagedReplicasOf(target);
        if (plan.staged && before?.by === name) tell(key, scaler, target, before, pass);
        // One write: the staged pods become replicas at the instant at which the size does. Another scaler's are not ours to touch.
        const stagedText = before && before.by !== name ? target.metadata.annotations?.[STAGED_REPLICAS]
          : plan.staged && stagedReplicasText(plan.staged);
        // Before the status: who dies in between makes the same change again.
        if (replicas !== undefined || stagedText !== target.metadata.annotations?.[STAGED_REPLICAS]) await writes.update(type, target, (current) => {
          const staged = withStagedReplicas(current, stagedText);
          if (replicas === undefined || current.spec?.replicas === replicas) return staged === current ? undefined : staged;
          return withSpec(staged, { ...current.spec, replicas });
        });
      }
      if (bounds && autoscaler) await setBounds(autoscaler, () => bounds, pass);
      for (const said of plan.say) announce({ regarding: scaler, ...said });
      if (!sameJson(plan.status, scaler.status ?? {})) await writes.update(SCHEDULED_SCALERS, scaler, (current) => ({ ...current, status: plan.status }));
    },
  };
};
