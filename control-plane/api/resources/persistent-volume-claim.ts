// PersistentVolumeClaim: https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/persistent-volume-claim-v1/
import type { FieldCause } from "../../../base/errors.ts";
import { CLAIM_FINALIZER } from "../../../base/kube/claims.ts";
import { PERSISTENT_VOLUME_CLAIMS } from "../../../base/kube/resources.ts";
import type { PersistentVolumeClaim } from "../../../base/kube/types.gen.ts";
import { shortModes, validateClaimSpec } from "./claim-spec.ts";
import { ageColumn, column, nameColumn, wide } from "./columns.ts";
import type { ResourceDefinition } from "./definition.ts";
import { forbidden } from "./faults.ts";
import { change, fill } from "./fill.ts";
import { validateMetadata } from "./metadata.ts";
import { sameJson } from "./same-json.ts";

/** A user may name the class or the volume of a claim that has none; nothing else ever changes. */
const validateUpdate = (next: PersistentVolumeClaim, previous: PersistentVolumeClaim): FieldCause[] => {
  const [spec, old] = [next.spec ?? {}, previous.spec ?? {}];
  const kept = { ...spec, ...(old.volumeName ? {} : { volumeName: old.volumeName }), ...(old.storageClassName === undefined ? { storageClassName: undefined } : {}) };
  return sameJson(kept, old) ? [] : [forbidden("spec", "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims")];
};

const phase = (claim: PersistentVolumeClaim): string => (claim.metadata.deletionTimestamp === undefined ? (claim.status?.phase ?? "") : "Terminating");
const isBound = (claim: PersistentVolumeClaim): boolean => (claim.spec?.volumeName ?? "") !== "";

export const PERSISTENT_VOLUME_CLAIM: ResourceDefinition<PersistentVolumeClaim> = {
  type: PERSISTENT_VOLUME_CLAIMS,
  singular: "persistentvolumeclaim",
  shortNames: ["pvc"],
  categories: [],
  schema: "core/v1.PersistentVolumeClaim",
  defaults: (claim) => change(claim, "spec", (s) => fill(s, { volumeMode: "Filesystem" })),
  validate: (claim, previous) => [
    ...validateMetadata(PERSISTENT_VOLUME_CLAIMS, claim, previous),
    ...(previous ? validateUpdate(claim, previous) : validateClaimSpec("spec", claim.spec ?? {})),
  ],
  strategy: {
    prepareForCreate: (claim) => ({
      ...claim, status: { phase: "Pending" },
      metadata: { ...claim.metadata, finalizers: [...new Set([...(claim.metadata.finalizers ?? []), CLAIM_FINALIZER])] },
    }),
  },
  columns: [
    nameColumn(),
    column("Status", "string", "Pending, Bound, Lost or Terminating.", phase),
    column("Volume", "string", "The volume that the claim is bound to.", (c) => c.spec?.volumeName ?? ""),
    column("Capacity", "string", "Storage of that volume.", (c) => (isBound(c) ? (c.status?.capacity?.["storage"] ?? "") : "")),
    column("Access Modes", "string", "How that volume may be mounted.", (c) => (isBound(c) ? shortModes(c.status?.accessModes) : "")),
    column("StorageClass", "string", "Class of the claim.", (c) => c.spec?.storageClassName ?? ""),
    column("VolumeAttributesClass", "string", "Attributes class of the claim.", (c) => c.spec?.volumeAttributesClassName ?? "<unset>"),
    ageColumn(),
    wide("VolumeMode", "string", "Filesystem or Block.", (c) => c.spec?.volumeMode ?? "<unset>"),
  ],
  fieldSelectors: {},
  subresources: { status: true },
};
