// Namespaces without a process: made on this thread, kept alive by bind mounts of their files, and left again at once. All of it is
// synchronous: nothing else may run on this thread while it is in another namespace.
import { closeSync, constants, mkdirSync, openSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { GantryError } from "../../base/errors.ts";
import { O_PATH } from "./files.ts";
import * as libc from "./libc.ts";
import { isErrno } from "./libc.ts";
import { MountFlags, detachElsewhere, unmount } from "./mount.ts";

/** clone(2). */
const CLONE = { mnt: 0x00020000, uts: 0x04000000, ipc: 0x08000000, net: 0x40000000 } as const;
/** Working directory and root are this thread's own from then on. */
const CLONE_FS = 0x200;
type NamespaceType = keyof typeof CLONE;

const NSFS_MAGIC = 0x6e736673;
const AF_INET = 2;
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000;
const SIOCSIFFLAGS = 0x8914;
const IFF_UP = 1;

const here = (type: NamespaceType): string => `/proc/thread-self/ns/${type}`;

/**
 * Runs `fn` with the thread's namespaces of `types` saved, and restores them whatever happens. A thread that can't get back would go on
 * as a part of a pod, with every socket and mount in the wrong place: there is no state to save that is worth that, so the process ends.
 */
const returning = <T>(types: readonly NamespaceType[], fn: () => T): T => {
  const homes: { type: NamespaceType; fd: number }[] = [];
  let entered = false;
  try {
    for (const type of types) homes.push({ type, fd: openSync(here(type), "r") });
    entered = true;
    const result = fn();
    if (result instanceof Promise) throw new GantryError("InternalError", "work in another namespace must be synchronous: it would go on in this one");
    return result;
  } finally {
    for (const { type, fd } of homes) {
      try {
        if (entered) libc.setns(fd, CLONE[type]);
      } catch (error) {
        process.stderr.write(`can't return to the ${type} namespace: ${String(error)}\n`);
        process.abort();
      }
      closeSync(fd);
    }
  }
};

/** A namespace file is bound here. */
export const isPinned = (path: string): boolean => {
  try {
    return statfsSync(path).type === NSFS_MAGIC;
  } catch (error) {
    if (isErrno(error, "ENOENT")) return false;
    throw error;
  }
};

export interface PinOptions {
  /** Where to bind each new namespace; its file and directory are made. Absent: none of that type. */
  readonly net?: string;
  readonly ipc?: string;
  readonly uts?: string;
  /** Of the new UTS namespace. */
  readonly hostname?: string;
  /** The new network namespace's loopback stays down: whoever links it brings it up with the rest. */
  readonly loopbackLater?: boolean;
}

/** In whose mount table pins are. */
export interface PinPlace {
  /** By which a pin is found from this thread's mount namespace. */
  pathOf(path: string): string;
  /** Runs `fn` where mounts come into that table. */
  inside<T>(fn: () => T): T;
}

const HERE: PinPlace = { pathOf: (path) => path, inside: (fn) => fn() };

/**
 * Makes new namespaces and pins them. The network namespace has its loopback up (unless it is to come later), the UTS namespace its hostname. What is pinned already
 * stays as it is, so that the step can be repeated. When it fails nothing new is left and this thread is where it was. Best on a
 * tmpfs (ensureTmpfs): making the three files on ext4 takes longer than all the rest.
 */
export const pinNamespaces = ({ net, ipc, uts, hostname, loopbackLater = false }: PinOptions, place: PinPlace = HERE): void => {
  const wanted = Object.entries({ net, ipc, uts }).filter((entry): entry is [NamespaceType, string] => entry[1] !== undefined && !isPinned(place.pathOf(entry[1])));
  if (wanted.length === 0) return;
  const pinned: string[] = [];
  try {
    for (const directory of new Set(wanted.map(([, path]) => dirname(path)))) mkdirSync(directory, { recursive: true });
    for (const [, path] of wanted) writeFileSync(path, "", { flag: "a", mode: 0o444 });
    returning(wanted.map(([type]) => type), () => {
      libc.unshare(wanted.reduce((flags, [type]) => flags | CLONE[type], 0));
      if (!loopbackLater && wanted.some(([type]) => type === "net")) bringLoopbackUp();
      if (hostname !== undefined && wanted.some(([type]) => type === "uts")) libc.sethostname(hostname, Buffer.byteLength(hostname));
      place.inside(() => {
        for (const [type, path] of wanted) {
          libc.mount(here(type), path, null, MountFlags.bind, null);
          pinned.push(path);
        }
      });
    });
  } catch (error) {
    if (pinned.length > 0) place.inside(() => pinned.forEach((path) => unmount(path, { detach: true })));
    for (const [, path] of wanted) rmSync(path, { force: true });
    throw error;
  }
};

/** Lets go of a namespace: it ends with its last process, in the background. Idempotent. */
export const unpin = async (path: string): Promise<void> => {
  await detachElsewhere(path);
  rmSync(path, { force: true });
};

/** Runs `fn` in the mount namespace that `enter` takes this thread to: unshare(2), or setns(2) to one. Other threads stay where they are, and so does the working directory. */
export const inMountNamespace = <T>(enter: () => void, fn: () => T): T => {
  const directory = openSync(".", O_PATH | constants.O_DIRECTORY);
  try {
    return returning(["mnt"], () => {
      // A thread that shares its working directory with others, as those do that it starts, can't go.
      libc.unshare(CLONE_FS);
      enter();
      return fn();
    });
  } finally {
    libc.fchdir(directory);
    closeSync(directory);
  }
};

export const enterNewMountNamespace = (): void => void libc.unshare(CLONE.mnt);
export const enterMountNamespace = (fd: number): void => void libc.setns(fd, CLONE.mnt);
export const openMountNamespace = (): number => openSync(here("mnt"), "r");

/** Runs `fn` in the namespace of that type pinned at `path` (or any ns file). */
export const inNamespace = <T>(type: NamespaceType, path: string, fn: () => T): T =>
  returning([type], () => {
    const fd = openSync(path, "r");
    try {
      libc.setns(fd, CLONE[type]);
    } finally {
      closeSync(fd);
    }
    return fn();
  });

/** Sockets made in there stay in there, also when used from outside. */
export const inNetworkNamespace = <T>(path: string, fn: () => T): T => inNamespace("net", path, fn);

/** Of this thread's network namespace. */
export const bringLoopbackUp = (): void => {
  const fd = libc.socket(AF_INET, SOCK_DGRAM_CLOEXEC, 0);
  try {
    const request = Buffer.alloc(40); // struct ifreq: name[16], flags
    request.write("lo", "latin1");
    request.writeInt16LE(IFF_UP, 16);
    libc.ioctl(fd, SIOCSIFFLAGS, request);
  } finally {
    libc.close(fd);
  }
};
