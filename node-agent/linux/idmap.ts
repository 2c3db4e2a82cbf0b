// Idmapped mounts: what is stored as user 0, 1, ... shows as the users of a user namespace, and back when it is written. So files on disk
// have the ids of the container's own view, whatever range of the machine's ids its pod got this time. Linux 5.12; below an overlay 5.19.
import { closeSync, mkdirSync, openSync, rmdirSync, statfsSync, statSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { GantryError } from "../../base/errors.ts";
import { withFileIds } from "./file-ids.ts";
import * as libc from "./libc.ts";
import { isErrno } from "./libc.ts";
import { mountOverlay, setPropagation, unmount, type OverlayOptions, type Propagation } from "./mount.ts";

const AT_FDCWD = -100;
const AT_EMPTY_PATH = 0x1000;
const AT_RECURSIVE = 0x8000;
const OPEN_TREE_CLONE = 1;
const O_CLOEXEC = 0o2000000;
const MOVE_MOUNT_F_EMPTY_PATH = 4;
const MOUNT_ATTR_IDMAP = 0x100000n;

export interface IdMap {
  /** A user namespace (its pin) that has its ids set. */
  readonly userNamespace: string;
  /** Which id of the machine is 0 in there. */
  readonly firstId: number;
}

/**
 * Binds `source`, with all that is mounted below it, onto `target` (which exists and is of the same kind), its ids mapped. What is mounted below
 * keeps its ids: it may be of a kind that can't be mapped. "FailedPrecondition" says so of the source itself. Leaves nothing mounted when it fails.
 */
export const bindIdmapped = (source: string, target: string, { userNamespace }: IdMap, { propagation = "private" }: { readonly propagation?: Propagation } = {}): void => {
  const tree = libc.openTree(AT_FDCWD, source, OPEN_TREE_CLONE | O_CLOEXEC | AT_RECURSIVE);
  try {
    const namespace = openSync(userNamespace, "r");
    try {
      const attributes = Buffer.alloc(32); // struct mount_attr: attr_set, attr_clr, propagation, userns_fd
      attributes.writeBigUInt64LE(MOUNT_ATTR_IDMAP, 0);
      attributes.writeBigUInt64LE(BigInt(namespace), 24);
      libc.mountSetattr(tree, "", AT_EMPTY_PATH, attributes, attributes.length);
    } catch (cause) {
      if (!isErrno(cause, "EINVAL", "ENOSYS", "EPERM")) throw cause;
      throw new GantryError("FailedPrecondition", `${source} can't be shown with the ids of a user namespace: its file system (type 0x${statfsSync(source).type.toString(16)}) or this kernel has no idmapped mounts`, { cause });
    } finally {
      closeSync(namespace);
    }
    libc.moveMount(tree, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH);
  } finally {
    libc.close(tree);
  }
  setPropagation(target, propagation, true);
};

/**
 * mountOverlay with every layer idmapped. `upper` and `work` lie in one directory. `staging`, a directory that is made and goes again, holds the layers'
 * mounts meanwhile: an overlay keeps its own hold on them.
 */
export const mountIdmappedOverlay = (overlay: OverlayOptions, map: IdMap, staging: string): void => {
  const staged: string[] = [];
  const stage = (source: string): string => {
    const target = join(staging, String(staged.length));
    mkdirSync(target, { recursive: true, mode: 0o700 });
    staged.push(target);
    bindIdmapped(source, target, map);
    return target;
  };
  const { upper, work } = overlay;
  try {
    const writable = upper === undefined ? undefined : stage(dirname(upper));
    const lowerDirs = overlay.lowerDirs.map(stage);
    // Whoever mounts an overlay makes its inner files; user 0 has no number in the upper directory.
    withFileIds(map.firstId, () => mountOverlay({ ...overlay, lowerDirs, ...(writable === undefined ? {} : { upper: join(writable, basename(upper!)), work: join(writable, basename(work!)) }) }));
  } finally {
    removeStaging(staged, staging);
  }
};

const removeStaging = (staged: readonly string[], staging: string): void => {
  for (const target of staged) {
    unmount(target, { detach: true });
    rmdirSync(target);
  }
  if (staged.length > 0) rmdirSync(staging);
};

/** A place to mount on, of the kind of `source`. */
export const makeMountPoint = (source: string, target: string): void => {
  mkdirSync(dirname(target), { recursive: true, mode: 0o755 });
  if (statSync(source).isDirectory()) mkdirSync(target, { mode: 0o755 });
  else writeFileSync(target, "");
};
