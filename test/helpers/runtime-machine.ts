// The container runtime on this machine: real namespaces, mounts, cgroups and processes, in directories and a cgroup of its own, which go with the test.
import { chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ExecutionContext } from "ava";
import { SystemClock } from "../../base/clock.ts";
import { newUid } from "../../base/ids.ts";
import { silentLogger } from "../../base/logger.ts";
import { Metrics } from "../../base/metrics.ts";
import { CgroupTree } from "../../node-agent/cgroups/cgroup-tree.ts";
import { readCgroupLayout } from "../../node-agent/cgroups/detect.ts";
import { prepareHybridHost } from "../../node-agent/cgroups/hybrid.ts";
import { readMounts, unmountAllBelow } from "../../node-agent/linux/mount.ts";
import { pinNamespaces } from "../../node-agent/linux/namespaces.ts";
import { ConmonRuntime } from "../../node-agent/runtime/conmon-runtime.ts";
import type { ContainerSpec } from "../../node-agent/runtime/container-runtime.ts";
import { exitOf, type RuntimeUnderTest } from "../../node-agent/runtime/runtime-contract.ts";

const clock = new SystemClock();
const APPLETS = ["sh", "sleep", "cat", "id", "grep", "echo", "tty", "head", "ls", "touch", "dd", "stty", "env", "pwd", "ps", "mknod", "chroot"];

export interface Machine extends RuntimeUnderTest {
  readonly runtime: ConmonRuntime;
  readonly directory: string;
  readonly cgroups: CgroupTree;
  log(id: string): string;
}

/** A root filesystem with busybox and two users. */
export const makeRootfs = (directory: string): string => {
  const rootfs = join(directory, "layer");
  for (const name of ["bin", "etc", "tmp", "home/app"]) mkdirSync(join(rootfs, name), { recursive: true });
  copyFileSync("/bin/busybox", join(rootfs, "bin/busybox"));
  chmodSync(join(rootfs, "bin/busybox"), 0o755);
  for (const applet of APPLETS) symlinkSync("busybox", join(rootfs, "bin", applet));
  writeFileSync(join(rootfs, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\napp:x:1234:2345:app:/home/app:/bin/sh\n");
  writeFileSync(join(rootfs, "etc/group"), "root:x:0:\napp:x:2345:\nextra:x:3456:app\n");
  writeFileSync(join(rootfs, "bin/not-executable"), "#!/bin/sh\n", { mode: 0o644 });
  return rootfs;
};

export const ourCgroups = (root: string): readonly string[] => readMounts().filter((m) => m.type.startsWith("cgroup")).map((m) => join(m.target, root)).filter((path) => existsSync(path));

export const openMachine = async (t: ExecutionContext, ociRuntime = "crun"): Promise<Machine> => {
  const directory = mkdtempSync(join(tmpdir(), "gantry-rt-"));
  const [root, runRoot] = [join(directory, "root"), join(directory, "run")];
  prepareHybridHost(readCgroupLayout(), "/run/gantry-test-hybrid-mounts");
  const cgroupRoot = `gantry-test-${newUid().slice(0, 8)}`;
  const cgroups = new CgroupTree({ layout: readCgroupLayout(), root: cgroupRoot, clock, logger: silentLogger });
  cgroups.prepare();
  const open = (): Promise<ConmonRuntime> => ConmonRuntime.open({ root, runRoot, ociRuntime, cgroups, clock, logger: silentLogger, metrics: new Metrics() });
  let runtime = await open();
  t.teardown(async () => {
    runtime.close();
    // Timers of the clock don't keep the process alive by themselves.
    const alive = setInterval(() => undefined, 1000);
    try {
      await cgroups.destroy();
      unmountAllBelow(directory);
      const left = [...ourCgroups(cgroupRoot), ...readMounts().filter((m) => m.target.startsWith(directory)).map((m) => m.target)];
      if (left.length > 0) throw new Error(`left behind: ${left.join(", ")}`);
    } finally {
      rmSync(directory, { recursive: true, force: true });
      clearInterval(alive);
    }
  });
  const layer = makeRootfs(directory);
  return {
    get runtime() { return runtime; },
    directory, cgroups,
    log: (id) => readFileSync(join(directory, "logs", `${id}.log`), "utf8"),
    spec: (script, changes) => {
      const id = newUid();
      const ns = (type: string): string => join(runRoot, "ns", id, type);
      pinNamespaces({ net: ns("net"), ipc: ns("ipc"), uts: ns("uts"), hostname: "inside" });
      return {
        id, name: "test", layerDirs: [layer], args: ["sh", "-c", script], env: ["PATH=/bin"], cwd: "/", user: "", supplementalGroups: [], hostname: "inside",
        namespaces: { network: ns("net"), ipc: ns("ipc"), uts: ns("uts") }, mounts: [], tty: false, stdin: false, readOnlyRoot: false, privileged: false, noNewPrivileges: true,
        capabilitiesAdd: [], capabilitiesDrop: [], seccomp: { type: "RuntimeDefault" }, sysctls: {}, cgroupPath: `kubepods/besteffort/pod${id}/${id}`,
        limits: { cpuShares: 2, cpuQuotaMilli: 0, memoryBytes: 0, pids: 0 }, oomScoreAdj: 1000, logPath: join(directory, "logs", `${id}.log`), labels: {}, ...changes,
      };
    },
    restart: async () => {
      runtime.close();
      return (runtime = await open());
    },
  };
};

/** Until it has ended; what it wrote. */
export const run = async (machine: Machine, spec: ContainerSpec): Promise<string> => {
  const exited = exitOf(machine.runtime, spec.id);
  await machine.runtime.create(spec);
  await machine.runtime.start(spec.id);
  await exited;
  return machine.log(spec.id).split("\n").map((line) => line.replace(/^\S+ \S+ \S /, "")).join("\n");
};

export const start = async ({ runtime }: Machine, spec: ContainerSpec): Promise<string> => {
  await runtime.create(spec);
  await runtime.start(spec.id);
  return spec.id;
};
