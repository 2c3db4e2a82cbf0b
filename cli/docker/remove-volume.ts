// `volume rm`: a volume that a container has stays, running or not, as docker keeps it.
import { GantryError, isCode } from "../../base/errors.ts";
import { PODS } from "../../base/kube/resources.ts";
import type { Pod } from "../../base/kube/types.gen.ts";
import type { ApiClient } from "../api-client.ts";
import { deleteObject, waitUntilGone } from "../delete.ts";
import { objectName } from "./names.ts";
import { CLAIMS, claimsOf } from "./volumes.ts";

const usersOf = (pods: readonly Pod[], volume: string): readonly string[] => pods.filter((p) => claimsOf(p).includes(volume)).map((p) => p.metadata.name!);

/** How often it is asked whether a container has taken the volume meanwhile, which keeps it from going. */
const LOOK_MS = 3000;

const untilGone = async (client: ApiClient, namespace: string, name: string, uid: string | undefined): Promise<void> => {
  for (;;) {
    try {
      return await waitUntilGone(client, CLAIMS, namespace, name, uid, LOOK_MS);
    } catch (error) {
      if (!isCode(error, "Timeout")) throw error;
    }
    const { items } = await client.list<Pod>(PODS, namespace);
    const users = usersOf(items, name);
    if (users.length > 0) throw new GantryError("FailedPrecondition", `volume ${name} is in use by ${users.join(", ")}, which took it meanwhile: it goes when ${users.length === 1 ? "that does" : "those do"}`);
  }
};

export const removeVolume = async (client: ApiClient, namespace: string, pods: readonly Pod[], word: string, force: boolean): Promise<void> => {
  const name = objectName("volume", word);
  const users = usersOf(pods, name);
  if (users.length > 0) throw new GantryError("FailedPrecondition", `volume ${name} is in use by ${users.join(", ")}: remove ${users.length === 1 ? "it" : "them"} first`);
  try {
    const uid = await deleteObject(client, CLAIMS, namespace, name, { propagationPolicy: "Background", gracePeriodSeconds: undefined });
    await untilGone(client, namespace, name, uid);
  } catch (error) {
    if (!isCode(error, "NotFound")) throw error;
    if (!force) throw new GantryError("NotFound", `no such volume: ${word}`);
  }
};
