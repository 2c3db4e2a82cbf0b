// start, stop, restart, kill, pause, unpause: says by annotations what a pod's containers are to do, and waits until its node has done it.
import { GantryError } from "../../base/errors.ts";
import { isTerminal } from "../../base/kube/pod-state.ts";
import { Annotation, lifecycleOf } from "../../base/kube/desired-state.ts";
import type { ContainerStatus, Pod } from "../../base/kube/types.gen.ts";
import type { ApiClient } from "../api-client.ts";
import { annotate, statusesOf, watchPod } from "./pods.ts";

export interface StopOptions {
  /** Undefined: the pod's own. */
  readonly graceSeconds: number | undefined;
  /** "": the image's. */
  readonly signal: string;
}

const nameOf = (pod: Pod): string => pod.metadata.name ?? "";
const lifecycle = (pod: Pod): ReturnType<typeof lifecycleOf> => lifecycleOf(pod.metadata.annotations);
export const isRunning = (pod: Pod): boolean => statusesOf(pod).some((c) => c.state?.running);
const isPaused = (pod: Pod): boolean => pod.status?.reason === "Paused";

const gone = (pod: Pod): GantryError => new GantryError("NotFound", `pod ${nameOf(pod)} was deleted meanwhile`);

const ordersOf = (pod: Pod): string => JSON.stringify([Annotation.desiredState, Annotation.restartRequest].map((a) => pod.metadata.annotations?.[a] ?? ""));

/** `asked` is the pod as our order was written: what somebody else orders meanwhile may never let that come true. */
const settled = (client: ApiClient, asked: Pod, isSo: (now: Pod) => boolean): Promise<Pod> =>
  watchPod(client, asked, (now) => {
    if (!now || (now.metadata.deletionTimestamp && !asked.metadata.deletionTimestamp)) throw gone(asked);
    if (isSo(now)) return now;
    if (ordersOf(now) !== ordersOf(asked)) throw new GantryError("Conflict", `pod ${nameOf(asked)} was told otherwise by another command meanwhile (it is to be ${lifecycle(now).desiredState})`);
    return undefined;
  });

/** Annotations that a request leaves behind must not steer the next one. */
const request = (state: "stopped" | "paused" | null, { graceSeconds, signal }: StopOptions): Record<string, string | null> => ({
  [Annotation.desiredState]: state,
  [Annotation.stopGraceSeconds]: graceSeconds === undefined ? null : String(graceSeconds),
  [Annotation.stopSignal]: signal === "" ? null : signal,
});

const PLAIN: StopOptions = { graceSeconds: undefined, signal: "" };

/** One that never ran, or has ended, is stopped already. */
export const stop = async (client: ApiClient, pod: Pod, options: StopOptions): Promise<void> => {
  if (isTerminal(pod) || lifecycle(pod).desiredState === "created") return;
  const asked = await annotate(client, pod, request("stopped", options));
  await settled(client, asked, (now) => isTerminal(now) || now.status?.reason === "Stopped" || !now.spec?.nodeName);
};

/** What keeps a container from starting, for good or for long, as users want to hear it. */
const START_FAULTS: ReadonlySet<string> = new Set(["ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError", "CreateContainerError", "RunContainerError"]);

/** It was started since `before`: it runs, or has ended anew. */
const hasBegun = (before: ContainerStatus | undefined, now: ContainerStatus, mustBeNew: boolean): boolean => {
  const restarted = (now.restartCount ?? 0) > (before?.restartCount ?? 0);
  const waiting = now.state?.waiting;
  if (waiting && START_FAULTS.has(waiting.reason ?? "")) throw new GantryError("FailedPrecondition", `container ${now.name} can't be started: ${waiting.reason}: ${waiting.message ?? ""}`);
  if (now.state?.running) return !mustBeNew || restarted;
  if (waiting?.reason === "CrashLoopBackOff") return restarted;
  return now.state?.terminated !== undefined && (restarted || before?.state?.terminated === undefined);
};

const begun = (client: ApiClient, asked: Pod, before: Pod, mustBeNew: boolean): Promise<Pod> => {
  const old = new Map(statusesOf(before).map((c) => [c.name, c]));
  const count = before.spec?.containers.length ?? 1;
  const hadRun = (c: ContainerStatus | undefined): boolean => c?.state?.running !== undefined || c?.state?.terminated !== undefined;
  return settled(client, asked, (now) => {
    const seen = statusesOf(now);
    return seen.length >= count && seen.every((c) => hasBegun(old.get(c.name), c, mustBeNew && hadRun(old.get(c.name)))) && now.status?.reason !== "Stopped";
  });
};

const requestId = (): string => `${new Date().toISOString()}-${process.pid}`;

/** Resolves to the pod as it is when all its containers have begun. */
export const start = async (client: ApiClient, pod: Pod): Promise<Pod> => {
  if (isPaused(pod)) throw new GantryError("FailedPrecondition", `pod ${nameOf(pod)} is paused: unpause it instead`);
  const containers = statusesOf(pod);
  const isUp = containers.length > 0 && containers.every((c) => c.state?.running) && lifecycle(pod).desiredState === "running";
  if (isUp) return pod;
  return begun(client, await annotate(client, pod, { ...request(null, PLAIN), [Annotation.restartRequest]: requestId() }), pod, false);
};

export const restart = async (client: ApiClient, pod: Pod, options: StopOptions): Promise<void> => {
  await begun(client, await annotate(client, pod, { ...request(null, options), [Annotation.restartRequest]: requestId() }), pod, true);
};

export const pause = async (client: ApiClient, pod: Pod): Promise<void> => {
  if (isPaused(pod)) throw new GantryError("Conflict", `pod ${nameOf(pod)} is already paused`);
  if (!isRunning(pod)) throw new GantryError("Conflict", `pod ${nameOf(pod)} is not running`);
  const now = await settled(client, await annotate(client, pod, request("paused", PLAIN)), (p) => isPaused(p) || isTerminal(p) || !isRunning(p) || p.status?.message !== undefined);
  if (isPaused(now)) return;
  throw new GantryError("FailedPrecondition", `pod ${nameOf(pod)} could not be paused: ${now.status?.message ?? "it ended meanwhile"}`);
};

export const unpause = async (client: ApiClient, pod: Pod): Promise<void> => {
  if (lifecycle(pod).desiredState !== "paused") throw new GantryError("Conflict", `pod ${nameOf(pod)} is not paused`);
  await settled(client, await annotate(client, pod, request(null, PLAIN)), (now) => !isPaused(now));
};

/**
 * A signal to the container's first process. SIGKILL to a container of `gantry run` (it keeps its files) also says that it is not to come back, as
 * docker's kill does; other pods' containers come back by their restart policy.
 */
export const kill = async (client: ApiClient, pod: Pod, container: string | undefined, signal: string): Promise<void> => {
  if (!isRunning(pod)) throw new GantryError("Conflict", `pod ${nameOf(pod)} is not running`);
  if (/^(?:SIG)?KILL$|^9$/i.test(signal) && lifecycle(pod).keepWritableLayer) return stop(client, pod, { graceSeconds: 0, signal: "" });
  const query = new URLSearchParams({ signal, ...(container ? { container } : {}) });
  await client.json("POST", `${commandPath(pod, "kill")}?${query.toString()}`);
};

/** Gantry's own subresources of pods. */
export const commandPath = (pod: Pod, command: string): string =>
  `/apis/gantry.io/v1/namespaces/${encodeURIComponent(pod.metadata.namespace ?? "")}/pods/${encodeURIComponent(nameOf(pod))}/${command}`;
