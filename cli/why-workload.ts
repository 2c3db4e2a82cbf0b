// `gantry why deploy|statefulset|daemonset|job|... NAME`: one screen that says what of a workload is not as it should be, and what holds
// it up: which container, probe, image, quota or node check. Pods in the same trouble stand together. Pure.
import { isReady } from "../base/kube/pod-state.ts";
import type { KubeObject } from "../base/kube/resources.ts";
import type { DaemonSet, Deployment, Event, HorizontalPodAutoscaler, Job, Pod, ReplicaSet, StatefulSet } from "../base/kube/types.gen.ts";
import type { Explanation } from "../control-plane/state/explain.ts";
import { age } from "./describe/text.ts";

export interface WorkloadView {
  readonly object: KubeObject;
  /** All that it owns, through its ReplicaSets where it has some. */
  readonly pods: readonly Pod[];
  readonly replicaSets: readonly ReplicaSet[];
  /** Of the namespace. */
  readonly events: readonly Event[];
  /** Of pods that have no node, by name: one of each kind of trouble is enough. */
  readonly explanations: ReadonlyMap<string, Explanation>;
  /** Names of nodes, for daemon sets. */
  readonly nodes: readonly string[];
  /** Those that decide on its size. */
  readonly autoscalers: readonly HorizontalPodAutoscaler[];
  readonly nowMs: number;
}

const MAX_NAMES = 3;
const MAX_GROUPS = 8;

const listed = (names: readonly string[]): string => (names.length <= MAX_NAMES ? names.join(", ") : `${names.slice(0, MAX_NAMES - 1).join(", ")} and ${names.length - MAX_NAMES + 1} more`);
const plural = (count: number, what: string): string => `${count} ${what}${count === 1 ? "" : "s"}`;
const lastSeen = (event: Event): number => Date.parse(event.lastTimestamp ?? event.eventTime ?? event.metadata.creationTimestamp ?? "") || 0;

/** The newest event of that reason about the object. */
const newest = (events: readonly Event[], uid: string | undefined, reasons: readonly string[]): Event | undefined =>
  events.filter((e) => e.involvedObject.uid === uid && reasons.includes(e.reason ?? "")).sort((a, b) => lastSeen(b) - lastSeen(a))[0];

/** Which probe it is that has not succeeded. */
const failingProbe = ({ spec }: Pod, container: string, startup: boolean): string => {
  const { startupProbe, readinessProbe } = spec?.containers.find((c) => c.name === container) ?? {};
  const [kind, probe] = startup ? ["startup", startupProbe] as const : ["readiness", readinessProbe] as const;
  if (!probe) return "its status has not been told yet";
  const { exec, httpGet, tcpSocket, grpc } = probe;
  const what = exec ? `runs ${(exec.command ?? []).join(" ")}` : httpGet ? `asks ${httpGet.scheme ?? "HTTP"} port ${httpGet.port} for ${httpGet.path ?? "/"}` : tcpSocket ? `connects to port ${tcpSocket.port}` : `asks gRPC port ${grpc?.port ?? "?"}`;
  return `its ${kind} probe, which ${what} every ${probe.periodSeconds ?? 10} s, does not succeed`;
};

