// Writes v1 Events about objects. It never blocks, slows or fails its caller: events wait in memory, alike ones are counted instead of
// repeated, floods about one object are merged and then dropped, and what is left is written in small batches beside the real work.
// The rules are those of upstream's EventCorrelator (k8s.io/client-go/tools/record/events_cache.go) in simple form.
import type { Clock } from "../../base/clock.ts";
import { isCode } from "../../base/errors.ts";
import { newUid } from "../../base/ids.ts";
import { EVENTS, NAMESPACES } from "../../base/kube/resources.ts";
import type { KubeObject } from "../../base/kube/resources.ts";
import type { Event, ObjectReference } from "../../base/kube/types.gen.ts";
import type { Logger } from "../../base/logger.ts";
import type { Metrics } from "../../base/metrics.ts";
import type { WatchCache } from "./cache.ts";
import type { Store } from "./store.ts";
import type { Writer } from "./writers.ts";

export interface RecordedEvent {
  /** The object, or a reference to it. */
  readonly regarding: KubeObject | ObjectReference;
  /** Which part of it: "spec.containers{main}". */
  readonly fieldPath?: string | undefined;
  readonly type: "Normal" | "Warning";
  /** UpperCamelCase, for machines: "FailedScheduling". */
  readonly reason: string;
  /** For people. */
  readonly message: string;
  readonly writer: Writer;
  /** Who says so: "replicaset-controller", "default-scheduler", ... */
  readonly component: string;
  /** The node it happened on, where there is one. */
  readonly host?: string | undefined;
}

export interface EventRecorder extends Disposable {
  record(event: RecordedEvent): void;
  /** Writes what waits, without delay: before a process ends, and in tests. */
  flush(): Promise<void>;
}

export interface EventRecorderOptions {
  readonly store: Store;
  readonly cache: WatchCache;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics?: Metrics | undefined;
  /** From the first event of a burst to its write. Long enough to keep events out of the way of what they tell about. */
  readonly delayMs?: number;
}

const DEFAULT_DELAY_MS = 1000;
/** Events written at once, and the pause before the next such batch: at most 320 a second. */
const BATCH = 32;
const PAUSE_MS = 100;
/** What waits at most; beyond it new events are dropped, for a store that is down must not fill the memory. */
const MAX_PENDING = 4096;
const MAX_REMEMBERED = 4096;
/** Upstream's: more than 10 like events with different messages within 10 minutes become one. */
const SIMILAR_MAX = 10;
const SIMILAR_WINDOW_MS = 600_000;
/** Upstream's spam filter: 25 events about one object, then one every 5 minutes. */
const BURST = 25;
const REFILL_MS = 300_000;

interface Entry {
  event: RecordedEvent;
  readonly reference: ObjectReference;
  readonly firstMs: number;
  /** Of the Event object; undefined until it is written first. */
  name: string | undefined;
  lastMs: number;
  count: number;
}

const referenceTo = (regarding: KubeObject | ObjectReference): ObjectReference => {
  if (!("metadata" in regarding)) return regarding;
  const { namespace, name, uid, resourceVersion } = regarding.metadata;
  return { apiVersion: regarding.apiVersion, kind: regarding.kind, ...(namespace && { namespace }), name, ...(uid && { uid }), ...(resourceVersion && { resourceVersion }) };
};

export const createEventRecorder = (options: EventRecorderOptions): EventRecorder => new Recorder(options);

class Recorder implements EventRecorder {
  readonly #options: EventRecorderOptions;
  readonly #logger: Logger;
  /** Least recently used first. */
  readonly #entries = new Map<string, Entry>();
  readonly #similar = new Map<string, { startMs: number; readonly messages: Set<string> }>();
  readonly #buckets = new Map<string, { tokens: number; atMs: number }>();
  readonly #pending = new Set<Entry>();
  readonly #dropped: () => void;
  #timer: Disposable | undefined;
  #writing: Promise<void> | undefined;
  #sequence = 0;
  #closed = false;

  constructor(options: EventRecorderOptions) {
    this.#options = options;
    this.#logger = options.logger.child({ component: "event-recorder" });
    const dropped = options.metrics?.counter("gantry_events_dropped_total", "Events that were not written: too many about one object, or too many at once.");
    this.#dropped = () => dropped?.inc();
  }

