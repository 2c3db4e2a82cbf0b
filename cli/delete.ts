// `delete`: asks for the deletion of all, then waits until each is gone.
import { GantryError, isCode } from "../base/errors.ts";
import type { KubeObject, ResourceType } from "../base/kube/resources.ts";
import { apiError, type ApiClient } from "./api-client.ts";

export interface DeleteOptions {
  readonly propagationPolicy: string;
  /** Undefined: the object's own. */
  readonly gracePeriodSeconds: number | undefined;
}

/** Resolves to the object's uid: what `waitUntilGone` needs to tell it from a successor of the same name. */
export const deleteObject = async (client: ApiClient, type: ResourceType, namespace: string, name: string, { propagationPolicy, gracePeriodSeconds }: DeleteOptions): Promise<string | undefined> => {
  const body = { kind: "DeleteOptions", apiVersion: "v1", propagationPolicy, ...(gracePeriodSeconds === undefined ? {} : { gracePeriodSeconds }) };
  // The answer is the object that is going, or a Status when it is gone.
  const answer = await client.json<KubeObject & { readonly details?: { readonly uid?: string } }>("DELETE", client.pathOf(type, namespace, name), { body });
  return answer.details?.uid ?? answer.metadata.uid;
};

/** By watching, from the version at which the object was last seen. Another object of the same name counts as gone. Throws the signal's reason. */
export const untilGone = async (client: ApiClient, type: ResourceType, namespace: string, name: string, uid: string | undefined, signal: AbortSignal | undefined): Promise<void> => {
  const query = { fieldSelector: `metadata.name=${name}` };
  for (;;) {
    const { items, metadata } = await client.list(type, namespace, query);
    if (!items[0] || (uid !== undefined && items[0].metadata.uid !== uid)) return;
    try {
      for await (const event of client.watch(client.pathOf(type, namespace), { ...query, resourceVersion: metadata.resourceVersion }, signal)) {
        if (event.type === "DELETED") return;
        if (event.type === "ERROR") throw apiError((event.object as { code?: number }).code ?? 500, JSON.stringify(event.object));
      }
    } catch (error) {
      if (!isCode(error, "Expired")) throw error;
    }
  }
};

/** The same with "Timeout" after `timeoutMs`. */
export const waitUntilGone = async (client: ApiClient, type: ResourceType, namespace: string, name: string, uid: string | undefined, timeoutMs: number | undefined): Promise<void> => {
  const signal = timeoutMs === undefined ? undefined : AbortSignal.timeout(timeoutMs);
  try {
    await untilGone(client, type, namespace, name, uid, signal);
  } catch (error) {
    if (signal?.aborted) throw new GantryError("Timeout", `${type.plural} ${JSON.stringify(name)} was not gone after ${timeoutMs! / 1000} s`);
    throw error;
  }
};