/** What is wrong with a pod, in words that pods in the same trouble share; undefined when nothing is. */
export const troubleOf = (pod: Pod, events: readonly Event[], nowMs: number): string | undefined => {
  const { metadata, spec, status } = pod;
  if (metadata.deletionTimestamp !== undefined) {
    const waits = metadata.finalizers?.length ? `, waits for ${metadata.finalizers.join(", ")}` : Date.parse(metadata.deletionTimestamp) < nowMs ? ", past its grace period: does its node answer?" : "";
    return `is being deleted${waits}`;
  }
  if (status?.phase === "Succeeded") return undefined;
  const all = [...(status?.initContainerStatuses ?? []).map((c) => ["init container", c] as const), ...(status?.containerStatuses ?? []).map((c) => ["container", c] as const)];
  if (status?.phase === "Failed") {
    const ended = all.find(([, c]) => (c.state?.terminated?.exitCode ?? 0) !== 0);
    const exit = ended ? `: ${ended[0]} ${ended[1].name} ended with ${ended[1].state!.terminated!.exitCode}${ended[1].state!.terminated!.reason ? ` (${ended[1].state!.terminated!.reason})` : ""}` : "";
    return `failed${status.reason ? ` (${status.reason}${status.message ? `: ${status.message}` : ""})` : exit}`;
  }
  if (!spec?.nodeName) return "has no node";
  const ready = status?.conditions?.find((c) => c.type === "Ready");
  if (ready?.reason === "NodeUnreachable") return `is on node ${spec.nodeName}, which does not answer`;
  for (const [what, c] of all) {
    const { waiting, terminated } = c.state ?? {};
    const last = c.lastState?.terminated;
    const before = last ? `; it ended with ${last.exitCode}${last.reason ? ` (${last.reason})` : ""}, restarted ${c.restartCount} times` : "";
    if (waiting && waiting.reason !== "PodInitializing") return `${what} ${c.name} waits: ${waiting.reason ?? "not created yet"}${waiting.message ? `: ${waiting.message}` : ""}${before}`;
    if (terminated && what === "init container" && terminated.exitCode !== 0) return `${what} ${c.name} ended with ${terminated.exitCode}${terminated.reason ? ` (${terminated.reason})` : ""}, restarted ${c.restartCount} times`;
  }
  if (isReady(pod)) return undefined;
  const unready = all.find(([what, c]) => (what === "container" ? !c.ready : c.state?.running));
  const probe = newest(events, metadata.uid, ["Unhealthy", "ProbeWarning"]);
  if (unready?.[0] === "init container") return `init container ${unready[1].name} still runs`;
  if (unready) {
    const started = unready[1].started === false ? "has not started up yet" : "runs, but is not ready";
    return `container ${unready[1].name} ${started}: ${probe?.message?.trim() ?? failingProbe(pod, unready[1].name, unready[1].started === false)}`;
  }
  const failure = newest(events, metadata.uid, ["Failed", "FailedMount", "FailedCreatePodSandBox", "NetworkFailed"]);
  return failure ? `does not start: ${failure.message?.trim() ?? ""}` : ready?.message ? `is not ready: ${ready.message}` : "is being started";
};

const headline = ({ object, pods }: WorkloadView): string => {
  const name = `${object.kind} ${object.metadata.namespace ?? ""}/${object.metadata.name ?? ""}`;
  switch (object.kind) {
    case "Deployment": {
      const { spec, status } = object as Deployment;
      return `${name}: ${status?.readyReplicas ?? 0} of ${spec?.replicas ?? 1} ready, ${status?.updatedReplicas ?? 0} of the newest template, ${status?.availableReplicas ?? 0} available`;
    }
    case "StatefulSet": {
      const { spec, status } = object as StatefulSet;
      return `${name}: ${status?.readyReplicas ?? 0} of ${spec?.replicas ?? 1} ready, ${status?.updatedReplicas ?? 0} of the newest template`;
    }
    case "DaemonSet": {
      const { status } = object as DaemonSet;
      return `${name}: ready on ${status?.numberReady ?? 0} of ${plural(status?.desiredNumberScheduled ?? 0, "node")}, ${status?.updatedNumberScheduled ?? 0} of the newest template`;
    }
    case "Job": {
      const { spec, status } = object as Job;
      return `${name}: ${status?.succeeded ?? 0} of ${spec?.completions ?? "any number of"} completions, ${status?.active ?? 0} active, ${status?.failed ?? 0} failed`;
    }
    default: return `${name}: ${pods.filter(isReady).length} of ${(object as ReplicaSet).spec?.replicas ?? 1} ready`;
  }
};

interface Condition { readonly type: string; readonly status: string; readonly reason?: string | undefined; readonly message?: string | undefined }

/** What the workload itself says, and what its controller waits for. */
const ownLines = ({ object, pods, replicaSets, events, nowMs }: WorkloadView): string[] => {
  const conditions = (object as { status?: { conditions?: readonly Condition[] } }).status?.conditions ?? [];
  const lines = conditions.filter((c) => (c.type === "Progressing" || c.type === "Available" ? c.status === "False" : ["ReplicaFailure", "Failed", "FailureTarget", "Suspended"].includes(c.type) && c.status === "True"))
    .filter((c, _, kept) => c.type !== "FailureTarget" || !kept.some((other) => other.type === "Failed"))
    .map((c) => `${c.reason ?? c.type}: ${c.message ?? ""}`);
  if (object.kind === "Deployment" && (object as Deployment).spec?.paused) lines.push("Paused: changes of the template wait for `kubectl rollout resume`");
  if (object.metadata.deletionTimestamp !== undefined) lines.push(`Is being deleted${object.metadata.finalizers?.length ? `; waits for ${object.metadata.finalizers.join(", ")}` : ""}`);
  for (const owner of [object, ...replicaSets]) {
    const refused = newest(events, owner.metadata.uid, ["FailedCreate"]);
    // Older ones say nothing of now: events live for an hour.
    if (refused && nowMs - lastSeen(refused) < 120_000) lines.push(`Pods can't be created: ${refused.message?.trim() ?? ""} (${age(refused.lastTimestamp ?? refused.metadata.creationTimestamp, nowMs)} ago)`);
  }
  if (object.kind === "StatefulSet") lines.push(...orderLines(object, pods));
  return [...new Set(lines)];
};

