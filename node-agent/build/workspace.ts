// A build's own directories and mounts, and the network namespaces without a network; all of it goes with the build, and what an agent that was killed left goes
// when the next one starts. ROOT/work/ID (on the image store's disk), RUNROOT/build/ID (in memory).
import { lstatSync, mkdirSync, readdirSync, rmdirSync, rmSync } from "node:fs";
import { rm } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { newId } from "../../base/ids.ts";
import { getXattr } from "../linux/files.ts";
import { bindMount, mountOverlay, unmount, unmountAllBelow } from "../linux/mount.ts";
import { pinNamespaces, unpin } from "../linux/namespaces.ts";
import { resolveInRoot } from "../runtime/user.ts";

/** Where the file system of one step is put together. */
export interface StepDirectories {
  /** What the step sees. */
  readonly merged: string;
  /** What it changed. */
  readonly upper: string;
  unmount(): void;
}

export class Workspace implements AsyncDisposable {
  readonly #disk: string;
  readonly #memory: string;
  readonly #empty: string;
  readonly #mounted: string[] = [];
  #isolated: string | undefined;

  constructor(disk: string, memory: string) {
    this.#disk = disk;
    this.#memory = memory;
    for (const directory of [disk, memory]) mkdirSync(directory, { recursive: true, mode: 0o700 });
    this.#empty = join(disk, "empty");
    mkdirSync(this.#empty, { mode: 0o755 });
  }

  /** A new directory; on disk unless it is to be in memory. */
  directory(where: "disk" | "memory" = "disk", mode = 0o700): string {
    const path = join(where === "disk" ? this.#disk : this.#memory, newId());
    mkdirSync(path, { mode });
    return path;
  }

  /** `lowerDirs`: lowest first. */
  step(lowerDirs: readonly string[]): StepDirectories {
    const [base, merged] = [this.directory(), this.directory("memory", 0o755)];
    const [upper, work] = [join(base, "upper"), join(base, "work")];
    mkdirSync(upper, { mode: 0o755 });
    mkdirSync(work, { mode: 0o700 });
    // volatile: a layer that a power cut caught is unpacked anew from its blob.
    mountOverlay({ lowerDirs: lowerDirs.length === 0 ? [this.#empty] : lowerDirs, upper, work, target: merged, volatile: true });
    this.#mounted.push(merged);
    return { merged, upper, unmount: () => unmount(merged, { detach: true }) };
  }

  /** The layers as one directory that can't be written to. */
  readOnly(lowerDirs: readonly string[]): string {
    const target = this.directory("memory", 0o755);
    mountOverlay({ lowerDirs: [this.#empty, ...(lowerDirs.length === 0 ? [this.directory()] : lowerDirs)], target });
    this.#mounted.push(target);
    return target;
  }

  /** The directory with changes that nobody will see. */
  scratchCopy(source: string): string {
    const base = this.directory();
    const [upper, work, target, lower] = [join(base, "upper"), join(base, "work"), this.directory("memory", 0o755), this.directory("memory", 0o755)];
    mkdirSync(upper, { mode: lstatSync(source).mode & 0o7777 });
    mkdirSync(work, { mode: 0o700 });
    // An overlay can't have another overlay's inside as its lower directory's top on every kernel: a bind mount can.
    bindMount(source, lower);
    this.#mounted.push(lower);
    mountOverlay({ lowerDirs: [lower], upper, work, target, volatile: true });
    this.#mounted.push(target);
    return target;
  }

  /** A network namespace with a loopback and nothing else. */
  isolatedNetwork(): string {
    if (this.#isolated === undefined) {
      this.#isolated = join(this.#memory, "net");
      pinNamespaces({ net: this.#isolated });
    }
    return this.#isolated;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isolated !== undefined) await unpin(this.#isolated);
    for (const target of this.#mounted.reverse()) unmount(target, { detach: true });
    rmSync(this.#memory, { recursive: true, force: true });
    await rm(this.#disk, { recursive: true, force: true });
  }
}

/** After a start: mounts first, so that nothing is deleted through them. */
export const removeWorkspaces = (disk: string, memory: string): void => {
  for (const directory of [disk, memory]) {
    unmountAllBelow(directory);
    rmSync(directory, { recursive: true, force: true });
  }
};

/** Paths of a root file system that do not exist and that a mount at `destinations` will make the runtime create; outer ones first. */
export const missingMountPoints = (root: string, destinations: readonly string[]): readonly string[] => {
  const missing = new Set<string>();
  for (const destination of destinations) {
    const found: string[] = [];
    for (let path = resolveInRoot(root, destination); path !== root && lstatSync(path, { throwIfNoEntry: false }) === undefined; path = dirname(path)) found.unshift(path);
    for (const path of found) missing.add(path);
  }
  return [...missing].sort();
};

/** Takes away mount points that are still empty. Returns the directories around them, relative to the root: for pruneUnchanged. */
export const removeMountPoints = (paths: readonly string[], root: string): ReadonlySet<string> => {
  for (const path of paths.toReversed()) {
    const stat = lstatSync(path, { throwIfNoEntry: false });
    if (stat?.isDirectory() === true && readdirSync(path).length === 0) rmdirSync(path);
    else if (stat?.isFile() === true && stat.size === 0) rmSync(path);
  }
  return new Set(paths.map((path) => dirname(relative(root, path))));
};

/** Directories of `upper` that were only copied up, on the way to a mount point: they have nothing in them and look as they do below. After the overlay is unmounted. */
export const pruneUnchanged = (upper: string, directories: ReadonlySet<string>, lowerDirs: readonly string[]): void => {
  for (const path of [...directories].sort((a, b) => b.length - a.length)) {
    for (let at = path; at !== "" && at !== "."; at = dirname(at)) {
      const own = lstatSync(join(upper, at), { throwIfNoEntry: false });
      if (own?.isDirectory() !== true || readdirSync(join(upper, at)).length > 0 || getXattr(join(upper, at), "trusted.overlay.opaque") !== undefined) break;
      const below = lowerDirs.toReversed().map((lower) => lstatSync(join(lower, at), { throwIfNoEntry: false })).find((stat) => stat !== undefined);
      if (below?.isDirectory() !== true || below.mode !== own.mode || below.uid !== own.uid || below.gid !== own.gid) break;
      rmdirSync(join(upper, at));
    }
  }
};
