// rtnetlink(7) as requests: links, addresses, routes. Pure but for reading dumps from a socket that it is given. Numbers are those of
// linux/if_link.h, if_addr.h and rtnetlink.h.
import { MessageFlags, parseAttributes, textOf } from "../linux/netlink.ts";
import type { Message, NetlinkSocket, Request } from "../linux/netlink.ts";

const RTM = { newLink: 16, delLink: 17, getLink: 18, setLink: 19, newAddress: 20, delAddress: 21, getAddress: 22, newRoute: 24, delRoute: 25, getRoute: 26 } as const;
const IFLA = { address: 1, name: 3, mtu: 4, master: 10, protocolInfo: 12, linkInfo: 18, alias: 20, afSpec: 26, group: 27, netnsFd: 28, txQueues: 31, rxQueues: 32 } as const;
const INFO = { kind: 1, data: 2 } as const;
const VETH_INFO_PEER = 1;
const BRIDGE = { forwardDelay: 1, stpState: 5 } as const;
const BRIDGE_PORT_HAIRPIN = 4;
const AF = { inet: 2, bridge: 7, inet6: 10, unspec: 0 } as const;
const INET6_ADDR_GEN_MODE = 8;
const ADDR_GEN_MODE_NONE = 1;
const IFF_UP = 1;
const IFA = { address: 1, local: 2, broadcast: 4 } as const;
const RTA = { destination: 1, outInterface: 4, gateway: 5, table: 15 } as const;
const MAIN_TABLE = 254;
const SCOPE = { universe: 0, link: 253 } as const;
const UNICAST = 1;
/** Of routes that an administrator set; ours carry a number of their own, so that we never touch others'. */
const PROTOCOL_BOOT = 3;

/** Four bytes of a dotted quad. */
export const addressBytes = (ip: string): Buffer => Buffer.from(ip.split(".").map(Number));
export const addressText = (bytes: Uint8Array): string => [...bytes].join(".");

const linkHeader = (index: number, flags = 0, change = 0, family: number = AF.unspec): Buffer => {
  const header = Buffer.alloc(16); // struct ifinfomsg: family, type, index, flags, change
  header.writeUInt8(family, 0);
  header.writeInt32LE(index, 4);
  header.writeUInt32LE(flags, 8);
  header.writeUInt32LE(change, 12);
  return header;
};

export interface Cidr {
  readonly ip: string;
  readonly prefixLength: number;
}

/** A bridge: no spanning tree, so that ports forward at once. */
export const addBridge = (name: string, { mtu, mac }: { readonly mtu: number; readonly mac: Uint8Array }): Request => ({
  what: `add bridge ${name}`, type: RTM.newLink, flags: MessageFlags.create | MessageFlags.exclusive,
  body: (w) => w.bytes(linkHeader(0)).string(IFLA.name, name).u32(IFLA.mtu, mtu).attribute(IFLA.address, mac)
    .nested(IFLA.linkInfo, (info) => info.string(INFO.kind, "bridge").nested(INFO.data, (data) => data.u32(BRIDGE.forwardDelay, 0).u32(BRIDGE.stpState, 0))),
});

export interface VethOptions {
  readonly name: string;
  readonly mtu: number;
  /** The other end, made in the network namespace that `netnsFd` is open on. It can only be set up once the pair is whole. */
  readonly peer: { readonly name: string; readonly netnsFd: number; readonly mac: Uint8Array };
}

/** With one queue each way: by default the kernel makes one per processor, and each costs as much as the rest of the link. */
export const addVeth = ({ name, mtu, peer }: VethOptions): Request => ({
  what: `add link ${name}`, type: RTM.newLink, flags: MessageFlags.create | MessageFlags.exclusive,
  body: (w) => w.bytes(linkHeader(0)).string(IFLA.name, name).u32(IFLA.mtu, mtu).u32(IFLA.txQueues, 1).u32(IFLA.rxQueues, 1)
    .nested(IFLA.linkInfo, (info) => info.string(INFO.kind, "veth").nested(INFO.data, (data) => data.nested(VETH_INFO_PEER, (end) =>
      end.bytes(linkHeader(0)).string(IFLA.name, peer.name).u32(IFLA.mtu, mtu).u32(IFLA.txQueues, 1).u32(IFLA.rxQueues, 1)
        .attribute(IFLA.address, peer.mac).u32(IFLA.netnsFd, peer.netnsFd)))),
});

