// Version 2 on a tree of plain files: what is written where. The real files of both versions: test/root/cgroups.test.ts.
import test from "ava";
import type { ExecutionContext } from "ava";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { SystemClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/logger.ts";
import { CgroupTree, podCgroupPath } from "./cgroup-tree.ts";
import type { CgroupLayout } from "./detect.ts";
import { sharesToWeight } from "./limits.ts";
import type { CgroupLimits } from "../runtime/container-runtime.ts";

const fixture = (t: ExecutionContext, controllers: readonly string[] = ["cpuset", "cpu", "io", "memory", "pids", "rdma"]): { readonly root: string; readonly tree: CgroupTree; readonly again: () => CgroupTree } => {
  const root = mkdtempSync(join(tmpdir(), "gantry-cgroup-"));
  t.teardown(() => rmSync(root, { recursive: true }));
  const layout: CgroupLayout = { version: "v2", hierarchies: new Map(), unified: root, unifiedControllers: controllers, unmounted: [], notes: [] };
  const again = (): CgroupTree => new CgroupTree({ layout, root: "gantry/n1", clock: new SystemClock(), logger: silentLogger });
  return { root, tree: again(), again };
};

const put = (path: string, text: string): void => {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
};

test("version 2: every group from the root down to the pod passes the controllers on", (t) => {
  const { root, tree } = fixture(t);
  put(join(root, "cgroup.subtree_control"), "cpu memory\n");
  tree.create(podCgroupPath("Burstable", "u1"), { cpuShares: 1024, cpuQuotaMilli: 500, memoryBytes: 4096, pids: 0 });
  t.is(readFileSync(join(root, "cgroup.subtree_control"), "utf8"), "+cpuset +io +pids", "only what was missing");
  for (const path of ["gantry", "gantry/n1", "gantry/n1/kubepods", "gantry/n1/kubepods/burstable", "gantry/n1/kubepods/burstable/podu1"]) {
    t.is(readFileSync(join(root, path, "cgroup.subtree_control"), "utf8"), "+cpuset +cpu +io +memory +pids", path);
  }
  const pod = join(root, "gantry/n1/kubepods/burstable/podu1");
  t.deepEqual(["cpu.weight", "cpu.max", "memory.max"].map((file) => readFileSync(join(pod, file), "utf8")), ["39", "50000 100000", "4096"]);
  t.is(tree.ociPath(podCgroupPath("Burstable", "u1")), "/gantry/n1/kubepods/burstable/podu1");
});

test("a limit whose controller is missing is left out, not failed", (t) => {
  const { root, tree } = fixture(t, ["cpu"]);
  tree.create("kubepods", { cpuShares: 2, cpuQuotaMilli: 0, memoryBytes: 4096, pids: 10 });
  t.is(readFileSync(join(root, "gantry/n1/kubepods/cpu.weight"), "utf8"), "1");
  t.throws(() => readFileSync(join(root, "gantry/n1/kubepods/memory.max")), { code: "ENOENT" });
});

test("what can be limited is told by the files; swap is limited where the kernel accounts for it", (t) => {
  const { root, tree } = fixture(t);
  tree.prepare();
  t.deepEqual(tree.features(), { swap: false, oomGroup: false, hugePageSizes: [], ioWeight: false, ioRates: false });
  const limits = { cpuShares: 2, cpuQuotaMilli: 0, memoryBytes: 4096, swapBytes: 0, pids: 0 };
  tree.create("kubepods/podx", limits);
  put(join(root, "gantry/n1/memory.swap.max"), "max\n");
  put(join(root, "gantry/n1/memory.oom.group"), "0\n");
  put(join(root, "gantry/n1/hugetlb.2MB.max"), "max\n");
  put(join(root, "gantry/n1/io.bfq.weight"), "default 100\n");
  put(join(root, "gantry/n1/io.max"), "");
  t.deepEqual(tree.features(), { swap: true, oomGroup: true, hugePageSizes: [], ioWeight: true, ioRates: true }, "without the controller a file says nothing");
  const file = join(root, "gantry/n1/kubepods/podx/memory.swap.max");
  t.false(existsSync(file));
  put(file, "max\n");
  tree.apply("kubepods/podx", limits);
  t.is(readFileSync(file, "utf8"), "0");
});

test("processes are those of the group and of all below it", (t) => {
  const { root, tree } = fixture(t);
  put(join(root, "gantry/n1/kubepods/podx/cgroup.procs"), "0\n");
  put(join(root, "gantry/n1/kubepods/podx/a/cgroup.procs"), "11\n12\n");
  put(join(root, "gantry/n1/kubepods/podx/b/cgroup.procs"), "13\n");
  t.deepEqual([...tree.processes("kubepods/podx")].sort(), [11, 12, 13]);
  t.deepEqual(tree.processes("kubepods/pody"), []);
  t.true(tree.exists("kubepods/podx"));
  t.is(tree.readStats("kubepods/pody"), undefined);
});

test("a root that would reach outside of itself is refused", (t) => {
  const { root } = fixture(t);
  const layout: CgroupLayout = { version: "v2", hierarchies: new Map(), unified: root, unifiedControllers: [], unmounted: [], notes: [] };
  for (const bad of ["", "/", "../x", "a//b"]) {
    t.throws(() => new CgroupTree({ layout, root: bad, clock: new SystemClock(), logger: silentLogger }), { code: "Invalid", message: /cgroup root/ });
  }
});

test("a class weighs what its pods request together, also for the next agent; all pods what the machine has", (t) => {
  const { root, tree, again } = fixture(t);
  const weight = (path: string): number => Number(readFileSync(join(root, "gantry/n1", path, "cpu.weight"), "utf8"));
  const limits = (cpuShares: number): CgroupLimits => ({ cpuShares, cpuQuotaMilli: 0, memoryBytes: 0, pids: 0 });
  put(join(root, "gantry/n1/memory.max"), "4096\n");
  tree.prepare();
  t.is(readFileSync(join(root, "gantry/n1/memory.max"), "utf8"), "4096\n", "a limit of the whole node is somebody else's");
  t.deepEqual(["", "kubepods", "kubepods/besteffort", "kubepods/burstable"].map(weight), [sharesToWeight(availableParallelism() * 1024), sharesToWeight(availableParallelism() * 1024), 1, 1]);
  tree.create(podCgroupPath("Burstable", "u1"), limits(1024));
  tree.create(podCgroupPath("Burstable", "u2"), limits(2048));
  tree.create(podCgroupPath("Guaranteed", "u3"), limits(4096));
  t.is(weight("kubepods/burstable"), sharesToWeight(3072));
  tree.apply(podCgroupPath("Burstable", "u2"), limits(512));
  t.is(weight("kubepods/burstable"), sharesToWeight(1536));
  const next = again();
  next.prepare();
  t.true(Math.abs(weight("kubepods/burstable") - sharesToWeight(1536)) <= 1, "rounded twice");
  next.create(podCgroupPath("Burstable", "u1"), limits(2));
  t.true(Math.abs(weight("kubepods/burstable") - sharesToWeight(514)) <= 1);
});
