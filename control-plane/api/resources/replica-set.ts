// ReplicaSet: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/replica-set-v1/
import { REPLICA_SETS } from "../../../base/kube/resources.ts";
import type { ReplicaSet } from "../../../base/kube/types.gen.ts";
import { ageColumn, column, containerColumns, nameColumn, selectorColumn } from "./columns.ts";
import type { ResourceDefinition } from "./definition.ts";
import { required } from "./faults.ts";
import { change, fill, without } from "./fill.ts";
import { immutable, validateMetadata } from "./metadata.ts";
import { podTemplateDefaults } from "./pod-defaults.ts";
import { validateReplicated } from "./workload.ts";

export const REPLICA_SET: ResourceDefinition<ReplicaSet> = {
  type: REPLICA_SETS,
  singular: "replicaset",
  shortNames: ["rs"],
  categories: ["all"],
  schema: "apps/v1.ReplicaSet",
  defaults: (rs) => change(rs, "spec", (spec) => change(fill(spec, { replicas: 1 }), "template", podTemplateDefaults)),
  validate: (rs, previous) => [
    ...validateMetadata(REPLICA_SETS, rs, previous),
    ...(rs.spec ? validateReplicated("replicaset", rs.spec) : [required("spec")]),
    ...(previous ? immutable([["spec.selector", rs.spec?.selector, previous.spec?.selector]]) : []),
  ],
  strategy: { prepareForCreate: (rs) => without(rs, "status") },
  columns: [
    nameColumn(),
    column("Desired", "integer", "Replicas is the number of desired pods.", (rs) => rs.spec?.replicas ?? 0),
    column("Current", "integer", "Replicas is the most recently observed number of non-terminating pods.", (rs) => rs.status?.replicas ?? 0),
    column("Ready", "integer", "The number of non-terminating pods targeted by this ReplicaSet with a Ready Condition.", (rs) => rs.status?.readyReplicas ?? 0),
    ageColumn(),
    ...containerColumns<ReplicaSet>((rs) => rs.spec?.template?.spec?.containers ?? []),
    selectorColumn((rs) => rs.spec?.selector),
  ],
  fieldSelectors: { "status.replicas": (rs) => String(rs.status?.replicas ?? 0) },
  subresources: { status: true, scale: { specReplicas: ".spec.replicas", statusReplicas: ".status.replicas", selector: ".spec.selector" } },
};
