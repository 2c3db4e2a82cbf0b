// What a pod has before its first container and after its last: pinned namespaces, address and link, the files for /etc, the pod's
// cgroup. There is no process in it. Owns RUNROOT/pods/UID. Making and removing are idempotent.
import { chownSync, closeSync, existsSync, ftruncateSync, mkdirSync, openSync, readFileSync, readdirSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { HOSTS_GROUP_LABEL, NETWORK_ANNOTATION, hostsNames } from "../../base/kube/pod-extras.ts";
import { GantryError } from "../../base/errors.ts";
import { podCgroupPath } from "../cgroups/cgroup-tree.ts";
import type { IdMap } from "../linux/idmap.ts";
import type * as Mounts from "../linux/mount.ts";
import type { PinsOfPods } from "../linux/pins.ts";
import type { HostPort, PodNetwork, PublishedPod } from "../network/pod-network.ts";
import type { ContainerCgroups } from "../runtime/container-cgroups.ts";
import type { CgroupLimits, RuntimeMount } from "../runtime/container-runtime.ts";
import type { Container } from "../../proto/gen/gantry/v1/agent.ts";
import type { Assignment } from "./assignment.ts";
import { cpuShares, type SandboxFacts } from "./container-spec.ts";
import { hugePagesOfPod } from "./huge-pages.ts";
import { hostsFile, resolvConf } from "./pod-files.ts";
import { mostAtOnce, podContainers } from "./pod-record.ts";
import { chooseIds, IDS_PER_POD } from "./user-ids.ts";
import type { UserNamespaces } from "./user-namespaces.ts";

export interface SandboxOptions {
  readonly runRoot: string;
  readonly network: Pick<PodNetwork, "attach" | "detach" | "publish" | "withdraw">;
  readonly namespaces: PinsOfPods;
  readonly userNamespaces: UserNamespaces;
  readonly mounts: Pick<typeof Mounts, "mountTmpfs" | "detachElsewhere">;
  readonly cgroups: Pick<ContainerCgroups, "create" | "remove">;
  readonly hostIp: () => string;
  /** Until other work had its turn of the event loop: namespaces, a link and groups wait in the kernel, each for locks of its own. */
  readonly nextTurn: () => Promise<void>;
  /** The cluster's DNS servers and domain; none: pods take the node's. */
  readonly dns: () => { readonly servers: readonly string[]; readonly domain: string };
}

const SHM_BYTES = 64 * 1024 * 1024;
const NODE_RESOLV_CONF = ["/run/systemd/resolve/resolv.conf", "/etc/resolv.conf"];

/** Of the whole pod: what its containers may have at one time; unlimited as soon as one of them is. */
export const podLimits = (pod: Assignment): CgroupLimits | undefined => {
  if (pod.qosClass === "BestEffort") return undefined; // the class's group has the least weight already
  const limit = (of: (c: Container) => number): number => (podContainers(pod).every((c) => of(c) > 0) ? mostAtOnce(pod, of) : 0);
  return {
    cpuShares: cpuShares(mostAtOnce(pod, (c) => c.requests?.milliCpu ?? c.limits?.milliCpu ?? 0)), cpuQuotaMilli: limit((c) => c.limits?.milliCpu ?? 0), memoryBytes: limit((c) => c.limits?.memoryBytes ?? 0), pids: 0,
  };
};

const MAX_HOSTNAME = 64;

/** Linux takes at most 64 bytes, DNS 63 for one label; names of pods may be longer. Cut as kubelet does. */
export const podHostname = (pod: Assignment): string => {
  if (pod.fqdn !== "" && pod.hostname === pod.fqdn) {
    if (pod.fqdn.length > MAX_HOSTNAME) throw new GantryError("Invalid", `setHostnameAsFQDN: the name ${pod.fqdn} is too long (${MAX_HOSTNAME} characters is the max, ${pod.fqdn.length} characters requested)`);
    return pod.fqdn;
  }
  return (pod.hostname || pod.name).slice(0, 63).replace(/[-.]+$/, "");
};

/** Ports of the node that lead to the pod; on the host's network its ports are the node's already. */
const hostPortsOf = (pod: Assignment): readonly HostPort[] =>
  pod.hostNetwork ? [] : podContainers(pod).flatMap((c) => c.ports.filter((p) => p.hostPort > 0).map((p) => ({ port: p.hostPort, hostIp: p.hostIp, protocol: p.protocol || "TCP", containerPort: p.containerPort })));

export const publishedPod = (pod: Assignment, ip: string): PublishedPod => ({ name: `${pod.namespace}/${pod.name}`, ip, ports: hostPortsOf(pod) });

/** On the pod network; else on the node's, or on none. */
const isLinked = (pod: Assignment): boolean => !pod.hostNetwork && pod.annotations[NETWORK_ANNOTATION] !== "none";

export class Sandboxes {
  readonly #options: SandboxOptions;
  /** Of pods with a user namespace: uid -> first id. As the files `user-ids` say, which last as long as the namespaces do. */
  readonly #ids: Map<string, number>;

  constructor(options: SandboxOptions) {
    this.#options = options;
    this.#ids = new Map(this.present().flatMap((uid) => {
      const path = this.#idsFile(uid);
      return existsSync(path) ? [[uid, Number(readFileSync(path, "utf8"))] as const] : [];
    }));
  }

  directory(uid: string): string {
    return join(this.#options.runRoot, "pods", uid);
  }

  #pinOf(uid: string, type: "net" | "ipc" | "uts" | "user"): string {
    return join(this.directory(uid), "ns", type);
  }

  /** By which it is found. Namespaces that belong to users of their own are pinned in the machine's mount namespace. */
  #ns(uid: string, type: "net" | "ipc" | "uts" | "user"): string {
    const pin = this.#pinOf(uid, type);
    return this.#ids.has(uid) ? pin : this.#options.namespaces.pathOf(pin);
  }

  #idsFile(uid: string): string {
    return join(this.directory(uid), "user-ids");
  }

  /** Returns the pod's address; "" on the host's network. What was made before a failure is undone. */
  async make(pod: Assignment): Promise<string> {
    const { network, cgroups, nextTurn } = this.#options;
    try {
      this.#pin(pod);
      await nextTurn();
      const ip = isLinked(pod) ? (await network.attach(pod.uid, this.#ns(pod.uid, "net"))).ip : pod.hostNetwork ? this.#options.hostIp() : "";
      await nextTurn();
      this.#writeFiles(pod, ip);
      const limits = podLimits(pod);
      cgroups.create(podCgroupPath(pod.qosClass, pod.uid), limits && { ...limits, hugePages: hugePagesOfPod(pod) });
      return pod.hostNetwork ? "" : ip;
    } catch (error) {
      await this.#undo(pod.uid);
      throw error;
    }
  }

  #pin(pod: Assignment): void {
    if (pod.security?.userNamespace) return this.#pinOwned(pod);
    this.#options.namespaces.pinNamespaces({
      ...(pod.hostNetwork ? {} : { net: this.#pinOf(pod.uid, "net"), uts: this.#pinOf(pod.uid, "uts"), hostname: podHostname(pod), loopbackLater: isLinked(pod) }),
      ...(pod.hostIpc ? {} : { ipc: this.#pinOf(pod.uid, "ipc") }),
    });
  }

  /** The namespaces of a pod with users of its own. Which ids it has is noted first: they must not be given twice. */
  #pinOwned(pod: Assignment): void {
    const { userNamespaces } = this.#options;
    if (!userNamespaces.isSupported) throw new GantryError("FailedPrecondition", `hostUsers: false: this node can't give the pod a user namespace: ${userNamespaces.reason}`);
    const { uid } = pod;
    const firstId = this.#ids.get(uid) ?? chooseIds(userNamespaces.range, uid, new Set(this.#ids.values()));
    mkdirSync(this.directory(uid), { recursive: true, mode: 0o755 });
    writeFileSync(this.#idsFile(uid), String(firstId));
    this.#ids.set(uid, firstId);
    userNamespaces.pin({ firstId, user: this.#ns(uid, "user"), net: this.#ns(uid, "net"), ipc: this.#ns(uid, "ipc"), uts: this.#ns(uid, "uts"), hostname: podHostname(pod) });
  }

  /** How the ids of files are to show in the pod's containers; undefined: as they are. */
  idMap(uid: string): IdMap | undefined {
    const firstId = this.#ids.get(uid);
    return firstId === undefined ? undefined : { userNamespace: this.#ns(uid, "user"), firstId };
  }

  /** Host ports, for the few pods that have some: it takes a process. */
  async publish(pod: Assignment, ip: string): Promise<void> {
    const published = publishedPod(pod, ip);
    if (published.ports.length > 0) await this.#options.network.publish(pod.uid, published);
  }

  /** The limits of the pod as a whole; of several, as much as the most of them. */
  limit(pod: Assignment, ...shapes: readonly Assignment[]): void {
    const all = shapes.map(podLimits).filter((limits) => limits !== undefined);
    if (all.length === 0) return;
    const most = (pick: (limits: CgroupLimits) => number): number => (all.some((limits) => pick(limits) === 0) ? 0 : Math.max(...all.map(pick)));
    this.#options.cgroups.create(podCgroupPath(pod.qosClass, pod.uid), {
      cpuShares: Math.max(...all.map((limits) => limits.cpuShares)), cpuQuotaMilli: most((l) => l.cpuQuotaMilli), memoryBytes: most((l) => l.memoryBytes), pids: 0,
    });
  }

  /** Still all there? Not after the machine was restarted. */
  isIntact(pod: Assignment): boolean {
    return (pod.hostNetwork || this.#options.namespaces.isPinned(this.#ns(pod.uid, "net"))) && existsSync(join(this.directory(pod.uid), "hosts"));
  }

  #hosts(pod: Assignment, ip: string): string {
    // In a group a pod knows itself by the names by which the others know it.
    const own = pod.labels[HOSTS_GROUP_LABEL] ? hostsNames(pod).filter((n) => n !== podHostname(pod)) : [];
    return hostsFile({ ip, hostname: [podHostname(pod), ...own].join(" "), fqdn: pod.fqdn, aliases: pod.hostAliases });
  }

  /**
   * Brings /etc/hosts up to date. In place: containers have mounted this very file, and another one in its stead they would not see.
   * Overwritten first and cut then, so that nobody ever reads an empty file. `ip`: "" on the host's network.
   */
  refreshHosts(pod: Assignment, ip: string): void {
    const path = join(this.directory(pod.uid), "hosts");
    const text = this.#hosts(pod, pod.hostNetwork ? this.#options.hostIp() : ip);
    if (!existsSync(path) || readFileSync(path, "utf8") === text) return;
    const file = openSync(path, "r+");
    try {
      const bytes = Buffer.from(text);
      writeSync(file, bytes, 0, bytes.length, 0);
      ftruncateSync(file, bytes.length);
    } finally {
      closeSync(file);
    }
  }

  facts(pod: Assignment, ip: string): SandboxFacts {
    const directory = this.directory(pod.uid);
    const hostIp = this.#options.hostIp();
    const map = this.idMap(pod.uid);
    return {
      namespaces: {
        network: pod.hostNetwork ? "host" : this.#ns(pod.uid, "net"), uts: pod.hostNetwork ? "host" : this.#ns(pod.uid, "uts"),
        ipc: pod.hostIpc ? "host" : this.#ns(pod.uid, "ipc"), ...(pod.hostPid ? { pid: "host" } : {}),
        ...(map ? { user: { path: map.userNamespace, firstId: map.firstId, count: IDS_PER_POD } } : {}),
      },
      hostname: podHostname(pod), podIp: pod.hostNetwork ? hostIp : ip, hostIp, cgroupPath: podCgroupPath(pod.qosClass, pod.uid),
      files: new Map(["hosts", "hostname", "resolv.conf"].map((name) => [`/etc/${name}`, join(directory, name)])),
    };
  }

  /** POSIX shared memory is the pod's, not a container's; a pod of one container does with the container's own. */
  sharedMemory(pod: Assignment): RuntimeMount | undefined {
    if (pod.hostIpc) return { source: "/dev/shm", destination: "/dev/shm", type: "bind", options: ["rw"] };
    return podContainers(pod).length > 1 ? { source: join(this.directory(pod.uid), "shm"), destination: "/dev/shm", type: "bind", options: ["rw"] } : undefined;
  }

  /** Goes on when a step fails, and then throws the first error. */
  async remove(pod: Assignment): Promise<void> {
    await this.#options.network.withdraw(pod.uid);
    await this.#undo(pod.uid);
    // Of a pod whose record was lost the class is not known.
    for (const qosClass of pod.qosClass === "" ? ["Guaranteed", "Burstable", "BestEffort"] : [pod.qosClass]) await this.#options.cgroups.remove(podCgroupPath(qosClass, pod.uid));
  }

  /** Uids of pods that have something here. */
  present(): readonly string[] {
    const directory = join(this.#options.runRoot, "pods");
    return existsSync(directory) ? readdirSync(directory) : [];
  }

  async #undo(uid: string): Promise<void> {
    const { namespaces, network } = this.#options;
    const directory = this.directory(uid);
    const steps: readonly (() => void | Promise<void>)[] = [
      async () => void (await Promise.all((["net", "ipc", "uts", "user"] as const).map((type) => namespaces.unpin(this.#pinOf(uid, type))))),
      // The link goes with the namespace.
      () => network.detach(uid),
      async () => {
        if (existsSync(join(directory, "shm"))) await this.#options.mounts.detachElsewhere(join(directory, "shm"));
        rmSync(directory, { recursive: true, force: true });
        this.#ids.delete(uid);
      },
    ];
    let failure: unknown;
    for (const step of steps) {
      try {
        await step();
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
    writeFileSync(join(directory, "hosts"), this.#hosts(pod, ip));
    writeFileSync(join(directory, "hostname"), `${hostname}\n`);
    writeFileSync(join(directory, "resolv.conf"), resolvConf(pod.dns, { ...dns, namespace: pod.namespace }, nodeConf === undefined ? "" : readFileSync(nodeConf, "utf8")));
    const owner = this.#ids.get(pod.uid);
    // Root of the container may write them, as anywhere else.
    if (owner !== undefined) for (const name of ["hosts", "hostname", "resolv.conf"]) chownSync(join(directory, name), owner, owner);
    const shm = join(directory, "shm");
    if (podContainers(pod).length > 1 && !pod.hostIpc && !existsSync(shm)) {
      mkdirSync(shm);
      this.#options.mounts.mountTmpfs(shm, { mode: 0o1777, sizeBytes: SHM_BYTES, ...(owner === undefined ? {} : { owner }) });
    }
  }
}