/** No link-local IPv6 address, and so none of the multicast that comes with one: a bridge would copy it to every pod. */
export const withoutLinkLocal = (name: string): Request => ({
  what: `set ${name} without IPv6 address`, type: RTM.setLink, doneBy: "EAFNOSUPPORT", // by a kernel that has no IPv6
  body: (w) => w.bytes(linkHeader(0)).string(IFLA.name, name)
    .nested(IFLA.afSpec, (spec) => spec.nested(AF.inet6, (inet6) => inet6.u8(INET6_ADDR_GEN_MODE, ADDR_GEN_MODE_NONE))),
});

export interface LinkChange {
  readonly up?: boolean;
  /** Index of the bridge; 0 takes the link off its bridge. */
  readonly master?: number;
  readonly mtu?: number;
  /** What `ip link` shows to administrators. */
  readonly alias?: string;
}

export const setLink = (name: string, { up, master, mtu, alias }: LinkChange): Request => ({
  what: `set ${name}${up ? " up" : ""}`, type: RTM.setLink,
  body: (w) => {
    w.bytes(linkHeader(0, up ? IFF_UP : 0, up === undefined ? 0 : IFF_UP)).string(IFLA.name, name);
    if (master !== undefined) w.u32(IFLA.master, master);
    if (mtu !== undefined) w.u32(IFLA.mtu, mtu);
    if (alias !== undefined) w.string(IFLA.alias, alias);
  },
});

export const setLinkGroup = (name: string, group: number): Request => ({
  what: `put ${name} into group ${group}`, type: RTM.setLink, body: (w) => w.bytes(linkHeader(0)).string(IFLA.name, name).u32(IFLA.group, group),
});

/** Lets a bridge send a frame out of the port that it came in by. */
export const setHairpin = (index: number): Request => ({
  what: `set hairpin mode of link ${index}`, type: RTM.setLink,
  body: (w) => w.bytes(linkHeader(index, 0, 0, AF.bridge)).nested(IFLA.protocolInfo, (port) => port.u8(BRIDGE_PORT_HAIRPIN, 1)),
});

export const deleteLink = (name: string): Request => ({
  what: `delete link ${name}`, type: RTM.delLink, body: (w) => w.bytes(linkHeader(0)).string(IFLA.name, name),
});

/** All links of a group in one go: the kernel waits once, not once per link. */
export const deleteLinkGroup = (group: number): Request => ({
  what: `delete the links of group ${group}`, type: RTM.delLink, body: (w) => w.bytes(linkHeader(0)).u32(IFLA.group, group),
});

const addressRequest = (type: number, what: string, index: number, { ip, prefixLength }: Cidr): Request => ({
  what: `${what} ${ip}/${prefixLength}`, type, flags: type === RTM.newAddress ? MessageFlags.create | MessageFlags.replace : 0,
  body: (w) => {
    const header = Buffer.alloc(8); // struct ifaddrmsg: family, prefixlen, flags, scope, index
    header.set([AF.inet, prefixLength, 0, SCOPE.universe]);
    header.writeUInt32LE(index, 4);
    const bytes = addressBytes(ip);
    w.bytes(header).attribute(IFA.local, bytes).attribute(IFA.address, bytes);
    if (type === RTM.newAddress && prefixLength < 31) {
      const broadcast = Buffer.alloc(4);
      broadcast.writeUInt32BE((bytes.readUInt32BE() | (2 ** (32 - prefixLength) - 1)) >>> 0);
      w.attribute(IFA.broadcast, broadcast);
    }
  },
});

export const addAddress = (index: number, address: Cidr): Request => addressRequest(RTM.newAddress, "add address", index, address);
export const deleteAddress = (index: number, address: Cidr): Request => addressRequest(RTM.delAddress, "delete address", index, address);

export interface RouteSpec {
  /** The network; undefined for the default route. */
  readonly destination?: Cidr;
  readonly gateway?: string;
  readonly outInterface?: number;
  readonly protocol?: number;
}

