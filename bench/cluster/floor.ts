// The floor on this machine, measured in the same run: the OCI runtime called directly in a loop, without pods, images, network, logs
// or an API. What the cluster adds to it is what the ratio shows.
import { execFileSync, spawn } from "node:child_process";
import { closeSync, copyFileSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import * as libc from "../../node-agent/linux/libc.ts";
import { makePipe } from "../../node-agent/linux/spawn.ts";

export interface Floor {
  readonly runtime: string;
  /** Per container, one after another, ms. */
  readonly runMs: number;
  readonly removeMs: number;
}

interface Bench {
  readonly state: string;
  readonly ids: readonly string[];
  readonly oci: (args: readonly string[], streams?: { readonly stdin: number; readonly stdout: number }) => void;
  /** The bundle of busybox with these arguments. */
  readonly bundle: (args: readonly string[]) => string;
}

/** Everything is removed, also on failure. */
const withRuntime = async <T>(runtime: string, count: number, fn: (bench: Bench) => T | Promise<T>): Promise<T> => {
  const dir = mkdtempSync(join(tmpdir(), "gantry-floor-"));
  const state = join(dir, "state");
  const ids = Array.from({ length: count }, (_, i) => `gantry-floor-${process.pid}-${i}`);
  // No output of the container's may be a pipe of ours: it would be read until the container ends.
  const oci: Bench["oci"] = (args, streams) => void execFileSync(runtime, ["--root", state, ...args], { stdio: [streams?.stdin ?? "ignore", streams?.stdout ?? "ignore", "ignore"] });
  const bundle = (args: readonly string[]): string => {
    const path = join(dir, "bundle");
    mkdirSync(join(path, "rootfs/bin"), { recursive: true });
    for (const d of ["proc", "dev", "sys"]) mkdirSync(join(path, "rootfs", d));
    copyFileSync("/bin/busybox", join(path, "rootfs/bin/busybox"));
    writeFileSync(join(path, "config.json"), JSON.stringify({
      ociVersion: "1.0.0", root: { path: "rootfs", readonly: true }, hostname: "floor",
      process: { terminal: false, user: { uid: 0, gid: 0 }, args: ["/bin/busybox", ...args], cwd: "/", env: ["PATH=/bin"], noNewPrivileges: true },
      mounts: [{ destination: "/proc", type: "proc", source: "proc" }, { destination: "/dev", type: "tmpfs", source: "tmpfs" }],
      linux: { namespaces: ["pid", "mount", "ipc", "uts", "network"].map((type) => ({ type })), cgroupsPath: `/gantry-floor-${process.pid}` },
    }));
    return path;
  };
  try {
    return await fn({ state, ids, oci, bundle });
  } finally {
    for (const id of ids) {
      try {
        oci(["delete", "-f", id]);
      } catch {
        // gone already
      }
    }
    rmSync(dir, { recursive: true, force: true });
  }
};

/** `count` times `RUNTIME run -d` of busybox sleep, then `RUNTIME delete -f`. */
export const measureFloor = (runtime: string, count: number): Promise<Floor> => withRuntime(runtime, count, ({ ids, oci, bundle }) => {
  const path = bundle(["sleep", "600"]);
  const started = performance.now();
  for (const id of ids) oci(["run", "-d", "-b", path, id]);
  const ran = performance.now();
  for (const id of ids) oci(["delete", "-f", id]);
  return { runtime, runMs: (ran - started) / count, removeMs: (performance.now() - ran) / count };
});

const SETTLE_MS = 1000;
const GIVE_UP_MS = 60_000;
const sleepSync = (ms: number): void => void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);

/** Says its time, and waits for an input that doesn't come. */
const CLOCK = ["sh", "-c", "echo $EPOCHREALTIME; read -r _"];
const openInput = (): { readonly stdin: number } & Disposable => {
  const { read, write } = makePipe();
  return { stdin: read, [Symbol.dispose]: () => [read, write].forEach((fd) => libc.close(fd)) };
};

/** The last of the times, ms, that were written to these files. */
const lastOf = (outputs: readonly string[]): number => {
  for (let waitedMs = 0; ; waitedMs += 100) {
    const starts = outputs.map((file) => Number(readFileSync(file, "utf8")) * 1000);
    if (starts.every((ms) => ms > 0)) return Math.max(...starts);
    if (waitedMs > GIVE_UP_MS) throw new Error(`${starts.filter((ms) => ms === 0).length} of ${outputs.length} bare containers did not say when they started`);
    sleepSync(100);
  }
};

/** `count` containers of crun, created ahead and let go by a loop that does nothing else: ms until the last of them has read its own clock. Then they wait, as those of the bench do. */
export const measureBurstFloor = (count: number): Promise<number> => withRuntime("crun", count, ({ state, ids, oci, bundle }) => {
  const path = bundle(CLOCK);
  const outputs = ids.map((id) => `${state}-${id}`);
  using input = openInput();
  for (const [i, id] of ids.entries()) {
    const stdout = openSync(outputs[i]!, "w");
    try {
      oci(["create", "-b", path, id], { stdin: input.stdin, stdout });
    } finally {
      closeSync(stdout);
    }
  }
  sleepSync(SETTLE_MS);
  const startMs = Date.now();
  for (const id of ids) writeFileSync(join(state, id, "exec.fifo"), "\0");
  return lastOf(outputs) - startMs;
});

/** `count` containers of crun from nothing, as many at a time as there are processors, by nothing but `crun run`: ms until the last of them has read its own clock. */
export const measureColdFloor = (count: number): Promise<number> => withRuntime("crun", count, async ({ state, ids, bundle }) => {
  const path = bundle(CLOCK);
  const outputs = ids.map((id) => `${state}-${id}`);
  using input = openInput();
  const startMs = Date.now();
  const waiting = [...ids.entries()];
  const lane = async (): Promise<void> => {
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      const [i, id] = next;
      const stdout = openSync(outputs[i]!, "w");
      try {
        await new Promise<void>((resolve, reject) => {
          spawn("crun", ["--root", state, "run", "-d", "-b", path, id], { stdio: [input.stdin, stdout, "ignore"] }).on("error", reject)
            .on("exit", (code) => (code === 0 ? resolve() : reject(new Error(`crun run ended with code ${code ?? "none"}`))));
        });
      } finally {
        closeSync(stdout);
      }
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, lane));
  return lastOf(outputs) - startMs;
});
