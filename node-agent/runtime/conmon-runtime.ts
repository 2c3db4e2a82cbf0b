// The container runtime on Linux: overlay root, OCI bundle, conmon and the OCI runtime. It alone writes below its two directories:
//   RUNROOT/containers/ID/  bundle: config.json, rootfs, container.json (made last: without it the container is half made), load, started
//   RUNROOT/exits/ID        exit code, written by conmon        RUNROOT/oci/ID  the OCI runtime's own state
//   RUNROOT/roots/ID        root of a container that has ended, while somebody copies
//   ROOT/containers/ID/     writable layer, on disk; with `keep` in it, it outlives its container
// Memory holds only what these files say: after a SIGKILL at any point recover() finds the same. One turn changes a container: calls
// for one id are not to overlap (pods/ has one worker a pod), but exits come at any time.
import { createHash } from "node:crypto";
import { execFile } from "node:child_process";
import { chmodSync, closeSync, constants as fsConstants, existsSync, mkdirSync, openSync, readFileSync, readdirSync, rmSync, rmdirSync, statSync, watch, writeFileSync, type FSWatcher } from "node:fs";
import { mkdir, rm } from "node:fs/promises";
import { availableParallelism, constants } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import type { Clock } from "../../base/clock.ts";
import { GantryError, describeError, isCode } from "../../base/errors.ts";
import { newId } from "../../base/ids.ts";
import type { Logger } from "../../base/logger.ts";
import type { Metrics } from "../../base/metrics.ts";
import { Permits } from "../../base/permits.ts";
import { Turns } from "../../base/turns.ts";
import { spreadDirectories } from "../linux/directories.ts";
import { O_PATH } from "../linux/files.ts";
import { isErrno } from "../linux/libc.ts";
import { execHeld } from "../linux/held-exec.ts";
import { mountIdmappedOverlay } from "../linux/idmap.ts";
import { detachElsewhere, ensureTmpfs, mountOverlay, unmount, unmountAllBelow, type OverlayOptions } from "../linux/mount.ts";
import { isAlive, isStopped, processStartTime, signalProcess } from "../linux/process.ts";
import { openInput, type ContainerInput } from "./attach.ts";
import { buildConfig, closedPaths, ociJson, type Host, type OciConfig, type OciProcess } from "./bundle.ts";
import { createUnderConmon, reopenLog, resizeTerminal } from "./conmon.ts";
import type { ContainerCgroups } from "./container-cgroups.ts";
import type { ContainerExit, ContainerPhase, ContainerRoot, ContainerRuntime, ContainerSpec, ExecOptions } from "./container-runtime.ts";
import { checkCage } from "./check-cage.ts";
import { execInContainer } from "./exec.ts";
import { readHost } from "./host.ts";
import { mendNullDevice } from "./null-device.ts";
import { VERSION_DEADLINE_MS, compiledSeccomp, findCommand, forgetContainer, ociMessage, openOciRuntime, readIfThere, startAtOnce, startContainer, startFailure, waitsForStart, type OciRuntime } from "./oci-runtime.ts";
import { resizeTerminalOf } from "./terminal-size.ts";
import { resolveUserIn, type OciUser } from "./user.ts";

export interface ConmonRuntimeOptions {
  /** Writable layers: a disk. */
  readonly root: string;
  /** What a reboot may take; short, because sockets lie below it. A tmpfs is mounted on it where it is on a disk: open() before anything else uses it. */
  readonly runRoot: string;
  /** Name or path; "" or absent: crun, else runc. */
  readonly ociRuntime?: string;
  /** More of them, for RuntimeClasses: handler -> name or path. crun and runc need not be named where they are installed. */
  readonly handlers?: Readonly<Record<string, string>>;
  /** Absent or "": conmon on PATH. */
  readonly conmon?: string;
  /** Seccomp profiles of type Localhost are below it. Default: ROOT/seccomp. */
  readonly seccompDir?: string;
  readonly cgroups: ContainerCgroups;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** Creations at a time; more than processors only makes them wait for each other in the kernel. */
  readonly parallelCreates?: number;
}

/** container.json: what can't be found out otherwise. */
interface Saved {
  readonly labels: Readonly<Record<string, string>>;
  readonly cgroupPath: string;
  readonly pid: number;
  readonly startTicks: number;
  readonly process: OciProcess;
  /** Absent in files of older agents. */
  readonly stdin?: boolean;
  /** Its first process doesn't take the others along: they are not in a process namespace of its own. */
  readonly sharesPids?: boolean;
  /** Of its RuntimeClass; absent: the default. */
  readonly handler?: string;
  /** Which id of the machine its user 0 is; absent: 0, no user namespace. */
  readonly firstId?: number;
}

interface Container extends Saved {
  readonly id: string;
  state: ContainerPhase;
  /** Its program stands before its first instruction. */
  isLoaded?: boolean;
}

interface StoppedRoot {
  readonly path: string;
  users: number;
  readonly waiting: (() => void)[];
}

