// The scheduler's picture of the cluster: one row a node, numbers in typed arrays, updated incrementally by events and by
// assumptions. It can be thrown away and rebuilt from the cache at any time (a property test does and compares). Owned by
// scheduler.ts; nobody else writes it.
import type { Node, Pod } from "../../base/kube/types.gen.ts";
import { parseAmounts, placedRequests, type Amounts } from "../../base/kube/pod-requests.ts";
import { controllerOf, hostPortsOf, type HostPort } from "./pod-class.ts";

/** A growing column of numbers, 0 where never set. */
class Column {
  #values = new Float64Array(16);

  get(row: number): number {
    return this.#values[row] ?? 0;
  }

  set(row: number, value: number): void {
    if (row >= this.#values.length) {
      const wider = new Float64Array(Math.max(this.#values.length * 2, row + 1));
      wider.set(this.#values);
      this.#values = wider;
    }
    this.#values[row] = value;
  }

  add(row: number, delta: number): void {
    this.set(row, this.get(row) + delta);
  }
}

interface Placement {
  readonly row: number;
  /** Of all that its requests depend on. */
  readonly version: string;
  readonly requests: Amounts;
  readonly hostPorts: readonly HostPort[];
  readonly owner: string;
}

/** Requests change only by a resize: in the spec, or in what the node says that it has set aside. */
const versionOf = ({ metadata, status }: Pod): string => {
  const resized = status?.containerStatuses?.some((c) => c.allocatedResources) ? JSON.stringify([...(status.containerStatuses ?? []), ...(status.initContainerStatuses ?? [])].map((c) => [c.allocatedResources, c.resources?.requests])) : "";
  return `${metadata.generation ?? 0} ${resized}`;
};

export class NodeTable {
  readonly #rows = new Map<string, number>();
  readonly #nodes: (Node | undefined)[] = [];
  readonly #free: number[] = [];
  readonly #allocatable = new Map<string, Column>();
  readonly #requested = new Map<string, Column>();
  readonly #hostPorts: HostPort[][] = [];
  readonly #imageBytes: Map<string, number>[] = [];
  readonly #owners = new Map<string, Map<number, number>>();
  readonly #placements = new Map<string, Placement>();
  /** Pods bound to nodes that the table doesn't show (yet), by node name. */
  readonly #homeless = new Map<string, Map<string, Pod>>();
  readonly #versions: number[] = [];
  /** Rows in the order of their changes; a reader remembers how far it has read. See changesSince. */
  #changes: number[] = [];
  #changesBase = 0;

  /** Rows that hold a node, in no particular order. */
  *rows(): Iterable<number> {
    yield* this.#rows.values();
  }

  get size(): number {
    return this.#rows.size;
  }

  node(row: number): Node {
    return this.#nodes[row]!;
  }

  nodeName(row: number): string {
    return this.#nodes[row]!.metadata.name!;
  }

  rowOf(nodeName: string): number | undefined {
    return this.#rows.get(nodeName);
  }

  /** Changes whenever anything about the row does. A row that holds no node has version -1. */
  version(row: number): number {
    return this.#nodes[row] ? this.#versions[row]! : -1;
  }

  allocatable(row: number, resource: string): number {
    return this.#allocatable.get(resource)?.get(row) ?? 0;
  }

  requested(row: number, resource: string): number {
    return this.#requested.get(resource)?.get(row) ?? 0;
  }

  hostPorts(row: number): readonly HostPort[] {
    return this.#hostPorts[row]!;
  }

  imageBytes(row: number, image: string): number {
    return this.#imageBytes[row]!.get(image) ?? 0;
  }

  /** How many of the owner's pods the row has. */
  ownerCount(row: number, owner: string): number {
    return this.#owners.get(owner)?.get(row) ?? 0;
  }

  get changeCount(): number {
    return this.#changesBase + this.#changes.length;
  }

  /** Rows changed since the reader's count, perhaps more than once each; undefined when that is too long ago to tell. */
  changesSince(count: number): readonly number[] | undefined {
    return count < this.#changesBase ? undefined : this.#changes.slice(count - this.#changesBase);
  }

  setNode(node: Node): void {
    const name = node.metadata.name!;
    let row = this.#rows.get(name);
    if (row === undefined) {
      row = this.#free.pop() ?? this.#nodes.length;
      this.#rows.set(name, row);
      this.#hostPorts[row] = [];
      for (const column of this.#requested.values()) column.set(row, 0);
    }
    const previous = this.#nodes[row];
    this.#nodes[row] = node;
    this.#fill(row, previous, node);
    this.#touch(row);
    const waiting = this.#homeless.get(name);
    this.#homeless.delete(name);
    for (const pod of waiting?.values() ?? []) this.place(pod, name);
  }

  #fill(row: number, previous: Node | undefined, node: Node): void {
    const amounts = parseAmounts(node.status?.allocatable ?? node.status?.capacity);
    for (const column of this.#allocatable.values()) column.set(row, 0);
    for (const [resource, amount] of Object.entries(amounts)) column(this.#allocatable, resource).set(row, amount);
    if (previous?.status?.images !== node.status?.images || !this.#imageBytes[row] || !previous) {
      this.#imageBytes[row] = new Map((node.status?.images ?? []).flatMap((i) => (i.names ?? []).map((n) => [n, i.sizeBytes ?? 0] as const)));
    }
  }

  removeNode(name: string): void {
    const row = this.#rows.get(name);
    if (row === undefined) return;
    this.#rows.delete(name);
    this.#nodes[row] = undefined;
    for (const [uid, placement] of this.#placements) if (placement.row === row) this.remove(uid);
    for (const column of this.#allocatable.values()) column.set(row, 0);
    this.#free.push(row);
    this.#touch(row);
  }

  isPlaced(uid: string): boolean {
    return this.#placements.has(uid);
  }

  /** Counts a pod on a node, assumed or bound. Again for the same uid: moves it. */
  place(pod: Pod, nodeName: string): void {
    const uid = pod.metadata.uid!;
    const row = this.#rows.get(nodeName);
    if (row === undefined) {
      this.remove(uid);
      const pods = this.#homeless.get(nodeName) ?? new Map<string, Pod>();
      this.#homeless.set(nodeName, pods.set(uid, pod));
      return;
    }
    const before = this.#placements.get(uid);
    const version = versionOf(pod);
    if (before?.row === row && before.version === version) return;
    if (before) this.remove(uid);
    const placement: Placement = { row, version, requests: { ...placedRequests(pod), pods: 1 }, hostPorts: hostPortsOf(pod), owner: controllerOf(pod)?.uid ?? "" };
    this.#placements.set(uid, placement);
    this.#count(placement, 1);
  }

  remove(uid: string): void {
    for (const [name, pods] of this.#homeless) if (pods.delete(uid) && pods.size === 0) this.#homeless.delete(name);
    const placement = this.#placements.get(uid);
    if (!placement) return;
    this.#placements.delete(uid);
    this.#count(placement, -1);
  }

  #count({ row, requests, hostPorts, owner }: Placement, sign: 1 | -1): void {
    for (const [resource, amount] of Object.entries(requests)) column(this.#requested, resource).add(row, sign * amount);
    for (const port of hostPorts) {
      if (sign === 1) this.#hostPorts[row]!.push(port);
      else this.#hostPorts[row]!.splice(this.#hostPorts[row]!.indexOf(port), 1);
    }
    if (owner !== "") {
      const counts = this.#owners.get(owner) ?? new Map<number, number>();
      const count = (counts.get(row) ?? 0) + sign;
      if (count > 0) counts.set(row, count);
      else counts.delete(row);
      if (counts.size > 0) this.#owners.set(owner, counts);
      else this.#owners.delete(owner);
    }
    this.#touch(row);
  }

  #touch(row: number): void {
    this.#versions[row] = (this.#versions[row] ?? 0) + 1;
    this.#changes.push(row);
    // Readers that lag more than this start over, which costs them one pass over all rows.
    if (this.#changes.length > 65_536) {
      this.#changesBase += 32_768;
      this.#changes = this.#changes.slice(32_768);
    }
  }
}

const column = (columns: Map<string, Column>, resource: string): Column => {
  const found = columns.get(resource);
  if (found) return found;
  const made = new Column();
  columns.set(resource, made);
  return made;
};
