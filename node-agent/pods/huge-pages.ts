// Huge pages that containers, and a pod as a whole, may have. Pure.
import { kernelPageSize, pageBytesOf } from "../../base/kube/huge-pages.ts";
import type { Resources } from "../../proto/gen/gantry/v1/agent.ts";
import type { Assignment } from "./assignment.ts";
import { mostAtOnce } from "./pod-record.ts";

/** Bytes by the size of the pages, as control groups name it: { "2MB": 4194304 }. */
export type HugePages = Readonly<Record<string, number>>;

export const hugePagesOf = (limits: Resources | undefined): HugePages => Object.fromEntries(Object.entries(limits?.extended ?? {}).flatMap(([resource, bytes]) => {
  const pageBytes = pageBytesOf(resource);
  return pageBytes === undefined ? [] : [[kernelPageSize(pageBytes), bytes]];
}));

export const hugePagesOfPod = (pod: Pick<Assignment, "containers" | "initContainers">): HugePages => {
  const sizes = new Set([...pod.containers, ...pod.initContainers].flatMap((c) => Object.keys(hugePagesOf(c.limits))));
  return Object.fromEntries([...sizes].map((size) => [size, mostAtOnce(pod, (c) => hugePagesOf(c.limits)[size] ?? 0)]));
};
