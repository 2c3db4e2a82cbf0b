// Who goes when a node runs short, and the words that say why. Pure. Order and texts are kubelet's (pkg/kubelet/eviction/helpers.go):
// https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#pod-selection-for-kubelet-eviction
import { formatBytes } from "../../base/kube/quantity.ts";
import type { Resources } from "../../proto/gen/gantry/v1/agent.ts";
import { amountIn, resourceOf, type Observation, type Threshold } from "./thresholds.ts";

export interface CandidateContainer {
  readonly name: string;
  readonly requests: Resources | undefined;
  /** Of the resource in question. */
  readonly usage: number;
}

export interface Candidate {
  readonly uid: string;
  readonly priority: number;
  readonly qosClass: string;
  readonly containers: readonly CandidateContainer[];
  /** Of the whole pod. */
  readonly usage: number;
}

/** From here on a pod is a part of the system, which pressure does not evict. */
const SYSTEM_CRITICAL_PRIORITY = 2_000_000_000;

type Resource = ReturnType<typeof resourceOf>;

export const requestOf = (requests: Resources | undefined, resource: Resource): number =>
  resource === "memory" ? (requests?.memoryBytes ?? 0) : resource === "ephemeral-storage" ? (requests?.ephemeralStorageBytes ?? 0) : 0;

const podRequest = (pod: Candidate, resource: Resource): number => pod.containers.reduce((sum, c) => sum + requestOf(c.requests, resource), 0);

/** The first is the first to go: those above their request, then by priority, then by how far above. Processes can't be requested. */
export const rank = (pods: readonly Candidate[], resource: Resource): readonly Candidate[] => {
  const over = (pod: Candidate): number => pod.usage - podRequest(pod, resource);
  const exceeds = (pod: Candidate): number => Number(resource === "memory" || resource === "ephemeral-storage" ? over(pod) > 0 : false);
  return pods.filter((p) => p.priority < SYSTEM_CRITICAL_PRIORITY).sort((a, b) => exceeds(b) - exceeds(a) || a.priority - b.priority || over(b) - over(a));
};

const shown = (resource: Resource, amount: number): string => (resource === "memory" || resource === "ephemeral-storage" ? formatBytes(Math.ceil(amount / 1024) * 1024) : String(amount));

export const evictionMessage = (threshold: Threshold, observed: Observation, pod: Candidate): string => {
  const resource = resourceOf(threshold.signal);
  const parts = [
    `The node was low on resource: ${resource}. `,
    `Threshold quantity: ${shown(resource, amountIn(threshold.amount, observed.capacity))}, available: ${shown(resource, observed.available)}. `,
    ...(resource === "memory" || resource === "ephemeral-storage" ? pod.containers.filter((c) => c.usage > requestOf(c.requests, resource)).map((c) =>
      `Container ${c.name} was using ${shown(resource, c.usage)}, request is ${shown(resource, requestOf(c.requests, resource))}, has larger consumption of ${resource}. `) : []),
  ];
  return parts.join("");
};
