// Progress for people: one line that rewrites itself on a terminal, plain lines (at most one a second, and only when they say
// something new) elsewhere. Writes to stderr, so that stdout stays what a script asked for.

export class Progress {
  readonly #out: NodeJS.WriteStream;
  readonly #live: boolean;
  readonly #nowMs: () => number;
  readonly #startedMs: number;
  #shown = "";
  #lastPlainMs = -Infinity;

  constructor(out: NodeJS.WriteStream = process.stderr, nowMs: () => number = () => performance.now(), terminal = process.env["TERM"]) {
    this.#out = out;
    this.#nowMs = nowMs;
    this.#startedMs = nowMs();
    this.#live = out.isTTY && terminal !== "dumb";
  }

  get elapsedMs(): number {
    return this.#nowMs() - this.#startedMs;
  }

  /** What is going on now; replaced by the next call. */
  update(line: string): void {
    if (line === this.#shown) return;
    if (this.#live) {
      this.#out.write(`\r\u001B[2K${line.slice(0, (this.#out.columns || 80) - 1)}`);
      this.#shown = line;
    } else if (this.#nowMs() - this.#lastPlainMs >= 1000) {
      this.#lastPlainMs = this.#nowMs();
      this.#shown = line;
      this.#out.write(`${line}\n`);
    }
  }

  /** A line that stays. */
  done(line: string): void {
    this.#out.write(this.#live ? `\r\u001B[2K${line}\n` : `${line}\n`);
    this.#shown = "";
  }

  /** Takes an unfinished live line away, before an error is printed. */
  clear(): void {
    if (this.#live && this.#shown !== "") this.#out.write("\r\u001B[2K");
    this.#shown = "";
  }
}

/** What takes a moment is not worth a line. */
export const SHOW_AFTER_MS = 700;

/** Shows `line`, with the time that it takes, while `work` goes on. */
export const withProgress = async <T>(line: string, work: Promise<T>, progress = new Progress()): Promise<T> => {
  const timer = setInterval(() => progress.update(`${line}, ${seconds(progress.elapsedMs)}`), SHOW_AFTER_MS);
  try {
    return await work;
  } finally {
    clearInterval(timer);
    progress.clear();
  }
};

export const seconds = (ms: number): string => `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
