// Pods of one group (gantry.io/hosts-group) know each other's addresses: what the dispatcher adds to each member's /etc/hosts. Pure.
import { HOSTS_GROUP_LABEL, hostsNames } from "../../base/kube/pod-extras.ts";
import type { Pod } from "../../base/kube/types.gen.ts";
import type { HostAlias } from "../../proto/gen/gantry/v1/agent.ts";

export const groupOf = (pod: Pod): string => pod.metadata.labels?.[HOSTS_GROUP_LABEL] ?? "";

/** Members that have an address and go on; the pod itself knows its own. Sorted, so that the same members always give the same lines. */
export const groupAliases = (pod: Pod, members: Iterable<Pod>): readonly HostAlias[] => {
  const lines: HostAlias[] = [];
  for (const other of members) {
    if (other.metadata.namespace !== pod.metadata.namespace || other.metadata.uid === pod.metadata.uid || !isReachable(other)) continue;
    const hostnames = [...hostsNames(other.metadata)];
    if (hostnames.length > 0) lines.push({ ip: other.status!.podIP!, hostnames });
  }
  return lines.sort((a, b) => (a.hostnames[0]! < b.hostnames[0]! ? -1 : a.hostnames[0]! > b.hostnames[0]! ? 1 : a.ip < b.ip ? -1 : 1));
};

const isReachable = (pod: Pod): boolean => (pod.status?.podIP ?? "") !== "" && pod.status?.phase !== "Succeeded" && pod.status?.phase !== "Failed";

/** Does the others' view of a pod change? Of the many changes of a pod's status nearly none matters. */
export const concernsGroup = (before: Pod | undefined, after: Pod | undefined): boolean => {
  const view = (pod: Pod | undefined): string => (pod === undefined || groupOf(pod) === "" ? "" : isReachable(pod) ? `${groupOf(pod)} ${pod.status!.podIP!} ${hostsNames(pod.metadata).join(",")}` : groupOf(pod));
  return view(before) !== view(after);
};
