// The pod network of one node: a bridge, and for each pod a veth pair from it into the pod's pinned network namespace, by rtnetlink only.
// Owns the bridge, its ports, its packet filter table and the routes with our protocol number, in the network namespace in which it was
// made; touches nothing else there. The pod path spawns nothing.
import { createHash } from "node:crypto";
import { closeSync, openSync, readFileSync, writeFileSync } from "node:fs";
import type { Gauge, Histogram } from "prom-client";
import type { Clock } from "../../base/clock.ts";
import { GantryError, describeError } from "../../base/errors.ts";
import type { Logger } from "../../base/logger.ts";
import type { Metrics } from "../../base/metrics.ts";
import type { ClusterNetwork } from "../../proto/gen/gantry/v1/agent.ts";
import { isErrno } from "../linux/libc.ts";
import { inNetworkNamespace } from "../linux/namespaces.ts";
import { NetlinkSocket, type Request } from "../linux/netlink.ts";
import type { AddressStore } from "./address-store.ts";
import { HostPorts } from "./host-ports.ts";
import { allocate, capacityOf, contains, formatCidr, formatIpv4, gatewayOf, parseCidr } from "./ipam.ts";
import type { AddressRange } from "./ipam.ts";
import { applyMasquerade, removeMasquerade, runCommand } from "./masquerade.ts";
import type { RunCommand } from "./masquerade.ts";
import type { PodNetwork, PodSandboxNetwork, PublishedPod } from "./pod-network.ts";
import * as rt from "./rtnetlink.ts";

/** Route protocol numbers up to 4 are the kernel's and administrators', 186 and on those of routing daemons; see /etc/iproute2/rt_protos. */
export const GANTRY_ROUTE_PROTOCOL = 103;
/** Links on their way out are put into this group, and the group is deleted as one. */
const DOOMED_GROUP = 0x67616e74;
/** A pod's namespace takes its link along some time after it is unpinned, later where hundreds are: what is left after this time was not unpinned. */
const DRAIN_DELAY_MS = 1000;
/** The kernel keeps the answers to one batch in a socket's buffer (net.core.rmem_default, 200 KiB). */
const MOST_DELETIONS = 100;
const POD_LINK = "eth0";
const DEFAULT_MTU = 1500;

export interface LinuxPodNetworkOptions {
  /** At most 15 bytes; two agents in one network namespace need two names. */
  readonly bridgeName: string;
  readonly addresses: AddressStore;
  /** Where other nodes reach this one: pods get the MTU of its interface. */
  readonly nodeAddress: string;
  /** File of the network namespace that all of it lives in; absent: the agent's own. */
  readonly netnsPath?: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

/** A link's name has 15 bytes, a pod's uid 36: 48 bits of its hash do. */
export const hostLinkName = (podUid: string): string => `gp${createHash("sha256").update(podUid).digest("hex").slice(0, 12)}`;

/** The address as MAC: whoever gets it again is reached at once, whatever neighbours remember. 0a: locally administered. */
const macOf = (ip: string): Uint8Array => Uint8Array.of(0x0a, 0x58, ...rt.addressBytes(ip));

export class LinuxPodNetwork implements PodNetwork {
  readonly #options: LinuxPodNetworkOptions;
  readonly #socket: NetlinkSocket;
  readonly #run: RunCommand;
  readonly #hostPorts: HostPorts;
  readonly #addressOf: Map<string, string>;
  /** Addresses that no pod may get: those of pods, and those whose link may still be there. */
  readonly #used: Set<string>;
  /** Given back, but the link may still be there: by link name. */
  readonly #draining = new Map<string, { readonly ip: string; readonly dueMs: number }>();
  readonly #setupSeconds: Histogram;
  readonly #unreachableNodes: Gauge;
  #drainTimer: Disposable | undefined;
  #drainsNow: Promise<void> | undefined;
  #range: AddressRange | undefined;
  #bridgeIndex = 0;
  #mtu = DEFAULT_MTU;
  #lastAddress: string | undefined;
  #appliedRules = "";
  #configuring: Promise<void> = Promise.resolve();
  #problems: readonly string[] = [];
  #closed = false;

