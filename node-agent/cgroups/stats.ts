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
  /** Anonymous memory: what no cache explains. */
  readonly rssBytes: number;
  /** From and to block devices. */
  readonly readBytes: number;
  readonly writeBytes: number;
  readonly pids: number;
  /** Processes killed for want of memory. */
  readonly oomKills: number;
}

/** Microseconds for which some, or all, tasks of a group were stalled for want of a resource (PSI). */
export interface Stall {
  readonly someUs: number;
  readonly fullUs: number;
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

/** Sum over all devices of what `pattern` finds. */
const total = (text: string | undefined, pattern: RegExp): number => [...(text ?? "").matchAll(pattern)].reduce((sum, match) => sum + Number(match[1]), 0);

/** "some avg10=0.00 avg60=0.00 avg300=0.00 total=123": https://docs.kernel.org/accounting/psi.html. undefined: no such file, as on version 1. */
export const parseStall = (text: string | undefined): Stall | undefined => {
  if (text === undefined) return undefined;
  const of = (kind: string): number => Number(new RegExp(`^${kind} .*total=(\\d+)`, "m").exec(text)?.[1] ?? 0);
  return { someUs: of("some"), fullUs: of("full") };
};

export const parseOomKills = (version: "v1" | "v2", read: ReadFile): number =>
  keyed(version === "v2" ? read("memory", "memory.events") : read("memory", "memory.oom_control"), "oom_kill");

export const parseStats = (version: "v1" | "v2", read: ReadFile): CgroupStats => {
  const oomKills = parseOomKills(version, read);
  const pids = numberOf(read("pids", "pids.current"));
  const usage = (current: string, limit: string, inactiveFile: string, anonymous: string): Pick<CgroupStats, "memoryBytes" | "workingSetBytes" | "memoryLimitBytes" | "rssBytes"> => {
    const memoryBytes = numberOf(read("memory", current));
    const stat = read("memory", "memory.stat");
    return {
      memoryBytes, memoryLimitBytes: limitOf(read("memory", limit)), rssBytes: keyed(stat, anonymous),
      workingSetBytes: Math.max(0, memoryBytes - keyed(stat, inactiveFile)),
    };
  };
  if (version === "v2") {
    const cpu = read("cpu", "cpu.stat");
    const io = read("io", "io.stat");
    return {
      cpuNs: keyed(cpu, "usage_usec") * 1000, throttledNs: keyed(cpu, "throttled_usec") * 1000, ...usage("memory.current", "memory.max", "inactive_file", "anon"),
      readBytes: total(io, /\brbytes=(\d+)/g), writeBytes: total(io, /\bwbytes=(\d+)/g), pids, oomKills,
    };
  }
  const io = read("blkio", "blkio.throttle.io_service_bytes_recursive") ?? read("blkio", "blkio.throttle.io_service_bytes");
  return {
    cpuNs: numberOf(read("cpuacct", "cpuacct.usage")), throttledNs: keyed(read("cpu", "cpu.stat"), "throttled_time"),
    ...usage("memory.usage_in_bytes", "memory.limit_in_bytes", "total_inactive_file", "total_rss"),
    readBytes: total(io, / Read (\d+)/g), writeBytes: total(io, / Write (\d+)/g), pids, oomKills,
  };
};
