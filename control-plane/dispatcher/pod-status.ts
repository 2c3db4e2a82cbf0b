// From an agent's report to the status of the pod's object. Pure. Conditions follow
// https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-conditions
import { isDeepStrictEqual } from "node:util";
import { DISRUPTION_TARGET } from "../../base/kube/disruption.ts";
import { LIMITS_DISCARDED } from "../../base/kube/pod-extras.ts";
import { LATE_MS, STARTED_AT, startAtMs, startedAfterText } from "../../base/kube/staging.ts";
import type { ContainerState as KubeState, ContainerStatus as KubeContainerStatus, Pod, PodCondition, PodStatus as KubePodStatus } from "../../base/kube/types.gen.ts";
import { formatBytes, formatMilliCpu } from "../../base/kube/quantity.ts";
import type { ContainerState, ContainerStatus, PodStatus, Resources } from "../../proto/gen/gantry/v1/agent.ts";
import { qosClassOf } from "../../base/kube/qos-class.ts";

/** RFC 3339 in whole seconds, as metav1.Time is; 0 is "not known". */
export const toTime = (ms: number): string | undefined => (ms === 0 ? undefined : `${new Date(ms).toISOString().slice(0, 19)}Z`);

const text = (value: string): string | undefined => (value === "" ? undefined : value);

/** JSON drops undefined fields, and so must comparisons with what was stored. */
const compact = <T extends object>(object: T): T => Object.fromEntries(Object.entries(object).filter(([, v]) => v !== undefined)) as T;

const toState = (state: ContainerState | undefined): KubeState | undefined => {
  switch (state?.state?.$case) {
    case "waiting": return { waiting: compact({ reason: text(state.state.value.reason), message: text(state.state.value.message) }) };
    case "running": return { running: compact({ startedAt: toTime(state.state.value.startedAtMs) }) };
    case "terminated": {
      const v = state.state.value;
      return { terminated: compact({
        exitCode: v.exitCode, signal: v.signal === 0 ? undefined : v.signal, reason: text(v.reason), message: text(v.message),
        startedAt: toTime(v.startedAtMs), finishedAt: toTime(v.finishedAtMs), containerID: text(v.containerId),
      }) };
    }
    case undefined: return undefined;
  }
};

const toAmounts = (r: Resources | undefined): Record<string, string> | undefined => {
  const amounts = {
    ...(r && r.milliCpu > 0 ? { cpu: formatMilliCpu(r.milliCpu) } : {}), ...(r && r.memoryBytes > 0 ? { memory: formatBytes(r.memoryBytes) } : {}),
    ...(r && r.ephemeralStorageBytes > 0 ? { "ephemeral-storage": formatBytes(r.ephemeralStorageBytes) } : {}),
  };
  return Object.keys(amounts).length > 0 ? amounts : undefined;
};

const toActual = (report: ContainerStatus): KubeContainerStatus["resources"] => {
  const [requests, limits] = [toAmounts(report.actualRequests), toAmounts(report.actualLimits)];
  return requests || limits ? compact({ requests, limits }) : undefined;
};

const toContainerStatus = (report: ContainerStatus): KubeContainerStatus => compact({
  name: report.name, state: toState(report.state), lastState: toState(report.lastState) ?? {}, ready: report.ready, restartCount: report.restartCount,
  image: report.image, imageID: report.imageId, containerID: text(report.containerId), started: report.started,
  allocatedResources: toAmounts(report.allocated), resources: toActual(report),
});

/** Conditions that the node sets and takes away again. */
const RESIZE_CONDITIONS: ReadonlySet<string> = new Set(["PodResizePending", "PodResizeInProgress"]);

type NewCondition = Pick<PodCondition, "type" | "status" | "reason" | "message">;

const isTrue = (conditions: readonly PodCondition[], type: string): boolean => conditions.some((c) => c.type === type && c.status === "True");

const resizeCondition = ({ resize }: PodStatus): readonly NewCondition[] => {
  if (!resize) return [];
  const { state, message } = resize;
  if (state !== "InProgress") return [{ type: "PodResizePending", status: "True", reason: state, message: text(message) }];
  return [{ type: "PodResizeInProgress", status: "True", reason: message === "" ? undefined : "Error", message: text(message) }];
};

const discardedCondition = ({ discarded }: PodStatus): readonly NewCondition[] =>
  (discarded.length === 0 ? [] : [{ type: LIMITS_DISCARDED, status: "True", reason: "NotSupported", message: discarded.join(" ") }]);

