// The loop that all controllers share: event -> key -> queue -> sync(key) -> writes. It owns retries, the wait for a pass's own
// writes to show up in the cache, and the end: when the leader was fenced off, the loop rejects, and leadership with it.
import type { Clock } from "../../base/clock.ts";
import { isCode } from "../../base/errors.ts";
import type { Logger } from "../../base/logger.ts";
import type { Metrics } from "../../base/metrics.ts";
import { WorkQueue, workQueueMetrics } from "../../base/work-queue.ts";
import type { WatchCache } from "../state/cache.ts";
import type { EventRecorder, RecordedEvent } from "../state/event-recorder.ts";
import type { NodeStreams } from "../state/node-streams.ts";
import type { Fence, Store } from "../state/store.ts";
import type { Writer } from "../state/writers.ts";
import type { EvictionPace } from "./node-lifecycle/zones.ts";
import { Writes } from "./writes.ts";

export interface ControllerOptions {
  /** A node whose lease was not renewed for this long is lost. */
  readonly nodeLeaseMs: number;
  /** How long pods of a node that is lost, or not ready, wait for it, unless they tolerate that for a time of their own. */
  readonly podEvictionMs: number;
  /** How nodes of a zone lose their pods one after another. */
  readonly evictionPace: EvictionPace;
  /** How long a pod may be bound to a node that doesn't exist. */
  readonly absentNodeMs: number;
  /** Finished pods beyond this many are deleted, the oldest first. */
  readonly terminatedPodThreshold: number;
  readonly eventTtlMs: number;
  /** How long changes that only affect an owner's status are gathered: 100 pods turning ready must not cost 100 writes. */
  readonly statusDelayMs: number;
}

export const DEFAULT_CONTROLLER_OPTIONS: ControllerOptions = {
  nodeLeaseMs: 20_000, podEvictionMs: 30_000, evictionPace: { intervalMs: 10_000, slowIntervalMs: 100_000, unhealthyPercent: 55, largeZoneNodes: 50 }, absentNodeMs: 40_000, terminatedPodThreshold: 12_500, eventTtlMs: 3_600_000, statusDelayMs: 40,
};

export interface ControllerContext {
  readonly store: Store;
  readonly cache: WatchCache;
  readonly clock: Clock;
  readonly random: () => number;
  readonly logger: Logger;
  readonly metrics?: Metrics | undefined;
  /** Absent only in tests: a leader always has one. */
  readonly fence: Fence | undefined;
  readonly signal: AbortSignal;
  readonly events: EventRecorder;
  /** What pods use is asked of their nodes. */
  readonly streams: NodeStreams;
  readonly options: ControllerOptions;
}

/** What a controller does with its queue. */
export type Requeue = Pick<WorkQueue, "add" | "addAfter">;
export type Announcement = Omit<RecordedEvent, "writer" | "component">;

export interface Pass {
  readonly writes: Writes;
  /** Asks for another pass after this long, however nothing happens. */
  readonly again: (delayMs: number) => void;
  readonly announce: (event: Announcement) => void;
}

export interface Controller {
  readonly name: string;
  readonly writer: Writer;
  readonly concurrency?: number;
  /** Subscribes, and adds every key there is: what happened before this process led must be caught up with. */
  watch(queue: Requeue): Iterable<Disposable>;
  sync(key: string, pass: Pass): Promise<void>;
}

const DEFAULT_CONCURRENCY = 16;

/** Resolves when the context's signal aborted and what ran has ended; rejects when the leader was fenced off. */
export const runController = async (context: ControllerContext, controller: Controller): Promise<void> => {
  const { cache, clock, random, signal, store, fence } = context;
  if (signal.aborted) return;
  const logger = context.logger.child({ component: `${controller.name}-controller` });
  const ended = Promise.withResolvers<void>();
  /** Versions written by the last pass over a key, which the next one must see. */
  const unseen = new Map<string, number>();
  const queue = new WorkQueue({
    name: controller.name, clock, random, concurrency: controller.concurrency ?? DEFAULT_CONCURRENCY,
    metrics: context.metrics && workQueueMetrics(context.metrics),
    sync: async (key) => {
      const version = unseen.get(key);
      if (version !== undefined) await cache.waitFor(version);
      unseen.delete(key);
      const writes = new Writes(store, controller.writer, fence, { store, cache, clock, defaultTolerationSeconds: Math.ceil(context.options.podEvictionMs / 1000) });
      try {
        await controller.sync(key, {
          writes, again: (delayMs) => queue.addAfter(key, delayMs),
          announce: (event) => context.events.record({ ...event, writer: controller.writer, component: `${controller.name}-controller` }),
        });
      } finally {
        if (writes.newestVersion > 0) unseen.set(key, writes.newestVersion);
      }
    },
    failed: (key, err, failures) => {
      if (isCode(err, "Fenced")) ended.reject(err);
      else if (!signal.aborted) logger.warn("a pass failed and will be repeated", { key, failures, err });
    },
  });
  signal.addEventListener("abort", () => ended.resolve(), { once: true });
  try {
    using subscriptions = new DisposableStack();
    for (const subscription of controller.watch(queue)) subscriptions.use(subscription);
    await ended.promise;
  } finally {
    // Leadership is given up when this function settles: nothing may write after that.
    await queue.close();
  }
};
