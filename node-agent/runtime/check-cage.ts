// What the OCI runtime made is looked at before the container's own program runs: old runtimes on other distributions lack the fixes for
// CVE-2024-21626 (a working directory outside), CVE-2025-31133 and CVE-2019-19921 (a /dev/null or a /proc that the image or a volume has
// put in the place of the real one, so that masked files stay in sight, and those to be read-only can be written to). The created process stands still meanwhile, and is in its
// working directory already, so that nothing can change between the look and the start.
import { closeSync, constants, fstatSync, openSync, readFileSync, readlinkSync, type Stats } from "node:fs";
import { GantryError, describeError } from "../../base/errors.ts";
import { openConfined, O_PATH, Resolve } from "../linux/files.ts";
import { isErrno } from "../linux/libc.ts";
import { parseMountInfo, type MountEntry } from "../linux/mount.ts";
import type { ClosedPaths } from "./bundle.ts";

type Kind = "missing" | "nullDevice" | "directory" | "something";

/** What is at a path of the container. Nothing is "missing", on no mount; what lies behind a link is "something". */
interface Sight {
  readonly path: string;
  readonly is: Kind;
  readonly mountId: number;
}

export interface Cage {
  /** The mounts that the container's process sees. */
  readonly mounts: readonly MountEntry[];
  /** The mount that its working directory is on. */
  readonly cwdMountId: number;
  /** Must be the whole of a file system of this type. */
  readonly fileSystems: readonly (Sight & { readonly type: string })[];
  /** Must show nothing. */
  readonly masked: readonly Sight[];
  /** Must be the kernel's own, if they are there, and not writable. */
  readonly readOnly: readonly Sight[];
}

/** Pure: what is open that should be closed; undefined when all is well. */
export const holeIn = ({ mounts, cwdMountId, fileSystems, masked, readOnly }: Cage): string | undefined => {
  const byId = new Map(mounts.map((m) => [m.id, m]));
  if (!byId.has(cwdMountId)) return "its working directory is outside of the container";
  for (const { path, type, mountId } of fileSystems) {
    const mount = byId.get(mountId);
    if (mount?.type !== type || mount.target !== path || mount.root !== "/") return `${path} is not a ${type} file system of its own`;
  }
  for (const { path, is, mountId } of masked) {
    if (is === "something") return `${path}, which is to be hidden, shows something`;
    if (is === "directory" && byId.get(mountId)?.type !== "tmpfs") return `${path}, which is to be hidden, is the real folder`;
  }
  for (const { path, is, mountId } of readOnly) {
    if (is === "missing") continue;
    const mount = byId.get(mountId);
    if (mount?.type !== "proc") return `${path}, which is to be read-only, is not that of the proc file system`;
    if (![...mount.options, ...mount.superOptions].includes("ro")) return `${path}, which is to be read-only, can be written to`;
  }
  return undefined;
};

const mountIdOf = (fd: number): number => Number(/^mnt_id:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"))?.[1] ?? -1);

const NULL_DEVICE = (1 << 8) | 3;
const NOWHERE = -1;

const kindOf = (is: Stats): Kind => (is.isCharacterDevice() && is.rdev === NULL_DEVICE ? "nullDevice" : is.isDirectory() ? "directory" : "something");

/** Never follows a link: those of an image may lead into this machine. */
const lookAt = (root: number, path: string): Sight => {
  let fd: number | undefined;
  try {
    fd = openConfined(root, path, { flags: O_PATH | constants.O_NOFOLLOW, resolve: Resolve.inRoot | Resolve.noLinks });
    return { path, is: kindOf(fstatSync(fd)), mountId: mountIdOf(fd) };
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return { path, is: "missing", mountId: NOWHERE };
    if (isErrno(error, "ELOOP")) return { path, is: "something", mountId: NOWHERE };
    throw error;
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
};

const lookInto = (pid: number, { masked, readOnly, fileSystems }: ClosedPaths): Cage => {
  const [root, cwd] = [openSync(`/proc/${pid}/root`, O_PATH), openSync(`/proc/${pid}/cwd`, O_PATH)];
  try {
    return {
      mounts: parseMountInfo(readFileSync(`/proc/${pid}/mountinfo`, "latin1")), cwdMountId: mountIdOf(cwd),
      fileSystems: fileSystems.map(({ path, type }) => ({ ...lookAt(root, path), type })),
      masked: masked.map((path) => lookAt(root, path)), readOnly: readOnly.map((path) => lookAt(root, path)),
    };
  } finally {
    closeSync(root);
    closeSync(cwd);
  }
};

/** `pid` is a created process that has not been started. "FailedPrecondition" names what is open; 0.3 ms. */
export const checkCage = (pid: number, closed: ClosedPaths): void => {
  const hole = holeIn(lookInto(pid, closed));
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
