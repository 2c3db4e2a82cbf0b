// What users do to one container from outside, beside logs and exec: attach, forward a port, signal, list its processes.
import type { Clock } from "../../base/clock.ts";
import { GantryError, isCode } from "../../base/errors.ts";
import type { AttachRequest, CommitRequest, Container, DiffRequest, KillRequest, PortForwardRequest, ReadArchiveRequest, StreamFrame, TopRequest, WriteArchiveRequest } from "../../proto/gen/gantry/v1/agent.ts";
import type { ImageMaker } from "../images/image-maker.ts";
import type { Image } from "../images/image-service.ts";
import { isEmptyUpper } from "../images/layer-diff.ts";
import { formatReference, parseReference } from "../images/reference.ts";
import { TarReader } from "../images/tar.ts";
import { connectLoopback } from "../linux/sockets.ts";
import { logStart, readLog } from "../logs/log-reader.ts";
import type { ContainerRoot, ContainerRuntime } from "../runtime/container-runtime.ts";
import { readArchive, statPath, writeArchive } from "./archive.ts";
import { commitConfig } from "./commit-config.ts";
import { containerChanges, type Change } from "./container-diff.ts";
import type { ContainerSteps } from "./container-steps.ts";
import { inputOf, outputTo } from "./exec-frames.ts";
import { allContainers, type ContainerRecord } from "./pod-record.ts";
import type { PodWorker } from "./pod-worker.ts";
import { listProcesses, type ProcessRow } from "./process-list.ts";
import type { Sandboxes } from "./sandbox.ts";

export interface CommandTarget {
  readonly worker: PodWorker;
  readonly name: string;
}

export interface ContainerCommandsOptions {
  readonly runtime: ContainerRuntime;
  readonly steps: ContainerSteps;
  readonly sandboxes: Sandboxes;
  readonly resolveImage: (id: string) => Image | undefined;
  readonly makeImage: (<T>(work: (maker: ImageMaker) => Promise<T>) => Promise<T>) | undefined;
  readonly clock: Clock;
  /** "NotFound" when there is no such pod or container here; "": the pod's first. */
  readonly find: (podUid: string, container: string) => CommandTarget;
}

type Input = AsyncIterable<StreamFrame>;
type Output = (frame: StreamFrame) => Promise<void>;

const recordOf = ({ worker, name }: CommandTarget): ContainerRecord => worker.record.containers[name]!;
const shown = ({ worker, name }: CommandTarget): string => `container ${JSON.stringify(name)} of pod ${JSON.stringify(worker.assignment.name)}`;

const SIGKILL = 9;

const specOf = ({ worker, name }: CommandTarget): Container => allContainers(worker.assignment).find((c) => c.name === name)!;

/** What is mounted in every container, or in this one: relative paths. What lies there is no part of its image. */
const mountPoints = (container: Container): ReadonlySet<string> =>
  new Set(["proc", "dev", "sys", "etc/hosts", "etc/hostname", "etc/resolv.conf", container.terminationMessagePath || "dev/termination-log", ...container.mounts.map((m) => m.path)].map((p) => p.split("/").filter(Boolean).join("/")));

async function* bytesOf(frames: Input): AsyncGenerator<Uint8Array> {
  for await (const { frame } of frames) {
    if (frame?.$case === "stdin") yield frame.value;
    if (frame?.$case === "stdinClosed") return;
  }
  throw new GantryError("Cancelled", "the archive was cut off");
}

export class ContainerCommands {
  readonly #options: ContainerCommandsOptions;
  /** Instances that somebody has attached to since the agent began. */
  readonly #attached = new WeakMap<PodWorker, Set<string>>();

  constructor(options: ContainerCommandsOptions) {
    this.#options = options;
  }

