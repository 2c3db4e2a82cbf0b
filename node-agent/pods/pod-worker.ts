// One pod's worker: asks next-step.ts what to do, does it, notes how far it came, and reports. At most one step at a time; events (a new
// assignment, an exit, a timer, a probe) change the record and ring the bell. The only writer of its pod's record.
import type { Clock } from "../../base/clock.ts";
import { GantryError, describeError, isCode } from "../../base/errors.ts";
import type { Logger } from "../../base/logger.ts";
import type { Permits } from "../../base/permits.ts";
import type { Turns } from "../../base/turns.ts";
import type { Container, Incident, PodStatus } from "../../proto/gen/gantry/v1/agent.ts";
import type { CgroupFeatures } from "../cgroups/cgroup-tree.ts";
import type { ContainerExit, ContainerPhase, ContainerRuntime } from "../runtime/container-runtime.ts";
import type { Assignment } from "./assignment.ts";
import { BOOKS_AFTER_MS, type Bursts, type Staged } from "./bursts.ts";
import type { ContainerSteps } from "./container-steps.ts";
import { runHandler } from "./handlers.ts";
import { crashesAfter, nextStep, restartPolicyOf, type Step } from "./next-step.ts";
import { allContainers, instanceIdOf, isSidecar, newContainerRecord, newPodRecord, podContainers, type ContainerRecord, type Failure, type PodRecord } from "./pod-record.ts";
import { buildStatus, isMereProgress, type StatusContext } from "./pod-status.ts";
import { ContainerProbes, hasProbes } from "./probes.ts";
import { allocationOf, isUnallocated, isUnapplied, takesRestart, withAllocation, type Verdict } from "./resize.ts";
import { retryDelayMs } from "./restart-delay.ts";

export interface WorkerContext {
  readonly clock: Clock;
  readonly random: () => number;
  readonly logger: Logger;
  readonly runtime: ContainerRuntime;
  readonly steps: ContainerSteps;
  /** Pods between sandbox and start: finishing one beats beginning all. */
  readonly lane: Permits;
  /** Each step blocks, some for milliseconds: mounts, namespaces, the start of a process, files. */
  readonly turns: Turns;
  readonly bursts: Bursts;
  readonly hostIp: () => string;
  readonly cgroupFeatures: CgroupFeatures;
  /** Has the node room for what the pod's containers ask for now? */
  admitResize(worker: PodWorker): Verdict;
  /** Soon, together with what others save. */
  save(worker: PodWorker): void;
  /** Now: before what can't be found out again is destroyed. */
  flush(worker: PodWorker): void;
  report(status: PodStatus): void;
  forget(worker: PodWorker): void;
}

/** A pod that comes up within this time is reported once, when it runs. */
const QUIET_MS = 300;
const SLOW_PULL_MS = 1000;
/** A resize that the node has no room for, or that failed, is tried again after this. */
const RESIZE_AGAIN_MS = 10_000;
const STATUS_UNKNOWN_EXIT_CODE = 137;
/** Steps between which a pod keeps its place in the lane. */
const IN_LANE: ReadonlySet<Step["kind"]> = new Set(["sandbox", "volumes", "create", "start"] as const);

const CLEARS_FAILURE: ReadonlySet<Step["kind"]> = new Set(["sandbox", "volumes", "release", "pause", "unpause"] as const);

const endedAhead = ({ exitCode, oomKilled }: ContainerExit): string => `the container ended before it was started: ${oomKilled ? "out of memory" : `exit code ${exitCode}`}`;

export class PodWorker implements Staged {
  assignment: Assignment;
  readonly record: PodRecord;
  /** A new assignment for the uid came when this pod was on its way out. */
  successor: Assignment | undefined;
  readonly #context: WorkerContext;
  readonly #logger: Logger;
  readonly #probes = new Map<string, ContainerProbes>();
  readonly #exitListeners = new Map<string, Set<() => void>>();
  readonly #ids = new Map<string, { readonly attempt: number; readonly id: string }>();
  /** By a burst, and not in the books yet. */
  readonly #justStarted: { readonly container: Container; readonly attempt: number }[] = [];
  #unassigned = false;
  #running = false;
  /** In the lane: gives it to the next. */
  #place: (() => void) | undefined;
  /** A step is being carried out. */
  #inStep = false;
  #rung = false;
  #closed = false;
  #timer: Disposable | undefined;
  #quiet: Disposable | undefined;
  #last = "";
  /** Since the last report. */
  readonly #incidents: Incident[] = [];
  /** The moment of quiet is over. */
  #late = false;
  /** Aborts what may take long (a pull, a hook) once the pod is to stop. */
  #interrupt = new AbortController();

