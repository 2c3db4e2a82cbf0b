// Compaction of etcd's history: the leader's job. Keeps at least the last `keepMs`, so that lists and watches of that age can go on.
// It does not defragment: that blocks etcd, and freed pages are used again.
import type { Clock } from "../../base/clock.ts";
import type { Logger } from "../../base/logger.ts";

export interface Compactable {
  mark(): Promise<number>;
  compact(revision: number): Promise<void>;
  removeMarkersBefore(revision: number): Promise<number>;
}

export interface CompactionOptions {
  readonly store: Compactable;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly signal: AbortSignal;
  /** Default 5 min. */
  readonly keepMs?: number | undefined;
}

/** Group-commit markers of processes that have written nothing for this many rounds are removed. */
const MARKER_ROUNDS = 12;

/** Runs until the signal is aborted; a round that fails is logged and made up for by the next. */
export const runCompaction = async ({ store, clock, logger, signal, keepMs = 300_000 }: CompactionOptions): Promise<void> => {
  const log = logger.child({ component: "compaction" });
  // The mark is a write that every watch sees in order, so those alive stand at it, even when nothing else was written since.
  const marks: number[] = [];
  while (!signal.aborted) {
    try {
      const previous = marks.at(-1);
      marks.push(await store.mark());
      if (previous !== undefined) {
        await store.compact(previous);
        log.debug("compacted", { revision: previous });
      }
      if (marks.length > MARKER_ROUNDS) await store.removeMarkersBefore(marks.shift()!);
    } catch (error) {
      log.warn("compaction failed; the next round makes up for it", { err: error });
    }
    await clock.sleep(keepMs, signal).catch(() => undefined);
  }
};
