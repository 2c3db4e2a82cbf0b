// Huge pages that containers, and a pod as a whole, may have. Pure.
import { kernelPageSize, pageBytesOf } from "../../base/kube/huge-pages.ts";
import type { Resources } from "../../proto/gen/gantry/v1/agent.ts";
import type { Assignment } from "./assignment.ts";
import { isSidecar } from "./pod-record.ts";

/** Bytes by the size of the pages, as control groups name it: { "2MB": 4194304 }. */
export type HugePages = Readonly<Record<string, number>>;

export const hugePagesOf = (limits: Resources | undefined): HugePages => Object.fromEntries(Object.entries(limits?.extended ?? {}).flatMap(([resource, bytes]) => {
  const pageBytes = pageBytesOf(resource);
  return pageBytes === undefined ? [] : [[kernelPageSize(pageBytes), bytes]];
}));

/** What runs at one time: the containers with their sidecars, or an init container with them. */
export const hugePagesOfPod = ({ containers, initContainers }: Pick<Assignment, "containers" | "initContainers">): HugePages => {
  const all = [...containers, ...initContainers].map((c) => ({ container: c, pages: hugePagesOf(c.limits), isInit: initContainers.includes(c) && !isSidecar(c) }));
  const sizes = new Set(all.flatMap(({ pages }) => Object.keys(pages)));
  return Object.fromEntries([...sizes].map((size) => {
    const sum = (isCounted: (c: (typeof all)[number]) => boolean): number => all.filter(isCounted).reduce((total, { pages }) => total + (pages[size] ?? 0), 0);
    const sidecars = sum(({ container }) => isSidecar(container));
    return [size, Math.max(sum(({ isInit }) => !isInit), ...all.filter(({ isInit }) => isInit).map(({ pages }) => sidecars + (pages[size] ?? 0)))];
  }));
};
