// Where image layers and writable layers lie, so that making one is cheap.
//
// ext4 does not reuse an inode for minutes after it was deleted, and looks through all of those for every new one: where containers
// come and go, a new file takes 0.6 ms instead of 0.02 ms (measured), and an overlay mount, which makes six, 1.8 ms instead of 0.15 ms.
import { closeSync, constants, openSync } from "node:fs";
import * as libc from "./libc.ts";

/** linux/fs.h, on 64-bit machines. */
const FS_IOC_GETFLAGS = 0x80086601;
const FS_IOC_SETFLAGS = 0x40086602;
const FS_TOPDIR_FL = 0x00020000;

/** Asks ext4 to put each directory made in this one into a block group of its own, as `chattr +T`. Other file systems don't need it, and say so. */
export const spreadDirectories = (directory: string): void => {
  const fd = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    const flags = Buffer.alloc(8);
    libc.ioctl(fd, FS_IOC_GETFLAGS, flags);
    flags.writeUInt32LE((flags.readUInt32LE(0) | FS_TOPDIR_FL) >>> 0, 0);
    libc.ioctl(fd, FS_IOC_SETFLAGS, flags);
  } catch {
    // Not ext4: only slower there, if at all.
  } finally {
    closeSync(fd);
  }
};
