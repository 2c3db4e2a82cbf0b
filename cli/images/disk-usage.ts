// `system df`: what the nodes say, added up. Pure.
import type { RowFormat } from "../format.ts";
import { humanSize } from "../human.ts";

/** An element of GET /apis/gantry.io/v1/images/df. */
export interface NodeUsage {
  readonly node: string;
  readonly images: number;
  readonly activeImages: number;
  readonly bytes: number;
  readonly reclaimableBytes: number;
  readonly containers: number;
  readonly activeContainers: number;
  readonly containerBytes: number;
  readonly reclaimableContainerBytes: number;
  readonly volumes: number;
  readonly activeVolumes: number;
  readonly volumeBytes: number;
  readonly buildCacheBytes: number;
}

export const USAGE_FORMAT: RowFormat = {
  headings: { Type: "TYPE", TotalCount: "TOTAL", Active: "ACTIVE", Size: "SIZE", Reclaimable: "RECLAIMABLE" },
  table: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
};

export const usageRows = (nodes: readonly NodeUsage[]): readonly Readonly<Record<string, string>>[] => {
  const sum = (field: keyof Omit<NodeUsage, "node">): number => nodes.reduce((total, node) => total + node[field], 0);
  const row = (type: string, total: number, active: number, bytes: number, reclaimable: number): Readonly<Record<string, string>> => ({
    Type: type, TotalCount: String(total), Active: String(active), Size: humanSize(bytes),
    Reclaimable: `${humanSize(reclaimable)}${bytes > 0 ? ` (${Math.floor((reclaimable / bytes) * 100)}%)` : ""}`,
  });
  return [
    row("Images", sum("images"), sum("activeImages"), sum("bytes"), sum("reclaimableBytes")),
    row("Containers", sum("containers"), sum("activeContainers"), sum("containerBytes"), sum("reclaimableContainerBytes")),
    row("Local Volumes", sum("volumes"), sum("activeVolumes"), sum("volumeBytes"), 0),
    row("Build Cache", 0, 0, sum("buildCacheBytes"), sum("buildCacheBytes")),
  ];
};
