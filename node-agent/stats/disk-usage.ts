// How much disk a folder takes, as `du -x`: allocated blocks, a file with several names once, nothing of what is mounted inside. What
// vanishes while it is looked at counts as nothing.
import type { BigIntStats, Dirent } from "node:fs";
import { lstat, readdir } from "node:fs/promises";
import { join } from "node:path";
import { isErrno } from "../linux/libc.ts";

const BLOCK_BYTES = 512;

const statOf = async (path: string): Promise<BigIntStats | undefined> => {
  try {
    return await lstat(path, { bigint: true });
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR", "EACCES")) return undefined;
    throw error;
  }
};

const entriesOf = async (path: string): Promise<readonly Dirent[]> => {
  try {
    return await readdir(path, { withFileTypes: true });
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR", "EACCES")) return [];
    throw error;
  }
};

/** 0 when there is nothing at `path`. One look at a time: many folders are measured behind the work of others. */
export const diskUsage = async (path: string): Promise<number> => {
  const root = await statOf(path);
  if (!root) return 0;
  const seen = new Set<bigint>();
  let bytes = Number(root.blocks) * BLOCK_BYTES;
  const pending = root.isDirectory() ? [path] : [];
  while (pending.length > 0) {
    const directory = pending.pop()!;
    for (const entry of await entriesOf(directory)) {
      const at = join(directory, entry.name);
      const stat = await statOf(at);
      if (!stat || stat.dev !== root.dev) continue;
      if (!stat.isDirectory() && stat.nlink > 1n) {
        if (seen.has(stat.ino)) continue;
        seen.add(stat.ino);
      }
      bytes += Number(stat.blocks) * BLOCK_BYTES;
      if (stat.isDirectory()) pending.push(at);
    }
  }
  return bytes;
};
