// The contract between the session (which brings assignments and carries statuses away) and the pods of this node.
import type { Assignment } from "./assignment.ts";
import type { ContainerCommands } from "./container-commands.ts";
import type { ExecRequest, LogsRequest, PodStatus, StreamFrame } from "../../proto/gen/gantry/v1/agent.ts";

export interface RunningContainer {
  readonly name: string;
  readonly id: string;
  readonly image: string;
  readonly startedAtMs: number;
  readonly logPath: string;
}

/** A pod whose sandbox is there, with its containers that run now. */
export interface RunningPod {
  readonly assignment: Assignment;
  readonly startTimeMs: number;
  readonly containers: readonly RunningContainer[];
}

export interface ImageUser {
  readonly imageId: string;
  /** NAMESPACE/POD/CONTAINER. */
  readonly container: string;
}

export interface PodService {
  /** Before the session opens: reads local state, re-adopts containers, goes on with every pod's next step. */
  recover(): Promise<void>;
  /** The whole desired state: pods that are not in it are stopped at once and forgotten. */
  setAll(assignments: readonly Assignment[]): void;
  upsert(assignment: Assignment): void;
  /** The object is gone from the store: stop what is left, without a report. */
  remove(uid: string): void;
  /** Newest status of every pod: what a new session reports. */
  statuses(): readonly PodStatus[];
  /** Called on every change with the newest status; the session batches. */
  onStatus(handler: (status: PodStatus) => void): Disposable;
  logs(request: LogsRequest, signal: AbortSignal): AsyncIterable<StreamFrame>;
  exec(request: ExecRequest, input: AsyncIterable<StreamFrame>, output: (frame: StreamFrame) => Promise<void>, signal: AbortSignal): Promise<{ readonly exitCode: number }>;
  /** For measuring: what is here and uses something. */
  running(): readonly RunningPod[];
  readonly commands: Pick<ContainerCommands, keyof ContainerCommands>;
  /** Ends the pod as Failed, for the node's sake. false: there is no such pod, or it is on its way out already. */
  evict(uid: string, eviction: { readonly message: string; readonly graceMs: number }): boolean;
  /** Image ids that pods use or are about to. */
  imagesInUse(): ReadonlySet<string>;
  /** Which container uses which image, or is about to: for those who want to remove one. */
  imageUsers(): readonly ImageUser[];
  /** Stops the loops, not the containers. */
  close(): Promise<void>;
}
