// A container runtime in memory, for tests of what stands above it. Its "processes" understand a few scripts of `sh -c`: `exit N` ends at
// once with N, what starts with `trap` ends with 0 at SIGTERM, everything else runs until SIGKILL. What is in a FakeMachine survives the
// runtime that made it, as real containers survive the agent.
import type { Clock } from "../../base/clock.ts";
import { GantryError } from "../../base/errors.ts";
import type { ContainerInput } from "./attach.ts";
import type { ContainerExit, ContainerPhase, ContainerRuntime, ContainerSpec, ExecOptions } from "./container-runtime.ts";

interface FakeContainer {
  readonly spec: ContainerSpec;
  state: ContainerPhase;
  /** Has the exit been told to somebody? */
  told: boolean;
}

export class FakeMachine {
  readonly containers = new Map<string, FakeContainer>();
  /** Kept writable layers, by container id. */
  readonly layers = new Set<string>();
  /** What was written to standard input. */
  readonly inputs = new Map<string, string[]>();
  /** Signals to what is frozen: they arrive when it goes on. */
  readonly held = new Map<string, number[]>();
  readonly frozen = new Set<string>();
  nextPid = 100;
  /** The runtime that listens now. */
  listener: ((id: string) => void) | undefined;
}

type CallName = "create" | "load" | "start" | "kill" | "remove" | "exec" | "pause";

export interface FakeRuntimeOptions {
  readonly clock: Clock;
  readonly machine?: FakeMachine;
}

export class FakeRuntime implements ContainerRuntime {
  readonly version = "fake://1.0.0";
  hasHandler = (name: string): boolean => name === "" || name === "fake";
  handlers = (): ReturnType<ContainerRuntime["handlers"]> => ["", "fake"].map((name) => ({ name, joinsUserNamespaces: true }));
  readonly machine: FakeMachine;
  /** Every call, as "create ID", for assertions on order. */
  readonly calls: string[] = [];
  /** Thrown by the next call of that name. */
  readonly failNext = new Map<CallName, Error>();
  readonly #clock: Clock;
  readonly #handlers = new Set<(exit: ContainerExit) => void>();

  constructor({ clock, machine = new FakeMachine() }: FakeRuntimeOptions) {
    this.#clock = clock;
    this.machine = machine;
    machine.listener = (id) => this.#tell(id);
  }

  async create(spec: ContainerSpec): Promise<{ readonly pid: number }> {
    await this.#call("create", spec.id);
    if (this.machine.containers.has(spec.id)) throw new GantryError("AlreadyExists", `container ${spec.id} exists`);
    const command = spec.args[0] ?? "";
    if (command !== "sh") throw new GantryError("Invalid", `unable to start container process: exec: ${JSON.stringify(command)}: executable file not found in $PATH`);
    const pid = this.machine.nextPid++;
    if (spec.keepLayer) this.machine.layers.add(spec.id);
    this.machine.containers.set(spec.id, { spec, state: { phase: "created", pid }, told: false });
    return { pid };
  }

  async start(id: string): Promise<{ readonly startedAtMs: number }> {
    await this.#call("start", id);
    return this.#start(id);
  }

  async load(id: string): Promise<void> {
    await this.#call("load", id);
    if (this.#get(id).state.phase !== "created") throw new GantryError("FailedPrecondition", `container ${id} is not created`);
  }

  startAtOnce(id: string): { readonly startedAtMs: number } {
    this.calls.push(`start ${id}`);
    return this.#start(id);
  }

  #start(id: string): { readonly startedAtMs: number } {
    const container = this.#get(id);
    const { state } = container;
    if (state.phase !== "created") throw new GantryError("FailedPrecondition", `container ${id} is ${state.phase}, not created`);
    const startedAtMs = this.#clock.nowMs();
    container.state = { phase: "running", pid: state.pid, startedAtMs };
    const exit = /^exit (\d+)$/.exec(container.spec.args[2] ?? "");
    if (exit) setImmediate(() => this.end(id, Number(exit[1])));
    return { startedAtMs };
  }

  async kill(id: string, signal: number): Promise<void> {
    await this.#call("kill", `${id} ${signal}`);
    const container = this.#get(id);
    if (container.state.phase === "exited") return;
    // As on version 1 of control groups: what is frozen hears nothing.
    if (this.machine.frozen.has(id)) {
      this.machine.held.set(id, [...(this.machine.held.get(id) ?? []), signal]);
      return;
    }
    this.#deliver(id, signal);
  }

