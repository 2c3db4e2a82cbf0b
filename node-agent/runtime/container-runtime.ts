// The contract of the container runtime: OCI bundles, an OCI runtime, conmon. Implementations: conmon-runtime.ts (Linux) and
// fake-runtime.ts (tests); runtime-contract.ts is run on both. A container is known by its id; nothing here knows pods.

import type { BlockIo, ConsoleSize, DeviceMapping, Ulimit } from "../../base/kube/container-extras.ts";
import type { ContainerInput } from "./attach.ts";

export interface RuntimeMount {
  readonly source: string;
  readonly destination: string;
  readonly type: "bind" | "tmpfs";
  readonly options: readonly string[];
}

export interface CgroupLimits {
  /** Weight: cpu.shares (v1), converted to cpu.weight on v2. 2 is the least. */
  readonly cpuShares: number;
  /** Milli-CPU; 0 is unlimited. */
  readonly cpuQuotaMilli: number;
  readonly memoryBytes: number;
  /** Swap beside that memory; 0: none, -1: any. Absent: left as it is. Version 1 limits it only together with memory. */
  readonly swapBytes?: number;
  readonly pids: number;
  /** Bytes of huge pages by their size, { "2MB": 4194304 }; none of sizes that are not in it. Absent: left as it is. */
  readonly hugePages?: Readonly<Record<string, number>>;
}

/** A pinned one, and which ids of the machine its ids 0 to `count` - 1 are. It owns the other namespaces. */
export interface UserNamespace {
  readonly path: string;
  readonly firstId: number;
  readonly count: number;
}

export interface ContainerSpec {
  /** Unique on the node; letters, digits and dashes. */
  readonly id: string;
  readonly name: string;
  /** Overlay lower directories, lowest layer first. */
  readonly layerDirs: readonly string[];
  readonly args: readonly string[];
  readonly env: readonly string[];
  readonly cwd: string;
  /** As in the image config or numeric; resolved against the root filesystem's /etc/passwd and /etc/group. */
  readonly user: string;
  /** Names are the image's. */
  readonly supplementalGroups: readonly (number | string)[];
  /** The image's /etc/group adds none to these. */
  readonly strictGroups?: boolean;
  readonly hostname: string;
  /** Pinned namespaces to join, by type; "host" for the node's own; absent: a new private one (mount, pid), the node's own (user). */
  readonly namespaces: { readonly network: string; readonly ipc: string; readonly uts: string; readonly pid?: string; readonly user?: UserNamespace };
  readonly mounts: readonly RuntimeMount[];
  readonly tty: boolean;
  readonly stdin: boolean;
  /** stdin ends with the first client that attaches and leaves. */
  readonly stdinOnce?: boolean;
  readonly readOnlyRoot: boolean;
  readonly privileged: boolean;
  /** Nothing of /proc and /sys is hidden or read-only: for containers that make containers, in a user namespace. */
  readonly unmaskedProc?: boolean;
  readonly noNewPrivileges: boolean;
  readonly capabilitiesAdd: readonly string[];
  readonly capabilitiesDrop: readonly string[];
  readonly seccomp: { readonly type: "RuntimeDefault" | "Unconfined" } | { readonly type: "Localhost"; readonly profile: string };
  /** RuntimeDefault: a profile of docker's or containerd's, where one is loaded. Absent: RuntimeDefault. */
  readonly appArmor?: { readonly type: "RuntimeDefault" | "Unconfined" } | { readonly type: "Localhost"; readonly profile: string };
  readonly sysctls: Readonly<Record<string, string>>;
  /** Path below the node's cgroup root: kubepods/<qos>/pod<uid>/<id>. */
  readonly cgroupPath: string;
  readonly limits: CgroupLimits;
  readonly oomScoreAdj: number;
  /** When memory runs out all of its processes are killed, not one of them: version 2 only. */
  readonly oomGroup?: boolean;
  /** Others are inherited from the agent. */
  readonly rlimits?: readonly Ulimit[];
  /** Devices of the node, besides the harmless ones that each container has. */
  readonly devices?: readonly DeviceMapping[];
  /** The command is run by a small init of the node's, which is process 1. */
  readonly init?: boolean;
  /** "0-2,7". */
  readonly cpusetCpus?: string | undefined;
  readonly cpusetMems?: string | undefined;
  readonly blockIo?: BlockIo;
  /** What its terminal begins with; nothing is known of it otherwise until a client says its size. */
  readonly consoleSize?: ConsoleSize | undefined;
  /** CRI-format log file that conmon writes. */
  readonly logPath: string;
  readonly labels: Readonly<Record<string, string>>;
  /** The writable layer outlives the container (remove with keepLayer), and is there again for the next one of this id. */
  readonly keepLayer?: boolean;
  /** Of the OCI runtime; absent or "": the node's default. */
  readonly handler?: string;
}

