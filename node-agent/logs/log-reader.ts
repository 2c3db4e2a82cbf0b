// Reads a container's log as `kubectl logs` wants it: from the tail or a time on, with a limit, following what is appended, across
// rotation, until the container has ended and all of its lines are read. inotify tells of new lines; nothing polls.
import { statSync, watch } from "node:fs";
import { dirname } from "node:path";
import { LineSplitter, parseLine, renderLine, timeOf, type LogStream } from "./cri-line.ts";
import { LogFile, partsOf } from "./log-files.ts";

export interface ReadLogOptions {
  /** Last lines only; undefined: all. */
  readonly tailLines?: number | undefined;
  /** Where to begin, found earlier by logStart; instead of tailLines. */
  readonly start?: LogStart | undefined;
  /** Unix epoch ms; older lines are left out. */
  readonly sinceMs?: number | undefined;
  readonly limitBytes?: number | undefined;
  readonly timestamps: boolean;
  readonly follow: boolean;
  /** Aborted when the container has ended: then following goes on to the end of the file and stops. */
  readonly ended: AbortSignal;
  readonly signal: AbortSignal;
}

export interface LogChunk {
  readonly stream: LogStream;
  readonly data: Buffer;
}

/** Chunks of one stream are gathered up to this size. */
const CHUNK_BYTES = 32 * 1024;

/** Wakes the reader when something happens in the log's folder, when the container ends, and when the reader is cancelled. */
class Doorbell implements Disposable {
  #rung = false;
  #wake: (() => void) | undefined;
  readonly #watcher;
  readonly #signals: readonly AbortSignal[];
  readonly #ring = (): void => {
    this.#rung = true;
    this.#wake?.();
  };

  constructor(folder: string, signals: readonly AbortSignal[]) {
    this.#signals = signals;
    this.#watcher = watch(folder, { persistent: false }, this.#ring);
    this.#watcher.on("error", this.#ring);
    for (const signal of signals) signal.addEventListener("abort", this.#ring);
  }

  async wait(): Promise<void> {
    if (!this.#rung) await new Promise<void>((resolve) => { this.#wake = resolve; });
    this.#rung = false;
    this.#wake = undefined;
  }

  [Symbol.dispose](): void {
    this.#watcher.close();
    for (const signal of this.#signals) signal.removeEventListener("abort", this.#ring);
  }
}

export async function* readLog(path: string, options: ReadLogOptions): AsyncGenerator<LogChunk> {
  // Opened before the first look, so that no line falls between reading and watching.
  using doorbell = options.follow ? new Doorbell(dirname(path), [options.ended, options.signal]) : undefined;
  const start = options.start ?? await logStart(path, options.tailLines);
  let left = options.limitBytes ?? Infinity;
  const gathered: Buffer[] = [];
  let gatheredBytes = 0;
  let gatheredStream: LogStream = "stdout";
  const flush = function* (): Iterable<LogChunk> {
    if (gatheredBytes > 0) yield { stream: gatheredStream, data: gathered.length === 1 ? gathered[0]! : Buffer.concat(gathered) };
    gathered.length = 0;
    gatheredBytes = 0;
  };

  let file = await LogFile.open(start.path);
  let position = start.position;
  try {
    while (!file) {
      if (!doorbell || options.ended.aborted || options.signal.aborted) return;
      await doorbell.wait(); // nothing written yet
      file = await LogFile.open(partsOf(path)[0] ?? path);
    }
    let splitter = new LineSplitter();
    for (;;) {
      if (options.signal.aborted) return;
      // What comes next is looked up before reading on: once a newer part is there, this one grows no more, and one last read takes its end.
      const { inode } = await file.status();
      const rotated = partAfter(path, inode) !== undefined;
      const ended = options.ended.aborted;
      // Without following, what is written from now on is not read: it would make a tail too long, and a container that writes faster than
      // we read would never let us end.
      const isLast = !doorbell && inode === start.end?.inode;
      const end = isLast ? start.end.size : Infinity;
      for (let block = await readUpTo(file, position, end); block.length > 0; block = await readUpTo(file, position, end)) {
        position += block.length;
        for (const raw of splitter.push(block)) {
          const line = parseLine(raw);
          if (!line || (options.sinceMs !== undefined && timeOf(line) < options.sinceMs)) continue;
          const data = renderLine(line, options.timestamps).subarray(0, left);
          left -= data.length;
          if (line.stream !== gatheredStream || gatheredBytes + data.length > CHUNK_BYTES) yield* flush();
          gatheredStream = line.stream;
          gathered.push(data);
          gatheredBytes += data.length;
          if (left <= 0) {
            yield* flush();
            return;
          }
        }
        if (options.signal.aborted) return;
      }
      yield* flush();
      if (isLast) return;
      if (rotated) {
        const newer = await openAfter(path, inode);
        await file[Symbol.asyncDispose]();
        file = newer;
        position = 0;
        splitter = new LineSplitter();
      } else {
        if (!doorbell || ended) return;
        await doorbell.wait();
      }
    }
  } finally {
    await file?.[Symbol.asyncDispose]();
  }
}

/** The part after the one with this inode (or the oldest, when that one has been removed meanwhile); undefined when there is none. */
const partAfter = (path: string, inode: number): { readonly path: string; readonly inode: number } | undefined => {
  const parts = partsOf(path).map((p) => ({ path: p, inode: statSync(p, { throwIfNoEntry: false })?.ino ?? 0 }));
  return parts[parts.findIndex((p) => p.inode === inode) + 1];
};

/** By inode and not by name alone: rotation may rename the file between the look and the opening. */
const openAfter = async (path: string, inode: number): Promise<LogFile> => {
  for (;;) {
    const next = partAfter(path, inode);
    const file = next && (await LogFile.open(next.path));
    if (file && (await file.status()).inode === next.inode) return file;
    await file?.[Symbol.asyncDispose]();
  }
};

const readUpTo = async (file: LogFile, position: number, end: number): Promise<Buffer> => (position < end ? (await file.read(position)).subarray(0, end - position) : Buffer.alloc(0));

export interface LogStart {
  readonly path: string;
  readonly position: number;
  /** Of the newest part, as far as it was written when the start was looked for. */
  readonly end: { readonly inode: number; readonly size: number } | undefined;
}

/** Where the last lines of the log begin as it stands now; undefined: all of it, 0: what is yet to come. */
export const logStart = async (path: string, tailLines: number | undefined): Promise<LogStart> => {
  const parts = partsOf(path);
  let end: LogStart["end"];
  let wanted = tailLines ?? 0;
  for (const part of parts.toReversed()) {
    await using file = await LogFile.open(part);
    if (!file) continue;
    const status = await file.status();
    end ??= status;
    if (tailLines === undefined) break;
    if (wanted === 0) return { path: part, position: status.size, end };
    const { position, found } = await file.tail(wanted, status.size);
    if (found >= wanted || part === parts[0]) return { path: part, position, end };
    wanted -= found;
  }
  return { path: tailLines === undefined ? parts[0] ?? path : path, position: 0, end };
};
