// How badly each zone is hit, and how fast nodes may lose their pods there: when much of a zone is gone at once, its network is the
// likelier fault, and moving everything at once the greater one. Upstream: ComputeZoneState and handleDisruption in
// pkg/controller/nodelifecycle/node_lifecycle_controller.go.
import type { Node } from "../../../base/kube/types.gen.ts";

export interface EvictionPace {
  /** Between two nodes of a zone that begin to lose their pods (upstream: 1 / --node-eviction-rate). */
  readonly intervalMs: number;
  /** The same in a large zone that is partly down (upstream: 1 / --secondary-node-eviction-rate). */
  readonly slowIntervalMs: number;
  /** From this share of unhealthy nodes on a zone is partly down. */
  readonly unhealthyPercent: number;
  /** A zone that is partly down goes on slowly when it has more nodes than this, and stops otherwise. */
  readonly largeZoneNodes: number;
}

/** "full": none of its nodes is healthy; "partial": so many are not that it can hardly be their own fault. */
export type ZoneState = "normal" | "partial" | "full";

export interface ZoneCount {
  readonly healthy: number;
  readonly unhealthy: number;
}

const NOBODY: ZoneCount = { healthy: 0, unhealthy: 0 };
/** Fewer than this many fail by themselves: a cluster of three must survive the loss of two. */
const LEAST_UNHEALTHY = 3;

/** "" for nodes that say nothing of one: they are a zone together. */
export const zoneOf = ({ metadata: { labels } }: Node): string => [labels?.["topology.kubernetes.io/region"], labels?.["topology.kubernetes.io/zone"]].filter((x) => x).join("/");

export const zoneStateOf = ({ healthy, unhealthy }: ZoneCount, { unhealthyPercent }: EvictionPace): ZoneState =>
  unhealthy > 0 && healthy === 0 ? "full" : unhealthy >= LEAST_UNHEALTHY && unhealthy * 100 >= unhealthyPercent * (healthy + unhealthy) ? "partial" : "normal";

/** Between two nodes of such a zone; Infinity: none may lose its pods. A zone that is down altogether loses them at the usual pace: others can take them. */
export const intervalMsOf = (count: ZoneCount, pace: EvictionPace): number =>
  zoneStateOf(count, pace) !== "partial" ? pace.intervalMs : count.healthy + count.unhealthy > pace.largeZoneNodes ? pace.slowIntervalMs : Infinity;

/** Healthy and unhealthy nodes by zone, kept up as nodes change: thousands that are lost at once must not be counted thousands of times. */
export class ZoneCensus {
  readonly #nodes = new Map<string, { readonly zone: string; readonly healthy: boolean }>();
  readonly #zones = new Map<string, ZoneCount>();
  #healthy = 0;

  set(name: string, zone: string, healthy: boolean): void {
    this.remove(name);
    this.#nodes.set(name, { zone, healthy });
    this.#add(zone, healthy, 1);
  }

  remove(name: string): void {
    const known = this.#nodes.get(name);
    if (known === undefined) return;
    this.#nodes.delete(name);
    this.#add(known.zone, known.healthy, -1);
  }

  of(zone: string): ZoneCount {
    return this.#zones.get(zone) ?? NOBODY;
  }

  /** There are nodes, and none of them is healthy. */
  get allUnhealthy(): boolean {
    return this.#nodes.size > 0 && this.#healthy === 0;
  }

  #add(zone: string, healthy: boolean, n: 1 | -1): void {
    const before = this.of(zone);
    const after = healthy ? { ...before, healthy: before.healthy + n } : { ...before, unhealthy: before.unhealthy + n };
    if (after.healthy + after.unhealthy === 0) this.#zones.delete(zone);
    else this.#zones.set(zone, after);
    if (healthy) this.#healthy += n;
  }
}

/** One node of a zone after another. In memory, as upstream: a new leader may let one go earlier, never all. */
export class Turns {
  readonly #last = new Map<string, { readonly node: string; readonly atMs: number }>();

  /** Milliseconds until the node may ask again; 0 when it is its turn, which it may then ask for repeatedly. `nowMs` is monotonic. */
  take(zone: string, node: string, intervalMs: number, nowMs: number): number {
    const last = this.#last.get(zone);
    if (intervalMs === Infinity) return Infinity;
    const leftMs = last === undefined || last.node === node ? 0 : last.atMs + intervalMs - nowMs;
    if (leftMs > 0) return leftMs;
    if (last?.node !== node) this.#last.set(zone, { node, atMs: nowMs });
    return 0;
  }
}
