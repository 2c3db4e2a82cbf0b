// What this machine and process are like, as far as a container's config.json depends on it.
import { readFileSync, readdirSync, statSync, type Stats } from "node:fs";
import { join, relative, isAbsolute } from "node:path";
import { GantryError, describeError } from "../../base/errors.ts";
import type { Host, OciDevice } from "./bundle.ts";
import { readBoundingSet } from "./capabilities.ts";
import type { ContainerCgroups } from "./container-cgroups.ts";
import { findCommand } from "./oci-runtime.ts";
import type { OciSeccomp } from "./seccomp-default.ts";

/** Node's names of architectures -> those of OCI image platforms. */
const ARCHITECTURES: Readonly<Record<string, string>> = { x64: "amd64", arm64: "arm64" };

/** dev_t of stat(2) (gnu_dev_major, gnu_dev_minor); below 2^32 for every device there is. */
const major = (rdev: number): number => (rdev >>> 8) & 0xfff;
const minor = (rdev: number): number => (rdev & 0xff) | ((rdev >>> 12) & 0xfff00);

const deviceOf = (path: string, stat: Stats): OciDevice =>
  ({ path, type: stat.isBlockDevice() ? "b" : "c", major: major(stat.rdev), minor: minor(stat.rdev), fileMode: stat.mode & 0o777, uid: stat.uid, gid: stat.gid });

/** Everything under /dev but what a container has of its own (pts, shm, mqueue) and the console. */
const listDevices = (directory = "/dev"): OciDevice[] =>
  readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) return ["pts", "shm", "fd", "mqueue", ".lxc", ".udev"].includes(entry.name) ? [] : listDevices(path);
    return (entry.isCharacterDevice() || entry.isBlockDevice()) && path !== "/dev/console" ? [deviceOf(path, statSync(path))] : [];
  });

/** As docker's --device: a link leads to its device, a folder is all that is in it. */
const devicesAt = (path: string): OciDevice[] => {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat?.isDirectory()) return listDevices(path);
  return stat && (stat.isCharacterDevice() || stat.isBlockDevice()) ? [deviceOf(path, stat)] : [];
};

/** docker's own, Debian's tini (whose `tini` is not static, and would lack its libraries in the container), podman's. */
const INIT_PROGRAMS = ["docker-init", "tini-static", "catatonit", "/usr/libexec/podman/catatonit", "/usr/libexec/docker/docker-init"];

/** `name` is relative to `directory`, as in securityContext.seccompProfile.localhostProfile. */
const readSeccompProfile = (directory: string, name: string): OciSeccomp => {
  const path = join(directory, name);
  if (isAbsolute(name) || relative(directory, path).startsWith("..")) throw new GantryError("Invalid", `seccompProfile.localhostProfile: ${JSON.stringify(name)} must be a path below ${directory}`);
  try {
    return JSON.parse(readFileSync(path, "utf8")) as OciSeccomp;
  } catch (error) {
    throw new GantryError("Invalid", `seccompProfile.localhostProfile: cannot read ${path}: ${describeError(error)}`, { cause: error });
  }
};

/** apparmor(7): each line is "NAME (MODE)". Read anew each time: profiles may be loaded while the agent runs. */
const readAppArmorProfiles = (): ReadonlySet<string> | undefined => {
  try {
    if (readFileSync("/sys/module/apparmor/parameters/enabled", "utf8").trim() !== "Y") return undefined;
    return new Set(readFileSync("/sys/kernel/security/apparmor/profiles", "utf8").split("\n").map((line) => line.replace(/ \([^)]*\)$/, "")));
  } catch {
    return undefined;
  }
};

export const readHost = (cgroups: Pick<ContainerCgroups, "describe" | "features">, seccompDir: string): Host => {
  const boundingSet = readBoundingSet();
  return {
    architecture: ARCHITECTURES[process.arch] ?? process.arch,
    cgroupV2: cgroups.describe().version === "v2",
    cgroupFeatures: cgroups.features(),
    boundingSet,
    leastOomScoreAdj: boundingSet.has("CAP_SYS_RESOURCE") ? -1000 : Number(readFileSync("/proc/self/oom_score_adj", "utf8")),
    devices: listDevices, devicesAt,
    initProgram: () => INIT_PROGRAMS.map((name) => findCommand(name)).find((path) => path !== undefined),
    appArmorProfiles: readAppArmorProfiles,
    readSeccompProfile: (name) => readSeccompProfile(seccompDir, name),
  };
};
