// Changes of pods, and waiting for what becomes of them. Watches; polls nothing.
import { isCode } from "../../base/errors.ts";
import { PODS } from "../../base/kube/resources.ts";
import type { ContainerStatus, Pod } from "../../base/kube/types.gen.ts";
import { apiError, type ApiClient } from "../api-client.ts";

export const statusesOf = (pod: Pod): readonly ContainerStatus[] => pod.status?.containerStatuses ?? [];

/** Sets annotations, or takes them away (null). Of this very pod: one of the same name that came after it is left alone. */
export const annotate = (client: ApiClient, pod: Pod, annotations: Readonly<Record<string, string | null>>): Promise<Pod> =>
  client.json("PATCH", client.pathOf(PODS, pod.metadata.namespace ?? "", pod.metadata.name), { body: { metadata: { uid: pod.metadata.uid, annotations } }, contentType: "application/merge-patch+json" });

/** undefined stands for: the pod is gone. Calls `look` with the pod as it is and after each change until it gives a value. */
export const watchPod = async <T>(client: ApiClient, pod: Pod, look: (now: Pod | undefined) => T | undefined, signal?: AbortSignal): Promise<T> => {
  const { namespace = "", name = "", uid } = pod.metadata;
  const query = { fieldSelector: `metadata.name=${name}` };
  let [now, resourceVersion]: [Pod | undefined, string] = [pod, pod.metadata.resourceVersion ?? ""];
  for (;;) {
    const seen = look(now);
    if (seen !== undefined) return seen;
    try {
      for await (const event of client.watch<Pod>(client.pathOf(PODS, namespace), { ...query, resourceVersion }, signal)) {
        if (event.type === "ERROR") throw apiError((event.object as { code?: number }).code ?? 500, JSON.stringify(event.object));
        resourceVersion = event.object.metadata.resourceVersion ?? resourceVersion;
        if (event.type === "BOOKMARK") continue;
        const result = look(event.type === "DELETED" || event.object.metadata.uid !== uid ? undefined : event.object);
        if (result !== undefined) return result;
      }
    } catch (error) {
      if (!isCode(error, "Expired", "ServiceUnavailable") || signal?.aborted) throw error;
    }
    // The watch ended or was too old: a fresh look, then on from there.
    const { items, metadata } = await client.list(PODS, namespace, query);
    now = items.find((p) => p.metadata.uid === uid);
    resourceVersion = metadata.resourceVersion ?? "";
  }
};
