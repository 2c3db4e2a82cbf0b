// What the steps of a pod's worker do to the world: images, sandbox, volumes, containers, logs. Knows paths and wiring, decides nothing
// about when. Below RUNROOT/pods/UID lie also the termination messages: NAME-ATTEMPT.message.
import { closeSync, fstatSync, mkdirSync, openSync, readSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { GantryError, isCode } from "../../base/errors.ts";
import type { Container } from "../../proto/gen/gantry/v1/agent.ts";
import type { Image, ImageService } from "../images/image-service.ts";
import { parseReference } from "../images/reference.ts";
import { partsOf, removeLogs } from "../logs/log-files.ts";
import { LineSplitter, parseLine, renderLine } from "../logs/cri-line.ts";
import type { ContainerRuntime, RuntimeMount } from "../runtime/container-runtime.ts";
import { withSubPath, type VolumeService } from "../volumes/volume-service.ts";
import type { Assignment } from "./assignment.ts";
import { buildContainerSpec, nodeField } from "./container-spec.ts";
import { allContainers, containerId, type ContainerRecord } from "./pod-record.ts";
import type { Sandboxes } from "./sandbox.ts";

export interface ContainerStepsOptions {
  readonly runtime: ContainerRuntime;
  readonly images: Pick<ImageService, "resolve" | "pull">;
  readonly volumes: VolumeService;
  readonly sandboxes: Sandboxes;
  /** Logs: LOGROOT/NAMESPACE_NAME_UID/CONTAINER/ATTEMPT.log, as kubelet's below /var/log/pods. */
  readonly logRoot: string;
  readonly nodeMemoryBytes: number;
  readonly defaultPidsLimit: number;
}

export const ATTEMPT_LABEL = "io.gantry.container.attempt";
const MAX_MESSAGE_BYTES = 4096;
/** FallbackToLogsOnError: the last of the log. */
const MAX_MESSAGE_LOG_BYTES = 2048;
const MAX_MESSAGE_LOG_LINES = 80;
const MESSAGE_PATH = "/dev/termination-log";
const PROPAGATION: Readonly<Record<string, string>> = { HostToContainer: "rslave", Bidirectional: "rshared" };

/** An error that retrying with the same assignment can hardly mend: what the pod says is wrong. */
class ConfigError extends GantryError {}

export class ContainerSteps {
  readonly #options: ContainerStepsOptions;

  constructor(options: ContainerStepsOptions) {
    this.#options = options;
  }

  logPath(pod: Assignment, name: string, attempt: number): string {
    return join(this.#logDirectory(pod), name, `${attempt}.log`);
  }

  #logDirectory(pod: Assignment): string {
    return join(this.#options.logRoot, `${pod.namespace}_${pod.name}_${pod.uid}`);
  }

  #messagePath(pod: Assignment, name: string, attempt: number): string {
    return join(this.#options.sandboxes.directory(pod.uid), `${name}-${attempt}.message`);
  }

  /** By the container's pull policy. https://kubernetes.io/docs/concepts/containers/images/#image-pull-policy */
  async findImage(pod: Assignment, container: Container, signal: AbortSignal): Promise<Image> {
    try {
      parseReference(container.image);
    } catch (error) {
      throw new ImageError("InvalidImageName", error);
    }
    const present = container.imagePullPolicy === "Always" ? undefined : this.#options.images.resolve(container.image);
    if (present) return present;
    if (container.imagePullPolicy === "Never") {
      throw new ImageError("ErrImageNeverPull", new GantryError("NotFound", `Container image ${JSON.stringify(container.image)} is not present with pull policy of Never`));
    }
    return this.#options.images.pull(container.image, { credentials: pod.credentials, signal });
  }

  imageFailureReason(error: unknown): string {
    return error instanceof ImageError ? error.reason : "ErrImagePull";
  }

  makeSandbox(pod: Assignment): string {
    if (pod.shareProcessNamespace) throw new GantryError("Invalid", "shareProcessNamespace is not supported by this agent: leave it out");
    if (pod.security?.userNamespace) throw new GantryError("Invalid", "hostUsers: false (a user namespace) is not supported by this agent: leave it out");
    return this.#options.sandboxes.make(pod);
  }

  prepareVolumes(pod: Assignment, ip: string): void {
    const facts = this.#options.sandboxes.facts(pod, ip);
    this.#options.volumes.prepare(pod, (path) => nodeField(path, facts));
  }

  /** OCI create. */
  async create(pod: Assignment, container: Container, own: ContainerRecord, ip: string): Promise<"created" | "image is gone"> {
    const { images, sandboxes, runtime, nodeMemoryBytes, defaultPidsLimit } = this.#options;
    const image = images.resolve(own.imageId);
    if (!image) return "image is gone";
    const id = containerId(pod.uid, container.name, own.attempt);
    const logPath = this.logPath(pod, container.name, own.attempt);
    let spec;
    try {
      spec = buildContainerSpec({ id, pod, container, image, sandbox: sandboxes.facts(pod, ip), volumeMounts: this.#mounts(pod, container, own.attempt, ip), logPath, nodeMemoryBytes, defaultPidsLimit });
    } catch (error) {
      throw new ConfigError("Invalid", (error as Error).message, { cause: (error as Error).cause });
    }
    if (runtime.inspect(id)) await runtime.remove(id); // a step that was cut short
    await runtime.create({ ...spec, labels: { ...spec.labels, [ATTEMPT_LABEL]: String(own.attempt) } });
    return "created";
  }

  createFailureReason(error: unknown): string {
    return error instanceof ConfigError ? "CreateContainerConfigError" : "CreateContainerError";
  }

  /** The command can't be run: as an end of the container, not as a failure of the node. */
  isStartError(error: unknown): boolean {
    return isCode(error, "Invalid") && error.message.startsWith("unable to start container process");
  }

  #mounts(pod: Assignment, container: Container, attempt: number, ip: string): readonly RuntimeMount[] {
    const { volumes, sandboxes } = this.#options;
    const messagePath = this.#messagePath(pod, container.name, attempt);
    mkdirSync(sandboxes.directory(pod.uid), { recursive: true });
    writeFileSync(messagePath, "", { mode: 0o666 });
    const shared = sandboxes.sharedMemory(pod);
    const mounts: RuntimeMount[] = [
      ...(shared ? [shared] : []),
      { source: messagePath, destination: container.terminationMessagePath || MESSAGE_PATH, type: "bind", options: ["rw"] },
    ];
    if (container.mounts.length === 0) return mounts;
    const facts = sandboxes.facts(pod, ip);
    const paths = volumes.prepare(pod, (path) => nodeField(path, facts));
    for (const mount of container.mounts) {
      const volume = paths.get(mount.volume);
      if (volume === undefined) throw new GantryError("Invalid", `volumeMounts: the pod has no volume ${JSON.stringify(mount.volume)}`);
      const options = [mount.readOnly ? "ro" : "rw", PROPAGATION[mount.propagation] ?? "rprivate"];
      const destination = mount.path.startsWith("/") ? mount.path : `/${mount.path}`;
      const add = (source: string): void => void mounts.push({ source, destination, type: "bind", options });
      withSubPath(volume, mount.subPath, add);
    }
    // The container's own mounts win over what it would get without asking.
    const wanted = new Set(container.mounts.map((m) => (m.path.startsWith("/") ? m.path : `/${m.path}`)));
    return mounts.filter((m, i) => !(wanted.has(m.destination) && i < mounts.length - container.mounts.length));
  }

  stopSignal(own: ContainerRecord): number {
    const name = own.stopSignal.toUpperCase();
    if (/^\d+$/.test(name)) return Number(name);
    const signals: Readonly<Record<string, number>> = constants.signals;
    const realTime = /^(?:SIG)?RTMIN(?:\+(\d+))?$/.exec(name);
    if (realTime) return 34 + Number(realTime[1] ?? 0);
    return signals[name.startsWith("SIG") ? name : `SIG${name}`] ?? constants.signals.SIGTERM;
  }

  /** What the container left in its message file; after an error, if it asked for that, the end of its log. */
  terminationMessage(pod: Assignment, container: Container, attempt: number, exitCode: number): string {
    const text = tailOf(this.#messagePath(pod, container.name, attempt), MAX_MESSAGE_BYTES);
    if (text !== "" || container.terminationMessagePolicy !== "FallbackToLogsOnError" || exitCode === 0) return text;
    const newest = partsOf(this.logPath(pod, container.name, attempt)).at(-1);
    if (newest === undefined) return "";
    const lines = [...new LineSplitter().push(Buffer.from(tailOf(newest, MAX_MESSAGE_LOG_BYTES * 2)))].map((raw) => parseLine(raw)).filter((line) => line !== undefined);
    return lines.slice(-MAX_MESSAGE_LOG_LINES).map((line) => renderLine(line, false).toString()).join("").slice(-MAX_MESSAGE_LOG_BYTES);
  }

  /** `kubectl logs -p` reaches back one instance. */
  dropOldLogs(pod: Assignment, name: string, endedAttempt: number): void {
    if (endedAttempt >= 1) removeLogs(this.logPath(pod, name, endedAttempt - 1));
    rmSync(this.#messagePath(pod, name, endedAttempt), { force: true });
  }

  /** Volumes and sandbox; the containers are gone already. Logs stay. */
  async release(pod: Assignment): Promise<void> {
    await this.#options.volumes.remove(pod.uid);
    await this.#options.sandboxes.remove(pod);
  }

  removeLogs(pod: Assignment): void {
    rmSync(this.#logDirectory(pod), { recursive: true, force: true });
  }

  /** Pods that have logs here: uid -> folder. */
  logDirectories(): ReadonlyMap<string, string> {
    let names: readonly string[];
    try {
      names = readdirSync(this.#options.logRoot);
    } catch {
      return new Map();
    }
    return new Map(names.map((name) => [name.split("_").at(-1)!, join(this.#options.logRoot, name)]));
  }

  runningLogs(pod: Assignment, isRunning: (name: string) => number | undefined): readonly { readonly id: string; readonly path: string }[] {
    return allContainers(pod).flatMap(({ name }) => {
      const attempt = isRunning(name);
      return attempt === undefined ? [] : [{ id: containerId(pod.uid, name, attempt), path: this.logPath(pod, name, attempt) }];
    });
  }
}

class ImageError extends GantryError {
  readonly reason: string;

  constructor(reason: string, cause: unknown) {
    super("Invalid", (cause as Error).message);
    this.reason = reason;
  }
}

const tailOf = (path: string, bytes: number): string => {
  let fd: number;
  try {
    fd = openSync(path, "r");
  } catch {
    return "";
  }
  try {
    const buffer = Buffer.alloc(bytes);
    return buffer.toString("utf8", 0, readSync(fd, buffer, 0, bytes, Math.max(0, fstatSync(fd).size - bytes)));
  } finally {
    closeSync(fd);
  }
};
