// ControllerRevision: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/controller-revision-v1/
// Written by the StatefulSet and DaemonSet controllers, one for each template they had; read by `kubectl rollout history|undo`.
import { controllerOf } from "../../../base/kube/meta.ts";
import { CONTROLLER_REVISIONS } from "../../../base/kube/resources.ts";
import type { ControllerRevision } from "../../../base/kube/types.gen.ts";
import { ageColumn, column, nameColumn } from "./columns.ts";
import type { ResourceDefinition } from "./definition.ts";
import { nonNegative, required } from "./faults.ts";
import { immutable, validateMetadata } from "./metadata.ts";

const controllerText = (revision: ControllerRevision): string => {
  const owner = controllerOf(revision);
  if (!owner) return "<none>";
  const [group, version] = (owner.apiVersion ?? "").split("/");
  return `${(owner.kind ?? "").toLowerCase()}${version === undefined ? "" : `.${group!}`}/${owner.name ?? ""}`;
};

export const CONTROLLER_REVISION: ResourceDefinition<ControllerRevision> = {
  type: CONTROLLER_REVISIONS,
  singular: "controllerrevision",
  shortNames: [],
  categories: [],
  schema: "apps/v1.ControllerRevision",
  defaults: (r) => r,
  validate: (r, previous) => [
    ...validateMetadata(CONTROLLER_REVISIONS, r, previous),
    ...nonNegative("revision", r.revision),
    ...(r.data === undefined || r.data === null ? [required("data")] : []),
    ...(previous ? immutable([["data", r.data, previous.data]]) : []),
  ],
  strategy: {},
  columns: [
    nameColumn(),
    column("Controller", "string", "Controller of the object", controllerText),
    column("Revision", "string", "Revision indicates the revision of the state represented by Data.", (r) => String(r.revision ?? 0)),
    ageColumn(),
  ],
  fieldSelectors: {},
  subresources: {},
};
