// One object as it changes: listed, then watched, listed again when the server ends the watch or can't go on from where it was.
import { setTimeout as delay } from "node:timers/promises";
import { isCode } from "../base/errors.ts";
import type { KubeObject, ResourceType } from "../base/kube/resources.ts";
import { apiError, type ApiClient } from "./api-client.ts";

/** A server that ends each watch at once must not be asked as fast as it answers. */
const WATCH_AGAIN_MS = 200;

/** Each state of the object, the present one first; undefined, and the end, when it is gone or another of its name has come. Throws the signal's reason. */
export async function* followObject<T extends KubeObject>(client: ApiClient, type: ResourceType<T>, namespace: string, name: string, signal?: AbortSignal): AsyncGenerator<T | undefined> {
  const query = { fieldSelector: `metadata.name=${name}` };
  let uid: string | undefined;
  for (;;) {
    const { items, metadata } = await client.list(type, namespace, query);
    const [first] = items;
    if (!first || (uid !== undefined && first.metadata.uid !== uid)) {
      yield undefined;
      return;
    }
    uid = first.metadata.uid;
    yield first;
    try {
      for await (const event of client.watch<T>(client.pathOf(type, namespace), { ...query, resourceVersion: metadata.resourceVersion }, signal)) {
        if (event.type === "ERROR") throw apiError((event.object as { code?: number }).code ?? 500, JSON.stringify(event.object));
        if (event.type === "DELETED") {
          yield undefined;
          return;
        }
        if (event.type === "ADDED" || event.type === "MODIFIED") yield event.object;
      }
    } catch (error) {
      signal?.throwIfAborted();
      if (!isCode(error, "Expired", "ServiceUnavailable")) throw error;
    }
    await delay(WATCH_AGAIN_MS, undefined, { signal });
  }
}
