// Named volumes: PersistentVolumeClaims of the cluster's default storage class, one for a name. The rows of `volume ls` are pure.
import { GantryError, isCode } from "../../base/errors.ts";
import type { KubeObject, ResourceType } from "../../base/kube/resources.ts";
import type { Pod } from "../../base/kube/types.gen.ts";
import type { ApiClient } from "../api-client.ts";
import { waitUntilGone } from "../delete.ts";

export interface Claim extends KubeObject {
  readonly spec?: { readonly storageClassName?: string; readonly volumeName?: string; readonly accessModes?: readonly string[]; readonly resources?: { readonly requests?: Readonly<Record<string, string>> } };
  readonly status?: { readonly phase?: string; readonly capacity?: Readonly<Record<string, string>> };
}

export const CLAIMS: ResourceType<Claim> = { name: "persistentvolumeclaims", group: "", version: "v1", apiVersion: "v1", kind: "PersistentVolumeClaim", plural: "persistentvolumeclaims", namespaced: true };

/** A local folder has no size of its own; the API asks for one. */
const DEFAULT_SIZE = "1Gi";

export interface VolumeRequest {
  readonly labels?: Readonly<Record<string, string>>;
  readonly size?: string;
  readonly storageClass?: string;
}

export const createVolume = (client: ApiClient, namespace: string, name: string, { labels = {}, size = "", storageClass = "" }: VolumeRequest): Promise<Claim> => {
  const spec = { accessModes: ["ReadWriteOnce"], resources: { requests: { storage: size || DEFAULT_SIZE } }, ...(storageClass ? { storageClassName: storageClass } : {}) };
  return client.json("POST", client.pathOf(CLAIMS, namespace), { body: { apiVersion: "v1", kind: "PersistentVolumeClaim", metadata: { name, labels }, spec } });
};

/** A volume that is being removed, and that nobody uses, is gone in less. */
const LEAVING_MS = 10_000;

/** Made when it isn't there, as docker does for `-v NAME:/path`; anew when it is being removed: a pod that names it would wait for ever. */
export const ensureVolume = async (client: ApiClient, namespace: string, name: string, request: VolumeRequest): Promise<void> => {
  try {
    const { metadata } = await client.get(CLAIMS, namespace, name);
    if (metadata.deletionTimestamp === undefined) return;
    await waitUntilGone(client, CLAIMS, namespace, name, metadata.uid, LEAVING_MS);
  } catch (error) {
    if (isCode(error, "Timeout")) throw new GantryError("FailedPrecondition", `volume ${name} is being removed, and is in use still: take another name, or wait until its containers are gone`);
    if (!isCode(error, "NotFound")) throw error;
  }
  try {
    await createVolume(client, namespace, name, request);
  } catch (error) {
    // Somebody else was faster.
    if (!isCode(error, "AlreadyExists")) throw error;
  }
};

export const claimsOf = (pod: Pod): readonly string[] => (pod.spec?.volumes ?? []).flatMap((v) => (v.persistentVolumeClaim ? [v.persistentVolumeClaim.claimName] : []));

/** Names of volumes that a pod mounts, whether it runs or not. */
export const volumesInUse = (pods: readonly Pod[]): ReadonlySet<string> => new Set(pods.flatMap(claimsOf));

export const volumeRow = (claim: Claim): Record<string, string> => ({
  Driver: claim.spec?.storageClassName ?? "", Name: claim.metadata.name!, Status: claim.status?.phase ?? "", Size: claim.status?.capacity?.["storage"] ?? claim.spec?.resources?.requests?.["storage"] ?? "",
  Labels: Object.entries(claim.metadata.labels ?? {}).map(([k, v]) => `${k}=${v}`).join(","), Scope: "cluster", Mountpoint: claim.spec?.volumeName ?? "",
});

export const VOLUME_FORMAT = { headings: { Driver: "DRIVER", Name: "VOLUME NAME", Status: "STATUS", Size: "SIZE", Labels: "LABELS", Scope: "SCOPE", Mountpoint: "MOUNTPOINT" }, table: "{{.Driver}}\t{{.Name}}\t{{.Status}}" };
