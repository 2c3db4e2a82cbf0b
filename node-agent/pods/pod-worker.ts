// One pod's worker: asks next-step.ts what to do, does it, notes how far it came, and reports. At most one step at a time; events (a new
// assignment, an exit, a timer, a probe) change the record and ring the bell. The only writer of its pod's record.
import type { Clock } from "../../base/clock.ts";
import { GantryError, describeError, isCode } from "../../base/errors.ts";
import type { Logger } from "../../base/logger.ts";
import type { Container, PodStatus } from "../../proto/gen/gantry/v1/agent.ts";
import type { ContainerExit, ContainerPhase, ContainerRuntime } from "../runtime/container-runtime.ts";
import type { Permits } from "../runtime/permits.ts";
import type { Assignment } from "./assignment.ts";
import type { ContainerSteps } from "./container-steps.ts";
import { runHandler } from "./handlers.ts";
import { crashesAfter, nextStep, type Step } from "./next-step.ts";
import { allContainers, containerId, newContainerRecord, newPodRecord, type ContainerRecord, type Failure, type PodRecord } from "./pod-record.ts";
import { buildStatus, isMereProgress, type StatusContext } from "./pod-status.ts";
import { ContainerProbes, hasProbes } from "./probes.ts";
import { retryDelayMs } from "./restart-delay.ts";

export interface WorkerContext {
  readonly clock: Clock;
  readonly random: () => number;
  readonly logger: Logger;
  readonly runtime: ContainerRuntime;
  readonly steps: ContainerSteps;
  /** Pods between sandbox and start: finishing one beats beginning all. */
  readonly lane: Permits;
  readonly hostIp: () => string;
  /** Soon, together with what others save. */
  save(worker: PodWorker): void;
  /** Now: before what can't be found out again is destroyed. */
  flush(): void;
  report(status: PodStatus): void;
  forget(worker: PodWorker): void;
}

/** A pod that comes up within this time is reported once, when it runs. */
const QUIET_MS = 300;
/** SIGKILL is sent again if a process is still there. */
const KILL_AGAIN_MS = 10_000;
const STATUS_UNKNOWN_EXIT_CODE = 137;
/** Steps between which a pod keeps its place in the lane. */
const IN_LANE: ReadonlySet<Step["kind"]> = new Set(["sandbox", "volumes", "create", "start"] as const);

