// Which pods the words of a command line mean, and waiting for what becomes of them. Watches; polls nothing.
import { GantryError, isCode } from "../../base/errors.ts";
import { PODS } from "../../base/kube/resources.ts";
import type { ContainerStatus, Pod } from "../../base/kube/types.gen.ts";
import { apiError, type ApiClient } from "../api-client.ts";

/** Shorter beginnings of ids would be names more often than ids. */
const SHORTEST_ID = 3;

export const statusesOf = (pod: Pod): readonly ContainerStatus[] => pod.status?.containerStatuses ?? [];

const idOf = (text: string | undefined): string => (text ?? "").replace(/^[a-z]+:\/\//, "");

/** The pod whose container's id begins so, and that container. "BadRequest" when several do. */
export const podOfId = (pods: readonly Pod[], prefix: string): { readonly pod: Pod; readonly container: string } | undefined => {
  const found = pods.flatMap((pod) => [...statusesOf(pod), ...(pod.status?.initContainerStatuses ?? [])].filter((c) => idOf(c.containerID).startsWith(prefix)).map((c) => ({ pod, container: c.name })));
  if (found.length > 1) throw new GantryError("BadRequest", `${JSON.stringify(prefix)} is the beginning of several containers' ids: ${found.map((f) => f.pod.metadata.name).join(", ")}; give more of it`);
  return found[0];
};

/** By its name ("web", "pod/web") or by the beginning of a container's id, which also says which container. */
export const findPod = async (client: ApiClient, namespace: string, word: string): Promise<{ readonly pod: Pod; readonly container?: string }> => {
  const name = word.replace(/^(?:pods?|po)\//, "");
  try {
    return { pod: await client.get(PODS, namespace, name) };
  } catch (error) {
    if (!isCode(error, "NotFound") || name.length < SHORTEST_ID || !/^[0-9a-f]+$/.test(name)) throw error;
    const found = podOfId((await client.list(PODS, namespace)).items, name);
    if (!found) throw error;
    return found;
  }
};

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
