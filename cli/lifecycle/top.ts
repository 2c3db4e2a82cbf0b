// `top`: a container's processes in ps's columns.
import { GantryError } from "../../base/errors.ts";
import type { Pod } from "../../base/kube/types.gen.ts";
import type { ProcessRow } from "../../node-agent/pods/process-list.ts";
import type { ApiClient } from "../api-client.ts";
import { commandPath } from "./changes.ts";

const two = (n: number): string => String(Math.floor(n)).padStart(2, "0");
const userOf = (uid: number): string => (uid === 0 ? "root" : String(uid));
const duration = (ms: number): string => `${two(ms / 3_600_000)}:${two((ms / 60_000) % 60)}:${two((ms / 1000) % 60)}`;
/** HH:MM today, else MonDD. */
const startOf = (atMs: number, nowMs: number): string => {
  const [at, now] = [new Date(atMs), new Date(nowMs)];
  return at.toDateString() === now.toDateString() ? `${two(at.getHours())}:${two(at.getMinutes())}` : `${at.toDateString().slice(4, 7)}${two(at.getDate())}`;
};

type Columns = readonly (readonly [title: string, cell: (p: ProcessRow, nowMs: number) => string])[];

const BY_NAME: Readonly<Record<string, Columns[number]>> = {
  user: ["USER", (p) => userOf(p.uid)], uid: ["UID", (p) => String(p.uid)], pid: ["PID", (p) => String(p.pid)], ppid: ["PPID", (p) => String(p.ppid)], c: ["C", (p) => String(Math.floor(p.cpuPercent))],
  pcpu: ["%CPU", (p) => p.cpuPercent.toFixed(1)], "%cpu": ["%CPU", (p) => p.cpuPercent.toFixed(1)], rss: ["RSS", (p) => String(Math.round(p.residentBytes / 1024))],
  stime: ["STIME", (p, nowMs) => startOf(p.startedAtMs, nowMs)], start: ["START", (p, nowMs) => startOf(p.startedAtMs, nowMs)], tty: ["TTY", (p) => p.tty], time: ["TIME", (p) => duration(p.cpuMs)],
  etime: ["ELAPSED", (p, nowMs) => duration(nowMs - p.startedAtMs)], cmd: ["CMD", (p) => p.command], args: ["COMMAND", (p) => p.command], command: ["COMMAND", (p) => p.command], comm: ["COMMAND", (p) => p.command.split(" ")[0]!.split("/").at(-1)!],
};
const FULL: Columns = [["UID", (p) => userOf(p.uid)], ...["pid", "ppid", "c", "stime", "tty", "time", "cmd"].map((c) => BY_NAME[c]!)];
const named = (names: readonly string[]): Columns => names.map((c) => BY_NAME[c]!);

/** "BadRequest" for what ps would do with its options and this does not. */
export const columnsOf = (options: readonly string[]): Columns => {
  const words = [...options];
  const chosen: string[] = [];
  let base: Columns | undefined;
  for (let word = words.shift(); word !== undefined; word = words.shift()) {
    const format = /^(?:-?o|--format)=?(.*)$/.exec(word);
    if (format) {
      const names = (format[1] || words.shift() || "").split(",").filter((n) => n !== "");
      const unknown = names.find((n) => !(n in BY_NAME));
      if (names.length === 0 || unknown !== undefined) throw new GantryError("BadRequest", `top: no column ${JSON.stringify(unknown ?? "")}; there are: ${Object.keys(BY_NAME).join(", ")}`);
      chosen.push(...names);
    } else if (/^-?[aA]?u?x?u?$/.test(word) && word.includes("u")) base = named(["user", "pid", "%cpu", "rss", "tty", "start", "time", "command"]);
    else if (!/^-?[aAdefwx]+$/.test(word)) throw new GantryError("BadRequest", `top: the option ${JSON.stringify(word)} is not known; give aux, -ef, or -o with columns: ${Object.keys(BY_NAME).join(", ")}`);
  }
  return chosen.length > 0 ? named(chosen) : (base ?? FULL);
};

export const renderTop = (rows: readonly ProcessRow[], columns: Columns, nowMs: number): string => {
  const cells = [columns.map(([title]) => title), ...rows.map((row) => columns.map(([, cell]) => cell(row, nowMs)))];
  const widths = columns.map((_, i) => Math.max(...cells.map((row) => row[i]!.length)));
  return cells.map((row) => row.map((cell, i) => (i === row.length - 1 ? cell : cell.padEnd(widths[i]! + 3))).join("")).join("\n");
};

export const printTop = async (client: ApiClient, pod: Pod, container: string, options: readonly string[]): Promise<string> => {
  const columns = columnsOf(options);
  const { processes } = await client.json<{ processes: ProcessRow[] }>("GET", `${commandPath(pod, "top")}?${new URLSearchParams({ container }).toString()}`);
  return renderTop(processes, columns, Date.now());
};