  constructor(assignment: Assignment, record: PodRecord | undefined, context: WorkerContext) {
    this.assignment = assignment;
    this.record = record ?? newPodRecord(assignment, context.clock.nowMs());
    for (const { name } of allContainers(assignment)) this.record.containers[name] ??= newContainerRecord();
    this.#context = context;
    this.#logger = context.logger.child({ pod: `${assignment.namespace}/${assignment.name}`, podUid: assignment.uid });
  }

  get uid(): string {
    return this.assignment.uid;
  }

  /** The runtime's id of a container's present instance. */
  instanceId(name: string): string {
    const { attempt } = this.record.containers[name]!;
    const known = this.#ids.get(name);
    if (known?.attempt === attempt) return known.id;
    const id = instanceIdOf(this.assignment, name, attempt);
    this.#ids.set(name, { attempt, id });
    return id;
  }

  /** Newer assignments only. What a pod may change while it runs is little; the rest needs a new pod, as upstream. */
  assign(assignment: Assignment): void {
    if (this.#unassigned) {
      this.successor = assignment;
      return;
    }
    if (assignment.generation < this.assignment.generation) return;
    this.assignment = assignment;
    for (const { name } of allContainers(assignment)) this.record.containers[name] ??= newContainerRecord();
    // What was missing may be there now.
    delete this.record.failure;
    for (const own of Object.values(this.record.containers)) if (own.failure && own.failure.reason !== "ErrImagePull") delete own.failure;
    if (assignment.deletion) this.#interrupt.abort(new GantryError("Cancelled", "the pod is being deleted"));
    this.#context.save(this);
    this.ring();
  }

  unassign(): void {
    this.#unassigned = true;
    this.successor = undefined;
    this.#interrupt.abort(new GantryError("Cancelled", "the pod is no longer this node's"));
    this.ring();
  }

