// The cluster's range cut into one range of pod addresses per node (IPv4). Pure arithmetic, and the allocator that knows which are taken.
import { GantryError } from "../../base/errors.ts";

export interface Cidr {
  /** First address as a number. */
  readonly base: number;
  readonly prefix: number;
}

/** "Invalid" unless it is an IPv4 range written with its first address. */
export const parseCidr = (text: string): Cidr => {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})\/(\d{1,2})$/.exec(text);
  const fault = (why: string): GantryError => new GantryError("Invalid", `${JSON.stringify(text)} is not an IPv4 range such as 10.64.0.0/12: ${why}`);
  if (!match) throw fault("expected four numbers, a slash and a prefix length");
  const [a, b, c, d, prefix] = match.slice(1).map(Number) as [number, number, number, number, number];
  if (Math.max(a, b, c, d) > 255) throw fault("a number is above 255");
  if (prefix > 32) throw fault("the prefix length is above 32");
  const base = a * 2 ** 24 + b * 2 ** 16 + c * 2 ** 8 + d;
  if (base % 2 ** (32 - prefix) !== 0) throw fault("it does not begin at the first address of the range");
  return { base, prefix };
};

export const formatCidr = ({ base, prefix }: Cidr): string => `${[24, 16, 8, 0].map((shift) => Math.floor(base / 2 ** shift) % 256).join(".")}/${prefix}`;

/** Owns the assignment of ranges to nodes within one process; the store's fence keeps other processes out meanwhile. */
export class PodCidrAllocator {
  readonly #cluster: Cidr;
  readonly #nodePrefix: number;
  readonly #count: number;
  /** By range, so that two nodes that claim one are seen. */
  readonly #owners = new Map<string, string>();
  #next = 0;

  constructor(clusterCidr: string, nodeMask: number) {
    this.#cluster = parseCidr(clusterCidr);
    if (!Number.isInteger(nodeMask) || nodeMask < this.#cluster.prefix || nodeMask > 30) {
      throw new GantryError("Invalid", `node mask ${nodeMask}: must be between the cluster range's ${this.#cluster.prefix} and 30`);
    }
    this.#nodePrefix = nodeMask;
    this.#count = 2 ** (nodeMask - this.#cluster.prefix);
  }

  /** Records what the store says. False when another node has the range already. */
  reserve(nodeName: string, cidr: string): boolean {
    const owner = this.#owners.get(cidr);
    if (owner !== undefined && owner !== nodeName) return false;
    this.#owners.set(cidr, nodeName);
    return true;
  }

  release(nodeName: string, cidr: string): void {
    if (this.#owners.get(cidr) === nodeName) this.#owners.delete(cidr);
  }

  /** A range that nobody has, the longest unused one first: routes of a node that just left may linger. "TooManyRequests" when all are taken. */
  allocate(nodeName: string): string {
    for (let tried = 0; tried < this.#count; tried++) {
      const index = this.#next;
      this.#next = (this.#next + 1) % this.#count;
      const cidr = formatCidr({ base: this.#cluster.base + index * 2 ** (32 - this.#nodePrefix), prefix: this.#nodePrefix });
      if (this.#owners.has(cidr)) continue;
      this.#owners.set(cidr, nodeName);
      return cidr;
    }
    throw new GantryError("TooManyRequests", `no range of pod addresses is left for node ${nodeName}: ${formatCidr(this.#cluster)} holds ${this.#count} ranges of /${this.#nodePrefix}; choose a larger cluster range or remove nodes`);
  }
}
