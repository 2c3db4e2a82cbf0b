import test from "ava";
import { parseMountInfo } from "../linux/mount.ts";
import { detectCgroups } from "./detect.ts";
import { hybridMounts } from "./hybrid.ts";

const V1 = (target: string, controllers: string): string => `32 31 0:29 / ${target} rw,relatime - cgroup cgroup rw,${controllers}\n`;
const V2 = (target: string): string => `41 31 0:38 / ${target} rw,relatime - cgroup2 cgroup2 rw\n`;
const COMPILED_IN = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t3\t1\t1\ncpu\t1\t1\t1\nmemory\t4\t1\t1\npids\t8\t1\t1\n";

const detect = (mounts: string, unifiedControllers = "", controllers = COMPILED_IN): ReturnType<typeof detectCgroups> =>
  detectCgroups({ mounts: parseMountInfo(mounts), controllers, unifiedControllers });

test("a host with only the unified tree is version 2, wherever it is mounted", (t) => {
  const layout = detect(V2("/sys/fs/cgroup"), "cpuset cpu io memory hugetlb pids\n");
  t.is(layout.version, "v2");
  t.is(layout.unified, "/sys/fs/cgroup");
  t.deepEqual(layout.unifiedControllers, ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"]);
  t.deepEqual(layout.notes, []);
});

test("controllers that are mounted together share a hierarchy on version 1", (t) => {
  const layout = detect(V1("/cg/cpu,cpuacct", "cpu,cpuacct") + V1("/cg/memory", "memory") + V1("/cg/pids", "pids") + V1("/cg/systemd", "xattr,name=systemd"));
  t.is(layout.version, "v1");
  t.deepEqual([...layout.hierarchies], [["cpu", "/cg/cpu,cpuacct"], ["cpuacct", "/cg/cpu,cpuacct"], ["memory", "/cg/memory"], ["pids", "/cg/pids"], ["name=systemd", "/cg/systemd"]]);
});

test("both at once is hybrid, and what is left on the unified tree is named and belongs beside the others", (t) => {
  const layout = detect(V1("/sys/fs/cgroup/cpu", "cpu") + V1("/sys/fs/cgroup/memory", "memory") + V1("/sys/fs/cgroup/pids", "pids") + V1("/sys/fs/cgroup/cpuset", "cpuset") + V2("/sys/fs/cgroup/unified"), "hugetlb\n");
  t.is(layout.version, "hybrid");
  t.deepEqual(layout.notes, ["hybrid control groups with hugetlb left on the version 2 tree: crun wants them on version 1"]);
  t.deepEqual(hybridMounts(layout), [{ controller: "hugetlb", target: "/sys/fs/cgroup/hugetlb" }]);
});

test("a hierarchy that lost its mount with groups still going is mounted again", (t) => {
  const layout = detect(V1("/sys/fs/cgroup/cpu", "cpu") + V1("/sys/fs/cgroup/memory", "memory") + V1("/sys/fs/cgroup/pids", "pids") + V1("/sys/fs/cgroup/cpuset", "cpuset") + V2("/sys/fs/cgroup/unified"), "", `${COMPILED_IN}hugetlb\t10\t1\t1\nio\t0\t1\t1\n`);
  t.deepEqual(layout.unmounted, ["hugetlb"]);
  t.deepEqual(hybridMounts(layout), [{ controller: "hugetlb", target: "/sys/fs/cgroup/hugetlb" }]);
});

test("systemd's named hierarchy beside the unified tree does not make a host hybrid", (t) => {
  const layout = detect(V1("/sys/fs/cgroup/systemd", "name=systemd") + V2("/sys/fs/cgroup"), "cpu memory pids");
  t.is(layout.version, "v2");
  t.deepEqual(hybridMounts(layout), []);
});

test("a controller that can't limit anything is named with what would help", (t) => {
  const layout = detect(V2("/sys/fs/cgroup"), "cpu pids", COMPILED_IN.replace("memory\t4\t1\t1", "memory\t4\t1\t0"));
  t.deepEqual(layout.notes, ["the memory controller is not available: memory limits are not enforced (boot with cgroup_enable=memory)"]);
  const unmounted = detect(V1("/cg/cpu", "cpu") + V1("/cg/memory", "memory"));
  t.deepEqual(unmounted.notes, ["the pids controller is not available: limits on the number of processes are not enforced (mount it)"]);
});

test("a host without control groups is told so", (t) => {
  const layout = detect("22 27 0:21 / /proc rw - proc proc rw\n");
  t.is(layout.version, "none");
  t.regex(layout.notes[0]!, /mount cgroup2 on \/sys\/fs\/cgroup/);
});
