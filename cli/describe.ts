// `describe`: an object for reading: who it is, what matters of its kind, then its events. What kubectl's users look for is where they look
// for it. Pure text building.
import { controllerOf } from "../base/kube/meta.ts";
import type { KubeObject } from "../base/kube/resources.ts";
import type { ConfigMap, CronJob, DaemonSet, Deployment, Event, Job, Node, Pod, ReplicaSet, ReplicationController, Secret, StatefulSet } from "../base/kube/types.gen.ts";
import { nodeLines } from "./describe/node.ts";
import { podLines } from "./describe/pod.ts";
import { age, field, indentedLines, mapLines, table } from "./describe/text.ts";
import { cronJobLines, daemonSetLines, deploymentLines, jobLines, replicaSetLines, replicationControllerLines, statefulSetLines } from "./describe/workload.ts";

export interface Surroundings {
  readonly events: readonly Event[];
  /** Of a node: the pods on it. */
  readonly pods: readonly Pod[];
  readonly nowMs: number;
}

const LINES_OF_KIND: Readonly<Record<string, (object: never, around: Surroundings) => string[]>> = {
  Pod: (pod: Pod) => podLines(pod),
  Node: (node: Node, { pods }) => nodeLines(node, pods),
  Deployment: (d: Deployment) => deploymentLines(d),
  ReplicaSet: (rs: ReplicaSet) => replicaSetLines(rs),
  ReplicationController: (rc: ReplicationController) => replicationControllerLines(rc),
  DaemonSet: (ds: DaemonSet) => daemonSetLines(ds),
  StatefulSet: (set: StatefulSet) => statefulSetLines(set),
  Job: (job: Job, { nowMs }) => jobLines(job, nowMs),
  CronJob: (cronJob: CronJob) => cronJobLines(cronJob),
  ConfigMap: (c: ConfigMap) => [
    "Data:", ...Object.entries(c.data ?? {}).flatMap(([k, v]) => (v.includes("\n") ? [`  ${k}:`, ...v.trimEnd().split("\n").map((line) => `    ${line}`)] : [`  ${k}: ${v}`])),
    ...Object.entries(c.binaryData ?? {}).map(([k, v]) => `  ${k}: ${byteCount(v)}`),
  ],
  // As kubectl: sizes instead of values.
  Secret: (s: Secret) => [field("Type", s.type), "Data:", ...Object.entries(s.data ?? {}).map(([k, v]) => `  ${k}: ${byteCount(v)}`)],
};

const byteCount = (base64: string): string => `${Buffer.from(base64, "base64").length} bytes`;

export const eventLines = (events: readonly Event[], nowMs: number): string[] => {
  if (events.length === 0) return [field("Events", undefined)];
  const when = (e: Event): string => e.lastTimestamp ?? e.eventTime ?? e.metadata.creationTimestamp ?? "";
  const rows = [...events].sort((a, b) => Date.parse(when(a)) - Date.parse(when(b))).map((e) => {
    const times = (e.count ?? 1) > 1 ? ` (x${e.count!} over ${age(e.firstTimestamp, nowMs)})` : "";
    return [e.type ?? "", e.reason ?? "", age(when(e), nowMs) + times, e.source?.component ?? e.reportingComponent ?? "", e.message?.trim() ?? ""];
  });
  return ["Events:", ...table(["Type", "Reason", "Age", "From", "Message"], rows)];
};

export const describeObject = (object: KubeObject, around: Surroundings): string => {
  const { apiVersion, kind, metadata, ...rest } = object;
  const controller = controllerOf(object);
  const special = LINES_OF_KIND[kind] as ((object: KubeObject, around: Surroundings) => string[]) | undefined;
  return [
    field("Name", metadata.name), ...(metadata.namespace ? [field("Namespace", metadata.namespace)] : []), ...mapLines("Labels", metadata.labels), ...mapLines("Annotations", metadata.annotations),
    ...(special ? [] : [field("API Version", apiVersion), field("Kind", kind)]), field("Created", metadata.creationTimestamp),
    ...(controller ? [field("Controlled By", `${controller.kind}/${controller.name}`)] : []),
    ...(metadata.deletionTimestamp ? [field("Deleting", `since ${metadata.deletionTimestamp}${metadata.finalizers?.length ? `; waits for ${metadata.finalizers.join(", ")}` : ""}`)] : []),
    ...(special?.(object, around) ?? indentedLines(rest)), ...eventLines(around.events, around.nowMs),
  ].join("\n");
};
