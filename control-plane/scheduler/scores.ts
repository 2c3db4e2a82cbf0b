// How good a node that fits is for a pod: higher is better. Each score depends on the pod's class and its own row only, never on
// the other rows: that is what lets the scheduler keep them in a heap and recompute one row per placement. Pure.
import type { NodeTable } from "./node-table.ts";
import { nodeTermMatches, tolerates } from "../../base/kube/node-match.ts";
import { effectiveTaints } from "./filters.ts";
import type { PodClass } from "./pod-class.ts";

/** A pod more of the same owner outweighs this share (in points of 100) of a node's free room: strong, as workloads want their replicas apart. */
const SPREAD_POINTS = 10;
const LEAST_ALLOCATED_WEIGHT = 1;
const BALANCED_WEIGHT = 1;
const PREFERRED_AFFINITY_WEIGHT = 2;
const SOFT_TAINT_POINTS = 30;
/** An image of this size or more that is already there is worth the full image points. */
const IMAGE_FULL_BYTES = 1024 ** 3;
const IMAGE_POINTS = 50;

const fraction = (table: NodeTable, row: number, resource: string, extra: number): number => {
  const total = table.allocatable(row, resource);
  return total === 0 ? 1 : Math.min(1, (table.requested(row, resource) + extra) / total);
};

export const score = (pod: PodClass, table: NodeTable, row: number): number => {
  const cpu = fraction(table, row, "cpu", pod.scoringMilliCpu);
  const memory = fraction(table, row, "memory", pod.scoringMemoryBytes);
  const leastAllocated = 100 * (1 - (cpu + memory) / 2);
  const balanced = 100 * (1 - Math.abs(cpu - memory));
  const spread = pod.owner === "" ? 0 : -SPREAD_POINTS * table.ownerCount(row, pod.owner);
  const node = table.node(row);
  const preferred = pod.preferredTerms.reduce((sum, t) => sum + (nodeTermMatches(t.preference, node) ? t.weight : 0), 0);
  const softTaints = effectiveTaints(node).filter((t) => t.effect === "PreferNoSchedule" && !pod.tolerations.some((o) => tolerates(o, t))).length;
  const imageBytes = pod.images.reduce((sum, image) => sum + table.imageBytes(row, image), 0);
  const locality = IMAGE_POINTS * Math.min(1, imageBytes / IMAGE_FULL_BYTES);
  return LEAST_ALLOCATED_WEIGHT * leastAllocated + BALANCED_WEIGHT * balanced + spread
    + PREFERRED_AFFINITY_WEIGHT * preferred - SOFT_TAINT_POINTS * softTaints + locality;
};
