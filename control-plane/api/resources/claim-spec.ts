// Rules that volumes, claims and the templates of generic ephemeral volumes share, and how their access modes are shown.
import type { FieldCause } from "../../../base/errors.ts";
import type { PersistentVolumeClaimSpec } from "../../../base/kube/types.gen.ts";
import { forbidden, invalid, notSupported, oneOf, required } from "./faults.ts";
import { validateLabelSelector } from "./metadata.ts";
import { isDnsSubdomain } from "./names.ts";
import { validateAmounts } from "./quantities.ts";

const ACCESS_MODES = ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"];
export const VOLUME_MODES = ["Filesystem"];
const SHORT_MODES: Readonly<Record<string, string>> = { ReadWriteOnce: "RWO", ReadOnlyMany: "ROX", ReadWriteMany: "RWX", ReadWriteOncePod: "RWOP" };

/** As kubectl shows them: RWO,ROX. */
export const shortModes = (modes: readonly string[] | undefined): string => ACCESS_MODES.filter((m) => modes?.includes(m)).map((m) => SHORT_MODES[m]!).join(",");

export const validateModes = (path: string, modes: readonly string[] | undefined): FieldCause[] => [
  ...(modes?.length ? [] : [required(path, "at least 1 access mode is required")]),
  ...(modes ?? []).filter((m) => !ACCESS_MODES.includes(m)).map((m) => notSupported(path, m, ACCESS_MODES)),
  ...(modes && modes.length > 1 && modes.includes("ReadWriteOncePod") ? [forbidden(path, "may not use ReadWriteOncePod with other access modes")] : []),
];

/** Of claims, and of the templates of generic ephemeral volumes. */
export const validateClaimSpec = (path: string, spec: PersistentVolumeClaimSpec): FieldCause[] => {
  const storage = spec.resources?.requests?.["storage"];
  return [
    ...validateModes(`${path}.accessModes`, spec.accessModes),
    ...(storage === undefined ? [required(`${path}.resources[storage]`)] : []),
    ...validateAmounts(`${path}.resources.requests`, spec.resources?.requests),
    ...(storage !== undefined && /^[-+]?[0.]+([a-zA-Z]*)$/.test(storage) ? [invalid(`${path}.resources[storage]`, storage, "must be greater than zero")] : []),
    ...validateLabelSelector(`${path}.selector`, spec.selector),
    ...(spec.storageClassName ? isDnsSubdomain(spec.storageClassName).map((m) => invalid(`${path}.storageClassName`, spec.storageClassName, m)) : []),
    ...oneOf(`${path}.volumeMode`, spec.volumeMode, VOLUME_MODES),
    ...((["dataSource", "dataSourceRef"] as const).filter((f) => spec[f]).map((f) => forbidden(`${path}.${f}`, "snapshots and clones are not supported by Gantry yet"))),
  ];
};
