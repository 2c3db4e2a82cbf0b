// The scheduler's picture of the cluster: one row a node, numbers in typed arrays, updated incrementally by events and by
// assumptions. It can be thrown away and rebuilt from the cache at any time (a property test does and compares). Owned by
// scheduler.ts; nobody else writes it.
import type { Node, Pod } from "../../base/kube/types.gen.ts";
import { controllerOf } from "../../base/kube/meta.ts";
import { priorityOf } from "../../base/kube/pod-state.ts";
import { parseAmounts, placedRequests, type Amounts } from "../../base/kube/pod-requests.ts";
import { hostPortsOf, type HostPort } from "./pod-class.ts";
import { isInGroup, repelsOf, type NamespaceLookup, type PodGroup, type TopologyTerm } from "./topology.ts";

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

/** How many pods of something the rows have; rows without are absent. */
type RowCounts = Map<number, number>;

const addTo = (counts: RowCounts, row: number, delta: number): void => {
  const count = (counts.get(row) ?? 0) + delta;
  if (count > 0) counts.set(row, count);
  else counts.delete(row);
};

interface Placement {
  readonly pod: Pod;
  /** Its required anti-affinity, which holds for pods that come later too. */
  readonly repels: readonly TopologyTerm[];
  readonly row: number;
  /** Of all that its requests depend on. */
  readonly version: string;
  readonly requests: Amounts;
  readonly hostPorts: readonly HostPort[];
  readonly owner: string;
}

/** Requests change only by a resize: in the spec, or in what the node says that it has set aside. Labels decide whose rules it falls under. */
const versionOf = ({ metadata, status }: Pod): string => {
  const resized = status?.containerStatuses?.some((c) => c.allocatedResources) ? JSON.stringify([...(status.containerStatuses ?? []), ...(status.initContainerStatuses ?? [])].map((c) => [c.allocatedResources, c.resources?.requests])) : "";
  return `${metadata.generation ?? 0} ${metadata.deletionTimestamp === undefined ? "" : "ends"} ${metadata.labels ? JSON.stringify(metadata.labels) : ""} ${resized}`;
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
  /** How many of the placed pods have each priority. */
  readonly #priorities = new Map<number, number>();
  /** Pods bound to nodes that the table doesn't show (yet), by node name. */
  readonly #homeless = new Map<string, Map<string, Pod>>();
  readonly #versions: number[] = [];
  /** Rows in the order of their changes; a reader remembers how far it has read. See changesSince. */
  #changes: number[] = [];
  #changesBase = 0;
  #shape = 0;
  readonly #groups = new Map<string, { readonly group: PodGroup; readonly rows: RowCounts }>();
  readonly #repellers = new Map<string, { readonly term: TopologyTerm; readonly rows: RowCounts }>();
  readonly #namespaces: NamespaceLookup;

  constructor(namespaces: NamespaceLookup = () => []) {
    this.#namespaces = namespaces;
  }

  /** Changes when nodes come or go, or their labels, taints or readiness do. */
  get shape(): number {
    return this.#shape;
  }

  /** Pods of the group by row. Counted once, then kept up to date until it is dropped. */
  countsOf(group: PodGroup): ReadonlyMap<number, number> {
    let counted = this.#groups.get(group.key);
    if (!counted) {
      counted = { group, rows: new Map() };
      for (const { pod, row } of this.#placements.values()) if (isInGroup(group, pod)) addTo(counted.rows, row, 1);
      this.#groups.set(group.key, counted);
    }
    return counted.rows;
  }

  /** Stops counting groups that nobody waits to ask about. */
  dropGroups(isWanted: (key: string) => boolean): void {
    for (const key of this.#groups.keys()) if (!isWanted(key)) this.#groups.delete(key);
  }

  /** Distinct terms of required anti-affinity of the pods that are placed, with the rows that have such pods. */
  repellers(): Iterable<{ readonly term: TopologyTerm; readonly rows: ReadonlyMap<number, number> }> {
    return this.#repellers.values();
  }

  get repellerCount(): number {
    return this.#repellers.size;
  }

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

  /** Pods of a lower priority, by row; rows that have none are left out. Costs nothing when there are none at all, which is the rule. */
  podsBelow(priority: number): Map<number, Pod[]> {
    const found = new Map<number, Pod[]>();
    if (![...this.#priorities.keys()].some((p) => p < priority)) return found;
    for (const { pod, row } of this.#placements.values()) {
      if (priorityOf(pod) >= priority) continue;
      const pods = found.get(row);
      if (pods) pods.push(pod);
      else found.set(row, [pod]);
    }
    return found;
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
    if (!previous || shapeOf(previous) !== shapeOf(node)) this.#shape++;
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
    this.#shape++;
    // They are bound to it still: should it come back, they count again.
    for (const { pod, row: at } of this.#placements.values()) if (at === row) this.place(pod, name);
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
    const placement: Placement = { pod, repels: repelsOf(pod, this.#namespaces), row, version, requests: { ...placedRequests(pod), pods: 1 }, hostPorts: hostPortsOf(pod), owner: controllerOf(pod)?.uid ?? "" };
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

  #count({ pod, repels, row, requests, hostPorts, owner }: Placement, sign: 1 | -1): void {
    for (const { group, rows } of this.#groups.values()) if (isInGroup(group, pod)) addTo(rows, row, sign);
    for (const term of repels) this.#repel(term, row, sign);
    addTo(this.#priorities, priorityOf(pod), sign);
    for (const [resource, amount] of Object.entries(requests)) column(this.#requested, resource).add(row, sign * amount);
    for (const port of hostPorts) {
      if (sign === 1) this.#hostPorts[row]!.push(port);
      else this.#hostPorts[row]!.splice(this.#hostPorts[row]!.indexOf(port), 1);
    }
    if (owner !== "") {
      const counts = this.#owners.get(owner) ?? new Map<number, number>();
      addTo(counts, row, sign);
      if (counts.size > 0) this.#owners.set(owner, counts);
      else this.#owners.delete(owner);
    }
    this.#touch(row);
  }

  #repel(term: TopologyTerm, row: number, sign: 1 | -1): void {
    const key = `${term.topologyKey} ${term.group.key}`;
    const repeller = this.#repellers.get(key) ?? { term, rows: new Map<number, number>() };
    addTo(repeller.rows, row, sign);
    if (repeller.rows.size > 0) this.#repellers.set(key, repeller);
    else this.#repellers.delete(key);
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

/** What decides whether a node is a place for a pod at all. */
const shapeOf = ({ metadata, spec, status }: Node): string =>
  JSON.stringify([metadata.labels, spec?.taints, spec?.unschedulable, status?.conditions?.find((c) => c.type === "Ready")?.status]);

const column = (columns: Map<string, Column>, resource: string): Column => {
  const found = columns.get(resource);
  if (found) return found;
  const made = new Column();
  columns.set(resource, made);
  return made;
};
