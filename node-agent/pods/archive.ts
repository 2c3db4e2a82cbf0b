// Files of a container as a tar, and back: for `gantry cp`. The container may be running, and hostile: every name is opened by openat2(2) from a descriptor of
// its root or of a directory in it, so that no symbolic link, exchanged at whatever moment, leads out; the last part of a name is never followed unless asked for.
import {
  closeSync, constants, fchmodSync, fchownSync, fstatSync, ftruncateSync, futimesSync, lchownSync, linkSync, lstatSync, lutimesSync, mkdirSync, openSync, readdirSync, readlinkSync,
  rmSync, statfsSync, symlinkSync, writeSync, type Stats,
} from "node:fs";
import { setImmediate as nextTurn } from "node:timers/promises";
import { GantryError } from "../../base/errors.ts";
import type { TarEntry, TarReader } from "../images/tar.ts";
import { tarFile } from "../images/tar-file.ts";
import { TAR_END, tarHead } from "../images/tar-writer.ts";
import { withFileIds } from "../linux/file-ids.ts";
import { makeNode, O_PATH, openConfined, Resolve } from "../linux/files.ts";
import * as libc from "../linux/libc.ts";
import { isErrno } from "../linux/libc.ts";
import type { ContainerRoot } from "../runtime/container-runtime.ts";

/** What a path is: as docker's X-Docker-Container-Path-Stat. */
export interface PathStat {
  readonly name: string;
  readonly size: number;
  readonly mode: number;
  readonly isDirectory: boolean;
  readonly mtimeMs: number;
  /** "" for what is no symbolic link. */
  readonly linkTarget: string;
}

const CHUNKS_PER_TURN = 16;
const ENTRIES_PER_TURN = 32;
/** statfs(2): proc, sysfs, cgroup, cgroup2. Mounted in a container, they are no files of it. */
const KERNEL_FILE_SYSTEMS: ReadonlySet<number> = new Set([0x9fa0, 0x62656572, 0x27e0eb, 0x63677270]);
/** null, zero, full, random, urandom, tty and the like: what images hold. Others an archive may not bring. */
const HARMLESS_DEVICES: ReadonlySet<string> = new Set(["1:3", "1:5", "1:7", "1:8", "1:9", "5:0", "5:1", "5:2"]);

const partsOf = (path: string): string[] => path.split("/").filter((part) => part !== "" && part !== ".");
/** A name in a directory that is held open: what the directory is called, or whether it is moved, plays no part. */
const at = (directory: number, name: string): string => `/proc/self/fd/${directory}/${name}`;

const openDirectory = (from: number, path: string, resolve: number): number => openConfined(from, path === "" ? "." : path, { flags: O_PATH | constants.O_DIRECTORY, resolve });

const explained = (error: unknown, path: string): unknown => {
  if (isErrno(error, "ENOENT")) return new GantryError("NotFound", `no such file or directory in the container: ${path}`);
  if (isErrno(error, "ENOTDIR")) return new GantryError("BadRequest", `a part of the path ${path} is not a directory in the container`);
  if (isErrno(error, "ELOOP")) return new GantryError("BadRequest", `${path} leads through too many symbolic links in the container`);
  if (isErrno(error, "EROFS")) return new GantryError("BadRequest", `${path} is read-only in the container`);
  if (isErrno(error, "ENOSPC", "EDQUOT")) return new GantryError("ServiceUnavailable", `no space left for ${path}`);
  return error;
};

/** How many ids a container in a user namespace has. */
const IDS = 65_536;
/** As the kernel shows an id that has no number in a user namespace. */
const NOBODY = 65_534;

/** `firstId`: which id of the machine is 0 of the container (ContainerRoot). */
const idInside = (id: number, firstId: number): number => (firstId === 0 ? id : id >= firstId && id < firstId + IDS ? id - firstId : NOBODY);

const idOutside = (id: number, firstId: number): number => {
  if (firstId > 0 && id >= IDS) throw new GantryError("BadRequest", `the owner ${id} is not one of the container's ${IDS} users: its pod has a user namespace (hostUsers: false)`);
  return id + firstId;
};

/** New files belong to root of the container until they get their owner; there is no number for root of the machine in there. */
const making = <T>(firstId: number, fn: () => T): T => (firstId === 0 ? fn() : withFileIds(firstId, fn));

