// ReplicationController: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/replication-controller-v1/
import { REPLICATION_CONTROLLERS } from "../../../base/kube/resources.ts";
import type { ReplicationController, ReplicationControllerSpec } from "../../../base/kube/types.gen.ts";
import { ageColumn, column, containerColumns, nameColumn, selectorColumn } from "./columns.ts";
import type { ResourceDefinition } from "./definition.ts";
import { required } from "./faults.ts";
import { change, fill, without } from "./fill.ts";
import { validateMetadata } from "./metadata.ts";
import { podTemplateDefaults } from "./pod-defaults.ts";
import { validateReplicated } from "./workload.ts";

const EMPTY: Readonly<Record<string, string>> = {};
const isEmpty = (labels: Readonly<Record<string, string>> = EMPTY): boolean => Object.keys(labels).length === 0;

/** Upstream's: the template's labels are the selector's, and the object's own, unless it has some. */
const defaults = (rc: ReplicationController): ReplicationController => {
  if (!rc.spec) return rc;
  const labels = rc.spec.template?.metadata?.labels;
  const selected: ReplicationControllerSpec = isEmpty(rc.spec.selector) && labels ? { ...rc.spec, selector: labels } : rc.spec;
  const spec = change(fill(selected, { replicas: 1 }), "template", podTemplateDefaults);
  const metadata = isEmpty(rc.metadata.labels) && labels && !isEmpty(labels) ? { ...rc.metadata, labels } : rc.metadata;
  return spec === rc.spec && metadata === rc.metadata ? rc : { ...rc, metadata, spec };
};

export const REPLICATION_CONTROLLER: ResourceDefinition<ReplicationController> = {
  type: REPLICATION_CONTROLLERS,
  singular: "replicationcontroller",
  shortNames: ["rc"],
  categories: ["all"],
  schema: "core/v1.ReplicationController",
  defaults,
  validate: (rc, previous) => [
    ...validateMetadata(REPLICATION_CONTROLLERS, rc, previous),
    ...(rc.spec ? validateReplicated("replicationcontroller", { ...rc.spec, selector: rc.spec.selector && { matchLabels: rc.spec.selector } }) : [required("spec")]),
  ],
  strategy: { prepareForCreate: (rc) => without(rc, "status") },
  columns: [
    nameColumn(),
    column("Desired", "integer", "Replicas is the number of desired replicas.", (rc) => rc.spec?.replicas ?? 0),
    column("Current", "integer", "Replicas is the most recently observed number of replicas.", (rc) => rc.status?.replicas ?? 0),
    column("Ready", "integer", "The number of ready replicas for this replication controller.", (rc) => rc.status?.readyReplicas ?? 0),
    ageColumn(),
    ...containerColumns<ReplicationController>((rc) => rc.spec?.template?.spec?.containers ?? []),
    selectorColumn((rc) => rc.spec?.selector && { matchLabels: rc.spec.selector }),
  ],
  fieldSelectors: { "status.replicas": (rc) => String(rc.status?.replicas ?? 0) },
  subresources: { status: true, scale: { specReplicas: ".spec.replicas", statusReplicas: ".status.replicas", selector: ".spec.selector" } },
};
