// What a control group has used, out of its files. Pure: `read` gives a file's text, or undefined when there is none.

export interface CgroupStats {
  /** Nanoseconds on a processor, of all processes so far. */
  readonly cpuNs: number;
  readonly throttledNs: number;
  readonly memoryBytes: number;
  /** Without the page cache that can be dropped at once: what counts towards eviction, as kubelet and `kubectl top` count it. */
  readonly workingSetBytes: number;
  /** undefined: no limit. */
  readonly memoryLimitBytes: number | undefined;
  readonly pids: number;
  /** Processes killed for want of memory. */
  readonly oomKills: number;
}

/** Reads a file of a controller. */
export type ReadFile = (controller: string, file: string) => string | undefined;

const numberOf = (text: string | undefined): number => {
  const value = Number(text?.trim());
  return Number.isFinite(value) ? value : 0;
};

/** The value behind `key` in lines of "key value". */
const keyed = (text: string | undefined, key: string): number => {
  const line = text?.split("\n").find((l) => l.startsWith(`${key} `));
  return numberOf(line?.slice(key.length + 1));
};

/** Version 1 says "no limit" with the largest multiple of a page; that or anything near it is none. */
const NO_LIMIT_BYTES = 2 ** 62;

const limitOf = (text: string | undefined): number | undefined => {
  const value = numberOf(text);
  return text === undefined || text.trim() === "max" || value >= NO_LIMIT_BYTES ? undefined : value;
};

export const parseOomKills = (version: "v1" | "v2", read: ReadFile): number =>
  keyed(version === "v2" ? read("memory", "memory.events") : read("memory", "memory.oom_control"), "oom_kill");

export const parseStats = (version: "v1" | "v2", read: ReadFile): CgroupStats => {
  const oomKills = parseOomKills(version, read);
  const pids = numberOf(read("pids", "pids.current"));
  const usage = (current: string, limit: string, inactiveFile: string): Pick<CgroupStats, "memoryBytes" | "workingSetBytes" | "memoryLimitBytes"> => {
    const memoryBytes = numberOf(read("memory", current));
    return {
      memoryBytes, memoryLimitBytes: limitOf(read("memory", limit)),
      workingSetBytes: Math.max(0, memoryBytes - keyed(read("memory", "memory.stat"), inactiveFile)),
    };
  };
  if (version === "v2") {
    const cpu = read("cpu", "cpu.stat");
    return { cpuNs: keyed(cpu, "usage_usec") * 1000, throttledNs: keyed(cpu, "throttled_usec") * 1000, ...usage("memory.current", "memory.max", "inactive_file"), pids, oomKills };
  }
  return {
    cpuNs: numberOf(read("cpuacct", "cpuacct.usage")), throttledNs: keyed(read("cpu", "cpu.stat"), "throttled_time"),
    ...usage("memory.usage_in_bytes", "memory.limit_in_bytes", "total_inactive_file"), pids, oomKills,
  };
};