interface Found {
  /** Directory that holds it; the caller closes it. */
  readonly parent: number;
  /** "" is the root itself. */
  readonly name: string;
  readonly stat: Stats;
}

/** `root`: a descriptor of the container's root. */
const find = (root: number, path: string, follow: boolean): Found => {
  const parts = partsOf(path);
  const name = parts.at(-1) ?? "";
  if (name === "" || name === ".." || (follow && isLinkToElsewhere(root, parts))) {
    // Where it leads, only the kernel can say; it is opened, and named by what it was asked for.
    const target = openConfined(root, path === "" ? "." : path.replace(/^\/+/, "") || ".", { flags: O_PATH, resolve: Resolve.inRoot });
    return { parent: target, name: "", stat: fstatSync(target) };
  }
  const parent = openDirectory(root, parts.slice(0, -1).join("/"), Resolve.inRoot);
  try {
    return { parent, name, stat: lstatSync(at(parent, name)) };
  } catch (error) {
    libc.close(parent);
    throw error;
  }
};

const isLinkToElsewhere = (root: number, parts: readonly string[]): boolean => {
  const parent = openDirectory(root, parts.slice(0, -1).join("/"), Resolve.inRoot);
  try {
    return lstatSync(at(parent, parts.at(-1)!)).isSymbolicLink();
  } finally {
    libc.close(parent);
  }
};

/** Of the root, as docker has it, the name is "/"; in the archive it is ".". */
const nameIn = (path: string): string => partsOf(path).at(-1) ?? ".";

export const statPath = (root: number, path: string, follow: boolean): PathStat => {
  try {
    const { parent, name, stat } = find(root, path, follow);
    try {
      return {
        name: nameIn(path), size: stat.size, mode: stat.mode & 0o7777, isDirectory: stat.isDirectory(), mtimeMs: stat.mtimeMs,
        linkTarget: stat.isSymbolicLink() ? readlinkSync(at(parent, name)) : "",
      };
    } finally {
      libc.close(parent);
    }
  } catch (error) {
    throw explained(error, path);
  }
};

/** The tar of one file, or of a directory with all below it, under the last part of its path. In pieces; what changes meanwhile is as it was found. */
export async function* readArchive({ fd: root, firstId }: Pick<ContainerRoot, "fd" | "firstId">, path: string, follow: boolean): AsyncGenerator<Buffer, void> {
  let found: Found;
  try {
    found = find(root, path, follow);
  } catch (error) {
    throw explained(error, path);
  }
  const links = new Map<string, string>();
  let entries = 0;
  const emit = async function* (directory: number, name: string, stat: Stats, as: string): AsyncGenerator<Buffer, void> {
    if (++entries % ENTRIES_PER_TURN === 0) await nextTurn();
    const common = { path: as, mode: stat.mode & 0o7777, uid: idInside(stat.uid, firstId), gid: idInside(stat.gid, firstId), mtimeMs: stat.mtimeMs };
    if (stat.isDirectory()) {
      const own = name === "" ? directory : openConfined(directory, name, { flags: O_PATH | constants.O_DIRECTORY, resolve: Resolve.noLinks });
      try {
        if (KERNEL_FILE_SYSTEMS.has(statfsSync(`/proc/self/fd/${own}`).type)) return;
        yield tarHead({ ...common, type: "directory", path: `${as}/` }, 0);
        for (const child of readdirSync(`/proc/self/fd/${own}`).sort()) {
          const childStat = lstatSync(at(own, child), { throwIfNoEntry: false });
          if (childStat) yield* emit(own, child, childStat, `${as}/${child}`);
        }
      } finally {
        if (name !== "") libc.close(own);
      }
    } else if (stat.isSymbolicLink()) {
      yield tarHead({ ...common, type: "symlink", linkPath: readlinkSync(at(directory, name)) }, 0);
    } else if (stat.isFile()) {
      const id = `${stat.dev}:${stat.ino}`;
      const first = stat.nlink > 1 ? links.get(id) : undefined;
      if (first !== undefined) yield tarHead({ ...common, type: "hardlink", linkPath: first }, 0);
      else {
        if (stat.nlink > 1) links.set(id, as);
        yield* file(directory, name, common);
      }
    } else if (stat.isCharacterDevice() || stat.isBlockDevice()) {
      const device = { major: (stat.rdev >>> 8) & 0xfff, minor: (stat.rdev & 0xff) | ((stat.rdev >>> 12) & 0xfff00) };
      yield tarHead({ ...common, type: stat.isBlockDevice() ? "block" : "character", device }, 0);
    } else if (stat.isFIFO()) yield tarHead({ ...common, type: "fifo" }, 0);
  };
  try {
    yield* emit(found.parent, found.name, found.stat, nameIn(path));
    yield TAR_END;
  } finally {
    libc.close(found.parent);
  }
}

