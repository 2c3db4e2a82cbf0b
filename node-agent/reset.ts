// `gantry node-agent --reset`: the node as it was before. Needs neither the agent nor the control plane: kills what runs in the node's
// cgroups, lets the conmons end, and removes mounts, namespaces, links, rules and files. Goes on to the end whatever fails.
import { existsSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Clock } from "../base/clock.ts";
import { GantryError, describeError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import { Metrics } from "../base/metrics.ts";
import { CgroupTree } from "./cgroups/cgroup-tree.ts";
import { readCgroupLayout } from "./cgroups/detect.ts";
import { unmountAllBelow } from "./linux/mount.ts";
import { isAlive, processStartTime, signalProcess } from "./linux/process.ts";
import { MemoryAddressStore } from "./network/address-store.ts";
import { LinuxPodNetwork } from "./network/linux-pod-network.ts";
import type { NodeAgentOptions } from "./options.ts";

const CONMON_TIMEOUT_MS = 5000;

/** What may stay with --keep-data: what the node needs to come back as itself, quickly. */
const KEPT = new Set(["images", "pki"]);

export const reset = async (options: NodeAgentOptions, clock: Clock, logger: Logger): Promise<void> => {
  const failed: string[] = [];
  const attempt = async (what: string, step: () => unknown): Promise<void> => {
    try {
      await step();
    } catch (error) {
      failed.push(`${what}: ${describeError(error)}`);
      logger.warn("could not remove everything", { what, err: describeError(error) });
    }
  };
  const cgroups = new CgroupTree({ layout: readCgroupLayout(), root: options.cgroupRoot, clock, logger });
  const conmons = conmonsOf(options.runDir);
  await attempt("containers", () => cgroups.kill(""));
  await attempt("conmon", () => endAll(conmons, clock));
  await attempt("mounts", () => {
    for (const dir of [options.runDir, options.dataDir]) unmountAllBelow(dir);
  });
  await attempt("network", async () => {
    const network = new LinuxPodNetwork({ bridgeName: options.bridge, addresses: new MemoryAddressStore(), nodeAddress: options.nodeAddress, clock, logger, metrics: new Metrics() });
    await network.destroy();
    network.close();
  });
  await attempt("cgroups", () => cgroups.destroy());
  if (failed.length === 0) {
    rmSync(options.runDir, { recursive: true, force: true });
    if (existsSync(options.dataDir)) for (const name of readdirSync(options.dataDir)) if (!options.keepData || !KEPT.has(name)) rmSync(join(options.dataDir, name), { recursive: true, force: true });
    if (!options.keepData) rmSync(options.dataDir, { recursive: true, force: true });
  }
  if (failed.length > 0) throw new GantryError("InternalError", failed.join("; "));
};

interface KnownProcess {
  readonly pid: number;
  readonly startTicks: number;
}

/** By the pid files in the bundles; only what is a conmon indeed. */
const conmonsOf = (runDir: string): readonly KnownProcess[] => {
  const containers = join(runDir, "containers");
  if (!existsSync(containers)) return [];
  return readdirSync(containers).flatMap((name) => {
    try {
      const pid = Number(readFileSync(join(containers, name, "conmon.pid"), "utf8"));
      const startTicks = processStartTime(pid);
      return startTicks !== undefined && readFileSync(`/proc/${pid}/comm`, "utf8").trim() === "conmon" ? [{ pid, startTicks }] : [];
    } catch {
      return [];
    }
  });
};

/** They end by themselves once their containers have. */
const endAll = async (processes: readonly KnownProcess[], clock: Clock): Promise<void> => {
  const deadlineMs = clock.monotonicMs() + CONMON_TIMEOUT_MS;
  const alive = (): readonly KnownProcess[] => processes.filter((p) => isAlive(p.pid, p.startTicks));
  while (alive().length > 0 && clock.monotonicMs() < deadlineMs) await clock.sleep(10);
  for (const p of alive()) signalProcess(p.pid, p.startTicks, "SIGKILL");
};
