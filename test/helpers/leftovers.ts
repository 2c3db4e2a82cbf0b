// What a cluster of `gantry up` left on the machine after `gantry down --purge`: nothing, or a list that says what. Reads only.
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, readdirSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import type { Layout } from "../../cli/cluster/layout.ts";

const CGROUPS = "/sys/fs/cgroup";

const readProc = (pid: number, file: string): string => {
  try {
    return readFileSync(`/proc/${pid}/${file}`, "utf8");
  } catch {
    return ""; // it ended
  }
};

export interface RunningProcess {
  readonly pid: number;
  readonly commandLine: string;
  /** Lines of /proc/PID/cgroup. */
  readonly cgroups: string;
}

/** Kernel threads and zombies have none. The command line doesn't tell them apart: it is empty for a moment in each execve(2), too. */
const hasProgram = (pid: number): boolean => {
  try {
    return readlinkSync(`/proc/${pid}/exe`) !== "";
  } catch {
    return false; // it ended
  }
};

/** Every process of the machine, without kernel threads and zombies. */
export const allProcesses = (): readonly RunningProcess[] =>
  readdirSync("/proc").filter((d) => /^\d+$/.test(d)).map(Number).filter(hasProgram)
    .map((pid) => ({ pid, commandLine: readProc(pid, "cmdline").replaceAll("\0", " ").trim(), cgroups: readProc(pid, "cgroup") }));

/** Does this process belong to the cluster: a daemon, conmon, or what runs in one of its containers? */
const belongsTo = (layout: Layout) => ({ pid, commandLine, cgroups }: RunningProcess): boolean =>
  pid !== process.pid && ([layout.root, layout.socketDir].some((path) => commandLine.includes(path)) || cgroups.includes(`/gantry-${layout.id}/`));

/** The folders in which control groups lie: the root, and the controllers' own of version 1 and hybrid hosts. */
const cgroupTrees = (): readonly string[] =>
  [CGROUPS, ...readdirSync(CGROUPS, { withFileTypes: true }).filter((d) => d.isDirectory()).map((d) => join(CGROUPS, d.name))];

const nftTables = (): readonly string[] => {
  const env = { ...process.env, PATH: `/usr/sbin:/sbin:${process.env["PATH"] ?? ""}` };
  return execFileSync("nft", ["list", "tables"], { encoding: "utf8", env }).split("\n").filter((line) => line !== "");
};

/** One line for each thing. `data` says whether the data must be gone too, as after --purge. */
export const leftovers = (layout: Layout, { data = true }: { readonly data?: boolean } = {}): readonly string[] => [
  ...allProcesses().filter(belongsTo(layout)).map((p) => `process ${p.pid}: ${p.commandLine}`),
  // A mount's target is the fifth field of mountinfo(5); pinned namespaces are mounts too.
  ...readFileSync("/proc/self/mountinfo", "utf8").split("\n").map((line) => line.split(" ")[4] ?? "")
    .filter((target) => [layout.root, layout.socketDir].some((path) => target === path || target.startsWith(`${path}/`))).map((target) => `mount ${target}`),
  ...readdirSync("/sys/class/net").filter((name) => name === layout.bridge || name.startsWith(`${layout.bridge}-`)).map((name) => `link ${name}`),
  ...nftTables().filter((line) => line.includes(layout.bridge)).map((line) => `nftables: ${line}`),
  ...cgroupTrees().map((tree) => join(tree, `gantry-${layout.id}`)).filter((path) => existsSync(path)).map((path) => `cgroup ${path}`),
  ...[layout.socketDir, layout.runDir, ...(data ? [layout.root] : [])].filter((path) => existsSync(path)).map((path) => `files ${path}`),
];
