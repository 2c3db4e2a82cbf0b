// Other engines on the same machine: one container after another, each with its default network. They have a network namespace of the bench's,
// with which the bridges and the firewall rules go that they leave.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, globSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { findOnPath } from "../../cli/cluster/prerequisites.ts";
import { unmountAllBelow } from "../../node-agent/linux/mount.ts";

const DAEMON_START_MS = 30_000;
const DAEMON_END_MS = 15_000;
const COMMAND = ["/bin/sleep", "600"];
/** Their default limits are above what a machine without CAP_SYS_RESOURCE may set. */
const LIMITS = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"];

interface Place {
  readonly dir: string;
  /** The network namespace, and the group above theirs. */
  readonly name: string;
  /** Runs a program in there; what it wrote. */
  readonly run: (program: string, ...args: readonly string[]) => string;
}

/** ms each; undefined when it can't run here. */
const measureIn = async (engine: string, measure: (place: Place) => Promise<number>): Promise<number | undefined> => {
  const dir = mkdtempSync(join(tmpdir(), `gantry-${engine}-`));
  const name = `gantry-bench-${engine}-${process.pid}`;
  const run = (program: string, ...args: readonly string[]): string =>
    execFileSync("nsenter", [`--net=/run/netns/${name}`, program, ...args], { encoding: "utf8", stdio: ["pipe", "pipe", "ignore"], env: { ...process.env, DOCKER_CONFIG: dir } });
  execFileSync("ip", ["netns", "add", name]);
  try {
    writeFileSync(join(dir, "config.json"), "{}"); // of DOCKER_CONFIG
    mkdirSync(join(dir, "rootfs/bin"), { recursive: true });
    copyFileSync("/bin/busybox", join(dir, "rootfs/bin/busybox"));
    copyFileSync("/bin/busybox", join(dir, "rootfs/bin/sleep"));
    execFileSync("tar", ["-cf", join(dir, "image.tar"), "-C", join(dir, "rootfs"), "."]);
    return await measure({ dir, name, run });
  } catch {
    return undefined;
  } finally {
    execFileSync("ip", ["netns", "delete", name]);
    unmountAllBelow(dir);
    // Their parent group and one for their helpers are left in every hierarchy.
    for (const left of globSync([`/sys/fs/cgroup/{*/,}${name}`])) execFileSync("find", [left, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"]);
    rmSync(dir, { recursive: true, force: true });
  }
};

const eachMs = (count: number, start: () => unknown): number => {
  start(); // the first one sets the network up
  const startedMs = performance.now();
  for (let i = 0; i < count; i++) start();
  return (performance.now() - startedMs) / count;
};

/** `podman run -d`; undefined where there is no podman. */
export const measurePodman = async (count: number): Promise<number | undefined> => {
  const podman = findOnPath("podman");
  if (podman === undefined) return undefined;
  return measureIn("podman", async ({ dir, name, run }) => {
    const command = (...args: readonly string[]): string => run(podman, "--root", join(dir, "root"), "--runroot", join(dir, "run"), "--tmpdir", join(dir, "tmp"), "--cgroup-manager", "cgroupfs", ...args);
    try {
      command("import", join(dir, "image.tar"), "localhost/bench:1");
      return eachMs(count, () => command("run", "-d", ...LIMITS, "--cgroup-parent", `/${name}`, "localhost/bench:1", ...COMMAND));
    } finally {
      try {
        command("rm", "-f", "-t", "0", "-a");
        command("system", "reset", "-f");
      } catch {
        // nothing of it ran
      }
    }
  });
};

/** `docker run -d` with a daemon of the bench's; undefined where there is none. */
export const measureDocker = async (count: number): Promise<number | undefined> => {
  const [docker, dockerd] = [findOnPath("docker"), findOnPath("dockerd")];
  if (docker === undefined || dockerd === undefined) return undefined;
  return measureIn("docker", async ({ dir, name, run }) => {
    const host = `unix://${join(dir, "socket")}`;
    const command = (...args: readonly string[]): string => run(docker, "--host", host, ...args);
    const daemon = spawn("nsenter", [`--net=/run/netns/${name}`, dockerd, "--host", host, "--data-root", join(dir, "data"), "--exec-root", join(dir, "exec"), "--pidfile", join(dir, "pid"), "--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", `/${name}`], { stdio: "ignore" });
    const ended = once(daemon, "exit");
    try {
      await untilAnswered(() => command("version"));
      command("import", join(dir, "image.tar"), "bench:1");
      return eachMs(count, () => command("run", "-d", ...LIMITS, "bench:1", ...COMMAND));
    } finally {
      try {
        const ids = command("ps", "-aq").split("\n").filter((id) => id !== "");
        if (ids.length > 0) command("rm", "-f", ...ids);
      } catch {
        // it didn't come up
      }
      daemon.kill("SIGTERM");
      if (!(await Promise.race([ended, delay(DAEMON_END_MS, undefined, { ref: false })]))) daemon.kill("SIGKILL");
      await ended;
    }
  });
};

const untilAnswered = async (ask: () => unknown): Promise<void> => {
  for (const deadline = performance.now() + DAEMON_START_MS; ;) {
    try {
      ask();
      return;
    } catch (error) {
      if (performance.now() > deadline) throw error;
      await delay(100);
    }
  }
};
