// The size of a terminal in a container, set from outside: on the terminal itself, as a process has it for its standard streams. Its kernel tells the programs on it.
import { closeSync, constants, openSync } from "node:fs";
import * as libc from "../linux/libc.ts";

/** asm-generic/ioctls.h, the same on every architecture that Node runs on but PowerPC and MIPS. */
const TIOCSWINSZ = 0x5414;
/** Must not become this process's controlling terminal. */
const O_NOCTTY = 0o400;

export interface TerminalSize {
  readonly width: number;
  readonly height: number;
}

export const setTerminalSize = (fd: number, { width, height }: TerminalSize): void => {
  const size = Buffer.alloc(8); // struct winsize: rows, columns, pixels
  size.writeUInt16LE(height, 0);
  size.writeUInt16LE(width, 2);
  libc.ioctl(fd, TIOCSWINSZ, size);
};

/** false: none of the process's standard streams is a terminal, or it has ended. */
export const resizeTerminalOf = (pid: number, size: TerminalSize): boolean =>
  [0, 1, 2].some((stdio) => {
    try {
      // Without waiting: what the process has there may be a FIFO.
      const fd = openSync(`/proc/${pid}/fd/${stdio}`, constants.O_RDWR | O_NOCTTY | constants.O_NONBLOCK);
      try {
        setTerminalSize(fd, size);
        return true;
      } finally {
        closeSync(fd);
      }
    } catch {
      return false;
    }
  });
