// From samples to what each pod uses of a metric. Pure.
import { fromLabelSelector } from "../../../base/kube/labels.ts";
import type { MetricIdentifier, MetricSpec, Pod } from "../../../base/kube/types.gen.ts";
import type { ContainerUsage, PodUsage } from "../../../proto/gen/gantry/v1/agent.ts";
import { valueOf } from "./exposition.ts";
import type { Metric } from "./exposition.ts";
import type { Fault } from "./reconcile.ts";
import type { Reading, Readings } from "./replicas.ts";

/** One node's measurement of a pod. */
export interface UsageOf {
  (pod: Pod): { readonly atMs: number; readonly usage: PodUsage } | undefined;
}

/** What pods tell of themselves, by name of the pod and of the metric. */
export interface Told {
  readonly atMs: number;
  readonly metrics: ReadonlyMap<string, Metric>;
}

const amountOf = (resource: string, { cpu, memory }: ContainerUsage): number | undefined => {
  // Without a window its rate isn't known yet: nothing is not the same as idle.
  if (resource === "cpu") return cpu && cpu.windowMs > 0 ? Math.ceil(cpu.nanoCores / 1e6) : undefined;
  return memory && memory.workingSetBytes * 1000;
};

/** CPU or memory, of all containers or of one. Pods whose containers are not all measured are missing. */
export const usageReadings = (pods: readonly Pod[], usageOf: UsageOf, resource: string, container: string | undefined): Readings | Fault => {
  if (resource !== "cpu" && resource !== "memory") return { fault: `unable to get metrics for resource ${resource}: only cpu and memory are measured` };
  const readings = new Map<string, Reading>();
  for (const pod of pods) {
    const found = usageOf(pod);
    const containers = (found?.usage.containers ?? []).filter((c) => container === undefined || c.name === container);
    const amounts = containers.map((c) => amountOf(resource, c));
    if (!found || containers.length === 0 || amounts.includes(undefined)) continue;
    const windowMs = resource === "cpu" ? Math.max(...containers.map((c) => c.cpu?.windowMs ?? 0)) : 0;
    readings.set(pod.metadata.name!, { milli: amounts.reduce<number>((sum, n) => sum + n!, 0), atMs: found.atMs, windowMs });
  }
  return readings.size > 0 ? readings : { fault: `unable to get metrics for resource ${resource}: no metrics returned from resource metrics API` };
};

/** Metrics of other objects and systems come from an adapter, and Gantry has no API for one to serve. */
export const fromAdapter = ({ object, external }: MetricSpec): Fault => (external
  ? { fault: `unable to get external metric ${external.metric.name}: no external metrics API (external.metrics.k8s.io) is registered` }
  : { fault: `unable to get metric ${object?.metric.name ?? ""}: no custom metrics API (custom.metrics.k8s.io) is registered` });

/** What is known of a counter: its last reading, and its rate up to it. */
export interface Counter {
  readonly value: number;
  readonly atMs: number;
  readonly perSecond: number | undefined;
}

/** Shorter than this between two readings, a rate would be noise. */
const MIN_RATE_MS = 5000;

/** With the next reading. A counter that fell was started anew, so all of it is new. */
export const counted = (before: Counter | undefined, value: number, atMs: number): Counter => {
  if (!before) return { value, atMs, perSecond: undefined };
  const tookMs = atMs - before.atMs;
  if (tookMs < MIN_RATE_MS) return before;
  return { value, atMs, perSecond: ((value < before.value ? value : value - before.value) * 1000) / tookMs };
};

/** The key of a counter in what is remembered between two passes. */
const counterKey = (pod: Pod, metric: MetricIdentifier): string => `${pod.metadata.uid ?? ""} ${JSON.stringify(metric)}`;

/**
 * A metric that pods tell: the sum of the series that match, or, of a counter, how much it rises in a second. `counters` is what was known
 * of them before; what is known now comes back with it.
 */
export const toldReadings = (pods: readonly Pod[], told: ReadonlyMap<string, Told | Fault>, metric: MetricIdentifier, counters: ReadonlyMap<string, Counter>): { readonly readings: Readings | Fault; readonly counters: ReadonlyMap<string, Counter> } => {
  const selector = fromLabelSelector(metric.selector ?? {});
  const readings = new Map<string, Reading>();
  const known = new Map<string, Counter>();
  let why: string | undefined;
  for (const pod of pods) {
    const name = pod.metadata.name!;
    const said = told.get(name);
    if (!said || "fault" in said) {
      why ??= said?.fault;
      continue;
    }
    const found = said.metrics.get(metric.name);
    const value = found && valueOf(found, selector);
    if (value === undefined) {
      why ??= `pod ${name} tells ${found ? `no number of ${metric.name} with these labels` : `nothing of ${metric.name}`}`;
      continue;
    }
    if (!found!.isCounter) {
      readings.set(name, { milli: Math.round(value * 1000), atMs: said.atMs, windowMs: 0 });
      continue;
    }
    const key = counterKey(pod, metric);
    const counter = counted(counters.get(key), value, said.atMs);
    known.set(key, counter);
    if (counter.perSecond === undefined) why ??= `${metric.name} is a counter, whose rate is known from the second reading on`;
    else readings.set(name, { milli: Math.round(counter.perSecond * 1000), atMs: said.atMs, windowMs: 0 });
  }
  return { readings: readings.size > 0 ? readings : { fault: `unable to get metric ${metric.name}: ${why ?? "no pod runs"}` }, counters: known };
};
