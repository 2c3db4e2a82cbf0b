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
import { readMounts, unmountAllBelow } from "../../node-agent/linux/mount.ts";
import { pinNamespaces } from "../../node-agent/linux/namespaces.ts";
import { ConmonRuntime } from "../../node-agent/runtime/conmon-runtime.ts";
import type { ContainerSpec } from "../../node-agent/runtime/container-runtime.ts";
import { exitOf, type RuntimeUnderTest } from "../../node-agent/runtime/runtime-contract.ts";
import { allProcesses, type RunningProcess } from "./leftovers.ts";
import { holdHybridHost } from "./hybrid-host.ts";

const clock = new SystemClock();
const CLEAR_MS = 10_000;
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

/** Ends and removes all there is of a machine, also what was being made. What is still there after the time limit is said. */
const clear = async (directory: string, cgroupRoot: string, cgroups: CgroupTree): Promise<void> => {
  const deadline = performance.now() + CLEAR_MS;
  for (;;) {
    // conmon and the OCI runtime are in no group of ours; the folder's name is in their arguments.
    for (const { pid } of ownProcesses(directory)) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // It has ended.
      }
    }
    await cgroups.destroy().catch(() => undefined); // said below, if it stays so
    unmountAllBelow(directory);
    const left = [
      ...ownProcesses(directory).map((p) => `process ${p.pid}: ${p.commandLine}`), ...ourCgroups(cgroupRoot),
      ...readMounts().filter((m) => m.target.startsWith(directory)).map((m) => m.target),
    ];
    if (left.length === 0) return;
    if (performance.now() > deadline) throw new Error(`left behind: ${left.join(", ")}`);
    await new Promise((wake) => setTimeout(wake, 20));
  }
};

const ownProcesses = (directory: string): readonly RunningProcess[] => allProcesses().filter((p) => p.pid !== process.pid && p.commandLine.includes(`${directory}/`));

export const openMachine = async (t: Pick<ExecutionContext, "teardown">, ociRuntime = "crun"): Promise<Machine> => {
  const directory = mkdtempSync(join(tmpdir(), "gantry-rt-"));
  const [root, runRoot] = [join(directory, "root"), join(directory, "run")];
  holdHybridHost();
  const cgroupRoot = `gantry-test-${newUid().slice(0, 8)}`;
  const cgroups = new CgroupTree({ layout: readCgroupLayout(), root: cgroupRoot, clock, logger: silentLogger });
  const creating = new Set<Promise<unknown>>();
  const opened: ConmonRuntime[] = [];
  const runtime = (): ConmonRuntime => opened.at(-1)!;
  t.teardown(async () => {
    // Timers of the clock don't keep the process alive by themselves.
    const alive = setInterval(() => undefined, 1000);
    try {
      opened.at(-1)?.close();
      await clear(directory, cgroupRoot, cgroups);
      // A test that failed in the midst of a create: that is undone by the runtime, and what it made meanwhile by us.
      if ((await Promise.allSettled(creating)).length > 0) await clear(directory, cgroupRoot, cgroups);
    } finally {
      rmSync(directory, { recursive: true, force: true });
      clearInterval(alive);
    }
  });
  cgroups.prepare();
  const open = async (): Promise<void> => {
    const next = await ConmonRuntime.open({ root, runRoot, ociRuntime, cgroups, clock, logger: silentLogger, metrics: new Metrics() });
    const create = next.create.bind(next);
    next.create = (spec) => {
      const created = create(spec);
      creating.add(created);
      return created.finally(() => creating.delete(created));
    };
    opened.push(next);
  };
  await open();
  const layer = makeRootfs(directory);
  return {
    get runtime() { return runtime(); },
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
      runtime().close();
      await open();
      return runtime();
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
