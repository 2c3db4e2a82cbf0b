// Keeps the node alive when it runs short: looks every 10 s at what is left (four small reads), reports pressure, wins back images' disk, and
// evicts one pod at a time until enough is free. Pods above their own limits of storage go as well. Only pods are measured for, and only
// when somebody is to go, or sets a limit. Remembers nothing that a restart could not find again.
import type { Clock } from "../../base/clock.ts";
import { describeError } from "../../base/errors.ts";
import type { Logger } from "../../base/logger.ts";
import type { Metrics } from "../../base/metrics.ts";
import type { NodeCondition, PodUsage } from "../../proto/gen/gantry/v1/agent.ts";
import type { PodService, RunningPod } from "../pods/pod-service.ts";
import type { StatsCollector } from "../stats/stats-collector.ts";
import { evictionMessage, rank, type Candidate } from "./ranking.ts";
import { exceededLimit, hasStorageLimits } from "./storage-limits.ts";
import { conditionOf, judge, NO_PRESSURE, resourceOf, type Amount, type Condition, type Observations, type PressureState, type Signal, type Threshold } from "./thresholds.ts";

export interface EvictionOptions {
  readonly pods: Pick<PodService, "running" | "evict">;
  readonly stats: Pick<StatsCollector, "counters" | "storageOf">;
  readonly observe: () => Observations;
  /** Deletes what no container needs; bytes won. */
  readonly collectImages: () => Promise<number>;
  readonly thresholds: readonly Threshold[];
  readonly minimumReclaim: ReadonlyMap<Signal, Amount>;
  readonly transitionMs: number;
  /** Longest grace of a pod that goes for a soft threshold. */
  readonly maxGraceMs: number;
  readonly periodMs: number;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

const REASONS: Readonly<Record<Condition, readonly [bad: string, good: string, badText: string, goodText: string]>> = {
  MemoryPressure: ["AgentHasInsufficientMemory", "AgentHasSufficientMemory", "the node has insufficient memory available", "the node has sufficient memory available"],
  DiskPressure: ["AgentHasDiskPressure", "AgentHasNoDiskPressure", "the node has disk pressure", "the node has no disk pressure"],
  PIDPressure: ["AgentHasInsufficientPID", "AgentHasSufficientPID", "the node has insufficient process ids available", "the node has sufficient process ids available"],
};

export class EvictionManager implements Disposable {
  readonly #options: EvictionOptions;
  readonly #evictions;
  #state: PressureState = NO_PRESSURE;
  #conditions: ReadonlySet<Condition> = new Set();
  #timer: Disposable | undefined;
  #closed = false;

  constructor(options: EvictionOptions) {
    this.#options = options;
    this.#evictions = options.metrics.counter("gantry_agent_evictions_total", "Pods evicted because the node ran short or they exceeded a limit, by what there was too little of.", ["signal"]);
  }

  start(): void {
    this.#timer = this.#options.clock.setTimer(this.#options.periodMs, () => void this.#round());
  }

  /** For heartbeats. */
  conditions(): readonly NodeCondition[] {
    return (Object.keys(REASONS) as Condition[]).map((type) => {
      const [bad, good, badText, goodText] = REASONS[type];
      const status = this.#conditions.has(type);
      return { type, status, reason: status ? bad : good, message: status ? badText : goodText };
    });
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    this.#timer?.[Symbol.dispose]();
  }

  async #round(): Promise<void> {
    try {
      await this.look();
    } catch (error) {
      this.#options.logger.warn("looking after the node's resources failed", { err: describeError(error) });
    }
    if (!this.#closed) this.start();
  }

  /** One look; evicts at most one pod for the node's sake. */
  async look(): Promise<void> {
    await this.#enforceLimits();
    const observed = this.#options.observe();
    const { state, conditions, due } = this.#judge(observed);
    this.#state = state;
    this.#note(conditions);
    const first = due[0];
    if (!first) return;
    if (conditionOf(first.signal) === "DiskPressure") {
      const bytes = await this.#options.collectImages();
      if (bytes > 0) {
        this.#options.logger.info("images that nothing uses were removed to win back disk", { bytes });
        if (this.#judge(this.#options.observe()).due.length === 0) return;
      }
    }
    await this.#evictOne(first, observed);
  }

  #judge(observed: Observations): ReturnType<typeof judge> {
    const { thresholds, clock, transitionMs, minimumReclaim } = this.#options;
    return judge(thresholds, observed, this.#state, { nowMs: clock.monotonicMs(), transitionMs, minimumReclaim });
  }

  #note(conditions: ReadonlySet<Condition>): void {
    for (const condition of conditions) if (!this.#conditions.has(condition)) this.#options.logger.warn("the node is under pressure", { condition });
    for (const condition of this.#conditions) if (!conditions.has(condition)) this.#options.logger.info("the node is no longer under pressure", { condition });
    this.#conditions = conditions;
  }

  async #evictOne(threshold: Threshold, observed: Observations): Promise<void> {
    const { pods, logger, maxGraceMs } = this.#options;
    const resource = resourceOf(threshold.signal);
    const running = pods.running();
    const disk = resource === "ephemeral-storage" || resource === "inodes";
    const { pods: usages } = await this.#options.stats.counters(disk);
    const used = new Map(usages.map((u) => [u.uid, u]));
    const candidates = running.flatMap((pod) => {
      const usage = used.get(pod.assignment.uid);
      return usage ? [candidate(pod, usage, resource)] : [];
    });
    for (const victim of rank(candidates, resource)) {
      const message = evictionMessage(threshold, observed[threshold.signal], victim);
      if (!pods.evict(victim.uid, { message, graceMs: threshold.graceMs === undefined ? 0 : maxGraceMs })) continue; // it is on its way out already
      this.#evictions.inc({ signal: threshold.signal });
      logger.warn("a pod is evicted", { podUid: victim.uid, signal: threshold.signal, reason: message });
      return;
    }
    logger.warn("the node is short of a resource, and there is no pod left to evict", { signal: threshold.signal, available: observed[threshold.signal].available });
  }

  async #enforceLimits(): Promise<void> {
    const { pods, stats, logger } = this.#options;
    for (const pod of pods.running().filter(({ assignment }) => hasStorageLimits(assignment))) {
      const message = exceededLimit(pod.assignment, await stats.storageOf(pod));
      if (message === undefined || !pods.evict(pod.assignment.uid, { message, graceMs: 0 })) continue;
      this.#evictions.inc({ signal: "limit" });
      logger.warn("a pod exceeds a limit of storage and is evicted", { podUid: pod.assignment.uid, reason: message });
    }
  }
}

const candidate = ({ assignment }: RunningPod, usage: PodUsage, resource: ReturnType<typeof resourceOf>): Candidate => {
  const containers = new Map(usage.containers.map((c) => [c.name, c]));
  const of = (c: PodUsage["containers"][number] | undefined): number =>
    c === undefined ? 0 : resource === "memory" ? (c.memory?.workingSetBytes ?? 0) : resource === "pids" ? c.pids : Math.max(0, c.storageBytes) + c.logBytes;
  return {
    uid: assignment.uid, priority: assignment.priority, qosClass: assignment.qosClass,
    usage: resource === "memory" ? (usage.memory?.workingSetBytes ?? 0) : resource === "pids" ? usage.pids : Math.max(0, usage.storageBytes),
    containers: [...assignment.initContainers, ...assignment.containers].flatMap((c) => (containers.has(c.name) ? [{ name: c.name, requests: c.requests, usage: of(containers.get(c.name)) }] : [])),
  };
};
