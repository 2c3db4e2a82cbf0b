// CPU time per second out of counters that are read now and then: remembers the last readings of each counter, forgets those that nobody
// asks for any more. Pure but for its memory.

interface Reading {
  readonly totalNs: number;
  readonly atMs: number;
}

interface Kept {
  readonly older: Reading | undefined;
  readonly newer: Reading;
}

export interface Rate {
  readonly nanoCores: number;
  /** 0: there is nothing to compare with yet. */
  readonly windowMs: number;
}

/** Between two readings that are compared: shorter ones say more of the scheduler's ticks than of the load. */
export const LEAST_WINDOW_MS = 900;
/** An average over a longer time says nothing of now. */
const LONGEST_WINDOW_MS = 60_000;
/** Readings are kept this far apart, so that several askers don't shorten each other's window. */
const KEEP_EVERY_MS = 5000;

const UNKNOWN: Rate = { nanoCores: 0, windowMs: 0 };

export class CpuRates {
  readonly #kept = new Map<string, Kept>();
  readonly #keepEveryMs: number;

  constructor(keepEveryMs = KEEP_EVERY_MS) {
    this.#keepEveryMs = keepEveryMs;
  }

  /** The rate at this reading. `startedAtMs`: when the counter was 0; a young one can be judged by that alone. */
  of(key: string, reading: Reading, startedAtMs = -Infinity): Rate {
    const kept = this.#kept.get(key);
    // A counter that went back belongs to something new.
    const usable = (r: Reading | undefined): r is Reading =>
      r !== undefined && r.totalNs <= reading.totalNs && reading.atMs - r.atMs >= LEAST_WINDOW_MS && reading.atMs - r.atMs <= LONGEST_WINDOW_MS;
    const base = [kept?.newer, kept?.older, { totalNs: 0, atMs: startedAtMs }].find(usable);
    if (!kept || kept.newer.totalNs > reading.totalNs || reading.atMs - kept.newer.atMs > LONGEST_WINDOW_MS) this.#kept.set(key, { older: undefined, newer: reading });
    else if (reading.atMs - kept.newer.atMs >= this.#keepEveryMs) this.#kept.set(key, { older: kept.newer, newer: reading });
    if (!base) return UNKNOWN;
    const windowMs = reading.atMs - base.atMs;
    return { nanoCores: Math.round(((reading.totalNs - base.totalNs) / windowMs) * 1000), windowMs };
  }

  /** What was not read for long. */
  forgetBefore(atMs: number): void {
    for (const [key, { newer }] of this.#kept) if (newer.atMs < atMs - LONGEST_WINDOW_MS) this.#kept.delete(key);
  }
}