  /**
   * A created container can be attached to before it starts: then nothing of what it writes is missed. kubectl can't do that, so the first to attach to
   * a container that was made for it (`kubectl debug`, `kubectl run -i`) gets what it wrote before, too: the whole output of a short command, the prompt of a shell.
   */
  async attach(request: AttachRequest, input: Input, output: Output, signal: AbortSignal): Promise<void> {
    const { runtime, steps, find } = this.#options;
    const target = find(request.podUid, request.container);
    const { worker, name } = target;
    const own = recordOf(target);
    if (own.phase !== "running" && own.phase !== "created") throw new GantryError("BadRequest", `${shown(target)} is not running: there is nothing to attach to`);
    const id = worker.instanceId(name);
    const container = specOf(target);
    if (request.tty && !container.tty) throw new GantryError("BadRequest", `${shown(target)} has no terminal (tty: true): attach without one`);
    const stdin = request.stdin ? openInput(runtime, id, target) : undefined;
    const first = this.#isFirst(worker, id);
    const fromStart = request.fromStart || (first && (container.stdinOnce || worker.assignment.ephemeralContainers.includes(container)));
    using ended = worker.ended(name);
    const over = AbortSignal.any([signal, ended.signal]);
    const { stdin: bytes, resize, stop } = inputOf(input, over);
    const typing = async (): Promise<void> => {
      for await (const chunk of bytes) await stdin?.write(chunk);
      if (!over.aborted) stdin?.end();
    };
    const sizing = async (): Promise<void> => {
      // Also of one that is about to be started: the client says its size once.
      for await (const size of resize) if (container.tty && ["created", "running"].includes(recordOf(target).phase)) runtime.resizeTerminal(id, size);
    };
    let feeding: Promise<unknown> | undefined;
    try {
      const logPath = steps.logPath(worker.assignment, name, own.attempt);
      // Found before anything is typed: what the container answers comes after it.
      const start = await logStart(logPath, fromStart ? undefined : 0);
      // Both end with the container or the client; the container that ends while somebody types is no error.
      feeding = Promise.allSettled([typing(), sizing()]);
      // A log that goes on over restarts holds earlier instances too.
      const sinceMs = fromStart ? (own.lastEnd === undefined ? undefined : own.lastEnd.finishedAtMs + 1) : undefined;
      const log = readLog(logPath, { start, sinceMs, timestamps: false, follow: true, ended: ended.signal, signal });
      const to = { stdout: outputTo("stdout", output), stderr: outputTo("stderr", output) };
      for await (const { stream, data } of log) if (request[stream]) await to[stream](data);
    } finally {
      stop();
      // A container that doesn't read would hold up the last write for ever.
      stdin?.[Symbol.dispose]();
      await feeding;
    }
  }

