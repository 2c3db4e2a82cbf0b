// Picks what a COPY names out of a directory (build context, another stage), says what its content is, and copies it. Sources are followed as a
// process with that directory as its root would follow them; nothing may write to either side meanwhile.
import { createHash, type Hash } from "node:crypto";
import { chmodSync, constants, createReadStream, futimesSync, closeSync, lchownSync, linkSync, lstatSync, lutimesSync, mkdirSync, openSync, readFileSync, readdirSync, readlinkSync, rmSync, copyFileSync, symlinkSync, type Stats } from "node:fs";
import { copyFile } from "node:fs/promises";
import { basename, dirname, join, posix, relative } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { GantryError } from "../../base/errors.ts";
import { getXattr, listXattrs, makeNode, setXattr } from "../linux/files.ts";
import { isErrno } from "../linux/libc.ts";
import { resolveInRoot } from "../runtime/user.ts";
import { hasWildcard, patternRegex, type PathMatcher } from "./patterns.ts";

export interface Picked {
  /** Where it is on this machine, links followed. */
  readonly path: string;
  /** As it was named, relative to the root: its last part is the name that it gets in a directory. */
  readonly name: string;
  readonly stat: Stats;
}

const byBytes = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b));

/** undefined also when a file stands where a directory would have to. */
export const lookAt = (path: string): Stats | undefined => {
  try {
    return lstatSync(path, { throwIfNoEntry: false });
  } catch (error) {
    if (isErrno(error, "ENOTDIR")) return undefined;
    throw error;
  }
};

/** Where `path` leads, links followed inside `root`. */
export const resolved = (root: string, path: string): string => {
  try {
    return resolveInRoot(root, path);
  } catch (error) {
    // A file on the way: found again, and named, by whoever looks for the nearest directory.
    if (isErrno(error, "ENOTDIR")) return join(root, path);
    throw error;
  }
};

/** `what` names the root in errors: "the build context". A wildcard may match nothing. */
export const pick = (root: string, pattern: string, what: string): readonly Picked[] => {
  const clean = posix.normalize(`/${pattern}`).replace(/^\/+|(?<=.)\/+$/g, "");
  if (!hasWildcard(clean)) {
    const path = resolved(root, clean);
    const stat = lookAt(path);
    if (stat === undefined) throw new GantryError("Invalid", `${JSON.stringify(pattern)} is not in ${what}${what.includes("context") ? " (does .dockerignore leave it out?)" : ""}`);
    return [{ path, name: clean, stat }];
  }
  const regex = patternRegex(clean);
  const parts = clean.split("/");
  const fixed = parts.findIndex(hasWildcard);
  const matches: string[] = [];
  const look = (directory: string): void => {
    const real = resolved(root, directory);
    if (!(lookAt(real)?.isDirectory() ?? false)) return;
    for (const name of readdirSync(real).sort(byBytes)) {
      const path = directory === "" ? name : `${directory}/${name}`;
      if (regex.test(path)) matches.push(path);
      else if (clean.includes("**") || path.split("/").length < parts.length) look(path);
    }
  };
  look(parts.slice(0, fixed).join("/"));
  return matches.flatMap((name) => {
    const path = resolved(root, name);
    const stat = lookAt(path);
    return stat === undefined ? [] : [{ path, name, stat }];
  });
};

/** Every entry of a tree with its path relative to the top ("" itself), a directory before what is in it; those that `exclude` matches are left out. */
function* entriesOf(top: string, stat: Stats, exclude: PathMatcher, name: string): Generator<{ readonly path: string; readonly stat: Stats }, void> {
  if (!stat.isDirectory()) {
    if (!exclude.matches(name)) yield { path: "", stat };
    return;
  }
  yield { path: "", stat };
  yield* below(top, "", exclude);
}

function* below(top: string, prefix: string, exclude: PathMatcher): Generator<{ readonly path: string; readonly stat: Stats }, void> {
  for (const name of readdirSync(join(top, prefix)).sort(byBytes)) {
    const path = prefix === "" ? name : `${prefix}/${name}`;
    const excluded = !exclude.isEmpty && exclude.matches(path);
    const stat = lstatSync(join(top, path));
    if (!excluded) yield { path, stat };
    if (stat.isDirectory() && (!excluded || exclude.mayKeepBelow(path))) yield* below(top, path, exclude);
  }
}