const routeText = ({ destination, gateway }: RouteSpec): string =>
  `route ${destination ? `${destination.ip}/${destination.prefixLength}` : "default"}${gateway ? ` via ${gateway}` : ""}`;

const routeRequest = (type: number, flags: number, verb: string, route: RouteSpec): Request => ({
  what: `${verb} ${routeText(route)}`, type, flags,
  body: (w) => {
    const header = Buffer.alloc(12); // struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags
    header.set([AF.inet, route.destination?.prefixLength ?? 0, 0, 0, MAIN_TABLE, route.protocol ?? PROTOCOL_BOOT, route.gateway ? SCOPE.universe : SCOPE.link, UNICAST]);
    w.bytes(header);
    if (route.destination) w.attribute(RTA.destination, addressBytes(route.destination.ip));
    if (route.gateway) w.attribute(RTA.gateway, addressBytes(route.gateway));
    if (route.outInterface !== undefined) w.u32(RTA.outInterface, route.outInterface);
  },
});

export const replaceRoute = (route: RouteSpec): Request => routeRequest(RTM.newRoute, MessageFlags.create | MessageFlags.replace, "set", route);
export const deleteRoute = (route: RouteSpec): Request => routeRequest(RTM.delRoute, 0, "delete", route);

export interface Link {
  readonly index: number;
  readonly name: string;
  readonly kind: string;
  readonly up: boolean;
  readonly mtu: number;
  /** 0: none. */
  readonly master: number;
}

export const parseLink = ({ payload }: Message): Link => {
  const attributes = parseAttributes(payload.subarray(16));
  const info = attributes.get(IFLA.linkInfo);
  return {
    index: payload.readInt32LE(4), up: (payload.readUInt32LE(8) & IFF_UP) !== 0, name: textOf(attributes.get(IFLA.name)),
    kind: info ? textOf(parseAttributes(info).get(INFO.kind)) : "", mtu: attributes.get(IFLA.mtu)?.readUInt32LE() ?? 0, master: attributes.get(IFLA.master)?.readUInt32LE() ?? 0,
  };
};

export interface LinkAddress extends Cidr {
  readonly index: number;
}

export const parseAddress = ({ payload }: Message): LinkAddress => {
  const attributes = parseAttributes(payload.subarray(8));
  return { index: payload.readUInt32LE(4), prefixLength: payload.readUInt8(1), ip: addressText(attributes.get(IFA.local) ?? attributes.get(IFA.address) ?? Buffer.alloc(4)) };
};

export interface Route extends RouteSpec {
  readonly protocol: number;
}

/** undefined for what is not a unicast route of the main table. */
export const parseRoute = ({ payload }: Message): Route | undefined => {
  const attributes = parseAttributes(payload.subarray(12));
  const table = attributes.get(RTA.table)?.readUInt32LE() ?? payload.readUInt8(4);
  if (table !== MAIN_TABLE || payload.readUInt8(7) !== UNICAST) return undefined;
  const [destination, gateway, outInterface] = [attributes.get(RTA.destination), attributes.get(RTA.gateway), attributes.get(RTA.outInterface)];
  return {
    protocol: payload.readUInt8(5),
    ...(destination && { destination: { ip: addressText(destination), prefixLength: payload.readUInt8(1) } }),
    ...(gateway && { gateway: addressText(gateway) }),
    ...(outInterface && { outInterface: outInterface.readUInt32LE() }),
  };
};

export const readLinks = (socket: NetlinkSocket): readonly Link[] =>
  socket.dump("read links", RTM.getLink, (w) => w.bytes(linkHeader(0))).map(parseLink);

/** IPv4 only. */
export const readAddresses = (socket: NetlinkSocket): readonly LinkAddress[] =>
  socket.dump("read addresses", RTM.getAddress, (w) => w.bytes(Buffer.from([AF.inet, 0, 0, 0, 0, 0, 0, 0]))).map(parseAddress);

/** IPv4 unicast routes of the main table. */
export const readRoutes = (socket: NetlinkSocket): readonly Route[] =>
  socket.dump("read routes", RTM.getRoute, (w) => w.bytes(Buffer.concat([Uint8Array.of(AF.inet), Buffer.alloc(11)])))
    .flatMap((message) => parseRoute(message) ?? []);
