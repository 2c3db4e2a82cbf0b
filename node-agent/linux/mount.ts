// Mounts: bind, tmpfs, overlay, propagation, and reading the mount table. Who mounts something unmounts it; this file keeps no state.
import { closeSync, constants, mkdirSync, openSync, readFileSync, statfsSync } from "node:fs";
import { GantryError } from "../../base/errors.ts";
import * as libc from "./libc.ts";
import { isErrno } from "./libc.ts";

/** mount(2). */
export const MountFlags = {
  readOnly: 0x1, noSuid: 0x2, noDev: 0x4, noExec: 0x8, remount: 0x20, noAtime: 0x400, bind: 0x1000, move: 0x2000, recursive: 0x4000,
  unbindable: 1 << 17, private: 1 << 18, slave: 1 << 19, shared: 1 << 20,
} as const;

export type Propagation = "private" | "slave" | "shared" | "unbindable";

const MNT_DETACH = 2;
const UMOUNT_NOFOLLOW = 8;
const AT_FDCWD = -100;
const AT_RECURSIVE = 0x8000;
const MOUNT_ATTR_RDONLY = 1n;

export interface MountOptions {
  readonly source: string;
  readonly target: string;
  readonly type: string;
  /** MountFlags, or-ed. */
  readonly flags?: number;
  /** Options of the file system, comma-separated; at most one page. */
  readonly data?: string;
}

/** mount(2). Throws SystemCallError. */
export const mount = ({ source, target, type, flags = 0, data }: MountOptions): void => {
  libc.mount(source, target, type, flags, data ?? null);
};

/** umount2(2). Never follows a link at `target`. No error when nothing is mounted there. `detach`: out of the tree at once, gone when unused. */
export const unmount = (target: string, { detach = false }: { readonly detach?: boolean } = {}): void => {
  try {
    libc.umount2(target, UMOUNT_NOFOLLOW | (detach ? MNT_DETACH : 0));
  } catch (error) {
    if (!isErrno(error, "EINVAL", "ENOENT")) throw error;
  }
};

/**
 * As unmount with `detach`, without making this thread wait: on a busy machine the kernel takes its time (tens to hundreds of ms were seen),
 * most of it for its own sake.
 */
export const detachElsewhere = async (target: string): Promise<void> => {
  if (!(await libc.umount2Elsewhere(target, UMOUNT_NOFOLLOW | MNT_DETACH))) unmount(target, { detach: true });
};

export interface OverlayOptions {
  /** Lowest layer first, as in an image; overlayfs gets them the other way round. At least one. */
  readonly lowerDirs: readonly string[];
  /** Without it the overlay is read-only and needs two lower directories at least. */
  readonly upper?: string;
  /** Empty directory on the file system of `upper`. */
  readonly work?: string;
  readonly target: string;
  /** Skip every sync of the upper layer: faster, but after a crash of the machine the layer is lost. Linux 5.10. */
  readonly volatile?: boolean;
  /** Whiteouts and opaque marks in user.* instead of trusted.*: inside a user namespace. Linux 5.11. */
  readonly userXattr?: boolean;
  readonly flags?: number;
}

/** mount(2) takes at most one page of options, its closing zero included. 4096 also where pages are larger: the same on all machines. */
const MOUNT_DATA_BYTES = 4096;
/** What overlayfs would take for a separator. */
const SPECIAL = /[,:\\]/;

/**
 * Mounts an overlay. Long lists of layers, or names with `:` or `,` in them, are named by open descriptors (`/proc/self/fd/N`), because
 * the options must fit one page: so about 220 layers are possible wherever they lie.
 */
