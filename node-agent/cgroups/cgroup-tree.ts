// A node's control groups: one tree below `root`, in every hierarchy that has limits (version 1) or in the unified tree (version 2). The
// agent makes the inner groups (kubepods, QoS class, pod); the OCI runtime makes the leaves, one per container. Nothing outside of `root` is
// touched. Paths here are relative to the root. Control group files live in memory, so reads and writes are synchronous.
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { rmdir } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { basename, dirname, join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import { GantryError, describeError } from "../../base/errors.ts";
import type { Logger } from "../../base/logger.ts";
import { isErrno } from "../linux/libc.ts";
import type { CgroupLimits } from "../runtime/container-runtime.ts";
import type { CgroupLayout, CgroupVersion } from "./detect.ts";
import { SWAP_FILES, hugePageSizes, limitWrites, weightToShares, weightWrite } from "./limits.ts";
import { parseOomKills, parseStall, parseStats } from "./stats.ts";
import type { CgroupStats, Stall } from "./stats.ts";

/** Version 1 hierarchies in which the agent makes groups: those with limits, and the freezer. The runtime makes the path in all others. */
const V1_CONTROLLERS = ["cpu", "memory", "pids", "hugetlb", "freezer"];
/** Passed down to the leaves on version 2, as far as they are there. */
const V2_CONTROLLERS = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"];
/** Version 1: where a group's processes are looked up, the first that is mounted. */
const PROCESS_HIERARCHIES = ["freezer", "pids", "memory", "cpu"];
const REMOVE_TIMEOUT_MS = 5000;
const KILL_ROUNDS = 20;

export interface CgroupDescription {
  readonly version: CgroupVersion;
  readonly controllers: readonly string[];
  readonly notes: readonly string[];
}

/** What can be limited here that not every kernel limits. */
export interface CgroupFeatures {
  /** Swap: of each group. */
  readonly swap: boolean;
  /** All processes of a group are killed when it is out of memory, not one. */
  readonly oomGroup: boolean;
  /** Sizes of huge pages: "2MB", "1GB". */
  readonly hugePageSizes: readonly string[];
  /** Shares of block devices; version 1 only by the file that every OCI runtime knows (blkio.weight, which BFQ doesn't have). */
  readonly ioWeight: boolean;
  /** Bytes and operations a second of block devices. */
  readonly ioRates: boolean;
}

export interface CgroupTreeOptions {
  readonly layout: CgroupLayout;
  /** Below the mount of each hierarchy: "gantry", "gantry/node-1". Unique on the machine. */
  readonly root: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

export type QosClass = "Guaranteed" | "Burstable" | "BestEffort";

const BURSTABLE = "kubepods/burstable";
const BEST_EFFORT = "kubepods/besteffort";
/** kubepods/podUID, kubepods/burstable/podUID, kubepods/besteffort/podUID: as kubelet's cgroupfs driver lays them out, so that tools find them. */
export const podCgroupPath = (qosClass: string, podUid: string): string =>
  qosClass === "Guaranteed" ? `kubepods/pod${podUid}` : `${qosClass === "Burstable" ? BURSTABLE : BEST_EFFORT}/pod${podUid}`;

const SHARES_OF_A_PROCESSOR = 1024;
const LEAST_SHARES = 2;

export class CgroupTree {
  readonly #layout: CgroupLayout;
  readonly #root: string;
  readonly #clock: Clock;
  readonly #logger: Logger;
  /** v2: groups that pass their controllers down. */
  readonly #delegated = new Set<string>();
  /** By the path of a Burstable pod. */
  readonly #burstableShares = new Map<string, number>();

  constructor({ layout, root, clock, logger }: CgroupTreeOptions) {
    const clean = root.replace(/^\/+|\/+$/g, "");
    if (clean === "" || clean.split("/").some((part) => part === "" || part === "." || part === "..")) {
      throw new GantryError("Invalid", `cgroup root "${root}": give a path such as gantry/node-1`);
    }
    if (layout.version === "none") throw new GantryError("FailedPrecondition", layout.notes[0] ?? "no control groups are mounted");
    this.#layout = layout;
    this.#root = clean;
    this.#clock = clock;
    this.#logger = logger;
  }

  get #version(): "v1" | "v2" {
    return this.#layout.version === "v2" ? "v2" : "v1";
  }

  describe(): CgroupDescription {
    const { version, hierarchies, unifiedControllers, notes } = this.#layout;
    return { version, controllers: version === "v2" ? unifiedControllers : [...hierarchies.keys()].filter((name) => !name.startsWith("name=")), notes };
  }

  /** By the files of the root's own group: so after prepare(), or once something was made. The agent makes none for block I/O on version 1, but the hierarchy's root shows the same. */
  features(): CgroupFeatures {
    const has = (controller: string, file: string): boolean => this.#read(controller, "", file) !== undefined;
    const blkio = this.#version === "v2" ? undefined : this.#layout.hierarchies.get("blkio");
    return {
      swap: has("memory", SWAP_FILES[this.#version]), oomGroup: has("memory", "memory.oom.group"), hugePageSizes: hugePageSizes(this.#filesOf("hugetlb", "")),
      ioWeight: blkio === undefined ? has("io", "io.weight") || has("io", "io.bfq.weight") : existsSync(join(blkio, "blkio.weight")),
      ioRates: blkio === undefined ? has("io", "io.max") : existsSync(join(blkio, "blkio.throttle.read_bps_device")),
    };
  }

  /** linux.cgroupsPath of an OCI bundle: absolute below the mount of each hierarchy. */
  ociPath(path: string): string {
    return `/${this.#root}/${path}`;
  }

  /**
   * The groups above all pods, with kubelet's weights. Once, at the agent's start. All pods together weigh as much as the machine has processors, BestEffort
   * ones the least; Burstable ones as much as they request together, so that a request is worth the same in whichever class.
   */
  prepare(): void {
    for (const path of ["", "kubepods", BURSTABLE, BEST_EFFORT]) this.create(path);
    this.#handDownProcessors();
    for (const path of ["", "kubepods"]) this.#weigh(path, availableParallelism() * SHARES_OF_A_PROCESSOR);
    this.#weigh(BEST_EFFORT, LEAST_SHARES);
    // Of the agent before.
    for (const pod of childrenOf(this.#directoryOf("cpu", BURSTABLE) ?? "")) {
      const path = `${BURSTABLE}/${basename(pod)}`;
      const weight = Number(this.#read("cpu", path, weightWrite(this.#version, 0).file) ?? 0);
      this.#burstableShares.set(path, this.#version === "v2" ? weightToShares(weight) : weight);
    }
    this.#weighBurstable();
  }

  /**
   * Version 1: a new group has no processors and no memory nodes, and a runtime copies them from above, file by file, for each of which the kernel looks at
   * every group there is. Below the root of ours it hands them down itself.
   */
  #handDownProcessors(): void {
    const mount = this.#version === "v2" ? undefined : this.#layout.hierarchies.get("cpuset");
    if (mount === undefined) return;
    try {
      let above = mount;
      for (const name of this.#root.split("/")) {
        const directory = join(above, name);
        mkdirSync(directory, { recursive: true });
        for (const file of ["cpuset.cpus", "cpuset.mems"]) if (readText(join(directory, file))?.trim() === "") writeFileSync(join(directory, file), readFileSync(join(above, file)));
        above = directory;
      }
      writeFileSync(join(above, "cgroup.clone_children"), "1");
    } catch (error) {
      this.#logger.warn("each new container sets its processors (cpuset) itself, which takes longer the more there are", { err: error });
    }
  }

  #weighBurstable(): void {
    this.#weigh(BURSTABLE, [...this.#burstableShares.values()].reduce((sum, shares) => sum + shares, 0));
  }

  /** The weight alone: limits that somebody else has set, for all of the node, stay. */
  #weigh(path: string, cpuShares: number): void {
    const { controller, file, value } = weightWrite(this.#version, cpuShares);
    const directory = this.#directoryOf(controller, path);
    if (directory !== undefined && existsSync(directory)) writeFileSync(join(directory, file), value);
  }

  /** Makes an inner group (one that has groups, not processes) with all above it, and sets its limits. Idempotent. */
  create(path: string, limits?: CgroupLimits): void {
    let isNew: boolean;
    if (this.#version === "v2") {
      isNew = !existsSync(join(this.#layout.unified!, this.#root, path));
      this.#delegate(join(this.#root, path));
    } else {
      isNew = this.#directories(path).map((directory) => mkdirSync(directory, { recursive: true })).every((made) => made !== undefined);
    }
    if (limits) this.#set(path, limits, isNew);
  }

  /** Sets all limits of a group, a container's too. A controller that isn't there is skipped: describe() says so. */
  apply(path: string, limits: CgroupLimits): void {
    this.#set(path, limits, false);
  }

  /** `isNew`: nothing limits it. */
  #set(path: string, limits: CgroupLimits, isNew: boolean): void {
    const present = {
      swap: limits.swapBytes === undefined ? undefined : this.#read("memory", path, SWAP_FILES[this.#version]),
      hugetlb: limits.hugePages === undefined ? [] : this.#filesOf("hugetlb", path),
    };
    for (const { controller, file, value } of limitWrites(this.#version, limits, present, isNew)) {
      const directory = this.#directoryOf(controller, path);
      if (directory === undefined) continue;
      try {
        writeFileSync(join(directory, file), value);
      } catch (error) {
        throw new GantryError(isErrno(error, "ENOENT") ? "NotFound" : "InternalError", `can't set ${file} of ${this.ociPath(path)} to ${value}: ${describeError(error)}`, { cause: error });
      }
    }
    if (dirname(path) === BURSTABLE && this.#burstableShares.get(path) !== limits.cpuShares) {
      this.#burstableShares.set(path, limits.cpuShares);
      this.#weighBurstable();
    }
  }

  /**
   * Removes a group and all below it, in every hierarchy. Waits for processes that are just ending. "Conflict" names those that don't.
   * Idempotent.
   */
  async remove(path: string): Promise<void> {
    const deadlineMs = this.#clock.monotonicMs() + REMOVE_TIMEOUT_MS;
    let left: readonly string[] = this.#everyDirectory(path);
    for (let delayMs = 1; ; delayMs = Math.min(delayMs * 2, 100)) {
      const gone = await Promise.all(left.map(removeTree));
      left = left.filter((_, i) => !gone[i]);
      if (left.length === 0) break;
      if (this.#clock.monotonicMs() > deadlineMs) {
        throw new GantryError("Conflict", `can't remove the cgroup ${this.ociPath(path)}: processes ${this.processes(path).join(", ") || "unknown"} are still in it`, { retryable: true });
      }
      await this.#clock.sleep(delayMs);
    }
    if (this.#burstableShares.delete(path)) this.#weighBurstable();
    const full = join(this.#root, path);
    for (const delegated of this.#delegated) if (delegated === full || delegated.startsWith(`${full}/`)) this.#delegated.delete(delegated);
  }

  /** Removes the root itself and all below: for `gantry down`. Kills what still runs there. */
  async destroy(): Promise<void> {
    await this.kill("");
    await this.remove("");
  }

  exists(path: string): boolean {
    const directory = this.#processDirectory(path);
    return directory !== undefined && readText(join(directory, "cgroup.procs")) !== undefined;
  }

  /** Of the group and all below it. Empty when it doesn't exist. */
  processes(path: string): readonly number[] {
    const directory = this.#processDirectory(path);
    return directory === undefined ? [] : processesBelow(directory);
  }

  /** Sends SIGKILL to every process in the group and below, also to those that fork meanwhile. Doesn't wait for their end: remove() does. */
  async kill(path: string): Promise<void> {
    if (this.#version === "v2" && writeIfPresent(join(this.#unified(path), "cgroup.kill"), "1")) return; // Linux 5.14
    const frozen = await this.#tryFreeze(path);
    for (let round = 0; round < KILL_ROUNDS; round++) {
      const pids = this.processes(path);
      for (const pid of pids) killQuietly(pid);
      if (frozen || pids.length === 0) break; // frozen: none can fork, and each dies when it thaws
      await this.#clock.sleep(5);
    }
    this.#thawAll(path);
  }

  /** A group below may have been frozen by itself, and frozen processes don't die on version 1. */
  #thawAll(path: string): void {
    const directory = this.#version === "v2" ? undefined : this.#directoryOf("freezer", path);
    const thaw = (group: string): void => {
      writeIfPresent(join(group, "freezer.state"), "THAWED");
      for (const child of childrenOf(group)) thaw(child);
    };
    if (directory !== undefined) thaw(directory);
    else if (this.#version === "v2") writeIfPresent(join(this.#unified(path), "cgroup.freeze"), "0");
  }

  /** Stops all processes of the group where they are; resolves when they stand. "FailedPrecondition" without a freezer. */
  async freeze(path: string): Promise<void> {
    const { file, on, isFrozen } = this.#freezer(path);
    writeFileSync(file, on);
    const deadlineMs = this.#clock.monotonicMs() + REMOVE_TIMEOUT_MS;
    for (let delayMs = 1; !isFrozen(); delayMs = Math.min(delayMs * 2, 50)) {
      if (this.#clock.monotonicMs() > deadlineMs) {
        this.thaw(path);
        throw new GantryError("Timeout", `the cgroup ${this.ociPath(path)} did not freeze within ${REMOVE_TIMEOUT_MS} ms: a process sleeps in the kernel`);
      }
      await this.#clock.sleep(delayMs);
      if (this.#version === "v1") writeFileSync(file, on); // processes that came in meanwhile
    }
  }

  thaw(path: string): void {
    const { file, off } = this.#freezer(path);
    writeFileSync(file, off);
  }

  /** By the group's own setting; false when it doesn't exist, or there is no freezer. */
  isFrozen(path: string): boolean {
    if (this.#version === "v2") return readText(join(this.#unified(path), "cgroup.freeze"))?.trim() === "1";
    const directory = this.#directoryOf("freezer", path);
    return directory !== undefined && readText(join(directory, "freezer.self_freezing"))?.trim() === "1";
  }

  /** undefined when the group doesn't exist. */
  readStats(path: string): CgroupStats | undefined {
    return this.exists(path) ? parseStats(this.#version, (controller, file) => this.#read(controller, path, file)) : undefined;
  }

  /** Pressure of a group by resource: cpu, memory, io. Empty on version 1, and where the kernel doesn't keep it. */
  readPressure(path: string): Readonly<Record<string, Stall>> {
    if (this.#version !== "v2") return {};
    return Object.fromEntries(["cpu", "memory", "io"].flatMap((resource) => {
      const stall = parseStall(readText(join(this.#unified(path), `${resource}.pressure`)));
      return stall ? [[resource, stall]] : [];
    }));
  }

  /** Processes of a container killed for want of memory. Read when it has ended and before the runtime deletes it; 0 when it's gone. */
  readOomKills(path: string): number {
    return parseOomKills(this.#version, (controller, file) => this.#read(controller, path, file));
  }

  #read(controller: string, path: string, file: string): string | undefined {
    const directory = this.#directoryOf(controller, path);
    return directory === undefined ? undefined : readText(join(directory, file));
  }

  #filesOf(controller: string, path: string): readonly string[] {
    const directory = this.#directoryOf(controller, path);
    return directory !== undefined && existsSync(directory) ? readdirSync(directory) : [];
  }

  async #tryFreeze(path: string): Promise<boolean> {
    try {
      await this.freeze(path);
      return true;
    } catch (error) {
      if (!isErrno(error, "ENOENT")) this.#logger.debug("killing a cgroup without freezing it", { cgroup: this.ociPath(path), err: error });
      return false;
    }
  }

  #freezer(path: string): { readonly file: string; readonly on: string; readonly off: string; readonly isFrozen: () => boolean } {
    if (this.#version === "v2") {
      const directory = this.#unified(path);
      return { file: join(directory, "cgroup.freeze"), on: "1", off: "0", isFrozen: () => readText(join(directory, "cgroup.events"))?.includes("frozen 1") ?? false };
    }
    const directory = this.#directoryOf("freezer", path);
    if (directory === undefined) throw new GantryError("FailedPrecondition", "the freezer controller is not available on this host");
    const file = join(directory, "freezer.state");
    return { file, on: "FROZEN", off: "THAWED", isFrozen: () => readText(file)?.trim() === "FROZEN" };
  }

  #unified(path: string): string {
    return join(this.#layout.unified!, this.#root, path);
  }

  #directoryOf(controller: string, path: string): string | undefined {
    if (this.#version === "v2") return this.#layout.unifiedControllers.includes(controller) ? this.#unified(path) : undefined;
    const mount = this.#layout.hierarchies.get(controller);
    return mount === undefined ? undefined : join(mount, this.#root, path);
  }

  #processDirectory(path: string): string | undefined {
    if (this.#version === "v2") return this.#unified(path);
    for (const controller of PROCESS_HIERARCHIES) {
      const directory = this.#directoryOf(controller, path);
      if (directory !== undefined) return directory;
    }
    return undefined;
  }

  /** Where the agent makes the group. Controllers that are mounted together have one directory. */
  #directories(path: string): readonly string[] {
    return [...new Set(V1_CONTROLLERS.flatMap((controller) => this.#directoryOf(controller, path) ?? []))];
  }

  /** Where the runtime may have made it too: every hierarchy, and on hybrid hosts the unified tree. */
  #everyDirectory(path: string): readonly string[] {
    const mounts = [...this.#layout.hierarchies.values(), ...(this.#layout.unified === undefined ? [] : [this.#layout.unified])];
    return [...new Set(mounts)].map((mount) => join(mount, this.#root, path));
  }

  /** v2: a group gives its children only the controllers that its subtree_control names, and so all the way down from the root. */
  #delegate(path: string): void {
    if (this.#delegated.has(path)) return;
    const mount = this.#layout.unified!;
    if (path !== "") {
      this.#delegate(dirname(path) === "." ? "" : dirname(path));
      mkdirSync(join(mount, path), { recursive: true });
    }
    const directory = join(mount, path);
    const wanted = V2_CONTROLLERS.filter((controller) => this.#layout.unifiedControllers.includes(controller));
    const present = readText(join(directory, "cgroup.subtree_control"))?.split(/\s+/) ?? [];
    const missing = wanted.filter((controller) => !present.includes(controller));
    if (missing.length > 0) this.#enable(directory, missing);
    this.#delegated.add(path);
  }

  #enable(directory: string, controllers: readonly string[]): void {
    const file = join(directory, "cgroup.subtree_control");
    const value = controllers.map((controller) => `+${controller}`).join(" ");
    try {
      writeFileSync(file, value);
    } catch (error) {
      // Processes in a group that is not the real root keep it from having groups with controllers: the agent in a container. Its
      // processes move into a group of their own, as container images with an init system do.
      if (!isErrno(error, "EBUSY") || readText(join(directory, "cgroup.type")) === undefined || directory !== this.#layout.unified) {
        throw new GantryError("FailedPrecondition", `can't give the controllers ${controllers.join(", ")} to groups below ${directory}: ${describeError(error)}`, { cause: error });
      }
      evacuate(directory);
      writeFileSync(file, value);
    }
  }
}

const readText = (path: string): string | undefined => {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENODEV", "ENOTDIR")) return undefined; // ENODEV: removed while it was open
    throw error;
  }
};

/** false: there is no such file. */
const writeIfPresent = (path: string, value: string): boolean => {
  try {
    writeFileSync(path, value, { flag: "r+" });
    return true;
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENODEV")) return false;
    throw error;
  }
};

const childrenOf = (directory: string): readonly string[] => {
  try {
    return readdirSync(directory, { withFileTypes: true }).filter((entry) => entry.isDirectory()).map((entry) => join(directory, entry.name));
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENODEV")) return [];
    throw error;
  }
};

const processesBelow = (directory: string): readonly number[] => {
  // 0 stands for a process that this pid namespace does not know.
  const own = (readText(join(directory, "cgroup.procs")) ?? "").split("\n").map(Number).filter((pid) => pid > 0);
  return [...own, ...childrenOf(directory).flatMap(processesBelow)];
};

/** Children first. false: something in it is still in use. In the pool's threads: the kernel makes one wait for whoever else changes groups. */
const removeTree = async (directory: string): Promise<boolean> => {
  // Most have no children: one call instead of two.
  if (await removeEmpty(directory)) return true;
  const children = childrenOf(directory);
  if (children.length === 0) return false;
  return (await Promise.all(children.map(removeTree))).every(Boolean) && removeEmpty(directory);
};

const removeEmpty = async (directory: string): Promise<boolean> => {
  try {
    await rmdir(directory);
    return true;
  } catch (error) {
    if (isErrno(error, "ENOENT")) return true;
    if (isErrno(error, "EBUSY", "ENOTEMPTY")) return false;
    throw error;
  }
};

const killQuietly = (pid: number): void => {
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    if (!isErrno(error, "ESRCH")) throw error;
  }
};

const evacuate = (directory: string): void => {
  const into = join(directory, "init");
  mkdirSync(into, { recursive: true });
  for (const pid of (readText(join(directory, "cgroup.procs")) ?? "").split("\n").filter((line) => line !== "")) {
    try {
      writeFileSync(join(into, "cgroup.procs"), pid);
    } catch (error) {
      if (!isErrno(error, "ESRCH", "EINVAL")) throw error; // it ended, or it is a kernel thread
    }
  }
};
