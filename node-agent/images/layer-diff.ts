// From an overlayfs upper directory to a layer: the tar that, unpacked over the lower layers, gives what the container or build step left.
// The other way round is extract.ts; the same upper directory always gives the same bytes. Only reads.
// Layers and whiteouts: https://github.com/opencontainers/image-spec/blob/main/layer.md; overlayfs's form of them:
// https://docs.kernel.org/filesystems/overlayfs.html ("whiteouts and opaque directories").
import { closeSync, constants, lstatSync, openSync, read, readSync, readdirSync, readlinkSync, type Stats } from "node:fs";
import { setImmediate as nextTurn } from "node:timers/promises";
import { promisify } from "node:util";
import { GantryError } from "../../base/errors.ts";
import { getXattr, listXattrs } from "../linux/files.ts";
import { isErrno } from "../linux/libc.ts";
import { TAR_END, tarHead, tarPadding, type TarInput } from "./tar-writer.ts";

export interface LayerDiffOptions {
  /** No time in the layer is later: SOURCE_DATE_EPOCH. */
  readonly latestMs?: number;
  /** Paths, relative to the directory, that are left out with all below them: mount points of volumes, for one. */
  readonly exclude?: ReadonlySet<string>;
}

const OVERLAY = "trusted.overlay.";
const OPAQUE_XATTR = `${OVERLAY}opaque`;
/** These make an entry's content or name depend on a lower layer, which no tar can say; nothing here mounts with what makes them. */
const UNPORTABLE = [`${OVERLAY}redirect`, `${OVERLAY}metacopy`];
/** The same that extract.ts takes. */
const XATTR_CARRIED = /^(?:security\.capability|system\.posix_acl_(?:access|default)|user\.(?!overlay\.).+)$/;
const CHUNK_BYTES = 256 * 1024;
/** Larger files are read off the main thread, as in extract.ts. */
const ASYNC_READ_BYTES = 256 * 1024;
const ENTRIES_PER_TURN = 32;
/** Headers and small files are handed out in pieces of about this size. */
const PIECE_BYTES = 64 * 1024;

const readAsync = promisify(read);
/** dev_t as node gives it (gnu_dev_major, gnu_dev_minor). */
const device = (rdev: number): { readonly major: number; readonly minor: number } => ({ major: (rdev >>> 8) & 0xfff, minor: (rdev & 0xff) | ((rdev >>> 12) & 0xfff00) });
const byBytes = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b));

/** Nothing in it: the step that made it changed no file. */
export const isEmptyUpper = (directory: string): boolean => readdirSync(directory).length === 0;

/**
 * The layer as tar, not compressed, in pieces. Nothing may write to `directory` meanwhile. Sockets are left out, as every builder does. Errors: "Invalid" for what a
 * layer can't say (a name that is not UTF-8).
 */
export async function* diffLayer(directory: string, options: LayerDiffOptions = {}): AsyncGenerator<Buffer, void> {
  /** Path of the first name of each file with several. */
  const links = new Map<string, string>();
  let gathered: Buffer[] = [];
  let gatheredBytes = 0;
  const put = (...pieces: readonly Buffer[]): void => {
    for (const piece of pieces) {
      gathered.push(piece);
      gatheredBytes += piece.length;
    }
  };
  const take = (): Buffer => {
    const piece = Buffer.concat(gathered, gatheredBytes);
    gathered = [];
    gatheredBytes = 0;
    return piece;
  };
  let entries = 0;
  for (const { path, stat } of walk(directory, options)) {
    if (++entries % ENTRIES_PER_TURN === 0) await nextTurn();
    if (gatheredBytes >= PIECE_BYTES) yield take();
    const full = `${directory}/${path}`;
    if (isWhiteout(stat)) {
      const slash = path.lastIndexOf("/") + 1;
      put(tarHead({ path: `${path.slice(0, slash)}.wh.${path.slice(slash)}`, mode: 0o600, mtimeMs: 0 }, 0));
      continue;
    }
    const xattrs = attributesOf(full, path);
    const common = { path, mode: stat.mode & 0o7777, uid: stat.uid, gid: stat.gid, mtimeMs: timeOf(stat, options), xattrs: xattrs.carried };
    if (stat.isDirectory()) {
      put(tarHead({ ...common, type: "directory", path: `${path}/` }, 0));
      if (xattrs.isOpaque) put(tarHead({ path: `${path}/.wh..wh..opq`, mode: 0o600, mtimeMs: 0 }, 0));
      continue;
    }
    const id = `${stat.dev}:${stat.ino}`;
    const first = stat.nlink > 1 ? links.get(id) : undefined;
    if (first !== undefined) {
      put(tarHead({ ...common, xattrs: {}, type: "hardlink", linkPath: first }, 0));
      continue;
    }
    if (stat.nlink > 1) links.set(id, path);
    if (stat.isFile()) {
      put(tarHead(common, stat.size));
      if (stat.size > ASYNC_READ_BYTES) {
        yield take();
        yield* contentOf(full, stat.size);
      } else {
        put(smallContent(full, stat.size));
      }
      put(tarPadding(stat.size));
    } else {
      const special = specialEntry(full, stat);
      if (special !== undefined) put(tarHead({ ...common, ...special }, 0));
    }
  }
  put(TAR_END);
  yield take();
}

