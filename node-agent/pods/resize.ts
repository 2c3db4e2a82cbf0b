// Changing the resources of containers that run: whether the node has room, what is to be done, and the words for it. Pure.
// https://kubernetes.io/docs/tasks/configure-pod-container/resize-container-resources/
import type { Container, Resources } from "../../proto/gen/gantry/v1/agent.ts";
import type { Assignment } from "./assignment.ts";
import { isSidecar, type ContainerRecord, type PodRecord } from "./pod-record.ts";

/** What a container has been given. */
export interface Allocation {
  readonly requests: Resources | undefined;
  readonly limits: Resources | undefined;
}

export const allocationOf = ({ requests, limits }: Pick<Container, "requests" | "limits">): Allocation => ({ requests, limits });

/** Only CPU and memory can change in a pod that exists. */
const sameResources = (a: Resources | undefined, b: Resources | undefined): boolean =>
  (a?.milliCpu ?? 0) === (b?.milliCpu ?? 0) && (a?.memoryBytes ?? 0) === (b?.memoryBytes ?? 0);

export const sameAllocation = (a: Allocation, b: Allocation): boolean => sameResources(a.requests, b.requests) && sameResources(a.limits, b.limits);

/** The container as it is to run: with what it was given, which may not be what is asked for now. */
export const withAllocation = (container: Container, own: ContainerRecord | undefined): Container => (own?.allocated ? { ...container, ...own.allocated } : container);

const resizable = (assignment: Assignment): readonly Container[] => [...assignment.initContainers.filter(isSidecar), ...assignment.containers];

/** Asks for something else than it was given. */
export const isUnallocated = (container: Container, own: ContainerRecord | undefined): boolean => own?.allocated !== undefined && !sameAllocation(own.allocated, container);

/** Runs with something else than it was given. */
export const isUnapplied = (own: ContainerRecord | undefined): boolean =>
  own?.phase === "running" && own.allocated !== undefined && own.applied !== undefined && !sameAllocation(own.allocated, own.applied);

/** When to work on it; undefined: there is nothing to resize. */
export const resizeAtMs = (assignment: Assignment, record: PodRecord): number | undefined => {
  const containers = resizable(assignment);
  const outstanding = containers.some((c) => isUnallocated(c, record.containers[c.name]) || isUnapplied(record.containers[c.name]));
  const { resize } = record;
  // What was asked for and refused, and is asked for no more, is done with.
  if (!outstanding) return resize ? 0 : undefined;
  if (!resize || resize.generation !== assignment.generation) return 0;
  return resize.retryAtMs === 0 ? undefined : resize.retryAtMs;
};

/** Resources of whom a change of this container's takes a restart. */
export const takesRestart = (container: Container, from: Allocation, to: Allocation): boolean => {
  const changed = (pick: (r: Resources | undefined) => number): boolean => pick(from.requests) !== pick(to.requests) || pick(from.limits) !== pick(to.limits);
  return (container.restartOnResize.includes("cpu") && changed((r) => r?.milliCpu ?? 0)) || (container.restartOnResize.includes("memory") && changed((r) => r?.memoryBytes ?? 0));
};

interface Sum {
  readonly milliCpu: number;
  readonly memoryBytes: number;
}

const plus = (a: Sum, r: Resources | undefined): Sum => ({ milliCpu: a.milliCpu + (r?.milliCpu ?? 0), memoryBytes: a.memoryBytes + (r?.memoryBytes ?? 0) });
const NOTHING: Sum = { milliCpu: 0, memoryBytes: 0 };

/** What a pod holds of its node: what was given to its containers, and what those that have nothing yet ask for. */
export const heldBy = (assignment: Assignment, record: PodRecord): Sum =>
  resizable(assignment).reduce((sum, c) => plus(sum, (record.containers[c.name]?.allocated ?? c).requests), NOTHING);

export type Verdict = { readonly state: "ok" } | { readonly state: "Infeasible" | "Deferred"; readonly message: string };

/** `others` is what all other pods of the node hold. */
export const admitResize = (assignment: Assignment, others: Sum, allocatable: Resources): Verdict => {
  const wanted = resizable(assignment).reduce((sum, c) => plus(sum, c.requests), NOTHING);
  for (const [resource, field] of [["cpu", "milliCpu"], ["memory", "memoryBytes"]] as const) {
    if (wanted[field] > allocatable[field]) return { state: "Infeasible", message: `Node didn't have enough capacity: ${resource}, requested: ${wanted[field]}, capacity: ${allocatable[field]}` };
  }
  for (const [resource, field] of [["cpu", "milliCpu"], ["memory", "memoryBytes"]] as const) {
    if (wanted[field] + others[field] > allocatable[field]) {
      return { state: "Deferred", message: `Node didn't have enough resource: ${resource}, requested: ${wanted[field]}, used: ${others[field]}, capacity: ${allocatable[field]}` };
    }
  }
  return { state: "ok" };
};
