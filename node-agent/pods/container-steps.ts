// What the steps of a pod's worker do to the world: images, sandbox, volumes, containers, logs. Knows paths and wiring, decides nothing
// about when. Below RUNROOT/pods/UID lie also the termination messages: NAME-ATTEMPT.message.
import { chmodSync, closeSync, fstatSync, mkdirSync, openSync, readSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { GantryError, isCode } from "../../base/errors.ts";
import { TMPFS_ANNOTATION_PREFIX, parseExtras, parseTmpfsOptions } from "../../base/kube/container-extras.ts";
import { signalNumber } from "../../base/signals.ts";
import type { Container } from "../../proto/gen/gantry/v1/agent.ts";
import type { Image, ImageService } from "../images/image-service.ts";
import { parseReference } from "../images/reference.ts";
import { partsOf, removeLogs } from "../logs/log-files.ts";
import { LineSplitter, parseLine, renderLine } from "../logs/cri-line.ts";
import { podCgroupPath } from "../cgroups/cgroup-tree.ts";
import type { ContainerCgroups } from "../runtime/container-cgroups.ts";
import type { ContainerRuntime, RuntimeMount } from "../runtime/container-runtime.ts";
import type { VolumeService } from "../volumes/volume-service.ts";
import type { Assignment } from "./assignment.ts";
import { buildContainerSpec, limitsOf, nodeField } from "./container-spec.ts";
import { buildEnvironment, expand } from "./environment.ts";
import { INIT_NAME, buildInitSpec } from "./init-container.ts";
import { allContainers, containerId, instanceIdOf, type ContainerRecord, type PodRecord } from "./pod-record.ts";
import { withAllocation, type Allocation } from "./resize.ts";
import type { Sandboxes } from "./sandbox.ts";
import { checkSysctls } from "./sysctls.ts";

export interface ContainerStepsOptions {
  readonly runtime: ContainerRuntime;
  readonly images: Pick<ImageService, "resolve" | "pull">;
  readonly volumes: VolumeService;
  readonly sandboxes: Sandboxes;
  readonly cgroups: Pick<ContainerCgroups, "apply" | "readStats">;
  /** Logs: LOGROOT/NAMESPACE_NAME_UID/CONTAINER/ATTEMPT.log, as kubelet's below /var/log/pods. */
  readonly logRoot: string;
  readonly nodeMemoryBytes: number;
  readonly defaultPidsLimit: number;
  readonly singleProcessOomKill: boolean;
  /** Beyond the safe ones. */
  readonly allowedSysctls?: readonly string[] | undefined;
  /** A root filesystem that holds only /init (init-container.ts). */
  readonly initLayer: () => string;
}

const initId = (pod: Assignment): string => containerId(pod.uid, INIT_NAME, 0);

export const ATTEMPT_LABEL = "io.gantry.container.attempt";
/** On containers whose id is that of their first instance. */
export const KEEP_LABEL = "io.gantry.container.keep-layer";
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

  /** A container that keeps its files keeps its log too: conmon goes on at its end. */
  logPath(pod: Assignment, name: string, attempt: number): string {
    return join(this.#logDirectory(pod), name, `${pod.keepWritableLayer ? 0 : attempt}.log`);
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
    // Present on other nodes by the same name, it counts as present; with Always the registry alone decides.
    return this.#options.images.pull(container.image, { credentials: pod.credentials, signal, orFromCluster: container.imagePullPolicy !== "Always" });
  }

  imageFailureReason(error: unknown): string {
    return error instanceof ImageError ? error.reason : "ErrImagePull";
  }

  async makeSandbox(pod: Assignment): Promise<string> {
    if (!this.#options.runtime.hasHandler(pod.runtimeClass)) throw new GantryError("Invalid", `no runtime for ${JSON.stringify(pod.runtimeClass)} is configured on this node: --runtime-handlers ${pod.runtimeClass}=PATH names one`);
    checkSysctls(pod.security?.sysctls ?? {}, this.#options.allowedSysctls ?? []);
    const ip = await this.#options.sandboxes.make(pod);
    await this.#options.sandboxes.publish(pod, ip);
    return ip;
  }

  async prepareVolumes(pod: Assignment, ip: string, { isFirst }: { readonly isFirst: boolean }): Promise<void> {
    const facts = this.#options.sandboxes.facts(pod, ip);
    this.#options.volumes.prepare(pod, (path) => nodeField(path, facts));
    if (isFirst) await this.#options.volumes.applyFsGroup(pod);
    this.#options.sandboxes.refreshHosts(pod, ip);
  }

  /** OCI create. */
  async create(pod: Assignment, container: Container, own: ContainerRecord, ip: string, targetId?: string): Promise<"created" | "image is gone"> {
    const { images, sandboxes, runtime, nodeMemoryBytes, defaultPidsLimit, singleProcessOomKill } = this.#options;
    const image = images.resolve(own.imageId);
    if (!image) return "image is gone";
    const id = instanceIdOf(pod, container.name, own.attempt);
    const logPath = this.logPath(pod, container.name, own.attempt);
    const pid = await this.#processNamespace(pod, container, targetId);
    const facts = sandboxes.facts(pod, ip);
    let spec;
    try {
      spec = buildContainerSpec({ id, pod, container, image, sandbox: pid === undefined ? facts : { ...facts, namespaces: { ...facts.namespaces, pid } }, volumeMounts: this.#mounts(pod, container, own.attempt, ip), logPath, nodeMemoryBytes, defaultPidsLimit, singleProcessOomKill });
    } catch (error) {
      throw new ConfigError("Invalid", (error as Error).message, { cause: (error as Error).cause });
    }
    const keepLayer = pod.keepWritableLayer;
    if (runtime.inspect(id)) await runtime.remove(id, { keepLayer }); // a step that was cut short
    await runtime.create({ ...spec, keepLayer, labels: { ...spec.labels, [ATTEMPT_LABEL]: String(own.attempt), ...(keepLayer ? { [KEEP_LABEL]: "true" } : {}) } });
    return "created";
  }

  /** Of another process that the container is to see: the pod's init, or the container that it is to debug. undefined: one of its own, or the node's. */
  async #processNamespace(pod: Assignment, container: Container, targetId: string | undefined): Promise<string | undefined> {
    if (pod.hostPid) return undefined;
    if (pod.shareProcessNamespace) return `/proc/${await this.#ensureInit(pod)}/ns/pid`;
    if (targetId === undefined) return undefined;
    const target = this.#options.runtime.inspect(targetId);
    if (target?.phase !== "running") throw new GantryError("FailedPrecondition", `container ${container.name} is to join the processes of ${container.targetContainer}, which does not run`, { retryable: true });
    return `/proc/${target.pid}/ns/pid`;
  }

  /**
   * The first process of a shared process namespace. It is a container of its own, so that it outlives the agent and is found again like
   * the others. Should it die, they die with it; the next one to be created makes it anew.
   */
  async #ensureInit(pod: Assignment): Promise<number> {
    const { runtime, sandboxes } = this.#options;
    const id = initId(pod);
    const present = runtime.inspect(id);
    if (present?.phase === "running") return present.pid;
    if (present) await runtime.remove(id);
    const { pid } = await runtime.create(buildInitSpec({ id, pod, sandbox: sandboxes.facts(pod, ""), layerDir: this.#options.initLayer(), logPath: join(sandboxes.directory(pod.uid), "init.log") }));
    await runtime.start(id);
    return pid;
  }

  /**
   * Puts into force what was given to containers that run, and to the pod. "FailedPrecondition" when a container uses more memory than it would
   * have: the kernel would kill it.
   */
  applyResources(pod: Assignment, containers: readonly { readonly container: Container; readonly id: string }[], record: PodRecord): void {
    const { cgroups, sandboxes, defaultPidsLimit } = this.#options;
    const podPath = podCgroupPath(pod.qosClass, pod.uid);
    const given = (own: (r: ContainerRecord) => Allocation | undefined): Assignment =>
      ({ ...pod, containers: pod.containers.map((c) => ({ ...c, ...own(record.containers[c.name]!) })), initContainers: pod.initContainers.map((c) => ({ ...c, ...own(record.containers[c.name]!) })) });
    for (const { container, id } of containers) {
      const limitBytes = record.containers[container.name]!.allocated?.limits?.memoryBytes ?? 0;
      const used = cgroups.readStats(`${podPath}/${id}`)?.workingSetBytes ?? 0;
      if (limitBytes > 0 && used > limitBytes) throw new GantryError("FailedPrecondition", `container ${container.name}: cannot decrease the memory limit to ${limitBytes}: it uses ${used} now`, { retryable: true });
    }
    // A group can't have more than the one above it, so the pod's is as large as both until its containers have what they get.
    sandboxes.limit(pod, given((r) => r.applied), given((r) => r.allocated));
    for (const { container, id } of containers) cgroups.apply(`${podPath}/${id}`, limitsOf(withAllocation(container, record.containers[container.name]), defaultPidsLimit, parseExtras(pod.annotations)));
    sandboxes.limit(pod, given((r) => r.allocated));
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
    writeFileSync(messagePath, "");
    chmodSync(messagePath, 0o666); // whoever the container runs as; the umask would keep others out
    const idMap = sandboxes.idMap(pod.uid);
    const shared = sandboxes.sharedMemory(pod);
    const mounts: RuntimeMount[] = [
      ...(shared ? [shared] : []),
      { source: messagePath, destination: container.terminationMessagePath || MESSAGE_PATH, type: "bind", options: ["rw"] },
    ];
    if (container.mounts.length === 0) return mounts;
    const facts = sandboxes.facts(pod, ip);
    const paths = volumes.prepare(pod, (path) => nodeField(path, facts));
    for (const [i, mount] of container.mounts.entries()) {
      const volume = paths.get(mount.volume);
      if (volume === undefined) throw new GantryError("Invalid", `volumeMounts: the pod has no volume ${JSON.stringify(mount.volume)}`);
      const options = [mount.readOnly ? "ro" : "rw", PROPAGATION[mount.propagation] ?? "rprivate", ...tmpfsFlags(pod, mount.volume)];
      const destination = mount.path.startsWith("/") ? mount.path : `/${mount.path}`;
      const subPath = mount.subPathExpr === "" ? mount.subPath : subPathOf(mount.subPathExpr, container, facts);
      mounts.push({ source: subPath === "" && !idMap ? volume : volumes.pin(pod.uid, `${container.name}-${i}`, { volume, subPath, idMap, follows: mount.propagation === "HostToContainer" }), destination, type: "bind", options });
    }
    // The container's own mounts win over what it would get without asking.
    const wanted = new Set(container.mounts.map((m) => (m.path.startsWith("/") ? m.path : `/${m.path}`)));
    return mounts.filter((m, i) => !(wanted.has(m.destination) && i < mounts.length - container.mounts.length));
  }

  /** An image may say nonsense. */
  stopSignal(name: string): number {
    return signalNumber(name) ?? constants.signals.SIGTERM;
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
    if (endedAttempt >= 1 && !pod.keepWritableLayer) removeLogs(this.logPath(pod, name, endedAttempt - 1));
    rmSync(this.#messagePath(pod, name, endedAttempt), { force: true });
  }

  /** Volumes and sandbox; the containers are gone already. Logs stay. */
  async release(pod: Assignment, { keepVolumes }: { readonly keepVolumes: boolean }): Promise<void> {
    if (pod.shareProcessNamespace) await this.#options.runtime.remove(initId(pod));
    if (!keepVolumes) await this.#options.volumes.remove(pod.uid);
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
      return attempt === undefined ? [] : [{ id: instanceIdOf(pod, name, attempt), path: this.logPath(pod, name, attempt) }];
    });
  }
}

/** The OCI runtime says a bind mount's flags anew, so that those of the tmpfs itself don't hold in the container. */
const tmpfsFlags = (pod: Assignment, volume: string): readonly string[] => {
  const text = pod.annotations[`${TMPFS_ANNOTATION_PREFIX}${volume}`];
  if (text === undefined) return [];
  const { noExec, noSuid, noDev } = parseTmpfsOptions(`annotation ${TMPFS_ANNOTATION_PREFIX}${volume}`, text);
  return [...(noExec ? ["noexec"] : []), ...(noSuid ? ["nosuid"] : []), ...(noDev ? ["nodev"] : [])];
};

/** A variable that is not there would mount another directory than meant: said instead. What comes out is confined. */
const subPathOf = (expression: string, container: Container, facts: Parameters<typeof nodeField>[1]): string => {
  const env = buildEnvironment(container.env, (path) => nodeField(path, facts));
  const missing = [...expression.matchAll(/\$(?:\$|\(([^()]*)\))/g)].map(([, name]) => name).find((name) => name !== undefined && !env.has(name));
  if (missing !== undefined) throw new ConfigError("Invalid", `subPathExpr ${JSON.stringify(expression)}: the container has no variable ${JSON.stringify(missing)}`);
  return expand(expression, env);
};

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
