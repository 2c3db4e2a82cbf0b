// Starts what waits for an instant, all at once: created containers of every pod on this node, in one turn of the event loop, on this node's own
// clock and without asking anybody. The books (records, statuses, probes) come a moment later: at the instant processors are the containers'.
import type { Clock } from "../../base/clock.ts";
import type { Logger } from "../../base/logger.ts";
import type { Metrics } from "../../base/metrics.ts";
import { coarseNowMs } from "../linux/coarse-clock.ts";
import { urgently } from "../linux/scheduling.ts";

/** A pod's worker, as far as it starts on time. */
export interface Staged {
  /** Starts what waits for nothing but its instant. How many containers that were. Synchronous; never throws. */
  startDue(): number;
  /** What comes after a start; and whatever could not be started in that way. */
  settle(): void;
}

/** Some hundredths of a second: who is not told the instant by then is let go all the same. */
const MOST_LOOKS = 100_000;
/** Long enough for a hundred shells to say something on two slow processors. */
export const BOOKS_AFTER_MS = 300;

export class Bursts implements Disposable {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #waiting = new Map<Staged, number>();
  readonly #late;
  readonly #coarseNowMs: () => number;
  #alarm: { readonly atMs: number; readonly timer: Disposable } | undefined;
  #books: Disposable | undefined;

  constructor({ clock, coarseNowMs: coarse = coarseNowMs, logger, metrics }: { readonly clock: Clock; readonly coarseNowMs?: () => number; readonly logger: Logger; readonly metrics: Metrics }) {
    this.#clock = clock;
    this.#coarseNowMs = coarse;
    this.#logger = logger;
    this.#late = metrics.histogram("gantry_staged_start_lateness_seconds", "Time from the instant of a staged start to when the last container of this node had been told to run", [], [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5]);
  }

  /** The pod is ready for its instant. Again for the same pod: the newest instant counts. */
  expect(pod: Staged, atMs: number): void {
    this.#waiting.set(pod, atMs);
    if (this.#alarm && this.#alarm.atMs <= atMs) return;
    this.#alarm?.timer[Symbol.dispose]();
    this.#alarm = { atMs, timer: this.#clock.setAlarm(atMs, () => this.#fire()) };
  }

  forget(pod: Staged): void {
    this.#waiting.delete(pod);
  }

  [Symbol.dispose](): void {
    this.#alarm?.timer[Symbol.dispose]();
    this.#books?.[Symbol.dispose]();
    this.#waiting.clear();
  }

  #fire(): void {
    const atMs = this.#alarm!.atMs;
    this.#alarm = undefined;
    const nowMs = this.#clock.nowMs();
    const due = [...this.#waiting].filter(([, at]) => at <= nowMs).map(([pod]) => pod);
    let containers = 0;
    // Otherwise each process that is let go takes the processor from those who still wait for us.
    urgently(() => {
      // A program that asks for the date at once, and is told the day before, makes yesterday's backup.
      for (let looks = 0; looks < MOST_LOOKS && this.#coarseNowMs() < atMs; looks++);
      for (const pod of due) containers += pod.startDue();
    });
    const lateMs = this.#clock.nowMs() - atMs;
    for (const pod of due) this.#waiting.delete(pod);
    const nextMs = Math.min(...this.#waiting.values());
    if (Number.isFinite(nextMs)) this.#alarm = { atMs: nextMs, timer: this.#clock.setAlarm(nextMs, () => this.#fire()) };
    if (due.length === 0) return; // they were withdrawn
    this.#books = this.#clock.setTimer(BOOKS_AFTER_MS, () => {
      this.#late.observe(Math.max(0, lateMs) / 1000);
      this.#logger.info("staged pods started", { at: new Date(atMs).toISOString(), pods: due.length, containers, lateMs });
      for (const pod of due) pod.settle();
    });
  }
}
