// The pods of this node: one worker each. Brings assignments to workers, exits to workers, statuses to the session; serves logs and
// commands; looks after the size of logs.
import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import { GantryError, describeError } from "../../base/errors.ts";
import type { Logger } from "../../base/logger.ts";
import type { Metrics } from "../../base/metrics.ts";
import { Permits } from "../../base/permits.ts";
import { Turns } from "../../base/turns.ts";
import { PodAssignment, type ExecRequest, type LogsRequest, type PodStatus, type Resources, type StreamFrame } from "../../proto/gen/gantry/v1/agent.ts";
import type { ImageMaker } from "../images/image-maker.ts";
import type { ImageService } from "../images/image-service.ts";
import * as linuxMounts from "../linux/mount.ts";
import { PLAIN_PINS } from "../linux/pins.ts";
import type { LocalState } from "../local-state.ts";
import { partsOf, rotate, sizeOf } from "../logs/log-files.ts";
import { readLog } from "../logs/log-reader.ts";
import type { PodNetwork } from "../network/pod-network.ts";
import type { ContainerCgroups } from "../runtime/container-cgroups.ts";
import type { ContainerPhase, ContainerRuntime } from "../runtime/container-runtime.ts";
import type { VolumeService } from "../volumes/volume-service.ts";
import type { Assignment } from "./assignment.ts";
import { Bursts } from "./bursts.ts";
import { ContainerCommands } from "./container-commands.ts";
import { ATTEMPT_LABEL, ContainerSteps, KEEP_LABEL } from "./container-steps.ts";
import { inputOf, outputTo } from "./exec-frames.ts";
import { ensureInitLayer } from "./init-container.ts";
import { runsAgain } from "./next-step.ts";
import { allContainers, containerId, type PodRecord } from "./pod-record.ts";
import type { ImageUser, PodService, RunningPod } from "./pod-service.ts";
import { PodWorker, type WorkerContext } from "./pod-worker.ts";
import { admitResize, heldBy } from "./resize.ts";
import { Sandboxes, publishedPod, type SandboxOptions } from "./sandbox.ts";

export interface PodServiceOptions {
  readonly state: LocalState;
  readonly runtime: ContainerRuntime;
  readonly images: Pick<ImageService, "resolve" | "pull">;
  /** For commits. */
  readonly makeImage?: <T>(work: (maker: ImageMaker) => Promise<T>) => Promise<T>;
  readonly network: Pick<PodNetwork, "attach" | "detach" | "reconcile" | "publish" | "withdraw" | "restorePublished">;
  readonly volumes: VolumeService;
  readonly cgroups: Pick<ContainerCgroups, "features" | "create" | "remove" | "apply" | "readStats">;
  /** Default: the machine's own. */
  readonly namespaces?: SandboxOptions["namespaces"];
  readonly mounts?: SandboxOptions["mounts"];
  readonly userNamespaces: SandboxOptions["userNamespaces"];
  readonly clock: Clock;
  readonly random: () => number;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly options: {
    /** Sandboxes; the same as the runtime's, in memory. */
    readonly runRoot: string;
    readonly logRoot: string;
    readonly nodeMemoryBytes: number;
    /** What pods can have of the node in all: a resize beyond it waits or is refused. */
    readonly allocatable: () => Resources;
    /** 0: unlimited. */
    readonly defaultPidsLimit: number;
    readonly singleProcessOomKill?: boolean;
    /** Kernel settings beyond the safe ones. */
    readonly allowedSysctls?: readonly string[];
    readonly hostIp: () => string;
    readonly dns?: SandboxOptions["dns"];
    /** Pods between sandbox and start at a time. */
    readonly parallelStarts?: number;
    readonly maxLogBytes?: number;
    readonly maxLogFiles?: number;
  };
}

const DEFAULT_PARALLEL_STARTS = 3;
/** A burst of hundreds is saved in portions: some ms each. */
const SAVED_PER_TURN = 50;
const MAX_LOG_BYTES = 10 * 1024 * 1024;
const MAX_LOG_FILES = 5;
/** As kubelet's: what a container can write in between comes on top. */
const LOG_CHECK_MS = 10_000;

interface Found {
  readonly labels: Readonly<Record<string, string>>;
  readonly containers: Map<string, { readonly attempt: number; readonly state: ContainerPhase }>;
}

