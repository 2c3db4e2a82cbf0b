// Files of a volume that change together, as the kubelet's AtomicWriter lays them out (kubernetes/pkg/volume/util/atomic_writer.go):
//   dir/..data -> ..v3/        one symlink, exchanged by rename(2): a reader sees all of the old files or all of the new ones
//   dir/..v3/key               the files
//   dir/key -> ..data/key      what the container opens
import { chownSync, existsSync, lstatSync, mkdirSync, readFileSync, readdirSync, readlinkSync, renameSync, rmSync, symlinkSync, chmodSync, writeFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { GantryError } from "../../base/errors.ts";

export interface VolumeFile {
  /** Relative, may have folders. */
  readonly path: string;
  readonly data: Uint8Array;
  readonly mode: number;
}

const DATA = "..data";

/** "Invalid" for a path that is absolute, empty, or leaves the volume, or that would hide the volume's own names. */
export const checkPath = (path: string): string => {
  const clean = normalize(path);
  if (path === "" || path.startsWith("/") || clean === "." || clean.split("/").some((part) => part === "..") || clean.startsWith("..")) {
    throw new GantryError("Invalid", `volume file ${JSON.stringify(path)}: a relative path inside the volume is needed, without ".." and not beginning with ".."`);
  }
  return clean;
};

/** Whether the volume shows exactly these files already. */
const isCurrent = (dir: string, files: readonly VolumeFile[]): boolean => {
  const data = join(dir, DATA);
  if (!existsSync(data)) return false;
  const names = new Set((readdirSync(data, { recursive: true, withFileTypes: true })).filter((e) => e.isFile()).map((e) => join(e.parentPath, e.name).slice(data.length + 1)));
  return names.size === files.length && files.every((f) => {
    const path = normalize(f.path);
    return names.has(path) && (lstatSync(join(data, path)).mode & 0o777) === (f.mode & 0o777) && Buffer.compare(readFileSync(join(data, path)), f.data) === 0;
  });
};

/** Makes the volume show `files` and nothing else; no-op when it does. `group` owns them when given (fsGroup). Returns whether it changed. */
export const writeAtomically = (dir: string, files: readonly VolumeFile[], group?: number): boolean => {
  const wanted = files.map((f) => ({ ...f, path: checkPath(f.path) }));
  mkdirSync(dir, { recursive: true, mode: 0o755 });
  if (isCurrent(dir, wanted)) return false;
  const old = existsSync(join(dir, DATA)) || lstatSync(join(dir, DATA), { throwIfNoEntry: false }) ? readlinkSync(join(dir, DATA)) : undefined;
  const version = `..v${(old === undefined ? 0 : Number(old.slice(3)) || 0) + 1}`;
  const fresh = join(dir, version);
  rmSync(fresh, { recursive: true, force: true }); // of a writer that died half-way
  mkdirSync(fresh, { mode: 0o755 });
  for (const file of wanted) {
    const target = join(fresh, file.path);
    mkdirSync(dirname(target), { recursive: true, mode: 0o755 });
    writeFileSync(target, file.data, { mode: 0o600 });
    if (group !== undefined) chownSync(target, 0, group);
    // Set apart: the umask must not take bits off. With a group its members read what the owner reads.
    chmodSync(target, group === undefined ? file.mode : file.mode | ((file.mode & 0o400) >> 3));
  }
  symlinkSync(version, join(dir, `${DATA}.new`));
  renameSync(join(dir, `${DATA}.new`), join(dir, DATA));
  const top = new Set(wanted.map((f) => f.path.split("/")[0]!));
  for (const name of top) if (!lstatSync(join(dir, name), { throwIfNoEntry: false })) symlinkSync(join(DATA, name), join(dir, name));
  for (const name of readdirSync(dir)) if (!top.has(name) && name !== DATA && name !== version) rmSync(join(dir, name), { recursive: true, force: true });
  return true;
};
