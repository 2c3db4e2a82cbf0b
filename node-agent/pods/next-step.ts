// What a pod's worker is to do next: one step, decided from what is wanted and what is known. Pure; the table of the whole life cycle.
// Order of decisions: stop what is to stop; then what users ask of the containers (stopped, restarted: docs/design/pods.md); then sandbox,
// volumes; init containers one after the other; then all others.
import { maxRestarts } from "../../base/kube/pod-extras.ts";
import type { Container } from "../../proto/gen/gantry/v1/agent.ts";
import type { Assignment } from "./assignment.ts";
import { allContainers, isSidecar, type ContainerRecord, type PodRecord, type PodStop } from "./pod-record.ts";
import { resizeAtMs } from "./resize.ts";
import { FORGIVEN_AFTER_MS, restartDelayMs } from "./restart-delay.ts";

export type Step =
  | { readonly kind: "pull" | "create" | "load" | "start" | "collect" | "restart" | "pause"; readonly container: Container }
  | { readonly kind: "sandbox" | "volumes" | "resize" | "release" | "finish" }
  /** Ask to end (preStop hook, stop signal), and be done by then. All of these at once. */
  | { readonly kind: "signal"; readonly containers: readonly Container[]; readonly deadlineMs: number }
  | { readonly kind: "kill" | "unpause"; readonly containers: readonly Container[] }
  /** A stop or restart by request begins; it is over; all that ended is to run anew; a pod that ended is to run again. */
  | { readonly kind: "halt" | "halted" | "rerun" | "revive" }
  | { readonly kind: "stop"; readonly stop: PodStop; readonly verdict?: NonNullable<PodRecord["verdict"]> }
  /** Nothing to do before an event or `untilMs`. */
  | { readonly kind: "wait"; readonly untilMs?: number };

/** After this long ErrImagePull becomes ImagePullBackOff. */
export const SHOW_BACKOFF_AFTER_MS = 1000;

/** What the world wants beyond the assignment. */
export interface Situation {
  readonly nowMs: number;
  /** No assignment names this pod any more: nothing is to be left of it, at once. */
  readonly unassigned: boolean;
}

const waitUntil = (...times: readonly (number | undefined)[]): Step => {
  const known = times.filter((t) => t !== undefined);
  return known.length > 0 ? { kind: "wait", untilMs: Math.min(...known) } : { kind: "wait" };
};

const exitedWell = (record: ContainerRecord): boolean => record.phase === "ended" && record.end?.exitCode === 0;

export const restartPolicyOf = (assignment: Assignment, container: Container): string => {
  if (assignment.ephemeralContainers.includes(container)) return "Never";
  if (!assignment.initContainers.includes(container)) return assignment.restartPolicy;
  // An init container that succeeded is done, whatever the policy.
  return isSidecar(container) ? "Always" : assignment.restartPolicy === "Never" ? "Never" : "OnFailure";
};

/** What ended by request only waits for the next request. */
const isToRestart = (assignment: Assignment, container: Container, record: ContainerRecord): boolean => {
  const policy = restartPolicyOf(assignment, container);
  if (record.end?.byRequest === true || policy === "Always") return true;
  const most = maxRestarts(assignment.annotations);
  return policy === "OnFailure" && !exitedWell(record) && (most === 0 || record.attempt < most);
};

/** Instant of the next restart of a container that ended; undefined: it is not to be restarted. */
export const restartAtMs = (assignment: Assignment, container: Container, record: ContainerRecord): number | undefined => {
  if (record.phase === "ended" && record.end && record.restarting) return record.end.finishedAtMs;
  if (record.phase !== "ended" || !record.end || !isToRestart(assignment, container, record)) return undefined;
  return record.end.finishedAtMs + restartDelayMs(crashesAfter(record));
};

/** Of a container whose instance ended: the next one is there (true), none will come of itself (false), or it is on its way (undefined). */
export const runsAgain = (assignment: Assignment, record: PodRecord, container: Container): boolean | undefined => {
  const own = record.containers[container.name];
  if (own?.phase === "running" || own?.phase === "created") return true;
  if (!own || record.gone || record.released || record.stop !== undefined || assignment.desiredState === "stopped") return false;
  return own.phase === "ended" && restartAtMs(assignment, container, own) === undefined ? false : undefined;
};

/** Ends in a row, the present one counted. */
export const crashesAfter = (record: ContainerRecord): number => {
  if (record.end?.byRequest) return 0;
  if (record.restarting) return record.crashes;
  const lasted = record.end && record.end.startedAtMs > 0 && record.end.finishedAtMs - record.end.startedAtMs >= FORGIVEN_AFTER_MS;
  return lasted ? 1 : record.crashes + 1;
};

/** Every init container has done its part: ended well, or, as a sidecar, started. */
export const isInitialized = (assignment: Assignment, record: PodRecord): boolean =>
  assignment.initContainers.every((c) => {
    const own = record.containers[c.name];
    return own !== undefined && (isSidecar(c) ? own.phase === "running" && own.started : exitedWell(own));
  });

