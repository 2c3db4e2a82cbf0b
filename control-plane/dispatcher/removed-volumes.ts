// Lets go of a PersistentVolume whose data its node has deleted.
import { isCode } from "../../base/errors.ts";
import { DATA_FINALIZER, LOCAL_PROVISIONER } from "../../base/kube/claims.ts";
import { PERSISTENT_VOLUMES } from "../../base/kube/resources.ts";
import type { WatchCache } from "../state/cache.ts";
import { keyOf, type Fence, type Store } from "../state/store.ts";

/** Idempotent. A node speaks for its own volumes only: of others nothing is believed. */
export const letVolumeGo = async ({ store, cache, fence }: { readonly store: Store; readonly cache: WatchCache; readonly fence: () => Fence | undefined }, nodeName: string, id: string): Promise<void> => {
  for (const { object } of cache.resource(PERSISTENT_VOLUMES).list()) {
    const { csi } = object.spec ?? {};
    if (csi?.driver !== LOCAL_PROVISIONER || csi.volumeHandle !== id || csi.volumeAttributes?.["node"] !== nodeName || object.metadata.deletionTimestamp === undefined) continue;
    const options = { writer: "agent", uid: object.metadata.uid ?? "", fence: fence() } as const;
    try {
      const { object: after } = await store.update(keyOf(PERSISTENT_VOLUMES, object), (current) =>
        (current.metadata.finalizers?.includes(DATA_FINALIZER) ? { ...current, metadata: { ...current.metadata, finalizers: current.metadata.finalizers.filter((f) => f !== DATA_FINALIZER) } } : undefined), options);
      if (!after.metadata.finalizers?.length) await store.delete(keyOf(PERSISTENT_VOLUMES, object), options);
    } catch (error) {
      if (!isCode(error, "NotFound", "Conflict")) throw error; // it is gone, or its name is another volume's by now
    }
  }
};
