// Unpacks one layer into a directory that overlayfs takes as a lower one. The archive is a stranger's: nothing of it may reach
// outside the directory, fill the disk, or pretend to be overlayfs's own bookkeeping.
// Layers and whiteouts: https://github.com/opencontainers/image-spec/blob/main/layer.md; overlayfs's form of them:
// https://docs.kernel.org/filesystems/overlayfs.html ("whiteouts and opaque directories").
import { closeSync, constants, fchmodSync, fchownSync, futimesSync, linkSync, lstatSync, lchownSync, lutimesSync, chmodSync, mkdirSync, openSync, rmSync, symlinkSync, write, writeSync, type Stats } from "node:fs";
import { setImmediate as nextTurn } from "node:timers/promises";
import { promisify } from "node:util";
import { GantryError, describeError } from "../../base/errors.ts";
import { makeNode, setXattr } from "../linux/files.ts";
import { isErrno } from "../linux/libc.ts";
import { ConfinedDirectory } from "./confined-directory.ts";
import type { TarEntry, TarReader } from "./tar.ts";

export interface ExtractLimits {
  readonly maxEntries: number;
  /** Of file contents, unpacked. */
  readonly maxBytes: number;
  /** Bytes that one byte of the compressed layer may unpack to; 0: any. */
  readonly maxRatio: number;
  /** Layers that unpack to less may do so from as few bytes as they like; default: 1 GiB. */
  readonly ratioFromBytes?: number;
}

/** The calls that node:fs lacks; replaceable for tests without root. */
export interface ExtractCalls {
  makeNode: typeof makeNode;
  setXattr: typeof setXattr;
}

/** What an archive may say besides files. */
export interface ExtractPolicy {
  /** Names that begin with .wh. hide lower layers' files; otherwise they are ordinary names. */
  readonly whiteouts: boolean;
  /** Relative symbolic links may lead above the root: for trees in which links are never followed but confined. */
  readonly climbingLinks: boolean;
}

const LAYER: ExtractPolicy = { whiteouts: true, climbingLinks: false };

export interface Extracted {
  readonly entries: number;
  readonly bytes: number;
  /** Entries that were left out on purpose, such as devices that a container has no use for. */
  readonly skipped: readonly string[];
}

const WHITEOUT = ".wh.";
const OPAQUE = ".wh..wh..opq";
const OPAQUE_XATTR = "trusted.overlay.opaque";
/** What carries over: capabilities of programs, ACLs, users' own. trusted.* and user.overlay.* would steer overlayfs itself. */
const XATTR_ALLOWED = /^(?:security\.capability|system\.posix_acl_(?:access|default)|user\.(?!overlay\.).+)$/;
/** null, zero, full, random, urandom; tty, console, ptmx: all that root filesystems made by debootstrap and the like hold. */
const HARMLESS_DEVICES: ReadonlySet<string> = new Set(["0:0", "1:3", "1:5", "1:7", "1:8", "1:9", "5:0", "5:1", "5:2"]);
/** Contents above this are written off the main thread: a write may block for long when the disk is behind. */
const ASYNC_WRITE_BYTES = 256 * 1024;
/**
 * Small files are made by synchronous calls, which is quickest (tens of microseconds each); after so many the event loop gets its turn,
 * since on a busy file system each may take most of a millisecond.
 */
const ENTRIES_PER_TURN = 32;

const writeAsync = promisify(write);
const isWhiteout = (stat: Stats): boolean => stat.isCharacterDevice() && stat.rdev === 0;

/** Errors name the entry: "Invalid" (unsafe or damaged), "RequestEntityTooLarge" (a limit), "InternalError" (this machine's disk). */
export const extractLayer = async (
  tar: TarReader, root: string, limits: ExtractLimits, what: string, calls: ExtractCalls = { makeNode, setXattr }, policy: ExtractPolicy = LAYER,
): Promise<Extracted> => {
  const layer = new LayerWriter(root, calls, policy);
  let entries = 0;
  let bytes = 0;
  for (let entry = await tar.next(); entry !== undefined; entry = await tar.next()) {
    if (++entries % ENTRIES_PER_TURN === 0) await nextTurn();
    bytes += entry.sizeBytes;
    if (entries > limits.maxEntries) throw new GantryError("RequestEntityTooLarge", `${what} has more than ${limits.maxEntries} entries`);
    if (bytes > limits.maxBytes) {
      throw new GantryError("RequestEntityTooLarge", `${what} unpacks to more than ${limits.maxBytes} bytes (at entry ${JSON.stringify(entry.path)}, of ${entry.sizeBytes} bytes)`);
    }
    try {
      await layer.add(entry, tar);
    } catch (error) {
      if (error instanceof GantryError && error.message.startsWith(what)) throw error;
      const code = error instanceof GantryError ? error.code : isErrno(error, "ENAMETOOLONG", "ENOTDIR") ? "Invalid" : "InternalError";
      throw new GantryError(code, `${what}, entry ${JSON.stringify(entry.path)}: ${describeError(error)}`, { cause: (error as Error).cause });
    }
  }
  layer.finish();
  return { entries, bytes, skipped: layer.skipped };
};

