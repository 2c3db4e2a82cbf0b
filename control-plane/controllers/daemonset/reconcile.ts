// What a DaemonSet's nodes need now, and its status. Pure. The rules are upstream's (pkg/controller/daemon: daemon_controller.go and
// update.go).
import type { DaemonSet, DaemonSetStatus, Node, Pod } from "../../../base/kube/types.gen.ts";
import { isReady, isTerminal, readySinceMs, timeMs } from "../objects.ts";
import { REVISION_HASH } from "../revision-history.ts";
import { judgeNode, nodeOf } from "./placement.ts";

export interface Input {
  readonly daemonSet: DaemonSet;
  readonly nodes: readonly Node[];
  /** All that it owns. */
  readonly pods: readonly Pod[];
  /** Of the current template. */
  readonly hash: string;
  readonly nowMs: number;
}

export interface Plan {
  /** Nodes that get a pod of the current template. */
  readonly create: readonly string[];
  readonly remove: readonly Pod[];
  /** Those of `remove` that had ended. */
  readonly ended: readonly Pod[];
  readonly status: DaemonSetStatus;
  readonly againMs: number | undefined;
}

/** A daemon that fails at once would be replaced as fast as the node can fail it. */
const REPLACE_FAILED_AFTER_MS = 5000;

const resolve = (value: number | string | undefined, total: number): number =>
  typeof value === "string" ? Math.ceil((total * Number.parseInt(value, 10)) / 100) : (value ?? 0);

interface Bounds {
  readonly maxSurge: number;
  readonly maxUnavailable: number;
}

const boundsOf = ({ spec }: DaemonSet, desired: number): Bounds => {
  const rolling = spec?.updateStrategy?.rollingUpdate;
  const maxSurge = resolve(rolling?.maxSurge, desired);
  const maxUnavailable = resolve(rolling?.maxUnavailable, desired);
  // Both zero (percentages of no nodes) would never move.
  return { maxSurge, maxUnavailable: maxSurge === 0 && maxUnavailable === 0 ? 1 : maxUnavailable };
};

const endedMs = (pod: Pod): number =>
  Math.max(0, ...(pod.status?.containerStatuses ?? []).map((c) => timeMs(c.state?.terminated?.finishedAt))) || timeMs(pod.metadata.creationTimestamp);

const oldestFirst = (a: Pod, b: Pod): number =>
  Number(Boolean(b.spec?.nodeName)) - Number(Boolean(a.spec?.nodeName)) || timeMs(a.metadata.creationTimestamp) - timeMs(b.metadata.creationTimestamp) || (a.metadata.name! < b.metadata.name! ? -1 : 1);

