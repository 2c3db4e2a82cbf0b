// What the runtime and the pods need of the node's control groups; tests give less than a whole tree. Paths are relative to the node's own root.
import type { CgroupTree } from "../cgroups/cgroup-tree.ts";

export type ContainerCgroups = Pick<CgroupTree, "describe" | "features" | "ociPath" | "create" | "apply" | "remove" | "kill" | "processes" | "freeze" | "thaw" | "isFrozen" | "readStats" | "readOomKills">;
