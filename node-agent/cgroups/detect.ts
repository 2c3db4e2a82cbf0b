// Which control groups this host has: version 1, version 2, both (hybrid) or none. Pure; read by readCgroupLayout.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { isErrno } from "../linux/libc.ts";
import { readMounts } from "../linux/mount.ts";
import type { MountEntry } from "../linux/mount.ts";

export type CgroupVersion = "v1" | "hybrid" | "v2" | "none";

/** The controllers that Gantry sets limits with or reads from. Version 2 has `cpu` for cpuacct too, `io` for blkio, and freezes without one. */
export const CONTROLLERS = ["cpu", "cpuacct", "cpuset", "memory", "pids", "blkio", "io", "hugetlb", "freezer", "devices"] as const;
export type Controller = (typeof CONTROLLERS)[number];

export interface CgroupLayout {
  readonly version: CgroupVersion;
  /** v1 and hybrid: where each controller's hierarchy is mounted. */
  readonly hierarchies: ReadonlyMap<string, string>;
  /** v2 and hybrid: where the unified tree is mounted. */
  readonly unified: string | undefined;
  /** Controllers of the unified tree. With "hybrid": those that no version 1 hierarchy has. */
  readonly unifiedControllers: readonly string[];
  /** Controllers of version 1 hierarchies that are mounted nowhere: what becomes of one that is unmounted while groups of it are still going. */
  readonly unmounted: readonly Controller[];
  /** What users should know, such as a limit that can't be enforced and what would help. */
  readonly notes: readonly string[];
}

export interface DetectionInput {
  readonly mounts: readonly MountEntry[];
  /** /proc/cgroups. */
  readonly controllers: string;
  /** cgroup.controllers at the root of the unified tree; "" when there is none. */
  readonly unifiedControllers: string;
}

interface ControllerEntry {
  readonly name: string;
  /** Of version 1; "0": it is on version 2, or nowhere. */
  readonly hierarchy: string;
}

/** The controllers that are compiled in and not disabled, from /proc/cgroups. */
export const enabledControllers = (text: string): readonly ControllerEntry[] =>
  text.split("\n").filter((line) => line !== "" && !line.startsWith("#")).map((line) => line.split("\t")).filter((fields) => fields[3]?.trim() === "1").map(([name, hierarchy]) => ({ name: name!, hierarchy: hierarchy! }));

const LIMITS: Readonly<Record<string, string>> = {
  cpu: "CPU requests and limits", memory: "memory limits", pids: "limits on the number of processes",
};

/** Mount points are decided by what is mounted, not by customary paths. Of several mounts of one hierarchy the first counts. */
export const detectCgroups = ({ mounts, controllers, unifiedControllers }: DetectionInput): CgroupLayout => {
  const hierarchies = new Map<string, string>();
  for (const mount of mounts) {
    if (mount.type !== "cgroup") continue;
    for (const option of mount.superOptions) {
      if (((CONTROLLERS as readonly string[]).includes(option) || option.startsWith("name=")) && !hierarchies.has(option)) hierarchies.set(option, mount.target);
    }
  }
  const unified = mounts.find((mount) => mount.type === "cgroup2")?.target;
  const onUnified = unifiedControllers.split(/\s+/).filter((name) => name !== "");
  const hasV1 = [...hierarchies.keys()].some((name) => !name.startsWith("name="));
  const version: CgroupVersion = hasV1 ? (unified === undefined ? "v1" : "hybrid") : unified === undefined ? "none" : "v2";
  const enabled = enabledControllers(controllers);
  const unmounted = CONTROLLERS.filter((name) => !hierarchies.has(name) && enabled.some((c) => c.name === name && c.hierarchy !== "0"));
  return { version, hierarchies, unified, unifiedControllers: onUnified, unmounted, notes: notesOn(version, hierarchies, onUnified, enabled.map(({ name }) => name)) };
};

const notesOn = (version: CgroupVersion, hierarchies: ReadonlyMap<string, string>, onUnified: readonly string[], compiledIn: readonly string[]): readonly string[] => {
  if (version === "none") return ["no control groups are mounted: limits are not enforced and containers can't be started; mount cgroup2 on /sys/fs/cgroup"];
  const notes = Object.entries(LIMITS).flatMap(([controller, what]) => {
    if (version === "v2" ? onUnified.includes(controller) : hierarchies.has(controller)) return [];
    if (version === "hybrid" && onUnified.includes(controller)) return [`the ${controller} controller is left on the version 2 tree of this hybrid host: ${what} are not enforced`];
    const remedy = compiledIn.includes(controller) ? "mount it" : controller === "memory" ? "boot with cgroup_enable=memory" : "the kernel was built or booted without it";
    return [`the ${controller} controller is not available: ${what} are not enforced (${remedy})`];
  });
  if (version === "hybrid" && onUnified.length > 0) notes.push(`hybrid control groups with ${onUnified.join(", ")} left on the version 2 tree: crun wants them on version 1`);
  return notes;
};

const readText = (path: string): string => {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if (isErrno(error, "ENOENT")) return "";
    throw error;
  }
};

/** Of this host, as this process sees it now. */
export const readCgroupLayout = (): CgroupLayout => {
  const mounts = readMounts().filter((mount) => existsSync(mount.target));
  const unified = mounts.find((mount) => mount.type === "cgroup2")?.target;
  return detectCgroups({ mounts, controllers: readText("/proc/cgroups"), unifiedControllers: unified === undefined ? "" : readText(join(unified, "cgroup.controllers")) });
};
