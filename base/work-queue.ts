// A queue of keys to reconcile. It owns the order of work and the retries; what a key means is its user's business. Three promises:
// a key never runs twice at once, a key added while it runs runs again afterwards, and a failed key comes back after its back-off.
import { backoffDelayMs } from "./backoff.ts";
import type { BackoffPolicy } from "./backoff.ts";
import type { Clock } from "./clock.ts";
import type { Metrics } from "./metrics.ts";

export interface WorkQueueMetrics {
  depth(queue: string, keys: number): void;
  /** Seconds from when a key was due until a worker took it. */
  waited(queue: string, seconds: number): void;
  worked(queue: string, seconds: number): void;
  retried(queue: string): void;
}

export interface WorkQueueOptions {
  readonly name: string;
  readonly clock: Clock;
  readonly random: () => number;
  /** Keys that may run at the same time. */
  readonly concurrency: number;
  /** One pass over a key. A rejection is reported to `failed` and retried after the key's back-off. */
  readonly sync: (key: string) => Promise<void>;
  readonly failed: (key: string, error: unknown, failures: number) => void;
  readonly backoff?: BackoffPolicy;
  readonly metrics?: WorkQueueMetrics | undefined;
}

const DEFAULT_BACKOFF: BackoffPolicy = { initialMs: 20, maxMs: 30_000, factor: 2, jitter: 0.2 };

export class WorkQueue implements Disposable {
  readonly #options: WorkQueueOptions;
  /** Due keys in the order they came (a Map keeps it), with the monotonic time they came at: the "dirty" set and the queue in one. */
  readonly #due = new Map<string, number>();
  readonly #running = new Set<string>();
  /** Added while they ran. */
  readonly #again = new Set<string>();
  readonly #failures = new Map<string, number>();
  readonly #timers = new Map<string, { readonly dueMs: number; readonly timer: Disposable }>();
  #turn: Disposable | undefined;
  #closed = false;
  readonly #ended = Promise.withResolvers<void>();

  constructor(options: WorkQueueOptions) {
    this.#options = options;
  }

  /** Keys that wait for a worker; those that run or wait for a timer don't count. */
  get depth(): number {
    return this.#due.size;
  }

  get idle(): boolean {
    return this.#due.size === 0 && this.#running.size === 0;
  }

  add(key: string): void {
    if (this.#closed) return;
    if (this.#running.has(key)) this.#again.add(key);
    else if (!this.#due.has(key)) {
      this.#due.set(key, this.#options.clock.monotonicMs());
      this.#options.metrics?.depth(this.#options.name, this.#due.size);
      // Not at once: what one burst of events adds to a key costs one pass.
      this.#turn ??= this.#options.clock.setTimer(0, () => this.#dispatch());
    }
  }

  /** Adds the key after a delay. Of several delays the one that ends first counts, so that a stream of events can't push it away. */
  addAfter(key: string, delayMs: number): void {
    if (this.#closed) return;
    if (delayMs <= 0) {
      this.add(key);
      return;
    }
    const dueMs = this.#options.clock.monotonicMs() + delayMs;
    const waiting = this.#timers.get(key);
    if (waiting) {
      if (waiting.dueMs <= dueMs) return;
      waiting.timer[Symbol.dispose]();
    }
    const timer = this.#options.clock.setTimer(delayMs, () => {
      this.#timers.delete(key);
      this.add(key);
    });
    this.#timers.set(key, { dueMs, timer });
  }

  /** Nothing starts any more; what runs ends by itself. */
  [Symbol.dispose](): void {
    this.#closed = true;
    this.#turn?.[Symbol.dispose]();
    for (const { timer } of this.#timers.values()) timer[Symbol.dispose]();
    this.#timers.clear();
    this.#due.clear();
    this.#again.clear();
    this.#options.metrics?.depth(this.#options.name, 0);
    if (this.#running.size === 0) this.#ended.resolve();
  }

  /** As dispose; resolves when what runs has ended. */
  async close(): Promise<void> {
    this[Symbol.dispose]();
    await this.#ended.promise;
  }

  #dispatch(): void {
    this.#turn = undefined;
    for (const [key, sinceMs] of this.#due) {
      if (this.#closed || this.#running.size >= this.#options.concurrency) break;
      this.#due.delete(key);
      this.#running.add(key);
      void this.#run(key, sinceMs);
    }
    this.#options.metrics?.depth(this.#options.name, this.#due.size);
  }

  async #run(key: string, sinceMs: number): Promise<void> {
    const { name, clock, metrics, random, failed, backoff = DEFAULT_BACKOFF } = this.#options;
    const startMs = clock.monotonicMs();
    metrics?.waited(name, (startMs - sinceMs) / 1000);
    try {
      await this.#options.sync(key);
      this.#failures.delete(key);
    } catch (error) {
      const failures = (this.#failures.get(key) ?? 0) + 1;
      this.#failures.set(key, failures);
      metrics?.retried(name);
      failed(key, error, failures);
      // Also when it was added meanwhile: a key that fails must not be retried at the speed of its events.
      this.#again.delete(key);
      this.addAfter(key, backoffDelayMs(backoff, failures, random));
    }
    metrics?.worked(name, (clock.monotonicMs() - startMs) / 1000);
    this.#running.delete(key);
    if (this.#closed && this.#running.size === 0) this.#ended.resolve();
    if (this.#again.delete(key)) this.add(key);
    if (this.#due.size > 0 && !this.#closed) this.#dispatch();
  }
}

const registered = new WeakMap<Metrics, WorkQueueMetrics>();

/** The same for all queues of a process: a name can be registered only once, and leadership may come several times. */
export const workQueueMetrics = (metrics: Metrics): WorkQueueMetrics => {
  const known = registered.get(metrics);
  if (known) return known;
  const depth = metrics.gauge("gantry_work_queue_depth", "Keys that wait for a worker.", ["queue"]);
  const wait = metrics.histogram("gantry_work_queue_wait_seconds", "Time from when a key was due until a worker took it.", ["queue"]);
  const work = metrics.histogram("gantry_work_queue_sync_seconds", "Time that one pass over a key took.", ["queue"]);
  const retries = metrics.counter("gantry_work_queue_retries_total", "Passes that failed and were put back.", ["queue"]);
  const made: WorkQueueMetrics = {
    depth: (queue, keys) => depth.set({ queue }, keys),
    waited: (queue, seconds) => wait.observe({ queue }, seconds),
    worked: (queue, seconds) => work.observe({ queue }, seconds),
    retried: (queue) => retries.inc({ queue }),
  };
  registered.set(metrics, made);
  return made;
};
