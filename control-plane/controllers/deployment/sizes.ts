// How many replicas each ReplicaSet of a Deployment should have now. Pure. The rules are upstream's (rolling.go, recreate.go and
// sync.go of pkg/controller/deployment); what differs is said where it differs.
import type { Deployment, ReplicaSet } from "../../../base/kube/types.gen.ts";
import { timeMs } from "../objects.ts";
import { DESIRED_REPLICAS, MAX_REPLICAS } from "./revisions.ts";

export interface Bounds {
  readonly replicas: number;
  readonly maxSurge: number;
  readonly maxUnavailable: number;
}

const resolve = (value: number | string | undefined, total: number, round: (n: number) => number): number =>
  typeof value === "string" ? round((total * Number.parseInt(value, 10)) / 100) : (value ?? round(total / 4));

export const boundsOf = (deployment: Deployment): Bounds => {
  const replicas = deployment.spec?.replicas ?? 1;
  const { type, rollingUpdate } = deployment.spec?.strategy ?? {};
  if (type === "Recreate") return { replicas, maxSurge: 0, maxUnavailable: 0 };
  const maxSurge = resolve(rollingUpdate?.maxSurge, replicas, Math.ceil);
  const unavailable = resolve(rollingUpdate?.maxUnavailable, replicas, Math.floor);
  // Both zero (2 replicas at 25% round down to none) would never move.
  return { replicas, maxSurge, maxUnavailable: Math.min(replicas, maxSurge === 0 && unavailable === 0 ? 1 : unavailable) };
};

export const sizeOf = (rs: ReplicaSet): number => rs.spec?.replicas ?? 0;
/** Never more than it should have: right after a scale-down the status still counts the pods that are about to go. */
const availableOf = (rs: ReplicaSet): number => Math.min(rs.status?.availableReplicas ?? 0, sizeOf(rs));
/** Pods that are there or may be: right after a scale-down those that are about to go still are, and maxSurge counts them (upstream doesn't). */
export const occupiedBy = (rs: ReplicaSet): number => Math.max(sizeOf(rs), rs.status?.replicas ?? 0);
export const total = (sets: readonly ReplicaSet[], of: (rs: ReplicaSet) => number): number => sets.reduce((sum, rs) => sum + of(rs), 0);

export const oldestFirst = (a: ReplicaSet, b: ReplicaSet): number =>
  timeMs(a.metadata.creationTimestamp) - timeMs(b.metadata.creationTimestamp) || (a.metadata.name! < b.metadata.name! ? -1 : 1);

/** By ReplicaSet uid; one that is absent keeps its size. */
export type Sizes = ReadonlyMap<string, number>;

/** Size of the current ReplicaSet, `size` now, beside `others` replicas of old ones. */
export const currentSize = ({ replicas, maxSurge }: Bounds, isRecreate: boolean, size: number, others: number): number => {
  if (size >= replicas || isRecreate) return replicas;
  return size + Math.max(0, Math.min(replicas + maxSurge - size - others, replicas - size));
};

/** One step of a rolling update: the current set grows as far as maxSurge allows, old ones shrink as far as maxUnavailable allows. */
export const rollingSizes = (bounds: Bounds, current: ReplicaSet, old: readonly ReplicaSet[]): Sizes => {
  const sizes = new Map<string, number>();
  const size = currentSize(bounds, false, sizeOf(current), total(old, occupiedBy));
  if (size !== sizeOf(current)) sizes.set(current.metadata.uid!, size);
  const minAvailable = bounds.replicas - bounds.maxUnavailable;
  const unavailableNew = size - Math.min(availableOf(current), size);
  const sorted = [...old].sort(oldestFirst);
  const shrink = (mayGo: number, share: (rs: ReplicaSet, size: number) => number): number => {
    let gone = 0;
    for (const rs of sorted) {
      const now = sizes.get(rs.metadata.uid!) ?? sizeOf(rs);
      const less = Math.min(mayGo - gone, share(rs, now));
      if (less <= 0) continue;
      sizes.set(rs.metadata.uid!, now - less);
      gone += less;
    }
    return gone;
  };
  // Pods that don't work go first: they don't count as available, so nothing is lost.
  const room = size + total(old, sizeOf) - minAvailable - unavailableNew;
  const unhealthy = shrink(Math.max(0, room), (rs, now) => now - availableOf(rs));
  const spare = availableOf(current) + total(old, availableOf) - minAvailable;
  shrink(Math.max(0, Math.min(room - unhealthy, spare)), (_rs, now) => now);
  return sizes;
};

const annotated = (rs: ReplicaSet, name: string): number | undefined => {
  const value = Number(rs.metadata.annotations?.[name]);
  return Number.isInteger(value) ? value : undefined;
};

/** spec.replicas was changed since the ReplicaSets were last sized: an event of its own, it must not look like a rollout. */
export const wasScaled = ({ replicas }: Bounds, sets: readonly ReplicaSet[]): boolean =>
  sets.some((rs) => sizeOf(rs) > 0 && annotated(rs, DESIRED_REPLICAS) !== undefined && annotated(rs, DESIRED_REPLICAS) !== replicas);

/** Sizes after spec.replicas changed: one set takes it all; in the middle of a rollout each takes its share. */
export const scaledSizes = (deployment: Deployment, bounds: Bounds, current: ReplicaSet | undefined, old: readonly ReplicaSet[]): Sizes => {
  const { replicas, maxSurge } = bounds;
  const all = current ? [current, ...old] : old;
  const active = all.filter((rs) => sizeOf(rs) > 0);
  const only = active.length === 1 ? active[0] : active.length === 0 ? (current ?? [...old].sort(oldestFirst).at(-1)) : undefined;
  if (only) return new Map([[only.metadata.uid!, replicas]]);
  // All are up on the current one: the old ones have no further use.
  if (current && sizeOf(current) === replicas && annotated(current, DESIRED_REPLICAS) === replicas && current.status?.availableReplicas === replicas) {
    return new Map(old.map((rs) => [rs.metadata.uid!, 0]));
  }
  if (deployment.spec?.strategy?.type === "Recreate") return new Map();
  const toAdd = (replicas > 0 ? replicas + maxSurge : 0) - total(active, sizeOf);
  const sign = toAdd < 0 ? 1 : -1;
  const ordered = [...active].sort((a, b) => sizeOf(b) - sizeOf(a) || sign * oldestFirst(a, b));
  let added = 0;
  const sizes = ordered.map((rs) => {
    const size = sizeOf(rs);
    if (toAdd === 0) return size;
    const share = replicas === 0 ? -size : Math.round((size * (replicas + maxSurge)) / (annotated(rs, MAX_REPLICAS) || deployment.status?.replicas || replicas)) - size;
    const part = toAdd > 0 ? Math.min(share, toAdd - added) : Math.max(share, toAdd - added);
    added += part;
    return size + part;
  });
  // Rounding's remainder goes to the largest.
  sizes[0] = Math.max(0, sizes[0]! + toAdd - added);
  return new Map(ordered.map((rs, i) => [rs.metadata.uid!, sizes[i]!]));
};
