// How many pods one metric asks for. Pure. Source: k8s.io/kubernetes/pkg/controller/podautoscaler/replica_calculator.go, whose words are kept.
// Amounts are in thousandths of the metric's unit (milli-CPU, milli-bytes, ...), as upstream's.
import { GantryError } from "../../../base/errors.ts";
import { toMilli } from "../../../base/kube/quantity.ts";
import type { Pod } from "../../../base/kube/types.gen.ts";
import { isTerminal, timeMs } from "../objects.ts";

/** What a pod uses, or what it says of itself. */
export interface Reading {
  readonly milli: number;
  /** The end of the time that it was measured over, and how long that was; 0 for what is true of an instant. */
  readonly atMs: number;
  readonly windowMs: number;
}

/** By the pod's name; a pod that nothing is known of is missing. */
export type Readings = ReadonlyMap<string, Reading>;

/** How far usage may be from its target, as a share of it, before anything is done about it. */
export interface Tolerances {
  readonly up: number;
  readonly down: number;
}

export interface Question {
  /** What the target has now. */
  readonly replicas: number;
  readonly pods: readonly Pod[];
  readonly readings: Readings;
  readonly tolerances: Tolerances;
  readonly nowMs: number;
}

export interface Answer {
  readonly replicas: number;
  /** Of the pods that count. */
  readonly averageMilli: number;
  /** Of what they request; only when that was the question. */
  readonly percent?: number;
}

/** After its start a pod's CPU says more of the start than of its work (--horizontal-pod-autoscaler-cpu-initialization-period). */
const CPU_INITIALIZATION_MS = 300_000;
/** A pod whose readiness changed this soon after its start, and is not ready, never was (--horizontal-pod-autoscaler-initial-readiness-delay). */
const INITIAL_READINESS_MS = 30_000;

/** Multiplied fractions are a hair off: 11.000000000000002 pods are 11. */
const ceilExact = (value: number): number => Math.ceil(Number(value.toPrecision(12)));

const isUnready = ({ status }: Pod, { atMs, windowMs }: Reading, nowMs: number): boolean => {
  const ready = status?.conditions?.find((c) => c.type === "Ready");
  if (!ready || status?.startTime === undefined) return true;
  const [startedMs, changedMs] = [timeMs(status.startTime), timeMs(ready.lastTransitionTime)];
  if (startedMs + CPU_INITIALIZATION_MS > nowMs) return ready.status === "False" || atMs < changedMs + windowMs;
  return ready.status === "False" && startedMs + INITIAL_READINESS_MS > changedMs;
};

interface Groups {
  readonly ready: ReadonlyMap<string, number>;
  readonly unready: readonly string[];
  readonly missing: readonly string[];
}

/** `isCpu`: only there a pod that starts up is worse than no measure at all. Pods that end are in no group. */
const grouped = ({ pods, readings, nowMs }: Question, isCpu: boolean): Groups => {
  const ready = new Map<string, number>();
  const unready: string[] = [];
  const missing: string[] = [];
  for (const pod of pods) {
    const name = pod.metadata.name!;
    if (pod.metadata.deletionTimestamp !== undefined || isTerminal(pod)) continue;
    const reading = readings.get(name);
    if ((pod.status?.phase ?? "Pending") === "Pending") unready.push(name);
    else if (!reading) missing.push(name);
    else if (isCpu && isUnready(pod, reading, nowMs)) unready.push(name);
    else ready.set(name, reading.milli);
  }
  return { ready, unready, missing };
};

interface Measure {
  /** Usage over its target: above 1 more pods are needed. */
  readonly ratio: (values: ReadonlyMap<string, number>) => number;
  /** What a pod without a reading counts as where less pods would do: too much rather than too little. */
  readonly assumed: (pod: string) => number;
}

const proposed = ({ replicas, tolerances }: Question, { ready, unready, missing }: Groups, { ratio: ratioOf, assumed }: Measure): number => {
  const isWithin = (ratio: number): boolean => 1 - tolerances.down <= ratio && ratio <= 1 + tolerances.up;
  const ratio = ratioOf(ready);
  const countsUnready = unready.length > 0 && ratio > 1;
  if (!countsUnready && missing.length === 0) return isWithin(ratio) ? replicas : ceilExact(ratio * ready.size);
  const values = new Map(ready);
  // Each guess is against what is about to be done.
  if (ratio < 1) for (const name of missing) values.set(name, assumed(name));
  if (ratio > 1) for (const name of missing) values.set(name, 0);
  if (countsUnready) for (const name of unready) values.set(name, 0);
  const after = ratioOf(values);
  if (isWithin(after) || (ratio < 1 && after > 1) || (ratio > 1 && after < 1)) return replicas;
  const wanted = ceilExact(after * values.size);
  return (after < 1 && wanted > replicas) || (after > 1 && wanted < replicas) ? replicas : wanted;
};

const sum = (values: Iterable<number>): number => {
  let total = 0;
  for (const value of values) total += value;
  return total;
};

const fault = (message: string): GantryError => new GantryError("NotFound", message);

const counted = (question: Question, isCpu: boolean): Groups => {
  if (question.pods.length === 0) throw fault("no pods returned by selector while calculating replica count");
  const groups = grouped(question, isCpu);
  if (groups.ready.size === 0) throw fault("did not receive metrics for targeted pods (pods might be unready)");
  return groups;
};

/** What each pod's containers (or one of them) request. Throws NotFound, naming the container that says nothing. */
const requestsOf = (pods: readonly Pod[], resource: string, container: string | undefined): ReadonlyMap<string, number> =>
  new Map(pods.map(({ metadata, spec }) => {
    const containers = [...(spec?.containers ?? []), ...(spec?.initContainers ?? []).filter((c) => c.restartPolicy === "Always")];
    return [metadata.name!, sum(containers.filter((c) => container === undefined || c.name === container).map((c) => {
      const request = c.resources?.requests?.[resource];
      if (request === undefined) throw fault(`missing request for ${resource} in container ${c.name} of Pod ${metadata.name!}`);
      return toMilli(request);
    }))];
  }));

/** For a share of what pods request. Throws NotFound when too little is known. */
export const replicasForUtilization = (question: Question, resource: string, container: string | undefined, targetPercent: number): Answer => {
  const groups = counted(question, resource === "cpu");
  const requests = requestsOf(question.pods, resource, container);
  const percentOf = (values: ReadonlyMap<string, number>): number => {
    const requested = sum(Array.from(values.keys(), (name) => requests.get(name)!));
    if (requested === 0) throw fault("no metrics returned matched known pods");
    return Math.trunc((sum(values.values()) * 100) / requested);
  };
  const replicas = proposed(question, groups, {
    ratio: (values) => percentOf(values) / targetPercent,
    assumed: (name) => (requests.get(name)! * Math.max(100, targetPercent)) / 100,
  });
  return { replicas, percent: percentOf(groups.ready), averageMilli: Math.trunc(sum(groups.ready.values()) / groups.ready.size) };
};

/** For an amount per pod. Throws NotFound when too little is known. */
export const replicasForAverage = (question: Question, resource: string | undefined, targetMilli: number): Answer => {
  const groups = counted(question, resource === "cpu");
  const averageOf = (values: ReadonlyMap<string, number>): number => Math.trunc(sum(values.values()) / values.size);
  const replicas = proposed(question, groups, { ratio: (values) => averageOf(values) / targetMilli, assumed: () => targetMilli });
  return { replicas, averageMilli: averageOf(groups.ready) };
};
