// The place of this thread, and of this process, in the kernel's queue for processors.
import { readdirSync } from "node:fs";
import { stat } from "node:fs/promises";
import * as libc from "./libc.ts";

const SCHED_OTHER = 0;
const SCHED_FIFO = 1;
const SCHED_RESET_ON_FORK = 0x40000000;
/** As every process, at whatever nice value; and what the thread starts is at 0 again: sched(7). */
const ORDINARY = SCHED_OTHER | SCHED_RESET_ON_FORK;
const PRIO_PROCESS = 0;
/** Nine times the weight of an ordinary process. */
const NICE = -10;
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
    libc.schedSetscheduler(0, ORDINARY, parameters(0));
  }
};

/**
 * From now on this process has its turn before the processes that it starts, and before others: whoever waits for it to answer doesn't wait for
 * a hundred container runtimes. The threads that the calling one has work for it, too (Node's pool, V8's for collecting garbage): a turn would wait for
 * them. Those that start later are ordinary. False without the right to it (CAP_SYS_NICE).
 */
export const goFirst = async (): Promise<boolean> => {
  await stat("/"); // starts the pool's threads, if nothing has
  try {
    libc.schedSetscheduler(0, ORDINARY, parameters(0));
    for (const thread of readdirSync("/proc/self/task")) libc.setpriority(PRIO_PROCESS, Number(thread), NICE);
    return true;
  } catch {
    return false;
  }
};
