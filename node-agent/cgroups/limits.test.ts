import test from "ava";
import { hugePageSizes, limitWrites, quotaUs, sharesToWeight, weightToShares } from "./limits.ts";
import { parseOomKills, parseStall, parseStats } from "./stats.ts";

test("shares become weights as in crun and runc, and stay in range", (t) => {
  t.deepEqual([2, 1024, 262_144, 1, 1_000_000, 0].map(sharesToWeight), [1, 39, 10_000, 1, 10_000, 0]);
  for (let weight = 1; weight <= 10_000; weight += 7) t.is(sharesToWeight(weightToShares(weight)), weight);
});

test("a quota is a share of each period and never below what the kernel takes", (t) => {
  t.deepEqual([500, 2500, 1].map(quotaUs), [50_000, 250_000, 1000]);
});

test("limits of 0 are written as unlimited, so that a limit can be taken back", (t) => {
  const none = { cpuShares: 0, cpuQuotaMilli: 0, memoryBytes: 0, pids: 0 };
  t.deepEqual(limitWrites("v2", none).map((w) => `${w.file}=${w.value}`), ["cpu.max=max 100000", "memory.max=max", "pids.max=max"]);
  t.deepEqual(limitWrites("v1", none).map((w) => `${w.file}=${w.value}`), ["cpu.cfs_period_us=100000", "cpu.cfs_quota_us=-1", "memory.limit_in_bytes=-1", "pids.max=max"]);
});

test("a new group gets what it is limited to, and no more", (t) => {
  const written = (version: "v1" | "v2", limits: Parameters<typeof limitWrites>[1]) => limitWrites(version, limits, {}, true).map((w) => `${w.file}=${w.value}`);
  const none = { cpuShares: 2, cpuQuotaMilli: 0, memoryBytes: 0, pids: 0 };
  t.deepEqual([written("v1", none), written("v2", none)], [["cpu.shares=2"], ["cpu.weight=1"]]);
  t.deepEqual(written("v1", { ...none, cpuQuotaMilli: 500, pids: 7 }), ["cpu.shares=2", "cpu.cfs_quota_us=50000", "pids.max=7"]);
  t.deepEqual(written("v2", { ...none, memoryBytes: 4096 }), ["cpu.weight=1", "memory.max=4096"]);
});

test("every limit goes into the file of its controller", (t) => {
  const limits = { cpuShares: 512, cpuQuotaMilli: 1500, memoryBytes: 1 << 26, pids: 100 };
  t.deepEqual(limitWrites("v2", limits).map((w) => `${w.controller}:${w.file}=${w.value}`), ["cpu:cpu.weight=20", "cpu:cpu.max=150000 100000", "memory:memory.max=67108864", "pids:pids.max=100"]);
  t.deepEqual(limitWrites("v1", limits).map((w) => `${w.controller}:${w.file}=${w.value}`),
    ["cpu:cpu.shares=512", "cpu:cpu.cfs_period_us=100000", "cpu:cpu.cfs_quota_us=150000", "memory:memory.limit_in_bytes=67108864", "pids:pids.max=100"]);
});

const MB = 2 ** 20;
const memory = (version: "v1" | "v2", memoryBytes: number, swapBytes: number, swap: string | undefined): readonly string[] =>
  limitWrites(version, { cpuShares: 0, cpuQuotaMilli: 0, memoryBytes, swapBytes, pids: 0 }, { swap }).filter((w) => w.controller === "memory").map((w) => `${w.file}=${w.value}`);

test("version 1: what is raised goes first for memory and swap together, what is lowered first for memory; never is memory above both", (t) => {
  t.deepEqual(memory("v1", 64 * MB, 0, "9223372036854771712"), ["memory.limit_in_bytes=67108864", "memory.memsw.limit_in_bytes=67108864"]);
  t.deepEqual(memory("v1", 64 * MB, 0, String(32 * MB)), ["memory.memsw.limit_in_bytes=67108864", "memory.limit_in_bytes=67108864"]);
  t.deepEqual(memory("v1", 16 * MB, 8 * MB, String(32 * MB)), ["memory.limit_in_bytes=16777216", "memory.memsw.limit_in_bytes=25165824"]);
  t.deepEqual(memory("v1", 64 * MB, -1, String(32 * MB)), ["memory.memsw.limit_in_bytes=-1", "memory.limit_in_bytes=67108864"]);
  t.deepEqual(memory("v1", 0, 0, String(32 * MB)), ["memory.memsw.limit_in_bytes=-1", "memory.limit_in_bytes=-1"]);
  t.deepEqual(memory("v1", 64 * MB, 0, undefined), ["memory.limit_in_bytes=67108864"], "without swap accounting");
});

