// Work that somebody waits for, with an end to their patience.
import type { Clock } from "./clock.ts";
import { GantryError } from "./errors.ts";

/**
 * What `work` resolves to. Its signal is aborted with the caller's, and `limitMs` after the start: then the error is "Timeout" with the text `late`, whatever
 * the work itself fails with. The work has to heed the signal; nothing is left running behind the caller's back.
 */
export const within = async <T>(clock: Clock, limitMs: number, late: string, signal: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T> => {
  const over = new AbortController();
  using _timer = clock.setTimer(limitMs, () => over.abort(new GantryError("Timeout", late)));
  try {
    return await work(AbortSignal.any([signal, over.signal]));
  } catch (error) {
    throw over.signal.aborted ? over.signal.reason : error;
  }
};
