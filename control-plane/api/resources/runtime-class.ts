// RuntimeClass: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/runtime-class-v1/ (node.k8s.io)
import { RUNTIME_CLASSES } from "../../../base/kube/resources.ts";
import type { RuntimeClass } from "../../../base/kube/types.gen.ts";
import { ageColumn, column, nameColumn } from "./columns.ts";
import type { ResourceDefinition } from "./definition.ts";
import { invalid, required } from "./faults.ts";
import { immutable, validateLabels, validateMetadata } from "./metadata.ts";
import { isDnsLabel } from "./names.ts";
import { validateAmounts } from "./quantities.ts";

export const RUNTIME_CLASS: ResourceDefinition<RuntimeClass> = {
  type: RUNTIME_CLASSES,
  singular: "runtimeclass",
  shortNames: [],
  categories: [],
  schema: "node/v1.RuntimeClass",
  defaults: (runtime) => runtime,
  validate: (runtime, previous) => [
    ...validateMetadata(RUNTIME_CLASSES, runtime, previous),
    ...(runtime.handler ? isDnsLabel(runtime.handler).map((m) => invalid("handler", runtime.handler, m)) : [required("handler")]),
    ...validateAmounts("overhead.podFixed", runtime.overhead?.podFixed),
    ...validateLabels("scheduling.nodeSelector", runtime.scheduling?.nodeSelector),
    ...(previous ? immutable([["handler", runtime.handler, previous.handler]]) : []),
  ],
  warnings: (runtime) => (["overhead", "scheduling"] as const).filter((f) => runtime[f] !== undefined).map((f) => `${f}: Gantry does not add this to pods yet; set it in their specs`),
  strategy: { generationOf: () => undefined },
  columns: [nameColumn(), column("Handler", "string", "The OCI runtime as nodes name it.", (r) => r.handler), ageColumn()],
  fieldSelectors: {},
  subresources: {},
};
