// Ports of the node that lead to pods (hostPort): one packet filter table of its own, replaced as a whole by one `nft` for each change.
// Owns the table `inet gantry-ports-BRIDGE` and the bridge's route_localnet, in the network namespace that `run` works in. Pods without
// such ports never come here.
import { isIPv4 } from "node:net";
import { GantryError } from "../../base/errors.ts";
import type { RunCommand } from "./masquerade.ts";
import type { HostPort, PublishedPod } from "./pod-network.ts";

export interface HostPortsOptions {
  readonly bridgeName: string;
  readonly run: RunCommand;
  /** Lets the bridge take packets that come back to 127.0.0.0/8; in the node's network namespace. */
  readonly allowLoopback: () => void;
}

const isAny = (ip: string): boolean => ip === "" || ip === "0.0.0.0" || ip === "::";
const clash = (a: HostPort, b: HostPort): boolean => a.port === b.port && a.protocol === b.protocol && (a.hostIp === b.hostIp || isAny(a.hostIp) || isAny(b.hostIp));
const describe = ({ port, protocol, hostIp }: HostPort): string => `${isAny(hostIp) ? "" : `${hostIp}:`}${port}/${protocol}`;

export const portsTableName = (bridgeName: string): string => `gantry-ports-${bridgeName}`;

/**
 * "Invalid" for a port that can't be forwarded, "Conflict" for one that another pod has. The scheduler keeps pods with the same port
 * apart; one with spec.nodeName of its own goes past it.
 */
export const checkPorts = (podUid: string, pod: PublishedPod, others: ReadonlyMap<string, PublishedPod>): void => {
  for (const wanted of pod.ports) {
    if (!isAny(wanted.hostIp) && !isIPv4(wanted.hostIp)) throw new GantryError("Invalid", `hostIP ${JSON.stringify(wanted.hostIp)}: pods have IPv4 addresses only, so a port of an IPv6 address can't lead to one`);
    for (const [uid, other] of others) {
      if (uid === podUid || !other.ports.some((p) => clash(p, wanted))) continue;
      throw new GantryError("Conflict", `host port ${describe(wanted)} is taken on this node by pod ${other.name}`, { retryable: true });
    }
  }
};

/**
 * The whole table. Local addresses only: what passes through to elsewhere keeps its port. Translated on the way out of the node, too, is
 * what would otherwise be answered past it: from pods of this node (their answer would not come back here), and from 127.0.0.1.
 * The first chain keeps route_localnet from opening the node's loopback services to pods (the class of CVE-2020-8558).
 */
export const portRules = (bridgeName: string, pods: ReadonlyMap<string, PublishedPod>): string => {
  const table = `inet ${portsTableName(bridgeName)}`;
  const all = [...pods.values()].flatMap(({ ip, ports }) => ports.map((p) => ({ ...p, ip })));
  const target = ({ ip, containerPort }: { readonly ip: string; readonly containerPort: number }): string => `${ip} . ${containerPort}`;
  const any = all.filter((p) => isAny(p.hostIp)).map((p) => `${p.protocol.toLowerCase()} . ${p.port} : ${target(p)}`);
  const own = all.filter((p) => !isAny(p.hostIp)).map((p) => `${p.hostIp} . ${p.protocol.toLowerCase()} . ${p.port} : ${target(p)}`);
  // Of a pod that calls itself, which the bridge may turn round without that the second hook knows where it came in (br_netfilter).
  const selves = [...new Set(all.map(({ ip }) => `${ip} . ${ip}`))];
  const map = (name: string, type: string, elements: readonly string[]): string => `  map ${name} {
    type ${type}
${elements.length === 0 ? "" : `    elements = { ${elements.join(", ")} }\n`}  }
`;
  if (all.length === 0) return `add table ${table}\ndelete table ${table}\n`;
  return `add table ${table}
delete table ${table}
table ${table} {
${map("everywhere", "inet_proto . inet_service : ipv4_addr . inet_service", any)}${map("byaddress", "ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service", own)}  chain guard {
    type filter hook prerouting priority -300; policy accept;
    iifname "${bridgeName}" ip daddr 127.0.0.0/8 drop
  }
  chain forward {
    meta nfproto != ipv4 return
    dnat ip to ip daddr . meta l4proto . th dport map @byaddress
    dnat ip to meta l4proto . th dport map @everywhere
  }
  chain prerouting {
    type nat hook prerouting priority -100; policy accept;
    meta l4proto { tcp, udp, sctp } fib daddr type local jump forward
  }
  chain output {
    type nat hook output priority -100; policy accept;
    meta l4proto { tcp, udp, sctp } fib daddr type local jump forward
  }
  chain postrouting {
    type nat hook postrouting priority 99; policy accept;
    oifname "${bridgeName}" ct status dnat ip saddr 127.0.0.0/8 masquerade
    oifname "${bridgeName}" ct status dnat iifname "${bridgeName}" masquerade
    oifname "${bridgeName}" ct status dnat ip saddr . ip daddr { ${selves.join(", ")} } masquerade
  }
}
`;
};

export class HostPorts {
  readonly #options: HostPortsOptions;
  readonly #pods = new Map<string, PublishedPod>();
  /** What the kernel has; undefined: not known, an earlier agent's. */
  #applied: string | undefined;
  #applying: Promise<void> | undefined;

  constructor(options: HostPortsOptions) {
    this.#options = options;
  }

  /** Resolves when the ports lead to the pod. Idempotent. */
  async publish(podUid: string, pod: PublishedPod): Promise<void> {
    checkPorts(podUid, pod, this.#pods);
    this.#pods.set(podUid, pod);
    try {
      await this.#apply();
    } catch (error) {
      this.#pods.delete(podUid);
      throw error;
    }
  }

  async withdraw(podUid: string): Promise<void> {
    if (this.#pods.delete(podUid)) await this.#apply();
  }

  /** After a restart: these and no others. What an earlier agent set up works on until then. */
  async restore(pods: ReadonlyMap<string, PublishedPod>): Promise<void> {
    this.#pods.clear();
    for (const [uid, pod] of pods) this.#pods.set(uid, pod);
    // A node that never had any needs no nft.
    if (pods.size === 0 && !(await this.#isThere())) {
      this.#applied = portRules(this.#options.bridgeName, this.#pods);
      return;
    }
    await this.#apply();
  }

  async destroy(): Promise<void> {
    this.#pods.clear();
    if (await this.#isThere()) await this.#apply();
  }

  async #isThere(): Promise<boolean> {
    try {
      await this.#options.run("nft", ["list", "table", "inet", portsTableName(this.#options.bridgeName)]);
      return true;
    } catch {
      return false; // or no nft, and so no table either
    }
  }

  /** One nft at a time; what changes meanwhile goes into the next, which all wait for that asked meanwhile. */
  #apply(): Promise<void> {
    const before = this.#applying;
    const turn = (async () => {
      await before?.catch(() => undefined);
      const { bridgeName, run, allowLoopback } = this.#options;
      const rules = portRules(bridgeName, this.#pods);
      if (rules === this.#applied) return;
      if (this.#pods.size > 0) allowLoopback();
      this.#applied = undefined;
      try {
        await run("nft", ["-f", "-"], rules);
      } catch (error) {
        if (error instanceof GantryError && error.code === "NotFound") throw new GantryError("FailedPrecondition", "host ports need nft, which is not installed on this node; install the package nftables", { cause: error });
        throw error;
      }
      this.#applied = rules;
    })();
    this.#applying = turn;
    return turn;
  }
}