test("version 2: swap is apart", (t) => {
  t.deepEqual(memory("v2", MB, 0, "max"), ["memory.max=1048576", "memory.swap.max=0"]);
  t.deepEqual(memory("v2", 0, -1, "0"), ["memory.max=max", "memory.swap.max=max"]);
  t.deepEqual(memory("v2", MB, 0, undefined), ["memory.max=1048576"]);
});

test("huge pages: every size of the node gets a limit, none where none is asked for", (t) => {
  const limits = { cpuShares: 0, cpuQuotaMilli: 0, memoryBytes: 0, pids: 0, hugePages: { "2MB": 4 * MB } };
  const hugetlb = ["cgroup.procs", "hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.usage_in_bytes", "hugetlb.2MB.rsvd.limit_in_bytes", "hugetlb.1GB.limit_in_bytes", "hugetlb.1GB.numa_stat"];
  t.deepEqual(limitWrites("v1", limits, { hugetlb }).filter((w) => w.controller === "hugetlb").map((w) => `${w.file}=${w.value}`),
    ["hugetlb.2MB.limit_in_bytes=4194304", "hugetlb.2MB.rsvd.limit_in_bytes=4194304", "hugetlb.1GB.limit_in_bytes=0"]);
  t.deepEqual(hugePageSizes(hugetlb), ["1GB", "2MB"]);
  t.deepEqual(limitWrites("v2", limits, { hugetlb: ["hugetlb.64KB.max"] }).filter((w) => w.controller === "hugetlb").map((w) => `${w.file}=${w.value}`), ["hugetlb.64KB.max=0"]);
  const { hugePages: _, ...without } = limits;
  t.true(limitWrites("v1", without, { hugetlb }).every((w) => w.controller !== "hugetlb"));
});

const files = (texts: Readonly<Record<string, string>>) => (_controller: string, file: string): string | undefined => texts[file];

test("version 2 statistics: the working set leaves out cache that can be dropped", (t) => {
  const read = files({
    "cpu.stat": "usage_usec 1500\nuser_usec 1000\nnr_throttled 2\nthrottled_usec 30\n", "memory.current": "1000\n", "memory.stat": "anon 600\nactive_file 5\ninactive_file 300\n",
    "io.stat": "8:0 rbytes=100 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n253:0 rbytes=5 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n", "memory.max": "max\n", "pids.current": "7\n", "memory.events": "low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\noom_group_kill 0\n",
  });
  t.deepEqual(parseStats("v2", read), { cpuNs: 1_500_000, throttledNs: 30_000, memoryBytes: 1000, workingSetBytes: 700, rssBytes: 600, readBytes: 105, writeBytes: 20, memoryLimitBytes: undefined, pids: 7, oomKills: 2 });
});

test("version 1 statistics: the huge number that stands for no limit is none", (t) => {
  const read = files({
    "cpuacct.usage": "123456\n", "cpu.stat": "nr_periods 1\nthrottled_time 9\n", "memory.usage_in_bytes": "100\n", "memory.stat": "inactive_file 1\ntotal_rss 40\ntotal_inactive_file 200\n",
    "blkio.throttle.io_service_bytes_recursive": "8:0 Read 10\n8:0 Write 7\n8:0 Total 17\nTotal 17\n", "memory.limit_in_bytes": "9223372036854771712\n", "pids.current": "1\n", "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
  });
  t.deepEqual(parseStats("v1", read), { cpuNs: 123_456, throttledNs: 9, memoryBytes: 100, workingSetBytes: 0, rssBytes: 40, readBytes: 10, writeBytes: 7, memoryLimitBytes: undefined, pids: 1, oomKills: 1 });
});

test("files that are gone count as nothing", (t) => {
  t.is(parseOomKills("v2", () => undefined), 0);
  t.is(parseStats("v1", () => undefined).memoryBytes, 0);
});

test("pressure is what tasks waited in all", (t) => {
  t.deepEqual(parseStall("some avg10=0.00 avg60=1.50 avg300=0.00 total=422\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=17\n"), { someUs: 422, fullUs: 17 });
  t.deepEqual(parseStall("some avg10=0.00 avg60=0.00 avg300=0.00 total=3\n"), { someUs: 3, fullUs: 0 });
  t.is(parseStall(undefined), undefined);
});
