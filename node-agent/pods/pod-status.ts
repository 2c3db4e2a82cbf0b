// From a worker's record to the status that is reported. Pure. Reasons and messages are upstream's, so that what users have learnt to
// read (`kubectl get pods`, CrashLoopBackOff, ImagePullBackOff) means the same here.
import type { Container, ContainerState, ContainerStatus, PodStatus } from "../../proto/gen/gantry/v1/agent.ts";
import type { CgroupFeatures } from "../cgroups/cgroup-tree.ts";
import { discardedLimits } from "../runtime/block-io.ts";
import type { Assignment } from "./assignment.ts";
import { SHOW_BACKOFF_AFTER_MS, crashesAfter, isInitialized, outcome, restartAtMs } from "./next-step.ts";
import { allContainers, instanceIdOf, type ContainerEnd, type ContainerRecord, type PodRecord } from "./pod-record.ts";
import { restartDelayMs } from "./restart-delay.ts";

export interface StatusContext {
  readonly nowMs: number;
  readonly hostIp: string;
  /** "crun://": in front of container ids. */
  readonly runtimeScheme: string;
  readonly cgroupFeatures: CgroupFeatures;
}

const waiting = (reason: string, message = ""): ContainerState => ({ state: { $case: "waiting", value: { reason, message } } });

const terminated = (end: ContainerEnd, { runtimeScheme }: StatusContext): ContainerState => ({
  state: { $case: "terminated", value: {
    exitCode: end.exitCode, signal: end.signal, reason: end.reason, message: end.message, startedAtMs: end.startedAtMs, finishedAtMs: end.finishedAtMs,
    containerId: `${runtimeScheme}${end.containerId}`,
  } },
});

/** Seconds and minutes as Go prints durations: 10s, 1m20s, 5m0s. */
const goDuration = (ms: number): string => {
  const seconds = Math.round(ms / 1000);
  return seconds < 60 ? `${seconds}s` : `${Math.floor(seconds / 60)}m${seconds % 60}s`;
};

/** Everything that can be made before the instant is: the first init container, or all main ones, wait for their start only. */
const isStaged = (assignment: Assignment, record: PodRecord, nowMs: number): boolean => {
  const first = assignment.initContainers.length > 0 ? assignment.initContainers.slice(0, 1) : assignment.containers;
  return assignment.startAtMs > nowMs && record.stop === undefined && first.every((c) => record.containers[c.name]!.phase === "created");
};

const waitingState = (assignment: Assignment, container: Container, own: ContainerRecord, record: PodRecord, { nowMs }: StatusContext): ContainerState => {
  const unresolved = assignment.unresolved[container.name] || assignment.unresolved[""];
  if (unresolved) return waiting("CreateContainerConfigError", unresolved);
  const { failure } = own;
  if (failure?.reason === "ErrImagePull" && nowMs >= failure.atMs + SHOW_BACKOFF_AFTER_MS) {
    return waiting("ImagePullBackOff", `Back-off pulling image ${JSON.stringify(container.image)}: ${failure.reason}: ${failure.message}`);
  }
  if (failure) return waiting(failure.reason, failure.message);
  if (assignment.ephemeralContainers.includes(container)) return waiting("ContainerCreating", record.failure?.message);
  if (own.phase === "created" && assignment.desiredState === "created") return waiting("Created");
  if (isStaged(assignment, record, nowMs)) return waiting("Staged", `starts at ${new Date(assignment.startAtMs).toISOString()}`);
  const isInit = assignment.initContainers.includes(container);
  if (!isInit && assignment.initContainers.length > 0 && !isInitialized(assignment, record)) return waiting("PodInitializing");
  return waiting(isInit || assignment.initContainers.length === 0 ? "ContainerCreating" : "PodInitializing", record.failure?.message);
};

const stateOf = (assignment: Assignment, container: Container, record: PodRecord, context: StatusContext): ContainerState => {
  const own = record.containers[container.name]!;
  if (own.phase === "running") return { state: { $case: "running", value: { startedAtMs: own.startedAtMs } } };
  if (own.phase === "ended" && own.end) {
    const atMs = record.stop || assignment.desiredState === "stopped" ? undefined : restartAtMs(assignment, container, own);
    const delayMs = restartDelayMs(crashesAfter(own));
    if (atMs === undefined || delayMs === 0) return terminated(own.end, context);
    return waiting("CrashLoopBackOff", `back-off ${goDuration(delayMs)} restarting failed container=${container.name} pod=${assignment.name}_${assignment.namespace}(${assignment.uid})`);
  }
  return waitingState(assignment, container, own, record, context);
};

