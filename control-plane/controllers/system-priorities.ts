// The priority classes that every cluster has.
import type { Clock } from "../../base/clock.ts";
import { newUid } from "../../base/ids.ts";
import { SYSTEM_PRIORITIES } from "../../base/kube/priority.ts";
import { PRIORITY_CLASSES } from "../../base/kube/resources.ts";
import type { PriorityClass } from "../../base/kube/types.gen.ts";
import type { Store } from "../state/store.ts";
import { timestamp } from "./objects.ts";
import { createIfMissing } from "./writes.ts";

/** Makes those that are missing. Any control plane may call it, leader or not. */
export const ensureSystemPriorities = async (store: Store, clock: Pick<Clock, "nowMs">): Promise<void> => {
  await Promise.all([...SYSTEM_PRIORITIES].map(async ([name, value]) => {
    const made: PriorityClass = {
      apiVersion: PRIORITY_CLASSES.apiVersion, kind: PRIORITY_CLASSES.kind, metadata: { name, uid: newUid(), creationTimestamp: timestamp(clock.nowMs()) }, value, preemptionPolicy: "PreemptLowerPriority",
      description: `Used for system critical pods that must not be moved from their current ${name.includes("node") ? "node" : "cluster"}.`,
    };
    await createIfMissing(store, PRIORITY_CLASSES, made);
  }));
};