async function* file(directory: number, name: string, head: Parameters<typeof tarHead>[0]): AsyncGenerator<Buffer, void> {
  // NONBLOCK: it may have become a FIFO since it was looked at, and nobody would ever write to that.
  const flags = constants.O_RDONLY | constants.O_NONBLOCK;
  // A descriptor with O_PATH (a link that was followed) is opened anew through its own name.
  const fd = name === "" ? openSync(`/proc/self/fd/${directory}`, flags) : openConfined(directory, name, { flags, resolve: Resolve.noLinks });
  try {
    if (!fstatSync(fd).isFile()) return;
    let count = 0;
    for (const chunk of tarFile(fd, head)) {
      yield chunk;
      if (++count % CHUNKS_PER_TURN === 0) await nextTurn();
    }
  } finally {
    if (name === "") closeSync(fd);
    else libc.close(fd);
  }
}

/** Unpacks into the directory `path`. Files and links are replaced; a directory is never replaced by something else, nor the other way round. */
export const writeArchive = async ({ fd: root, firstId }: Pick<ContainerRoot, "fd" | "firstId">, path: string, tar: TarReader, { keepOwners }: { readonly keepOwners: boolean }): Promise<void> => {
  let into: number;
  try {
    into = openDirectory(root, path.replace(/^\/+/, ""), Resolve.inRoot);
  } catch (error) {
    throw explained(error, path);
  }
  const times: { readonly path: string; readonly ms: number }[] = [];
  try {
    let entries = 0;
    for (let entry = await tar.next(); entry; entry = await tar.next()) {
      if (++entries % ENTRIES_PER_TURN === 0) await nextTurn();
      const full = `${path.replace(/\/$/, "")}/${entry.path}`;
      try {
        await writeEntry(into, entry, tar, { keepOwners, firstId, times });
      } catch (error) {
        throw explained(error, full);
      }
    }
    // Deepest first: the time of a directory changes with what is put into it.
    for (const { path: directory, ms } of times.reverse()) setTime(into, directory, ms);
  } finally {
    libc.close(into);
  }
};

const setTime = (into: number, path: string, ms: number): void => {
  const fd = openConfined(into, path, { flags: constants.O_RDONLY | constants.O_DIRECTORY, resolve: Resolve.beneath });
  try {
    futimesSync(fd, ms / 1000, ms / 1000);
  } finally {
    libc.close(fd);
  }
};

/** Missing directories above an entry are made. Links in the container are taken as long as they stay in the directory that is written to. */
const openParent = (into: number, parts: readonly string[], firstId: number): number => {
  for (let depth = 1; depth <= parts.length; depth++) {
    const parent = openConfined(into, parts.slice(0, depth - 1).join("/") || ".", { flags: O_PATH | constants.O_DIRECTORY, resolve: Resolve.beneath });
    try {
      making(firstId, () => mkdirSync(at(parent, parts[depth - 1]!), 0o755));
    } catch (error) {
      if (!isErrno(error, "EEXIST")) throw error;
    } finally {
      libc.close(parent);
    }
  }
  return openConfined(into, parts.join("/") || ".", { flags: O_PATH | constants.O_DIRECTORY, resolve: Resolve.beneath });
};

interface Writing {
  readonly keepOwners: boolean;
  readonly firstId: number;
  /** Of directories, to be set at the end. */
  readonly times: { readonly path: string; readonly ms: number }[];
}

