// A process that only waits to be told to execute its program, stopped when the program is loaded and before its first instruction. execve(2) and the
// loading are most of what a start costs; done ahead, what is left is one signal. ptrace(2) alone stops a process there.
// Nothing here depends on who watches for longer than the loading takes: a held process is stopped like any other (SIGSTOP), also when the agent is gone.
import { constants } from "node:os";
import type { Clock } from "../../base/clock.ts";
import * as libc from "./libc.ts";
import { isErrno } from "./libc.ts";

const PTRACE_CONT = 7;
const PTRACE_DETACH = 17;
const PTRACE_SEIZE = 0x4206;
const PTRACE_O_TRACEEXEC = 0x10;
/** Should this thread die before the process is stopped, it dies too, instead of running ahead of its time. */
const PTRACE_O_EXITKILL = 0x100000;
const PTRACE_EVENT_EXEC = 4;
const WNOHANG = 1;
/** Also of threads that were not started with SIGCHLD, as is the first one of a container. */
const WALL = 0x40000000;

const { SIGKILL, SIGSTOP } = constants.signals;

/** By pid: what is to be done when it changes its state. */
const watched = new Map<number, (status: number) => void>();

/** The kernel tells a tracer as it tells a parent; several changes may come as one signal. */
const onChange = (): void => {
  for (const [pid, tell] of watched) {
    const status = changeOf(pid);
    if (status !== undefined) tell(status);
  }
};

/** undefined: none. 0 also when there is no such process to wait for. */
const changeOf = (pid: number): number | undefined => {
  const status = new Int32Array(1);
  try {
    return libc.waitpid(pid, new Uint8Array(status.buffer), WNOHANG | WALL) === pid ? status[0] : undefined;
  } catch (error) {
    if (isErrno(error, "ECHILD")) return 0;
    throw error;
  }
};

const watch = (pid: number, tell: (status: number) => void): void => {
  if (watched.size === 0) process.on("SIGCHLD", onChange);
  watched.set(pid, tell);
};

const unwatch = (pid: number): void => {
  watched.delete(pid);
  if (watched.size === 0) process.off("SIGCHLD", onChange);
};

const isStop = (status: number): boolean => (status & 0xff) === 0x7f;

/**
 * Follows `pid`, which `release` has execute its program, and stops it with that. Of the main thread only.
 * - "held": it is stopped; SIGCONT lets it run.
 * - "ended": it came to no program, or took longer than `timeoutMs` and was killed. It has run nothing.
 * - "refused": tracing is not allowed here (Yama, a filter on the agent). Nothing was released.
 */
export const execHeld = async (pid: number, release: () => void | Promise<void>, { clock, timeoutMs }: { readonly clock: Clock; readonly timeoutMs: number }): Promise<"held" | "ended" | "refused"> => {
  const { promise, resolve } = Promise.withResolvers<"held" | "ended">();
  const end = (outcome: "held" | "ended"): void => {
    unwatch(pid);
    resolve(outcome);
  };
  watch(pid, (status) => {
    if (!isStop(status)) return end("ended");
    const event = status >> 16;
    const isExec = event === PTRACE_EVENT_EXEC;
    // The pid can't be another's: it is ours to wait for. SIGSTOP is queued, and met on the way out of the kernel.
    if (isExec) process.kill(pid, SIGSTOP);
    // Signals go on to the process; of other stops there is nothing to hand on.
    const signal = event === 0 ? (status >> 8) & 0xff : 0;
    try {
      libc.ptrace(isExec ? PTRACE_DETACH : PTRACE_CONT, pid, 0, signal);
    } catch (error) {
      if (isErrno(error, "ESRCH")) return; // killed in this moment: its end is told next
      throw error;
    }
    if (isExec) end("held");
  });
  try {
    libc.ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL);
  } catch (error) {
    unwatch(pid);
    if (isErrno(error, "EPERM", "ENOSYS")) return "refused";
    if (isErrno(error, "ESRCH")) return "ended";
    throw error;
  }
  // Still watched afterwards, until the kernel says that it is dead.
  const giveUp = (): void => void (watched.has(pid) && process.kill(pid, SIGKILL));
  using _deadline = clock.setTimer(timeoutMs, giveUp);
  try {
    await release();
  } catch (error) {
    giveUp();
    throw error;
  }
  return await promise;
};