export const mountOverlay = (options: OverlayOptions): void => {
  const { lowerDirs, upper, work, target } = options;
  if (lowerDirs.length === 0) throw new GantryError("Invalid", `overlay at ${target}: lowerDirs is empty; at least one directory is needed`);
  if ((upper === undefined) !== (work === undefined)) {
    throw new GantryError("Invalid", `overlay at ${target}: upper is ${upper}, work is ${work}; give both or neither`);
  }
  const format = (name: (path: string) => string): string =>
    `lowerdir=${lowerDirs.map(name).reverse().join(":")}`
    + (upper === undefined ? "" : `,upperdir=${name(upper)},workdir=${name(work!)}`)
    + (options.volatile ? ",volatile" : "") + (options.userXattr ? ",userxattr" : "");
  const put = (data: string): void => mount({ source: "overlay", target, type: "overlay", flags: options.flags ?? 0, data });

  const plain = format((path) => path);
  const paths = [...lowerDirs, ...(upper === undefined ? [] : [upper, work!])];
  if (Buffer.byteLength(plain) < MOUNT_DATA_BYTES && !paths.some((path) => SPECIAL.test(path))) return put(plain);

  const open = new Map<string, number>();
  try {
    for (const path of paths) open.set(path, openSync(path, constants.O_DIRECTORY | constants.O_NOFOLLOW | 0x200000 /* O_PATH */));
    const short = format((path) => `/proc/self/fd/${open.get(path)}`);
    if (Buffer.byteLength(short) >= MOUNT_DATA_BYTES) {
      throw new GantryError("Invalid", `overlay at ${target}: ${lowerDirs.length} layers are too many; the kernel takes one page of mount options`);
    }
    put(short);
  } finally {
    for (const fd of open.values()) closeSync(fd);
  }
};

export interface BindOptions {
  readonly readOnly?: boolean;
  /** With everything that is mounted below the source. */
  readonly recursive?: boolean;
  readonly propagation?: Propagation;
}

/** Binds `source` onto `target`, which exists and is of the same kind (file or directory). Leaves nothing mounted when it fails. */
export const bindMount = (source: string, target: string, { readOnly = false, recursive = false, propagation }: BindOptions = {}): void => {
  libc.mount(source, target, null, MountFlags.bind | (recursive ? MountFlags.recursive : 0), null);
  try {
    if (readOnly) makeReadOnly(target, recursive);
    if (propagation) setPropagation(target, propagation, recursive);
  } catch (error) {
    unmount(target, { detach: true });
    throw error;
  }
};

const makeReadOnly = (target: string, recursive: boolean): void => {
  const attributes = Buffer.alloc(32); // struct mount_attr: attr_set, attr_clr, propagation, userns_fd
  attributes.writeBigUInt64LE(MOUNT_ATTR_RDONLY, 0);
  try {
    libc.mountSetattr(AT_FDCWD, target, recursive ? AT_RECURSIVE : 0, attributes, attributes.length);
  } catch (error) {
    if (!isErrno(error, "ENOSYS")) throw error;
    // Before Linux 5.12 only the mount itself, and its other flags have to be said again or they are cleared.
    const options = readMounts().findLast((m) => m.target === target)?.options ?? [];
    const keep = (options.includes("nosuid") ? MountFlags.noSuid : 0) | (options.includes("nodev") ? MountFlags.noDev : 0) | (options.includes("noexec") ? MountFlags.noExec : 0);
    libc.mount(null, target, null, MountFlags.remount | MountFlags.bind | MountFlags.readOnly | keep, null);
  }
};

/** `owner`: user and group of its root directory; absent: 0. `data`: more options; the kernel takes the last of two of a kind. */
export const mountTmpfs = (target: string, { sizeBytes, mode = 0o755, owner, flags = MountFlags.noSuid | MountFlags.noDev, data = [] }: { readonly sizeBytes?: number; readonly mode?: number; readonly owner?: number; readonly flags?: number; readonly data?: readonly string[] } = {}): void => {
  const ids = owner === undefined ? [] : [`uid=${owner}`, `gid=${owner}`];
  mount({ source: "tmpfs", target, type: "tmpfs", flags, data: [`mode=${mode.toString(8)}`, ...(sizeBytes === undefined ? [] : [`size=${sizeBytes}`]), ...ids, ...data].join(",") });
};

