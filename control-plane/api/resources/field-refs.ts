// Which fields the downward API offers: https://kubernetes.io/docs/concepts/workloads/pods/downward-api/
import type { FieldCause } from "../../../base/errors.ts";
import type { ObjectFieldSelector } from "../../../base/kube/types.gen.ts";
import { invalid, notSupported, required } from "./faults.ts";
import { isQualifiedName } from "./names.ts";

const ENV_FIELDS = ["metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"];
const VOLUME_FIELDS = ["metadata.name", "metadata.namespace", "metadata.uid", "metadata.labels", "metadata.annotations"];

export const validateFieldRef = (path: string, ref: ObjectFieldSelector | undefined, where: "env" | "volume"): FieldCause[] => {
  if (!ref) return [];
  if (!ref.fieldPath) return [required(`${path}.fieldPath`)];
  if (ref.apiVersion !== undefined && ref.apiVersion !== "v1") return [invalid(`${path}.apiVersion`, ref.apiVersion, "must be v1")];
  const key = /^metadata\.(?:labels|annotations)\['([^']*)'\]$/.exec(ref.fieldPath)?.[1];
  if (key !== undefined) return isQualifiedName(key.toLowerCase()).map((m) => invalid(path, key, m));
  const fields = where === "env" ? ENV_FIELDS : VOLUME_FIELDS;
  return fields.includes(ref.fieldPath) ? [] : [notSupported(`${path}.fieldPath`, ref.fieldPath, fields)];
};
