// Usage of containers as Prometheus reads it, under cAdvisor's names, so that dashboards made for Kubernetes work. Pure. Apart from the
// agent's own metrics (/metrics), whose number of series does not grow with pods. Source of the names:
// https://github.com/google/cadvisor/blob/master/docs/storage/prometheus.md
import type { ContainerUsage, PodUsage, StatsSample } from "../../proto/gen/gantry/v1/agent.ts";

type Labels = Readonly<Record<string, string>>;

interface Metric {
  readonly name: string;
  readonly type: "counter" | "gauge";
  readonly help: string;
  readonly container?: (c: ContainerUsage) => number | undefined;
  readonly pod?: (p: PodUsage) => number | undefined;
  readonly node?: (s: StatsSample) => number | undefined;
}

const seconds = (ns: number | undefined): number | undefined => (ns === undefined ? undefined : ns / 1e9);
const stalled = (c: ContainerUsage, resource: string, of: "someUs" | "fullUs"): number | undefined => {
  const stall = c.pressure[resource];
  return stall && stall[of] / 1e6;
};
const measured = (bytes: number): number | undefined => (bytes < 0 ? undefined : bytes);

const METRICS: readonly Metric[] = [
  { name: "container_cpu_usage_seconds_total", type: "counter", help: "Cumulative CPU time consumed.", container: (c) => seconds(c.cpu?.totalNs), pod: (p) => seconds(p.cpu?.totalNs) },
  { name: "container_cpu_cfs_throttled_seconds_total", type: "counter", help: "Time for which it was throttled by its quota.", container: (c) => seconds(c.cpu?.throttledNs) },
  { name: "container_memory_usage_bytes", type: "gauge", help: "Memory in use, page cache included.", container: (c) => c.memory?.usageBytes, pod: (p) => p.memory?.usageBytes },
  { name: "container_memory_working_set_bytes", type: "gauge", help: "Memory in use without inactive page cache.", container: (c) => c.memory?.workingSetBytes, pod: (p) => p.memory?.workingSetBytes },
  { name: "container_memory_rss", type: "gauge", help: "Anonymous memory.", container: (c) => c.memory?.rssBytes },
  { name: "container_spec_memory_limit_bytes", type: "gauge", help: "Memory limit; 0 is none.", container: (c) => c.memory?.limitBytes },
  { name: "container_oom_events_total", type: "counter", help: "Processes killed for want of memory.", container: (c) => c.oomKills },
  { name: "container_processes", type: "gauge", help: "Processes and threads.", container: (c) => c.pids },
  { name: "container_start_time_seconds", type: "gauge", help: "Start time in Unix time.", container: (c) => c.startedAtMs / 1000 },
  { name: "container_fs_reads_bytes_total", type: "counter", help: "Bytes read from block devices.", container: (c) => c.readBytes },
  { name: "container_fs_writes_bytes_total", type: "counter", help: "Bytes written to block devices.", container: (c) => c.writeBytes },
  { name: "container_fs_usage_bytes", type: "gauge", help: "Size of the writable layer.", container: (c) => measured(c.storageBytes) },
  { name: "container_log_usage_bytes", type: "gauge", help: "Size of the logs.", container: (c) => c.logBytes },
  ...(["cpu", "memory", "io"] as const).flatMap((resource): readonly Metric[] => [
    { name: `container_pressure_${resource}_waiting_seconds_total`, type: "counter", help: `Time for which some tasks waited for ${resource}.`, container: (c) => stalled(c, resource, "someUs") },
    { name: `container_pressure_${resource}_stalled_seconds_total`, type: "counter", help: `Time for which all tasks waited for ${resource}.`, container: (c) => stalled(c, resource, "fullUs") },
  ]),
  { name: "container_network_receive_bytes_total", type: "counter", help: "Bytes received by the pod.", pod: (p) => p.network?.rxBytes },
  { name: "container_network_transmit_bytes_total", type: "counter", help: "Bytes sent by the pod.", pod: (p) => p.network?.txBytes },
  { name: "container_network_receive_packets_total", type: "counter", help: "Packets received by the pod.", pod: (p) => p.network?.rxPackets },
  { name: "container_network_transmit_packets_total", type: "counter", help: "Packets sent by the pod.", pod: (p) => p.network?.txPackets },
  { name: "container_network_receive_errors_total", type: "counter", help: "Errors while receiving.", pod: (p) => p.network?.rxErrors },
  { name: "container_network_transmit_errors_total", type: "counter", help: "Errors while sending.", pod: (p) => p.network?.txErrors },
  { name: "container_network_receive_packets_dropped_total", type: "counter", help: "Received packets that were dropped.", pod: (p) => p.network?.rxDropped },
  { name: "container_network_transmit_packets_dropped_total", type: "counter", help: "Packets to send that were dropped.", pod: (p) => p.network?.txDropped },
  { name: "pod_ephemeral_storage_usage_bytes", type: "gauge", help: "Writable layers, logs and volumes of the pod on disk.", pod: (p) => measured(p.storageBytes) },
  { name: "node_cpu_usage_seconds_total", type: "counter", help: "Cumulative CPU time of the machine.", node: (s) => seconds(s.node?.cpu?.totalNs) },
  { name: "node_memory_working_set_bytes", type: "gauge", help: "The machine's memory in use without inactive page cache.", node: (s) => s.node?.memory?.workingSetBytes },
];

/** As the text format asks: backslash, quote and newline. */
const escaped = (value: string): string => value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");

const line = (name: string, labels: Labels, value: number): string => {
  const text = Object.entries(labels).map(([k, v]) => `${k}="${escaped(v)}"`).join(",");
  return `${name}${text === "" ? "" : `{${text}}`} ${value}\n`;
};

/** Those of a pod as a whole have no label `container`, as cAdvisor's have an empty one. */
export const exposition = (sample: StatsSample): string => METRICS.map(({ name, type, help, container, pod, node }) => {
  const lines: string[] = [];
  const add = (labels: Labels, value: number | undefined): void => void (value !== undefined && lines.push(line(name, labels, value)));
  if (node) add({}, node(sample));
  for (const p of sample.pods) {
    const own = { namespace: p.namespace, pod: p.name };
    if (pod) add(own, pod(p));
    if (container) for (const c of p.containers) add({ ...own, container: c.name, image: c.image }, container(c));
  }
  return lines.length === 0 ? "" : `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines.join("")}`;
}).join("");
