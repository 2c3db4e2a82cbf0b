// `volume rm`: a volume that a container has stays, running or not, as docker keeps it.
import { GantryError, isCode } from "../../base/errors.ts";
import type { Pod } from "../../base/kube/types.gen.ts";
import type { ApiClient } from "../api-client.ts";
import { deleteObject, waitUntilGone } from "../delete.ts";
import { objectName } from "./names.ts";
import { CLAIMS, claimsOf } from "./volumes.ts";

export const removeVolume = async (client: ApiClient, namespace: string, pods: readonly Pod[], word: string, force: boolean): Promise<void> => {
  const name = objectName("volume", word);
  const users = pods.filter((p) => claimsOf(p).includes(name));
  if (users.length > 0) throw new GantryError("FailedPrecondition", `volume ${name} is in use by ${users.map((p) => p.metadata.name!).join(", ")}: remove ${users.length === 1 ? "it" : "them"} first`);
  try {
    const uid = await deleteObject(client, CLAIMS, namespace, name, { propagationPolicy: "Background", gracePeriodSeconds: undefined });
    await waitUntilGone(client, CLAIMS, namespace, name, uid, undefined);
  } catch (error) {
    if (!isCode(error, "NotFound")) throw error;
    if (!force) throw new GantryError("NotFound", `no such volume: ${word}`);
  }
};
