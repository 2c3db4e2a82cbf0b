// What a container changed of its image: docker's A, C and D lines, from the writable layer (an overlayfs upper directory) and the layers below it.
import { lstatSync, readdirSync, type Stats } from "node:fs";
import { join } from "node:path";
import { getXattr } from "../linux/files.ts";

export interface Change {
  readonly kind: "A" | "C" | "D";
  readonly path: string;
}

const OPAQUE = "trusted.overlay.opaque";
const isWhiteout = (stat: Stats): boolean => stat.isCharacterDevice() && stat.rdev === 0;
const isOpaque = (path: string): boolean => getXattr(path, OPAQUE)?.toString() === "y";

/** What the image has at `path` (relative), looked for from the highest layer down, as overlayfs does. `layerDirs`: lowest first. */
export const statInLayers = (layerDirs: readonly string[], path: string, opaque: (directory: string) => boolean = isOpaque): Stats | undefined => {
  const parts = path.split("/");
  for (const layer of layerDirs.toReversed()) {
    let hidesBelow = false;
    for (let depth = 1; depth <= parts.length; depth++) {
      const full = join(layer, ...parts.slice(0, depth));
      const stat = lstatSync(full, { throwIfNoEntry: false });
      if (!stat) break;
      if (isWhiteout(stat)) return undefined;
      if (depth === parts.length) return stat;
      // A file here hides a directory of that name below.
      if (!stat.isDirectory()) return undefined;
      hidesBelow ||= opaque(full);
    }
    if (hidesBelow) return undefined;
  }
  return undefined;
};

/** `exclude`: mount points, relative; what is there is not the container's. Sorted by path. */
export const containerChanges = (upper: string, layerDirs: readonly string[], exclude: ReadonlySet<string>, opaque: (directory: string) => boolean = isOpaque): readonly Change[] => {
  const walk = (directory: string): Change[] =>
    readdirSync(join(upper, directory)).sort().flatMap((name): Change[] => {
      const path = directory === "" ? name : `${directory}/${name}`;
      if (exclude.has(path)) return [];
      const stat = lstatSync(join(upper, path), { throwIfNoEntry: false });
      if (!stat) return [];
      if (isWhiteout(stat)) return statInLayers(layerDirs, path, opaque) ? [{ kind: "D", path: `/${path}` }] : [];
      const below = statInLayers(layerDirs, path, opaque);
      if (!stat.isDirectory()) return [{ kind: below ? "C" : "A", path: `/${path}` }];
      const inside = walk(path);
      if (!below) return [{ kind: "A", path: `/${path}` }, ...inside];
      // overlayfs copies a directory up for whatever happens in it: by itself that is no change.
      const isChanged = inside.length > 0 || below.mode !== stat.mode || below.uid !== stat.uid || below.gid !== stat.gid;
      return isChanged ? [{ kind: "C", path: `/${path}` }, ...inside] : [];
    });
  return walk("");
};