const ENTRIES_PER_TURN = 64;
const STREAMED_BYTES = 1024 * 1024;

const hashContent = async (hash: Hash, path: string, sizeBytes: number): Promise<void> => {
  if (sizeBytes <= STREAMED_BYTES) hash.update(readFileSync(path));
  else for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 }) as AsyncIterable<Buffer>) hash.update(chunk);
};

/** Of names, contents, modes and links; with owners only where they are carried over. Times don't count. */
export const digestOfPicked = async (picked: readonly Picked[], exclude: PathMatcher, owners: boolean): Promise<string> => {
  const hash = createHash("sha256");
  let entries = 0;
  for (const { path: top, name, stat: topStat } of picked) {
    for (const { path, stat } of entriesOf(top, topStat, exclude, basename(name))) {
      if (++entries % ENTRIES_PER_TURN === 0) await nextTurn();
      const full = join(top, path);
      hash.update(JSON.stringify([name, path, stat.mode, stat.isFile() ? stat.size : 0, stat.isSymbolicLink() ? readlinkSync(full) : "", stat.rdev, owners ? [stat.uid, stat.gid] : []]));
      if (stat.isFile()) await hashContent(hash, full, stat.size);
      if (owners) for (const [key, value] of attributesOf(full)) hash.update(key).update(value);
    }
  }
  return hash.digest("hex");
};

export interface CopyOptions {
  /** undefined: as the source. */
  readonly owner: { readonly uid: number; readonly gid: number } | undefined;
  readonly mode: number | undefined;
  readonly exclude: PathMatcher;
  /** For directories that are made on the way. */
  readonly nowMs: number;
}

const XATTR_CARRIED = /^(?:security\.capability|system\.posix_acl_(?:access|default)|user\.(?!overlay\.).+)$/;

const attributesOf = (path: string): readonly (readonly [string, Buffer])[] => {
  try {
    return listXattrs(path).filter((name) => XATTR_CARRIED.test(name)).sort(byBytes).map((name) => [name, getXattr(path, name) ?? Buffer.alloc(0)] as const);
  } catch (error) {
    if (isErrno(error, "ENOTSUP", "EOPNOTSUPP")) return [];
    throw error;
  }
};

/** Makes missing directories, each with the owner and mode; returns the real path. Links on the way are followed inside `root`. Errors: "Invalid". */
export const makeDirectories = (root: string, path: string, { owner = { uid: 0, gid: 0 }, mode = 0o755, nowMs }: { readonly owner?: CopyOptions["owner"]; readonly mode?: number; readonly nowMs: number }): string => {
  const real = resolved(root, path);
  const missing: string[] = [];
  let at = real;
  for (let stat = lookAt(at); stat === undefined; stat = lookAt(at)) {
    missing.unshift(at);
    at = dirname(at);
  }
  if (!lstatSync(at).isDirectory()) throw new GantryError("Invalid", `/${relative(root, at)} is not a directory in the image`);
  for (const directory of missing) {
    mkdirSync(directory);
    lchownSync(directory, owner.uid, owner.gid);
    chmodSync(directory, mode);
  }
  for (const directory of missing.reverse()) lutimesSync(directory, nowMs / 1000, nowMs / 1000);
  return real;
};

/** Copies of one instruction: hard links among them stay. */
export class TreeCopier {
  readonly #options: CopyOptions;
  readonly #links = new Map<string, string>();
  #entries = 0;

  constructor(options: CopyOptions) {
    this.#options = options;
  }

