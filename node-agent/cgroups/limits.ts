// Limits as the files that hold them, for version 1 and version 2. Pure.
import type { CgroupLimits } from "../runtime/container-runtime.ts";

/** As the kernel's default, and as every runtime sets it. */
export const CPU_PERIOD_US = 100_000;
/** The kernel refuses less. */
const LEAST_QUOTA_US = 1000;

/** Shares (2 to 262144) to weight (1 to 10000), linear as crun 1.8 and runc 1.1 convert; 0 (unset) stays 0. */
export const sharesToWeight = (shares: number): number =>
  shares === 0 ? 0 : Math.floor(1 + ((Math.min(Math.max(shares, 2), 262_144) - 2) * 9999) / 262_142);

export const weightToShares = (weight: number): number =>
  weight === 0 ? 0 : Math.ceil(2 + ((Math.min(Math.max(weight, 1), 10_000) - 1) * 262_142) / 9999);

/** Milli-CPU of time in each period. */
export const quotaUs = (milliCpu: number): number => Math.max(LEAST_QUOTA_US, Math.round((milliCpu * CPU_PERIOD_US) / 1000));

export interface FileWrite {
  readonly controller: string;
  readonly file: string;
  readonly value: string;
}

/** The file that limits swap: version 1 counts memory and swap together in it, version 2 swap alone. Not there where the kernel doesn't account for swap. */
export const SWAP_FILES = { v1: "memory.memsw.limit_in_bytes", v2: "memory.swap.max" } as const;

/** Version 1: the limit of memory and swap together; -1: none, as it has to be without one of memory. */
export const memoryAndSwapBytes = (memoryBytes: number, swapBytes: number): number => (memoryBytes === 0 || swapBytes < 0 ? -1 : memoryBytes + swapBytes);

/** hugetlb.2MB.max and the like: of pages in use, and (rsvd, Linux 5.7) of those that mmap sets aside, so that it fails instead of the program at its first use of a page. */
const HUGE_PAGES_FILE = /^hugetlb\.(\d+[KMG]B)\.(rsvd\.)?(limit_in_bytes|max)$/;

/** Sizes of pages that can be limited, by the files of a group. */
export const hugePageSizes = (files: readonly string[]): readonly string[] => files.flatMap((file) => {
  const [, size, isReserved] = HUGE_PAGES_FILE.exec(file) ?? [];
  return size === undefined || isReserved ? [] : [size];
}).sort();

/** What is in the group already, as far as it matters for what is written. */
export interface Present {
  /** What SWAP_FILES says; absent: there is no such file. */
  readonly swap?: string | undefined;
  /** Names of the files of the hugetlb controller. */
  readonly hugetlb?: readonly string[];
}

const hugePageWrites = ({ hugePages }: CgroupLimits, files: readonly string[] = []): readonly FileWrite[] => (hugePages === undefined ? [] : files.flatMap((file) => {
  const size = HUGE_PAGES_FILE.exec(file)?.[1];
  return size === undefined ? [] : [write("hugetlb", file, hugePages[size] ?? 0)];
}));

const write = (controller: string, file: string, value: string | number): FileWrite => ({ controller, file, value: String(value) });

/** Memory may never be above memory and swap together, not even between two writes: what is raised goes first on top, what is lowered first below. */
const memoryWritesV1 = ({ memoryBytes, swapBytes }: CgroupLimits, swapNow: string | undefined): readonly FileWrite[] => {
  const memory = write("memory", "memory.limit_in_bytes", memoryBytes > 0 ? memoryBytes : -1);
  if (swapBytes === undefined || swapNow === undefined) return [memory];
  const together = memoryAndSwapBytes(memoryBytes, swapBytes);
  const swap = write("memory", SWAP_FILES.v1, together);
  return together === -1 || together > Number(swapNow) ? [swap, memory] : [memory, swap];
};

/** What a group weighs beside its neighbours. */
export const weightWrite = (version: "v1" | "v2", cpuShares: number): FileWrite =>
  version === "v2" ? write("cpu", "cpu.weight", sharesToWeight(Math.max(2, cpuShares))) : write("cpu", "cpu.shares", Math.max(2, cpuShares));

const NO_LIMITS: CgroupLimits = { cpuShares: 0, cpuQuotaMilli: 0, memoryBytes: 0, pids: 0 };

/** What to write for `limits`; 0 means: without a limit, which a new group is anyway. cpuShares 0: leave the kernel's default. */
export const limitWrites = (version: "v1" | "v2", limits: CgroupLimits, present: Present = {}, isNew = false): readonly FileWrite[] => {
  const all = allWrites(version, limits, present);
  if (!isNew) return all;
  const defaults = new Set(allWrites(version, NO_LIMITS, present).map(({ file, value }) => `${file}=${value}`));
  return all.filter(({ file, value }) => !defaults.has(`${file}=${value}`));
};

const allWrites = (version: "v1" | "v2", limits: CgroupLimits, present: Present): readonly FileWrite[] => {
  const { cpuShares, cpuQuotaMilli, memoryBytes, swapBytes, pids } = limits;
  if (version === "v2") {
    return [
      ...(cpuShares > 0 ? [weightWrite(version, cpuShares)] : []),
      write("cpu", "cpu.max", `${cpuQuotaMilli > 0 ? quotaUs(cpuQuotaMilli) : "max"} ${CPU_PERIOD_US}`),
      write("memory", "memory.max", memoryBytes > 0 ? memoryBytes : "max"),
      ...(swapBytes === undefined || present.swap === undefined ? [] : [write("memory", SWAP_FILES.v2, swapBytes < 0 ? "max" : swapBytes)]),
      write("pids", "pids.max", pids > 0 ? pids : "max"),
      ...hugePageWrites(limits, present.hugetlb),
    ];
  }
  return [
    ...(cpuShares > 0 ? [weightWrite(version, cpuShares)] : []),
    write("cpu", "cpu.cfs_period_us", CPU_PERIOD_US),
    write("cpu", "cpu.cfs_quota_us", cpuQuotaMilli > 0 ? quotaUs(cpuQuotaMilli) : -1),
    ...memoryWritesV1(limits, present.swap),
    write("pids", "pids.max", pids > 0 ? pids : "max"),
    ...hugePageWrites(limits, present.hugetlb),
  ];
};