export const createPodService = (options: PodServiceOptions): PodService => new LocalPodService(options);

class LocalPodService implements PodService {
  readonly commands: ContainerCommands;
  readonly #options: PodServiceOptions;
  readonly #steps: ContainerSteps;
  readonly #sandboxes: Sandboxes;
  readonly #context: WorkerContext;
  readonly #bursts: Bursts;
  readonly #workers = new Map<string, PodWorker>();
  readonly #handlers = new Set<(status: PodStatus) => void>();
  /** Told of all news, and of pods that go without any. */
  readonly #onlookers = new Set<() => void>();
  readonly #dirty = new Set<PodWorker>();
  readonly #newAssignments = new Map<string, Assignment>();
  readonly #exits: Disposable;
  /** Containers without a known pod, until the first complete set says whose they are. */
  #orphans = new Map<string, Found>();
  #flushing = false;
  #logTimer: Disposable | undefined;
  #closed = false;

  constructor(options: PodServiceOptions) {
    this.#options = options;
    const { clock, random, logger, runtime, images, volumes, network, cgroups, metrics } = options;
    const { runRoot, logRoot, hostIp, dns, nodeMemoryBytes, defaultPidsLimit, singleProcessOomKill = false } = options.options;
    const turns = new Turns();
    this.#sandboxes = new Sandboxes({ runRoot, network, cgroups, namespaces: options.namespaces ?? PLAIN_PINS, mounts: options.mounts ?? linuxMounts, userNamespaces: options.userNamespaces, hostIp, nextTurn: () => turns.next(), dns: dns ?? (() => ({ servers: [], domain: "cluster.local" })) });
    this.#steps = new ContainerSteps({ runtime, images, volumes, cgroups, sandboxes: this.#sandboxes, logRoot, nodeMemoryBytes, defaultPidsLimit, singleProcessOomKill, allowedSysctls: options.options.allowedSysctls, initLayer: () => ensureInitLayer(join(runRoot, "init"), process.arch) });
    this.commands = new ContainerCommands({ runtime, steps: this.#steps, sandboxes: this.#sandboxes, clock, resolveImage: (id) => images.resolve(id), makeImage: options.makeImage, find: (uid, container) => this.#find(uid, container) });
    const startSeconds = metrics.histogram("gantry_pod_start_seconds", "Time from a pod's arrival on the node to the start of its first container", [], [0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300]);
    const restarts = metrics.counter("gantry_container_exits_total", "Containers that ended, by reason", ["reason"]);
    metrics.gauge("gantry_pods", "Pods on this node by phase", ["phase"], (gauge) => {
      gauge.reset();
      for (const worker of this.#workers.values()) gauge.inc({ phase: worker.status().phase });
    });
    this.#bursts = new Bursts({ clock, logger, metrics });
    this.#context = {
      bursts: this.#bursts,
      clock, random, logger, runtime, steps: this.#steps, lane: new Permits(options.options.parallelStarts ?? DEFAULT_PARALLEL_STARTS), turns, hostIp, cgroupFeatures: cgroups.features(),
      admitResize: (worker) => admitResize(worker.assignment, this.#heldByOthers(worker), options.options.allocatable()),
      save: (worker) => this.#saveSoon(worker),
      flush: (worker) => this.#write([worker], []),
      report: (status) => {
        const { started, accepted } = status.stagesMs;
        if (status.phase === "Running" && status.generation === 1 && started !== undefined && accepted !== undefined) startSeconds.observe((started - accepted) / 1000);
        for (const handler of this.#handlers) handler(status);
        for (const look of this.#onlookers) look();
      },
      forget: (worker) => this.#forget(worker),
    };
    this.#exits = runtime.onExit((exit) => {
      const owner = this.#ownerOf(exit.id);
      if (!owner) return;
      restarts.inc({ reason: exit.oomKilled ? "OOMKilled" : exit.exitCode === 0 ? "Completed" : "Error" });
      owner.worker.onExit(owner.name, owner.attempt, exit);
    });
  }

  async recover(): Promise<void> {
    const { state, runtime, network, logger } = this.#options;
    const records = state.records();
    const found = new Map<string, Found>();
    for (const { id, labels, state: phase } of await runtime.recover()) {
      const [uid, name, attempt] = [labels["io.kubernetes.pod.uid"], labels["io.kubernetes.container.name"], Number(labels[ATTEMPT_LABEL])];
      if (uid === undefined || name === undefined || !Number.isInteger(attempt)) {
        logger.warn("a container without a pod's labels is removed", { container: id });
        await runtime.remove(id);
        continue;
      }
      const pod = found.get(uid) ?? { labels, containers: new Map() };
      found.set(uid, pod);
      const other = pod.containers.get(name);
      // Two instances of one container: the agent was killed between the end of one and the removal of it.
      const stale = other && other.attempt > attempt ? attempt : other?.attempt;
      if (stale !== undefined) await runtime.remove(containerId(uid, name, stale));
      if (!other || other.attempt < attempt) pod.containers.set(name, { attempt, state: phase });
    }
    for (const assignment of state.assignments()) {
      const worker = this.#add(assignment, records.get(assignment.uid) as PodRecord | undefined);
      worker.adopt(found.get(assignment.uid)?.containers ?? new Map(), this.#sandboxes.isIntact(assignment));
      found.delete(assignment.uid);
    }
    for (const uid of this.#sandboxes.present()) if (!this.#workers.has(uid) && !found.has(uid)) found.set(uid, { labels: {}, containers: new Map() });
    this.#orphans = found;
    await this.#restorePorts();
    network.reconcile(new Set([...this.#workers.keys(), ...found.keys()]));
    logger.info("pods of this node recovered", { pods: this.#workers.size, containersWithoutRecord: found.size });
    for (const worker of this.#workers.values()) worker.ring();
    this.#watchLogs();
  }

  async #restorePorts(): Promise<void> {
    const published = [...this.#workers.values()].filter((w) => w.record.sandbox).map((w) => [w.uid, publishedPod(w.assignment, w.record.ip)] as const);
    try {
      await this.#options.network.restorePublished(new Map(published.filter(([, pod]) => pod.ports.length > 0)));
    } catch (error) {
      // Pods go on; the next change of a host port brings all of them in.
      this.#options.logger.error("can't restore the host ports of pods", { err: error });
    }
  }

  setAll(assignments: readonly Assignment[]): void {
    const wanted = new Set(assignments.map((a) => a.uid));
    for (const assignment of assignments) this.upsert(assignment);
    for (const worker of this.#workers.values()) if (!wanted.has(worker.uid)) worker.unassign();
    for (const [uid, { labels }] of this.#orphans) if (!wanted.has(uid)) this.#stopOrphan(uid, labels);
    this.#sweepLogs();
    this.#sweepLayers();
  }

  upsert(assignment: Assignment): void {
    this.#newAssignments.set(assignment.uid, assignment);
    const worker = this.#workers.get(assignment.uid);
    if (worker) {
      worker.assign(assignment);
    } else {
      const added = this.#add(assignment, undefined);
      const orphan = this.#orphans.get(assignment.uid);
      if (orphan) {
        // The record was lost, the containers weren't: they go on, as many restarts later as their labels say.
        this.#orphans.delete(assignment.uid);
        added.record.sandbox = this.#sandboxes.isIntact(assignment);
        added.adopt(orphan.containers, added.record.sandbox);
        if (added.record.sandbox && added.record.ip !== "") this.#sandboxes.publish(assignment, added.record.ip).catch((error: unknown) => this.#options.logger.error("can't forward the host ports of a pod", { podUid: assignment.uid, err: error }));
      }
      this.#saveSoon(added);
      added.ring();
    }
  }

  remove(uid: string): void {
    this.#newAssignments.delete(uid);
    this.#workers.get(uid)?.unassign();
  }

  statuses(): readonly PodStatus[] {
    return [...this.#workers.values()].filter((w) => w.record.stop?.reason !== "unassigned").map((w) => w.status());
  }

  onStatus(handler: (status: PodStatus) => void): Disposable {
    this.#handlers.add(handler);
    return { [Symbol.dispose]: () => void this.#handlers.delete(handler) };
  }

  async *logs(request: LogsRequest, signal: AbortSignal): AsyncIterable<StreamFrame> {
    const { worker, name } = this.#find(request.podUid, request.container);
    const own = worker.record.containers[name]!;
    const pod = worker.assignment;
    // While a container waits for its restart, what it said last is what one wants to see.
    const current = own.phase === "none" && own.attempt > 0 ? own.attempt - 1 : own.attempt;
    const attempt = request.previous ? current - 1 : current;
    const path = this.#steps.logPath(pod, name, attempt);
    if (request.previous && (attempt < 0 || partsOf(path).length === 0)) throw new GantryError("BadRequest", `previous terminated container ${JSON.stringify(name)} in pod ${JSON.stringify(pod.name)} not found`);
    if (!request.previous && own.phase === "none" && own.attempt === 0) {
      const state = [...worker.status().initContainers, ...worker.status().containers, ...worker.status().ephemeralContainers].find((c) => c.name === name)?.state?.state;
      const why = state?.$case === "waiting" ? state.value.reason : "ContainerCreating";
      throw new GantryError("BadRequest", `container ${JSON.stringify(name)} in pod ${JSON.stringify(pod.name)} is waiting to start: ${why}`);
    }
    const { sinceMs, timestamps } = request;
    let { tailLines, limitBytes } = request;
    const follow = request.follow && !request.previous;
    const overRestarts = follow && request.overRestarts;
    for (let next = attempt; ; ) {
      // One log for all instances is read in one go.
      using ended = overRestarts && pod.keepWritableLayer ? this.#over(worker, name, signal) : worker.ended(name);
      for await (const { stream, data } of readLog(this.#steps.logPath(pod, name, next), { tailLines, sinceMs, limitBytes, timestamps, follow, ended: ended.signal, signal })) {
        yield { frame: { $case: stream, value: data } };
        if (limitBytes !== undefined) limitBytes -= data.length;
      }
      if (!overRestarts || pod.keepWritableLayer || limitBytes === 0 || !(await this.#runsAgain(worker, name, signal))) return;
      // All of the next one: a container that is restarted at once may have written before we look.
      [tailLines, next] = [undefined, worker.record.containers[name]!.attempt];
    }
  }

  /** Resolves when an instance that has ended is followed by another one: true; or when none will follow of itself: false. */
  async #runsAgain(worker: PodWorker, name: string, signal: AbortSignal): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const container = allContainers(worker.assignment).find((c) => c.name === name)!;
    const look = (): void => {
      const verdict = runsAgain(worker.assignment, worker.record, container);
      if (verdict !== undefined) resolve(verdict);
    };
    const giveUp = (): void => resolve(false);
    this.#onlookers.add(look);
    signal.addEventListener("abort", giveUp, { once: true });
    try {
      look();
      return await promise;
    } finally {
      this.#onlookers.delete(look);
      signal.removeEventListener("abort", giveUp);
    }
  }

  /** As PodWorker.ended, but restarts by the pod's policy are no end. */
  #over(worker: PodWorker, name: string, signal: AbortSignal): { readonly signal: AbortSignal } & Disposable {
    const [over, stop] = [new AbortController(), new AbortController()];
    const until = AbortSignal.any([signal, stop.signal]);
    const watch = async (): Promise<void> => {
      do {
        using ended = worker.ended(name);
        await whenAborted(AbortSignal.any([ended.signal, until]));
      } while (!until.aborted && (await this.#runsAgain(worker, name, until)));
      over.abort();
    };
    void watch();
    return { signal: over.signal, [Symbol.dispose]: () => stop.abort() };
  }

  async exec(request: ExecRequest, input: AsyncIterable<StreamFrame>, output: (frame: StreamFrame) => Promise<void>, signal: AbortSignal): Promise<{ readonly exitCode: number }> {
    const { worker, name } = this.#find(request.podUid, request.container);
    const own = worker.record.containers[name]!;
    if (own.paused) throw new GantryError("BadRequest", `container ${JSON.stringify(name)} of pod ${JSON.stringify(worker.assignment.name)} is paused: unpause the pod first`);
    if (own.phase !== "running") throw new GantryError("BadRequest", `container ${JSON.stringify(name)} of pod ${JSON.stringify(worker.assignment.name)} is not running: commands can only be run in a running container`);
    const { stdin, resize, stop } = inputOf(input, signal);
    try {
      return await this.#options.runtime.exec(worker.instanceId(name), {
        command: request.command, env: request.env, user: request.user, cwd: request.workingDir, detach: request.detach, tty: request.tty, stdin: request.stdin ? stdin : undefined, resize, signal,
        onStdout: outputTo("stdout", output), onStderr: outputTo("stderr", output),
      });
    } finally {
      stop();
    }
  }

  running(): readonly RunningPod[] {
    return [...this.#workers.values()].filter((w) => w.record.sandbox).map((worker) => ({
      assignment: worker.assignment, startTimeMs: worker.record.startTimeMs,
      containers: allContainers(worker.assignment).flatMap(({ name, image }) => {
        const own = worker.record.containers[name]!;
        return own.phase !== "running" ? [] : [{ name, image, id: worker.instanceId(name), startedAtMs: own.startedAtMs, logPath: this.#steps.logPath(worker.assignment, name, own.attempt) }];
      }),
    }));
  }

  evict(uid: string, eviction: { readonly message: string; readonly graceMs: number }): boolean {
    return this.#workers.get(uid)?.evict(eviction) ?? false;
  }

  imagesInUse(): ReadonlySet<string> {
    return new Set(this.imageUsers().map((user) => user.imageId));
  }

  /**
   * Of pods that are over, nothing uses an image any more; but one that keeps its files can be started again, and they mean nothing without the image below them.
   * What a container names counts before it is there: it may be created in the next moment.
   */
  imageUsers(): readonly ImageUser[] {
    return [...this.#workers.values()].filter(({ assignment, record }) => !record.released || assignment.keepWritableLayer).flatMap(({ assignment, record }) => allContainers(assignment).flatMap((container): ImageUser[] => {
      const { name } = container;
      const ids = new Set([record.containers[name]?.imageId ?? "", this.#options.images.resolve(container.image)?.id ?? ""]);
      return [...ids].filter((id) => id !== "").map((imageId) => ({ imageId, container: `${assignment.namespace}/${assignment.name}/${name}` }));
    }));
  }

  async close(): Promise<void> {
    this.#exits[Symbol.dispose]();
    this.#logTimer?.[Symbol.dispose]();
    for (const worker of this.#workers.values()) worker.close();
    this.#bursts[Symbol.dispose]();
    this.#flush();
    this.#closed = true;
    await Promise.resolve();
  }

  #add(assignment: Assignment, record: PodRecord | undefined): PodWorker {
    const worker = new PodWorker(assignment, record, this.#context);
    this.#workers.set(assignment.uid, worker);
    return worker;
  }

  #find(uid: string, container: string): { readonly worker: PodWorker; readonly name: string } {
    const worker = this.#workers.get(uid);
    if (!worker) throw new GantryError("NotFound", `no pod ${uid} on this node`);
    const all = allContainers(worker.assignment);
    const found = container === "" ? worker.assignment.containers[0] : all.find((c) => c.name === container);
    if (!found) throw new GantryError("NotFound", `container ${JSON.stringify(container)} is not valid for pod ${worker.assignment.name}; there are: ${all.map((c) => c.name).join(", ")}`);
    return { worker, name: found.name };
  }

  #ownerOf(id: string): { readonly worker: PodWorker; readonly name: string; readonly attempt: number } | undefined {
    for (const worker of this.#workers.values()) {
      for (const [name, { attempt, phase }] of Object.entries(worker.record.containers)) {
        if (phase !== "none" && phase !== "ended" && worker.instanceId(name) === id) return { worker, name, attempt };
      }
    }
    return undefined;
  }

  /** Runs down a pod of which only its containers are known: by the usual way, with what the labels tell. */
  #stopOrphan(uid: string, labels: Readonly<Record<string, string>>): void {
    const found = this.#orphans.get(uid)!;
    this.#orphans.delete(uid);
    const assignment = PodAssignment.fromPartial({
      uid, namespace: labels["io.kubernetes.pod.namespace"] ?? "", name: labels["io.kubernetes.pod.name"] ?? "", restartPolicy: "Never",
      keepWritableLayer: labels[KEEP_LABEL] === "true", containers: [...found.containers.keys()].map((name) => ({ name })),
    });
    const worker = this.#add(assignment, undefined);
    worker.adopt(found.containers, true);
    worker.unassign();
  }

  /** Logs of pods that nobody knows any more. */
  #sweepLogs(): void {
    for (const [uid, directory] of this.#steps.logDirectories()) {
      if (this.#workers.has(uid)) continue;
      rm(directory, { recursive: true, force: true }).catch((error: unknown) => this.#options.logger.warn("can't remove old logs", { directory, err: describeError(error) }));
    }
  }

  /** Files that containers of pods kept of which nothing else is left: the database was lost before the pod was deleted. */
  #sweepLayers(): void {
    const { runtime, logger } = this.#options;
    const known = new Set([...this.#workers.values()].flatMap((w) => allContainers(w.assignment).map((c) => w.instanceId(c.name))));
    for (const id of runtime.keptLayers()) if (!known.has(id)) runtime.remove(id).catch((error: unknown) => logger.warn("can't remove an old writable layer", { container: id, err: error }));
  }

  #heldByOthers(worker: PodWorker): ReturnType<typeof heldBy> {
    const others = [...this.#workers.values()].filter((w) => w !== worker && !w.record.released).map((w) => heldBy(w.assignment, w.record));
    return { milliCpu: others.reduce((sum, h) => sum + h.milliCpu, 0), memoryBytes: others.reduce((sum, h) => sum + h.memoryBytes, 0) };
  }

  #forget(worker: PodWorker): void {
    this.#dirty.delete(worker);
    this.#workers.delete(worker.uid);
    this.#newAssignments.delete(worker.uid);
    this.#options.state.deletePod(worker.uid);
    for (const look of this.#onlookers) look();
    if (worker.successor) this.upsert(worker.successor);
  }

  #saveSoon(worker: PodWorker): void {
    if (this.#closed) return; // a step that was under way; the next agent finds what it did
    this.#dirty.add(worker);
    this.#flushSoon();
  }

  #flushSoon(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    setImmediate(() => {
      this.#flushing = false;
      this.#flush(SAVED_PER_TURN);
      if (this.#dirty.size > 0 || this.#newAssignments.size > 0) this.#flushSoon();
    });
  }

  #flush(most = Infinity): void {
    this.#write([...this.#dirty].slice(0, most), [...this.#newAssignments.values()].slice(0, most));
  }

  /** In one commit. A record never comes before its assignment: it would be nobody's. */
  #write(workers: readonly PodWorker[], assignments: readonly Assignment[]): void {
    const { state } = this.#options;
    const records = workers.filter((worker) => this.#dirty.has(worker));
    const fresh = new Set([...assignments, ...records.map(({ uid }) => this.#newAssignments.get(uid)).filter((a) => a !== undefined)]);
    if (records.length === 0 && fresh.size === 0) return;
    state.together(() => {
      for (const assignment of fresh) state.saveAssignment(assignment);
      for (const worker of records) state.saveRecord(worker.uid, worker.record);
    });
    for (const { uid } of fresh) this.#newAssignments.delete(uid);
    for (const worker of records) this.#dirty.delete(worker);
  }

  #watchLogs(): void {
    this.#logTimer = this.#options.clock.setTimer(LOG_CHECK_MS, () => void this.#checkAllLogs());
  }

  async #checkAllLogs(): Promise<void> {
    for (const worker of this.#workers.values()) {
      await this.#context.turns.next();
      if (this.#closed) return;
      try {
        this.#checkLogs(worker);
      } catch (error) {
        this.#options.logger.error("can't look after the logs of a pod", { podUid: worker.uid, err: error });
      }
    }
    this.#watchLogs();
  }

  #checkLogs(worker: PodWorker): void {
    const { maxLogBytes = MAX_LOG_BYTES, maxLogFiles = MAX_LOG_FILES } = this.#options.options;
    for (const [name, { phase, attempt }] of Object.entries(worker.record.containers)) {
      if (phase !== "running") continue;
      const path = this.#steps.logPath(worker.assignment, name, attempt);
      const isMissing = !existsSync(path); // renamed by an agent that was killed before it could say so to conmon
      if (!isMissing && sizeOf(path) <= maxLogBytes) continue;
      if (!isMissing) rotate(path, maxLogFiles);
      this.#options.runtime.reopenLog(worker.instanceId(name)).catch((error: unknown) => this.#options.logger.warn("can't rotate a log", { path, err: describeError(error) }));
    }
  }
}

const whenAborted = (signal: AbortSignal): Promise<void> => new Promise((resolve) => {
  if (signal.aborted) resolve();
  else signal.addEventListener("abort", () => resolve(), { once: true });
});