  /** A directory's contents into the directory `to`, anything else to the path `to`. Errors: "Invalid". */
  async copy(source: Picked, to: string, signal: AbortSignal): Promise<void> {
    const directoryTimes: [string, number][] = [];
    const existed = lstatSync(to, { throwIfNoEntry: false });
    for (const { path, stat } of entriesOf(source.path, source.stat, this.#options.exclude, basename(source.name))) {
      if (++this.#entries % ENTRIES_PER_TURN === 0) {
        await nextTurn();
        signal.throwIfAborted();
      }
      const [from, target] = [join(source.path, path), path === "" ? to : join(to, path)];
      if (path !== "" && !(lstatSync(dirname(target), { throwIfNoEntry: false })?.isDirectory() ?? false)) mkdirSync(dirname(target), { recursive: true });
      if (!stat.isDirectory()) {
        await this.#leaf(from, target, stat);
        continue;
      }
      const there = lstatSync(target, { throwIfNoEntry: false });
      if (there !== undefined && !there.isDirectory()) {
        // As BuildKit: a link to a directory at the very destination was followed before; below it is replaced.
        if (path === "" || !there.isSymbolicLink()) throw new GantryError("Invalid", `can't copy a directory onto ${target.slice(to.length - basename(to).length - 1)}, which is not one`);
        rmSync(target);
      }
      if (there === undefined || !there.isDirectory()) mkdirSync(target);
      // The destination itself stays as it is when it was there.
      if (path === "" && existed !== undefined) continue;
      this.#attributes(from, target, stat);
      directoryTimes.push([target, stat.mtimeMs]);
    }
    for (const [path, ms] of directoryTimes.reverse()) lutimesSync(path, ms / 1000, ms / 1000);
  }

  async #leaf(from: string, to: string, stat: Stats): Promise<void> {
    const there = lstatSync(to, { throwIfNoEntry: false });
    if (there?.isDirectory() === true) throw new GantryError("Invalid", `can't copy the file ${basename(from)} onto a directory of that name`);
    if (there !== undefined) rmSync(to);
    const id = `${stat.dev}:${stat.ino}`;
    const first = stat.nlink > 1 ? this.#links.get(id) : undefined;
    if (first !== undefined) {
      linkSync(first, to);
      return;
    }
    if (stat.nlink > 1) this.#links.set(id, to);
    if (stat.isSymbolicLink()) symlinkSync(readlinkSync(from), to);
    else if (stat.isFile() && stat.size > STREAMED_BYTES) await copyFile(from, to, constants.COPYFILE_EXCL);
    else if (stat.isFile()) copyFileSync(from, to, constants.COPYFILE_EXCL);
    else if (stat.isFIFO()) makeNode(to, { type: "fifo", mode: stat.mode & 0o7777 });
    else if (stat.isCharacterDevice() || stat.isBlockDevice()) makeNode(to, { type: stat.isBlockDevice() ? "block" : "character", mode: stat.mode & 0o7777, major: (stat.rdev >>> 8) & 0xfff, minor: (stat.rdev & 0xff) | ((stat.rdev >>> 12) & 0xfff00) });
    else return;
    this.#attributes(from, to, stat);
    lutimesSync(to, stat.mtimeMs / 1000, stat.mtimeMs / 1000);
  }

  /** In this order: a change of owner takes off setuid and capabilities. */
  #attributes(from: string, to: string, stat: Stats): void {
    const { owner, mode } = this.#options;
    lchownSync(to, owner?.uid ?? stat.uid, owner?.gid ?? stat.gid);
    if (stat.isSymbolicLink()) return;
    chmodSync(to, mode ?? stat.mode & 0o7777);
    for (const [name, value] of attributesOf(from)) setXattr(to, name, value);
  }
}

/** No time below (and of) the directory is later. */
export const clampTimes = (directory: string, latestMs: number): void => {
  const stat = lstatSync(directory);
  if (stat.isDirectory()) for (const name of readdirSync(directory)) clampTimes(join(directory, name), latestMs);
  if (stat.isCharacterDevice() && stat.rdev === 0) return; // a whiteout
  if (stat.mtimeMs > latestMs) lutimesSync(directory, latestMs / 1000, latestMs / 1000);
};

/** Sets a file's time. */
export const setTime = (path: string, ms: number): void => {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    futimesSync(fd, ms / 1000, ms / 1000);
  } finally {
    closeSync(fd);
  }
};
