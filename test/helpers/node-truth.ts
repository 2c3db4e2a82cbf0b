// What is on the nodes of a cluster, by the kernel and the disk, against what the API says should be there. Reads only; asks no agent.
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import type { PersistentVolume, Pod } from "../../base/kube/types.gen.ts";
import { readMounts, type MountEntry } from "../../node-agent/linux/mount.ts";
import { Pins } from "../../node-agent/linux/pins.ts";
import type { Cluster } from "./cluster.ts";
import { networkDifferences, readNodeRecords } from "./network-truth.ts";

const CGROUPS = "/sys/fs/cgroup";
const POD_UID = /pod([0-9a-f]{8}-[0-9a-f-]{27})/;

const entries = (directory: string): readonly string[] => (existsSync(directory) ? readdirSync(directory) : []);
const bare = (containerId: string | undefined): string => (containerId ?? "").replace(/^[\w-]+:\/\//, "");

const statusesOf = (pod: Pod) => [...(pod.status?.initContainerStatuses ?? []), ...(pod.status?.containerStatuses ?? []), ...(pod.status?.ephemeralContainerStatuses ?? [])];

/** Every folder below `root` whose name is that of a pod's control group. */
const podGroups = (root: string): string[] => entries(root).filter((name) => !name.includes(".")).flatMap((name) => {
  const path = join(root, name);
  const uid = POD_UID.exec(name)?.[1];
  if (uid !== undefined) return [path];
  return ["kubepods", "burstable", "besteffort"].includes(name) || /^node-\d+$/.test(name) ? podGroups(path) : [];
});

/** The mounts of the namespace in which an agent pins those of its pods. */
const pinsBelow = (runRoot: string): readonly MountEntry[] => {
  if (!Pins.areAt(runRoot)) return [];
  using pins = Pins.open(runRoot);
  return pins.inside(readMounts);
};

/** One line for each thing that is on a node and not in the API, or the other way round. */
export const differences = async (cluster: Cluster, pods: readonly Pod[], volumes: readonly PersistentVolume[]): Promise<readonly string[]> => {
  const { layout } = cluster;
  const live = pods.filter((p) => p.spec?.nodeName);
  const uids = new Map(live.map((p) => [p.metadata.uid!, p]));
  const known = new Set(live.flatMap((p) => statusesOf(p).flatMap((s) => [bare(s.containerID), bare(s.lastState?.terminated?.containerID), bare(s.state?.terminated?.containerID)])));
  const processes = cluster.containers();
  const found: string[] = [];

  for (const { node, podUid, containerId, pid } of processes) {
    const pod = uids.get(podUid);
    if (!pod) found.push(`process ${pid} of container ${containerId} on ${node}: no pod has the uid ${podUid}`);
    else if (pod.spec?.nodeName !== node) found.push(`process ${pid} of ${pod.metadata.name} on ${node}: the pod is on ${pod.spec!.nodeName}`);
  }
  const running = new Map<string, number>();
  for (const { containerId } of processes) running.set(containerId, (running.get(containerId) ?? 0) + 1);
  for (const [id, count] of running) if (count > 1) found.push(`container ${id} has ${count} first processes`);
  for (const pod of live) {
    for (const status of statusesOf(pod)) {
      const has = running.has(bare(status.containerID));
      if (status.state?.running && !has) found.push(`${pod.metadata.name}/${status.name} is Running, but ${status.containerID} has no process`);
      if (!status.state?.running && has && status.containerID && !status.state?.waiting) found.push(`${pod.metadata.name}/${status.name} is not Running, but ${status.containerID} has a process`);
    }
  }
  for (const { containerId, pid } of cluster.conmons()) if (!known.has(containerId) && !running.has(containerId)) found.push(`conmon ${pid} of container ${containerId}: no pod has it`);

  const targets = [...readMounts(), ...cluster.nodes.flatMap((node) => pinsBelow(join(layout.socketDir, node)))].map((mount) => mount.target);
  for (const target of targets.filter((t) => t.startsWith(`${layout.socketDir}/`) || t.startsWith(`${layout.dataDir}/`))) {
    const [, container] = /\/containers\/([0-9a-f]{64})(?:\/|$)/.exec(target) ?? [];
    const [, uid] = /\/pods\/([0-9a-f-]{36})(?:\/|$)/.exec(target) ?? [];
    if (container !== undefined && !known.has(container)) found.push(`mount ${target}: no pod has this container`);
    if (uid !== undefined && !uids.has(uid)) found.push(`mount ${target}: no pod has this uid`);
  }
  for (const controller of [CGROUPS, ...entries(CGROUPS).map((name) => join(CGROUPS, name))]) {
    for (const path of podGroups(join(controller, `gantry-${layout.id}`))) if (!uids.has(POD_UID.exec(path)![1]!)) found.push(`control group ${path}: no pod has this uid`);
  }
  const busy = new Set(processes.map((p) => p.podUid));
  for (const { name: node, netnsPath } of cluster.state.hosts) {
    const here = live.filter((pod) => pod.spec!.nodeName === node).map((pod) => ({ pod, hasProcess: busy.has(pod.metadata.uid!) }));
    found.push(...networkDifferences(node, await readNodeRecords({ netnsPath, dataDir: join(layout.dataDir, node) }), here));
  }
  for (const node of cluster.nodes) {
    const [data, run] = [join(layout.dataDir, node), join(layout.socketDir, node)];
    for (const root of [data, run]) {
      for (const id of entries(join(root, "containers"))) if (!known.has(id)) found.push(`${root}/containers/${id}: no pod has this container`);
      for (const uid of entries(join(root, "pods"))) if (!uids.has(uid)) found.push(`${root}/pods/${uid}: no pod has this uid`);
    }
    for (const name of entries(join(data, "logs"))) if (!uids.has(name.split("_").at(-1)!)) found.push(`${data}/logs/${name}: no pod has this uid`);
    const held = new Set(volumes.map((v) => v.metadata.name!));
    for (const name of entries(join(data, "volumes"))) if (!held.has(name)) found.push(`${data}/volumes/${name}: no PersistentVolume has this name`);
  }
  return found;
};
