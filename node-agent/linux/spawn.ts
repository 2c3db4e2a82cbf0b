// Starting a process without copying this one. node:child_process forks: the kernel copies the page tables of a whole node process, and
// every page written meanwhile is copied too, on the main thread: 6 ms at 120 MB, against 0.8 ms here (posix_spawn shares the memory
// until exec). For short-lived children that nobody listens to but through descriptors.
import { openSync } from "node:fs";
import * as libc from "./libc.ts";

export interface SpawnOptions {
  readonly path: string;
  /** Without the program's name. */
  readonly args: readonly string[];
  readonly cwd: string;
  /** NAME=value; nothing else is passed on. */
  readonly env: readonly string[];
  /** Descriptors of the child, from 0 on; undefined is /dev/null. All others are closed (node opens everything close-on-exec). */
  readonly fds: readonly (number | undefined)[];
}

/** spawn.h: POSIX_SPAWN_SETSIGDEF and SETSIGMASK, and room for the opaque structures (glibc: 80, 336 and 128 bytes; musl: less). */
const FLAGS = 0x04 | 0x08;
const ACTIONS_BYTES = 256;
const ATTRIBUTES_BYTES = 512;
const SIGNALS_BYTES = 128;
/** Signals 1 to 31 but SIGKILL and SIGSTOP, which have no disposition. */
const ALL_SIGNALS = 0x7fffffff & ~(1 << 8) & ~(1 << 18);

let nothing: number | undefined;

type Prepared = Parameters<typeof libc.posixSpawn>;

/** Like posix_spawn(3); the pid is to be reaped. SystemCallError when there is no such program. */
export const spawnProcess = (options: SpawnOptions): number => {
  const call = prepare(options);
  try {
    libc.posixSpawn(...call);
    return pidOf(call);
  } finally {
    libc.spawnActions.destroy(call[2]);
  }
};

/**
 * The same from a thread of the pool: who spawns waits until the child has its program, and the child waits for a processor with everybody else, on
 * a busy machine tens of ms. The descriptors stay open until this resolves.
 */
export const spawnElsewhere = async (options: SpawnOptions): Promise<number> => {
  const call = prepare(options);
  try {
    await libc.posixSpawnElsewhere(...call);
    return pidOf(call);
  } finally {
    libc.spawnActions.destroy(call[2]);
  }
};

const pidOf = ([pid]: Prepared): number => Buffer.from(pid.buffer, pid.byteOffset).readInt32LE(0);

const prepare = ({ path, args, cwd, env, fds }: SpawnOptions): Prepared => {
  const [actions, attributes, pid] = [Buffer.alloc(ACTIONS_BYTES), Buffer.alloc(ATTRIBUTES_BYTES), Buffer.alloc(4)];
  // node ignores SIGPIPE, and what is ignored stays so over exec: programs rely on dying of it.
  const [defaults, unblocked] = [Buffer.alloc(SIGNALS_BYTES), Buffer.alloc(SIGNALS_BYTES)];
  defaults.writeInt32LE(ALL_SIGNALS, 0);
  libc.spawnActions.init(actions);
  try {
    fds.forEach((fd, i) => libc.spawnActions.duplicate(actions, fd ?? (nothing ??= openSync("/dev/null", "r+")), i));
    libc.spawnActions.changeDirectory(actions, cwd);
    libc.spawnAttributes.init(attributes);
    libc.spawnAttributes.setFlags(attributes, FLAGS);
    libc.spawnAttributes.setDefaultSignals(attributes, defaults);
    libc.spawnAttributes.setSignalMask(attributes, unblocked);
    return [pid, path, actions, attributes, [path, ...args, null], [...env, null]];
  } catch (error) {
    libc.spawnActions.destroy(actions);
    throw error;
  }
};

/** Waits for a child of ours that is known to have ended, or to be about to. Its exit code; 128 and the signal when it was killed. */
export const reapProcess = (pid: number): number => {
  const status = Buffer.alloc(4);
  libc.waitpid(pid, status, 0);
  const signal = status.readInt32LE(0) & 0x7f;
  return signal === 0 ? (status.readInt32LE(0) >> 8) & 0xff : 128 + signal;
};

const O_CLOEXEC = 0o2000000;

/** A pipe: what is written to `write` comes out of `read`. Close with libc.close, or give to a net.Socket. */
export const makePipe = (): { readonly read: number; readonly write: number } => {
  const fds = Buffer.alloc(8);
  libc.pipe2(fds, O_CLOEXEC);
  return { read: fds.readInt32LE(0), write: fds.readInt32LE(4) };
};
