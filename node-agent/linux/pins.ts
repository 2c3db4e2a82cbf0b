// Namespaces of pods, pinned where nobody else's mount table grows by them: in a mount namespace of the agent's own. In the machine's, three pins a pod make each
// new container slower, for the kernel copies the table for it and its runtime reads it (docs/design/runtime.md). The mount namespace is pinned itself, by one
// mount in the machine's, so that it outlives the agent; nothing runs in it.
import { closeSync, constants, mkdirSync, openSync, writeFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { O_PATH } from "./files.ts";
import * as libc from "./libc.ts";
import { isErrno } from "./libc.ts";
import { MountFlags, bindMount, isBelow, makePrivate, readMounts, setPropagation, unmount } from "./mount.ts";
import { enterMountNamespace, enterNewMountNamespace, inMountNamespace, isPinned, openMountNamespace, pinNamespaces, unpin, type PinOptions, type PinPlace } from "./namespaces.ts";

export interface PinsOfPods {
  /** As of namespaces.ts. */
  pinNamespaces(options: PinOptions): void;
  /** Idempotent. */
  unpin(path: string): Promise<void>;
  /** How a pin at `path` is found from the machine's mount namespace: by this process, and by whoever may look into it, as long as it lives. */
  pathOf(path: string): string;
  /** `found`: from pathOf. */
  isPinned(found: string): boolean;
}

/** Pins in the machine's own mount namespace. */
export const PLAIN_PINS: PinsOfPods = { pinNamespaces, unpin, pathOf: (path) => path, isPinned };

/** Below the root: the mount namespace. */
const FILE = "pins/mnt";

export class Pins implements PinsOfPods, PinPlace, Disposable {
  readonly isPinned = isPinned;
  readonly #rootPath: string;
  /** The mount namespace, and the root as it is in there: whatever is looked up from it is found among the mounts of that namespace. */
  readonly #mountNamespace: number;
  readonly #root: number;

  private constructor(rootPath: string, mountNamespace: number) {
    this.#rootPath = rootPath;
    this.#mountNamespace = mountNamespace;
    this.#root = inMountNamespace(() => enterMountNamespace(mountNamespace), () => openSync(rootPath, O_PATH | constants.O_DIRECTORY));
  }

  /** Somebody has opened them, and the machine was not restarted since. */
  static areAt(root: string): boolean {
    return isPinned(join(root, FILE));
  }

  /** Pins are to lie below `root`, a tmpfs best. Fails with the codes of SystemCallError where the machine doesn't allow it; nothing is left then. */
  static open(root: string): Pins {
    const file = join(root, FILE);
    const mountNamespace = Pins.areAt(root) ? openSync(file, "r") : makeMountNamespace(root, file);
    try {
      return new Pins(root, mountNamespace);
    } catch (error) {
      closeSync(mountNamespace);
      throw error;
    }
  }

  pathOf(path: string): string {
    return `/proc/${process.pid}/fd/${this.#root}/${relative(this.#rootPath, path)}`;
  }

  inside<T>(fn: () => T): T {
    return inMountNamespace(() => enterMountNamespace(this.#mountNamespace), fn);
  }

  pinNamespaces(options: PinOptions): void {
    pinNamespaces(options, this);
  }

  /** A file that is removed takes along what is mounted on it in other mount namespaces (Linux 3.18), without this thread going there. */
  async unpin(path: string): Promise<void> {
    try {
      await rm(path, { force: true });
    } catch (error) {
      if (!isErrno(error, "EBUSY")) throw error;
      await unpin(path); // of an agent that pinned them in the machine's
    }
  }

  [Symbol.dispose](): void {
    closeSync(this.#root);
    closeSync(this.#mountNamespace);
  }
}

/** Of what it has from the namespace that it was made from, only pins and what they lie on: file systems that others unmount must not be held here. */
const keepOnly = (root: string): void => {
  setPropagation("/", "private", true);
  const detached = new Set<string>();
  for (const { target, type } of readMounts()) {
    const isNeeded = target === "/proc" || isBelow(root, target) || (isBelow(target, root) && type === "nsfs");
    // What lies on one that was detached went with it.
    if (isNeeded || [...detached].some((other) => other !== target && isBelow(target, other))) continue;
    unmount(target, { detach: true });
    detached.add(target);
  }
};

/** Open. It can only be bound where no mounts are passed on to others. */
const makeMountNamespace = (root: string, file: string): number => {
  const directory = dirname(file);
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const made = inMountNamespace(enterNewMountNamespace, () => {
    keepOnly(root);
    return openMountNamespace();
  });
  try {
    if (!readMounts().some((mount) => mount.target === directory)) bindMount(directory, directory);
    try {
      makePrivate(directory);
      writeFileSync(file, "", { flag: "a", mode: 0o400 });
      libc.mount(`/proc/self/fd/${made}`, file, null, MountFlags.bind, null);
    } catch (error) {
      unmount(directory, { detach: true });
      throw error;
    }
  } catch (error) {
    closeSync(made);
    throw error;
  }
  return made;
};