  record(event: RecordedEvent): void {
    if (this.#closed) return;
    const nowMs = this.#options.clock.nowMs();
    const reference = { ...referenceTo(event.regarding), ...(event.fieldPath && { fieldPath: event.fieldPath }) };
    const about = [event.component, event.host, reference.kind, reference.namespace, reference.name, reference.uid, event.fieldPath, event.type, event.reason].join("\0");
    const merged = this.#isOneOfMany(about, event.message, nowMs);
    const message = merged ? `(combined from similar events): ${event.message}` : event.message;
    const key = merged ? about : `${about}\0${message}`;
    let entry = this.#entries.get(key);
    if ((!entry && this.#pending.size >= MAX_PENDING) || !this.#allowed(`${event.component}\0${reference.uid ?? reference.name ?? ""}`, entry, nowMs)) {
      this.#dropped();
      return;
    }
    entry ??= { event, reference, firstMs: nowMs, name: undefined, lastMs: nowMs, count: 0 };
    entry.event = { ...event, message };
    entry.lastMs = nowMs;
    entry.count++;
    this.#entries.delete(key);
    remember(this.#entries, key, entry);
    this.#pending.add(entry);
    this.#wake(this.#options.delayMs ?? DEFAULT_DELAY_MS);
  }

  async flush(): Promise<void> {
    await this.#writing;
    while (this.#pending.size > 0) await this.#writeBatch();
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    this.#timer?.[Symbol.dispose]();
    this.#pending.clear();
  }

  #isOneOfMany(about: string, message: string, nowMs: number): boolean {
    let similar = this.#similar.get(about);
    if (!similar || nowMs - similar.startMs > SIMILAR_WINDOW_MS) remember(this.#similar, about, (similar = { startMs: nowMs, messages: new Set() }));
    if (similar.messages.size < SIMILAR_MAX) similar.messages.add(message);
    return !similar.messages.has(message);
  }

  #allowed(source: string, entry: Entry | undefined, nowMs: number): boolean {
    // Counting up an event that still waits to be written costs nothing.
    if (entry && this.#pending.has(entry)) return true;
    let bucket = this.#buckets.get(source);
    if (!bucket) remember(this.#buckets, source, (bucket = { tokens: BURST, atMs: nowMs }));
    bucket.tokens = Math.min(BURST, bucket.tokens + Math.max(0, nowMs - bucket.atMs) / REFILL_MS);
    bucket.atMs = nowMs;
    if (bucket.tokens < 1) return false;
    bucket.tokens--;
    return true;
  }

  #wake(delayMs: number): void {
    if (this.#closed || this.#writing) return;
    this.#timer ??= this.#options.clock.setTimer(delayMs, () => {
      this.#timer = undefined;
      this.#writing = this.#writeBatch().finally(() => {
        this.#writing = undefined;
        if (this.#pending.size > 0) this.#wake(PAUSE_MS);
      });
    });
  }

  async #writeBatch(): Promise<void> {
    const batch = [...this.#pending].slice(0, BATCH);
    for (const entry of batch) this.#pending.delete(entry);
    await Promise.all(batch.map((entry) => this.#write(entry)));
  }

  async #write(entry: Entry): Promise<void> {
    const { store, cache } = this.#options;
    const { event, reference, count } = entry;
    const namespace = reference.namespace || "default";
    const options = { writer: event.writer };
    try {
      const home = cache.resource(NAMESPACES).get("", namespace)?.object;
      // An event in a namespace that is going would outlive it.
      if (!home || home.metadata.deletionTimestamp) return;
      if (entry.name !== undefined) {
        const { name } = entry;
        const times = { count, lastTimestamp: timestamp(entry.lastMs), message: event.message };
        try {
          await store.update({ type: EVENTS, namespace, name }, (current) => ({ ...current, ...times }), options);
          return;
        } catch (error) {
          if (!isCode(error, "NotFound")) throw error;
          // It expired: told anew.
        }
      }
      // Its time makes the name unique among one object's events, as upstream's does; the counter among those of one millisecond.
      const name = `${(reference.name ?? "").slice(0, 230)}.${(BigInt(entry.firstMs) * 1_000_000n + BigInt(this.#sequence++ % 1_000_000)).toString(16)}`;
      await store.create({ type: EVENTS, namespace, name }, toObject(entry, namespace, name), options);
      entry.name = name;
    } catch (error) {
      this.#logger.debug("an event could not be written", { reason: event.reason, object: `${namespace}/${reference.name ?? ""}`, err: error });
    }
  }
}

/** meta/v1.Time: whole seconds. */
const timestamp = (ms: number): string => `${new Date(ms).toISOString().slice(0, 19)}Z`;

const toObject = ({ event, reference, firstMs, lastMs, count }: Entry, namespace: string, name: string): Event => ({
  apiVersion: "v1",
  kind: "Event",
  metadata: { name, namespace, uid: newUid(), creationTimestamp: timestamp(lastMs) },
  involvedObject: reference,
  reason: event.reason,
  message: event.message.slice(0, 1024),
  source: { component: event.component, ...(event.host && { host: event.host }) },
  firstTimestamp: timestamp(firstMs),
  lastTimestamp: timestamp(lastMs),
  count,
  type: event.type,
  reportingComponent: event.component,
  ...(event.host && { reportingInstance: event.host }),
});

/** Adds to a map used as a bounded cache: the oldest entry makes room. */
const remember = <V>(map: Map<string, V>, key: string, value: V): void => {
  map.set(key, value);
  if (map.size > MAX_REMEMBERED) map.delete(map.keys().next().value!);
};
