// What kind of machine this is: capacity, kernel, distribution, identity. For the node's description; read at the start of a session.
import { existsSync, readFileSync, readdirSync, statfsSync } from "node:fs";
import { arch, availableParallelism, hostname, release } from "node:os";
import { join } from "node:path";
import { isErrno } from "./libc.ts";

export interface HostFacts {
  readonly hostname: string;
  readonly kernelVersion: string;
  /** "Debian GNU/Linux 12 (bookworm)". */
  readonly osImage: string;
  /** As in OCI image platforms: amd64, arm64. */
  readonly architecture: string;
  /** Both without dashes or with, as the host writes them; "" when it has none. */
  readonly machineId: string;
  readonly bootId: string;
  readonly milliCpu: number;
  readonly memoryBytes: number;
  /** Size of the file system that `diskPath` is on. */
  readonly diskBytes: number;
}

/** "MemTotal:  24684084 kB" and the like, in bytes. Pure. */
export const parseMemInfo = (text: string): ReadonlyMap<string, number> =>
  new Map(text.split("\n").flatMap((line) => {
    const match = /^(\S+):\s+(\d+)(?: (kB))?/.exec(line);
    return match ? [[match[1]!, Number(match[2]) * (match[3] ? 1024 : 1)] as const] : [];
  }));

const HUGE_PAGES = "/sys/kernel/mm/hugepages";

/** Bytes of a page -> bytes of all pages of this size, whether in use or not. Can change at any time. */
export const readHugePages = (root = HUGE_PAGES): ReadonlyMap<number, number> => {
  if (!existsSync(root)) return new Map(); // a kernel without them
  return new Map(readdirSync(root).flatMap((name) => {
    const kib = /^hugepages-(\d+)kB$/.exec(name)?.[1];
    if (kib === undefined) return [];
    const pageBytes = Number(kib) * 1024;
    return [[pageBytes, pageBytes * Number(readFirst(join(root, name, "nr_hugepages")))] as const];
  }).sort(([a], [b]) => a - b));
};

/** Values of os-release(5), quotes taken off. Pure. */
export const parseOsRelease = (text: string): ReadonlyMap<string, string> =>
  new Map(text.split("\n").flatMap((line) => {
    const match = /^([A-Z0-9_]+)=(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|(.*))$/.exec(line.trim());
    return match ? [[match[1]!, (match[2]?.replace(/\\(["$`\\])/g, "$1") ?? match[3] ?? match[4] ?? "").trim()] as const] : [];
  }));

/** Node's names to those of Go, which images use. */
const ARCHITECTURES: Readonly<Record<string, string>> = { x64: "amd64", arm64: "arm64", arm: "arm", ia32: "386", ppc64: "ppc64le", s390x: "s390x", riscv64: "riscv64", loong64: "loong64" };

export const imageArchitecture = (name: string = arch()): string => ARCHITECTURES[name] ?? name;

const readFirst = (...paths: readonly string[]): string => {
  for (const path of paths) {
    try {
      return readFileSync(path, "utf8").trim();
    } catch (error) {
      if (!isErrno(error, "ENOENT", "EACCES")) throw error;
    }
  }
  return "";
};

/** `diskPath` exists: where images and containers are kept. */
export const readHostFacts = (diskPath: string): HostFacts => {
  const os = parseOsRelease(readFirst("/etc/os-release", "/usr/lib/os-release"));
  const disk = statfsSync(diskPath);
  return {
    hostname: hostname(), kernelVersion: release(), architecture: imageArchitecture(),
    osImage: os.get("PRETTY_NAME") ?? os.get("NAME") ?? "Linux",
    machineId: readFirst("/etc/machine-id", "/var/lib/dbus/machine-id"), bootId: readFirst("/proc/sys/kernel/random/boot_id"),
    milliCpu: availableParallelism() * 1000,
    memoryBytes: parseMemInfo(readFirst("/proc/meminfo")).get("MemTotal") ?? 0,
    diskBytes: disk.blocks * disk.bsize,
  };
};