const timeOf = (stat: Stats, { latestMs }: LayerDiffOptions): number => Math.max(0, Math.min(Math.floor(stat.mtimeMs / 1000) * 1000, latestMs ?? Number.MAX_SAFE_INTEGER));

const isWhiteout = (stat: Stats): boolean => stat.isCharacterDevice() && stat.rdev === 0;

/** What is neither file nor directory; undefined for a socket. */
const specialEntry = (full: string, stat: Stats): Partial<TarInput> | undefined => {
  if (stat.isSymbolicLink()) return { type: "symlink", linkPath: readlinkSync(full) };
  if (stat.isFIFO()) return { type: "fifo" };
  if (stat.isCharacterDevice()) return { type: "character", device: device(stat.rdev) };
  if (stat.isBlockDevice()) return { type: "block", device: device(stat.rdev) };
  return undefined;
};

/** Every entry but the directory itself: a directory before what is in it, names in the order of their bytes. */
function* walk(directory: string, { exclude }: LayerDiffOptions, prefix = ""): Generator<{ readonly path: string; readonly stat: Stats }, void> {
  for (const name of readdirSync(prefix === "" ? directory : `${directory}/${prefix}`).sort(byBytes)) {
    const path = prefix === "" ? name : `${prefix}/${name}`;
    if (exclude?.has(path) === true) continue;
    if (name.includes("\uFFFD")) throw new GantryError("Invalid", `a file's name is not UTF-8, which image layers can't hold: ${JSON.stringify(path)}`);
    const stat = lstatSync(`${directory}/${path}`);
    yield { path, stat };
    if (stat.isDirectory()) yield* walk(directory, exclude === undefined ? {} : { exclude }, path);
  }
}

const attributesOf = (full: string, path: string): { readonly carried: Readonly<Record<string, Buffer>>; readonly isOpaque: boolean } => {
  let names: readonly string[];
  try {
    names = listXattrs(full);
  } catch (error) {
    if (!isErrno(error, "ENOTSUP", "EOPNOTSUPP")) throw error;
    names = [];
  }
  if (names.length === 0) return { carried: {}, isOpaque: false };
  const unportable = names.find((name) => UNPORTABLE.includes(name));
  if (unportable !== undefined) throw new GantryError("Invalid", `${path} has the attribute ${unportable}: it depends on a lower layer in a way that an image can't hold`);
  const carried = names.filter((name) => XATTR_CARRIED.test(name)).sort(byBytes);
  return {
    carried: Object.fromEntries(carried.map((name) => [name, getXattr(full, name) ?? Buffer.alloc(0)])),
    isOpaque: names.includes(OPAQUE_XATTR) && getXattr(full, OPAQUE_XATTR)?.toString("latin1") === "y",
  };
};

const open = (path: string): number => openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);

const changed = (path: string): GantryError => new GantryError("Conflict", `${path} became shorter while it was read`);

const smallContent = (path: string, sizeBytes: number): Buffer => {
  const buffer = Buffer.alloc(sizeBytes);
  if (sizeBytes === 0) return buffer;
  const fd = open(path);
  try {
    for (let at = 0; at < sizeBytes;) {
      const got = readSync(fd, buffer, at, sizeBytes - at, at);
      if (got === 0) throw changed(path);
      at += got;
    }
    return buffer;
  } finally {
    closeSync(fd);
  }
};

async function* contentOf(path: string, sizeBytes: number): AsyncGenerator<Buffer, void> {
  const fd = open(path);
  try {
    for (let at = 0; at < sizeBytes;) {
      const buffer = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, sizeBytes - at));
      const { bytesRead } = await readAsync(fd, buffer, 0, buffer.length, at);
      if (bytesRead === 0) throw changed(path);
      at += bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
  } finally {
    closeSync(fd);
  }
}
