// Containers that are over, for `system prune`: pods that ended and that no controller owns. A controller's are its business.
import { parseDurationMs } from "../../base/config.ts";
import { GantryError, isCode } from "../../base/errors.ts";
import { controllerOf } from "../../base/kube/meta.ts";
import { PODS } from "../../base/kube/resources.ts";
import type { Pod } from "../../base/kube/types.gen.ts";
import { matchesLabelFilters } from "../../node-agent/session/label-filters.ts";
import type { ApiClient } from "../api-client.ts";
import { deleteObject } from "../delete.ts";

const endedMs = (pod: Pod): number =>
  Math.max(Date.parse(pod.metadata.creationTimestamp ?? ""), ...(pod.status?.containerStatuses ?? []).map((c) => Date.parse(c.state?.terminated?.finishedAt ?? "")).filter((ms) => !Number.isNaN(ms)));

/** Returns the names, NAMESPACE/NAME. Filters: until=, label=. */
export const deleteFinishedPods = async (client: ApiClient, filters: readonly string[]): Promise<readonly string[]> => {
  const labels: string[] = [];
  let untilMs = Infinity;
  for (const filter of filters) {
    const [, key = "", value = ""] = /^(label!?|until|dangling)=(.+)$/.exec(filter) ?? [];
    if (key === "label") labels.push(value);
    else if (key === "label!") labels.push(`!${value}`);
    else if (key === "until") {
      const durationMs = parseDurationMs(value);
      untilMs = durationMs === undefined ? Date.parse(value) : Date.now() - durationMs;
    } else if (key === "") throw new GantryError("BadRequest", `--filter ${JSON.stringify(filter)}: there are until=, label= and label!=`);
  }
  const { items } = await client.list<Pod>(PODS);
  const over = items.filter((pod) => ["Succeeded", "Failed"].includes(pod.status?.phase ?? "") && !controllerOf(pod) && pod.metadata.deletionTimestamp === undefined
    && matchesLabelFilters(pod.metadata.labels ?? {}, labels) && endedMs(pod) <= untilMs);
  const removed: string[] = [];
  for (const pod of over) {
    const { namespace = "", name = "" } = pod.metadata;
    try {
      await deleteObject(client, PODS, namespace, name, { propagationPolicy: "Background", gracePeriodSeconds: 0 });
      removed.push(`${namespace}/${name}`);
    } catch (error) {
      if (!isCode(error, "NotFound")) throw error;
    }
  }
  return removed;
};