export interface ContainerExit {
  readonly id: string;
  readonly exitCode: number;
  /** 0 when it ended by itself. */
  readonly signal: number;
  readonly oomKilled: boolean;
  readonly finishedAtMs: number;
}

export type ContainerPhase =
  | { readonly phase: "created"; readonly pid: number }
  | { readonly phase: "running"; readonly pid: number; readonly startedAtMs: number }
  | { readonly phase: "exited"; readonly exit: ContainerExit; readonly startedAtMs: number };

export interface ExecOptions {
  readonly command: readonly string[];
  /** NAME=value, in place of the container's of the same name. */
  readonly env?: readonly string[];
  /** "" or absent: the container's. Otherwise as in an image's config. */
  readonly user?: string;
  readonly cwd?: string;
  /** Resolves as soon as the command runs; it has no streams and goes on by itself, whatever becomes of this agent. */
  readonly detach?: boolean;
  readonly tty: boolean;
  readonly stdin: AsyncIterable<Uint8Array> | undefined;
  readonly onStdout: (data: Uint8Array) => Promise<void>;
  readonly onStderr: (data: Uint8Array) => Promise<void>;
  readonly resize?: AsyncIterable<{ readonly width: number; readonly height: number }>;
  readonly signal: AbortSignal;
}

export interface ContainerRoot extends Disposable {
  /** Descriptor (O_PATH) of the root directory. */
  readonly fd: number;
  /** The writable layer: an overlayfs upper directory. */
  readonly upper: string;
  /** Which id of the machine is user (and group) 0 of the container, seen through `fd`: not 0 where it runs in a user namespace. In `upper` it always is 0. */
  readonly firstId: number;
}

export interface ContainerRuntime {
  /** "crun://1.8.1". */
  readonly version: string;
  /** Whether pods can ask for it by a RuntimeClass; "" is the default. */
  hasHandler(name: string): boolean;
  /** All of them, the default ("") first. Of those that are neither crun nor runc nobody knows whether they can join a user namespace: no is said. */
  handlers(): readonly { readonly name: string; readonly joinsUserNamespaces: boolean }[];
  /** Root filesystem, bundle, conmon, OCI create. Undoes everything when it fails. Errors in a user's words ("command not found: ..."). */
  create(spec: ContainerSpec): Promise<{ readonly pid: number }>;
  /** OCI start. "FailedPrecondition" when it is not in phase created. */
  start(id: string): Promise<{ readonly startedAtMs: number }>;
  /**
   * Ahead of a start that must be on time: the program is loaded, and stopped before its first instruction, whatever becomes of the agent. Where that can't
   * be done the container stays as it was created. Should it end by that, it has not run: its exit is told, with startedAtMs 0.
   */
  load(id: string): Promise<void>;
  /** start() within this very turn; undefined when this OCI runtime needs its command for it, and nothing was loaded. */
  startAtOnce(id: string): { readonly startedAtMs: number } | undefined;
  /** "NotFound" when there is no such container; no error when it has ended already. */
  kill(id: string, signal: number): Promise<void>;
  /** Freezes every process of a running container, or lets them go on. Idempotent; "FailedPrecondition" when it does not run. */
  pause(id: string): Promise<void>;
  unpause(id: string): void;
  isPaused(id: string): boolean;
  /** Removes container, bundle, mounts and cgroup, and the writable layer unless it is kept; kills first if need be. Idempotent. Logs stay. */
  remove(id: string, options?: { readonly keepLayer?: boolean }): Promise<void>;
  /** Ids whose writable layers were kept, whether or not there is a container now. */
  keptLayers(): readonly string[];
  exec(id: string, options: ExecOptions): Promise<{ readonly exitCode: number }>;
  /** Its standard input. "FailedPrecondition" when it does not run or was made without one. */
  openInput(id: string): ContainerInput;
  resizeTerminal(id: string, size: { readonly width: number; readonly height: number }): void;
  /**
   * The root file system: of a running container as it sees it, with what is mounted in it; of one that has ended its kept layer on `layerDirs`. A new instance waits until
   * the root is disposed of. "FailedPrecondition" when neither is there.
   */
  openRoot(id: string, layerDirs: readonly string[]): Promise<ContainerRoot>;
  /** Pids, on the node, of all its processes. */
  processes(id: string): readonly number[];
  inspect(id: string): ContainerPhase | undefined;
  /** Called once for each exit that happens from now on, and, for exits that happened while nobody was listening, by recover(). */
  onExit(handler: (exit: ContainerExit) => void): Disposable;
  /** After a restart: what is there, re-adopted; half-made ones are removed. */
  recover(): Promise<readonly { readonly id: string; readonly labels: Readonly<Record<string, string>>; readonly state: ContainerPhase }[]>;
  /** Asks conmon to reopen the container's log file (after rotation). */
  reopenLog(id: string): Promise<void>;
  close(): void;
}
