// The identity of a StatefulSet's pods: names, labels, host names, and the claims that stay with an ordinal when its pod goes. Pure.
// Upstream: pkg/controller/statefulset/stateful_set_utils.go.
import { STATEFUL_SETS } from "../../../base/kube/resources.ts";
import type { PersistentVolumeClaim, Pod, PodTemplateSpec, StatefulSet, Volume } from "../../../base/kube/types.gen.ts";
import { newPod } from "../new-pod.ts";
import type { PodIds } from "../new-pod.ts";
import { timestamp } from "../objects.ts";
import { REVISION_HASH } from "../revision-history.ts";

const POD_NAME = "statefulset.kubernetes.io/pod-name";
const POD_INDEX = "apps.kubernetes.io/pod-index";

export const podName = (set: StatefulSet, ordinal: number): string => `${set.metadata.name!}-${ordinal}`;

/** -1 for a pod that can't be one of the set's, whatever its labels. */
export const ordinalOf = (set: StatefulSet, pod: Pod): number => {
  const prefix = `${set.metadata.name!}-`;
  const name = pod.metadata.name ?? "";
  const rest = name.slice(prefix.length);
  return name.startsWith(prefix) && /^(0|[1-9]\d{0,8})$/.test(rest) ? Number(rest) : -1;
};

/** First and one past the last. */
export const ordinalsOf = ({ spec }: StatefulSet): readonly [start: number, end: number] => {
  const start = spec?.ordinals?.start ?? 0;
  return [start, start + (spec?.replicas ?? 1)];
};

export const revisionOf = (pod: Pod): string => pod.metadata.labels?.[REVISION_HASH] ?? "";

export const claimName = (template: PersistentVolumeClaim, set: StatefulSet, ordinal: number): string => `${template.metadata.name!}-${podName(set, ordinal)}`;

const claimVolumes = (set: StatefulSet, ordinal: number): Volume[] =>
  (set.spec?.volumeClaimTemplates ?? []).map((template) => ({ name: template.metadata.name!, persistentVolumeClaim: { claimName: claimName(template, set, ordinal) } }));

export const newStatefulPod = (set: StatefulSet, template: PodTemplateSpec, revision: string, ordinal: number, nowMs: number, ids: PodIds): Pod => {
  const name = podName(set, ordinal);
  const volumes = claimVolumes(set, ordinal);
  const claimed = new Set(volumes.map((v) => v.name));
  const pod = newPod(template, { type: STATEFUL_SETS, object: set }, nowMs, ids);
  const own = (pod.spec!.volumes ?? []).filter((v) => !claimed.has(v.name));
  return {
    ...pod,
    metadata: { ...pod.metadata, name, labels: { ...pod.metadata.labels, [POD_NAME]: name, [POD_INDEX]: String(ordinal), [REVISION_HASH]: revision } },
    spec: { ...pod.spec!, hostname: name, ...(set.spec?.serviceName && { subdomain: set.spec.serviceName }), ...(volumes.length + own.length > 0 && { volumes: [...volumes, ...own] }) },
  };
};

/** Labels that tell who it is; undefined when they are as they should be. A pod that was adopted, or that somebody relabelled, may lack them. */
export const withIdentity = (set: StatefulSet, pod: Pod): Pod | undefined => {
  const ordinal = ordinalOf(set, pod);
  const wanted = { [POD_NAME]: podName(set, ordinal), [POD_INDEX]: String(ordinal) };
  const right = Object.entries(wanted).every(([key, value]) => pod.metadata.labels?.[key] === value);
  return right ? undefined : { ...pod, metadata: { ...pod.metadata, labels: { ...pod.metadata.labels, ...wanted } } };
};

export const newClaims = (set: StatefulSet, ordinal: number, nowMs: number, uid: () => string): PersistentVolumeClaim[] =>
  (set.spec?.volumeClaimTemplates ?? []).map((template) => ({
    apiVersion: "v1", kind: "PersistentVolumeClaim",
    metadata: {
      name: claimName(template, set, ordinal), namespace: set.metadata.namespace!, uid: uid(), creationTimestamp: timestamp(nowMs),
      labels: { ...template.metadata.labels, ...set.spec!.selector.matchLabels }, ...(template.metadata.annotations && { annotations: template.metadata.annotations }),
    },
    ...(template.spec && { spec: template.spec }), status: { phase: "Pending" },
  }));

/**
 * Who takes a claim along when it goes: the set, where claims go with it; the pod, where claims go with an ordinal that is scaled away.
 * Other owners are somebody else's. The same reference when nothing changes.
 */
export const withClaimOwners = (set: StatefulSet, claim: PersistentVolumeClaim, condemned: Pod | undefined): PersistentVolumeClaim => {
  const { whenDeleted, whenScaled } = set.spec?.persistentVolumeClaimRetentionPolicy ?? {};
  const before = claim.metadata.ownerReferences ?? [];
  const isOurs = (kind: string, name: string, uid: string): boolean => (kind === "StatefulSet" && uid === set.metadata.uid) || (kind === "Pod" && name.startsWith(`${set.metadata.name!}-`));
  const owners = [
    ...before.filter((r) => !isOurs(r.kind, r.name, r.uid)),
    ...(whenScaled === "Delete" && condemned ? [{ apiVersion: "v1", kind: "Pod", name: condemned.metadata.name!, uid: condemned.metadata.uid! }]
      : whenDeleted === "Delete" ? [{ apiVersion: STATEFUL_SETS.apiVersion, kind: STATEFUL_SETS.kind, name: set.metadata.name!, uid: set.metadata.uid! }] : []),
  ];
  const key = (r: { kind: string; uid: string }): string => `${r.kind}/${r.uid}`;
  if (owners.map(key).sort().join() === before.map(key).sort().join()) return claim;
  return { ...claim, metadata: { ...claim.metadata, ownerReferences: owners.length > 0 ? owners : undefined } };
};
