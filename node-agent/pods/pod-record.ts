// What a pod's worker knows of its pod, beyond the assignment: how far each container is, what it ended with, what to try again when.
// Saved as JSON after each step (local-state.ts). Only pod-worker.ts changes it; next-step.ts and pod-status.ts read it. Ids of container
// instances follow from the pod, the container's name and its attempt, so that a step that was cut short finds what it has made.
import { createHash } from "node:crypto";
import type { Container } from "../../proto/gen/gantry/v1/agent.ts";
import type { Assignment } from "./assignment.ts";
import type { Allocation } from "./resize.ts";

export interface ContainerEnd {
  readonly containerId: string;
  readonly exitCode: number;
  readonly signal: number;
  /** Completed, Error, OOMKilled, StartError, ContainerStatusUnknown. */
  readonly reason: string;
  readonly message: string;
  readonly startedAtMs: number;
  readonly finishedAtMs: number;
  /** After the stop signal of a stop or restart that a user asked for: no end of the pod's own, and no crash. */
  readonly byRequest?: boolean;
}

/** Something that failed and will be tried again. */
export interface Failure {
  /** ErrImagePull, CreateContainerError, ... */
  readonly reason: string;
  readonly message: string;
  readonly atMs: number;
  /** 0: not before the assignment changes. */
  readonly retryAtMs: number;
  readonly count: number;
}

export interface ContainerRecord {
  /** Number of the instance, from 0: the restart count. */
  attempt: number;
  /** none: nothing of this attempt exists. ended: `end` says how. */
  phase: "none" | "created" | "running" | "ended";
  startedAtMs: number;
  /** Created ahead of its instant, and as far on its way as the runtime can bring it (ContainerRuntime.load). */
  loaded?: boolean;
  imageId: string;
  stopSignal: string;
  /** The runtime has removed the instance that ended. */
  collected: boolean;
  /** SIGTERM was sent to this instance. */
  signalled: boolean;
  /** The startup probe, if any, has succeeded. */
  started: boolean;
  ready: boolean;
  /** Frozen: it runs, but does nothing. */
  paused?: boolean;
  /** Restarts in a row of instances that did not last (restart-delay.ts). */
  crashes: number;
  /** What the node has set aside for it, and what is in force: they differ from the assignment while it is being resized (resize.ts). */
  allocated?: Allocation;
  applied?: Allocation;
  /** It was ended so that it comes back with what it was given: at once, and whatever the restart policy. */
  restarting?: boolean;
  end?: ContainerEnd;
  lastEnd?: ContainerEnd;
  failure?: Failure;
}

export interface PodStop {
  /** deleted: report gone. unassigned: forget without a word. failed: the pod stays, as Failed. finished: of its own accord. */
  readonly reason: "deleted" | "unassigned" | "failed" | "finished";
  /** SIGKILL from then on. */
  readonly deadlineMs: number;
  /** When it was sent last. Apart from the deadline, which a later deletion may cut short. */
  readonly killedAtMs?: number;
}

export interface PodRecord {
  /** Of the status; rises with each report. */
  generation: number;
  startTimeMs: number;
  stagesMs: Record<string, number>;
  /** Namespaces, address, files and cgroup are there. */
  sandbox: boolean;
  ip: string;
  /** Generation of the assignment that the volumes hold; -1: none. */
  volumesGeneration: number;
  /** Of the sandbox or the volumes. */
  failure?: Failure;
  /** How far a change of resources is; absent when there is none outstanding. */
  resize?: { readonly state: "Deferred" | "Infeasible" | "InProgress"; readonly message: string; readonly generation: number;
    /** 0: not before the assignment changes. */
    readonly retryAtMs: number };
  /** The pod ended against its will: DeadlineExceeded, Evicted. */
  verdict?: { readonly reason: string; readonly message: string };
  stop?: PodStop;
  /** A stop or restart that a user asked for is under way since then; SIGKILL was sent at killedAtMs. */
  halt?: { readonly sinceMs: number; readonly killedAtMs?: number };
  /** The newest request for a restart that was carried out, or that was there from the start. */
  restartRequest?: string;
  /** Containers, volumes and sandbox are gone; logs stay until the pod is deleted. */
  released: boolean;
  gone: boolean;
  containers: Record<string, ContainerRecord>;
}

export const newContainerRecord = (): ContainerRecord => ({
  attempt: 0, phase: "none", startedAtMs: 0, imageId: "", stopSignal: "", collected: true, signalled: false, started: false, ready: false, crashes: 0,
});

export const newPodRecord = (assignment: Assignment, nowMs: number): PodRecord => ({
  generation: 0, startTimeMs: nowMs, stagesMs: { accepted: nowMs }, sandbox: false, ip: "", volumesGeneration: -1, released: false, gone: false, restartRequest: assignment.restartRequest,
  containers: Object.fromEntries(allContainers(assignment).map((c) => [c.name, newContainerRecord()])),
});

/** Those that the pod was made with. */
export const podContainers = (assignment: Assignment): readonly Container[] => [...assignment.initContainers, ...assignment.containers];

/** Those, and the ones that were added for debugging. */
export const allContainers = (assignment: Assignment): readonly Container[] => [...podContainers(assignment), ...assignment.ephemeralContainers];

/** An init container that goes on beside the others (restartPolicy: Always). */
export const isSidecar = (container: Container): boolean => container.restartPolicy === "Always";

/** Of what containers have each, as much as run at one time: the main ones with the sidecars, or an init container with them. */
export const mostAtOnce = ({ containers, initContainers }: Pick<Assignment, "containers" | "initContainers">, of: (container: Container) => number): number => {
  const sum = (some: readonly Container[]): number => some.reduce((total, c) => total + of(c), 0);
  const sidecars = sum(initContainers.filter(isSidecar));
  return Math.max(sum(containers), ...initContainers.filter((c) => !isSidecar(c)).map(of)) + sidecars;
};

/** Of an instance. A container that keeps its files is one and the same over all its restarts, for users too: as docker's. */
export const instanceIdOf = (assignment: Pick<Assignment, "uid" | "keepWritableLayer">, name: string, attempt: number): string =>
  containerId(assignment.uid, name, assignment.keepWritableLayer ? 0 : attempt);

/** 64 hexadecimal digits, as container ids usually are. */
export const containerId = (podUid: string, name: string, attempt: number): string => createHash("sha256").update(`${podUid}/${name}/${attempt}`).digest("hex");
