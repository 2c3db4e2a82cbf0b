// What a pod asks of its node. https://kubernetes.io/docs/concepts/workloads/pods/init-containers/#resource-sharing-within-containers
import type { Container, PodSpec } from "./types.gen.ts";
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
