// PriorityClass: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/priority-class-v1/ (scheduling.k8s.io)
import { HIGHEST_USER_PRIORITY, SYSTEM_PREFIX, SYSTEM_PRIORITIES } from "../../../base/kube/priority.ts";
import { PRIORITY_CLASSES } from "../../../base/kube/resources.ts";
import type { PriorityClass } from "../../../base/kube/types.gen.ts";
import { ageColumn, column, nameColumn } from "./columns.ts";
import type { ResourceDefinition } from "./definition.ts";
import { forbidden, oneOf } from "./faults.ts";
import { fill } from "./fill.ts";
import { immutable, validateMetadata } from "./metadata.ts";

const PREEMPTION_POLICIES = ["PreemptLowerPriority", "Never"];

export const PRIORITY_CLASS: ResourceDefinition<PriorityClass> = {
  type: PRIORITY_CLASSES,
  singular: "priorityclass",
  shortNames: ["pc"],
  categories: [],
  schema: "scheduling/v1.PriorityClass",
  defaults: (c) => fill(c, { preemptionPolicy: "PreemptLowerPriority", value: 0 }),
  validate: (c, previous) => [
    ...validateMetadata(PRIORITY_CLASSES, c, previous),
    ...(c.metadata.name?.startsWith(SYSTEM_PREFIX) && SYSTEM_PRIORITIES.get(c.metadata.name) !== c.value
      ? [forbidden("metadata.name", "priority class names with 'system-' prefix are reserved for system use only")] : []),
    ...((c.value ?? 0) > HIGHEST_USER_PRIORITY && !c.metadata.name?.startsWith(SYSTEM_PREFIX)
      ? [forbidden("value", `maximum allowed value of a user defined priority is ${HIGHEST_USER_PRIORITY}`)] : []),
    ...oneOf("preemptionPolicy", c.preemptionPolicy, PREEMPTION_POLICIES),
    ...(previous ? immutable((["value", "preemptionPolicy"] as const).map((f) => [f, c[f], previous[f]])) : []),
  ],
  strategy: { generationOf: () => undefined },
  columns: [
    nameColumn(), column("Value", "integer", "Priority of pods of the class.", (c) => c.value ?? 0), column("Global-Default", "boolean", "Whether pods without a class are of this one.", (c) => c.globalDefault ?? false),
    ageColumn(), column("PreemptionPolicy", "string", "Whether its pods may take the room of others.", (c) => c.preemptionPolicy ?? "PreemptLowerPriority"),
  ],
  fieldSelectors: {},
  subresources: {},
};