/** How the pod ended; undefined while it goes on. */
export const outcome = (assignment: Assignment, record: PodRecord): "Succeeded" | "Failed" | undefined => {
  if (record.verdict) return "Failed";
  const done = (c: Container): boolean => {
    const own = record.containers[c.name]!;
    return own.phase === "ended" && own.restarting !== true && !isToRestart(assignment, c, own);
  };
  if (assignment.initContainers.some((c) => !isSidecar(c) && done(c) && !exitedWell(record.containers[c.name]!))) return "Failed";
  if (assignment.containers.length === 0 || !assignment.containers.every(done)) return undefined;
  return assignment.containers.every((c) => exitedWell(record.containers[c.name]!)) ? "Succeeded" : "Failed";
};

/** Time that a staged pod waited for its instant is not time that it was active. */
const deadlineOf = (assignment: Assignment, record: PodRecord): number => Math.max(record.startTimeMs, assignment.startAtMs) + assignment.activeDeadlineMs;

/** Why and until when the pod is to stop; undefined: it is not. */
const wantedStop = (assignment: Assignment, record: PodRecord, { nowMs, unassigned }: Situation): Extract<Step, { kind: "stop" }> | undefined => {
  if (unassigned) return { kind: "stop", stop: { reason: "unassigned", deadlineMs: 0 } };
  // The grace period counts from when this node heard of it: clocks differ, and a node that was away still stops its pods gently.
  if (assignment.deletion) return { kind: "stop", stop: { reason: "deleted", deadlineMs: nowMs + assignment.deletion.graceMs } };
  if (assignment.activeDeadlineMs > 0 && nowMs >= deadlineOf(assignment, record) && outcome(assignment, record) === undefined) {
    return {
      kind: "stop", stop: { reason: "failed", deadlineMs: nowMs + assignment.terminationGraceMs },
      verdict: { reason: "DeadlineExceeded", message: `Pod was active on the node longer than the specified deadline (${Math.round(assignment.activeDeadlineMs / 1000)} s)` },
    };
  }
  if (outcome(assignment, record) !== undefined) return { kind: "stop", stop: { reason: record.verdict ? "failed" : "finished", deadlineMs: nowMs + assignment.terminationGraceMs } };
  return undefined;
};

/** A later reason replaces an earlier one where it goes further; a shorter grace replaces a longer one (`kubectl delete --now`). */
const FORCE: Readonly<Record<PodStop["reason"], number>> = { finished: 0, failed: 1, deleted: 2, unassigned: 3 };

const goesFurther = (wanted: PodStop, present: PodStop | undefined, assignment: Assignment, nowMs: number): boolean =>
  !present || FORCE[wanted.reason] > FORCE[present.reason]
  || (wanted.reason === "deleted" && present.reason === "deleted" && assignment.deletion?.graceMs === 0 && present.deadlineMs > nowMs);

/** SIGKILL is sent again if a process is still there. */
const KILL_AGAIN_MS = 10_000;

const killAtMs = (deadlineMs: number, killedAtMs: number | undefined): number => (killedAtMs === undefined ? deadlineMs : Math.max(deadlineMs, killedAtMs + KILL_AGAIN_MS));

/** The next step towards the end of what runs; undefined when nothing does. */
const endStep = (assignment: Assignment, record: PodRecord, deadlineMs: number, nowMs: number): Step | undefined => {
  const running = allContainers(assignment).filter((c) => record.containers[c.name]?.phase === "running");
  if (running.length === 0) return undefined;
  // What is frozen hears no signal.
  const frozen = running.filter((c) => record.containers[c.name]!.paused);
  if (frozen.length > 0) return { kind: "unpause", containers: frozen };
  if (nowMs >= deadlineMs) return { kind: "kill", containers: running };
  // Sidecars serve the others to the last, and end in the reverse order of their start.
  const served = running.filter((c) => !(isSidecar(c) && assignment.initContainers.includes(c)));
  const unasked = (served.length > 0 ? served : running.slice(-1)).filter((c) => !record.containers[c.name]!.signalled);
  return unasked.length > 0 ? { kind: "signal", containers: unasked, deadlineMs } : waitUntil(deadlineMs);
};

/** A request for a restart that was not carried out yet. One beside "stopped" waits until that is taken back. */
const isToRerun = (assignment: Assignment, record: PodRecord): boolean =>
  assignment.restartRequest !== "" && assignment.restartRequest !== record.restartRequest && assignment.desiredState !== "stopped";

/** What a user's stop or restart needs now; undefined: nobody asks for one, or it is over. */
const haltStep = (assignment: Assignment, record: PodRecord, nowMs: number): Step | undefined => {
  const reruns = isToRerun(assignment, record);
  if (assignment.desiredState === "stopped" || reruns) {
    const { halt } = record;
    const begunMs = halt?.sinceMs ?? nowMs;
    const step = endStep(assignment, record, killAtMs(begunMs + (assignment.stopGraceMs ?? assignment.terminationGraceMs), halt?.killedAtMs), nowMs);
    if (step) return halt ? step : { kind: "halt" };
    const left = allContainers(assignment).find((c) => record.containers[c.name]!.phase === "ended" && !record.containers[c.name]!.collected);
    if (left) return { kind: "collect", container: left };
    if (reruns) return { kind: "rerun" };
  }
  return record.halt ? { kind: "halted" } : undefined;
};

