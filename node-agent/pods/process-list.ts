// The processes of a container as `ps -ef` prints them, read from /proc on the node. Those that end meanwhile are left out.
import { readFileSync } from "node:fs";

export interface ProcessRow {
  /** As numbers: names are the container's own affair. */
  readonly uid: number;
  readonly pid: number;
  readonly ppid: number;
  /** Percent of one CPU over the process's life. */
  readonly cpuPercent: number;
  readonly startedAtMs: number;
  /** "pts/0"; "?": none. */
  readonly tty: string;
  readonly cpuMs: number;
  readonly residentBytes: number;
  readonly command: string;
}

/** USER_HZ: 100 on every architecture that Node runs on. */
const TICK_MS = 10;
const PAGE_BYTES = 4096;

/** tty_nr of /proc/PID/stat: minor in bits 0-7 and 20-31, major in 8-19. */
export const ttyName = (device: number): string => {
  const [major, minor] = [(device >> 8) & 0xfff, (device & 0xff) | ((device >>> 12) & 0xfff00)];
  if (major >= 136 && major <= 143) return `pts/${(major - 136) * 256 + minor}`;
  return major === 4 ? `tty${minor}` : "?";
};

/** From the texts of /proc/PID/{stat,status,cmdline}. Pure. */
export const parseProcess = (pid: number, texts: { readonly stat: string; readonly status: string; readonly commandLine: string }, bootMs: number, nowMs: number): ProcessRow => {
  const { stat, status, commandLine } = texts;
  const end = stat.lastIndexOf(")");
  const name = stat.slice(stat.indexOf("(") + 1, end);
  // Field 3 (state) is the first here.
  const fields = stat.slice(end + 2).split(" ");
  const field = (number: number): number => Number(fields[number - 3] ?? 0);
  const startedAtMs = bootMs + field(22) * TICK_MS;
  const cpuMs = (field(14) + field(15)) * TICK_MS;
  const command = commandLine.replace(/\0+$/, "").replaceAll("\0", " ");
  return {
    uid: Number(/^Uid:\s+\d+\s+(\d+)/m.exec(status)?.[1] ?? 0), pid, ppid: field(4), cpuPercent: nowMs > startedAtMs ? Math.round((cpuMs / (nowMs - startedAtMs)) * 1000) / 10 : 0,
    startedAtMs, tty: ttyName(field(7)), cpuMs, residentBytes: field(24) * PAGE_BYTES, command: command === "" ? `[${name}]` : command,
  };
};

export const listProcesses = (pids: readonly number[], nowMs: number): readonly ProcessRow[] => {
  const bootMs = Number(/^btime (\d+)/m.exec(readFileSync("/proc/stat", "utf8"))?.[1] ?? 0) * 1000;
  return [...pids].sort((a, b) => a - b).flatMap((pid) => {
    try {
      const [stat, status, commandLine] = ["stat", "status", "cmdline"].map((file) => readFileSync(`/proc/${pid}/${file}`, "utf8")) as [string, string, string];
      return [parseProcess(pid, { stat, status, commandLine }, bootMs, nowMs)];
    } catch {
      return [];
    }
  });
};