export const reconcile = ({ daemonSet, nodes, pods, hash, nowMs }: Input): Plan => {
  const spec = daemonSet.spec!;
  const minReadyMs = (spec.minReadySeconds ?? 0) * 1000;
  const isNew = (pod: Pod): boolean => pod.metadata.labels?.[REVISION_HASH] === hash;
  const isLeaving = (pod: Pod): boolean => pod.metadata.deletionTimestamp !== undefined;
  const waits: number[] = [];
  const isAvailable = (pod: Pod): boolean => {
    if (!isReady(pod)) return false;
    const leftMs = readySinceMs(pod) + minReadyMs - nowMs;
    if (leftMs > 0) waits.push(leftMs);
    return leftMs <= 0;
  };

  const byNode = new Map<string, Pod[]>();
  for (const pod of pods) byNode.set(nodeOf(pod), [...(byNode.get(nodeOf(pod)) ?? []), pod]);
  const rows = [...nodes].sort((a, b) => (a.metadata.name! < b.metadata.name! ? -1 : 1)).map((node) => {
    const mine = [...(byNode.get(node.metadata.name!) ?? [])].sort(oldestFirst);
    return { name: node.metadata.name!, pods: mine, ...judgeNode(spec.template, node) };
  });
  const wanted = rows.filter((row) => row.shouldRun);
  const desired = wanted.length;
  const bounds = boundsOf(daemonSet, desired);

  const create: string[] = [];
  const remove = new Set<Pod>();
  const ended: Pod[] = [];
  for (const row of rows) {
    if (!row.shouldContinue) {
      for (const pod of row.pods) if (!isLeaving(pod)) remove.add(pod);
      continue;
    }
    // A node's next pod waits for the last one to be gone: host ports and files are its alone.
    if (row.shouldRun && row.pods.length === 0) create.push(row.name);
    const running: Pod[] = [];
    for (const pod of row.pods.filter((p) => !isLeaving(p))) {
      if (!isTerminal(pod)) running.push(pod);
      else {
        const leftMs = endedMs(pod) + REPLACE_FAILED_AFTER_MS - nowMs;
        if (leftMs > 0) waits.push(leftMs);
        else {
          remove.add(pod);
          ended.push(pod);
        }
      }
    }
    for (const pod of surplusOn(running, bounds, isNew, isAvailable)) remove.add(pod);
  }
  // A pod that waits for a node that is no more would wait for ever; one that was on it is node-lifecycle's.
  const known = new Set(nodes.map((n) => n.metadata.name!));
  for (const pod of pods) if (!pod.spec?.nodeName && !known.has(nodeOf(pod)) && !isLeaving(pod)) remove.add(pod);

  if (spec.updateStrategy?.type !== "OnDelete") {
    const old = wanted.map((row) => {
      const rest = row.pods.filter((pod) => !isLeaving(pod) && !remove.has(pod));
      const [fresh, stale] = [rest.filter(isNew), rest.filter((pod) => !isNew(pod))];
      // What is not one pod of each kind at most, the part above has to clear up first.
      return { name: row.name, fresh: fresh[0], stale: stale[0], odd: fresh.length > 1 || stale.length > 1 };
    });
    if (bounds.maxSurge === 0) for (const pod of toReplace(old, bounds.maxUnavailable, isAvailable)) remove.add(pod);
    else create.push(...toSurge(old, bounds.maxSurge, isAvailable));
  }

  const deleting = daemonSet.metadata.deletionTimestamp !== undefined;
  const first = wanted.map((row) => row.pods[0]).filter((pod) => pod !== undefined);
  const ready = first.filter(isReady);
  const available = ready.filter(isAvailable).length;
  const { status } = daemonSet;
  return {
    create: deleting ? [] : create, remove: deleting ? [] : [...remove], ended: deleting ? [] : ended,
    againMs: waits.length > 0 ? Math.min(...waits) : undefined,
    status: {
      currentNumberScheduled: first.length,
      numberMisscheduled: rows.filter((row) => !row.shouldRun && row.pods.length > 0).length,
      desiredNumberScheduled: desired,
      numberReady: ready.length,
      observedGeneration: daemonSet.metadata.generation ?? 0,
      updatedNumberScheduled: first.filter(isNew).length,
      numberAvailable: available,
      numberUnavailable: desired - available,
      ...(status?.collisionCount !== undefined && { collisionCount: status.collisionCount }),
      ...(status?.conditions && { conditions: status.conditions }),
    },
  };
};

/** Pods of one node that are too many: all but the oldest, or while surging all but one old and one new. */
const surplusOn = (running: readonly Pod[], { maxSurge }: Bounds, isNew: (pod: Pod) => boolean, isAvailable: (pod: Pod) => boolean): readonly Pod[] => {
  if (running.length <= 1) return [];
  if (maxSurge === 0) return running.slice(1);
  const fresh = running.find(isNew);
  const stale = running.find((pod) => !isNew(pod));
  const surplus = running.filter((pod) => pod !== fresh && pod !== stale);
  // The old one has done its part when the new one works, or when it works itself no more.
  return fresh && stale && (!isReady(stale) || isAvailable(fresh)) ? [...surplus, stale] : surplus;
};

interface NodePods {
  readonly name: string;
  readonly fresh: Pod | undefined;
  readonly stale: Pod | undefined;
  readonly odd: boolean;
}

/** Old pods that may go: those that don't work anyway, and as many of the others as maxUnavailable allows. */
const toReplace = (nodes: readonly NodePods[], maxUnavailable: number, isAvailable: (pod: Pod) => boolean): readonly Pod[] => {
  const broken: Pod[] = [];
  const candidates: Pod[] = [];
  let unavailable = 0;
  for (const { fresh, stale, odd } of nodes) {
    if (odd || (fresh === undefined) === (stale === undefined)) unavailable++;
    else if (fresh) unavailable += isAvailable(fresh) ? 0 : 1;
    else if (isAvailable(stale!)) candidates.push(stale!);
    else {
      broken.push(stale!);
      unavailable++;
    }
  }
  return [...broken, ...candidates.slice(0, Math.max(0, maxUnavailable - unavailable))];
};

/** Nodes that get a new pod beside the old one. */
const toSurge = (nodes: readonly NodePods[], maxSurge: number, isAvailable: (pod: Pod) => boolean): readonly string[] => {
  const broken: string[] = [];
  const candidates: string[] = [];
  let surging = 0;
  for (const { name, fresh, stale, odd } of nodes) {
    if (odd) surging++;
    else if (!stale) continue;
    else if (fresh) surging += isAvailable(fresh) ? 0 : 1;
    else if (isAvailable(stale)) candidates.push(name);
    else broken.push(name);
  }
  return [...broken, ...candidates.slice(0, Math.max(0, maxSurge - surging))];
};
