// Daemons in the background: started detached with their output in a log file, known by pid and start time, ended by pid.
import { spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { GantryError } from "../../base/errors.ts";
import type { StartedProcess } from "./layout.ts";

/** Start time in clock ticks since boot, field 22 of /proc/PID/stat (proc(5)); undefined when there is no such process, or it is a zombie. */
export const startTimeOf = (pid: number): number | undefined => {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").replace(/^.*\) /s, "").split(" ");
    return fields[0] === "Z" ? undefined : Number(fields[19]);
  } catch {
    return undefined;
  }
};

export const isRunning = (p: StartedProcess): boolean => startTimeOf(p.pid) === p.startTime;

export const startDaemon = (name: string, command: string, args: readonly string[], options: { logFile: string; env: NodeJS.ProcessEnv; cwd: string }): StartedProcess => {
  const log = openSync(options.logFile, "a", 0o600);
  try {
    const child = spawn(command, args, { detached: true, stdio: ["ignore", log, log], env: options.env, cwd: options.cwd });
    child.on("error", () => undefined); // reported below: without a pid it did not start
    child.unref();
    const startTime = child.pid === undefined ? undefined : startTimeOf(child.pid);
    if (child.pid === undefined || startTime === undefined) throw new GantryError("InternalError", `${name} could not be started: ${command} (see ${options.logFile})`);
    return { name, pid: child.pid, startTime };
  } finally {
    closeSync(log);
  }
};

export const signal = (p: StartedProcess, name: NodeJS.Signals): void => {
  if (isRunning(p)) process.kill(p.pid, name);
};

/** SIGTERM, then SIGKILL to what still runs after `graceMs`. */
export const stop = async (processes: readonly StartedProcess[], graceMs: number): Promise<void> => {
  for (const p of processes) signal(p, "SIGTERM");
  const deadline = performance.now() + graceMs;
  while (processes.some(isRunning) && performance.now() < deadline) await delay(10);
  for (const p of processes) signal(p, "SIGKILL");
  while (processes.some(isRunning)) await delay(5);
};

/** Last lines of a log, for an error message. */
export const tail = (file: string, lines: number): string => {
  try {
    return readFileSync(file, "utf8").trimEnd().split("\n").slice(-lines).join("\n");
  } catch {
    return "";
  }
};
