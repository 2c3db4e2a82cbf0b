// `compose down`: everything of a project goes, by its labels: the file may have changed since, or be gone.
import { isCode } from "../../base/errors.ts";
import { CONFIG_MAPS, DEPLOYMENTS, PODS, SECRETS, type ResourceType } from "../../base/kube/resources.ts";
import type { ApiClient } from "../api-client.ts";
import { deleteObject, waitUntilGone } from "../delete.ts";
import { CLAIMS } from "../docker/volumes.ts";
import { Label } from "./project.ts";

export interface DownOptions {
  readonly volumes: boolean;
  /** Undefined: each container's own. */
  readonly graceSeconds: number | undefined;
}

/** What was removed. */
export const down = async (client: ApiClient, namespace: string, project: string, { volumes, graceSeconds }: DownOptions): Promise<readonly string[]> => {
  const removed: string[] = [];
  const removeAll = async (type: ResourceType, propagationPolicy = "Background"): Promise<void> => {
    const { items } = await client.list(type, namespace, { labelSelector: `${Label.project}=${project}` });
    await Promise.all(items.map(async ({ metadata: { name = "", uid } }) => {
      try {
        await deleteObject(client, type, namespace, name, { propagationPolicy, gracePeriodSeconds: type.name === PODS.name ? graceSeconds : undefined });
        await waitUntilGone(client, type, namespace, name, uid, undefined);
      } catch (error) {
        if (!isCode(error, "NotFound")) throw error;
      }
      removed.push(name);
      console.error(` ${name}  removed`);
    }));
  };
  await removeAll(DEPLOYMENTS, "Foreground");
  await removeAll(PODS);
  await Promise.all([removeAll(SECRETS), removeAll(CONFIG_MAPS)]);
  if (volumes) await removeAll(CLAIMS);
  return removed;
};