  /** Looks what there is to do. May be called at any time, as often as one likes. */
  ring(): void {
    if (this.#closed) return;
    this.#rung = true;
    if (this.#running) return;
    this.#running = true;
    void this.#run();
  }

  /** Ends the pod for the node's sake; see PodService. A longer grace than the pod's own is not given. */
  evict({ message, graceMs }: { readonly message: string; readonly graceMs: number }): boolean {
    if (this.#unassigned || this.record.stop || this.assignment.deletion) return false;
    this.record.verdict = { reason: "Evicted", message };
    this.record.stop = { reason: "failed", deadlineMs: this.#context.clock.nowMs() + Math.min(graceMs, this.assignment.terminationGraceMs) };
    delete this.record.failure;
    this.#interrupt.abort(new GantryError("Cancelled", "the pod is evicted"));
    this.#context.save(this);
    this.ring();
    return true;
  }

  /** The runtime's side of the story, after a restart of the agent. */
  adopt(found: ReadonlyMap<string, { readonly attempt: number; readonly state: ContainerPhase }>, sandboxIntact: boolean): void {
    if (!sandboxIntact) {
      this.record.sandbox = false;
      this.record.volumesGeneration = -1;
    }
    for (const container of allContainers(this.assignment)) {
      const own = this.record.containers[container.name]!;
      const real = found.get(container.name);
      if (real && real.attempt >= own.attempt) {
        own.attempt = real.attempt;
        this.#adoptOne(container, own, real.state);
      } else if (own.phase === "created") {
        own.phase = "none";
      } else if (own.phase === "running") {
        this.#end(own, {
          containerId: this.instanceId(container.name), exitCode: STATUS_UNKNOWN_EXIT_CODE, signal: 0, reason: "ContainerStatusUnknown",
          message: "The container could not be located when the node came back", startedAtMs: own.startedAtMs, finishedAtMs: this.#context.clock.nowMs(),
        });
        own.collected = true;
      }
    }
    this.#context.save(this);
  }

  #adoptOne(container: Container, own: ContainerRecord, state: ContainerPhase): void {
    if (state.phase === "created") {
      own.phase = "created";
    } else if (state.phase === "running") {
      if (own.phase !== "running") this.#begin(container, own, state.startedAtMs);
      else if (own.started && container.readiness === undefined) own.ready = true; // its postStart hook was cut short with the agent, and is not run again
      // The kernel knows; the record may have missed the last step.
      own.paused = this.#context.runtime.isPaused(this.instanceId(container.name));
      if (!own.paused) this.#startProbes(container, own);
    } else if (this.assignment.startAtMs > 0 && state.startedAtMs === 0 && own.phase !== "ended" && own.phase !== "running") {
      this.#makeAnew(own, endedAhead(state.exit));
    } else if (!(own.phase === "ended" && own.end?.containerId === state.exit.id)) {
      own.startedAtMs = state.startedAtMs;
      this.#noteExit(container, own, state.exit);
    } else {
      own.collected = false;
    }
  }

  onExit(name: string, attempt: number, exit: ContainerExit): void {
    const container = allContainers(this.assignment).find((c) => c.name === name);
    const own = this.record.containers[name];
    if (!container || !own || own.attempt !== attempt || own.phase === "ended" || own.phase === "none") return;
    if (own.phase === "created" && this.assignment.startAtMs > this.#context.clock.nowMs()) this.#makeAnew(own, endedAhead(exit));
    else this.#noteExit(container, own, exit);
    this.#context.save(this);
    this.#publish();
    this.ring();
  }

  status(): PodStatus {
    return buildStatus(this.assignment, this.record, this.#statusContext());
  }

  /** Aborted when that instance ends; already is when it doesn't run. */
  ended(name: string): { readonly signal: AbortSignal } & Disposable {
    const controller = new AbortController();
    const abort = (): void => controller.abort();
    const listeners = this.#exitListeners.get(name) ?? new Set();
    this.#exitListeners.set(name, listeners);
    listeners.add(abort);
    const phase = this.record.containers[name]?.phase;
    if (phase !== "running" && phase !== "created") abort();
    return { signal: controller.signal, [Symbol.dispose]: () => void listeners.delete(abort) };
  }

  close(): void {
    this.#closed = true;
    this.#context.bursts.forget(this);
    this.#timer?.[Symbol.dispose]();
    this.#quiet?.[Symbol.dispose]();
    for (const probes of this.#probes.values()) probes[Symbol.dispose]();
    this.#interrupt.abort(new GantryError("Cancelled", "the agent stops"));
  }

  #statusContext(): StatusContext {
    const { clock, hostIp, runtime, cgroupFeatures } = this.#context;
    return { nowMs: clock.nowMs(), hostIp: hostIp(), runtimeScheme: `${runtime.version.split("://")[0]!}://`, cgroupFeatures };
  }

  /** advance() until there is nothing to do. */
  async #run(): Promise<void> {
    try {
      for (;;) {
        // Of a hundred pods that are woken at once each has its turn, step by step: what they do blocks.
        await this.#context.turns.next();
        this.#rung = false;
        this.#timer?.[Symbol.dispose]();
        const step = this.#held(nextStep(this.assignment, this.record, { nowMs: this.#context.clock.nowMs(), unassigned: this.#unassigned }));
        if (step.kind === "wait" || this.#closed) {
          this.#publish();
          if (step.kind === "wait") this.#sleep(step.untilMs);
          return;
        }
        if (IN_LANE.has(step.kind)) {
          if (!this.#place) {
            this.#place = await this.#context.lane.take();
            continue; // things may have changed while it waited
          }
        } else {
          this.#leaveLane();
        }
        await this.#advance(step);
        this.#context.save(this);
        if (step.kind === "finish" && this.record.stop?.reason === "unassigned") {
          this.#closed = true;
          this.#context.bursts.forget(this);
          this.#context.forget(this);
          return;
        }
      }
    } catch (error) {
      // advance() keeps its own failures; this is a fault in this file, and must not take the other pods along.
      this.#logger.error("a pod's worker failed", { err: error });
      this.#timer = this.#context.clock.setTimer(retryDelayMs(1), () => this.ring());
    } finally {
      this.#leaveLane();
      this.#running = false;
      if (this.#rung) this.ring();
    }
  }

  #leaveLane(): void {
    this.#place?.();
    this.#place = undefined;
  }

  #sleep(untilMs: number | undefined): void {
    const { clock, bursts } = this.#context;
    const { startAtMs } = this.assignment;
    const isStaged = startAtMs > clock.nowMs() && !this.record.stop && Object.values(this.record.containers).some((own) => own.phase === "created");
    if (isStaged) bursts.expect(this, startAtMs);
    else bursts.forget(this);
    // Its instant itself is the burst's; what that leaves over is done after the others' books.
    const wakeMs = isStaged && untilMs === startAtMs ? startAtMs + BOOKS_AFTER_MS : untilMs;
    if (wakeMs !== undefined) this.#timer = clock.setTimer(Math.max(0, wakeMs - clock.nowMs()), () => this.ring());
  }

  /** See bursts.ts. In the midst of a step nothing is started here: the worker comes to it by itself. */
  startDue(): number {
    if (this.#inStep || this.#closed) return 0;
    const { clock, runtime } = this.#context;
    let count = 0;
    for (;;) {
      const step = this.#held(nextStep(this.assignment, this.record, { nowMs: clock.nowMs(), unassigned: this.#unassigned }));
      if (step.kind !== "start") return count;
      try {
        const begun = runtime.startAtOnce(this.instanceId(step.container.name));
        if (!begun) return count;
        const own = this.record.containers[step.container.name]!;
        this.#begin(step.container, own, begun.startedAtMs);
        this.record.stagesMs["started"] ??= begun.startedAtMs;
        this.#justStarted.push({ container: step.container, attempt: own.attempt });
      } catch {
        return count; // the usual way finds out why, and says so
      }
      count++;
    }
  }

  settle(): void {
    if (this.#closed) return;
    for (const { container, attempt } of this.#justStarted.splice(0)) {
      const own = this.record.containers[container.name]!;
      // It may have ended already, and run anew.
      if (own.phase === "running" && own.attempt === attempt) this.#afterStart(container, own).catch((error: unknown) => this.#logger.error("what comes after a start failed", { container: container.name, err: error }));
    }
    this.#context.save(this);
    this.ring();
  }

  /** After a failed step nothing but a stop is tried before its time. */
  #held(step: Step): Step {
    const { failure } = this.record;
    if (!failure || step.kind === "wait" || step.kind === "stop" || this.#context.clock.nowMs() >= failure.retryAtMs) return step;
    return { kind: "wait", untilMs: failure.retryAtMs };
  }

  /** Exactly one step, which may be done twice: a crash in its midst leads to the same step again. */
  async #advance(step: Exclude<Step, { readonly kind: "wait" }>): Promise<void> {
    this.#logger.debug("step", { step: step.kind });
    this.#inStep = true;
    try {
      await this.#carryOut(step);
    } catch (error) {
      const count = (this.record.failure?.count ?? 0) + 1;
      const nowMs = this.#context.clock.nowMs();
      this.record.failure = { reason: "FailedCreatePodSandBox", message: describeError(error), atMs: nowMs, retryAtMs: nowMs + Math.min(retryDelayMs(count), 500 * 2 ** count), count };
      this.#logger.warn("a pod's step failed", { step: step.kind, err: error, retryMs: this.record.failure.retryAtMs - nowMs });
      return;
    } finally {
      this.#inStep = false;
    }
    if (CLEARS_FAILURE.has(step.kind)) delete this.record.failure;
  }

  async #carryOut(step: Exclude<Step, { readonly kind: "wait" }>): Promise<void> {
    const { record, assignment } = this;
    const { clock, runtime, steps } = this.#context;
    switch (step.kind) {
      case "pull": return this.#pull(step.container);
      case "sandbox":
        record.ip = await steps.makeSandbox(assignment);
        record.sandbox = true;
        this.#reach("sandboxed");
        return;
      case "volumes":
        await steps.prepareVolumes(assignment, record.ip, { isFirst: record.volumesGeneration < 0 });
        record.volumesGeneration = assignment.generation;
        return;
      case "resize": return this.#resize();
      case "create": return this.#create(step.container);
      case "load": return this.#load(step.container);
      case "start": return this.#start(step.container);
      case "collect": {
        const own = record.containers[step.container.name]!;
        this.#context.flush(this);
        await runtime.remove(this.instanceId(step.container.name), { keepLayer: assignment.keepWritableLayer });
        own.collected = true;
        return;
      }
      case "pause": return this.#pause(step.container);
      case "unpause":
        for (const container of step.containers) this.#unpause(container);
        return;
      case "halt":
        record.halt = { sinceMs: clock.nowMs() };
        return;
      case "halted":
        delete record.halt;
        return;
      case "rerun": return this.#rerun(() => true);
      case "revive": return this.#revive();
      case "restart": return this.#prepareRestart(record.containers[step.container.name]!, step.container);
      case "stop":
        record.stop = step.stop;
        // What it kept for a later start goes with it.
        if (assignment.keepWritableLayer) record.released = false;
        if (step.verdict) record.verdict = step.verdict;
        delete record.failure;
        this.#interrupt.abort(new GantryError("Cancelled", "the pod is to stop"));
        return;
      case "signal":
        for (const container of step.containers) {
          record.containers[container.name]!.signalled = true;
          void this.#askToEnd(container, step.deadlineMs);
        }
        return;
      case "kill":
        for (const container of step.containers) {
          const own = record.containers[container.name]!;
          own.signalled = true;
          await runtime.kill(this.instanceId(container.name), 9);
        }
        if (record.stop) record.stop = { ...record.stop, killedAtMs: clock.nowMs() };
        else if (record.halt) record.halt = { ...record.halt, killedAtMs: clock.nowMs() };
        return;
      case "release": return this.#release();
      case "finish":
        steps.removeLogs(assignment);
        if (record.stop?.reason === "deleted") record.gone = true;
        this.#publish();
        return;
    }
  }

  async #pull(container: Container): Promise<void> {
    const own = this.record.containers[container.name]!;
    // Until then a pod on its way up has no status at all, and nobody could see that its node has heard of it.
    const { clock } = this.#context;
    const name = JSON.stringify(container.image);
    const begunMs = clock.monotonicMs();
    let isSlow = false;
    using _slow = clock.setTimer(SLOW_PULL_MS, () => {
      isSlow = true;
      this.#tell("Normal", "Pulling", `Pulling image ${name}`, container);
    });
    try {
      const image = await this.#context.steps.findImage(this.assignment, container, this.#interrupt.signal);
      own.imageId = image.id;
      own.stopSignal = image.config.stopSignal;
      delete own.failure;
      if (isSlow) this.#tell("Normal", "Pulled", `Successfully pulled image ${name} in ${((clock.monotonicMs() - begunMs) / 1000).toFixed(1)}s. Image size: ${image.sizeBytes} bytes.`, container);
      this.#reach("pulled");
    } catch (error) {
      if (this.#interrupt.signal.aborted) return;
      this.#fail(own, this.#context.steps.imageFailureReason(error), error);
    }
  }

  async #create(container: Container): Promise<void> {
    const own = this.record.containers[container.name]!;
    const { steps, clock } = this.#context;
    try {
      const targetId = container.targetContainer === "" ? undefined : this.instanceId(container.targetContainer);
      own.allocated ??= allocationOf(container);
      const made = await steps.create(this.assignment, withAllocation(container, own), own, this.record.ip, targetId);
      if (made === "image is gone") {
        own.imageId = "";
        return;
      }
      own.phase = "created";
      own.loaded = false;
      own.applied = own.allocated;
      delete own.failure;
      this.#reach("created");
    } catch (error) {
      if (steps.isStartError(error) && this.assignment.startAtMs > clock.nowMs()) {
        // Before its instant nothing of it has run, so nothing has ended either: said now, tried once more at the instant.
        this.#fail(own, "CreateContainerError", error, this.assignment.startAtMs);
      } else if (steps.isStartError(error)) {
        const nowMs = clock.nowMs();
        this.#end(own, { containerId: this.instanceId(container.name), exitCode: 128, signal: 0, reason: "StartError", message: describeError(error), startedAtMs: 0, finishedAtMs: nowMs });
        own.collected = true;
        delete own.failure;
        this.#publish();
      } else {
        this.#fail(own, steps.createFailureReason(error), error);
      }
    }
  }