const ID = /^[A-Za-z0-9][A-Za-z0-9-]{12,127}$/;
const { SIGCONT, SIGKILL } = constants.signals;
/** The file `load` of a bundle: its program is being loaded; it was. */
const LOADING = "loading";
const LOADED = "loaded";
/** How long a program may take to load: on a busy machine, and from a file system that does not answer. */
const LOAD_DEADLINE_MS = 30_000;
/** Beside a writable layer: it is not to go with its container. */
const KEEP = "keep";
/** How long a killed container may take to be reported as ended. */
const KILL_DEADLINE_MS = 10_000;
/** After a restart: how long conmon may still take to write the exit code of a process that is gone. */
const EXIT_FILE_DEADLINE_MS = 2000;
/** How often containers are looked at whose end nobody would tell, because their conmon was killed. One small read for each. */
const LOOK_MS = 10_000;
/** The same, after a signal that may have ended one. */
const LOOK_AFTER_KILL_MS = 1000;
/** Exit code when nobody knows it: conmon was killed, or the machine lost its files. */
const UNKNOWN_EXIT_CODE = 255;

export class ConmonRuntime implements ContainerRuntime {
  readonly version: string;
  readonly #options: ConmonRuntimeOptions;
  readonly #oci: OciRuntime;
  readonly #handlers: ReadonlyMap<string, OciRuntime>;
  readonly #conmon: string;
  readonly #host: Host;
  readonly #containers = new Map<string, Container>();
  /** Of containers that have ended, mounted for somebody who reads or writes their files. */
  readonly #roots = new Map<string, StoppedRoot>();
  readonly #exitHandlers = new Set<(exit: ContainerExit) => void>();
  /** Settled when it is made, or when nothing of it is left. */
  readonly #creating = new Map<string, Promise<unknown>>();
  readonly #exitWaiters = new Map<string, Set<() => void>>();
  readonly #watcher: FSWatcher;
  readonly #permits: Permits;
  /** By hash of the profile: the filter that crun compiled for it, base64. Compiling takes 10 ms, more than all the rest of a create. */
  readonly #filters = new Map<string, string>();
  readonly #createSeconds;
  readonly #turns = new Turns();
  /** Of the folder with the exit files. */
  #scanning = false;
  #scanAgain = false;
  #look: { readonly timer: Disposable; readonly dueMs: number } | undefined;
  /** Linux 5.10 and later. */
  #volatileOverlay = true;
  /** Until the kernel says otherwise. */
  #mayLoad = true;

  /** "FailedPrecondition" with what to install when the OCI runtime or conmon is missing. */
  static async open(options: ConmonRuntimeOptions): Promise<ConmonRuntime> {
    const { root, runRoot } = options;
    ensureTmpfs(runRoot, { mode: 0o755 });
    for (const directory of ["exits", "oci", "attach", "exec", "seccomp"]) mkdirSync(join(runRoot, directory), { recursive: true, mode: 0o700 });
    // To be passed through by what runs in a user namespace, on the way to its root. Of an older agent it may be closed.
    mkdirSync(join(runRoot, "containers"), { recursive: true });
    chmodSync(join(runRoot, "containers"), 0o711);
    mkdirSync(join(root, "containers"), { recursive: true, mode: 0o711 });
    spreadDirectories(join(root, "containers"));
    const conmon = findCommand(options.conmon || "conmon");
    if (conmon === undefined) throw new GantryError("FailedPrecondition", `${options.conmon || "conmon"} is not installed (on Debian: apt-get install conmon)`);
    const [oci] = await Promise.all([
      openOciRuntime(options.ociRuntime ?? "", join(runRoot, "oci")),
      promisify(execFile)(conmon, ["--version"], { timeout: VERSION_DEADLINE_MS }).catch((error: unknown) => {
        throw new GantryError("FailedPrecondition", `${conmon} --version fails: ${describeError(error)}`, { cause: error });
      }),
    ]);
    return new ConmonRuntime(options, oci, conmon, await openHandlers(options.handlers ?? {}, oci, runRoot));
  }

