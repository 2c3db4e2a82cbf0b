// A pod's volumes on the node: folders, tmpfs mounts, host paths and sets of files, below ROOT/<pod uid>/volumes/<name>. Owns that
// folder and LOCAL/<id> of named local volumes, which outlive pods. Every operation is idempotent: it is called again after a crash.
import { chmodSync, chownSync, closeSync, constants, existsSync, lstatSync, mkdirSync, openSync, readdirSync, rmdirSync, statSync, unlinkSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { GantryError } from "../../base/errors.ts";
import { TMPFS_ANNOTATION_PREFIX, parseTmpfsOptions, type TmpfsOptions } from "../../base/kube/container-extras.ts";
import { kernelPageSize } from "../../base/kube/huge-pages.ts";
import type { Assignment } from "../pods/assignment.ts";
import { hugePagesOfPod } from "../pods/huge-pages.ts";
import type { EmptyDir, HostPath, Volume } from "../../proto/gen/gantry/v1/agent.ts";
import { O_PATH, Resolve, openConfined } from "../linux/files.ts";
import { bindIdmapped, makeMountPoint, type IdMap } from "../linux/idmap.ts";
import { close, isErrno } from "../linux/libc.ts";
import { MountFlags, bindMount, ensureTmpfs, mountHugePages, mountTmpfs, readMounts, unmount, unmountAllBelow } from "../linux/mount.ts";
import { writeAtomically } from "./atomic-files.ts";

export interface VolumeServiceOptions {
  /** Volumes of pods; on the file system that holds writable data. */
  readonly root: string;
  /** Named local volumes. */
  readonly localRoot: string;
}

/** Fields that only the node knows, for downward API files: status.podIP and the like. */
export type FieldResolver = (fieldPath: string) => string;

const NAME = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
const GROUP_WRITABLE_DIRECTORY = 0o2775;

export class VolumeService {
  readonly #options: VolumeServiceOptions;

  constructor(options: VolumeServiceOptions) {
    this.#options = options;
  }

  /**
   * Makes all volumes ready. Volume name -> path on the node. "Invalid" or "FailedPrecondition" names the volume and what is wrong with it.
   * Called again with a changed assignment it updates files in place (containers see the change).
   */
  prepare(pod: Assignment, field: FieldResolver): ReadonlyMap<string, string> {
    const group = pod.security?.fsGroup;
    return new Map(pod.volumes.map((volume) => {
      if (!NAME.test(volume.name)) throw new GantryError("Invalid", `volume name ${JSON.stringify(volume.name)} is not a DNS label`);
      return [volume.name, this.#prepareOne(pod, volume, group, field)] as const;
    }));
  }

  #prepareOne(pod: Assignment, volume: Volume, group: number | undefined, field: FieldResolver): string {
    const dir = join(this.#podDir(pod.uid), volume.name);
    const source = volume.source;
    switch (source?.$case) {
      case "emptyDir": {
        const { memory, sizeLimitBytes, hugePageBytes } = source.value;
        const fresh = !existsSync(dir);
        const tmpfs = pod.annotations[`${TMPFS_ANNOTATION_PREFIX}${volume.name}`];
        mkdirSync(dir, { recursive: true });
        // A mount that is there is left as it is: its contents must survive a restart of the agent.
        if (memory && !readMounts().some((m) => m.target === dir)) {
          if (hugePageBytes > 0) mountHugePages(dir, { pageBytes: hugePageBytes, sizeBytes: hugePagesSize(pod, source.value), mode: 0o777 });
          else mountTmpfs(dir, { mode: 0o1777, ...(sizeLimitBytes > 0 ? { sizeBytes: sizeLimitBytes } : {}), ...(tmpfs ? toMountOptions(parseTmpfsOptions(`annotation ${TMPFS_ANNOTATION_PREFIX}${volume.name}`, tmpfs)) : {}) });
        }
        if (fresh && tmpfs === undefined) chmodSync(dir, 0o777);
        if (fresh && group !== undefined) own(dir, group);
        return dir;
      }
      case "files": {
        mkdirSync(dir, { recursive: true, mode: 0o755 });
        if (source.value.memory) ensureTmpfs(dir, { mode: 0o755 });
        writeAtomically(dir, source.value.files.map((f) => ({ path: f.path, mode: f.mode, data: f.fieldPath === "" ? f.data : Buffer.from(field(f.fieldPath)) })), group);
        return dir;
      }
      case "hostPath": return prepareHostPath(volume.name, source.value);
      case "local": {
        if (!NAME.test(source.value.id)) throw new GantryError("Invalid", `volume ${volume.name}: ${JSON.stringify(source.value.id)} is not a name for a local volume`);
        const local = join(this.#options.localRoot, source.value.id);
        const fresh = !existsSync(local);
        mkdirSync(local, { recursive: true });
        if (fresh && group !== undefined) own(local, group);
        return local;
      }
      case undefined: throw new GantryError("Invalid", `volume ${volume.name} has no source that this agent knows; is it older than the control plane?`);
    }
  }

  /**
   * Gives the pod's fsGroup what its local volumes hold, as the kubelet does: owner group, group rights, and folders whose new files get the group. With
   * OnRootMismatch only when the volume's own folder doesn't have it yet. Once for a pod, before its first container.
   */
  async applyFsGroup(pod: Assignment): Promise<void> {
    const group = pod.security?.fsGroup;
    if (group === undefined) return;
    for (const { source } of pod.volumes) {
      if (source?.$case !== "local" || !NAME.test(source.value.id)) continue;
      const root = join(this.#options.localRoot, source.value.id);
      const { gid, mode } = statSync(root);
      if (pod.security?.fsGroupChangePolicy === "OnRootMismatch" && gid === group && (mode & GROUP_RIGHTS) === GROUP_RIGHTS) continue;
      const fd = openSync(root, O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW);
      try {
        await giveToGroup(fd, group);
      } finally {
        closeSync(fd);
      }
    }
  }

  /**
   * What to mount for a subPath, or in a user namespace: a bind mount of the agent's own. A subPath's is made from the descriptor: were it the path, who can write
   * to the volume could put a link to the host's root in its place before the runtime mounts it (CVE-2021-25741). `subPath` "": the volume itself; `follows`: what
   * the host mounts in there later appears. `name` is the mount's within the pod; it replaces an earlier one. "FailedPrecondition": see bindIdmapped.
   */
  pin(podUid: string, name: string, { volume, subPath, idMap, follows = false }: { readonly volume: string; readonly subPath: string; readonly idMap?: IdMap | undefined; readonly follows?: boolean }): string {
    const pin = join(this.#podDir(podUid), ".pins", name);
    const make = (path: string): string => {
      unmount(pin, { detach: true });
      // Empty once it is unmounted. Not recursively: what is still mounted there is the volume's.
      const before = lstatSync(pin, { throwIfNoEntry: false });
      if (before?.isDirectory()) rmdirSync(pin);
      else if (before) unlinkSync(pin);
      makeMountPoint(path, pin);
      const propagation = follows ? "slave" : "private";
      if (idMap) bindIdmapped(path, pin, idMap, { propagation });
      else bindMount(path, pin, { recursive: true, propagation });
      return pin;
    };
    return subPath === "" ? make(volume) : withSubPath(volume, subPath, make);
  }

  /** Unmounts and deletes what belongs to the pod; host paths and named volumes stay. Idempotent. */
  async remove(podUid: string): Promise<void> {
    const dir = this.#podDir(podUid);
    if (!existsSync(dir)) return;
    // First of all: nothing may be deleted through a mount.
    unmountAllBelow(dir);
    await rm(join(this.#options.root, podUid), { recursive: true, force: true });
  }

  /** Deletes a named volume's data. Idempotent. */
  async removeLocal(id: string): Promise<void> {
    if (!NAME.test(id)) throw new GantryError("Invalid", `${JSON.stringify(id)} is not a name for a local volume`);
    const dir = join(this.#options.localRoot, id);
    if (!existsSync(dir)) return;
    unmountAllBelow(dir);
    await rm(dir, { recursive: true, force: true });
  }

  #podDir(podUid: string): string {
    if (!/^[\w-]{1,64}$/.test(podUid)) throw new GantryError("Invalid", `${JSON.stringify(podUid)} is not a pod's uid`);
    return join(this.#options.root, podUid, "volumes");
  }
}

/** Read, write and search for the group, and its id for what is made in there. */
const GROUP_RIGHTS = 0o2070;

/** Entries that are given between two turns of the event loop. */
const GIVEN_PER_TURN = 256;

/**
 * The contents first: a folder that has the group is done (OnRootMismatch relies on it). By descriptors all the way: another pod that has the volume may
 * put a link in an entry's place meanwhile, and nothing that a link leads to is touched.
 */
const giveToGroup = async (root: number, group: number): Promise<void> => {
  let given = 0;
  const give = async (fd: number): Promise<void> => {
    const path = `/proc/self/fd/${fd}`;
    const stat = statSync(path);
    if (stat.isDirectory()) {
      for (const name of readdirSync(path)) {
        let entry: number;
        try {
          entry = openConfined(fd, name, { flags: O_PATH | constants.O_NOFOLLOW, resolve: Resolve.beneath | Resolve.noMagicLinks });
        } catch (error) {
          if (isErrno(error, "ENOENT")) continue; // it went meanwhile
          throw error;
        }
        try {
          await give(entry);
        } finally {
          close(entry);
        }
      }
    }
    chownSync(path, stat.uid, group);
    if (!stat.isSymbolicLink()) chmodSync(path, (stat.mode & 0o7777) | (stat.isDirectory() ? GROUP_RIGHTS : 0o060));
    if (++given % GIVEN_PER_TURN === 0) await new Promise<void>((resolve) => { setImmediate(resolve); });
  };
  await give(root);
};

/** What the pod may have of such pages, or less where the volume has a limit of its own: so it holds on nodes without a hugetlb controller, too. */
const hugePagesSize = (pod: Assignment, { sizeLimitBytes, hugePageBytes }: EmptyDir): number => {
  const allowed = hugePagesOfPod(pod)[kernelPageSize(hugePageBytes)] ?? 0;
  return sizeLimitBytes > 0 ? Math.min(allowed, sizeLimitBytes) : allowed;
};

const toMountOptions = ({ data, noExec, noSuid, noDev }: TmpfsOptions): Parameters<typeof mountTmpfs>[1] =>
  ({ data, flags: (noExec ? MountFlags.noExec : 0) | (noSuid ? MountFlags.noSuid : 0) | (noDev ? MountFlags.noDev : 0) });

const own = (dir: string, group: number): void => {
  chownSync(dir, 0, group);
  chmodSync(dir, GROUP_WRITABLE_DIRECTORY);
};

/** https://kubernetes.io/docs/concepts/storage/volumes/#hostpath-volume-types */
const prepareHostPath = (name: string, { path, type }: HostPath): string => {
  const fault = (wanted: string): GantryError => new GantryError("FailedPrecondition", `volume ${name}: hostPath ${path} is not ${wanted}`, { retryable: true });
  if (!path.startsWith("/")) throw new GantryError("Invalid", `volume ${name}: hostPath ${JSON.stringify(path)} must be an absolute path`);
  if (type === "DirectoryOrCreate") mkdirSync(path, { recursive: true, mode: 0o755 });
  if (type === "FileOrCreate" && !existsSync(path)) closeSync(openSync(path, constants.O_CREAT | constants.O_RDWR, 0o644));
  const stat = statSync(path, { throwIfNoEntry: false });
  const checks: Readonly<Record<string, readonly [boolean | undefined, string]>> = {
    "": [true, ""],
    DirectoryOrCreate: [stat?.isDirectory(), "a directory"], Directory: [stat?.isDirectory(), "an existing directory"],
    FileOrCreate: [stat?.isFile(), "a file"], File: [stat?.isFile(), "an existing file"], Socket: [stat?.isSocket(), "an existing Unix socket"],
    CharDevice: [stat?.isCharacterDevice(), "an existing character device"], BlockDevice: [stat?.isBlockDevice(), "an existing block device"],
  };
  const check = checks[type];
  if (!check) throw new GantryError("Invalid", `volume ${name}: hostPath type ${JSON.stringify(type)} is not known; there are: ${Object.keys(checks).filter((k) => k !== "").join(", ")}`);
  if (!check[0]) throw fault(check[1]);
  // Without a type nothing is checked; a bind mount needs something to mount, so Docker's habit is taken: a directory.
  if (!stat) mkdirSync(path, { recursive: true, mode: 0o755 });
  return path;
};

/**
 * A subPath inside a volume, made if it is missing. No symlink in the volume can lead out: the kernel resolves it confined (openat2, RESOLVE_IN_ROOT).
 * `path` (/proc/self/fd/N) names what was found, whatever becomes of its name meanwhile; it holds until `use` returns.
 */
export const withSubPath = <T>(volume: string, subPath: string, use: (path: string) => T): T => {
  if (subPath.startsWith("/") || subPath.split("/").includes("..")) throw new GantryError("Invalid", `subPath ${JSON.stringify(subPath)}: a relative path without ".." is needed`);
  const root = openSync(volume, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    const fd = openOrMake(root, subPath);
    try {
      return use(`/proc/self/fd/${fd}`);
    } finally {
      close(fd);
    }
  } finally {
    closeSync(root);
  }
};

const openOrMake = (root: number, subPath: string): number => {
  const open = (path: string): number => openConfined(root, path, { flags: O_PATH, resolve: Resolve.inRoot });
  try {
    return open(subPath);
  } catch (error) {
    if (!isErrno(error, "ENOENT")) throw error;
  }
  const parts = subPath.split("/").filter((p) => p !== "" && p !== ".");
  for (let i = 1; i <= parts.length; i++) {
    const path = parts.slice(0, i).join("/");
    try {
      close(open(path));
    } catch (error) {
      if (!isErrno(error, "ENOENT")) throw error;
      const parent = open(i === 1 ? "." : parts.slice(0, i - 1).join("/"));
      try {
        mkdirSync(`/proc/self/fd/${parent}/${parts[i - 1]!}`, { mode: 0o755 });
      } catch (cause) {
        throw new GantryError("FailedPrecondition", `subPath ${JSON.stringify(subPath)}: ${JSON.stringify(path)} is a symlink to something that the volume doesn't hold`, { cause });
      } finally {
        close(parent);
      }
    }
  }
  return open(subPath);
};
