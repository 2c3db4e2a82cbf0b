// The watch cache: one copy of the registry in memory, fed by one store watch. It alone writes the ResourceStateCaches. See cache.ts
// for the contract, docs/design/state.md for how it resumes.
import { backoffDelayMs, defaultBackoff } from "../../base/backoff.ts";
import type { Clock } from "../../base/clock.ts";
import { GantryError } from "../../base/errors.ts";
import { ALL_RESOURCES } from "../../base/kube/resources.ts";
import type { KubeObject, ResourceName, ResourceType } from "../../base/kube/resources.ts";
import type { Logger } from "../../base/logger.ts";
import type { Metrics } from "../../base/metrics.ts";
import type { ResourceCache, WatchCache } from "./cache.ts";
import { endOf, revisionOf } from "./encoding.ts";
import { ResourceStateCache } from "./resource-cache.ts";
import type { Store, Stored, StoreEvent } from "./store.ts";

export interface WatchCacheOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics?: Metrics | undefined;
  /** Events remembered per resource for watches that resume. */
  readonly ringSize?: number | undefined;
}

const DEFAULT_RING_SIZE = 1024;
const DEFAULT_WAIT_MS = 10_000;
/** How long a waiter gives an event on its way before it costs a write to ask for progress. */
const PATIENCE_MS = 100;

interface Waiter {
  readonly resourceVersion: number;
  readonly done: () => void;
}

export const createWatchCache = (options: WatchCacheOptions): WatchCache => new StateCache(options);

class StateCache implements WatchCache {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #resources = new Map<ResourceName, ResourceStateCache>();
  readonly #ringSize: number;
  readonly #waiters = new Set<Waiter>();
  readonly #progressHandlers = new Set<(resourceVersion: number) => void>();
  readonly #resyncHandlers = new Set<() => void>();
  readonly #closed = new AbortController();
  readonly #countEvents: (type: "put" | "delete", count: number) => void;
  readonly #countResync: () => void;
  #resourceVersion = 0;
  #lastHeardMs: number;
  #watch: Disposable | undefined;

