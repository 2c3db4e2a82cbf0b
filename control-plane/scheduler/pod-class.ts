// A class is everything about a pod that placing it depends on. Replicas of one workload share a class, so filters and scores are
// computed once for all of them. Pure.
import type { NodeAffinity, NodeSelectorTerm, Pod, PreferredSchedulingTerm, Toleration } from "../../base/kube/types.gen.ts";
import { topologyNeeds, type NamespaceLookup, type TopologyNeeds } from "./topology.ts";
import type { VolumeNeeds } from "./volume-needs.ts";
import { controllerOf } from "../../base/kube/meta.ts";
import { priorityOf } from "../../base/kube/pod-state.ts";
import { qosClassOf } from "../../base/kube/qos-class.ts";
import { podRequests, type Amounts } from "../../base/kube/pod-requests.ts";

export interface HostPort {
  readonly port: number;
  readonly protocol: string;
  readonly ip: string;
}

export interface PodClass {
  readonly key: string;
  readonly requests: Readonly<Amounts>;
  /** For scoring only: what a container without requests is counted as, so that such pods spread too (upstream: 100m, 200 MB). */
  readonly scoringMilliCpu: number;
  readonly scoringMemoryBytes: number;
  readonly nodeName: string;
  readonly nodeSelector: Readonly<Record<string, string>>;
  readonly requiredTerms: readonly NodeSelectorTerm[] | undefined;
  readonly preferredTerms: readonly PreferredSchedulingTerm[];
  readonly tolerations: readonly Toleration[];
  readonly hostPorts: readonly HostPort[];
  readonly images: readonly string[];
  /** uid of the controlling owner, or "": pods of one owner are spread over nodes. */
  readonly owner: string;
  readonly priority: number;
  /** Absent: it has no claims. */
  readonly volumes: VolumeNeeds | undefined;
  /** Absent: where other pods are doesn't matter to it. */
  readonly topology: TopologyNeeds | undefined;
  /** Of the QoS class BestEffort. */
  readonly bestEffort: boolean;
}

const UNSTATED_MILLI_CPU = 100;
const UNSTATED_MEMORY_BYTES = 200 * 1024 * 1024;

export const hostPortsOf = (pod: Pod): readonly HostPort[] =>
  (pod.spec?.containers ?? []).flatMap((c) => (c.ports ?? []).flatMap((p) =>
    p.hostPort ? [{ port: p.hostPort, protocol: p.protocol ?? "TCP", ip: p.hostIP ?? "" }] : []));

export const classOf = (pod: Pod, volumes?: VolumeNeeds, namespaces: NamespaceLookup = () => []): PodClass => {
  const spec = pod.spec!;
  const requests = podRequests(spec);
  const affinity: NodeAffinity | undefined = spec.affinity?.nodeAffinity;
  const body = {
    requests,
    scoringMilliCpu: requests["cpu"] ?? UNSTATED_MILLI_CPU,
    scoringMemoryBytes: requests["memory"] ?? UNSTATED_MEMORY_BYTES,
    nodeName: spec.nodeName ?? "",
    nodeSelector: spec.nodeSelector ?? {},
    requiredTerms: affinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms,
    preferredTerms: affinity?.preferredDuringSchedulingIgnoredDuringExecution ?? [],
    tolerations: spec.tolerations ?? [],
    hostPorts: hostPortsOf(pod),
    images: spec.containers.map((c) => c.image ?? ""),
    owner: controllerOf(pod)?.uid ?? "",
    priority: priorityOf(pod),
    volumes,
    topology: topologyNeeds(pod, namespaces),
    bestEffort: qosClassOf(spec) === "BestEffort",
  };
  return { key: JSON.stringify(body), ...body };
};
