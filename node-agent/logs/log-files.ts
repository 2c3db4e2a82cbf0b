// The log of one container instance: the file that conmon appends to, and the older parts that rotation has renamed beside it
// (NAME.log.1 is older than NAME.log.2). Owns those names.
import { close, fstat, open, read, readdirSync, renameSync, rmSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { promisify } from "node:util";

const openFile = promisify(open);
const closeFile = promisify(close);
const statFile = promisify(fstat);
const NEWLINE = 0x0a;
const BLOCK_BYTES = 64 * 1024;

const partNumber = (path: string, name: string): number | undefined => {
  const base = `${basename(path)}.`;
  return name.startsWith(base) && /^\d+$/.test(name.slice(base.length)) ? Number(name.slice(base.length)) : undefined;
};

/** All parts, oldest first; the file that is being written is the last. Missing files are left out. */
export const partsOf = (path: string): readonly string[] => {
  let names: readonly string[];
  try {
    names = readdirSync(dirname(path));
  } catch {
    return [];
  }
  const older = names.map((name) => ({ name, n: partNumber(path, name) })).filter((p) => p.n !== undefined).sort((a, b) => a.n! - b.n!);
  return [...older.map((p) => join(dirname(path), p.name)), ...(names.includes(basename(path)) ? [path] : [])];
};

/** Renames the current file to the next part and drops the oldest beyond `keep` files in all. The caller has conmon open a new one. */
export const rotate = (path: string, keep: number): void => {
  const parts = partsOf(path);
  const last = parts.length > 1 ? partNumber(path, basename(parts.at(-2)!))! : 0;
  renameSync(path, `${path}.${last + 1}`);
  for (const old of parts.slice(0, Math.max(0, parts.length - (keep - 1)))) rmSync(old, { force: true });
};

export const sizeOf = (path: string): number => statSync(path, { throwIfNoEntry: false })?.size ?? 0;

export const removeLogs = (path: string): void => {
  for (const part of partsOf(path)) rmSync(part, { force: true });
};

/** An open log file, read at positions: appending writers don't disturb it, renaming doesn't either. */
export class LogFile implements AsyncDisposable {
  readonly #fd: number;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** Undefined when there is no such file. */
  static async open(path: string): Promise<LogFile | undefined> {
    try {
      return new LogFile(await openFile(path, "r"));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await closeFile(this.#fd);
  }

  async status(): Promise<{ readonly size: number; readonly inode: number }> {
    const { size, ino } = await statFile(this.#fd);
    return { size, inode: ino };
  }

  /** At most 64 KiB from `position`; empty at the end. */
  read(position: number): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      const buffer = Buffer.allocUnsafe(BLOCK_BYTES);
      read(this.#fd, buffer, 0, BLOCK_BYTES, position, (error, bytes) => (error ? reject(error) : resolve(buffer.subarray(0, bytes))));
    });
  }

  /** Where the last `lines` lines of the first `size` bytes begin, and how many there are if there are fewer. Reads backwards, in blocks. */
  async tail(lines: number, size: number): Promise<{ readonly position: number; readonly found: number }> {
    let found = 0;
    for (let end = size; end > 0;) {
      const start = Math.max(0, end - BLOCK_BYTES);
      const block = (await this.read(start)).subarray(0, end - start);
      for (let i = block.lastIndexOf(NEWLINE); i >= 0; i = i === 0 ? -1 : block.lastIndexOf(NEWLINE, i - 1)) {
        // The newline that ends the file belongs to the last line.
        if (start + i === size - 1) continue;
        if (++found === lines) return { position: start + i + 1, found };
      }
      end = start;
    }
    return { position: 0, found: size === 0 ? 0 : found + 1 };
  }
}
