// A program in memory that nobody can change, whoever gets hold of it: memfd_create(2), fcntl(2) "file sealing".
import { fchmodSync, openSync, readFileSync, writeSync } from "node:fs";
import * as libc from "./libc.ts";
import { isErrno } from "./libc.ts";

const MFD_CLOEXEC = 0x1;
const MFD_ALLOW_SEALING = 0x2;
/** Linux 6.3, where vm.memfd_noexec would have it otherwise. */
const MFD_EXEC = 0x10;
/** No other seals, no shrinking, no growing, no writing. */
const ALL_SEALS = 0x1 | 0x2 | 0x4 | 0x8;

const open = (name: string): number => {
  try {
    return libc.memfdCreate(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
  } catch (error) {
    if (!isErrno(error, "EINVAL")) throw error;
    return libc.memfdCreate(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
  }
};

/** A copy of the program at `path`, called `name`: a path that can be executed as long as this process lives, and no longer. SystemCallError where the kernel has none (before 3.17) or allows none. */
export const sealedCopy = (path: string, name: string): string => {
  const writable = open(name);
  try {
    const program = readFileSync(path);
    for (let at = 0; at < program.length;) at += writeSync(writable, program, at);
    fchmodSync(writable, 0o755);
    libc.addSeals(writable, ALL_SEALS);
    // What is open for writing can't be executed.
    return `/proc/${process.pid}/fd/${openSync(`/proc/self/fd/${writable}`, "r")}`;
  } finally {
    libc.close(writable);
  }
};
