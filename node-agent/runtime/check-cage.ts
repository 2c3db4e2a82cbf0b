// What the OCI runtime made is looked at before the container's own program runs: old runtimes on other distributions lack the fixes for
// CVE-2024-21626 (a working directory outside), CVE-2025-31133 and CVE-2019-19921 (a /dev/null or a /proc that the image or a volume has
// put in the place of the real one, so that masked files stay in sight). The created process stands still meanwhile, and is in its
// working directory already, so that nothing can change between the look and the start.
import { closeSync, constants, lstatSync, openSync, readFileSync, readlinkSync } from "node:fs";
import { GantryError, describeError } from "../../base/errors.ts";
import { openConfined, O_PATH, Resolve } from "../linux/files.ts";
import { isErrno } from "../linux/libc.ts";
import { parseMountInfo, type MountEntry } from "../linux/mount.ts";

export interface Cage {
  /** The mounts that the container's process sees. */
  readonly mounts: readonly MountEntry[];
  /** The mount that its working directory is on. */
  readonly cwdMountId: number;
  /** Paths that must show nothing, and what is there. */
  readonly masked: readonly { readonly path: string; readonly is: "missing" | "nullDevice" | "directory" | "something" }[];
}

/** Pure: what is open that should be closed; undefined when all is well. */
export const holeIn = ({ mounts, cwdMountId, masked }: Cage): string | undefined => {
  if (!mounts.some((m) => m.id === cwdMountId)) return "its working directory is outside of the container";
  const topmost = (path: string): MountEntry | undefined => mounts.findLast((m) => m.target === path);
  if (masked.length === 0) return undefined;
  if (topmost("/proc")?.type !== "proc") return "/proc is not a proc file system of its own";
  for (const { path, is } of masked) {
    if (is === "something") return `${path}, which is to be hidden, shows something`;
    if (is === "directory" && topmost(path)?.type !== "tmpfs") return `${path}, which is to be hidden, is the real folder`;
  }
  return undefined;
};

const mountIdOf = (path: string): number => {
  const fd = openSync(path, O_PATH);
  try {
    return Number(/^mnt_id:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"))?.[1] ?? -1);
  } finally {
    closeSync(fd);
  }
};

const NULL_DEVICE = (1 << 8) | 3;

const lookAt = (path: string): Cage["masked"][number]["is"] => {
  try {
    const is = lstatSync(path);
    return is.isCharacterDevice() && is.rdev === NULL_DEVICE ? "nullDevice" : is.isDirectory() ? "directory" : "something";
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return "missing";
    throw error;
  }
};

/** `pid` is a created process that has not been started. "FailedPrecondition" names what is open; 0.3 ms. */
export const checkCage = (pid: number, maskedPaths: readonly string[]): void => {
  const hole = holeIn({
    mounts: parseMountInfo(readFileSync(`/proc/${pid}/mountinfo`, "latin1")), cwdMountId: mountIdOf(`/proc/${pid}/cwd`),
    masked: maskedPaths.map((path) => ({ path, is: lookAt(`/proc/${pid}/root${path}`) })),
  });
  if (hole !== undefined) throw new GantryError("FailedPrecondition", `the container is not closed: ${hole}; its image or one of its volumes stands in the way of the runtime, or the OCI runtime is too old (CVE-2024-21626, CVE-2025-31133)`);
};

export interface OpenDirectory extends Disposable {
  /** O_PATH. */
  readonly fd: number;
  /** As seen in the container, without links. */
  readonly path: string;
}

/**
 * A command's working directory, found as the processes of `pid`'s container would find it. It must not lead through /proc/PID/fd and its like,
 * to which those may have linked since. "BadRequest" says what is there instead of a folder; "InternalError": the
 * process has ended.
 */
export const openExecDirectory = (pid: number, cwd: string): OpenDirectory => {
  const root = openRoot(pid);
  try {
    const fd = openConfined(root, cwd, { flags: O_PATH | constants.O_DIRECTORY, resolve: Resolve.inRoot | Resolve.noMagicLinks });
    return { fd, path: readlinkSync(`/proc/self/fd/${fd}`), [Symbol.dispose]: () => closeSync(fd) };
  } catch (error) {
    throw new GantryError("BadRequest", `working directory ${JSON.stringify(cwd)}: ${notEntered(error)}`, { cause: error });
  } finally {
    closeSync(root);
  }
};

const openRoot = (pid: number): number => {
  try {
    return openSync(`/proc/${pid}/root`, O_PATH);
  } catch (error) {
    throw new GantryError("InternalError", `the root of process ${pid} can't be opened: ${describeError(error)}`, { cause: error });
  }
};

const notEntered = (error: unknown): string => {
  if (isErrno(error, "ELOOP")) return "it leads through a link of /proc to who knows where, or in a circle";
  if (isErrno(error, "ENOENT")) return "there is no such folder in the container";
  if (isErrno(error, "ENOTDIR")) return "it is not a folder";
  return describeError(error);
};
