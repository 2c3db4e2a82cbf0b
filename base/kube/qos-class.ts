// A pod's quality-of-service class: https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/
import { tryParseQuantity } from "./quantity.ts";
import type { PodSpec } from "./types.gen.ts";

export type QosClass = "Guaranteed" | "Burstable" | "BestEffort";

const COMPUTE = ["cpu", "memory"] as const;

export const qosClassOf = (spec: PodSpec): QosClass => {
  const containers = [...spec.containers, ...(spec.initContainers ?? [])];
  const amount = (of: Readonly<Record<string, string>> | undefined, resource: string): number => tryParseQuantity(of?.[resource] ?? "0") ?? 0;
  if (!containers.some(({ resources }) => COMPUTE.some((r) => amount(resources?.requests, r) > 0 || amount(resources?.limits, r) > 0))) return "BestEffort";
  const fixed = containers.every(({ resources }) => COMPUTE.every((r) => {
    const limit = amount(resources?.limits, r);
    return limit > 0 && (resources?.requests?.[r] === undefined || amount(resources.requests, r) === limit);
  }));
  return fixed ? "Guaranteed" : "Burstable";
};
