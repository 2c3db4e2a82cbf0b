// Namespace: https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/namespace-v1/
import { NAMESPACES } from "../../../base/kube/resources.ts";
import type { Namespace } from "../../../base/kube/types.gen.ts";
import { ageColumn, column, nameColumn } from "./columns.ts";
import type { ResourceDefinition } from "./definition.ts";
import { validateMetadata } from "./metadata.ts";
import { isDnsLabel } from "./names.ts";

const FINALIZER = "kubernetes";

export const NAMESPACE: ResourceDefinition<Namespace> = {
  type: NAMESPACES,
  singular: "namespace",
  shortNames: ["ns"],
  categories: [],
  schema: "core/v1.Namespace",
  defaults: (ns) => {
    const name = ns.metadata.name;
    if (!name || ns.metadata.labels?.["kubernetes.io/metadata.name"] === name) return ns;
    return { ...ns, metadata: { ...ns.metadata, labels: { ...ns.metadata.labels, "kubernetes.io/metadata.name": name } } };
  },
  validate: (ns, previous) => validateMetadata(NAMESPACES, ns, previous, isDnsLabel),
  strategy: {
    // Without this finalizer a namespace would vanish before its content.
    prepareForCreate: (ns) => ({
      ...ns, status: { phase: "Active" },
      spec: { ...ns.spec, finalizers: [...new Set([...(ns.spec?.finalizers ?? []), FINALIZER])] },
    }),
    // Only namespaces/finalize takes finalizers away.
    prepareForUpdate: (next, current) => ({ ...next, spec: { ...next.spec, ...(current.spec?.finalizers ? { finalizers: current.spec.finalizers } : {}) } }),
    generationOf: () => undefined,
  },
  columns: [
    nameColumn(),
    column("Status", "string", "The status of the namespace", (ns) => ns.status?.phase ?? ""),
    ageColumn(),
  ],
  fieldSelectors: { "status.phase": (ns) => ns.status?.phase ?? "Active", name: (ns) => ns.metadata.name ?? "" },
  subresources: { status: true, custom: [{ name: "finalize", verbs: ["update"], kind: { group: "", version: "v1", kind: "Namespace" } }] },
};