  async #load(container: Container): Promise<void> {
    const own = this.record.containers[container.name]!;
    try {
      await this.#context.runtime.load(this.instanceId(container.name));
      own.loaded = true;
    } catch (error) {
      this.#makeAnew(own, describeError(error));
    }
  }

  /** Of a staged container that ended before its instant: nothing of it has run, so nothing has ended either. The last try is at the instant. */
  #makeAnew(own: ContainerRecord, why: string): void {
    own.phase = "none";
    const nowMs = this.#context.clock.nowMs();
    this.#fail(own, "CreateContainerError", new GantryError("InternalError", why), Math.min(nowMs + retryDelayMs(1), Math.max(nowMs, this.assignment.startAtMs)));
  }

  async #start(container: Container): Promise<void> {
    const own = this.record.containers[container.name]!;
    const id = this.instanceId(container.name);
    const { runtime } = this.#context;
    let startedAtMs: number;
    try {
      ({ startedAtMs } = await runtime.start(id));
    } catch (error) {
      const state = runtime.inspect(id);
      if (state?.phase === "exited") return this.#noteExit(container, own, state.exit);
      await runtime.remove(id);
      own.phase = "none";
      return this.#fail(own, "RunContainerError", error);
    }
    this.#begin(container, own, startedAtMs);
    this.#reach("started");
    await this.#afterStart(container, own);
  }

  async #afterStart(container: Container, own: ContainerRecord): Promise<void> {
    const { runtime } = this.#context;
    const id = this.instanceId(container.name);
    const isUp = !container.postStart || (await this.#postStart(container, own, id));
    // It may have ended within the same breath.
    const state = runtime.inspect(id);
    if (state?.phase === "exited" && own.phase === "running") this.#noteExit(container, own, state.exit);
    else if (own.phase === "running" && isUp) this.#startProbes(container, own);
    this.#publish();
  }

  async #pause(container: Container): Promise<void> {
    // Frozen, it would answer no probe, and be ended for that.
    this.#stopProbes(container.name);
    const own = this.record.containers[container.name]!;
    try {
      await this.#context.runtime.pause(this.instanceId(container.name));
      own.paused = true;
    } catch (error) {
      if (own.phase !== "running") return; // it ended meanwhile
      this.#startProbes(container, own);
      throw error;
    }
    this.#publish();
  }

  #unpause(container: Container): void {
    const own = this.record.containers[container.name]!;
    this.#context.runtime.unpause(this.instanceId(container.name));
    own.paused = false;
    if (own.phase === "running" && !this.record.stop && !this.record.halt) this.#startProbes(container, own);
    this.#publish();
  }

  /** Whatever has ended runs anew, without waiting, and counts as no crash. In one piece with the note that it is done. */
  #rerun(isMeant: (container: Container) => boolean): void {
    for (const container of podContainers(this.assignment)) {
      const own = this.record.containers[container.name]!;
      delete own.failure;
      const isDone = this.assignment.initContainers.includes(container) && !isSidecar(container) && own.end?.exitCode === 0;
      if (own.phase !== "ended" || (isDone && !isMeant(container))) continue;
      this.#prepareRestart(own, container);
      own.crashes = 0;
    }
    this.record.restartRequest = this.assignment.restartRequest;
    delete this.record.halt;
    delete this.record.failure;
  }

  /** A pod that ended by itself runs again, in a new sandbox. Without its files what init containers prepared is gone, too. */
  #revive(): void {
    this.#rerun(() => !this.assignment.keepWritableLayer);
    delete this.record.stop;
    this.record.released = false;
    this.#interrupt = new AbortController();
  }

  #begin(container: Container, own: ContainerRecord, startedAtMs: number): void {
    own.phase = "running";
    own.startedAtMs = startedAtMs;
    own.signalled = false;
    own.paused = false;
    own.started = container.startup === undefined;
    own.ready = own.started && container.readiness === undefined;
  }

  /** False: it failed, and the container is to end in the usual way. */
  async #postStart(container: Container, own: ContainerRecord, id: string): Promise<boolean> {
    own.ready = false;
    this.#leaveLane(); // it takes as long as its author likes
    try {
      await runHandler(container.postStart!, this.#handlerTarget(id), this.#interrupt.signal);
      own.ready = own.started && container.readiness === undefined;
      return true;
    } catch (error) {
      if (this.#interrupt.signal.aborted || own.phase !== "running") return false; // the pod is to stop, which ends it in its turn
      this.#logger.warn("the postStart hook failed; the container is ended", { container: container.name, err: error });
      this.#tell("Warning", "FailedPostStartHook", `PostStartHook failed: ${describeError(error)}`, container);
      void this.#askToEnd(container, this.#killLater(container, this.assignment.terminationGraceMs));
      return false;
    }
  }

  #handlerTarget(id: string): Parameters<typeof runHandler>[1] {
    const { runtime, clock } = this.#context;
    return { runtime, clock, containerId: id, podIp: this.assignment.hostNetwork ? this.#context.hostIp() : this.record.ip };
  }

  #startProbes(container: Container, own: ContainerRecord): void {
    if (!hasProbes(container) || this.#closed) return;
    const { clock, random } = this.#context;
    const id = this.instanceId(container.name);
    const changed = (change: () => void) => {
      if (own.phase !== "running") return;
      change();
      this.#context.save(this);
      this.#publish();
      this.ring();
    };
    this.#probes.get(container.name)?.[Symbol.dispose]();
    this.#probes.set(container.name, new ContainerProbes(
      { container, target: this.#handlerTarget(id), clock, random, startedAtMs: own.startedAtMs, started: own.started, ready: own.ready },
      {
        onStarted: () => changed(() => {
          own.started = true;
          own.ready = container.readiness === undefined;
        }),
        onReady: (ready) => changed(() => void (own.ready = ready)),
        onFailure: (message) => this.#tell("Warning", "Unhealthy", message, container),
        onUnhealthy: (kind, message, probe) => {
          this.#tell("Normal", "Killing", `Container ${container.name} failed ${kind.toLowerCase()} probe${restartPolicyOf(this.assignment, container) === "Never" ? "" : ", will be restarted"}`, container);
          this.#logger.warn("an unhealthy container is ended", { container: container.name, reason: message });
          void this.#askToEnd(container, this.#killLater(container, probe.terminationGraceMs || this.assignment.terminationGraceMs));
        },
      },
    ));
  }

  /** preStop hook, then the stop signal; whoever calls sees to it that SIGKILL follows at the deadline. */
  async #askToEnd(container: Container, deadlineMs: number): Promise<void> {
    const { clock, steps } = this.#context;
    const own = this.record.containers[container.name]!;
    const signal = this.#toThisInstance(container);
    if (container.preStop) {
      using ended = this.ended(container.name);
      const late = new AbortController();
      using _timer = clock.setTimer(deadlineMs - clock.nowMs(), () => late.abort(new GantryError("Timeout", "the grace period is over")));
      try {
        await runHandler(container.preStop, this.#handlerTarget(this.instanceId(container.name)), AbortSignal.any([late.signal, ended.signal]));
      } catch (error) {
        if (!ended.signal.aborted) this.#tell("Warning", "FailedPreStopHook", `PreStopHook failed: ${describeError(late.signal.aborted ? late.signal.reason : error)}`, container);
      }
    }
    await signal(steps.stopSignal(this.assignment.stopSignal || own.stopSignal));
  }

  async #quietly(work: Promise<void>): Promise<void> {
    try {
      await work;
    } catch (error) {
      if (!isCode(error, "NotFound")) this.#logger.warn("ending a container: a part of it failed", { err: error });
    }
  }

  #prepareRestart(own: ContainerRecord, container: Container): void {
    const crashes = crashesAfter(own);
    const { end, attempt, imageId, stopSignal } = own;
    // The files that it keeps lie on top of this very image.
    const kept = this.assignment.keepWritableLayer ? { imageId, stopSignal } : {};
    Object.assign(own, newContainerRecord(), { attempt: attempt + 1, crashes, ...kept });
    delete own.failure;
    delete own.end;
    delete own.applied;
    delete own.restarting;
    if (end) own.lastEnd = end;
    this.#context.steps.dropOldLogs(this.assignment, container.name, attempt);
  }

  /** Takes what the assignment asks for now, if the node has it, and brings it into force. May be done twice. */
  #resize(): void {
    const { record, assignment } = this;
    const { clock, steps } = this.#context;
    const { generation } = assignment;
    const all = allContainers(assignment);
    if (all.some((c) => isUnallocated(c, record.containers[c.name]))) {
      const verdict = this.#context.admitResize(this);
      if (verdict.state !== "ok") {
        record.resize = { ...verdict, generation, retryAtMs: verdict.state === "Deferred" ? clock.nowMs() + RESIZE_AGAIN_MS : 0 };
        this.#publish();
        return;
      }
      for (const c of all) if (record.containers[c.name]!.allocated) record.containers[c.name]!.allocated = allocationOf(c);
    }
    try {
      const unapplied = all.filter((c) => isUnapplied(record.containers[c.name]));
      const restarting = unapplied.filter((c) => takesRestart(c, record.containers[c.name]!.applied!, record.containers[c.name]!.allocated!));
      steps.applyResources(assignment, unapplied.filter((c) => !restarting.includes(c)).map((container) => ({ container, id: this.instanceId(container.name) })), record);
      for (const c of unapplied) record.containers[c.name]!.applied = record.containers[c.name]!.allocated!;
      for (const c of restarting) {
        record.containers[c.name]!.restarting = true;
        void this.#askToEnd(c, this.#killLater(c, assignment.terminationGraceMs));
      }
      delete record.resize;
      this.#logger.info("resources of a running pod were changed", { containers: unapplied.map((c) => c.name).join(",") });
    } catch (error) {
      record.resize = { state: "InProgress", message: describeError(error), generation, retryAtMs: clock.nowMs() + RESIZE_AGAIN_MS };
    }
    this.#publish();
  }

  /** SIGKILL when the grace is over, if it still runs. Returns when that is. */
  #killLater(container: Container, graceMs: number): number {
    const { clock } = this.#context;
    const signal = this.#toThisInstance(container);
    clock.setTimer(graceMs, () => void signal(9));
    return clock.nowMs() + graceMs;
  }

  /** Signals the instance that is there now, at once or later: with kept files the next one has the same id. */
  #toThisInstance(container: Container): (signal: number) => Promise<void> {
    const own = this.record.containers[container.name]!;
    const { attempt } = own;
    const id = this.instanceId(container.name);
    return async (signal) => {
      if (own.attempt === attempt) await this.#quietly(this.#context.runtime.kill(id, signal));
    };
  }

  async #release(): Promise<void> {
    const { runtime, steps } = this.#context;
    this.#context.flush(this);
    const records = Object.entries(this.record.containers);
    const keeps = this.assignment.keepWritableLayer;
    // A pod that ended by itself may be started again; with its files, if it keeps them.
    const keepLayer = keeps && this.record.stop?.reason === "finished";
    const isThere = (own: ContainerRecord): boolean => own.phase !== "none" && !(own.phase === "ended" && own.collected);
    await Promise.all(records.filter(([, own]) => isThere(own) || (keeps && !keepLayer)).map(([name]) => runtime.remove(this.instanceId(name), { keepLayer })));
    for (const [, own] of records) {
      if (own.phase === "created") own.phase = "none";
      own.collected = true;
    }
    await steps.release(this.assignment, { keepVolumes: keepLayer });
    this.record.sandbox = false;
    this.record.volumesGeneration = -1;
    this.record.released = true;
  }

  #noteExit(container: Container, own: ContainerRecord, exit: ContainerExit): void {
    const byRequest = own.signalled && this.record.stop === undefined;
    const reason = exit.oomKilled ? "OOMKilled" : byRequest ? "Stopped" : exit.exitCode === 0 ? "Completed" : "Error";
    const message = this.#context.steps.terminationMessage(this.assignment, container, own.attempt, exit.exitCode);
    this.#end(own, { containerId: exit.id, exitCode: exit.exitCode, signal: exit.signal, reason, message, startedAtMs: own.startedAtMs, finishedAtMs: exit.finishedAtMs, ...(byRequest ? { byRequest } : {}) });
    this.#stopProbes(container.name);
    for (const tell of this.#exitListeners.get(container.name) ?? []) tell();
  }

  #stopProbes(name: string): void {
    this.#probes.get(name)?.[Symbol.dispose]();
    this.#probes.delete(name);
  }

  #end(own: ContainerRecord, end: NonNullable<ContainerRecord["end"]>): void {
    Object.assign(own, { phase: "ended", end, collected: false, ready: false, started: false, signalled: false, paused: false } satisfies Partial<ContainerRecord>);
  }

  #fail(own: ContainerRecord, reason: string, error: unknown, againAtMs?: number): void {
    const nowMs = this.#context.clock.nowMs();
    const count = (own.failure?.count ?? 0) + 1;
    const retryAtMs = againAtMs ?? nowMs + retryDelayMs(count);
    own.failure = { reason, message: describeError(error), atMs: nowMs, retryAtMs, count } satisfies Failure;
    this.#logger.warn("a container can't be started", { reason, err: error, retryMs: retryAtMs - nowMs });
    this.#publish();
  }

  /** Something that the status doesn't show, for the pod's events. */
  #tell(type: "Normal" | "Warning", reason: string, message: string, container: Container): void {
    this.#incidents.push({ type, reason, message, container: container.name });
    this.#publish();
  }

  /** The first time that the pod gets there counts. */
  #reach(stage: string): void {
    this.record.stagesMs[stage] ??= this.#context.clock.nowMs();
  }

  /** Reports if there is news. A pod on its way up is given a moment, so that most pods cost one report: "Running". */
  #publish(): void {
    if (this.#unassigned || this.#closed) return;
    const status = this.status();
    const text = JSON.stringify({ ...status, generation: 0, stagesMs: 0 });
    if (text === this.#last && this.#incidents.length === 0) return;
    // On its way out nobody needs to hear of each container's end, as long as it is quick.
    const isLeaving = this.record.stop?.reason === "deleted" && !status.gone;
    const waitMs = this.#late ? 0 : isLeaving ? QUIET_MS : isMereProgress(status) ? this.record.startTimeMs + QUIET_MS - this.#context.clock.nowMs() : 0;
    if (waitMs > 0) {
      this.#quiet ??= this.#context.clock.setTimer(waitMs, () => {
        this.#quiet = undefined;
        this.#late = true;
        this.#publish();
        this.#late = false;
      });
      return;
    }
    this.#quiet?.[Symbol.dispose]();
    this.#quiet = undefined;
    this.#last = text;
    this.record.generation++;
    this.#context.save(this);
    this.#context.report({ ...status, generation: this.record.generation, incidents: this.#incidents.splice(0) });
  }
}
