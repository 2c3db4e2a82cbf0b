// What a pod's claims mean for where it can go: volumes that are there bind it to their nodes; claims that wait for their first consumer
// are told the node that is chosen, and the pod follows once they are bound. Pure over the cache.
import { LOCAL_PROVISIONER, SELECTED_NODE_ANNOTATION, claimNamesOf, isBound, isDelayed, isMatch } from "../../base/kube/claims.ts";
import { PERSISTENT_VOLUMES, PERSISTENT_VOLUME_CLAIMS, STORAGE_CLASSES } from "../../base/kube/resources.ts";
import type { NodeSelectorTerm, PersistentVolume, Pod } from "../../base/kube/types.gen.ts";
import type { WatchCache } from "../state/cache.ts";

export interface VolumeNeeds {
  /** A node must match one term of each of these. */
  readonly terms: readonly (readonly NodeSelectorTerm[])[];
  /** Claims of the pod's namespace that wait for a node to be chosen. */
  readonly unbound: readonly string[];
  /** Why no node will do, whichever; "" when one may. */
  readonly fault: string;
}

const termsOf = (volume: PersistentVolume): readonly NodeSelectorTerm[] | undefined => volume.spec?.nodeAffinity?.required?.nodeSelectorTerms;

/** undefined for the many pods without claims. */
export const volumeNeeds = (pod: Pod, cache: WatchCache): VolumeNeeds | undefined => {
  const names = [...new Set(claimNamesOf(pod))];
  if (names.length === 0) return undefined;
  const terms: (readonly NodeSelectorTerm[])[] = [];
  const unbound: string[] = [];
  let fault = "";
  for (const name of names) {
    const claim = cache.resource(PERSISTENT_VOLUME_CLAIMS).get(pod.metadata.namespace ?? "", name)?.object;
    if (!claim) {
      fault ||= `persistentvolumeclaim ${JSON.stringify(name)} not found`;
      continue;
    }
    if (claim.metadata.deletionTimestamp !== undefined) fault ||= `persistentvolumeclaim ${JSON.stringify(name)} is being deleted`;
    if (claim.status?.phase === "Lost") fault ||= `persistentvolumeclaim ${JSON.stringify(name)} bound to non-existent persistentvolume ${JSON.stringify(claim.spec?.volumeName ?? "")}`;
    if (isBound(claim)) {
      const volume = cache.resource(PERSISTENT_VOLUMES).get("", claim.spec!.volumeName!)?.object;
      const own = volume && termsOf(volume);
      if (own) terms.push(own);
      continue;
    }
    const storage = cache.resource(STORAGE_CLASSES).get("", claim.spec?.storageClassName ?? "")?.object;
    if (!isDelayed(storage)) {
      fault ||= "pod has unbound immediate PersistentVolumeClaims";
      continue;
    }
    unbound.push(name);
    const selected = claim.metadata.annotations?.[SELECTED_NODE_ANNOTATION];
    if (selected !== undefined) {
      terms.push([{ matchFields: [{ key: "metadata.name", operator: "In", values: [selected] }] }]);
      continue;
    }
    if (storage?.provisioner === LOCAL_PROVISIONER) continue; // made on whichever node
    const fitting = Array.from(cache.resource(PERSISTENT_VOLUMES).list(), (s) => s.object).filter((v) => isMatch(v, claim));
    if (fitting.length === 0) fault ||= "node(s) didn't find available persistent volumes to bind";
    else if (fitting.every((v) => termsOf(v) !== undefined)) terms.push(fitting.flatMap((v) => termsOf(v)!));
  }
  return { terms, unbound, fault };
};
