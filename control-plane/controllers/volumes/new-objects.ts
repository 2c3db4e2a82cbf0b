// The objects that the volume controller makes: volumes of the built-in class, claims of generic ephemeral volumes, the class itself. Pure,
// but for ensureDefaultClass.
import { CLAIM_FINALIZER, DATA_FINALIZER, DEFAULT_CLASS_ANNOTATION, HOSTNAME_LABEL, LOCAL_PROVISIONER, VOLUME_FINALIZER } from "../../../base/kube/claims.ts";
import { newUid } from "../../../base/ids.ts";
import type { Clock } from "../../../base/clock.ts";
import { STORAGE_CLASSES } from "../../../base/kube/resources.ts";
import type { OwnerReference, PersistentVolume, PersistentVolumeClaim, Pod, StorageClass, Volume } from "../../../base/kube/types.gen.ts";
import type { Store } from "../../state/store.ts";
import { timestamp } from "../objects.ts";
import { createIfMissing } from "../writes.ts";

/** A directory on that node. Its name follows from the claim, so that a pass that is repeated makes no second one. */
export const newLocalVolume = (claim: PersistentVolumeClaim, storage: StorageClass, { node, hostname, uid, nowMs }: { readonly node: string; readonly hostname: string; readonly uid: string; readonly nowMs: number }): PersistentVolume => {
  const name = `pvc-${claim.metadata.uid!}`;
  return {
    apiVersion: "v1", kind: "PersistentVolume",
    metadata: { name, uid, creationTimestamp: timestamp(nowMs), generation: 1, annotations: { "pv.kubernetes.io/provisioned-by": LOCAL_PROVISIONER }, finalizers: [VOLUME_FINALIZER, DATA_FINALIZER] },
    spec: {
      capacity: { storage: claim.spec!.resources!.requests!["storage"]! }, accessModes: claim.spec!.accessModes, volumeMode: "Filesystem",
      persistentVolumeReclaimPolicy: storage.reclaimPolicy ?? "Delete", storageClassName: storage.metadata.name,
      claimRef: { apiVersion: "v1", kind: "PersistentVolumeClaim", namespace: claim.metadata.namespace, name: claim.metadata.name, uid: claim.metadata.uid },
      csi: { driver: LOCAL_PROVISIONER, volumeHandle: name, volumeAttributes: { node } },
      nodeAffinity: { required: { nodeSelectorTerms: [{ matchExpressions: [{ key: HOSTNAME_LABEL, operator: "In", values: [hostname] }] }] } },
    },
    status: { phase: "Bound" },
  };
};

export const claimOfPod = (pod: Pod, volume: Volume, name: string, { owner, uid, nowMs }: { readonly owner: OwnerReference; readonly uid: string; readonly nowMs: number }): PersistentVolumeClaim => {
  const template = volume.ephemeral!.volumeClaimTemplate!;
  const { labels, annotations } = template.metadata ?? {};
  return {
    apiVersion: "v1", kind: "PersistentVolumeClaim",
    metadata: { name, namespace: pod.metadata.namespace, uid, creationTimestamp: timestamp(nowMs), generation: 1, ...(labels && { labels }), ...(annotations && { annotations }), ownerReferences: [owner], finalizers: [CLAIM_FINALIZER] },
    spec: { volumeMode: "Filesystem", ...template.spec }, status: { phase: "Pending" },
  };
};

const LOCAL_CLASS: StorageClass = {
  apiVersion: STORAGE_CLASSES.apiVersion, kind: STORAGE_CLASSES.kind, metadata: { name: "local", annotations: { [DEFAULT_CLASS_ANNOTATION]: "true" } },
  provisioner: LOCAL_PROVISIONER, reclaimPolicy: "Delete", volumeBindingMode: "WaitForFirstConsumer",
};

/** Makes the class `local` where it is missing; one that is there stays as it is. Any control plane may call it, leader or not. */
export const ensureDefaultClass = (store: Store, clock: Pick<Clock, "nowMs">): Promise<void> =>
  createIfMissing(store, STORAGE_CLASSES, { ...LOCAL_CLASS, metadata: { ...LOCAL_CLASS.metadata, uid: newUid(), creationTimestamp: timestamp(clock.nowMs()) } });
