// Rules for a pod's volumes: pkg/apis/core/validation.ValidateVolumes. Kinds of volume that Gantry can't mount are refused.
import type { FieldCause } from "../../../base/errors.ts";
import { isHugePagesMedium, volumePageBytes } from "../../../base/kube/huge-pages.ts";
import type { DownwardAPIVolumeFile, KeyToPath, PodSpec, Volume, VolumeProjection } from "../../../base/kube/types.gen.ts";
import { validateFieldRef } from "./field-refs.ts";
import { forbidden, invalid, oneOf, required } from "./faults.ts";
import { duplicates } from "./metadata.ts";
import { validateClaimSpec } from "./claim-spec.ts";
import { isConfigMapKey, isDnsLabel } from "./names.ts";

const SUPPORTED = ["emptyDir", "hostPath", "configMap", "secret", "downwardAPI", "projected", "persistentVolumeClaim", "ephemeral"] as const;
const SUPPORTED_PROJECTIONS = ["configMap", "secret", "downwardAPI"] as const;
const HOST_PATH_TYPES = ["", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice"];
const MEDIA = ["", "Memory", "HugePages", "HugePages-<size>"];

export const climbs = (path: string): boolean => path.split("/").includes("..");

/** A path inside a volume. */
export const validateLocalPath = (path: string, value: string | undefined): FieldCause[] => {
  if (!value) return [required(path)];
  if (value.startsWith("/")) return [invalid(path, value, "must be a relative path")];
  return [
    ...(climbs(value) ? [invalid(path, value, "must not contain '..'")] : []),
    ...(value.startsWith("..") && !climbs(value) ? [invalid(path, value, "must not start with '..'")] : []),
  ];
};

const validateMode = (path: string, mode: number | undefined): FieldCause[] =>
  mode !== undefined && (mode < 0 || mode > 0o777) ? [invalid(path, mode, "must be a number between 0 and 0777 (octal), both inclusive")] : [];

const validateItems = (path: string, items: readonly KeyToPath[] | undefined): FieldCause[] =>
  (items ?? []).flatMap((item, i) => [
    ...(item.key ? isConfigMapKey(item.key).map((m) => invalid(`${path}[${i}].key`, item.key, m)) : [required(`${path}[${i}].key`)]),
    ...validateLocalPath(`${path}[${i}].path`, item.path),
    ...validateMode(`${path}[${i}].mode`, item.mode),
  ]);

const validateFiles = (path: string, files: readonly DownwardAPIVolumeFile[] | undefined): FieldCause[] =>
  (files ?? []).flatMap((file, i) => {
    const at = `${path}[${i}]`;
    const sources = [file.fieldRef, file.resourceFieldRef].filter((s) => s !== undefined).length;
    return [
      ...validateLocalPath(`${at}.path`, file.path),
      ...validateMode(`${at}.mode`, file.mode),
      ...(sources === 0 ? [required(at, "one of fieldRef and resourceFieldRef is required")] : sources > 1 ? [invalid(at, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously")] : []),
      ...validateFieldRef(`${at}.fieldRef`, file.fieldRef, "volume"),
    ];
  });

const validateProjection = (path: string, source: VolumeProjection): FieldCause[] => {
  const kinds = Object.keys(source);
  const unsupported = kinds.filter((k) => !SUPPORTED_PROJECTIONS.includes(k as "secret"));
  return [
    ...(kinds.length > 1 ? [forbidden(path, "may not specify more than 1 volume type")] : []),
    ...unsupported.map((k) => forbidden(`${path}.${k}`, `Gantry can't project ${k} yet; supported: ${SUPPORTED_PROJECTIONS.join(", ")}`)),
    ...(source.configMap ? [...(source.configMap.name ? [] : [required(`${path}.configMap.name`)]), ...validateItems(`${path}.configMap.items`, source.configMap.items)] : []),
    ...(source.secret ? [...(source.secret.name ? [] : [required(`${path}.secret.name`)]), ...validateItems(`${path}.secret.items`, source.secret.items)] : []),
    ...validateFiles(`${path}.downwardAPI.items`, source.downwardAPI?.items),
  ];
};

const validateVolume = (path: string, volume: Volume): FieldCause[] => {
  const kinds = Object.keys(volume).filter((k) => k !== "name");
  const { hostPath, emptyDir, configMap, secret, downwardAPI, projected } = volume;
  return [
    ...(volume.name ? isDnsLabel(volume.name).map((m) => invalid(`${path}.name`, volume.name, m)) : [required(`${path}.name`)]),
    ...kinds.slice(1).map((k) => forbidden(`${path}.${k}`, "may not specify more than 1 volume type")),
    ...kinds.filter((k) => !SUPPORTED.includes(k as "secret")).map((k) => forbidden(`${path}.${k}`, `Gantry can't mount volumes of the kind ${k} yet; supported: ${SUPPORTED.join(", ")}`)),
    ...(hostPath ? [
      ...(hostPath.path ? [] : [required(`${path}.hostPath.path`)]),
      ...(hostPath.path && climbs(hostPath.path) ? [invalid(`${path}.hostPath.path`, hostPath.path, "must not contain '..'")] : []),
      ...oneOf(`${path}.hostPath.type`, hostPath.type, HOST_PATH_TYPES),
    ] : []),
    ...(emptyDir ? [
      ...(isHugePagesMedium(emptyDir.medium ?? "") ? [] : oneOf(`${path}.emptyDir.medium`, emptyDir.medium, MEDIA)),
      ...(emptyDir.sizeLimit?.startsWith("-") ? [forbidden(`${path}.emptyDir.sizeLimit`, "SizeLimit field must be a valid resource quantity")] : []),
    ] : []),
    ...(configMap ? [...(configMap.name ? [] : [required(`${path}.configMap.name`)]), ...validateMode(`${path}.configMap.defaultMode`, configMap.defaultMode), ...validateItems(`${path}.configMap.items`, configMap.items)] : []),
    ...(secret ? [...(secret.secretName ? [] : [required(`${path}.secret.secretName`)]), ...validateMode(`${path}.secret.defaultMode`, secret.defaultMode), ...validateItems(`${path}.secret.items`, secret.items)] : []),
    ...(downwardAPI ? [...validateMode(`${path}.downwardAPI.defaultMode`, downwardAPI.defaultMode), ...validateFiles(`${path}.downwardAPI.items`, downwardAPI.items)] : []),
    ...(volume.persistentVolumeClaim && !volume.persistentVolumeClaim.claimName ? [required(`${path}.persistentVolumeClaim.claimName`)] : []),
    ...(volume.ephemeral ? (volume.ephemeral.volumeClaimTemplate?.spec
      ? validateClaimSpec(`${path}.ephemeral.volumeClaimTemplate.spec`, volume.ephemeral.volumeClaimTemplate.spec) : [required(`${path}.ephemeral.volumeClaimTemplate`)]) : []),
    ...(projected ? [...validateMode(`${path}.projected.defaultMode`, projected.defaultMode), ...(projected.sources ?? []).flatMap((s, i) => validateProjection(`${path}.projected.sources[${i}]`, s))] : []),
  ];
};

export const validateVolumes = (path: string, volumes: readonly Volume[]): FieldCause[] => [
  ...volumes.flatMap((v, i) => validateVolume(`${path}[${i}]`, v)),
  ...duplicates(volumes, (v) => v.name, (i) => `${path}[${i}].name`),
];

/** Of which pages a volume is depends on what the containers ask for. Upstream finds that out on the node, when the pod is stuck there. */
export const validateHugePageVolumes = (path: string, spec: PodSpec): FieldCause[] => (spec.volumes ?? []).flatMap(({ emptyDir }, i) => {
  const medium = emptyDir?.medium ?? "";
  const page = isHugePagesMedium(medium) ? volumePageBytes(spec, medium) : 0;
  return typeof page === "number" ? [] : [invalid(`${path}[${i}].emptyDir.medium`, medium, page.fault)];
});