  private constructor(options: ConmonRuntimeOptions, oci: OciRuntime, conmon: string, handlers: ReadonlyMap<string, OciRuntime>) {
    this.#options = options;
    this.#oci = oci;
    this.#handlers = handlers;
    this.#conmon = conmon;
    this.version = `${oci.name}://${oci.version}`;
    this.#host = readHost(options.cgroups, options.seccompDir ?? join(options.root, "seccomp"));
    this.#permits = new Permits(options.parallelCreates ?? Math.max(2, availableParallelism()));
    // Whatever the event says, the whole folder is looked at, once a turn: an event that the kernel dropped is made good by the next.
    this.#watcher = watch(join(options.runRoot, "exits"), () => {
      this.#scanAgain = true;
      if (!this.#scanning) void this.#scanExits();
    });
    this.#watcher.on("error", (error) => options.logger.error("can't watch for exits of containers", { err: error }));
    this.#lookAfter(LOOK_MS);
    this.#createSeconds = options.metrics.histogram("gantry_container_create_seconds", "Time to create a container, waiting for a turn included");
    options.metrics.gauge("gantry_containers", "Containers on this node by phase", ["phase"], (gauge) => {
      for (const phase of ["created", "running", "exited"] as const) gauge.set({ phase }, [...this.#containers.values()].filter((c) => c.state.phase === phase).length);
    });
  }

  async create(spec: ContainerSpec): Promise<{ readonly pid: number }> {
    if (!ID.test(spec.id)) throw new GantryError("Invalid", `container id ${JSON.stringify(spec.id)}: 13 to 128 letters, digits and dashes are needed`);
    // The kernel takes an upper directory in one overlay at a time only: a second mount empties the work directory of the first, which can
    // then make no file.
    while (this.#roots.has(spec.id)) await new Promise<void>((resolve) => this.#roots.get(spec.id)!.waiting.push(resolve));
    if (this.#containers.has(spec.id) || this.#creating.has(spec.id)) throw new GantryError("AlreadyExists", `container ${spec.id} exists`);
    const created = this.#create(spec);
    this.#creating.set(spec.id, created.catch(() => undefined));
    try {
      return await created;
    } finally {
      this.#creating.delete(spec.id);
    }
  }

  async #create(spec: ContainerSpec): Promise<{ readonly pid: number }> {
    const end = this.#createSeconds.startTimer();
    const release = await this.#permits.take();
    try {
      const config = await this.#makeBundle(spec);
      const bundle = this.#bundle(spec.id);
      const oci = this.#ociOf(spec.handler);
      const pid = await createUnderConmon(spec, { conmon: this.#conmon, bundle, exitDir: join(this.#options.runRoot, "exits"), socketDir: join(this.#options.runRoot, "attach"), log: spec.logPath }, oci);
      mendNullDevice();
      if (oci.showsInside) checkCage(pid, closedPaths(spec));
      this.#keepFilter(spec);
      const saved: Saved = { labels: spec.labels, cgroupPath: spec.cgroupPath, pid, startTicks: processStartTime(pid) ?? 0, process: config.process, stdin: spec.stdin, ...(spec.namespaces.pid ? { sharesPids: true } : {}), ...(spec.handler ? { handler: spec.handler } : {}), ...(spec.namespaces.user ? { firstId: spec.namespaces.user.firstId } : {}) };
      writeFileSync(join(bundle, "container.json"), JSON.stringify(saved), { mode: 0o600 });
      this.#containers.set(spec.id, { ...saved, id: spec.id, state: { phase: "created", pid } });
      if (oci.showsInside) this.#leaveRootTo(spec.id);
      return { pid };
    } catch (error) {
      await this.#undo(spec.id, spec.cgroupPath, spec.keepLayer);
      throw readableCreateError(error, spec.args[0] ?? "");
    } finally {
      release();
      end();
    }
  }

  async start(id: string): Promise<{ readonly startedAtMs: number }> {
    const begun = this.startAtOnce(id);
    if (begun) return begun;
    const container = this.#toStart(id);
    // Noted before, not after: runc's command may return long after a short process has ended, which would then have ended before it started.
    const startedAtMs = this.#options.clock.nowMs();
    await startContainer(this.#ociOf(container.handler), id);
    return this.#noteStart(container, startedAtMs);
  }

  startAtOnce(id: string): { readonly startedAtMs: number } | undefined {
    const container = this.#toStart(id);
    const startedAtMs = this.#options.clock.nowMs();
    if (container.isLoaded) {
      if (!signalProcess(container.pid, container.startTicks, SIGCONT)) throw new GantryError("FailedPrecondition", `container ${id} can't be started: its process has ended`);
      return this.#noteStart(container, startedAtMs);
    }
    return startAtOnce(this.#ociOf(container.handler), id) ? this.#noteStart(container, startedAtMs) : undefined;
  }

  async load(id: string): Promise<void> {
    const container = this.#toStart(id);
    const oci = this.#ociOf(container.handler);
    if (container.isLoaded || !this.#mayLoad || !oci.showsInside) return;
    const { clock, logger } = this.#options;
    const note = join(this.#bundle(id), "load");
    writeFileSync(note, LOADING);
    const outcome = await execHeld(container.pid, () => startContainer(oci, id), { clock, timeoutMs: LOAD_DEADLINE_MS });
    if (outcome === "refused") {
      this.#mayLoad = false;
      rmSync(note);
      logger.warn("programs of staged containers can't be loaded ahead: ptrace is not allowed on this node (kernel.yama.ptrace_scope, or a seccomp filter on the agent); their starts take that much longer");
    } else if (outcome === "held") {
      writeFileSync(note, LOADED);
      container.isLoaded = true;
    }
  }

  #toStart(id: string): Container {
    const container = this.#get(id);
    if (container.state.phase !== "created") throw new GantryError("FailedPrecondition", `container ${id} is ${container.state.phase}, not created`);
    return container;
  }

  #noteStart(container: Container, startedAtMs: number): { readonly startedAtMs: number } {
    writeFileSync(join(this.#bundle(container.id), "started"), String(startedAtMs));
    // With runc, which takes a while, the exit may have been noted before this line.
    const now = container.state;
    container.state = now.phase === "exited" ? { ...now, startedAtMs } : { phase: "running", pid: container.pid, startedAtMs };
    return { startedAtMs };
  }

  async kill(id: string, signal: number): Promise<void> {
    const container = this.#get(id);
    if (container.state.phase === "exited") return;
    signalProcess(container.pid, container.startTicks, signal);
    this.#lookAfter(LOOK_AFTER_KILL_MS);
  }

  async pause(id: string): Promise<void> {
    const container = this.#get(id);
    if (container.state.phase !== "running") throw new GantryError("FailedPrecondition", `container ${id} is ${container.state.phase}: only a running one can be paused`);
    await this.#options.cgroups.freeze(container.cgroupPath);
  }

  unpause(id: string): void {
    const container = this.#get(id);
    if (this.isPaused(id)) this.#options.cgroups.thaw(container.cgroupPath);
  }

  isPaused(id: string): boolean {
    const container = this.#containers.get(id);
    return container !== undefined && container.state.phase === "running" && this.#options.cgroups.isFrozen(container.cgroupPath);
  }

  keptLayers(): readonly string[] {
    const directory = join(this.#options.root, "containers");
    return readdirSync(directory).filter((id) => existsSync(join(directory, id, KEEP)));
  }

  async remove(id: string, { keepLayer = false }: { readonly keepLayer?: boolean } = {}): Promise<void> {
    const container = this.#containers.get(id);
    if (container && container.state.phase !== "exited") {
      signalProcess(container.pid, container.startTicks, SIGKILL);
      // With the node's pid namespace its other processes don't end with the first.
      await this.#options.cgroups.kill(container.cgroupPath);
      if (!(await this.#exited(id, KILL_DEADLINE_MS)) && isAlive(container.pid, container.startTicks)) {
        throw new GantryError("Timeout", `container ${id}: process ${container.pid} did not end within ${KILL_DEADLINE_MS / 1000} s of SIGKILL; is it waiting for a device or a dead network file system?`);
      }
    }
    await this.#undo(id, container?.cgroupPath, keepLayer);
    this.#containers.delete(id);
  }

  async exec(id: string, options: ExecOptions): Promise<{ readonly exitCode: number }> {
    const container = this.#get(id);
    if (container.state.phase !== "running") throw new GantryError("FailedPrecondition", `container ${id} is ${container.state.phase}: commands can only be run in a running one`);
    const { env = [], user = "", cwd = "" } = options;
    const replaced = new Set(env.map((e) => e.split("=")[0]));
    const process: OciProcess = {
      ...container.process, env: [...container.process.env.filter((e) => !replaced.has(e.split("=")[0])), ...env],
      ...(user === "" ? {} : { user: this.#resolveUser(container, user) }), ...(cwd === "" ? {} : { cwd }),
    };
    try {
      return await execInContainer(this.#ociOf(container.handler), { id, pid: container.pid, process, directory: join(this.#options.runRoot, "exec", newId()) }, options);
    } catch (error) {
      // The runtime found its container gone: in its own words, of its own files. The kernel ends the others before the first process, whose end is
      // told a moment after the runtime lost its own.
      if (isCode(error, "InternalError") && (this.#containers.get(id)?.state.phase !== "running" || !isAlive(container.pid, container.startTicks) || await this.#exited(id, EXIT_FILE_DEADLINE_MS))) {
        throw new GantryError("FailedPrecondition", `container ${id} has ended: commands can only be run in a running one`, { cause: error });
      }
      throw error;
    }
  }

  #resolveUser(container: Container, user: string): OciUser {
    const rootfs = this.#rootfs(container.id);
    if (isMounted(rootfs)) return resolveUserIn(rootfs, user, []);
    const fd = openRunningRoot(container);
    if (fd === undefined) throw new GantryError("FailedPrecondition", `container ${container.id} has ended: commands can only be run in a running one`);
    try {
      return resolveUserIn(`/proc/self/fd/${fd}`, user, []);
    } finally {
      closeSync(fd);
    }
  }

  openInput(id: string): ContainerInput {
    const container = this.#get(id);
    if (container.state.phase === "exited") throw new GantryError("FailedPrecondition", `container ${id} has ended`);
    if (!container.stdin) throw new GantryError("FailedPrecondition", `container ${id} was made without standard input (stdin: true)`);
    return openInput(join(this.#options.runRoot, "attach"), id);
  }

  resizeTerminal(id: string, size: { readonly width: number; readonly height: number }): void {
    const { pid, startTicks } = this.#get(id);
    // By conmon where the first process has other streams: conmon 2.1 loses the second of two sizes that it reads at once.
    if (isAlive(pid, startTicks) && resizeTerminalOf(pid, size)) return;
    resizeTerminal(this.#bundle(id), size);
  }

  async openRoot(id: string, layerDirs: readonly string[]): Promise<ContainerRoot> {
    const layer = join(this.#options.root, "containers", id);
    const upper = join(layer, "upper");
    await this.#creating.get(id);
    const container = this.#containers.get(id);
    if (container && container.state.phase !== "exited") {
      const fd = openRunningRoot(container);
      if (fd !== undefined) return { fd, upper, firstId: container.firstId ?? 0, [Symbol.dispose]: () => closeSync(fd) };
      // It has just ended: conmon says so in a moment, on a machine that is busy in some seconds.
      await this.#exited(id, KILL_DEADLINE_MS);
      await this.#creating.get(id);
      if (this.#containers.get(id)?.state.phase !== "exited") throw new GantryError("FailedPrecondition", `container ${id} has just ended: try again`);
    }
    if (!existsSync(join(layer, KEEP))) throw new GantryError("FailedPrecondition", `container ${id} does not run, and its files went with it`);
    const mounted = this.#roots.get(id) ?? this.#mountStopped(id, layerDirs, upper, join(layer, "work"));
    mounted.users++;
    this.#roots.set(id, mounted);
    const fd = openSync(mounted.path, O_PATH | fsConstants.O_DIRECTORY);
    let isOpen = true;
    return {
      fd, upper, firstId: 0,
      [Symbol.dispose]: () => {
        if (!isOpen) return;
        isOpen = false;
        closeSync(fd);
        if (--mounted.users === 0) this.#unmountStopped(id, mounted);
      },
    };
  }

  #mountStopped(id: string, layerDirs: readonly string[], upper: string, work: string): StoppedRoot {
    const path = join(this.#options.runRoot, "roots", id);
    mkdirSync(path, { recursive: true, mode: 0o700 });
    mountOverlay({ lowerDirs: layerDirs, upper, work, target: path });
    return { path, users: 0, waiting: [] };
  }

  #unmountStopped(id: string, { path, waiting }: StoppedRoot): void {
    this.#roots.delete(id);
    unmount(path, { detach: true });
    rmdirSync(path);
    for (const wake of waiting) wake();
  }

  processes(id: string): readonly number[] {
    const container = this.#get(id);
    return container.state.phase === "exited" ? [] : this.#options.cgroups.processes(container.cgroupPath);
  }

  inspect(id: string): ContainerPhase | undefined {
    return this.#containers.get(id)?.state;
  }

  onExit(handler: (exit: ContainerExit) => void): Disposable {
    this.#exitHandlers.add(handler);
    return { [Symbol.dispose]: () => void this.#exitHandlers.delete(handler) };
  }

  async recover(): ReturnType<ContainerRuntime["recover"]> {
    const { root, runRoot, logger } = this.#options;
    const bundles = readdirSync(join(runRoot, "containers"));
    const roots = join(runRoot, "roots");
    // Of an agent that was killed while somebody copied.
    for (const id of existsSync(roots) ? readdirSync(roots) : []) {
      unmount(join(roots, id), { detach: true });
      rmdirSync(join(roots, id));
    }
    const isKept = (id: string): boolean => existsSync(join(root, "containers", id, KEEP));
    const strays = readdirSync(join(root, "containers")).filter((id) => !bundles.includes(id) && !isKept(id));
    await Promise.all([
      ...bundles.map(async (id) => {
        const container = this.#read(id);
        if (container) {
          this.#containers.set(id, container);
          await this.#awaitLateExit(container);
        } else {
          logger.info("removing a half-made container", { container: id });
          await this.#killConmon(id);
          await this.#undo(id, cgroupPathOf(this.#bundle(id)), isKept(id));
        }
      }),
      // Their bundles are gone: the machine was restarted, or a removal was cut short.
      ...strays.map((id) => rm(join(root, "containers", id), { recursive: true, force: true })),
      ...readdirSync(join(runRoot, "exec")).map((name) => rm(join(runRoot, "exec", name), { recursive: true, force: true })),
    ]);
    const found = [...this.#containers.values()].map(({ id, labels, state }) => ({ id, labels, state }));
    for (const { state } of found) if (state.phase === "exited") this.#announce(state.exit);
    return found;
  }

  async reopenLog(id: string): Promise<void> {
    this.#get(id);
    reopenLog(this.#bundle(id));
  }

  close(): void {
    this.#watcher.close();
    this.#look?.timer[Symbol.dispose]();
    this.#exitHandlers.clear();
  }

  hasHandler(name: string): boolean {
    return name === "" || this.#handlers.has(name);
  }

  handlers(): ReturnType<ContainerRuntime["handlers"]> {
    return [["", this.#oci] as const, ...this.#handlers].map(([name, oci]) => ({ name, joinsUserNamespaces: oci.showsInside }));
  }

  #ociOf(handler: string | undefined): OciRuntime {
    const oci = handler ? this.#handlers.get(handler) : this.#oci;
    if (!oci) throw new GantryError("Invalid", `no runtime for ${JSON.stringify(handler)} is configured on this node (--runtime-handlers); there are: ${[...this.#handlers.keys()].join(", ") || "none"}`);
    return oci;
  }

  #bundle(id: string): string {
    return join(this.#options.runRoot, "containers", id);
  }

  #rootfs(id: string): string {
    return join(this.#bundle(id), "rootfs");
  }

  #get(id: string): Container {
    const container = this.#containers.get(id);
    if (!container) throw new GantryError("NotFound", `no container ${id} on this node`);
    return container;
  }

  async #makeBundle(spec: ContainerSpec): Promise<OciConfig> {
    const bundle = this.#bundle(spec.id);
    const layer = join(this.#options.root, "containers", spec.id);
    const [rootfs, upper, work] = [this.#rootfs(spec.id), join(layer, "upper"), join(layer, "work")] as const;
    const { user: userNamespace } = spec.namespaces;
    mkdirSync(rootfs, { recursive: true, mode: userNamespace ? 0o711 : 0o700 });
    // These are on the disk, whose journal may let one wait for tens of ms.
    await mkdir(layer, { recursive: true, mode: 0o711 });
    const keep = spec.keepLayer ?? false;
    await Promise.all([mkdir(upper, { mode: 0o755, recursive: keep }), mkdir(work, { mode: 0o700, recursive: keep }), mkdir(dirname(spec.logPath), { recursive: true })]);
    if (keep) writeFileSync(join(layer, KEEP), "");
    const mount = userNamespace
      ? (overlay: OverlayOptions): void => mountIdmappedOverlay(overlay, { userNamespace: userNamespace.path, firstId: userNamespace.firstId }, join(bundle, "layers"))
      : mountOverlay;
    this.#mountRoot({ lowerDirs: spec.layerDirs, upper, work, target: rootfs }, mount, keep);
    const user = resolveUserIn(rootfs, spec.user, spec.supplementalGroups, spec.strictGroups);
    const config = buildConfig(spec, user, this.#host, { rootPath: rootfs, cgroupsPath: this.#options.cgroups.ociPath(spec.cgroupPath) });
    writeFileSync(join(bundle, "config.json"), ociJson(this.#withFilter(config, spec)), { mode: 0o600 });
    return config;
  }

  /** volatile: a writable layer that does not outlive its container needs no sync when it goes. (The kernel takes such a one only once.) */
  #mountRoot(overlay: OverlayOptions, mount: (overlay: OverlayOptions) => void, keep: boolean): void {
    if (keep || !this.#volatileOverlay) return mount(overlay);
    try {
      mount({ ...overlay, volatile: true });
    } catch (error) {
      if (!isErrno(error, "EINVAL")) throw error;
      mount(overlay);
      this.#volatileOverlay = false; // that was it: this kernel doesn't know the option
    }
  }

  /** The container has it in its mount namespace now. In ours each mount makes the next container slower: docs/design/runtime.md. */
  #leaveRootTo(id: string): void {
    detachElsewhere(this.#rootfs(id)).catch((error: unknown) => this.#options.logger.warn("a container's root stays mounted until the container is removed", { container: id, err: error }));
  }

  #filterKey(spec: ContainerSpec): string | undefined {
    if (!this.#oci.isCrun || (spec.handler ?? "") !== "" || spec.privileged || spec.seccomp.type !== "RuntimeDefault") return undefined;
    return createHash("sha256").update(JSON.stringify([this.version, spec.capabilitiesAdd, spec.capabilitiesDrop])).digest("hex").slice(0, 32);
  }

  /**
   * Hands crun the compiled filter in place of the list of calls. The list is emptied, so that a crun that doesn't know the annotation
   * allows nothing instead of everything: the container then fails, and visibly.
   */
  #withFilter(config: OciConfig, spec: ContainerSpec): OciConfig {
    const key = this.#filterKey(spec);
    const filter = key === undefined ? undefined : this.#filters.get(key);
    if (filter === undefined) return config;
    const linux = { ...(config["linux"] as object), seccomp: { defaultAction: "SCMP_ACT_ERRNO", architectures: [], syscalls: [] } };
    return { ...config, linux, annotations: { ...(config["annotations"] as object), "run.oci.seccomp_bpf_data": filter } };
  }

  #keepFilter(spec: ContainerSpec): void {
    const key = this.#filterKey(spec);
    if (key === undefined || this.#filters.has(key)) return;
    const filter = compiledSeccomp(this.#oci, spec.id);
    if (filter) this.#filters.set(key, filter.toString("base64"));
  }

  #read(id: string): Container | undefined {
    const bundle = this.#bundle(id);
    let saved: Saved;
    try {
      saved = JSON.parse(readFileSync(join(bundle, "container.json"), "utf8")) as Saved;
    } catch {
      return undefined;
    }
    const load = readIfThere(join(bundle, "load"));
    const isHeld = load !== "" && isStopped(saved.pid, saved.startTicks);
    const startedAtMs = this.#startedAtMs(id, saved.handler, load, isHeld);
    const exit = this.#readExit(id, saved.cgroupPath);
    if (exit) return { ...saved, id, state: { phase: "exited", exit, startedAtMs } };
    return { ...saved, id, state: startedAtMs > 0 ? { phase: "running", pid: saved.pid, startedAtMs } : { phase: "created", pid: saved.pid }, isLoaded: isHeld && startedAtMs === 0 };
  }

  /** 0: not started. */
  #startedAtMs(id: string, handler: string | undefined, load: string, isHeld: boolean): number {
    try {
      return Number(readFileSync(join(this.#bundle(id), "started"), "utf8")) || this.#options.clock.nowMs();
    } catch {
      // Killed between the start and the note of it. What was loaded is held still, or was let go; what was being loaded has run nothing.
      if (load === LOADED) return isHeld ? 0 : this.#options.clock.nowMs();
      if (load === LOADING) return 0;
      // The FIFO is gone, and its directory changed when it went.
      const oci = this.#handlers.get(handler ?? "") ?? this.#oci;
      if (!oci.isCrun || waitsForStart(oci, id)) return 0;
      return Math.round(statSync(join(oci.stateRoot, id), { throwIfNoEntry: false })?.mtimeMs ?? 0);
    }
  }

  #readExit(id: string, cgroupPath: string): ContainerExit | undefined {
    const path = join(this.#options.runRoot, "exits", id);
    let text: string;
    let finishedAtMs: number;
    try {
      text = readFileSync(path, "utf8");
      finishedAtMs = Math.round(statSync(path).mtimeMs);
    } catch {
      return undefined;
    }
    const exitCode = /^\d+$/.test(text.trim()) ? Number(text) : UNKNOWN_EXIT_CODE;
    // As a shell, conmon adds 128 to a signal's number.
    const signal = exitCode > 128 && exitCode <= 128 + 64 ? exitCode - 128 : 0;
    const oomKilled = signal === SIGKILL && (existsSync(join(this.#bundle(id), "oom")) || this.#options.cgroups.readOomKills(cgroupPath) > 0);
    return { id, exitCode, signal, oomKilled, finishedAtMs };
  }

  /** conmon made (or the watcher says so) the exit file of `id`. */
  #noteExit(id: string): void {
    const container = this.#containers.get(id);
    if (!container || container.state.phase === "exited") return;
    const exit = this.#readExit(id, container.cgroupPath);
    if (!exit) return;
    this.#setExited(container, exit);
    this.#announce(exit);
  }

  #setExited(container: Container, exit: ContainerExit): void {
    container.state = { phase: "exited", exit, startedAtMs: container.state.phase === "running" ? container.state.startedAtMs : 0 };
  }

  #announce(exit: ContainerExit): void {
    for (const handler of this.#exitHandlers) handler(exit);
    for (const wake of this.#exitWaiters.get(exit.id) ?? []) wake();
  }

  /** One exit in each turn of the event loop: whoever is told does something about it, and a hundred may end at once. */
  async #scanExits(): Promise<void> {
    this.#scanning = true;
    try {
      while (this.#scanAgain) {
        await this.#turns.next();
        this.#scanAgain = false;
        const isNews = (id: string): boolean => (this.#containers.get(id)?.state.phase ?? "exited") !== "exited";
        for (const id of readdirSync(join(this.#options.runRoot, "exits")).filter(isNews)) {
          this.#noteExit(id);
          await this.#turns.next();
        }
      }
    } catch (error) {
      this.#options.logger.error("can't read the exits of containers", { err: error });
    } finally {
      this.#scanning = false;
    }
  }

  #lookAfter(delayMs: number): void {
    const { clock } = this.#options;
    const dueMs = clock.monotonicMs() + delayMs;
    if (this.#look && this.#look.dueMs <= dueMs) return;
    this.#look?.timer[Symbol.dispose]();
    const timer = clock.setTimer(delayMs, () => {
      this.#look = undefined;
      this.#lookAfter(LOOK_MS);
      void this.#lookAtAll();
    });
    this.#look = { timer, dueMs };
  }

  async #lookAtAll(): Promise<void> {
    for (const container of this.#containers.values()) {
      await this.#turns.next();
      this.#awaitLateExit(container).then((exit) => exit && this.#announce(exit), (error: unknown) => this.#options.logger.error("looking after a container failed", { container: container.id, err: error }));
    }
  }

  /** true as soon as the exit of `id` is known; false after `timeoutMs`. */
  #exited(id: string, timeoutMs: number): Promise<boolean> {
    this.#noteExit(id);
    const isOver = (): boolean => this.#containers.get(id)?.state.phase === "exited";
    if (isOver()) return Promise.resolve(true);
    return new Promise((resolve) => {
      const waiters = this.#exitWaiters.get(id) ?? new Set();
      this.#exitWaiters.set(id, waiters);
      const done = (): void => {
        timer[Symbol.dispose]();
        waiters.delete(done);
        if (waiters.size === 0) this.#exitWaiters.delete(id);
        resolve(isOver());
      };
      const timer = this.#options.clock.setTimer(timeoutMs, done);
      waiters.add(done);
    });
  }

  /** A container that looks alive but whose process is gone: its conmon is about to write the exit code, or was killed too. Then it gives an exit. */
  async #awaitLateExit(container: Container): Promise<ContainerExit | undefined> {
    const { id } = container;
    if (container.state.phase === "exited" || isAlive(container.pid, container.startTicks)) return undefined;
    const conmon = this.#conmonPid(id);
    if (conmon !== undefined && (await this.#exited(id, EXIT_FILE_DEADLINE_MS))) return undefined;
    // conmon's last act may be that file.
    this.#noteExit(id);
    if ((container.state as ContainerPhase).phase === "exited" || (this.#containers.has(id) && this.#containers.get(id) !== container)) return undefined;
    this.#options.logger.warn("a container ended without leaving an exit code", { container: id });
    const exit: ContainerExit = { id, exitCode: UNKNOWN_EXIT_CODE, signal: 0, oomKilled: false, finishedAtMs: this.#options.clock.nowMs() };
    this.#setExited(container, exit);
    return exit;
  }

  /** Only if the pid still is the conmon of this container: pids are reused. */
  #conmonPid(id: string): number | undefined {
    try {
      const pid = Number(readFileSync(join(this.#bundle(id), "conmon.pid"), "utf8"));
      return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").includes(id) ? pid : undefined;
    } catch {
      return undefined;
    }
  }

  /** Of a half-made container, so that it doesn't finish what is being undone. Its OCI runtime dies with it (PDEATHSIG). */
  async #killConmon(id: string): Promise<void> {
    const pid = this.#conmonPid(id);
    const startTicks = pid === undefined ? undefined : processStartTime(pid);
    if (pid !== undefined && startTicks !== undefined) signalProcess(pid, startTicks, SIGKILL);
  }

  /** Everything that create() may have made, whatever of it is there. Goes on when a step fails, and then throws the first error. */
  async #undo(id: string, cgroupPath: string | undefined, keepLayer = false): Promise<void> {
    const { root, runRoot, cgroups } = this.#options;
    const bundle = this.#bundle(id);
    const steps: (() => void | Promise<void>)[] = [
      async () => {
        if (cgroupPath === undefined) return;
        const container = this.#containers.get(id);
        if (!container || container.sharesPids) await cgroups.kill(cgroupPath);
        await cgroups.remove(cgroupPath);
      },
      // Of a half-made one nobody knows by which.
      async () => {
        for (const oci of new Set([this.#oci, ...this.#handlers.values()])) await forgetContainer(oci, id);
      },
      () => (isMounted(this.#rootfs(id)) ? detachElsewhere(this.#rootfs(id)) : undefined),
      // Of a container in a user namespace that was being made when the agent was killed.
      () => {
        if (existsSync(join(bundle, "layers"))) unmountAllBelow(join(bundle, "layers"));
      },
      () => (keepLayer ? undefined : rm(join(root, "containers", id), { recursive: true, force: true })),
      () => rm(join(runRoot, "attach", id), { recursive: true, force: true }),
      () => rmSync(join(runRoot, "exits", id), { force: true }),
      // Last, and by name: a bundle that is still there is found again by recover().
      () => {
        // The writable layer must never be deleted through a mount that an earlier step failed to take off.
        if (isMounted(this.#rootfs(id))) unmountAllBelow(this.#rootfs(id));
        rmSync(bundle, { recursive: true, force: true });
      },
    ];
    let failure: unknown;
    for (const step of steps) {
      try {
        await step();
      } catch (error) {
        failure ??= error;
        this.#options.logger.warn("undoing a container: a step failed", { container: id, err: error });
      }
    }
    if (failure !== undefined) throw failure as Error;
  }
}

/** Each with a state directory of its own, but for the node's default under its own name. What is named and doesn't run is an error; what isn't is left out. */
const openHandlers = async (named: Readonly<Record<string, string>>, own: OciRuntime, runRoot: string): Promise<ReadonlyMap<string, OciRuntime>> => {
  const found = new Map<string, OciRuntime>([[own.name, own]]);
  const wanted: readonly (readonly [string, string])[] = [...["crun", "runc"].filter((name) => !(name in named) && findCommand(name) !== undefined).map((name) => [name, name] as const), ...Object.entries(named)];
  for (const [handler, command] of wanted) {
    if (!(handler in named) && found.has(handler)) continue;
    const stateRoot = join(runRoot, `oci-${handler}`);
    mkdirSync(stateRoot, { recursive: true, mode: 0o700 });
    try {
      found.set(handler, await openOciRuntime(command, stateRoot));
    } catch (error) {
      if (handler in named) throw error;
    }
  }
  return found;
};

/** Is another file system mounted there than that of the folder it is in? */
const isMounted = (path: string): boolean => {
  const inside = statSync(path, { throwIfNoEntry: false });
  return inside !== undefined && inside.dev !== statSync(dirname(path)).dev;
};

const cgroupPathOf = (bundle: string): string | undefined => {
  try {
    return (JSON.parse(readFileSync(join(bundle, "config.json"), "utf8")) as { annotations?: Record<string, string> }).annotations?.["io.gantry.cgroup"];
  } catch {
    return undefined;
  }
};

/** Only if that process is the container's still: pids are reused. */
const openRunningRoot = ({ pid, startTicks }: Container): number | undefined => {
  let fd: number;
  try {
    fd = openSync(`/proc/${pid}/root`, O_PATH | fsConstants.O_DIRECTORY);
  } catch (error) {
    if (isErrno(error, "ENOENT", "ESRCH")) return undefined;
    throw error;
  }
  if (isAlive(pid, startTicks)) return fd;
  closeSync(fd);
  return undefined;
};

const readableCreateError = (error: unknown, command: string): unknown => {
  if (!(error instanceof GantryError) || error.code !== "InternalError") return error;
  const message = ociMessage(error.message);
  const failure = startFailure(message, command);
  return failure.exitCode === 128 ? new GantryError("InternalError", message, { cause: error.cause }) : new GantryError("Invalid", failure.message);
};
