// One run of a task however many ask for it, and a bound on how many run at once.
import { GantryError } from "../../base/errors.ts";

interface Running<T> {
  readonly result: Promise<T>;
  readonly abort: AbortController;
  waiting: number;
  settled: boolean;
}

/** Callers that ask for the same key while it runs share the run. It is aborted only when the last of them has given up. */
export class SharedTasks<T> {
  readonly #running = new Map<string, Running<T>>();

  async run(key: string, signal: AbortSignal, task: (signal: AbortSignal) => Promise<T>): Promise<T> {
    throwIfAborted(signal);
    let running = this.#running.get(key);
    // One that is being aborted must not infect a caller who came after that.
    if (running === undefined || running.abort.signal.aborted) {
      const abort = new AbortController();
      const started: Running<T> = { abort, waiting: 0, settled: false, result: task(abort.signal).finally(() => {
        started.settled = true;
        if (this.#running.get(key) === started) this.#running.delete(key);
      }) };
      started.result.catch(() => undefined);
      this.#running.set(key, started);
      running = started;
    }
    const mine = running;
    mine.waiting++;
    return new Promise<T>((resolve, reject) => {
      const leave = (): void => {
        signal.removeEventListener("abort", onAbort);
        if (--mine.waiting === 0 && !mine.settled) mine.abort.abort(signal.reason);
      };
      const onAbort = (): void => {
        leave();
        reject(cancelled(signal));
      };
      signal.addEventListener("abort", onAbort, { once: true });
      mine.result.then(resolve, reject).finally(() => {
        if (!signal.aborted) leave();
      }).catch(reject);
    });
  }
}

const cancelled = (signal: AbortSignal): GantryError => new GantryError("Cancelled", "was cancelled", { cause: signal.reason });

/** Errors: "Cancelled". */
export const throwIfAborted = (signal: AbortSignal): void => {
  if (signal.aborted) throw cancelled(signal);
};

/** Runs at most `limit` tasks at once; the others wait in order. */
export class Slots {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(limit: number) {
    this.#free = limit;
  }

  async run<T>(task: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await task();
    } finally {
      // The place goes straight to the next in line, so that nobody can slip in between.
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free++;
    }
  }
}