class LayerWriter {
  readonly skipped: string[] = [];
  readonly #directories: ConfinedDirectory;
  readonly #calls: ExtractCalls;
  readonly #policy: ExtractPolicy;
  /** Set at the end: making entries in a directory changes its time. */
  readonly #directoryTimesMs = new Map<string, number>();

  constructor(root: string, calls: ExtractCalls, policy: ExtractPolicy) {
    this.#calls = calls;
    this.#policy = policy;
    // A directory that replaces a whiteout starts out empty: the lower one of its name stays hidden.
    this.#directories = new ConfinedDirectory(root, (path, stat) => isWhiteout(stat) && this.#replaceWhiteout(path));
  }

  async add(entry: TarEntry, tar: TarReader): Promise<void> {
    const parts = safeParts(entry.path, "path");
    const name = parts.pop();
    if (name === undefined) {
      if (entry.type !== "directory") throw new GantryError("Invalid", `the root of the layer is a ${entry.type}`);
      this.#directoryAttributes(this.#directories.root, entry);
      return;
    }
    const parent = this.#directories.resolve(parts.join("/"), true);
    if (this.#policy.whiteouts && name.startsWith(WHITEOUT)) {
      this.#whiteout(parent, name);
      return;
    }
    const path = `${parent}/${name}`;
    switch (entry.type) {
      case "file":
        await this.#file(path, entry, tar);
        break;
      case "directory":
        this.#directory(path);
        this.#directoryAttributes(path, entry);
        break;
      case "symlink":
        if (!this.#policy.climbingLinks) refuseEscape(parts, entry.linkPath);
        this.#replacing(path, () => symlinkSync(entry.linkPath, path));
        this.#attributes(path, entry);
        break;
      case "hardlink":
        this.#hardLink(path, entry.linkPath);
        break;
      case "character":
      case "block":
        if (entry.type === "block" || !HARMLESS_DEVICES.has(`${entry.deviceMajor}:${entry.deviceMinor}`)) {
          this.skipped.push(entry.path);
          break;
        }
        this.#node(path, entry);
        break;
      case "fifo":
        this.#node(path, entry);
        break;
    }
  }

  finish(): void {
    for (const [path, ms] of this.#directoryTimesMs) {
      // It may have been replaced by a later entry; lutimes at least never follows what stands there now.
      if (lstatSync(path, { throwIfNoEntry: false })?.isDirectory() === true) lutimesSync(path, ms / 1000, ms / 1000);
    }
  }

  async #file(path: string, entry: TarEntry, tar: TarReader): Promise<void> {
    const fd = this.#replacing(path, () => openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, 0o600));
    try {
      for (let piece = await tar.chunk(); piece !== undefined; piece = await tar.chunk()) {
        for (let done = 0; done < piece.length;) {
          done += entry.sizeBytes > ASYNC_WRITE_BYTES
            ? (await writeAsync(fd, piece, done, piece.length - done)).bytesWritten
            : writeSync(fd, piece, done, piece.length - done);
        }
      }
      // In this order: a change of owner takes off setuid and capabilities.
      fchownSync(fd, entry.uid, entry.gid);
      fchmodSync(fd, entry.mode);
      this.#xattrs(path, entry);
      futimesSync(fd, entry.mtimeMs / 1000, entry.mtimeMs / 1000);
    } finally {
      closeSync(fd);
    }
  }

  #directory(path: string): void {
    try {
      mkdirSync(path, 0o700);
    } catch (error) {
      const stat = isErrno(error, "EEXIST") ? lstatSync(path, { throwIfNoEntry: false }) : undefined;
      if (stat === undefined) throw error;
      if (stat.isDirectory() || (isWhiteout(stat) && this.#replaceWhiteout(path))) return;
      this.#remove(path);
      mkdirSync(path, 0o700);
    }
  }

  #directoryAttributes(path: string, entry: TarEntry): void {
    lchownSync(path, entry.uid, entry.gid);
    chmodSync(path, entry.mode);
    this.#xattrs(path, entry);
    this.#directoryTimesMs.set(path, entry.mtimeMs);
  }