export class PodWorker {
  assignment: Assignment;
  readonly record: PodRecord;
  /** A new assignment for the uid came when this pod was on its way out. */
  successor: Assignment | undefined;
  readonly #context: WorkerContext;
  readonly #logger: Logger;
  readonly #probes = new Map<string, ContainerProbes>();
  readonly #exitListeners = new Map<string, Set<() => void>>();
  readonly #ids = new Map<string, { readonly attempt: number; readonly id: string }>();
  #unassigned = false;
  #running = false;
  #rung = false;
  #closed = false;
  #timer: Disposable | undefined;
  #quiet: Disposable | undefined;
  #last = "";
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
    const id = containerId(this.uid, name, attempt);
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
      this.#startProbes(container, own);
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
    if (!container || !own || own.attempt !== attempt || own.phase === "ended") return;
    this.#noteExit(container, own, exit);
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
    if (this.record.containers[name]?.phase !== "running") abort();
    return { signal: controller.signal, [Symbol.dispose]: () => void listeners.delete(abort) };
  }

  close(): void {
    this.#closed = true;
    this.#timer?.[Symbol.dispose]();
    this.#quiet?.[Symbol.dispose]();
    for (const probes of this.#probes.values()) probes[Symbol.dispose]();
    this.#interrupt.abort(new GantryError("Cancelled", "the agent stops"));
  }

  #statusContext(): StatusContext {
    const { clock, hostIp, runtime } = this.#context;
    return { nowMs: clock.nowMs(), hostIp: hostIp(), runtimeScheme: `${runtime.version.split("://")[0]!}://` };
  }

  /** advance() until there is nothing to do. */
  async #run(): Promise<void> {
    let leaveLane: (() => void) | undefined;
    try {
      for (;;) {
        this.#rung = false;
        this.#timer?.[Symbol.dispose]();
        const step = this.#held(nextStep(this.assignment, this.record, { nowMs: this.#context.clock.nowMs(), unassigned: this.#unassigned }));
        if (step.kind === "wait" || this.#closed) {
          this.#publish();
          if (step.kind === "wait" && step.untilMs !== undefined) this.#timer = this.#context.clock.setTimer(Math.max(0, step.untilMs - this.#context.clock.nowMs()), () => this.ring());
          return;
        }
        if (IN_LANE.has(step.kind)) {
          if (!leaveLane) {
            leaveLane = await this.#context.lane.take();
            continue; // things may have changed while it waited
          }
        } else {
          leaveLane?.();
          leaveLane = undefined;
        }
        await this.#advance(step);
        this.#context.save(this);
        if (step.kind === "finish" && this.record.stop?.reason === "unassigned") {
          this.#closed = true;
          this.#context.forget(this);
          return;
        }
      }
    } catch (error) {
      // advance() keeps its own failures; this is a fault in this file, and must not take the other pods along.
      this.#logger.error("a pod's worker failed", { err: error });
      this.#timer = this.#context.clock.setTimer(retryDelayMs(1), () => this.ring());
    } finally {
      leaveLane?.();
      this.#running = false;
      if (this.#rung) this.ring();
    }
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
    try {
      await this.#carryOut(step);
    } catch (error) {
      const count = (this.record.failure?.count ?? 0) + 1;
      const nowMs = this.#context.clock.nowMs();
      this.record.failure = { reason: "FailedCreatePodSandBox", message: describeError(error), atMs: nowMs, retryAtMs: nowMs + Math.min(retryDelayMs(count), 500 * 2 ** count), count };
      this.#logger.warn("a pod's step failed", { step: step.kind, err: error, retryMs: this.record.failure.retryAtMs - nowMs });
      return;
    }
    if (step.kind === "sandbox" || step.kind === "volumes" || step.kind === "release") delete this.record.failure;
  }

  async #carryOut(step: Exclude<Step, { readonly kind: "wait" }>): Promise<void> {
    const { record, assignment } = this;
    const { clock, runtime, steps } = this.#context;
    switch (step.kind) {
      case "pull": return this.#pull(step.container);
      case "sandbox":
        record.ip = steps.makeSandbox(assignment);
        record.sandbox = true;
        this.#reach("sandboxed");
        return;
      case "volumes":
        steps.prepareVolumes(assignment, record.ip);
        record.volumesGeneration = assignment.generation;
        return;
      case "create": return this.#create(step.container);
      case "start": return this.#start(step.container);
      case "collect": {
        const own = record.containers[step.container.name]!;
        this.#context.flush();
        await runtime.remove(this.instanceId(step.container.name));
        own.collected = true;
        return;
      }
      case "restart": return this.#prepareRestart(record.containers[step.container.name]!, step.container);
      case "stop":
        record.stop = step.stop;
        if (step.verdict) record.verdict = step.verdict;
        delete record.failure;
        this.#interrupt.abort(new GantryError("Cancelled", "the pod is to stop"));
        return;
      case "signal":
        for (const container of step.containers) {
          record.containers[container.name]!.signalled = true;
          void this.#askToEnd(container, record.stop!.deadlineMs);
        }
        return;
      case "kill":
        for (const container of step.containers) {
          const own = record.containers[container.name]!;
          own.signalled = true;
          await runtime.kill(this.instanceId(container.name), 9);
        }
        record.stop = { ...record.stop!, deadlineMs: clock.nowMs() + KILL_AGAIN_MS };
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
    try {
      const image = await this.#context.steps.findImage(this.assignment, container, this.#interrupt.signal);
      own.imageId = image.id;
      own.stopSignal = image.config.stopSignal;
      delete own.failure;
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
      const made = await steps.create(this.assignment, container, own, this.record.ip);
      if (made === "image is gone") {
        own.imageId = "";
        return;
      }
      own.phase = "created";
      delete own.failure;
      this.#reach("created");
    } catch (error) {
      if (steps.isStartError(error)) {
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
    if (container.postStart) await this.#postStart(container, own, id);
    // It may have ended within the same breath.
    const state = runtime.inspect(id);
    if (state?.phase === "exited" && own.phase === "running") this.#noteExit(container, own, state.exit);
    else if (own.phase === "running") this.#startProbes(container, own);
    this.#publish();
  }

  #begin(container: Container, own: ContainerRecord, startedAtMs: number): void {
    own.phase = "running";
    own.startedAtMs = startedAtMs;
    own.signalled = false;
    own.started = container.startup === undefined;
    own.ready = own.started && container.readiness === undefined;
  }

  async #postStart(container: Container, own: ContainerRecord, id: string): Promise<void> {
    own.ready = false;
    try {
      await runHandler(container.postStart!, this.#handlerTarget(id), this.#interrupt.signal);
      own.ready = own.started && container.readiness === undefined;
    } catch (error) {
      this.#logger.warn("the postStart hook failed; the container is ended", { container: container.name, err: error });
      await this.#context.runtime.kill(id, 9);
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
        onUnhealthy: (message, probe) => {
          this.#logger.warn("an unhealthy container is ended", { container: container.name, reason: message });
          const deadlineMs = clock.nowMs() + (probe.terminationGraceMs || this.assignment.terminationGraceMs);
          void this.#askToEnd(container, deadlineMs);
          clock.setTimer(deadlineMs - clock.nowMs(), () => void this.#quietly(this.#context.runtime.kill(id, 9)));
        },
      },
    ));
  }

  /** preStop hook, then the stop signal; whoever calls sees to it that SIGKILL follows at the deadline. */
  async #askToEnd(container: Container, deadlineMs: number): Promise<void> {
    const { clock, runtime } = this.#context;
    const own = this.record.containers[container.name]!;
    const id = this.instanceId(container.name);
    if (container.preStop) {
      const late = new AbortController();
      using _timer = clock.setTimer(deadlineMs - clock.nowMs(), () => late.abort(new GantryError("Timeout", "the grace period is over")));
      await this.#quietly(runHandler(container.preStop, this.#handlerTarget(id), late.signal));
    }
    await this.#quietly(runtime.kill(id, this.#context.steps.stopSignal(own)));
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
    const { end, attempt } = own;
    Object.assign(own, newContainerRecord(), { attempt: attempt + 1, crashes });
    delete own.failure;
    delete own.end;
    if (end) own.lastEnd = end;
    this.#context.steps.dropOldLogs(this.assignment, container.name, attempt);
  }

  async #release(): Promise<void> {
    const { runtime, steps } = this.#context;
    this.#context.flush();
    const records = Object.entries(this.record.containers);
    await Promise.all(records.filter(([, own]) => own.phase !== "none" && !(own.phase === "ended" && own.collected)).map(([name]) => runtime.remove(this.instanceId(name))));
    for (const [, own] of records) {
      if (own.phase === "created") own.phase = "none";
      own.collected = true;
    }
    await steps.release(this.assignment);
    this.record.sandbox = false;
    this.record.volumesGeneration = -1;
    this.record.released = true;
  }

  #noteExit(container: Container, own: ContainerRecord, exit: ContainerExit): void {
    const reason = exit.oomKilled ? "OOMKilled" : exit.exitCode === 0 ? "Completed" : "Error";
    const message = this.#context.steps.terminationMessage(this.assignment, container, own.attempt, exit.exitCode);
    this.#end(own, { containerId: exit.id, exitCode: exit.exitCode, signal: exit.signal, reason, message, startedAtMs: own.startedAtMs, finishedAtMs: exit.finishedAtMs });
    this.#probes.get(container.name)?.[Symbol.dispose]();
    this.#probes.delete(container.name);
    for (const tell of this.#exitListeners.get(container.name) ?? []) tell();
  }

  #end(own: ContainerRecord, end: NonNullable<ContainerRecord["end"]>): void {
    Object.assign(own, { phase: "ended", end, collected: false, ready: false, started: false, signalled: false } satisfies Partial<ContainerRecord>);
  }

  #fail(own: ContainerRecord, reason: string, error: unknown): void {
    const nowMs = this.#context.clock.nowMs();
    const count = (own.failure?.count ?? 0) + 1;
    own.failure = { reason, message: describeError(error), atMs: nowMs, retryAtMs: nowMs + retryDelayMs(count), count } satisfies Failure;
    this.#logger.warn("a container can't be started", { reason, err: error, retryMs: retryDelayMs(count) });
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
    if (text === this.#last) return;
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
    this.#context.report({ ...status, generation: this.record.generation });
  }
}
