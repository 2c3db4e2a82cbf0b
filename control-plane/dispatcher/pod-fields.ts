// What a pod says of itself in its environment and files: the downward API.
// https://kubernetes.io/docs/concepts/workloads/pods/downward-api/. Pure.
import { parseAmounts } from "../../base/kube/pod-requests.ts";
import { toMilli, toUnits } from "../../base/kube/quantity.ts";
import type { Container, Pod, PodSpec, ResourceFieldSelector } from "../../base/kube/types.gen.ts";

/** What the node offers, the limit of a container that sets none. */
export interface NodeAllocatable {
  readonly milliCpu: number;
  readonly memoryBytes: number;
  readonly ephemeralStorageBytes: number;
}

/** Fields that only the node knows; it fills them in. */
const ON_NODE: ReadonlySet<string> = new Set(["status.podIP", "status.podIPs", "status.hostIP", "status.hostIPs"]);

export type FieldValue = { readonly value: string } | { readonly onNode: string } | undefined;

/** Lines `key="value"`, as upstream writes them into files. */
const formatMap = (map: Readonly<Record<string, string>> | undefined): string =>
  Object.entries(map ?? {}).sort(([a], [b]) => (a < b ? -1 : 1)).map(([k, v]) => `${k}=${JSON.stringify(v)}`).join("\n");

/** undefined when there is no such field; validation refuses those, so that it only happens with objects of another version. */
export const fieldValue = (pod: Pod, path: string): FieldValue => {
  if (ON_NODE.has(path)) return { onNode: path };
  const { metadata } = pod;
  const subscript = /^metadata\.(labels|annotations)\['(.+)'\]$/.exec(path);
  if (subscript) return { value: metadata[subscript[1] as "labels" | "annotations"]?.[subscript[2]!] ?? "" };
  switch (path) {
    case "metadata.name": return { value: metadata.name ?? "" };
    case "metadata.namespace": return { value: metadata.namespace ?? "" };
    case "metadata.uid": return { value: metadata.uid ?? "" };
    case "metadata.labels": return { value: formatMap(metadata.labels) };
    case "metadata.annotations": return { value: formatMap(metadata.annotations) };
    case "spec.nodeName": return { value: pod.spec?.nodeName ?? "" };
    case "spec.serviceAccountName": return { value: pod.spec?.serviceAccountName ?? "" };
    default: return undefined;
  }
};

/** Rounded up to whole divisors; a limit that is not set is what the node offers. */
export const resourceValue = (spec: PodSpec, own: Container, selector: ResourceFieldSelector, allocatable: NodeAllocatable): string | undefined => {
  const container = selector.containerName ? [...spec.containers, ...(spec.initContainers ?? []), ...(spec.ephemeralContainers ?? [])].find((c) => c.name === selector.containerName) : own;
  const match = /^(limits|requests)\.(.+)$/.exec(selector.resource);
  if (!container || !match) return undefined;
  const [kind, resource] = [match[1] as "limits" | "requests", match[2]!];
  const offered: Readonly<Record<string, number>> = { cpu: allocatable.milliCpu, memory: allocatable.memoryBytes, "ephemeral-storage": allocatable.ephemeralStorageBytes };
  const amount = parseAmounts(container.resources?.[kind])[resource] ?? (kind === "limits" ? offered[resource] : 0) ?? 0;
  const divisorText = selector.divisor && selector.divisor !== "0" ? selector.divisor : "1";
  const divisor = resource === "cpu" ? toMilli(divisorText) : toUnits(divisorText);
  return String(Math.ceil(amount / Math.max(1, divisor)));
};