  #deliver(id: string, signal: number): void {
    const container = this.#get(id);
    if (signal === 9) setImmediate(() => this.end(id, 137, 9));
    else if (signal === 15 && container.state.phase === "running" && container.spec.args[2]?.startsWith("trap")) setImmediate(() => this.end(id, 0));
  }

  async pause(id: string): Promise<void> {
    await this.#call("pause", id);
    if (this.#get(id).state.phase !== "running") throw new GantryError("FailedPrecondition", `container ${id} is not running`);
    this.machine.frozen.add(id);
  }

  unpause(id: string): void {
    this.calls.push(`unpause ${id}`);
    this.#get(id);
    this.machine.frozen.delete(id);
    for (const signal of this.machine.held.get(id) ?? []) this.#deliver(id, signal);
    this.machine.held.delete(id);
  }

  isPaused(id: string): boolean {
    return this.machine.frozen.has(id);
  }

  keptLayers(): readonly string[] {
    return [...this.machine.layers];
  }

  async remove(id: string, { keepLayer = false }: { readonly keepLayer?: boolean } = {}): Promise<void> {
    await this.#call("remove", id);
    if (!keepLayer) this.machine.layers.delete(id);
    if (!this.machine.containers.has(id)) return;
    this.end(id, 137, 9);
    this.machine.containers.delete(id);
  }

  async exec(id: string, options: ExecOptions): Promise<{ readonly exitCode: number }> {
    await this.#call("exec", id);
    if (this.#get(id).state.phase !== "running") throw new GantryError("FailedPrecondition", `container ${id} is not running`);
    const [command, , script = ""] = options.command;
    if (command !== "sh") {
      await options.onStderr(Buffer.from(`OCI runtime exec failed: exec failed: unable to start container process: exec: ${JSON.stringify(command)}: executable file not found in $PATH\n`));
      return { exitCode: 127 };
    }
    for (const part of script.split("; ")) {
      const echo = /^echo (\S+)( >&2)?$/.exec(part);
      if (echo) await (echo[2] ? options.onStderr : options.onStdout)(Buffer.from(`${echo[1]}\n`));
      if (part === "cat") for await (const chunk of options.stdin ?? []) await options.onStdout(chunk);
      const exit = /^exit (\d+)$/.exec(part);
      if (exit) return { exitCode: Number(exit[1]) };
    }
    return { exitCode: 0 };
  }

  openInput(id: string): ContainerInput {
    const { spec } = this.#get(id);
    if (!spec.stdin) throw new GantryError("FailedPrecondition", `container ${id} was made without standard input`);
    const input = this.machine.inputs.get(id) ?? [];
    this.machine.inputs.set(id, input);
    return {
      write: async (data) => void input.push(Buffer.from(data).toString()),
      end: () => void input.push("END"), [Symbol.dispose]: () => undefined,
    };
  }

  resizeTerminal(id: string, { width, height }: { readonly width: number; readonly height: number }): void {
    this.calls.push(`resize ${id} ${width}x${height}`);
  }

  openRoot(id: string): Promise<never> {
    return Promise.reject(new GantryError("FailedPrecondition", `container ${id} has no files: this runtime is a fake`));
  }

  processes(id: string): readonly number[] {
    const { state } = this.#get(id);
    return state.phase === "running" ? [state.pid] : [];
  }

  inspect(id: string): ContainerPhase | undefined {
    return this.machine.containers.get(id)?.state;
  }

  onExit(handler: (exit: ContainerExit) => void): Disposable {
    this.#handlers.add(handler);
    return { [Symbol.dispose]: () => void this.#handlers.delete(handler) };
  }

  async recover(): ReturnType<ContainerRuntime["recover"]> {
    await Promise.resolve();
    const found = [...this.machine.containers].map(([id, { spec, state }]) => ({ id, labels: spec.labels, state }));
    for (const { id } of found) this.#tell(id);
    return found;
  }

  async reopenLog(id: string): Promise<void> {
    this.calls.push(`reopenLog ${id}`);
    this.#get(id);
    await Promise.resolve();
  }

  close(): void {
    this.#handlers.clear();
    if (this.machine.listener) this.machine.listener = undefined;
  }

  /** The process of `id` ends, as if by itself. Works without a runtime that listens, too. */
  end(id: string, exitCode: number, signal = 0, oomKilled = false): void {
    const container = this.machine.containers.get(id);
    if (!container || container.state.phase === "exited") return;
    const startedAtMs = container.state.phase === "running" ? container.state.startedAtMs : 0;
    this.machine.frozen.delete(id);
    container.state = { phase: "exited", startedAtMs, exit: { id, exitCode, signal, oomKilled, finishedAtMs: this.#clock.nowMs() } };
    this.machine.listener?.(id);
  }

  #tell(id: string): void {
    const container = this.machine.containers.get(id);
    if (container?.state.phase !== "exited" || container.told || this.#handlers.size === 0) return;
    container.told = true;
    for (const handler of this.#handlers) handler(container.state.exit);
  }

  #get(id: string): FakeContainer {
    const container = this.machine.containers.get(id);
    if (!container) throw new GantryError("NotFound", `no container ${id} on this node`);
    return container;
  }

  async #call(name: CallName, detail: string): Promise<void> {
    this.calls.push(`${name} ${detail}`);
    const failure = this.failNext.get(name);
    this.failNext.delete(name);
    await Promise.resolve();
    if (failure) throw failure;
  }
}
