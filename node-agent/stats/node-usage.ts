// What the whole machine uses, out of /proc and statfs. Parsing is pure.
import { readFileSync, statfsSync } from "node:fs";
import type { NetworkUsage, NodeUsage, Storage } from "../../proto/gen/gantry/v1/agent.ts";
import type { Observation, Observations } from "../eviction/thresholds.ts";
import { parseMemInfo } from "../linux/host-facts.ts";
import type { Rate } from "./cpu-rates.ts";

/** USER_HZ: what /proc counts in, 100 on every architecture but alpha. */
const TICK_NS = 1e7;

/** Time that processors were busy, of the line "cpu" in /proc/stat (proc(5)): user, nice, system, irq, softirq, steal; guests are in user. */
export const busyNs = (stat: string): number => {
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, steal = 0] = (/^cpu +(.+)$/m.exec(stat)?.[1] ?? "").split(" ").map(Number);
  return (user + nice + system + irq + softirq + steal) * TICK_NS;
};

/** As kubelet counts a node's memory: all that isn't free, and of that all but inactive page cache. */
export const nodeMemory = (meminfo: string): NonNullable<NodeUsage["memory"]> => {
  const info = parseMemInfo(meminfo);
  const of = (name: string): number => info.get(name) ?? 0;
  const usageBytes = of("MemTotal") - of("MemFree");
  const workingSetBytes = Math.max(0, usageBytes - of("Inactive(file)"));
  return { usageBytes, workingSetBytes, rssBytes: of("AnonPages"), limitBytes: 0, availableBytes: of("MemTotal") - workingSetBytes };
};

/** Existing threads, the fourth field of /proc/loadavg: "2/1234". Linux counts them against pid_max. */
export const threadsOf = (loadavg: string): number => Number(/\d+\/(\d+)/.exec(loadavg)?.[1] ?? 0);

/** /proc/net/dev by interface, as seen from the interface. */
export const parseNetDev = (text: string): ReadonlyMap<string, NetworkUsage> =>
  new Map(text.split("\n").flatMap((line) => {
    const match = /^\s*(\S+):\s*(.+)$/.exec(line);
    if (!match) return [];
    const n = match[2]!.trim().split(/\s+/).map(Number);
    return [[match[1]!, {
      rxBytes: n[0] ?? 0, rxPackets: n[1] ?? 0, rxErrors: n[2] ?? 0, rxDropped: n[3] ?? 0, txBytes: n[8] ?? 0, txPackets: n[9] ?? 0, txErrors: n[10] ?? 0, txDropped: n[11] ?? 0,
    }] as const];
  }));

/** What the node's end of a pod's link receives is what the pod sends. */
export const otherEnd = (n: NetworkUsage): NetworkUsage => ({
  rxBytes: n.txBytes, rxPackets: n.txPackets, rxErrors: n.txErrors, rxDropped: n.txDropped, txBytes: n.rxBytes, txPackets: n.rxPackets, txErrors: n.rxErrors, txDropped: n.rxDropped,
});

export const storageOf = (path: string): Storage => {
  const { blocks, bsize, bavail, bfree } = statfsSync(path);
  return { capacityBytes: blocks * bsize, availableBytes: bavail * bsize, usedBytes: (blocks - bfree) * bsize };
};

const proc = (name: string): string => readFileSync(`/proc/${name}`, "latin1");

export const maxPids = (): number => Math.min(Number(proc("sys/kernel/pid_max")), Number(proc("sys/kernel/threads-max")));

export const readNodeUsage = (paths: { readonly nodefs: string; readonly imagefs: string }, rateOf: (totalNs: number) => Rate): NodeUsage => {
  const totalNs = busyNs(proc("stat"));
  return {
    cpu: { totalNs, throttledNs: 0, ...rateOf(totalNs) }, memory: nodeMemory(proc("meminfo")),
    nodefs: storageOf(paths.nodefs), imagefs: storageOf(paths.imagefs), pids: threadsOf(proc("loadavg")), maxPids: maxPids(),
  };
};

const inodesOf = (path: string): Observation => {
  const { files, ffree } = statfsSync(path);
  return { available: ffree, capacity: files };
};

/** What is left of everything that a node can run short of. */
export const observeNode = (paths: { readonly nodefs: string; readonly imagefs: string }): Observations => {
  const info = parseMemInfo(proc("meminfo"));
  const memory = nodeMemory(proc("meminfo"));
  const disk = (path: string): Observation => {
    const { availableBytes, capacityBytes } = storageOf(path);
    return { available: availableBytes, capacity: capacityBytes };
  };
  return {
    "memory.available": { available: memory.availableBytes, capacity: info.get("MemTotal") ?? 0 },
    "nodefs.available": disk(paths.nodefs), "nodefs.inodesFree": inodesOf(paths.nodefs), "imagefs.available": disk(paths.imagefs), "imagefs.inodesFree": inodesOf(paths.imagefs),
    "pid.available": { available: maxPids() - threadsOf(proc("loadavg")), capacity: maxPids() },
  };
};

/** All of this network namespace's links, with one read. */
export const readLinks = (): ReadonlyMap<string, NetworkUsage> => parseNetDev(proc("thread-self/net/dev"));