const writeEntry = async (into: number, entry: TarEntry, tar: TarReader, { keepOwners, firstId, times }: Writing): Promise<void> => {
  const parts = partsOf(entry.path);
  if (entry.path.startsWith("/") || parts.includes("..")) throw new GantryError("Invalid", `the archive's entry ${JSON.stringify(entry.path)} leads out of the directory that it is unpacked into`);
  const name = parts.pop();
  const [uid, gid] = [idOutside(keepOwners ? entry.uid : 0, firstId), idOutside(keepOwners ? entry.gid : 0, firstId)];
  if (name === undefined) return; // the directory itself: it is there
  const parent = openParent(into, parts, firstId);
  try {
    const target = at(parent, name);
    const present = lstatSync(target, { throwIfNoEntry: false });
    if (entry.type === "directory") {
      if (present && !present.isDirectory()) throw new GantryError("BadRequest", `cannot overwrite non-directory ${JSON.stringify(entry.path)} with a directory`);
      if (!present) making(firstId, () => mkdirSync(target, 0o700));
      // By descriptor: chmod(2) would follow a link that the container puts there in this very moment.
      const fd = openConfined(parent, name, { flags: constants.O_RDONLY | constants.O_DIRECTORY, resolve: Resolve.noLinks });
      try {
        fchownSync(fd, uid, gid);
        fchmodSync(fd, entry.mode);
      } finally {
        libc.close(fd);
      }
      times.push({ path: [...parts, name].join("/"), ms: entry.mtimeMs });
      return;
    }
    if (present?.isDirectory()) throw new GantryError("BadRequest", `cannot overwrite directory ${JSON.stringify(entry.path)} with a non-directory`);
    if (entry.type === "file") return await writeFile(parent, name, present !== undefined, entry, tar, { uid, gid, firstId });
    if (present) rmSync(target);
    if (entry.type === "hardlink") return making(firstId, () => linkTo(into, entry.linkPath, target));
    if (!making(firstId, () => makeSpecial(entry, target))) return;
    lchownSync(target, uid, gid);
    lutimesSync(target, entry.mtimeMs / 1000, entry.mtimeMs / 1000);
  } finally {
    libc.close(parent);
  }
};

/** What is no file with contents. false: a kind that is left out. */
const makeSpecial = (entry: TarEntry, target: string): boolean => {
  if (entry.type === "symlink") symlinkSync(entry.linkPath, target);
  else if (entry.type === "fifo") makeNode(target, { type: "fifo", mode: entry.mode & 0o777 });
  else if (entry.type === "character" && HARMLESS_DEVICES.has(`${entry.deviceMajor}:${entry.deviceMinor}`)) makeNode(target, { type: "character", mode: entry.mode & 0o777, major: entry.deviceMajor, minor: entry.deviceMinor });
  else return false;
  return true;
};

const linkTo = (into: number, linkPath: string, target: string): void => {
  const parts = partsOf(linkPath);
  const name = parts.pop();
  if (name === undefined || parts.includes("..") || name === "..") throw new GantryError("Invalid", `hard link to ${JSON.stringify(linkPath)}, which is outside of the archive`);
  const parent = openConfined(into, parts.join("/") || ".", { flags: O_PATH | constants.O_DIRECTORY, resolve: Resolve.beneath });
  try {
    linkSync(at(parent, name), target);
  } finally {
    libc.close(parent);
  }
};

const writeFile = async (parent: number, name: string, isPresent: boolean, entry: TarEntry, tar: TarReader, { uid, gid, firstId }: { readonly uid: number; readonly gid: number; readonly firstId: number }): Promise<void> => {
  let isOld = false;
  if (isPresent) {
    try {
      rmSync(at(parent, name));
    } catch (error) {
      // A mount point, such as /etc/hosts: its content is replaced, it stays.
      if (!isErrno(error, "EBUSY")) throw error;
      isOld = true;
    }
  }
  const fd = making(firstId, () => openConfined(parent, name, { flags: constants.O_WRONLY | (isOld ? 0 : constants.O_CREAT | constants.O_EXCL), mode: 0o600, resolve: Resolve.noLinks }));
  try {
    if (isOld) {
      if (!fstatSync(fd).isFile()) throw new GantryError("BadRequest", `cannot overwrite ${JSON.stringify(entry.path)}, which is no file`);
      ftruncateSync(fd);
    }
    for (let piece = await tar.chunk(); piece; piece = await tar.chunk()) for (let done = 0; done < piece.length;) done += writeSync(fd, piece, done, piece.length - done);
    if (isOld) return;
    fchownSync(fd, uid, gid);
    fchmodSync(fd, entry.mode);
    futimesSync(fd, entry.mtimeMs / 1000, entry.mtimeMs / 1000);
  } finally {
    libc.close(fd);
  }
};
