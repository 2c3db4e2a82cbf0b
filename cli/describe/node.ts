// Nodes: what they are, what they have, what of it is taken.
import { podRequests, type Amounts } from "../../base/kube/pod-requests.ts";
import { isHugePages } from "../../base/kube/huge-pages.ts";
import { formatMilliCpu, toMilli, toUnits } from "../../base/kube/quantity.ts";
import type { Node, Pod } from "../../base/kube/types.gen.ts";
import { amountLines, conditionLines, field, fields, table } from "./text.ts";

const mib = (bytes: number): string => `${Math.ceil(bytes / 2 ** 20)}Mi`;
const percent = (part: number, whole: number): string => (whole > 0 ? ` (${Math.round((100 * part) / whole)}%)` : "");

/** A pod that ended holds nothing any more. */
const holds = (pod: Pod): boolean => pod.status?.phase !== "Succeeded" && pod.status?.phase !== "Failed";

export const nodeLines = ({ spec, status }: Node, pods: readonly Pod[]): string[] => {
  const running = pods.filter(holds);
  const cpu = toMilli(status?.allocatable?.["cpu"] ?? "0");
  const memory = toUnits(status?.allocatable?.["memory"] ?? "0");
  const amounts = (of: "requests" | "limits"): readonly Amounts[] => running.map((p) => (p.spec ? podRequests(p.spec, of) : {}));
  const sum = (all: readonly Amounts[], resource: string): number => all.reduce((total, a) => total + (a[resource] ?? 0), 0);
  const [requests, limits] = [amounts("requests"), amounts("limits")];
  return [
    ...fields("Taints", (spec?.taints ?? []).map((t) => `${t.key}${t.value ? `=${t.value}` : ""}:${t.effect}`)), field("Unschedulable", spec?.unschedulable ?? false),
    ...conditionLines(status?.conditions), ...fields("Addresses", (status?.addresses ?? []).map((a) => `${a.type} ${a.address}`)), field("Pod CIDR", spec?.podCIDR),
    ...amountLines("Capacity", status?.capacity), ...amountLines("Allocatable", status?.allocatable),
    ...(status?.nodeInfo ? ["System Info:", ...[["Kernel", status.nodeInfo.kernelVersion], ["OS", status.nodeInfo.osImage], ["Architecture", status.nodeInfo.architecture], ["Runtime", status.nodeInfo.containerRuntimeVersion], ["Agent", status.nodeInfo.kubeletVersion]].map(([k, v]) => field(k!, v, "  "))] : []),
    `Pods:           (${running.length} in total)`,
    ...(running.length === 0 ? [] : table(["Namespace", "Name", "CPU", "Memory"], running.map((p, i) => [p.metadata.namespace ?? "", p.metadata.name ?? "", formatMilliCpu(requests[i]!["cpu"] ?? 0), mib(requests[i]!["memory"] ?? 0)]))),
    "Allocated:",
    ...table(["Resource", "Requests", "Limits"], [
      ["cpu", ...[requests, limits].map((all) => formatMilliCpu(sum(all, "cpu")) + percent(sum(all, "cpu"), cpu))],
      ["memory", ...[requests, limits].map((all) => mib(sum(all, "memory")) + percent(sum(all, "memory"), memory))],
      ...Object.entries(status?.allocatable ?? {}).filter(([name]) => isHugePages(name)).map(([name, total]) => [name, ...[requests, limits].map((all) => mib(sum(all, name)) + percent(sum(all, name), toUnits(total)))]),
    ]),
  ];
};
