// Hybrid hosts: version 1 hierarchies beside a version 2 tree that still has a controller. crun 1.8 refuses those ("cgroups in hybrid
// mode not supported, drop all controllers from cgroupv2"). Mounting what is left as version 1 takes it off the version 2 tree; what was
// mounted is written down, so that `gantry down` takes exactly that away again.
import { mkdirSync, readFileSync, rmSync, rmdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { GantryError, describeError } from "../../base/errors.ts";
import { isErrno } from "../linux/libc.ts";
import { mount, unmount } from "../linux/mount.ts";
import type { CgroupLayout } from "./detect.ts";

/** Where the missing hierarchies belong: beside the others. Those, too, that an undoing left without a mount: they limit nothing there. Pure. */
export const hybridMounts = (layout: CgroupLayout): readonly { readonly controller: string; readonly target: string }[] => {
  if (layout.version !== "hybrid") return [];
  const beside = [...layout.hierarchies].find(([name]) => !name.startsWith("name="))![1];
  return [...layout.unifiedControllers, ...layout.unmounted].map((controller) => ({ controller, target: join(dirname(beside), controller) }));
};

/**
 * Mounts what is left on the version 2 tree as version 1 and notes it in `recordPath`. Nothing to do on other hosts. Idempotent; several
 * agents may do it at once. "FailedPrecondition" when a controller can't be moved, since then no container would start.
 */
export const prepareHybridHost = (layout: CgroupLayout, recordPath: string): readonly string[] => {
  const mounted: string[] = [];
  for (const { controller, target } of hybridMounts(layout)) {
    try {
      mkdirSync(target, { recursive: true });
      mkdirSync(dirname(recordPath), { recursive: true });
      // Noted first: should this process end in between, the undoing of a mount that is not there does no harm.
      writeFileSync(recordPath, `${target}\n`, { flag: "a" });
      mount({ source: "cgroup", target, type: "cgroup", data: controller });
      mounted.push(target);
    } catch (error) {
      if (isErrno(error, "EBUSY") && isMounted(target, controller)) continue; // another agent was faster
      throw new GantryError("FailedPrecondition",
        `crun needs the ${controller} controller on a version 1 hierarchy, and it can't be mounted at ${target}: ${describeError(error)}; use runc, or boot with systemd.unified_cgroup_hierarchy=1`, { cause: error });
    }
  }
  return mounted;
};

const isMounted = (target: string, controller: string): boolean =>
  readFileSync("/proc/thread-self/mountinfo", "latin1").split("\n").some((line) => line.includes(` ${target} `) && line.endsWith(`,${controller}`));

/** Unmounts what prepareHybridHost mounted, once no container is left; what another program has open stays. Idempotent. */
export const undoHybridHost = (recordPath: string): void => {
  let targets: readonly string[];
  try {
    targets = [...new Set(readFileSync(recordPath, "utf8").split("\n").filter((line) => line !== ""))];
  } catch (error) {
    if (isErrno(error, "ENOENT")) return;
    throw error;
  }
  for (const target of targets) {
    try {
      unmount(target);
      rmdirSync(target);
    } catch (error) {
      if (!isErrno(error, "ENOENT", "EBUSY", "ENOTEMPTY")) throw error;
    }
  }
  rmSync(recordPath, { force: true });
};
