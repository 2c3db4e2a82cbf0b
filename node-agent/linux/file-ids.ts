// Making files for somebody else: as the user that root is inside of a user namespace.
import { GantryError } from "../../base/errors.ts";
import * as libc from "./libc.ts";

/** linux/prctl.h, linux/securebits.h */
const PR_GET_SECUREBITS = 27;
const PR_SET_SECUREBITS = 28;
const SECBIT_NO_SETUID_FIXUP = 1 << 2;

/**
 * Runs `fn` with `id` as the user and group that this thread's new files belong to, and all rights kept. Needed where id 0 can't be written: the
 * kernel refuses (EOVERFLOW) to make a file for a user that an idmapped mount, or a user namespace's file system, has no number for. Synchronous:
 * it is this thread's. A thread that couldn't get back would make files of the wrong owner ever after, so then the process ends.
 */
export const withFileIds = <T>(id: number, fn: () => T): T => {
  const bits = libc.prctl(PR_GET_SECUREBITS, 0, 0, 0, 0);
  // Without it the kernel takes the rights over files away as soon as the id isn't 0.
  libc.prctl(PR_SET_SECUREBITS, bits | SECBIT_NO_SETUID_FIXUP, 0, 0, 0);
  const [uid, gid] = [libc.setfsuid(id), libc.setfsgid(id)];
  try {
    const result = fn();
    if (result instanceof Promise) throw new GantryError("InternalError", "work as another user must be synchronous: others would go on as that user");
    return result;
  } finally {
    libc.setfsuid(uid);
    libc.setfsgid(gid);
    // Nothing but a call that changes nothing tells which ids are in force.
    if (libc.setfsuid(uid) !== uid || libc.setfsgid(gid) !== gid) {
      process.stderr.write(`can't return to the user ${uid} and the group ${gid}\n`);
      process.abort();
    }
    libc.prctl(PR_SET_SECUREBITS, bits, 0, 0, 0);
  }
};
