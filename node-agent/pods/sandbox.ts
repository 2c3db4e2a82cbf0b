// What a pod has before its first container and after its last: pinned namespaces, address and link, the files for /etc, the pod's
// cgroup. There is no process in it. Owns RUNROOT/pods/UID. Making and removing are idempotent.
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { podCgroupPath } from "../cgroups/cgroup-tree.ts";
import type * as Mounts from "../linux/mount.ts";
import type * as Namespaces from "../linux/namespaces.ts";
import type { PodNetwork } from "../network/pod-network.ts";
import type { ContainerCgroups } from "../runtime/container-cgroups.ts";
import type { CgroupLimits, RuntimeMount } from "../runtime/container-runtime.ts";
import type { Assignment } from "./assignment.ts";
import { cpuShares, type SandboxFacts } from "./container-spec.ts";
import { hostsFile, resolvConf } from "./pod-files.ts";
import { allContainers } from "./pod-record.ts";

export interface SandboxOptions {
  readonly runRoot: string;
  readonly network: Pick<PodNetwork, "attach" | "detach">;
  readonly namespaces: Pick<typeof Namespaces, "pinNamespaces" | "unpin" | "isPinned">;
  readonly mounts: Pick<typeof Mounts, "mountTmpfs" | "unmount">;
  readonly cgroups: Pick<ContainerCgroups, "create" | "remove">;
  readonly hostIp: () => string;
  /** The cluster's DNS servers and domain; none: pods take the node's. */
  readonly dns: () => { readonly servers: readonly string[]; readonly domain: string };
}

const SHM_BYTES = 64 * 1024 * 1024;
const NODE_RESOLV_CONF = ["/run/systemd/resolve/resolv.conf", "/etc/resolv.conf"];

const sum = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0);

/** Of the whole pod: what its containers may have together; unlimited as soon as one of them is. */
const podLimits = (pod: Assignment): CgroupLimits | undefined => {
  if (pod.qosClass === "BestEffort") return undefined; // the class's group has the least weight already
  const all = pod.containers;
  const total = (pick: (c: Assignment["containers"][number]) => number): number => (all.every((c) => pick(c) > 0) ? sum(all.map(pick)) : 0);
  return { cpuShares: cpuShares(sum(all.map((c) => c.requests?.milliCpu ?? c.limits?.milliCpu ?? 0))), cpuQuotaMilli: total((c) => c.limits?.milliCpu ?? 0), memoryBytes: total((c) => c.limits?.memoryBytes ?? 0), pids: 0 };
};

/** Linux takes at most 64 bytes, DNS 63 for one label; names of pods may be longer. Cut as kubelet does. */
export const podHostname = (pod: Assignment): string => (pod.hostname || pod.name).slice(0, 63).replace(/[-.]+$/, "");

export class Sandboxes {
  readonly #options: SandboxOptions;

  constructor(options: SandboxOptions) {
    this.#options = options;
  }

  directory(uid: string): string {
    return join(this.#options.runRoot, "pods", uid);
  }

  #ns(uid: string, type: "net" | "ipc" | "uts"): string {
    return join(this.directory(uid), "ns", type);
  }

