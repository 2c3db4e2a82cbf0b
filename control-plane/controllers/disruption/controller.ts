// Keeps the status of PodDisruptionBudgets, which evictions are granted by (api/eviction.ts takes from it by compare-and-put). It and evictions alone write it.
import { isUnder } from "../../../base/kube/disruption.ts";
import { DEPLOYMENTS, POD_DISRUPTION_BUDGETS, PODS, REPLICA_SETS } from "../../../base/kube/resources.ts";
import type { Pod } from "../../../base/kube/types.gen.ts";
import { controllerOf, objectKey, sameJson, specChanged, splitKey } from "../objects.ts";
import type { Controller, ControllerContext } from "../reconcile-loop.ts";
import { SCALABLE, type Scalable } from "../scalable.ts";
import { reconcile } from "./reconcile.ts";

/** Changes of many pods at once are one look. */
const SETTLE_MS = 50;

export const disruptionController = ({ cache, clock }: ControllerContext): Controller => {
  const budgets = cache.resource(POD_DISRUPTION_BUDGETS);
  const pods = cache.resource(PODS);

  /** The sum of what the pods' controllers want, each once; of a ReplicaSet, what its Deployment does. */
  const wantedBy = (own: readonly Pod[]): number | string => {
    const sizes = new Map<string, number>();
    for (const pod of own) {
      const owner = controllerOf(pod);
      if (!owner) return `found no controllers for pod ${JSON.stringify(pod.metadata.name)}`;
      const type = SCALABLE.find((t) => t.kind === owner.kind);
      const object = type && cache.resource(type).byUid(owner.uid)?.object;
      if (!object) return `${owner.kind} ${JSON.stringify(owner.name)} of pod ${JSON.stringify(pod.metadata.name)} does not implement the scale subresource`;
      const above = type.kind === REPLICA_SETS.kind ? controllerOf(object) : undefined;
      const deployment = above?.kind === DEPLOYMENTS.kind ? cache.resource(DEPLOYMENTS).byUid(above.uid)?.object : undefined;
      const whose: Scalable = deployment ?? object;
      sizes.set(whose.metadata.uid!, whose.spec?.replicas ?? 1);
    }
    return [...sizes.values()].reduce((sum, n) => sum + n, 0);
  };

  return {
    name: "disruption",
    writer: "controller",
    *watch(queue) {
      yield budgets.subscribe(({ stored, previous }) => {
        if (!previous || specChanged(previous.object, stored.object) || !sameJson(previous.object.status?.disruptedPods, stored.object.status?.disruptedPods)) queue.add(objectKey(stored.object));
      });
      yield pods.subscribe(({ stored: { object: pod }, previous }) => {
        for (const { object: budget } of budgets.list(pod.metadata.namespace ?? "")) {
          if (isUnder(budget, pod) || (previous && isUnder(budget, previous.object))) queue.addAfter(objectKey(budget), SETTLE_MS);
        }
      });
      for (const type of SCALABLE) {
        yield cache.resource(type).subscribe(({ stored: { object }, previous }) => {
          if (previous?.object.spec?.replicas === object.spec?.replicas) return;
          for (const { object: budget } of budgets.list(object.metadata.namespace ?? "")) queue.addAfter(objectKey(budget), SETTLE_MS);
        });
      }
      for (const { object } of budgets.list()) queue.add(objectKey(object));
    },

    async sync(key, { writes, again }) {
      const budget = budgets.get(...splitKey(key))?.object;
      if (!budget?.spec) return;
      const own = Array.from(pods.list(budget.metadata.namespace), (s) => s.object).filter((pod) => isUnder(budget, pod));
      const plan = reconcile({ budget, pods: own, wanted: wantedBy(own), nowMs: clock.nowMs() });
      // An eviction that was granted meanwhile is not in what was looked at: its write brings the next pass.
      if (!sameJson(plan.status, budget.status ?? {})) {
        await writes.update(POD_DISRUPTION_BUDGETS, budget, (current) => (sameJson(current.status, budget.status) ? { ...current, status: plan.status } : undefined));
      }
      if (plan.againMs !== undefined) again(plan.againMs);
    },
  };
};
