// The floor on this machine, measured in the same run: the OCI runtime called directly in a loop, without pods, images, network, logs
// or an API. What the cluster adds to it is what the ratio shows.
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface Floor {
  readonly runtime: string;
  /** Per container, one after another, ms. */
  readonly runMs: number;
  readonly removeMs: number;
}

/** `count` times `RUNTIME run -d` of busybox sleep, then `RUNTIME delete -f`. Everything is removed, also on failure. */
export const measureFloor = (runtime: string, count: number): Floor => {
  const dir = mkdtempSync(join(tmpdir(), "gantry-floor-"));
  const bundle = join(dir, "bundle");
  const state = join(dir, "state");
  const ids = Array.from({ length: count }, (_, i) => `gantry-floor-${process.pid}-${i}`);
  // Nothing of the container's may be a pipe of ours: it would be read until the container ends.
  const oci = (args: readonly string[]): void => void execFileSync(runtime, ["--root", state, ...args], { stdio: "ignore" });
  try {
    mkdirSync(join(bundle, "rootfs/bin"), { recursive: true });
    for (const d of ["proc", "dev", "sys"]) mkdirSync(join(bundle, "rootfs", d));
    copyFileSync("/bin/busybox", join(bundle, "rootfs/bin/busybox"));
    writeFileSync(join(bundle, "config.json"), JSON.stringify({
      ociVersion: "1.0.0", root: { path: "rootfs", readonly: true }, hostname: "floor",
      process: { terminal: false, user: { uid: 0, gid: 0 }, args: ["/bin/busybox", "sleep", "600"], cwd: "/", env: ["PATH=/bin"], noNewPrivileges: true },
      mounts: [{ destination: "/proc", type: "proc", source: "proc" }, { destination: "/dev", type: "tmpfs", source: "tmpfs" }],
      linux: { namespaces: ["pid", "mount", "ipc", "uts", "network"].map((type) => ({ type })), cgroupsPath: `/gantry-floor-${process.pid}` },
    }));
    const started = performance.now();
    for (const id of ids) oci(["run", "-d", "-b", bundle, id]);
    const ran = performance.now();
    for (const id of ids) oci(["delete", "-f", id]);
    return { runtime, runMs: (ran - started) / count, removeMs: (performance.now() - ran) / count };
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
