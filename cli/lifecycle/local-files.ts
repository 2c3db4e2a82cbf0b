// Files of this machine as a tar, and back. What comes from a container is not trusted: no entry leaves the directory that it is unpacked into, also not through a
// link that came before it.
import { chmodSync, closeSync, constants, fchmodSync, futimesSync, lchownSync, linkSync, lstatSync, mkdirSync, openSync, readdirSync, readlinkSync, rmSync, statSync, symlinkSync, utimesSync, writeSync, type Stats } from "node:fs";
import { join } from "node:path";
import { GantryError } from "../../base/errors.ts";
import type { TarReader } from "../../node-agent/images/tar.ts";
import { tarFile } from "../../node-agent/images/tar-file.ts";
import { TAR_END, tarHead } from "../../node-agent/images/tar-writer.ts";
import { renamed } from "./copy-paths.ts";

/** `path` as the entry `name`, with all below it; `name` "": only what is in it. Links are packed as links, the first one too unless `follow`. */
export async function* packFiles(path: string, name: string, follow: boolean): AsyncGenerator<Buffer, void> {
  const emit = function* (full: string, as: string, stat: Stats): Generator<Buffer, void> {
    const common = { path: as, mode: stat.mode & 0o7777, uid: stat.uid, gid: stat.gid, mtimeMs: stat.mtimeMs };
    if (stat.isDirectory()) {
      if (as !== "") yield tarHead({ ...common, type: "directory", path: `${as}/` }, 0);
      for (const child of readdirSync(full).sort()) yield* emit(join(full, child), as === "" ? child : `${as}/${child}`, lstatSync(join(full, child)));
    } else if (stat.isSymbolicLink()) yield tarHead({ ...common, type: "symlink", linkPath: readlinkSync(full) }, 0);
    else if (stat.isFile()) yield* fileOf(full, common);
    else if (stat.isFIFO()) yield tarHead({ ...common, type: "fifo" }, 0);
  };
  yield* emit(path, name, follow ? statSync(path) : lstatSync(path));
  yield TAR_END;
}

const fileOf = function* (path: string, head: Parameters<typeof tarHead>[0]): Generator<Buffer, void> {
  const fd = openSync(path, "r");
  try {
    yield* tarFile(fd, head);
  } finally {
    closeSync(fd);
  }
};

/** Into `directory`, with `name` in place of the archive's top name (renamed()). `keepOwners`: also owners and groups, which needs root. */
export const unpackFiles = async (tar: TarReader, directory: string, name: string, keepOwners: boolean): Promise<void> => {
  const times: [string, number][] = [];
  for (let entry = await tar.next(); entry; entry = await tar.next()) {
    const relative = renamed(entry.path, name);
    if (relative === undefined) continue;
    const parts = relative.split("/");
    if (parts.includes("..")) throw new GantryError("Invalid", `the archive's entry ${JSON.stringify(entry.path)} leads out of ${directory}`);
    const path = makeParents(directory, parts);
    const present = lstatSync(path, { throwIfNoEntry: false });
    if (entry.type === "directory") {
      if (present && !present.isDirectory()) throw new GantryError("BadRequest", `cannot overwrite the file ${path} with a directory`);
      if (!present) mkdirSync(path, 0o700);
      chmodSync(path, entry.mode & 0o1777);
      times.push([path, entry.mtimeMs]);
    } else {
      if (present?.isDirectory()) throw new GantryError("BadRequest", `cannot overwrite the directory ${path} with a file`);
      if (present) rmSync(path);
      if (entry.type === "file") await writeFile(path, tar, entry);
      else if (entry.type === "symlink") symlinkSync(entry.linkPath, path);
      else if (entry.type === "hardlink") {
        const target = renamed(entry.linkPath, name)?.split("/") ?? [];
        if (target.length === 0 || target.includes("..")) throw new GantryError("Invalid", `the archive's hard link to ${JSON.stringify(entry.linkPath)} leads out of ${directory}`);
        linkSync(makeParents(directory, target), path);
      } else continue; // devices and FIFOs: nothing for this machine
    }
    if (keepOwners) lchownSync(path, entry.uid, entry.gid);
  }
  for (const [path, ms] of times.reverse()) utimesSync(path, ms / 1000, ms / 1000);
};

/** Path of the entry; directories above it are made. "Invalid" when one of them is a link: it may lead anywhere. */
const makeParents = (directory: string, parts: readonly string[]): string => {
  let path = directory;
  for (const part of parts.slice(0, -1)) {
    path = join(path, part);
    const stat = lstatSync(path, { throwIfNoEntry: false });
    if (!stat) mkdirSync(path, 0o755);
    else if (!stat.isDirectory()) throw new GantryError("Invalid", `${path} is ${stat.isSymbolicLink() ? "a symbolic link" : "a file"}: nothing is unpacked through it`);
  }
  return join(path, parts.at(-1)!);
};

const writeFile = async (path: string, tar: TarReader, entry: { readonly mode: number; readonly mtimeMs: number }): Promise<void> => {
  const fd = openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, 0o600);
  try {
    for (let piece = await tar.chunk(); piece; piece = await tar.chunk()) for (let done = 0; done < piece.length;) done += writeSync(fd, piece, done, piece.length - done);
    // Never setuid: the file was somebody else's.
    fchmodSync(fd, entry.mode & 0o777);
    futimesSync(fd, entry.mtimeMs / 1000, entry.mtimeMs / 1000);
  } finally {
    closeSync(fd);
  }
};
