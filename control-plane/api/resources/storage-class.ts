// StorageClass: https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/storage-class-v1/
import { DEFAULT_CLASS_ANNOTATION, LOCAL_PROVISIONER, isDelayed } from "../../../base/kube/claims.ts";
import { STORAGE_CLASSES } from "../../../base/kube/resources.ts";
import type { StorageClass } from "../../../base/kube/types.gen.ts";
import { ageColumn, column } from "./columns.ts";
import type { ResourceDefinition } from "./definition.ts";
import { oneOf, required } from "./faults.ts";
import { fill } from "./fill.ts";
import { immutable, validateMetadata } from "./metadata.ts";

export const RECLAIM_POLICIES = ["Delete", "Retain"];
const BINDING_MODES = ["Immediate", "WaitForFirstConsumer"];

export const STORAGE_CLASS: ResourceDefinition<StorageClass> = {
  type: STORAGE_CLASSES,
  singular: "storageclass",
  shortNames: ["sc"],
  categories: [],
  schema: "storage/v1.StorageClass",
  defaults: (storage) => fill(storage, { reclaimPolicy: "Delete", volumeBindingMode: "Immediate" }),
  validate: (storage, previous) => [
    ...validateMetadata(STORAGE_CLASSES, storage, previous),
    ...(storage.provisioner ? [] : [required("provisioner")]),
    ...oneOf("reclaimPolicy", storage.reclaimPolicy, RECLAIM_POLICIES),
    ...oneOf("volumeBindingMode", storage.volumeBindingMode, BINDING_MODES),
    ...(previous ? immutable((["provisioner", "parameters", "reclaimPolicy", "volumeBindingMode"] as const).map((f) => [f, storage[f], previous[f]])) : []),
  ],
  warnings: (storage) => (storage.provisioner === LOCAL_PROVISIONER && !isDelayed(storage)
    ? [`volumeBindingMode: ${LOCAL_PROVISIONER} makes a volume on the node of the pod that uses it first; claims of this class wait for ever unless it is WaitForFirstConsumer`] : []),
  strategy: { generationOf: () => undefined },
  columns: [
    { name: "Name", type: "string", format: "name", priority: 0, description: "Name of the class.", value: (s) => `${s.metadata.name ?? ""}${s.metadata.annotations?.[DEFAULT_CLASS_ANNOTATION] === "true" ? " (default)" : ""}` },
    column("Provisioner", "string", "Provisioner indicates the type of the provisioner.", (s) => s.provisioner),
    column("ReclaimPolicy", "string", "What becomes of a volume whose claim is deleted.", (s) => s.reclaimPolicy ?? "Delete"),
    column("VolumeBindingMode", "string", "When volumes are bound and provisioned.", (s) => s.volumeBindingMode ?? "Immediate"),
    column("AllowVolumeExpansion", "boolean", "Whether claims may grow.", (s) => s.allowVolumeExpansion ?? false),
    ageColumn(),
  ],
  fieldSelectors: {},
  subresources: {},
};
