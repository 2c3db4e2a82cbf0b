// What this node's pods use, read when somebody asks: files of control groups, one read of the network's links, and, when wanted, the disk.
// Nothing is read while nobody asks. Owns the memory that rates of CPU time need.
import { join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import { GantryError } from "../../base/errors.ts";
import type { ContainerUsage, CpuUsage, MemoryUsage, NetworkUsage, PodUsage, StatsRequest, StatsSample } from "../../proto/gen/gantry/v1/agent.ts";
import { podCgroupPath, type CgroupTree } from "../cgroups/cgroup-tree.ts";
import type { CgroupStats } from "../cgroups/stats.ts";
import type { StorageUsage } from "../eviction/storage-limits.ts";
import { partsOf, sizeOf } from "../logs/log-files.ts";
import { hostLinkName } from "../network/linux-pod-network.ts";
import type { RunningContainer, RunningPod } from "../pods/pod-service.ts";
import { CpuRates, LEAST_WINDOW_MS } from "./cpu-rates.ts";
import { diskUsage } from "./disk-usage.ts";
import { otherEnd, readLinks, readNodeUsage } from "./node-usage.ts";

export interface StatsOptions {
  readonly running: () => readonly RunningPod[];
  readonly cgroups: Pick<CgroupTree, "readStats" | "readPressure">;
  readonly paths: {
    /** The writable layer of a container. */
    readonly layer: (containerId: string) => string;
    /** A volume that goes with its pod. */
    readonly volume: (podUid: string, name: string) => string;
    readonly nodefs: string;
    readonly imagefs: string;
  };
  readonly clock: Clock;
}

/** Pods that are read before other work gets its turn: some 0.2 ms each. */
const PODS_A_TURN = 8;
const NODE = "node";

export const NOT_MEASURED = -1;

export class StatsCollector {
  readonly #options: StatsOptions;
  /** Of all single samples together: whoever asked before makes the base for who asks next. */
  readonly #rates = new CpuRates();

  constructor(options: StatsOptions) {
    this.#options = options;
  }

  /** One sample. Takes a second when there is no reading to compare with. */
  async sample(request: Pick<StatsRequest, "podUids" | "storage">): Promise<StatsSample> {
    const first = await this.#read(request, this.#rates);
    if (isRated(first)) return first;
    await this.#options.clock.sleep(LEAST_WINDOW_MS + 100);
    return this.#read(request, this.#rates);
  }

  /** What is there now, without rates: for scrapers, which make their own. */
  counters(storage = false): Promise<StatsSample> {
    return this.#read({ podUids: [], storage }, undefined);
  }

  /** Samples until `signal` aborts, or until the pods asked for run no more. */
  async *follow(request: StatsRequest, signal: AbortSignal): AsyncGenerator<StatsSample> {
    if (request.periodMs <= 0) {
      yield await this.sample(request);
      return;
    }
    if (request.periodMs < 200) throw new GantryError("Invalid", `periodMs: ${request.periodMs} is too short; 200 at least`);
    const rates = new CpuRates(0);
    for (;;) {
      const sample = await this.#read(request, rates);
      yield sample;
      if (request.podUids.length > 0 && sample.pods.length === 0) return;
      await this.#options.clock.sleep(request.periodMs, signal).catch(() => undefined);
      if (signal.aborted) return;
    }
  }

  /** Bytes on disk of each pod's containers (layer and logs) and volumes: what counts as its ephemeral storage. */
  async storageOf(pod: RunningPod): Promise<StorageUsage> {
    const { paths } = this.#options;
    const [containers, volumes] = [new Map<string, number>(), new Map<string, number>()];
    for (const { name, source } of pod.assignment.volumes) {
      if (source?.$case === "emptyDir" && !source.value.memory) volumes.set(name, await diskUsage(paths.volume(pod.assignment.uid, name)));
    }
    for (const { name, id, logPath } of pod.containers) containers.set(name, (await diskUsage(paths.layer(id))) + logBytes(logPath));
    return { containers, volumes };
  }

  async #read({ podUids, storage }: Pick<StatsRequest, "podUids" | "storage">, rates: CpuRates | undefined): Promise<StatsSample> {
    const { running, clock, paths } = this.#options;
    const atMs = clock.nowMs();
    const wanted = new Set(podUids);
    const pods = running().filter(({ assignment }) => wanted.size === 0 || wanted.has(assignment.uid));
    const links = readLinks();
    const usages: PodUsage[] = [];
    for (const [i, pod] of pods.entries()) {
      if (i > 0 && i % PODS_A_TURN === 0) await new Promise((turn) => setImmediate(turn));
      const usage = this.#readPod(pod, links, rates);
      if (usage) usages.push(storage ? await this.#withStorage(usage, pod) : usage);
    }
    rates?.forgetBefore(atMs);
    return { atMs, node: readNodeUsage(paths, (totalNs) => rates?.of(NODE, { totalNs, atMs }) ?? { nanoCores: 0, windowMs: 0 }), pods: usages };
  }

  #readPod({ assignment, containers }: RunningPod, links: ReadonlyMap<string, NetworkUsage>, rates: CpuRates | undefined): PodUsage | undefined {
    const { uid, namespace, name, qosClass, hostNetwork } = assignment;
    const path = podCgroupPath(qosClass, uid);
    const stats = this.#options.cgroups.readStats(path);
    if (!stats) return undefined; // it ended this moment
    const link = hostNetwork ? undefined : links.get(hostLinkName(uid));
    return {
      uid, namespace, name, cpu: this.#cpu(uid, stats, rates), memory: memoryOf(stats), network: link && otherEnd(link), pids: stats.pids, storageBytes: NOT_MEASURED,
      containers: containers.flatMap((c) => this.#readContainer(join(path, c.id), c, rates)),
    };
  }

  #readContainer(path: string, { name, id, image, startedAtMs, logPath }: RunningContainer, rates: CpuRates | undefined): readonly ContainerUsage[] {
    const { cgroups } = this.#options;
    const stats = cgroups.readStats(path);
    if (!stats) return [];
    return [{
      name, id, image, startedAtMs, cpu: this.#cpu(id, stats, rates, startedAtMs), memory: memoryOf(stats), readBytes: stats.readBytes, writeBytes: stats.writeBytes, pids: stats.pids,
      oomKills: stats.oomKills, storageBytes: NOT_MEASURED, logBytes: logBytes(logPath), pressure: { ...cgroups.readPressure(path) },
    }];
  }

  #cpu(key: string, { cpuNs, throttledNs }: CgroupStats, rates: CpuRates | undefined, startedAtMs?: number): CpuUsage {
    const rate = rates?.of(key, { totalNs: cpuNs, atMs: this.#options.clock.nowMs() }, startedAtMs) ?? { nanoCores: 0, windowMs: 0 };
    return { totalNs: cpuNs, throttledNs, ...rate };
  }

  async #withStorage(usage: PodUsage, pod: RunningPod): Promise<PodUsage> {
    const { containers, volumes } = await this.storageOf(pod);
    return { ...usage, storageBytes: [...containers.values(), ...volumes.values()].reduce((a, b) => a + b, 0), containers: usage.containers.map((c) => ({ ...c, storageBytes: Math.max(0, (containers.get(c.name) ?? 0) - c.logBytes) })) };
  }
}

const logBytes = (path: string): number => partsOf(path).reduce((sum, part) => sum + sizeOf(part), 0);

const memoryOf = (stats: CgroupStats): MemoryUsage => ({
  usageBytes: stats.memoryBytes, workingSetBytes: stats.workingSetBytes, rssBytes: stats.rssBytes, limitBytes: stats.memoryLimitBytes ?? 0,
  availableBytes: stats.memoryLimitBytes === undefined ? 0 : Math.max(0, stats.memoryLimitBytes - stats.workingSetBytes),
});

const isRated = ({ node, pods }: StatsSample): boolean => (node?.cpu?.windowMs ?? 0) > 0 && pods.every((p) => p.containers.every((c) => (c.cpu?.windowMs ?? 0) > 0));