const containerStatus = (assignment: Assignment, container: Container, record: PodRecord, context: StatusContext): ContainerStatus => {
  const own = record.containers[container.name]!;
  const state = stateOf(assignment, container, record, context);
  // What the state doesn't show any more because it waits for the restart.
  const last = own.phase === "ended" && state.state?.$case === "waiting" ? own.end : own.lastEnd;
  const isInit = assignment.initContainers.includes(container);
  const running = own.phase === "running";
  return {
    name: container.name, image: container.image, imageId: own.imageId, restartCount: own.attempt,
    containerId: own.phase === "none" && own.attempt === 0 ? "" : `${context.runtimeScheme}${instanceIdOf(assignment, container.name, own.phase === "none" ? own.attempt - 1 : own.attempt)}`,
    ready: running ? own.ready && !own.paused : isInit && own.phase === "ended" && own.end?.exitCode === 0,
    started: running && own.started,
    state, lastState: last ? terminated(last, context) : undefined,
    allocated: own.allocated?.requests, actualRequests: running ? own.applied?.requests : undefined, actualLimits: running ? own.applied?.limits : undefined,
  };
};

export const buildStatus = (assignment: Assignment, record: PodRecord, context: StatusContext): PodStatus => {
  const end = outcome(assignment, record);
  // Ended containers of a pod that is being deleted count as its end; killed ones may not have had their say about restarts.
  const stopped = record.stop !== undefined && [...assignment.initContainers, ...assignment.containers].every((c) => record.containers[c.name]?.phase !== "running");
  const initialized = isInitialized(assignment, record);
  const begun = assignment.containers.some((c) => record.containers[c.name]!.phase !== "none" && record.containers[c.name]!.phase !== "created" || record.containers[c.name]!.attempt > 0);
  const wellEnded = assignment.containers.every((c) => record.containers[c.name]!.end?.exitCode === 0);
  const phase = end && allEnded(assignment, record) ? end : stopped && begun && allEnded(assignment, record) ? (wellEnded ? "Succeeded" : "Failed") : begun ? "Running" : "Pending";
  return {
    uid: assignment.uid, namespace: assignment.namespace, name: assignment.name, generation: record.generation,
    phase, ...toldReason(assignment, record, phase),
    podIps: assignment.hostNetwork ? (record.sandbox && context.hostIp !== "" ? [context.hostIp] : []) : record.ip === "" ? [] : [record.ip],
    hostIp: context.hostIp, startTimeMs: record.startTimeMs,
    initContainers: assignment.initContainers.map((c) => containerStatus(assignment, c, record, context)),
    containers: assignment.containers.map((c) => containerStatus(assignment, c, record, context)),
    ephemeralContainers: assignment.ephemeralContainers.map((c) => containerStatus(assignment, c, record, context)),
    gone: record.gone, initialized: initialized || begun,
    staged: isStaged(assignment, record, context.nowMs),
    stagesMs: { ...record.stagesMs }, resize: record.resize && !record.stop ? { state: record.resize.state, message: record.resize.message, generation: record.resize.generation } : undefined,
    discarded: [...discardedLimits(assignment.annotations, context.cgroupFeatures)],
    incidents: [],
  };
};

/** Why the pod is as it is, where its phase doesn't say: shown as its status by `kubectl get pods`. */
const toldReason = (assignment: Assignment, record: PodRecord, phase: string): { readonly reason: string; readonly message: string } => {
  if (record.verdict) return record.verdict;
  const own = [...assignment.initContainers, ...assignment.containers].map((c) => record.containers[c.name]!);
  const isOver = phase === "Succeeded" || phase === "Failed" || record.stop !== undefined;
  if (!isOver && assignment.desiredState === "stopped" && own.every((c) => c.phase !== "running")) return { reason: "Stopped", message: "stopped by request" };
  if (!isOver && assignment.desiredState === "paused") {
    const running = own.filter((c) => c.phase === "running");
    if (running.length > 0 && running.every((c) => c.paused)) return { reason: "Paused", message: "paused by request" };
    if (record.failure) return { reason: "", message: record.failure.message };
  }
  return { reason: "", message: "" };
};

/** No container runs: a phase of Succeeded or Failed says that the pod uses nothing any more. */
const allEnded = (assignment: Assignment, record: PodRecord): boolean =>
  allContainers(assignment).every((c) => record.containers[c.name]?.phase !== "running" && record.containers[c.name]?.phase !== "created");

/** Nothing in it that anybody waits for: the pod is on its way, without a fault. */
export const isMereProgress = (status: PodStatus): boolean =>
  status.phase === "Pending" && !status.staged && !status.gone
  && [...status.initContainers, ...status.containers].every(({ state }) => state?.state?.$case === "waiting" && ["ContainerCreating", "PodInitializing"].includes(state.state.value.reason) && state.state.value.message === "");