/** `sizeBytes`: most that its files take, whole pages. "FailedPrecondition" where the kernel has no pages of this size. */
export const mountHugePages = (target: string, { pageBytes, sizeBytes, mode }: { readonly pageBytes: number; readonly sizeBytes: number; readonly mode: number }): void => {
  try {
    mount({ source: "nodev", target, type: "hugetlbfs", flags: MountFlags.noSuid | MountFlags.noDev, data: `pagesize=${pageBytes},size=${sizeBytes},mode=${mode.toString(8)}` });
  } catch (error) {
    if (!isErrno(error, "EINVAL", "ENODEV")) throw error;
    throw new GantryError("FailedPrecondition", `this node has no huge pages of ${pageBytes} bytes`, { cause: error, retryable: true });
  }
};

const TMPFS_MAGIC = 0x01021994;

/** Makes `directory` and puts a tmpfs on it unless it lies on one already (as /run mostly does). For many small, short-lived files. */
export const ensureTmpfs = (directory: string, options: Parameters<typeof mountTmpfs>[1] = {}): void => {
  mkdirSync(directory, { recursive: true });
  if (statfsSync(directory).type !== TMPFS_MAGIC) mountTmpfs(directory, options);
};

/** Of the mount at `target`, and of all below with `recursive`. */
export const setPropagation = (target: string, propagation: Propagation, recursive = false): void => {
  libc.mount(null, target, null, MountFlags[propagation] | (recursive ? MountFlags.recursive : 0), null);
};

export const makePrivate = (target: string): void => setPropagation(target, "private");
export const makeShared = (target: string): void => setPropagation(target, "shared");

/** One line of /proc/PID/mountinfo (proc(5)). */
export interface MountEntry {
  readonly id: number;
  readonly parentId: number;
  /** "8:1". */
  readonly device: string;
  /** Path inside the file system that is mounted: not "/" for a bind. */
  readonly root: string;
  readonly target: string;
  readonly options: readonly string[];
  /** "shared:5", "master:2", "unbindable". */
  readonly propagation: readonly string[];
  readonly type: string;
  readonly source: string;
  readonly superOptions: readonly string[];
}

/** The kernel writes space, tab, newline and backslash as three octal digits. `field` is latin1: a character a byte. */
const decode = (field: string): string =>
  /^[\w/.@:+-]*$/.test(field) ? field : Buffer.from(field.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8))), "latin1").toString("utf8");

/** Lines in the kernel's order: a mount stands after the one that it lies on. `text` is read as latin1: names are bytes. */
export const parseMountInfo = (text: string): readonly MountEntry[] =>
  text.split("\n").flatMap((line) => {
    const separator = line.indexOf(" - ");
    if (separator < 0) return [];
    const [id, parentId, device, root, target, options, ...propagation] = line.slice(0, separator).split(" ");
    const [type, source, superOptions] = line.slice(separator + 3).split(" ");
    return [{
      id: Number(id), parentId: Number(parentId), device: device ?? "", root: decode(root ?? ""), target: decode(target ?? ""),
      options: (options ?? "").split(","), propagation, type: type ?? "", source: decode(source ?? ""), superOptions: (superOptions ?? "").split(","),
    }];
  });

/** The mounts that this thread sees. */
export const readMounts = (): readonly MountEntry[] => parseMountInfo(readFileSync("/proc/thread-self/mountinfo", "latin1"));

export const isBelow = (path: string, directory: string): boolean => path === directory || path.startsWith(directory === "/" ? "/" : `${directory}/`);

/** Detaches all that is mounted on `directory` or below, the last first. `directory` is absolute, without links. Returns the targets. */
export const unmountAllBelow = (directory: string): readonly string[] => {
  const targets = readMounts().map((m) => m.target).filter((target) => isBelow(target, directory)).reverse();
  for (const target of targets) unmount(target, { detach: true });
  return targets;
};
