// What volumes, claims and classes mean to each other, for all that have to agree on it: the binding controller, the scheduler and the
// dispatcher. https://kubernetes.io/docs/concepts/storage/persistent-volumes/. Pure.
import { fromLabelSelector, selectorMatches } from "./labels.ts";
import { nodeTermMatches } from "./node-match.ts";
import { tryParseQuantity } from "./quantity.ts";
import type { Node, PersistentVolume, PersistentVolumeClaim, Pod, StorageClass, Volume } from "./types.gen.ts";

/** Provisioner of volumes that are a directory on one node, and the driver in their PersistentVolumes. */
export const LOCAL_PROVISIONER = "gantry.io/local";
export const DEFAULT_CLASS_ANNOTATION = "storageclass.kubernetes.io/is-default-class";
/** Written by the scheduler on a claim that waits for its first consumer. */
export const SELECTED_NODE_ANNOTATION = "volume.kubernetes.io/selected-node";
export const CLAIM_FINALIZER = "kubernetes.io/pvc-protection";
export const VOLUME_FINALIZER = "kubernetes.io/pv-protection";
/** Holds a volume until its data is gone from its node. */
export const DATA_FINALIZER = "gantry.io/local-data";
export const HOSTNAME_LABEL = "kubernetes.io/hostname";

/** The claim behind a pod's volume; a generic ephemeral one has a claim of its own, named after both. undefined: no claim. */
export const claimNameOf = (pod: Pod, volume: Volume): string | undefined =>
  volume.persistentVolumeClaim?.claimName ?? (volume.ephemeral ? `${pod.metadata.name ?? ""}-${volume.name}` : undefined);

export const claimNamesOf = (pod: Pod): readonly string[] => (pod.spec?.volumes ?? []).flatMap((v) => claimNameOf(pod, v) ?? []);

export const isBound = (claim: PersistentVolumeClaim): boolean => claim.status?.phase === "Bound" && (claim.spec?.volumeName ?? "") !== "";

export const isDelayed = (storage: StorageClass | undefined): boolean => storage?.volumeBindingMode === "WaitForFirstConsumer";

/** The newest of those that are marked so. */
export const defaultClass = (classes: Iterable<StorageClass>): StorageClass | undefined =>
  [...classes].filter((c) => c.metadata.annotations?.[DEFAULT_CLASS_ANNOTATION] === "true")
    .sort((a, b) => ((a.metadata.creationTimestamp ?? "") < (b.metadata.creationTimestamp ?? "") ? 1 : -1))[0];

const bytes = (quantity: string | undefined): number => tryParseQuantity(quantity ?? "0") ?? 0;

/** Whether the claim may have the volume, whatever node it is on. */
export const isMatch = (volume: PersistentVolume, claim: PersistentVolumeClaim): boolean => {
  const [v, c] = [volume.spec ?? {}, claim.spec ?? {}];
  const { claimRef } = v;
  if (volume.metadata.deletionTimestamp !== undefined) return false;
  if (claimRef) {
    // Kept for this claim by whoever made the volume, or its own already.
    if (claimRef.name !== claim.metadata.name || claimRef.namespace !== claim.metadata.namespace || (claimRef.uid ?? claim.metadata.uid) !== claim.metadata.uid) return false;
  } else if (volume.status?.phase !== undefined && volume.status.phase !== "Available" && volume.status.phase !== "Pending") return false;
  if (c.volumeName && c.volumeName !== volume.metadata.name) return false;
  return (v.storageClassName ?? "") === (c.storageClassName ?? "")
    && (v.volumeMode ?? "Filesystem") === (c.volumeMode ?? "Filesystem")
    && (c.accessModes ?? []).every((mode) => v.accessModes?.includes(mode))
    && bytes(v.capacity?.["storage"]) >= bytes(c.resources?.requests?.["storage"])
    && (!c.selector || selectorMatches(fromLabelSelector(c.selector), volume.metadata.labels ?? {}));
};

export const isReachable = (volume: PersistentVolume, node: Node): boolean => {
  const terms = volume.spec?.nodeAffinity?.required?.nodeSelectorTerms;
  return terms === undefined || terms.some((term) => nodeTermMatches(term, node));
};

/** The smallest that will do, one that is kept for the claim first; the same one every time. */
export const bestMatch = (volumes: Iterable<PersistentVolume>, claim: PersistentVolumeClaim, node?: Node): PersistentVolume | undefined =>
  [...volumes].filter((v) => isMatch(v, claim) && (!node || isReachable(v, node)))
    .sort((a, b) => Number(b.spec?.claimRef !== undefined) - Number(a.spec?.claimRef !== undefined) || bytes(a.spec?.capacity?.["storage"]) - bytes(b.spec?.capacity?.["storage"]) || ((a.metadata.name ?? "") < (b.metadata.name ?? "") ? -1 : 1))[0];