  constructor(options: LinuxPodNetworkOptions) {
    if (!/^[\w.-]{1,15}$/.test(options.bridgeName)) {
      throw new GantryError("Invalid", `bridge name "${options.bridgeName}": 1 to 15 letters, digits, dots, dashes or underscores are allowed`);
    }
    this.#options = options;
    const { netnsPath } = options;
    this.#socket = this.#inside(() => new NetlinkSocket());
    this.#run = netnsPath === undefined ? runCommand : (command, args, input) => runCommand("nsenter", [`--net=${netnsPath}`, command, ...args], input);
    this.#hostPorts = new HostPorts({ bridgeName: options.bridgeName, run: this.#run, allowLoopback: () => this.#inside(() => routeLoopback(options.bridgeName)) });
    this.#addressOf = new Map(options.addresses.load());
    this.#used = new Set(this.#addressOf.values());
    this.#lastAddress = [...this.#addressOf.values()].at(-1);
    this.#setupSeconds = options.metrics.histogram("gantry_pod_network_setup_seconds", "Time to give a pod its address and link.", [], [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1]);
    options.metrics.gauge("gantry_pod_network_addresses_used", "Addresses of the node's pod range that are taken.", [], (gauge) => gauge.set(this.#used.size));
    options.metrics.gauge("gantry_pod_network_addresses", "Addresses that the node's pod range has for pods.", [], (gauge) => gauge.set(this.#range ? capacityOf(this.#range) : 0));
    this.#unreachableNodes = options.metrics.gauge("gantry_pod_network_unreachable_nodes", "Nodes whose pods this node has no route to.");
  }

  #inside<T>(fn: () => T): T {
    return this.#options.netnsPath === undefined ? fn() : inNetworkNamespace(this.#options.netnsPath, fn);
  }

  /** What is wrong with the last configuration, in words for a node condition. */
  get problems(): readonly string[] {
    return this.#problems;
  }

  configure(network: ClusterNetwork): Promise<void> {
    // One after the other: two that wait for nft at the same time could end in the older's rules.
    const done = this.#configuring.then(() => this.#configure(network));
    this.#configuring = done.catch(() => undefined);
    return done;
  }

  async #configure(network: ClusterNetwork): Promise<void> {
    if (network.podCidr === "") return; // not allocated yet: it comes with the next message
    const range = parseCidr(network.podCidr, "podCidr");
    const cluster = parseCidr(network.clusterCidr, "clusterCidr");
    if (capacityOf(range) < 1) throw new GantryError("Invalid", `podCidr: "${network.podCidr}" has no room for pods; a /30 is the least`);
    this.#inside(forwardPackets);
    this.#mtu = this.#uplinkMtu();
    this.#ensureBridge(range);
    this.#range = range;
    this.#problems = this.#updateRoutes(network, range);
    this.#unreachableNodes.set(this.#problems.length);
    for (const problem of this.#problems) this.#options.logger.error(problem);

    const rules = { bridgeName: this.#options.bridgeName, podCidr: formatCidr(range), clusterCidr: formatCidr(cluster) };
    const wanted = JSON.stringify(rules);
    if (this.#appliedRules === wanted) return;
    const tool = await applyMasquerade(rules, this.#run);
    this.#appliedRules = wanted;
    this.#options.logger.info("pod network is up", { ...rules, mtu: this.#mtu, tool });
  }

  /** Of the interface that has the node's address; else of the default route's: what is larger would be dropped on the way to other nodes. */
  #uplinkMtu(): number {
    const index = rt.readAddresses(this.#socket).find((address) => address.ip === this.#options.nodeAddress)?.index
      ?? rt.readRoutes(this.#socket).find((route) => !route.destination)?.outInterface;
    const uplink = rt.readLinks(this.#socket).find((link) => link.index === index);
    return uplink && uplink.name !== "lo" ? uplink.mtu : DEFAULT_MTU;
  }

  #ensureBridge(range: AddressRange): void {
    const { bridgeName } = this.#options;
    const gateway = { ip: gatewayOf(range), prefixLength: range.prefixLength };
    let bridge = this.#findLink(bridgeName);
    if (bridge && bridge.kind !== "bridge") {
      throw new GantryError("FailedPrecondition", `the link ${bridgeName} exists and is no bridge (${bridge.kind || "a device"}); rename it or give this agent another bridge name`);
    }
    if (!bridge) {
      this.#socket.run([rt.addBridge(bridgeName, { mtu: this.#mtu, mac: macOf(gateway.ip) }), rt.withoutLinkLocal(bridgeName)]);
      bridge = this.#findLink(bridgeName)!;
    }
    const { index } = bridge;
    const present = rt.readAddresses(this.#socket).filter((address) => address.index === index);
    const stale = present.filter((address) => address.ip !== gateway.ip || address.prefixLength !== gateway.prefixLength);
    this.#socket.run([
      ...stale.map((address) => rt.deleteAddress(index, address)),
      ...(present.length > stale.length ? [] : [rt.addAddress(index, gateway)]),
      rt.setLink(bridgeName, { up: true, ...(bridge.mtu === this.#mtu ? {} : { mtu: this.#mtu }) }),
    ]);
    this.#bridgeIndex = index;
  }

  #findLink(name: string): rt.Link | undefined {
    return rt.readLinks(this.#socket).find((link) => link.name === name);
  }

  /** Sets and deletes until ours are those of `network`. Returns what can't be reached and why. */
  #updateRoutes(network: ClusterNetwork, own: AddressRange): readonly string[] {
    const wanted = new Map<string, { readonly node: string; readonly via: string; readonly route: rt.RouteSpec }>();
    for (const { nodeName, podCidr, via } of network.routes) {
      if (via === this.#options.nodeAddress) continue;
      const range = parseCidr(podCidr, `routes[${nodeName}].podCidr`);
      if (range.first === own.first) continue;
      const destination = { ip: formatIpv4(range.first), prefixLength: range.prefixLength };
      wanted.set(formatCidr(range), { node: nodeName, via, route: { destination, gateway: via, protocol: GANTRY_ROUTE_PROTOCOL } });
    }
    const present = this.#ownRoutes();
    const upToDate = new Set<string>();
    const stale: rt.Route[] = [];
    for (const route of present) {
      const cidr = `${route.destination!.ip}/${route.destination!.prefixLength}`;
      if (wanted.get(cidr)?.via === route.gateway) upToDate.add(cidr);
      else if (!wanted.has(cidr)) stale.push(route);
    }
    const missing = [...wanted].filter(([cidr]) => !upToDate.has(cidr));
    this.#attemptDeletions(stale.map(rt.deleteRoute));
    const results = this.#socket.attempt(missing.map(([, { route }]) => rt.replaceRoute(route)));
    return results.flatMap((error, i) => {
      if (!error) return [];
      const [cidr, { node, via }] = missing[i]!;
      const why = isErrno(error, "ENETUNREACH", "EINVAL", "EHOSTUNREACH")
        ? `its address ${via} is not on a network of this node, and tunnels between networks are not there yet; put the nodes on one network`
        : describeError(error);
      return [`no route to the pods of node ${node} (${cidr}): ${why}`];
    });
  }

  #ownRoutes(): readonly rt.Route[] {
    return rt.readRoutes(this.#socket).filter((route) => route.protocol === GANTRY_ROUTE_PROTOCOL && route.destination && route.gateway);
  }

  async attach(podUid: string, netnsPath: string): Promise<PodSandboxNetwork> {
    const range = this.#range;
    if (!range) throw new GantryError("FailedPrecondition", "this node has no pod CIDR yet: the control plane allocates one when the node registers");
    if (this.#draining.has(hostLinkName(podUid))) {
      // Detached a moment ago: its old link must not be taken for the new one, nor the new one for the old.
      await this.#drainsNow;
      this.#drain();
    }
    const startedMs = this.#options.clock.monotonicMs();
    const known = this.#addressOf.get(podUid);
    const ip = known !== undefined && contains(range, known) ? known : this.#allocate(podUid, range);
    try {
      await this.#link(podUid, ip, range, netnsPath);
    } catch (error) {
      this.detach(podUid);
      throw error;
    }
    this.#setupSeconds.observe((this.#options.clock.monotonicMs() - startedMs) / 1000);
    return { ip, gateway: gatewayOf(range), prefixLength: range.prefixLength };
  }

  #allocate(podUid: string, range: AddressRange): string {
    let ip = allocate(range, this.#used, this.#lastAddress);
    if (ip === undefined && this.#draining.size > 0) {
      this.#drain();
      ip = allocate(range, this.#used, this.#lastAddress);
    }
    if (ip === undefined) {
      throw new GantryError("TooManyRequests", `all ${capacityOf(range)} addresses of the node's pod range ${formatCidr(range)} are taken; give nodes larger ranges or use more nodes`);
    }
    const previous = this.#addressOf.get(podUid);
    if (previous !== undefined) this.#used.delete(previous);
    this.#options.addresses.save(podUid, ip);
    this.#addressOf.set(podUid, ip);
    this.#used.add(ip);
    this.#lastAddress = ip;
    return ip;
  }

  /** What is asked of the kernel waits for whoever changes links, as the end of other pods' namespaces does: in the pool's threads. */
  async #link(podUid: string, ip: string, range: AddressRange, netnsPath: string): Promise<void> {
    const name = hostLinkName(podUid);
    const address = { ip, prefixLength: range.prefixLength };
    const netnsFd = openSync(netnsPath, "r");
    // Not the one that all share: other pods are linked at the same time.
    using outside = this.#inside(() => new NetlinkSocket());
    using inside = inNetworkNamespace(netnsPath, () => new NetlinkSocket());
    try {
      const requests = [
        rt.addVeth({ name, mtu: this.#mtu, peer: { name: POD_LINK, netnsFd, mac: macOf(ip) } }),
        rt.withoutLinkLocal(name),
        rt.setLink(name, { up: true, master: this.#bridgeIndex, alias: `pod ${podUid}` }),
      ];
      const [exists, ...others] = await outside.attemptElsewhere(requests);
      if (isErrno(exists, "EEXIST")) {
        if (this.#isComplete(name, address, inside)) return;
        this.#attemptDeletions([rt.deleteLink(name)]);
        this.#socket.run(requests);
      } else {
        const error = exists ?? others.find((result) => result !== undefined);
        if (error) throw error;
      }
      // Not always 2: some hosts put tunnel devices into every namespace (net.core.fb_tunnels_only_for_init_net).
      const index = inside.indexOf(POD_LINK);
      await inside.runElsewhere([rt.setLink("lo", { up: true }), rt.withoutLinkLocal(POD_LINK), rt.setLink(POD_LINK, { up: true }), rt.addAddress(index, address), rt.replaceRoute({ gateway: gatewayOf(range) })]);
    } finally {
      closeSync(netnsFd);
    }
  }

  /** A pod that was set up before this agent started, or a step that is done again. */
  #isComplete(name: string, address: rt.Cidr, inside: NetlinkSocket): boolean {
    const host = this.#findLink(name);
    const pod = rt.readLinks(inside).find((link) => link.name === POD_LINK);
    return host?.up === true && host.master === this.#bridgeIndex && pod?.up === true
      && rt.readAddresses(inside).some((a) => a.index === pod.index && a.ip === address.ip && a.prefixLength === address.prefixLength)
      && rt.readRoutes(inside).some((route) => !route.destination);
  }

  detach(podUid: string): void {
    const ip = this.#addressOf.get(podUid);
    if (ip === undefined) return;
    this.#addressOf.delete(podUid);
    this.#options.addresses.delete(podUid);
    // Deleting a link makes the caller wait 20 ms for the kernel. The pod's namespace, once unpinned, takes its link along in the
    // background, many together: so that is awaited, and only what is still there then is deleted here, all at once.
    this.#draining.set(hostLinkName(podUid), { ip, dueMs: this.#options.clock.monotonicMs() + DRAIN_DELAY_MS });
    this.#drainLater();
  }

  #drainLater(): void {
    const [next] = this.#draining.values();
    // As many as possible at once.
    if (next) this.#drainTimer ??= this.#options.clock.setTimer(Math.max(next.dueMs - this.#options.clock.monotonicMs(), DRAIN_DELAY_MS / 2), () => {
      this.#drainsNow = this.#drainDue();
    });
  }

  async #drainDue(): Promise<void> {
    const { clock, logger } = this.#options;
    const due = new Map([...this.#draining].filter(([, { dueMs }]) => dueMs <= clock.monotonicMs()));
    // Some may be drained meanwhile, and their addresses be others'.
    const left = (): readonly (readonly [string, { readonly ip: string }])[] => [...due].filter(([name, entry]) => this.#draining.get(name) === entry);
    try {
      using socket = this.#inside(() => new NetlinkSocket());
      for (const batch of deletions([...due.keys()])) checkDeletions(await socket.attemptElsewhere(batch));
      for (const [name, { ip }] of left()) this.#free(name, ip);
    } catch (error) {
      logger.error("can't delete links of pods that are gone", { err: error });
      for (const [name, { ip }] of left()) {
        this.#draining.delete(name); // to the end
        this.#draining.set(name, { ip, dueMs: clock.monotonicMs() + DRAIN_DELAY_MS });
      }
    }
    this.#drainTimer = undefined;
    if (!this.#closed) this.#drainLater();
  }

  #free(linkName: string, ip: string): void {
    this.#draining.delete(linkName);
    this.#used.delete(ip);
  }

  /** Now: deletes the links that are left of detached pods, and lets their addresses be used again. */
  #drain(): void {
    if (this.#draining.size === 0) return;
    this.#deleteLinks([...this.#draining.keys()]);
    for (const [name, { ip }] of this.#draining) this.#free(name, ip);
  }

  #deleteLinks(names: readonly string[]): void {
    for (const batch of deletions(names)) this.#attemptDeletions(batch);
  }

  #attemptDeletions(requests: readonly Request[]): void {
    checkDeletions(this.#socket.attempt(requests));
  }

  publish(podUid: string, pod: PublishedPod): Promise<void> {
    // Where the bridge hands frames to netfilter (br_netfilter), what a pod sends to a host port of its own is turned round in the bridge.
    const link = this.#findLink(hostLinkName(podUid));
    if (link) this.#socket.run([rt.setHairpin(link.index)]);
    return this.#hostPorts.publish(podUid, pod);
  }

  withdraw(podUid: string): Promise<void> {
    return this.#hostPorts.withdraw(podUid);
  }

  restorePublished(pods: ReadonlyMap<string, PublishedPod>): Promise<void> {
    return this.#hostPorts.restore(pods);
  }

  reconcile(podUids: ReadonlySet<string>): void {
    for (const podUid of this.#addressOf.keys()) if (!podUids.has(podUid)) this.detach(podUid);
    this.#drain();
    const expected = new Set([...podUids].map(hostLinkName));
    this.#deleteLinks(this.#ports().map((link) => link.name).filter((name) => !expected.has(name)));
  }

  #ports(): readonly rt.Link[] {
    const links = rt.readLinks(this.#socket);
    const bridge = links.find((link) => link.name === this.#options.bridgeName && link.kind === "bridge");
    return bridge ? links.filter((link) => link.kind === "veth" && link.master === bridge.index) : [];
  }

  async destroy(): Promise<void> {
    await this.#configuring;
    for (const podUid of this.#addressOf.keys()) this.detach(podUid);
    this.#drain();
    this.#deleteLinks(this.#ports().map((link) => link.name));
    this.#attemptDeletions(this.#ownRoutes().map(rt.deleteRoute));
    if (this.#findLink(this.#options.bridgeName)?.kind === "bridge") this.#attemptDeletions([rt.deleteLink(this.#options.bridgeName)]);
    await this.#hostPorts.destroy();
    await removeMasquerade(this.#options.bridgeName, this.#run);
    this.#range = undefined;
    this.#appliedRules = "";
  }

  /** Lets go of the socket and timer; the network itself stays. */
  close(): void {
    this.#closed = true;
    this.#drainTimer?.[Symbol.dispose]();
    this.#socket.close();
  }
}

/** Links go as a group: one wait for all. */
const deletions = (names: readonly string[]): readonly (readonly Request[])[] =>
  Array.from({ length: Math.ceil(names.length / MOST_DELETIONS) }, (_, i) => [
    ...names.slice(i * MOST_DELETIONS, (i + 1) * MOST_DELETIONS).map((name) => rt.setLinkGroup(name, DOOMED_GROUP)), rt.deleteLinkGroup(DOOMED_GROUP),
  ]);

/** What is gone already is what was wanted. */
const checkDeletions = (results: ReturnType<NetlinkSocket["attempt"]>): void => {
  const error = results.find((result) => result !== undefined && !isErrno(result, "ENODEV", "ESRCH", "ENOENT"));
  if (error) throw error;
};

/** Of this network namespace: /proc/sys/net shows the reader's own. */
const forwardPackets = (): void => {
  const file = "/proc/sys/net/ipv4/ip_forward";
  if (readFileSync(file, "utf8").trim() === "1") return;
  try {
    writeFileSync(file, "1");
  } catch (error) {
    throw new GantryError("FailedPrecondition", `can't turn on packet forwarding (${file}): pods would reach nobody outside of this node`, { cause: error });
  }
};

/** What the node sends to a host port of its 127.0.0.1 comes back by the bridge, with that address again: dropped as a martian otherwise. */
const routeLoopback = (bridgeName: string): void => {
  writeFileSync(`/proc/sys/net/ipv4/conf/${bridgeName}/route_localnet`, "1");
};