  #isFirst(worker: PodWorker, instance: string): boolean {
    const attached = this.#attached.get(worker) ?? new Set();
    this.#attached.set(worker, attached);
    return attached.size < attached.add(instance).size;
  }

  /** One connection, until both sides are done with it or one breaks. */
  async portForward(request: PortForwardRequest, input: Input, output: Output, signal: AbortSignal): Promise<void> {
    const { worker } = this.#options.find(request.podUid, "");
    if (!worker.record.sandbox) throw new GantryError("BadRequest", `pod ${JSON.stringify(worker.assignment.name)} is not running: no port of it can be reached`);
    const { network } = this.#options.sandboxes.facts(worker.assignment, worker.record.ip).namespaces;
    const socket = connectLoopback(network, request.port);
    const abort = (): void => void socket.destroy();
    signal.addEventListener("abort", abort, { once: true });
    const broken = new Promise<never>((_, reject) => {
      socket.on("error", (cause) => reject(new GantryError("ServiceUnavailable", `the connection to port ${request.port} broke`, { cause })));
    });
    broken.catch(() => undefined);
    const inward = async (): Promise<void> => {
      for await (const { frame } of input) {
        if (frame?.$case === "stdinClosed") break;
        if (frame?.$case !== "stdin" || socket.write(frame.value)) continue;
        await new Promise<void>((resolve) => socket.once("drain", resolve).once("close", () => resolve()));
      }
      socket.end();
    };
    const outward = async (): Promise<void> => {
      const send = outputTo("stdout", output);
      for await (const chunk of socket) await send(chunk as Uint8Array);
    };
    try {
      const receiving = inward();
      // Broken off by the other end: seen where it matters, in what is sent back.
      receiving.catch(() => void socket.destroy());
      // When the server has said all, what the client may still send interests nobody.
      await Promise.race([outward(), broken]);
    } finally {
      signal.removeEventListener("abort", abort);
      socket.destroy();
    }
  }

  async kill(request: KillRequest): Promise<void> {
    const { runtime, find } = this.#options;
    const target = find(request.podUid, request.container);
    const own = recordOf(target);
    if (own.phase !== "running") throw new GantryError("Conflict", `${shown(target)} is not running`);
    if (own.paused && request.signal !== SIGKILL) throw new GantryError("Conflict", `${shown(target)} is paused: it would hear the signal only once the pod is unpaused`);
    const id = target.worker.instanceId(target.name);
    await runtime.kill(id, request.signal);
    if (own.paused) runtime.unpause(id);
  }

  top(request: TopRequest): { readonly processes: readonly ProcessRow[] } {
    const { runtime, find, clock } = this.#options;
    const target = find(request.podUid, request.container);
    if (recordOf(target).phase !== "running") throw new GantryError("Conflict", `${shown(target)} is not running: it has no processes`);
    return { processes: listProcesses(runtime.processes(target.worker.instanceId(target.name)), clock.nowMs()) };
  }

  async readArchive(request: ReadArchiveRequest, output: Output, signal: AbortSignal): Promise<void> {
    using root = await this.#root(this.#options.find(request.podUid, request.container));
    const send = outputTo("stdout", output);
    await send(Buffer.from(JSON.stringify(statPath(root.fd, request.path, request.follow))));
    if (request.statOnly) return;
    for await (const piece of readArchive(root, request.path, request.follow)) {
      signal.throwIfAborted();
      await send(piece);
    }
  }

  async writeArchive(request: WriteArchiveRequest, input: Input): Promise<void> {
    using root = await this.#root(this.#options.find(request.podUid, request.container));
    const stat = statPath(root.fd, request.path, true);
    if (!stat.isDirectory) throw new GantryError("BadRequest", `${request.path} is no directory in the container`);
    await writeArchive(root, request.path, new TarReader(bytesOf(input), "the archive"), { keepOwners: request.keepOwners });
  }

  async diff(request: DiffRequest): Promise<readonly Change[]> {
    const target = this.#options.find(request.podUid, request.container);
    using root = await this.#root(target);
    return containerChanges(root.upper, this.#image(target).layerDirs, mountPoints(specOf(target)));
  }

  /** Names of the image that is made: its id, and its reference where one was given. */
  async commit(request: CommitRequest, signal: AbortSignal): Promise<readonly string[]> {
    const { runtime, find, clock, makeImage } = this.#options;
    if (!makeImage) throw new GantryError("MethodNotAllowed", "this node makes no images");
    const target = find(request.podUid, request.container);
    const name = request.reference === "" ? undefined : formatReference(parseReference(request.reference));
    const [own, container, image] = [recordOf(target), specOf(target), this.#image(target)];
    using root = await this.#root(target);
    const id = target.worker.instanceId(target.name);
    // What is written meanwhile would be half in the layer.
    const pauses = request.pause && own.phase === "running" && !own.paused;
    if (pauses) await runtime.pause(id);
    try {
      return await makeImage(async (maker) => {
        const { config, layers } = maker.parts(image);
        const hasLayer = !isEmptyUpper(root.upper);
        const plainEnv = container.env.flatMap((e) => (e.source?.$case === "value" ? [`${e.name}=${e.source.value}`] : []));
        const next = commitConfig(config, {
          author: request.author, message: request.message, changes: request.changes, nowMs: clock.nowMs(), command: [...container.command, ...container.args], hasLayer,
          // Other pods' environments may hold what was in a Secret.
          container: { entrypoint: container.command, cmd: container.args, env: target.worker.assignment.keepWritableLayer ? plainEnv : [], workingDir: container.workingDir },
        });
        const layer = hasLayer ? [await maker.addLayer(root.upper, { move: false, exclude: mountPoints(container), signal })] : [];
        const made = await maker.addImage(next, [...layers, ...layer], name === undefined ? [] : [name]);
        return [made.id, ...(name === undefined ? [] : [name])];
      });
    } finally {
      if (pauses && runtime.inspect(id)?.phase === "running" && target.worker.assignment.desiredState !== "paused") runtime.unpause(id);
    }
  }

  #image(target: CommandTarget): Image {
    const image = this.#options.resolveImage(recordOf(target).imageId);
    if (!image) throw new GantryError("Conflict", `the image of ${shown(target)} is not on its node`);
    return image;
  }

  async #root(target: CommandTarget): Promise<ContainerRoot> {
    const id = target.worker.instanceId(target.name);
    try {
      return await this.#options.runtime.openRoot(id, this.#options.resolveImage(recordOf(target).imageId)?.layerDirs ?? []);
    } catch (error) {
      if (isCode(error, "FailedPrecondition")) throw new GantryError("Conflict", `${shown(target)} does not run, and does not keep its files: only those of gantry run (and pods with the annotation gantry.io/keep-writable-layer) do`, { cause: error });
      throw error;
    }
  }
}

const openInput = (runtime: ContainerRuntime, id: string, target: CommandTarget): ReturnType<ContainerRuntime["openInput"]> => {
  try {
    return runtime.openInput(id);
  } catch (error) {
    if (isCode(error, "FailedPrecondition")) throw new GantryError("BadRequest", `${shown(target)} has no standard input (stdin: true): attach without it`, { cause: error });
    throw error;
  }
};
