// Gives workloads the size that their ScheduledScaler has for this time. It alone writes a ScheduledScaler's status.
import { DEPLOYMENTS, REPLICATION_CONTROLLERS, REPLICA_SETS, SCHEDULED_SCALERS, STATEFUL_SETS } from "../../../base/kube/resources.ts";
import type { KubeObject, ResourceType } from "../../../base/kube/resources.ts";
import { objectKey, sameJson, specChanged, splitKey, withSpec } from "../objects.ts";
import type { Controller, ControllerContext } from "../reconcile-loop.ts";
import { reconcile } from "./reconcile.ts";

interface Sized extends KubeObject {
  spec?: { replicas?: number | undefined } | undefined;
}

const TARGETS = [DEPLOYMENTS, STATEFUL_SETS, REPLICA_SETS, REPLICATION_CONTROLLERS] as readonly ResourceType[] as readonly ResourceType<Sized>[];
/** The timer runs on the monotonic clock; the wall clock may step. */
const LONGEST_SLEEP_MS = 60_000;

export const scheduledScalerController = ({ cache, clock }: ControllerContext): Controller => {
  const scalers = cache.resource(SCHEDULED_SCALERS);
  return {
    name: "scheduled-scaler",
    writer: "controller",
    *watch(queue) {
      yield scalers.subscribe(({ stored, previous }) => {
        if (!previous || specChanged(previous.object, stored.object)) queue.add(objectKey(stored.object));
      });
      for (const type of TARGETS) {
        yield cache.resource(type).subscribe(({ type: what, stored: { object } }) => {
          if (what === "modified") return; // only whether it is there matters here
          for (const { object: scaler } of scalers.list(object.metadata.namespace ?? "")) {
            const ref = scaler.spec?.scaleTargetRef;
            if (ref?.kind === type.kind && ref.name === object.metadata.name) queue.add(objectKey(scaler));
          }
        });
      }
      for (const { object } of scalers.list()) queue.add(objectKey(object));
    },

    async sync(key, { writes, again, announce }) {
      const [namespace, name] = splitKey(key);
      const scaler = scalers.get(namespace, name)?.object;
      if (!scaler?.spec || scaler.metadata.deletionTimestamp !== undefined) return;
      const { kind, name: targetName = "" } = scaler.spec.scaleTargetRef ?? {};
      const type = TARGETS.find((t) => t.kind === kind);
      const target = type && cache.resource(type).get(namespace, targetName)?.object;
      const plan = reconcile(scaler, target && (target.spec?.replicas ?? 1), clock.nowMs());
      if (plan.againMs !== undefined) again(Math.min(plan.againMs, LONGEST_SLEEP_MS));
      const { replicas } = plan;
      // Before the status: who dies in between makes the same change again.
      if (type && target && replicas !== undefined) await writes.update(type, target, (current) => (current.spec?.replicas === replicas ? undefined : withSpec(current, { ...current.spec, replicas })));
      for (const said of plan.say) announce({ regarding: scaler, ...said });
      if (!sameJson(plan.status, scaler.status ?? {})) await writes.update(SCHEDULED_SCALERS, scaler, (current) => ({ ...current, status: plan.status }));
    },
  };
};
