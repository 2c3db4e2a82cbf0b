// A node's network and its agent's own records, against the pods that the API has on it: links, addresses, host ports, remembered pods.
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { NETWORK_ANNOTATION } from "../../base/kube/pod-extras.ts";
import type { Pod } from "../../base/kube/types.gen.ts";
import { inNetworkNamespace } from "../../node-agent/linux/namespaces.ts";
import { NetlinkSocket } from "../../node-agent/linux/netlink.ts";
import { portsTableName } from "../../node-agent/network/host-ports.ts";
import { hostLinkName } from "../../node-agent/network/linux-pod-network.ts";
import { runCommand } from "../../node-agent/network/masquerade.ts";
import { readLinks } from "../../node-agent/network/rtnetlink.ts";

/** --bridge of an agent, unless it is told otherwise. */
const BRIDGE = "gantry0";

export interface NodeRecords {
  /** Ports of the pods' bridge. */
  readonly links: readonly string[];
  /** Pod uid -> address. */
  readonly addresses: ReadonlyMap<string, string>;
  /** Pod uids. */
  readonly assignments: readonly string[];
  readonly records: readonly string[];
  /** "tcp 8080 -> 10.1.0.2 80"; with "198.18.0.2 " before it where it is for one address only. */
  readonly hostPorts: readonly string[];
}

/** A pod of the node, as the API has it. */
export interface NodePod {
  readonly pod: Pod;
  /** By the kernel. */
  readonly hasProcess: boolean;
}

const hasAddress = ({ spec, metadata }: Pod): boolean => !spec!.hostNetwork && metadata.annotations?.[NETWORK_ANNOTATION] !== "none";
const isOver = ({ status }: Pod): boolean => status?.phase === "Succeeded" || status?.phase === "Failed";

const portsOf = (pod: Pod): readonly string[] =>
  (pod.spec!.hostNetwork ? [] : pod.spec!.containers).flatMap((c) => c.ports ?? []).filter((p) => p.hostPort)
    .map((p) => `${p.hostIP && p.hostIP !== "0.0.0.0" ? `${p.hostIP} ` : ""}${(p.protocol ?? "TCP").toLowerCase()} ${p.hostPort} -> ${pod.status!.podIP} ${p.containerPort}`);

/** Pure. One line for each thing that is on one side only. */
export const networkDifferences = (node: string, { links, addresses, assignments, records, hostPorts }: NodeRecords, pods: readonly NodePod[]): readonly string[] => {
  const known = new Map(pods.map(({ pod }) => [pod.metadata.uid!, pod]));
  const may = [...known.values()].filter((pod) => hasAddress(pod) && !isOver(pod));
  const must = pods.filter(({ pod, hasProcess }) => hasProcess && hasAddress(pod)).map(({ pod }) => pod);
  const mayHave = new Set(may.map((pod) => hostLinkName(pod.metadata.uid!)));
  const publishable = new Set(may.flatMap(portsOf));
  const name = (uid: string): string => known.get(uid)?.metadata.name ?? uid;
  return [
    ...links.filter((link) => !mayHave.has(link)).map((link) => `link ${link} on ${node}: no pod has it`),
    ...[...addresses].filter(([uid]) => !may.some((pod) => pod.metadata.uid === uid)).map(([uid, ip]) => `address ${ip} on ${node}: it is kept for ${name(uid)}, which needs none`),
    ...([["assignment", assignments], ["record", records]] as const).flatMap(([what, uids]) => uids.filter((uid) => !known.has(uid)).map((uid) => `${what} ${uid} in the database of ${node}: no pod has this uid`)),
    ...hostPorts.filter((port) => !publishable.has(port)).map((port) => `host port ${port} on ${node}: no pod has it`),
    ...must.flatMap((pod) => {
      const { uid } = pod.metadata;
      const ip = addresses.get(uid!);
      return [
        ...(links.includes(hostLinkName(uid!)) ? [] : [`${pod.metadata.name} on ${node} runs without a link`]),
        ...(ip === pod.status?.podIP ? [] : [`${pod.metadata.name} on ${node} has the address ${pod.status?.podIP}, but ${ip} is kept for it`]),
        ...(assignments.includes(uid!) ? [] : [`${pod.metadata.name} runs on ${node} without an assignment in its database`]),
        ...portsOf(pod).filter((port) => !hostPorts.includes(port)).map((port) => `${pod.metadata.name} on ${node} runs without its host port ${port}`),
      ];
    }),
  ];
};

/** Elements of nftables' maps are [{concat: [key, ...]}, {concat: [address, port]}] (libnftables-json(5)). */
interface NftMap {
  readonly map?: { readonly elem?: readonly (readonly [{ readonly concat: readonly (string | number)[] }, { readonly concat: readonly (string | number)[] }])[] };
}

const readHostPorts = async (netnsPath: string): Promise<readonly string[]> => {
  const nft = (...args: readonly string[]): Promise<string> => runCommand("nsenter", [`--net=${netnsPath}`, "nft", ...args]);
  const table = portsTableName(BRIDGE);
  if (!(await nft("list", "tables")).split("\n").includes(`table inet ${table}`)) return [];
  const { nftables } = JSON.parse(await nft("-j", "list", "table", "inet", table)) as { nftables: readonly NftMap[] };
  return nftables.flatMap(({ map }) => map?.elem ?? []).map(([key, target]) => `${key.concat.join(" ")} -> ${target.concat.join(" ")}`);
};

/** Of the file that the agent may be writing: SQLite gives one moment of it. */
const readDatabase = (path: string): Pick<NodeRecords, "addresses" | "assignments" | "records"> => {
  const database = new DatabaseSync(path, { readOnly: true });
  try {
    const uids = (table: string): readonly string[] => (database.prepare(`SELECT uid FROM ${table}`).all() as { uid: string }[]).map(({ uid }) => uid);
    const addresses = database.prepare("SELECT uid, ip FROM addresses").all() as { uid: string; ip: string }[];
    return { assignments: uids("assignments"), records: uids("records"), addresses: new Map(addresses.map(({ uid, ip }) => [uid, ip])) };
  } finally {
    database.close();
  }
};

export const readNodeRecords = async ({ netnsPath, dataDir }: { readonly netnsPath: string; readonly dataDir: string }): Promise<NodeRecords> => {
  using socket = inNetworkNamespace(netnsPath, () => new NetlinkSocket());
  const links = readLinks(socket);
  const bridge = links.find((link) => link.name === BRIDGE)?.index;
  return {
    links: links.filter((link) => bridge !== undefined && link.kind === "veth" && (link.master === bridge || link.name.startsWith("gp"))).map((link) => link.name),
    ...readDatabase(join(dataDir, "state.db")), hostPorts: await readHostPorts(netnsPath),
  };
};
