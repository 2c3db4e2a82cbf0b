// Tests that run crun without a cluster, on hybrid hosts (node-agent/cgroups/hybrid.ts).
import { openSync } from "node:fs";
import { readCgroupLayout } from "../../node-agent/cgroups/detect.ts";
import { hybridMounts, prepareHybridHost } from "../../node-agent/cgroups/hybrid.ts";

const RECORD = "/run/gantry-test-hybrid-mounts";
let held = false;

/** What crun needs is mounted, and stays so while this process lives: a cluster of another test that goes down would take it away, and crun then starts nothing. */
export const holdHybridHost = (): void => {
  while (!held) {
    prepareHybridHost(readCgroupLayout(), RECORD);
    // What is open can't be unmounted. What went in between is mounted anew.
    for (const path of readCgroupLayout().hierarchies.values()) openSync(path, "r");
    held = hybridMounts(readCgroupLayout()).length === 0;
  }
};
