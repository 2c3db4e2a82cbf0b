// PersistentVolume: https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/persistent-volume-v1/
import type { FieldCause } from "../../../base/errors.ts";
import { LOCAL_PROVISIONER, VOLUME_FINALIZER } from "../../../base/kube/claims.ts";
import { PERSISTENT_VOLUMES } from "../../../base/kube/resources.ts";
import type { PersistentVolume, PersistentVolumeSpec } from "../../../base/kube/types.gen.ts";
import { VOLUME_MODES, shortModes, validateModes } from "./claim-spec.ts";
import { ageColumn, column, nameColumn, wide } from "./columns.ts";
import type { ResourceDefinition } from "./definition.ts";
import { forbidden, invalid, notSupported, oneOf, required } from "./faults.ts";
import { change, fill } from "./fill.ts";
import { validateMetadata } from "./metadata.ts";
import { validateAmounts } from "./quantities.ts";
import { sameJson } from "./same-json.ts";
import { validateNodeTerms } from "./scheduling-validation.ts";
import { RECLAIM_POLICIES } from "./storage-class.ts";
import { climbs } from "./volume-validation.ts";

const SOURCES = ["hostPath", "local", "csi"] as const;
const NO_SOURCES: ReadonlySet<string> = new Set(["capacity", "accessModes", "claimRef", "persistentVolumeReclaimPolicy", "storageClassName", "mountOptions", "volumeMode", "nodeAffinity", "volumeAttributesClassName"]);

const validatePath = (path: string, value: string | undefined, absolute: boolean): FieldCause[] => {
  if (!value) return [required(path)];
  if (climbs(value)) return [invalid(path, value, "must not contain '..'")];
  return absolute && !value.startsWith("/") ? [invalid(path, value, "must be an absolute path")] : [];
};

const validateSource = (spec: PersistentVolumeSpec): FieldCause[] => {
  const given = Object.keys(spec).filter((k) => !NO_SOURCES.has(k) && spec[k as "csi"] !== undefined);
  const terms = spec.nodeAffinity?.required?.nodeSelectorTerms ?? [];
  return [
    ...(given.length === 0 ? [required("spec", "must specify a volume type")] : []),
    ...given.slice(1).map((k) => forbidden(`spec.${k}`, "may not specify more than 1 volume type")),
    ...given.filter((k) => !SOURCES.includes(k as "csi")).map((k) => forbidden(`spec.${k}`, `Gantry can't mount volumes of the kind ${k} yet; supported: ${SOURCES.join(", ")}`)),
    ...(spec.csi && spec.csi.driver !== LOCAL_PROVISIONER ? [notSupported("spec.csi.driver", spec.csi.driver, [LOCAL_PROVISIONER])] : []),
    ...(spec.csi && !/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(spec.csi.volumeHandle) ? [invalid("spec.csi.volumeHandle", spec.csi.volumeHandle, "must be a name of at most 63 lower-case letters, digits and dashes")] : []),
    ...(spec.hostPath ? validatePath("spec.hostPath.path", spec.hostPath.path, false) : []),
    ...(spec.local ? validatePath("spec.local.path", spec.local.path, true) : []),
    // Without it pods would find an empty or another directory on every other node.
    ...((spec.local ?? spec.csi) && terms.length === 0 ? [required("spec.nodeAffinity", "Local volume requires node affinity")] : []),
  ];
};

const validateUpdate = (next: PersistentVolume, previous: PersistentVolume): FieldCause[] =>
  (SOURCES.some((s) => !sameJson(next.spec?.[s], previous.spec?.[s])) ? [forbidden("spec.persistentvolumesource", "spec.persistentvolumesource is immutable after creation")] : []);

export const PERSISTENT_VOLUME: ResourceDefinition<PersistentVolume> = {
  type: PERSISTENT_VOLUMES,
  singular: "persistentvolume",
  shortNames: ["pv"],
  categories: [],
  schema: "core/v1.PersistentVolume",
  defaults: (volume) => change(volume, "spec", (s) => change(fill(s, { persistentVolumeReclaimPolicy: "Retain", volumeMode: "Filesystem" }), "hostPath", (h) => fill(h, { type: "" }))),
  validate: (volume, previous) => {
    const spec = volume.spec ?? {};
    return [
      ...validateMetadata(PERSISTENT_VOLUMES, volume, previous),
      ...validateModes("spec.accessModes", spec.accessModes),
      ...(spec.capacity?.["storage"] ? validateAmounts("spec.capacity", spec.capacity) : [required("spec.capacity", "storage")]),
      ...oneOf("spec.persistentVolumeReclaimPolicy", spec.persistentVolumeReclaimPolicy, RECLAIM_POLICIES),
      ...oneOf("spec.volumeMode", spec.volumeMode, VOLUME_MODES),
      ...validateSource(spec),
      ...validateNodeTerms("spec.nodeAffinity.required", spec.nodeAffinity?.required),
      ...(previous ? validateUpdate(volume, previous) : []),
    ];
  },
  strategy: {
    prepareForCreate: (volume) => ({
      ...volume, status: { phase: "Pending" },
      metadata: { ...volume.metadata, finalizers: [...new Set([...(volume.metadata.finalizers ?? []), VOLUME_FINALIZER])] },
    }),
  },
  columns: [
    nameColumn(),
    column("Capacity", "string", "Storage of the volume.", (v) => v.spec?.capacity?.["storage"] ?? ""),
    column("Access Modes", "string", "How the volume may be mounted.", (v) => shortModes(v.spec?.accessModes)),
    column("Reclaim Policy", "string", "What becomes of the volume when its claim is deleted.", (v) => v.spec?.persistentVolumeReclaimPolicy ?? ""),
    column("Status", "string", "Available, Bound, Released, Failed or Terminating.", (v) => (v.metadata.deletionTimestamp !== undefined ? "Terminating" : (v.status?.phase ?? ""))),
    column("Claim", "string", "The claim that the volume is bound to.", (v) => (v.spec?.claimRef ? `${v.spec.claimRef.namespace ?? ""}/${v.spec.claimRef.name ?? ""}` : "")),
    column("StorageClass", "string", "Class of the volume.", (v) => v.spec?.storageClassName ?? ""),
    column("VolumeAttributesClass", "string", "Attributes class of the volume.", (v) => v.spec?.volumeAttributesClassName ?? "<unset>"),
    column("Reason", "string", "Why the volume failed.", (v) => v.status?.reason ?? ""),
    ageColumn(),
    wide("VolumeMode", "string", "Filesystem or Block.", (v) => v.spec?.volumeMode ?? "<unset>"),
  ],
  fieldSelectors: {},
  subresources: { status: true },
};