const reportedConditions = (report: PodStatus, pod: Pod): readonly NewCondition[] => {
  const ended = report.phase === "Succeeded" || report.phase === "Failed";
  const unready = report.containers.filter((c) => !c.ready).map((c) => c.name);
  const known = report.containers.length > 0 || pod.spec?.containers.length === 0;
  const gates = (pod.spec?.readinessGates ?? []).map((g) => g.conditionType).filter((type) => !isTrue(pod.status?.conditions ?? [], type));
  const notReady = ((): Pick<NewCondition, "reason" | "message"> | undefined => {
    if (ended) return { reason: report.phase === "Succeeded" ? "PodCompleted" : "PodFailed" };
    if (!known) return { reason: "ContainersNotReady", message: "containers with unknown status" };
    return unready.length > 0 ? { reason: "ContainersNotReady", message: `containers with unready status: [${unready.join(" ")}]` } : undefined;
  })();
  const gated = gates.length > 0 ? { reason: "ReadinessGatesNotReady", message: gates.map((g) => `corresponding condition of pod readiness gate "${g}" does not exist or is not True.`).join(", ") } : undefined;
  // A sidecar has done its part of the initialization once it has started.
  const sidecars = new Set(pod.spec?.initContainers?.filter((c) => c.restartPolicy === "Always").map((c) => c.name));
  const isDone = ({ name, started, state }: ContainerStatus): boolean => (sidecars.has(name) ? started : state?.state?.$case === "terminated" && state.state.value.exitCode === 0);
  const incomplete = report.initContainers.filter((c) => !isDone(c)).map((c) => c.name);
  const condition = (type: string, fault: Pick<NewCondition, "reason" | "message"> | undefined): NewCondition => ({ type, status: fault ? "False" : "True", ...fault });
  return [
    condition("Initialized", report.initialized || report.phase === "Succeeded" ? undefined : { reason: "ContainersNotInitialized", message: `containers with incomplete status: [${incomplete.join(" ")}]` }),
    condition("Ready", notReady ?? gated),
    condition("ContainersReady", notReady),
    condition("PodScheduled", undefined),
    ...onTime(report, pod),
    ...resizeCondition(report), ...discardedCondition(report),
    // What jobs count as a disruption and not as a failure of theirs.
    ...(report.reason === "Evicted" ? [{ type: DISRUPTION_TARGET, status: "True", reason: "TerminationByKubelet", message: report.message }] : []),
  ];
};

/** To the ms, which a container's startedAt doesn't have. */
const onTime = (report: PodStatus, pod: Pod): readonly NewCondition[] => {
  const dueMs = startAtMs(pod);
  const startedMs = report.stagesMs["started"];
  if (dueMs === 0 || startedMs === undefined) return [];
  const afterMs = Math.round(startedMs - dueMs);
  return [{ type: STARTED_AT, status: afterMs <= LATE_MS ? "True" : "False", reason: afterMs <= LATE_MS ? "OnTime" : "Late", message: startedAfterText(afterMs, dueMs) }];
};

/** Keeps conditions of others (readiness gates, the scheduler's), and the time of those whose status didn't change. */
const mergeConditions = (current: readonly PodCondition[], reported: readonly NewCondition[], now: string): PodCondition[] => {
  const before = new Map(current.map((c) => [c.type, c]));
  const merged = reported.map((next): PodCondition => {
    const old = before.get(next.type);
    before.delete(next.type);
    return compact({ type: next.type, status: next.status, reason: next.reason, message: next.message, lastTransitionTime: old?.status === next.status ? (old.lastTransitionTime ?? now) : now });
  });
  return [...merged, ...[...before.values()].filter((c) => !RESIZE_CONDITIONS.has(c.type))];
};

/** Returns the pod's own status when nothing changed, so that nothing is written. */
export const toPodStatus = (report: PodStatus, pod: Pod, nowMs: number): KubePodStatus => {
  const current = pod.status ?? {};
  const ips = report.podIps.map((ip) => ({ ip }));
  const next: KubePodStatus = compact({
    ...current,
    phase: report.phase,
    conditions: mergeConditions(current.conditions ?? [], reportedConditions(report, pod), toTime(nowMs)!),
    reason: text(report.reason) ?? (report.staged ? "Staged" : undefined), message: text(report.message),
    hostIP: text(report.hostIp), hostIPs: report.hostIp === "" ? undefined : [{ ip: report.hostIp }],
    podIP: ips[0]?.ip, podIPs: ips.length > 0 ? ips : undefined,
    startTime: toTime(report.startTimeMs) ?? current.startTime,
    initContainerStatuses: report.initContainers.length > 0 ? report.initContainers.map(toContainerStatus) : undefined,
    containerStatuses: report.containers.length > 0 ? report.containers.map(toContainerStatus) : undefined,
    ephemeralContainerStatuses: report.ephemeralContainers.length > 0 ? report.ephemeralContainers.map(toContainerStatus) : undefined,
    qosClass: current.qosClass ?? (pod.spec && qosClassOf(pod.spec)),
    nominatedNodeName: undefined,
    observedGeneration: pod.metadata.generation,
  });
  return isDeepStrictEqual(next, current) ? current : next;
};