  #hardLink(path: string, linkPath: string): void {
    const parts = safeParts(linkPath, "hard link target");
    const name = parts.pop();
    if (name === undefined) throw new GantryError("Invalid", `hard link to ${JSON.stringify(linkPath)}, which is a directory`);
    const target = `${this.#directories.resolve(parts.join("/"), false)}/${name}`;
    const stat = lstatSync(target, { throwIfNoEntry: false });
    if (stat === undefined) throw new GantryError("Invalid", `hard link to ${JSON.stringify(linkPath)}, which is not in this layer before it`);
    if (stat.isDirectory()) throw new GantryError("Invalid", `hard link to ${JSON.stringify(linkPath)}, which is a directory`);
    if (target !== path) this.#replacing(path, () => linkSync(target, path));
  }

  #node(path: string, entry: TarEntry): void {
    const type = entry.type === "fifo" ? "fifo" : "character";
    this.#replacing(path, () => this.#calls.makeNode(path, { type, mode: entry.mode & 0o777, major: entry.deviceMajor, minor: entry.deviceMinor }));
    this.#attributes(path, entry);
  }

  #attributes(path: string, entry: TarEntry): void {
    lchownSync(path, entry.uid, entry.gid);
    if (entry.type !== "symlink") chmodSync(path, entry.mode);
    this.#xattrs(path, entry);
    lutimesSync(path, entry.mtimeMs / 1000, entry.mtimeMs / 1000);
  }

  #xattrs(path: string, entry: TarEntry): void {
    for (const [name, value] of entry.xattrs) {
      if (!XATTR_ALLOWED.test(name)) continue;
      try {
        this.#calls.setXattr(path, name, value);
      } catch (error) {
        // Some file systems have none; programs that need their capability then say so when they start. Links and devices can't have users' own (xattr(7)).
        if (!isErrno(error, "ENOTSUP", "EOPNOTSUPP") && !(isErrno(error, "EPERM") && name.startsWith("user."))) throw error;
        this.skipped.push(`${entry.path} (attribute ${name})`);
      }
    }
  }

  #whiteout(parent: string, name: string): void {
    if (name === OPAQUE) {
      this.#calls.setXattr(parent, OPAQUE_XATTR, Buffer.from("y"));
      return;
    }
    // Bookkeeping of AUFS, which invented the format (.wh..wh.plnk and the like): means nothing here.
    if (name.startsWith(`${WHITEOUT}${WHITEOUT}`)) return;
    const hidden = name.slice(WHITEOUT.length);
    if (hidden === "" || hidden === "." || hidden === "..") throw new GantryError("Invalid", `whiteout of ${JSON.stringify(hidden)}`);
    const path = `${parent}/${hidden}`;
    // A whiteout hides what lower layers have, never what this one has.
    const own = lstatSync(path, { throwIfNoEntry: false });
    if (own === undefined) this.#calls.makeNode(path, { type: "character", mode: 0, major: 0, minor: 0 });
    else if (own.isDirectory()) this.#calls.setXattr(path, OPAQUE_XATTR, Buffer.from("y"));
  }

  #replaceWhiteout(path: string): true {
    rmSync(path);
    mkdirSync(path, 0o755);
    this.#calls.setXattr(path, OPAQUE_XATTR, Buffer.from("y"));
    return true;
  }

  /** A later entry of the same name wins (POSIX), and never writes through what stands there. */
  #replacing<T>(path: string, create: () => T): T {
    try {
      return create();
    } catch (error) {
      if (!isErrno(error, "EEXIST")) throw error;
      this.#remove(path);
      return create();
    }
  }

  #remove(path: string): void {
    rmSync(path, { recursive: true, force: true });
    this.#directories.forget();
  }
}

/** Errors: "Invalid" for absolute paths and `..`, which honest layers do not have. */
const safeParts = (path: string, what: string): string[] => {
  if (path.startsWith("/")) throw new GantryError("Invalid", `the ${what} ${JSON.stringify(path)} is absolute; layers name files from their own root`);
  const parts = path.split("/").filter((part) => part !== "" && part !== ".");
  if (parts.includes("..")) throw new GantryError("Invalid", `the ${what} ${JSON.stringify(path)} has a "..": it could lead out of the image`);
  return parts;
};

/**
 * Refuses a symbolic link that climbs out of the image. (Absolute ones are common, and harmless: whoever follows them does so inside
 * the container, or through ConfinedDirectory.)
 */
const refuseEscape = (parent: readonly string[], target: string): void => {
  if (target === "") throw new GantryError("Invalid", "symbolic link to nothing");
  if (target.startsWith("/")) return;
  let depth = parent.length;
  for (const part of target.split("/")) {
    if (part === "..") depth--;
    else if (part !== "" && part !== ".") depth++;
    if (depth < 0) throw new GantryError("Invalid", `symbolic link to ${JSON.stringify(target)}, which is outside the image`);
  }
};