/** In order, one pod that isn't ready holds up the rest. */
const orderLines = ({ metadata, spec, status }: StatefulSet, pods: readonly Pod[]): string[] => {
  if (spec?.podManagementPolicy === "Parallel") return [];
  const start = spec?.ordinals?.start ?? 0;
  const end = start + (spec?.replicas ?? 1);
  const at = (ordinal: number): Pod | undefined => pods.find((p) => p.metadata.name === `${metadata.name ?? ""}-${ordinal}`);
  const ordinals = Array.from({ length: end - start }, (_, i) => start + i);
  const blocking = ordinals.map(at).find((pod) => pod && (!isReady(pod) || pod.metadata.deletionTimestamp !== undefined));
  if (!blocking) return [];
  const missing = ordinals.filter((ordinal) => !at(ordinal)).length;
  const stuck = status?.updateRevision !== undefined && blocking.metadata.labels?.["controller-revision-hash"] !== status.updateRevision && !isReady(blocking);
  return [
    `${blocking.metadata.name!} has to be ready before ${missing > 0 ? `the ${plural(missing, "pod")} that ${missing === 1 ? "is" : "are"} missing` : "the rest"} can follow (OrderedReady)`,
    ...(stuck ? [`It runs an older template, and in this order nothing replaces it while it isn't ready: delete it (kubectl delete pod ${blocking.metadata.name!}) to go on with the newest`] : []),
  ];
};

/** Who holds the size, and what keeps it from changing it as its metrics ask for. */
const autoscalerLine = ({ metadata, spec, status }: HorizontalPodAutoscaler): string => {
  const troubles = (status?.conditions ?? []).filter((c) => (c.type === "ScalingLimited" ? c.status === "True" : c.status === "False")).map((c) => `${c.reason ?? c.type}: ${c.message ?? ""}`);
  return `HorizontalPodAutoscaler ${metadata.name ?? ""} decides on its size, from ${spec.minReplicas ?? 1} to ${spec.maxReplicas}${troubles.length > 0 ? `; ${troubles.join("; ")}` : ""}`;
};

export const explainWorkload = (view: WorkloadView): string => {
  const { object, pods, events, explanations, nodes, nowMs } = view;
  const groups = new Map<string, Pod[]>();
  for (const pod of pods) {
    const trouble = troubleOf(pod, events, nowMs);
    if (trouble !== undefined) groups.set(trouble, [...(groups.get(trouble) ?? []), pod]);
  }
  const lines = [headline(view), ...ownLines(view)];
  const sorted = [...groups].sort(([, a], [, b]) => b.length - a.length);
  for (const [trouble, inIt] of sorted.slice(0, MAX_GROUPS)) {
    lines.push(`${plural(inIt.length, "pod")} (${listed(inIt.map((p) => p.metadata.name!).sort())}): ${trouble}`);
    const explanation = inIt.map((p) => explanations.get(p.metadata.name!)).find((e) => e !== undefined);
    if (trouble !== "has no node" || !explanation) continue;
    lines.push(`  ${explanation.summary}`);
    for (const group of explanation.groups) for (const failed of group.failed) lines.push(`  ${listed(group.nodes)}: ${failed.check}: ${failed.message}`);
    if (explanation.suggestion) lines.push(`  Smallest change: ${explanation.suggestion}`);
  }
  if (sorted.length > MAX_GROUPS) lines.push(`and ${sorted.length - MAX_GROUPS} more kinds of trouble: kubectl describe pod NAME`);
  if (object.kind === "DaemonSet") {
    const covered = new Set(pods.map((p) => p.spec?.nodeName));
    const without = nodes.filter((n) => !covered.has(n));
    if (without.length > 0) lines.push(`Not on ${plural(without.length, "node")} (${listed(without)}): a node selector, an affinity or a taint keeps it away, or its pod is still to come`);
  }
  if (lines.length === 1) lines.push(pods.length === 0 && object.kind !== "Job" ? "It has no pods and nothing says why: is it scaled to 0?" : "Nothing is wrong with its pods.");
  return [...lines, ...view.autoscalers.map(autoscalerLine)].join("\n");
};