const stopStep = (assignment: Assignment, record: PodRecord, stop: PodStop, nowMs: number): Step => {
  const step = endStep(assignment, record, killAtMs(stop.deadlineMs, stop.killedAtMs), nowMs);
  if (step) return step;
  if (!record.released) return record.failure && nowMs < record.failure.retryAtMs ? waitUntil(record.failure.retryAtMs) : { kind: "release" };
  return stop.reason === "unassigned" || (stop.reason === "deleted" && !record.gone) ? { kind: "finish" } : { kind: "wait" };
};

/** What this container needs now; "fine" when it runs or has done its part. */
const containerStep = (assignment: Assignment, container: Container, record: PodRecord, nowMs: number): Step | "fine" => {
  const own = record.containers[container.name]!;
  switch (own.phase) {
    case "running": {
      const isToPause = assignment.desiredState === "paused";
      if (isToPause === (own.paused ?? false)) return "fine";
      return isToPause ? { kind: "pause", container } : { kind: "unpause", containers: [container] };
    }
    case "created":
      if (assignment.desiredState === "created") return { kind: "wait" };
      if (assignment.startAtMs <= nowMs) return { kind: "start", container };
      return own.loaded ? waitUntil(assignment.startAtMs) : { kind: "load", container };
    case "ended": {
      if (!own.collected) return { kind: "collect", container };
      const atMs = restartAtMs(assignment, container, own);
      if (atMs === undefined) return "fine";
      return nowMs >= atMs ? { kind: "restart", container } : waitUntil(atMs);
    }
    case "none": {
      if (assignment.unresolved[container.name]) return { kind: "wait" };
      const { failure } = own;
      if (failure) {
        if (failure.retryAtMs === 0) return { kind: "wait" };
        // The first look after a second is for the status: ErrImagePull has become ImagePullBackOff.
        if (nowMs < failure.retryAtMs) return waitUntil(failure.retryAtMs, failure.reason === "ErrImagePull" && nowMs < failure.atMs + SHOW_BACKOFF_AFTER_MS ? failure.atMs + SHOW_BACKOFF_AFTER_MS : undefined);
      }
      if (own.imageId === "") return { kind: "pull", container };
      if (!record.sandbox) return { kind: "sandbox" };
      if (record.volumesGeneration < 0) return { kind: "volumes" };
      return { kind: "create", container };
    }
  }
};

export const nextStep = (assignment: Assignment, record: PodRecord, situation: Situation): Step => {
  const { nowMs } = situation;
  const wanted = wantedStop(assignment, record, situation);
  if (wanted && goesFurther(wanted.stop, record.stop, assignment, nowMs)) return wanted;
  if (record.stop?.reason === "finished" && record.released && isToRerun(assignment, record)) return { kind: "revive" };
  if (record.stop) return stopStep(assignment, record, record.stop, nowMs);

  const halt = haltStep(assignment, record, nowMs);
  if (halt) return halt;
  const deadlineMs = assignment.activeDeadlineMs > 0 ? deadlineOf(assignment, record) : undefined;
  if (assignment.desiredState === "stopped") return waitUntil(deadlineMs);
  if (assignment.unresolved[""] !== undefined && assignment.unresolved[""] !== "") return waitUntil(deadlineMs);
  if (record.failure && nowMs < record.failure.retryAtMs) return waitUntil(record.failure.retryAtMs, deadlineMs);
  // Files of a changed ConfigMap or Secret are brought up to date in place.
  if (record.sandbox && record.volumesGeneration >= 0 && record.volumesGeneration < assignment.generation) return { kind: "volumes" };

  const resizeMs = record.sandbox ? resizeAtMs(assignment, record) : undefined;
  if (resizeMs !== undefined && nowMs >= resizeMs) return { kind: "resize" };

  const waits: (number | undefined)[] = [deadlineMs, resizeMs];
  const look = (container: Container): Step | undefined => {
    const step = containerStep(assignment, container, record, nowMs);
    if (step === "fine") return undefined;
    if (step.kind !== "wait") return step;
    waits.push(step.untilMs);
    return undefined;
  };
  // Also while an init container hangs: to see why is what they are for.
  if (record.sandbox) for (const container of assignment.ephemeralContainers) {
    const step = look(container);
    if (step) return step;
  }
  for (const container of assignment.initContainers) {
    const step = look(container);
    if (step) return step;
    const own = record.containers[container.name]!;
    // The next one comes when this one has done its part; a sidecar that ended later is restarted without holding up the rest.
    const passed = isSidecar(container) ? own.started || own.attempt > 0 : exitedWell(own);
    if (!passed) return waitUntil(...waits);
  }
  for (const container of assignment.containers) {
    const step = look(container);
    if (step) return step;
  }
  return waitUntil(...waits);
};
