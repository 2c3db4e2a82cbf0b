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

/** What to write for `limits`; 0 means: without a limit. cpuShares 0: leave the kernel's default. */
export const limitWrites = (version: "v1" | "v2", limits: CgroupLimits): readonly FileWrite[] => {
  const { cpuShares, cpuQuotaMilli, memoryBytes, pids } = limits;
  const write = (controller: string, file: string, value: string | number): FileWrite => ({ controller, file, value: String(value) });
  if (version === "v2") {
    return [
      ...(cpuShares > 0 ? [write("cpu", "cpu.weight", sharesToWeight(cpuShares))] : []),
      write("cpu", "cpu.max", `${cpuQuotaMilli > 0 ? quotaUs(cpuQuotaMilli) : "max"} ${CPU_PERIOD_US}`),
      write("memory", "memory.max", memoryBytes > 0 ? memoryBytes : "max"),
      write("pids", "pids.max", pids > 0 ? pids : "max"),
    ];
  }
  return [
    ...(cpuShares > 0 ? [write("cpu", "cpu.shares", Math.max(2, cpuShares))] : []),
    write("cpu", "cpu.cfs_period_us", CPU_PERIOD_US),
    write("cpu", "cpu.cfs_quota_us", cpuQuotaMilli > 0 ? quotaUs(cpuQuotaMilli) : -1),
    write("memory", "memory.limit_in_bytes", memoryBytes > 0 ? memoryBytes : -1),
    write("pids", "pids.max", pids > 0 ? pids : "max"),
  ];
};
