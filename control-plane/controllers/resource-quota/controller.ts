// Writes down how much of each ResourceQuota is used, when something is no longer. What is new was charged before it was made (state/quotas.ts).
import { PENDING_ANNOTATION, countedBy, usageOf, withCount } from "../../../base/kube/quota.ts";
import { ALL_RESOURCES, RESOURCE_QUOTAS } from "../../../base/kube/resources.ts";
import { objectKey, sameJson, splitKey } from "../objects.ts";
import type { Controller, ControllerContext } from "../reconcile-loop.ts";
import { quotasOf } from "../../state/quotas.ts";

/** Timers run on the monotonic clock; the wall clock, by which charges age, may step. */
const LONGEST_SLEEP_MS = 60_000;

export const resourceQuotaController = (context: ControllerContext): Controller => {
  const { cache, options } = context;
  const quotas = cache.resource(RESOURCE_QUOTAS);
  const counter = quotasOf(context);

  return {
    name: "resource-quota",
    writer: "controller",
    *watch(queue) {
      yield quotas.subscribe(({ type, stored: { object: quota }, previous }) => {
        if (type === "deleted") return;
        if (sameJson(quota.spec, previous?.object.spec)) queue.addAfter(objectKey(quota), options.statusDelayMs);
        else queue.add(objectKey(quota));
      });
      for (const type of ALL_RESOURCES.filter((t) => t.namespaced)) {
        yield cache.resource(type).subscribe(({ type: what, stored: { object }, previous }) => {
          for (const { object: quota } of quotas.list(object.metadata.namespace)) {
            const counts = countedBy(quota);
            const [before, after] = [previous?.object, what === "deleted" ? undefined : object];
            if (before && after && counts(type, before) === counts(type, after) && sameJson(usageOf(type, before), usageOf(type, after)) && before.metadata.deletionTimestamp === after.metadata.deletionTimestamp) continue;
            if (counts(type, object) || (before && counts(type, before))) queue.addAfter(objectKey(quota), options.statusDelayMs);
          }
        });
      }
      for (const { object } of quotas.list()) queue.add(objectKey(object));
    },

    async sync(key, { writes, again }) {
      const quota = quotas.get(...splitKey(key))?.object;
      if (!quota) return;
      const count = counter.count(quota);
      if (count.againMs !== undefined) again(Math.min(count.againMs, LONGEST_SLEEP_MS));
      const next = withCount(quota, count);
      if (sameJson(next.status, quota.status) && sameJson(next.metadata.annotations?.[PENDING_ANNOTATION], quota.metadata.annotations?.[PENDING_ANNOTATION])) return;
      // What was charged meanwhile is not in this count: its write brings the next pass.
      await writes.update(RESOURCE_QUOTAS, quota, (current) => (current.metadata.resourceVersion === quota.metadata.resourceVersion ? next : undefined));
    },
  };
};
