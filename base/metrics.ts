// prom-client registries. Each daemon makes one Metrics and hands it down; nothing registers globally, so that tests can run
// many components in one process. Names follow https://prometheus.io/docs/practices/naming/ with the prefix gantry_.
import { readFileSync, readdirSync } from "node:fs";
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { Clock } from "./clock.ts";

/** Seconds; from 1 ms to 60 s. */
export const LATENCY_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

/** Rarer would miss stalls; at 10 a second an idle process spends 0.1 % of a core on it. */
const LAG_SAMPLE_MS = 100;
const LAG_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5];

/** The soft limit of proc(5); 0 where it can't be read. */
const openFilesLimit = (): number => Number(/^Max open files\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"))?.[1] ?? 0);

export class Metrics {
  readonly registry = new Registry();

  counter<L extends string = never>(name: string, help: string, labelNames: readonly L[] = [], collect?: (counter: Counter<L>) => void): Counter<L> {
    return new Counter({
      name, help, labelNames: [...labelNames], registers: [this.registry],
      ...(collect ? { collect(this: Counter<L>): void { collect(this); } } : {}),
    });
  }

  gauge<L extends string = never>(name: string, help: string, labelNames: readonly L[] = [], collect?: (gauge: Gauge<L>) => void): Gauge<L> {
    return new Gauge({
      name, help, labelNames: [...labelNames], registers: [this.registry],
      ...(collect ? { collect(this: Gauge<L>): void { collect(this); } } : {}),
    });
  }

  histogram<L extends string = never>(name: string, help: string, labelNames: readonly L[] = [], buckets: readonly number[] = LATENCY_BUCKETS): Histogram<L> {
    return new Histogram({ name, help, labelNames: [...labelNames], buckets: [...buckets], registers: [this.registry] });
  }

  /**
   * Process metrics under the names that every Prometheus client uses, and the event loop's lag. Not prom-client's own: they wake the process 100
   * times a second, which was a third of an idle daemon's CPU, and break the naming rules.
   */
  collectProcess(clock: Clock): void {
    this.counter("process_cpu_seconds_total", "CPU time of this process, user and system.", [], (counter) => {
      const { user, system } = process.cpuUsage();
      counter.reset();
      counter.inc((user + system) / 1e6);
    });
    this.gauge("process_resident_memory_bytes", "Resident memory.", [], (gauge) => gauge.set(process.memoryUsage.rss()));
    this.gauge("process_open_fds", "Open file descriptors.", [], (gauge) => gauge.set(readdirSync("/proc/self/fd").length - 1));
    this.gauge("process_max_fds", "Most file descriptors that this process may open.").set(openFilesLimit());
    this.gauge("process_start_time_seconds", "When this process started, in Unix time.").set(Math.round(performance.timeOrigin) / 1000);
    this.gauge("nodejs_heap_bytes", "The JavaScript heap: in use, reserved, and memory outside that it refers to.", ["kind"], (gauge) => {
      const { heapUsed, heapTotal, external } = process.memoryUsage();
      gauge.set({ kind: "used" }, heapUsed);
      gauge.set({ kind: "total" }, heapTotal);
      gauge.set({ kind: "external" }, external);
    });
    this.gauge("nodejs_version_info", "1, with the version of Node.js.", ["version"]).set({ version: process.version }, 1);
    this.#watchLoop(clock);
  }

  /** Samples how late a timer fires: what all work of this process waits for. */
  #watchLoop(clock: Clock): void {
    const lag = this.histogram("gantry_event_loop_lag_seconds", `How late timers fire, sampled every ${LAG_SAMPLE_MS} ms.`, [], LAG_BUCKETS);
    const sample = (): void => {
      const dueMs = clock.monotonicMs() + LAG_SAMPLE_MS;
      clock.setTimer(LAG_SAMPLE_MS, () => {
        lag.observe(Math.max(0, clock.monotonicMs() - dueMs) / 1000);
        sample();
      });
    };
    sample();
  }

  text(): Promise<string> {
    return this.registry.metrics();
  }
}