  constructor({ store, clock, logger, metrics, ringSize }: WatchCacheOptions) {
    this.#store = store;
    this.#clock = clock;
    this.#logger = logger.child({ component: "watch-cache" });
    this.#ringSize = ringSize ?? DEFAULT_RING_SIZE;
    this.#lastHeardMs = clock.monotonicMs();
    for (const type of ALL_RESOURCES) this.#resources.set(type.name, this.#newResource(type));
    const events = metrics?.counter("gantry_watch_cache_events_total", "Events that the watch cache applied.", ["type"]);
    const resyncs = metrics?.counter("gantry_watch_cache_resyncs_total", "Times the watch cache listed again because the feed could not go on.");
    this.#countEvents = (type, count) => events?.inc({ type }, count);
    this.#countResync = () => resyncs?.inc();
    metrics?.gauge("gantry_watch_cache_objects", "Objects in the watch cache.", ["resource"], (gauge) => {
      for (const [resource, { size }] of this.#resources) gauge.set({ resource }, size);
    });
    metrics?.gauge("gantry_watch_cache_ring_events", "Recent events kept for watches that resume.", ["resource"], (gauge) => {
      for (const [resource, { ringLength }] of this.#resources) gauge.set({ resource }, ringLength);
    });
    metrics?.gauge("gantry_watch_cache_silence_seconds", "Time since the feed last brought an event or a sign of progress.", [], (gauge) =>
      gauge.set((this.#clock.monotonicMs() - this.#lastHeardMs) / 1000));
  }

  async start(): Promise<void> {
    await this.#load();
  }

  get resourceVersion(): number {
    return this.#resourceVersion;
  }

  resource<T extends KubeObject>(type: ResourceType<T>): ResourceCache<T> {
    return this.#resourceNamed(type.name, type) as unknown as ResourceCache<T>;
  }

  async waitFor(resourceVersion: number, timeoutMs = DEFAULT_WAIT_MS): Promise<void> {
    if (resourceVersion <= this.#resourceVersion) return;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const waiter: Waiter = { resourceVersion, done: resolve };
    this.#waiters.add(waiter);
    const nudge = this.#clock.setTimer(Math.min(PATIENCE_MS, timeoutMs), () => this.#store.requestProgress());
    const timer = this.#clock.setTimer(timeoutMs, () =>
      reject(new GantryError("Timeout", `the watch cache did not reach resourceVersion ${resourceVersion} within ${timeoutMs} ms; it stands at ${this.#resourceVersion}`)));
    const stop = (): void => reject(new GantryError("Cancelled", "the watch cache was closed"));
    this.#closed.signal.addEventListener("abort", stop, { once: true });
    try {
      await promise;
    } finally {
      this.#waiters.delete(waiter);
      this.#closed.signal.removeEventListener("abort", stop);
      nudge[Symbol.dispose]();
      timer[Symbol.dispose]();
    }
  }

  onProgress(handler: (resourceVersion: number) => void): Disposable {
    this.#progressHandlers.add(handler);
    return { [Symbol.dispose]: () => void this.#progressHandlers.delete(handler) };
  }

  onResync(handler: () => void): Disposable {
    this.#resyncHandlers.add(handler);
    return { [Symbol.dispose]: () => void this.#resyncHandlers.delete(handler) };
  }

  close(): void {
    this.#watch?.[Symbol.dispose]();
    this.#closed.abort();
  }

  #newResource(type: ResourceType): ResourceStateCache {
    return new ResourceStateCache(type, this.#ringSize, this.#logger);
  }

  #resourceNamed(name: ResourceName, type?: ResourceType): ResourceStateCache {
    let resource = this.#resources.get(name);
    if (!resource) {
      resource = this.#newResource(type ?? { name, group: "", version: "", apiVersion: "", kind: name, plural: name, namespaced: true });
      resource.restartRing(this.#resourceVersion);
      this.#resources.set(name, resource);
    }
    return resource;
  }

  /** Lists everything, tells the subscribers the difference to what was here, and watches on from there. */
  async #load(): Promise<void> {
    const { items, resourceVersion } = await this.#store.snapshot();
    if (this.#closed.signal.aborted) return;
    const present = new Map<ResourceName, Set<string>>();
    const changed: { readonly stored: Stored; readonly resource: ResourceStateCache; readonly namespace: string; readonly name: string }[] = [];
    for (const { resource: resourceName, namespace, name, stored } of items) {
      let names = present.get(resourceName);
      if (!names) present.set(resourceName, (names = new Set()));
      names.add(`${namespace}/${name}`);
      const resource = this.#resourceNamed(resourceName);
      if (resource.get(namespace, name)?.resourceVersion !== stored.resourceVersion) changed.push({ stored, resource, namespace, name });
    }
    for (const resource of this.#resources.values()) {
      resource.restartRing(resourceVersion);
      for (const { namespace, name } of resource.absentFrom(present.get(resource.type.name) ?? new Set())) resource.apply(namespace, name, undefined, resourceVersion, false);
    }
    changed.sort((a, b) => a.stored.resourceVersion - b.stored.resourceVersion);
    for (const { stored, resource, namespace, name } of changed) resource.apply(namespace, name, stored, stored.resourceVersion, false);
    this.#reached(resourceVersion);
    this.#watch = this.#store.watch(resourceVersion, {
      events: (batch) => this.#apply(batch),
      progress: (version) => {
        this.#reached(version);
        for (const handler of this.#progressHandlers) handler(this.#resourceVersion);
      },
      lost: (error) => void this.#recover(error),
    });
  }

  #apply(batch: readonly StoreEvent[]): void {
    let puts = 0;
    for (const event of batch) {
      if (event.stored) puts++;
      this.#resourceNamed(event.resource).apply(event.namespace, event.name, event.stored, event.resourceVersion, true);
    }
    if (puts > 0) this.#countEvents("put", puts);
    if (puts < batch.length) this.#countEvents("delete", batch.length - puts);
    // A batch holds whole revisions, so nothing more of the last one is to come.
    this.#reached(endOf(revisionOf(batch.at(-1)!.resourceVersion)));
  }

  #reached(resourceVersion: number): void {
    this.#lastHeardMs = this.#clock.monotonicMs();
    this.#resourceVersion = Math.max(this.#resourceVersion, resourceVersion);
    for (const waiter of this.#waiters) if (waiter.resourceVersion <= this.#resourceVersion) waiter.done();
  }

  async #recover(cause: Error): Promise<void> {
    this.#logger.warn("the store's feed ended; listing again", { err: cause });
    this.#countResync();
    for (let failures = 1; !this.#closed.signal.aborted; failures++) {
      try {
        await this.#load();
        for (const handler of this.#resyncHandlers) handler();
        return;
      } catch (error) {
        this.#logger.warn("listing after a gap failed; trying again", { err: error, failures });
        // No jitter: one process, one list.
        await this.#clock.sleep(backoffDelayMs({ ...defaultBackoff, jitter: 0 }, failures, () => 0), this.#closed.signal).catch(() => undefined);
      }
    }
  }
}