  /** Returns the pod's address; "" on the host's network. What was made before a failure is undone. */
  make(pod: Assignment): string {
    const { namespaces, network, cgroups } = this.#options;
    try {
      namespaces.pinNamespaces({
        ...(pod.hostNetwork ? {} : { net: this.#ns(pod.uid, "net"), uts: this.#ns(pod.uid, "uts"), hostname: podHostname(pod) }),
        ...(pod.hostIpc ? {} : { ipc: this.#ns(pod.uid, "ipc") }),
      });
      const ip = pod.hostNetwork ? this.#options.hostIp() : network.attach(pod.uid, this.#ns(pod.uid, "net")).ip;
      this.#writeFiles(pod, ip);
      cgroups.create(podCgroupPath(pod.qosClass, pod.uid), podLimits(pod));
      return pod.hostNetwork ? "" : ip;
    } catch (error) {
      this.#undo(pod.uid);
      throw error;
    }
  }

  /** Still all there? Not after the machine was restarted. */
  isIntact(pod: Assignment): boolean {
    return (pod.hostNetwork || this.#options.namespaces.isPinned(this.#ns(pod.uid, "net"))) && existsSync(join(this.directory(pod.uid), "hosts"));
  }

  facts(pod: Assignment, ip: string): SandboxFacts {
    const directory = this.directory(pod.uid);
    const hostIp = this.#options.hostIp();
    return {
      namespaces: {
        network: pod.hostNetwork ? "host" : this.#ns(pod.uid, "net"), uts: pod.hostNetwork ? "host" : this.#ns(pod.uid, "uts"),
        ipc: pod.hostIpc ? "host" : this.#ns(pod.uid, "ipc"), ...(pod.hostPid ? { pid: "host" } : {}),
      },
      hostname: podHostname(pod), podIp: pod.hostNetwork ? hostIp : ip, hostIp, cgroupPath: podCgroupPath(pod.qosClass, pod.uid),
      files: new Map(["hosts", "hostname", "resolv.conf"].map((name) => [`/etc/${name}`, join(directory, name)])),
    };
  }

  /** POSIX shared memory is the pod's, not a container's; a pod of one container does with the container's own. */
  sharedMemory(pod: Assignment): RuntimeMount | undefined {
    if (pod.hostIpc) return { source: "/dev/shm", destination: "/dev/shm", type: "bind", options: ["rw"] };
    return allContainers(pod).length > 1 ? { source: join(this.directory(pod.uid), "shm"), destination: "/dev/shm", type: "bind", options: ["rw"] } : undefined;
  }

  /** Goes on when a step fails, and then throws the first error. */
  async remove(pod: Assignment): Promise<void> {
    this.#undo(pod.uid);
    // Of a pod whose record was lost the class is not known.
    for (const qosClass of pod.qosClass === "" ? ["Guaranteed", "Burstable", "BestEffort"] : [pod.qosClass]) await this.#options.cgroups.remove(podCgroupPath(qosClass, pod.uid));
  }

  /** Uids of pods that have something here. */
  present(): readonly string[] {
    const directory = join(this.#options.runRoot, "pods");
    return existsSync(directory) ? readdirSync(directory) : [];
  }

  #undo(uid: string): void {
    const { namespaces, network } = this.#options;
    const directory = this.directory(uid);
    const steps = [
      () => network.detach(uid),
      ...(["net", "ipc", "uts"] as const).map((type) => () => namespaces.unpin(this.#ns(uid, type))),
      () => {
        if (existsSync(join(directory, "shm"))) this.#options.mounts.unmount(join(directory, "shm"), { detach: true });
        rmSync(directory, { recursive: true, force: true });
      },
    ];
    let failure: unknown;
    for (const step of steps) {
      try {
        step();
      } catch (error) {
        failure ??= error;
      }
    }
    if (failure !== undefined) throw failure as Error;
  }

  #writeFiles(pod: Assignment, ip: string): void {
    const directory = this.directory(pod.uid);
    mkdirSync(directory, { recursive: true, mode: 0o755 });
    const dns = this.#options.dns();
    const nodeConf = NODE_RESOLV_CONF.find((path) => existsSync(path));
    const hostname = podHostname(pod);
    writeFileSync(join(directory, "hosts"), hostsFile({ ip, hostname, aliases: pod.hostAliases }));
    writeFileSync(join(directory, "hostname"), `${hostname}\n`);
    writeFileSync(join(directory, "resolv.conf"), resolvConf(pod.dns, { ...dns, namespace: pod.namespace }, nodeConf === undefined ? "" : readFileSync(nodeConf, "utf8")));
    const shm = join(directory, "shm");
    if (allContainers(pod).length > 1 && !pod.hostIpc && !existsSync(shm)) {
      mkdirSync(shm);
      this.#options.mounts.mountTmpfs(shm, { mode: 0o1777, sizeBytes: SHM_BYTES });
    }
  }
}
