// How late the machine itself lets a thread be: one that only waits, 10 ms at a time, and comes before every ordinary process (SCHED_FIFO). A kernel that
// isn't preempted in its own work, or a hypervisor, holds up whoever waits for its processor, an agent's event loop too.
import { Worker, isMainThread, parentPort, workerData } from "node:worker_threads";
import { once } from "node:events";
import { urgently } from "../../node-agent/linux/scheduling.ts";

/** Each look takes processor time from what is measured. */
const PERIOD_MS = 10;

export interface Lateness {
  readonly worstMs: number;
  /** How often it was late by more than the limit. */
  readonly late: number;
}

/** Watches from now on, until `end` is called. */
export const watchLateness = (limitMs: number): { readonly end: () => Promise<Lateness> } => {
  const stop = new Int32Array(new SharedArrayBuffer(4));
  const worker = new Worker(new URL(import.meta.url), { workerData: { stop, limitMs } });
  worker.unref();
  return {
    end: async () => {
      worker.ref();
      Atomics.store(stop, 0, 1);
      Atomics.notify(stop, 0);
      return ((await once(worker, "message")) as [Lateness])[0];
    },
  };
};

if (!isMainThread) {
  const { stop, limitMs } = workerData as { readonly stop: Int32Array; readonly limitMs: number };
  parentPort!.postMessage(urgently((): Lateness => {
    let [worstMs, late] = [0, 0];
    for (let beforeMs = performance.now(); Atomics.wait(stop, 0, 0, PERIOD_MS) === "timed-out";) {
      const nowMs = performance.now();
      const lateMs = nowMs - beforeMs - PERIOD_MS;
      worstMs = Math.max(worstMs, lateMs);
      if (lateMs > limitMs) late++;
      beforeMs = nowMs;
    }
    return { worstMs, late };
  }));
}
