// Several hosts on one machine: a network namespace each, joined by veth pairs to one bridge, as machines are by a switch. `gantry up` and
// the tests run one node agent in each. Owns the bridge, the namespaces and the packet filter table named after the bridge.
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { GantryError } from "../../base/errors.ts";
import { isErrno } from "../linux/libc.ts";
import { inNetworkNamespace, isPinned, pinNamespaces, unpin } from "../linux/namespaces.ts";
import { NetlinkSocket } from "../linux/netlink.ts";
import { capacityOf, contains, formatCidr, formatIpv4, gatewayOf, parseCidr } from "./ipam.ts";
import { applyMasquerade, removeMasquerade } from "./masquerade.ts";
import * as rt from "./rtnetlink.ts";

export interface VirtualHost {
  /** From 1. */
  readonly number: number;
  readonly netnsPath: string;
  readonly address: string;
}

export interface VirtualHostsOptions {
  /** Of the bridge, and the start of its ports' names: at most 11 bytes. Unique on the machine. */
  readonly name: string;
  readonly count: number;
  /** The network that joins them; the machine itself has its first address. */
  readonly cidr: string;
  /** Where the namespaces are pinned. */
  readonly directory: string;
}

export interface VirtualHosts {
  readonly hosts: readonly VirtualHost[];
  /** The machine's own address on their network: where a control plane listens that all of them reach. */
  readonly gateway: string;
}

const MTU = 1500;

const hostAt = ({ cidr, directory }: VirtualHostsOptions, number: number): VirtualHost => ({
  number, netnsPath: join(directory, `host-${number}`), address: formatIpv4(parseCidr(cidr, "cidr").first + 1 + number),
});

const portName = (name: string, number: number): string => `${name}-${number}`;

/** Makes what is missing: also after a part of it went away. Throws "Invalid" for a range that is too small or in use here. */
export const ensureVirtualHosts = async (options: VirtualHostsOptions): Promise<VirtualHosts> => {
  const { name, count, directory } = options;
  const range = parseCidr(options.cidr, "cidr");
  if (!/^[a-z][a-z0-9-]{0,10}$/.test(name)) throw new GantryError("Invalid", `name "${name}": 1 to 11 lower-case letters, digits and dashes are allowed`);
  if (count > capacityOf(range)) throw new GantryError("Invalid", `cidr: ${options.cidr} has room for ${capacityOf(range)} hosts, not for ${count}`);
  const hosts = Array.from({ length: count }, (_, i) => hostAt(options, i + 1));
  const gateway = gatewayOf(range);
  mkdirSync(directory, { recursive: true });
  using socket = new NetlinkSocket();
  const bridge = ensureBridge(socket, name, { ip: gateway, prefixLength: range.prefixLength });
  for (const host of hosts) {
    if (!isPinned(host.netnsPath)) pinNamespaces({ net: host.netnsPath });
    connect(socket, host, portName(name, host.number), bridge, { gateway, prefixLength: range.prefixLength });
  }
  const forwarding = "/proc/sys/net/ipv4/ip_forward";
  if (readFileSync(forwarding, "utf8").trim() !== "1") writeFileSync(forwarding, "1");
  await applyMasquerade({ bridgeName: name, podCidr: formatCidr(range), clusterCidr: formatCidr(range) });
  return { hosts, gateway };
};

const ensureBridge = (socket: NetlinkSocket, name: string, address: rt.Cidr): number => {
  const find = (): rt.Link | undefined => rt.readLinks(socket).find((link) => link.name === name);
  if (!find()) {
    const range = parseCidr(`${address.ip}/${address.prefixLength}`, "cidr");
    const other = rt.readAddresses(socket).find((a) => contains(range, a.ip));
    if (other) throw new GantryError("Invalid", `cidr: ${formatCidr(range)} is in use on this machine (${other.ip}/${other.prefixLength}); choose another range`);
    socket.run([rt.addBridge(name, { mtu: MTU, mac: Uint8Array.of(0x0a, 0x58, ...rt.addressBytes(address.ip)) }), rt.withoutLinkLocal(name)]);
  }
  const { index } = find()!;
  socket.run([rt.setLink(name, { up: true }), rt.addAddress(index, address)]);
  return index;
};

const connect = (socket: NetlinkSocket, host: VirtualHost, port: string, bridge: number, { gateway, prefixLength }: { readonly gateway: string; readonly prefixLength: number }): void => {
  const netnsFd = openSync(host.netnsPath, "r");
  using inside = inNetworkNamespace(host.netnsPath, () => new NetlinkSocket());
  try {
    const mac = Uint8Array.of(0x0a, 0x58, ...rt.addressBytes(host.address));
    const [error] = socket.attempt([rt.addVeth({ name: port, mtu: MTU, peer: { name: "eth0", netnsFd, mac } })]);
    if (error && !isErrno(error, "EEXIST")) throw error;
    socket.run([rt.withoutLinkLocal(port), rt.setLink(port, { up: true, master: bridge })]);
    const { index } = rt.readLinks(inside).find((link) => link.name === "eth0")!;
    inside.run([rt.setLink("eth0", { up: true }), rt.addAddress(index, { ip: host.address, prefixLength }), rt.replaceRoute({ gateway })]);
  } finally {
    closeSync(netnsFd);
  }
};

/** Takes the host's port off the bridge: its interface stays up and its packets go nowhere, as behind a broken switch. */
export const cutHost = (name: string, number: number): void => {
  using socket = new NetlinkSocket();
  socket.run([rt.setLink(portName(name, number), { master: 0 })]);
};

export const restoreHost = (name: string, number: number): void => {
  using socket = new NetlinkSocket();
  const bridge = rt.readLinks(socket).find((link) => link.name === name);
  if (!bridge) throw new GantryError("NotFound", `there is no bridge ${name}`);
  socket.run([rt.setLink(portName(name, number), { master: bridge.index })]);
};

/** Removes bridge, ports, namespaces and rules; idempotent. Processes that still run in a namespace keep it, without a network. */
export const removeVirtualHosts = async ({ name, count, directory }: Pick<VirtualHostsOptions, "name" | "count" | "directory">): Promise<void> => {
  using socket = new NetlinkSocket();
  const names = [...Array.from({ length: count }, (_, i) => portName(name, i + 1)), name];
  const failed = socket.attempt(names.map(rt.deleteLink)).find((error) => error && !isErrno(error, "ENODEV"));
  if (failed) throw failed;
  for (let number = 1; number <= count; number++) await unpin(join(directory, `host-${number}`));
  await removeMasquerade(name);
};
