// What a pod asks of its node. https://kubernetes.io/docs/concepts/workloads/pods/init-containers/#resource-sharing-within-containers
import type { Container, Pod, PodSpec } from "./types.gen.ts";
import { toMilli, toUnits } from "./quantity.ts";

/** Resource name -> amount: milli-CPU for "cpu", whole units (bytes, ...) for the rest. */
export type Amounts = Record<string, number>;

const amountOf = (resource: string, quantity: string): number => (resource === "cpu" ? toMilli(quantity) : toUnits(quantity));

const plus = (a: Amounts, b: Amounts): Amounts => {
  const sum = { ...a };
  for (const [k, v] of Object.entries(b)) sum[k] = (sum[k] ?? 0) + v;
  return sum;
};

const most = (a: Amounts, b: Amounts): Amounts => {
  const max = { ...a };
  for (const [k, v] of Object.entries(b)) max[k] = Math.max(max[k] ?? 0, v);
  return max;
};

export const parseAmounts = (quantities: Readonly<Record<string, string>> | undefined): Amounts =>
  Object.fromEntries(Object.entries(quantities ?? {}).map(([k, q]) => [k, amountOf(k, q)]));

/**
 * What a pod that stands on a node counts for there: while it is resized the most of what is asked for, set aside and in force, so that
 * neither a growing nor a shrinking pod's room is given away twice. What its node can never give isn't counted.
 */
export const placedRequests = (pod: Pod): Amounts => {
  const spec = pod.spec!;
  const statuses = new Map([...(pod.status?.initContainerStatuses ?? []), ...(pod.status?.containerStatuses ?? [])].map((s) => [s.name, s]));
  const isInfeasible = pod.status?.conditions?.some((c) => c.type === "PodResizePending" && c.reason === "Infeasible") === true;
  const counted = (container: Container): Container => {
    const status = statuses.get(container.name);
    if (!status?.allocatedResources) return container;
    const held = most(parseAmounts(status.allocatedResources), parseAmounts(status.resources?.requests));
    const asked = isInfeasible ? {} : parseAmounts({ ...container.resources?.limits, ...container.resources?.requests });
    // Only these can change; all else is as the spec has it.
    const amounts = most(held, asked);
    const changed = Object.fromEntries([["cpu", amounts["cpu"] === undefined ? undefined : `${amounts["cpu"]}m`], ["memory", amounts["memory"] === undefined ? undefined : String(amounts["memory"])]].filter(([, v]) => v !== undefined)) as Record<string, string>;
    return { ...container, resources: { ...container.resources, requests: { ...container.resources?.requests, ...changed } } };
  };
  return podRequests({ ...spec, containers: spec.containers.map(counted), initContainers: spec.initContainers?.map(counted) });
};

/** Sum of the containers and sidecars, or what the largest init container needs beside the sidecars before it; plus overhead. */
export const podRequests = (spec: PodSpec, of: "requests" | "limits" = "requests"): Amounts => {
  // What has a limit but no request is requested at its limit: upstream's defaulting of pods, which a pod made from a template hasn't seen.
  const needs = (c: Container): Amounts => parseAmounts(of === "limits" ? c.resources?.limits : { ...c.resources?.limits, ...c.resources?.requests });
  let sidecars: Amounts = {};
  let init: Amounts = {};
  for (const c of spec.initContainers ?? []) {
    if (c.restartPolicy === "Always") sidecars = plus(sidecars, needs(c));
    else init = most(init, plus(sidecars, needs(c)));
  }
  const running = spec.containers.map(needs).reduce(plus, sidecars);
  return plus(most(running, init), parseAmounts(spec.overhead));
};
