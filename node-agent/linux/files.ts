// What node:fs has no call for: device nodes, extended attributes, and opening confined to a directory. (node:fs does have lchown and lutimes.)
import { constants } from "node:fs";
import * as libc from "./libc.ts";
import { isErrno } from "./libc.ts";

/** Encoding of dev_t in the C library's interface: 32 bits each, interleaved (gnu_dev_makedev). */
export const makeDevice = (major: number, minor: number): bigint => {
  const [a, i] = [BigInt(major), BigInt(minor)];
  return ((a & 0xfffn) << 8n) | ((a & 0xfffff000n) << 32n) | (i & 0xffn) | ((i & 0xffffff00n) << 12n);
};

export interface NodeOptions {
  readonly type: "character" | "block" | "fifo" | "socket" | "file";
  /** Permission bits; the process's umask applies. */
  readonly mode: number;
  readonly major?: number;
  readonly minor?: number;
}

const TYPES = { character: constants.S_IFCHR, block: constants.S_IFBLK, fifo: constants.S_IFIFO, socket: constants.S_IFSOCK, file: constants.S_IFREG } as const;

/** mknod(2). A character device 0:0 is overlayfs's whiteout. */
export const makeNode = (path: string, { type, mode, major = 0, minor = 0 }: NodeOptions): void => {
  libc.mknod(path, TYPES[type] | mode, makeDevice(major, minor));
};

/** Of the link itself when `path` is one. */
export const setXattr = (path: string, name: string, value: Uint8Array): void => {
  libc.lsetxattr(path, name, value, value.length, 0);
};

/** undefined when there is none of that name. */
export const getXattr = (path: string, name: string): Buffer | undefined =>
  readSized((buffer, sizeBytes) => libc.lgetxattr(path, name, buffer, sizeBytes));

export const listXattrs = (path: string): readonly string[] =>
  (readSized((buffer, sizeBytes) => libc.llistxattr(path, buffer, sizeBytes))?.toString("utf8") ?? "").split("\0").filter((name) => name !== "");

/** No error when there is none of that name. */
export const removeXattr = (path: string, name: string): void => {
  try {
    libc.lremovexattr(path, name);
  } catch (error) {
    if (!isErrno(error, "ENODATA")) throw error;
  }
};

/** The kernel's answer to size 0 is the size that it takes; it may have grown by the time of the second call (ERANGE). */
const readSized = (read: (buffer: Uint8Array | null, sizeBytes: number) => number): Buffer | undefined => {
  for (;;) {
    try {
      const sizeBytes = read(null, 0);
      if (sizeBytes === 0) return Buffer.alloc(0);
      const buffer = Buffer.alloc(sizeBytes);
      return buffer.subarray(0, read(buffer, sizeBytes));
    } catch (error) {
      if (isErrno(error, "ENODATA")) return undefined;
      if (!isErrno(error, "ERANGE")) throw error;
    }
  }
};

/** How openat2(2) resolves a path. Linux 5.6. */
export const Resolve = {
  /** No mount point on the way. */
  noCrossDevice: 0x01,
  /** No /proc/PID/fd-like links. Implied by the two below. */
  noMagicLinks: 0x02,
  /** ELOOP at any symbolic link on the way. */
  noLinks: 0x04,
  /** EXDEV as soon as the path leaves the directory. */
  beneath: 0x08,
  /** As after chroot: absolute links and `..` end at the directory. */
  inRoot: 0x10,
} as const;

const O_CLOEXEC = 0o2000000;
export const O_PATH = 0o10000000;

/**
 * Opens `path` from the directory `directoryFd`, confined by `resolve`. Returns a descriptor (the caller closes it: libc.close). With O_PATH on a
 * parent directory, `/proc/self/fd/FD/NAME` is then a race-free name for node:fs.
 */
export const openConfined = (directoryFd: number, path: string, { flags, mode = 0, resolve }: { readonly flags: number; readonly mode?: number; readonly resolve: number }): number => {
  const how = Buffer.alloc(24); // struct open_how: flags, mode, resolve
  how.writeBigUInt64LE(BigInt((flags | O_CLOEXEC) >>> 0), 0);
  how.writeBigUInt64LE(BigInt(mode), 8);
  how.writeBigUInt64LE(BigInt(resolve), 16);
  for (;;) {
    try {
      return libc.openat2(directoryFd, path, how, how.length);
    } catch (error) {
      // EAGAIN: something was renamed meanwhile, so the kernel can't be sure about `..`; trying again is what it asks for.
      if (!isErrno(error, "EAGAIN", "EINTR")) throw error;
    }
  }
};
