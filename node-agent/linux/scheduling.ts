// The calling thread's place in the kernel's queue for processors.
import * as libc from "./libc.ts";

const SCHED_OTHER = 0;
const SCHED_FIFO = 1;
const parameters = (priority: number): Uint8Array => new Uint8Array(new Int32Array([priority]).buffer);

/**
 * Runs `work` ahead of every ordinary process: those that it wakes don't take its processor before it is done. For a few ms at most, and
 * synchronous: nothing else may run in that time. Without the right to it (CAP_SYS_NICE) it runs like any other.
 */
export const urgently = <T>(work: () => T): T => {
  try {
    libc.schedSetscheduler(0, SCHED_FIFO, parameters(1));
  } catch {
    return work();
  }
  try {
    return work();
  } finally {
    libc.schedSetscheduler(0, SCHED_OTHER, parameters(0));
  }
};
