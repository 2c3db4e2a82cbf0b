// Processes by identity: a pid alone may have been reused, a pid with its start time can't be.
import { readFileSync } from "node:fs";
import { constants } from "node:os";
import * as libc from "./libc.ts";
import { isErrno } from "./libc.ts";

/** Start time (field 22) and state (field 3) out of /proc/PID/stat. The name, in brackets, may hold spaces and brackets itself. */
export const parseStat = (text: string): { readonly state: string; readonly startTicks: number } => {
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return { state: fields[0] ?? "", startTicks: Number(fields[19]) };
};

/** Clock ticks after boot; undefined when there is no such process. A zombie counts as one. */
export const processStartTime = (pid: number): number | undefined => readStat(pid)?.startTicks;

/** Is `pid` still the process that started at `startTicks`, and not a zombie? */
export const isAlive = (pid: number, startTicks: number): boolean => {
  const stat = readStat(pid);
  return stat !== undefined && stat.startTicks === startTicks && stat.state !== "Z" && stat.state !== "X";
};

/** Stopped by a signal (SIGSTOP), and not by a tracer. */
export const isStopped = (pid: number, startTicks: number): boolean => {
  const stat = readStat(pid);
  return stat !== undefined && stat.startTicks === startTicks && stat.state === "T";
};

const readStat = (pid: number): ReturnType<typeof parseStat> | undefined => {
  try {
    return parseStat(readFileSync(`/proc/${pid}/stat`, "latin1"));
  } catch (error) {
    if (isErrno(error, "ENOENT", "ESRCH")) return undefined;
    throw error;
  }
};

/** A descriptor that means this process for ever; the caller closes it (libc.close). "NotFound" when there is none. Linux 5.3. */
export const openProcess = (pid: number): number => libc.pidfdOpen(pid, 0);

/** pidfd_send_signal(2). false: it has ended. */
export const signalProcessFd = (pidfd: number, signal: number): boolean => {
  try {
    libc.pidfdSendSignal(pidfd, signal, null, 0);
    return true;
  } catch (error) {
    if (isErrno(error, "ESRCH")) return false;
    throw error;
  }
};

/** Signals `pid` only if it is the process that started at `startTicks`. false: that one has ended. */
export const signalProcess = (pid: number, startTicks: number, signal: NodeJS.Signals | number): boolean => {
  let pidfd: number;
  try {
    pidfd = openProcess(pid);
  } catch (error) {
    if (isErrno(error, "ESRCH")) return false;
    throw error;
  }
  try {
    // Checked after opening: the descriptor can't come to mean another process any more.
    return processStartTime(pid) === startTicks && signalProcessFd(pidfd, typeof signal === "number" ? signal : constants.signals[signal]);
  } finally {
    libc.close(pidfd);
  }
};
