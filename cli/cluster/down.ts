// `gantry down`: takes away everything that `up` made: processes, containers, mounts, namespaces, links, rules, cgroups, run files.
// Goes on to the end whatever fails and says what is left. Works on the state that up wrote, so also after a crash or half an up.
import { execFile } from "node:child_process";
import { existsSync, readdirSync, rmSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { SystemClock } from "../../base/clock.ts";
import { GantryError, describeError } from "../../base/errors.ts";
import { stopEtcd } from "../../control-plane/state/etcd-process.ts";
import { Progress, seconds } from "../progress.ts";
import { undoHybridHost } from "../../node-agent/cgroups/hybrid.ts";
import { HYBRID_MOUNTS_RECORD } from "../../node-agent/options.ts";
import { removeVirtualHosts } from "../../node-agent/network/virtual-hosts.ts";
import { layoutOf, readState } from "./layout.ts";
import { stop } from "./processes.ts";

const run = promisify(execFile);
const STOP_GRACE_MS = 5000;

export const down = async (options: { readonly root: string; readonly purge: boolean }): Promise<void> => {
  const layout = layoutOf(options.root);
  const progress = new Progress();
  const state = readState(layout);
  const failed: string[] = [];
  if (state) {
    // Agents first: with the control plane still there or not, nothing may restart what is being taken away.
    progress.update("stopping the node agents");
    const agents = state.processes.filter((p) => p.name !== "control-plane");
    await stop(agents, STOP_GRACE_MS);
    progress.update("removing containers");
    await Promise.all(state.hosts.map(async (host) => {
      const args = [process.argv[1]!, "node-agent", "--reset", "--keep-data", "--node-name", host.name, "--data-dir", join(layout.dataDir, host.name),
        "--run-dir", join(layout.socketDir, host.name), "--cgroup-root", `gantry-${layout.id}/${host.name}`, "--log-level", "warn"];
      try {
        await (existsSync(host.netnsPath) ? run("nsenter", [`--net=${host.netnsPath}`, "--", process.execPath, "--disable-warning=ExperimentalWarning", ...args]) : run(process.execPath, ["--disable-warning=ExperimentalWarning", ...args]));
      } catch (error) {
        failed.push(`${host.name}: ${((error as { stderr?: string }).stderr ?? describeError(error)).trim()}`);
      }
    }));
    progress.update("stopping the control plane and etcd");
    await stop(state.processes.filter((p) => p.name === "control-plane"), STOP_GRACE_MS);
    // A control plane that was killed, or that had no time left, ended without its etcd.
    await stopEtcd(join(layout.socketDir, "control-plane/etcd"), new SystemClock());
    progress.update("removing the network");
    try {
      await removeVirtualHosts({ name: layout.bridge, count: state.hostCount, directory: layout.hostsDir });
      removeCgroups(layout.id);
      // Another cluster on this machine may still need them.
      if (readdirSync("/run/gantry").every((name) => name === layout.id || name === "hybrid-mounts")) undoHybridHost(HYBRID_MOUNTS_RECORD);
      if (state.previous.ipForward !== undefined) writeFileSync("/proc/sys/net/ipv4/ip_forward", state.previous.ipForward);
    } catch (error) {
      failed.push(describeError(error));
    }
  }
  if (failed.length === 0) {
    rmSync(layout.socketDir, { recursive: true, force: true });
    rmSync(layout.runDir, { recursive: true, force: true });
    if (options.purge) rmSync(layout.root, { recursive: true, force: true });
  }
  if (failed.length > 0) throw new GantryError("InternalError", `not everything could be removed; run it again after mending:\n  ${failed.join("\n  ")}`);
  progress.done(state ? `down after ${seconds(progress.elapsedMs)}; ${options.purge ? "data removed too" : `data kept in ${layout.dataDir} (--purge removes it)`}`
    : `nothing runs here${options.purge ? "; data removed" : ""}`);
};

/** The nodes' parents: the agents have removed what was below. */
const removeCgroups = (id: string): void => {
  const root = "/sys/fs/cgroup";
  const trees = [root, ...readdirSync(root, { withFileTypes: true }).filter((d) => d.isDirectory()).map((d) => join(root, d.name))];
  for (const tree of trees) if (existsSync(join(tree, `gantry-${id}`))) rmCgroup(join(tree, `gantry-${id}`));
};

const rmCgroup = (dir: string): void => {
  for (const entry of readdirSync(dir, { withFileTypes: true })) if (entry.isDirectory()) rmCgroup(join(dir, entry.name));
  rmdirSync(dir);
};
