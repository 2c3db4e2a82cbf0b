// Huge pages: a resource for each size that the machine has, and volumes made of them. Pure.
// https://kubernetes.io/docs/tasks/manage-hugepages/scheduling-hugepages/
import type { PodSpec } from "./types.gen.ts";
import { formatBytes, tryParseQuantity } from "./quantity.ts";

const RESOURCE = "hugepages-";
/** Of an emptyDir: pages of the one size that the pod asks for, or `HugePages-2Mi`. */
const MEDIUM = "HugePages";

export const isHugePages = (resource: string): boolean => resource.startsWith(RESOURCE);
export const isHugePagesMedium = (medium: string): boolean => medium === MEDIUM || medium.startsWith(`${MEDIUM}-`);

const sizeOf = (text: string): number | undefined => {
  const bytes = tryParseQuantity(text);
  return bytes !== undefined && Number.isSafeInteger(bytes) && bytes > 0 ? bytes : undefined;
};

/** Bytes of one page of the resource hugepages-2Mi; undefined where the name has no size, or is another resource's. */
export const pageBytesOf = (resource: string): number | undefined => (isHugePages(resource) ? sizeOf(resource.slice(RESOURCE.length)) : undefined);

export const hugePagesResource = (pageBytes: number): string => `${RESOURCE}${formatBytes(pageBytes)}`;

/** As control groups and OCI bundles name a size: 64KB, 2MB, 1GB (the kernel's mem_fmt; powers of 1024 all the same). */
export const kernelPageSize = (pageBytes: number): string => formatBytes(pageBytes).replace("i", "B");

/** Size of the pages of which a volume of `medium` consists, or why it can't be told: it has to be one that a container of the pod asks for. */
export const volumePageBytes = ({ containers, initContainers = [] }: Pick<PodSpec, "containers" | "initContainers">, medium: string): number | { readonly fault: string } => {
  const asked = new Set([...containers, ...initContainers].flatMap((c) => Object.keys({ ...c.resources?.limits, ...c.resources?.requests })).flatMap((name) => pageBytesOf(name) ?? []));
  if (medium !== MEDIUM) {
    const wanted = sizeOf(medium.slice(MEDIUM.length + 1));
    if (wanted === undefined) return { fault: `must be ${MEDIUM} or ${MEDIUM}-SIZE, such as ${MEDIUM}-2Mi` };
    return asked.has(wanted) ? wanted : { fault: `no container of the pod requests ${hugePagesResource(wanted)}` };
  }
  const [only] = asked;
  if (only === undefined) return { fault: "no container of the pod requests huge pages" };
  return asked.size === 1 ? only : { fault: `can't be used if containers request several sizes of huge pages: ${[...asked].map((bytes) => `${MEDIUM}-${formatBytes(bytes)}`).join(" or ")}` };
};
