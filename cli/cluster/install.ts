// Installs what is missing (run by make; "test" adds what the tests need). Debian and its relatives: by apt-get. Elsewhere it says
// precisely what to install, and fails.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { Progress, seconds } from "../progress.ts";
import { findMissing } from "./prerequisites.ts";

/** Debian starts what it installs; Gantry runs etcd itself, and the tests theirs. */
const SERVICES: Readonly<Record<string, string>> = { "etcd-server": "etcd", "docker-registry": "docker-registry", prometheus: "prometheus" };

const apt = (...args: string[]): string | undefined => {
  const { status, stderr, stdout, error } = spawnSync("apt-get", args, { encoding: "utf8", env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" }, maxBuffer: 1 << 26 });
  return status === 0 ? undefined : `apt-get ${args[0]!} failed: ${error?.message ?? (stderr || stdout).trim().split("\n").slice(-8).join("\n")}`;
};

const install = (tests: boolean): string | undefined => {
  const missing = findMissing({ tests });
  if (!missing) return undefined;
  if (missing.family !== "debian") return missing.message;
  if (process.getuid?.() !== 0) return `${missing.message} (this needs root)`;
  const progress = new Progress();
  progress.update(`installing ${missing.packages.join(", ")}`);
  const failed = apt("update") ?? apt("install", "-y", "--no-install-recommends", ...missing.packages);
  progress.clear();
  if (failed) return failed;
  if (existsSync("/run/systemd/system")) {
    for (const name of missing.packages.flatMap((p) => SERVICES[p] ?? [])) spawnSync("systemctl", ["disable", "--now", name]);
  }
  const still = findMissing({ tests });
  if (still) return `installed, and yet: ${still.message}`;
  progress.done(`installed ${missing.packages.join(", ")} in ${seconds(progress.elapsedMs)}`);
  return undefined;
};

const failure = install(process.argv[2] === "test");
if (failure !== undefined) {
  console.error(failure);
  process.exitCode = 1;
}
