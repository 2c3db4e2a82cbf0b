// What goes by age or number rather than by owner: finished pods beyond a threshold, and old events. Pure.
import type { Event, Pod } from "../../../base/kube/types.gen.ts";
import { isTerminal, timeMs } from "../objects.ts";

/** Finished pods beyond the newest `threshold` (0: however many there are), the evicted ones first, then the oldest: as upstream's podgc. */
export const surplusPods = (pods: Iterable<Pod>, threshold: number): Pod[] => {
  const finished = Array.from(pods).filter((pod) => isTerminal(pod) && pod.metadata.deletionTimestamp === undefined);
  if (threshold === 0 || finished.length <= threshold) return [];
  const evictedFirst = (pod: Pod): number => (pod.status?.reason === "Evicted" ? 0 : 1);
  return finished.sort((a, b) => evictedFirst(a) - evictedFirst(b) || timeMs(a.metadata.creationTimestamp) - timeMs(b.metadata.creationTimestamp)).slice(0, finished.length - threshold);
};

const lastSeenMs = (event: Event): number =>
  timeMs(event.series?.lastObservedTime) || timeMs(event.lastTimestamp) || timeMs(event.eventTime) || timeMs(event.metadata.creationTimestamp);

export const oldEvents = (events: Iterable<Event>, nowMs: number, ttlMs: number): Event[] =>
  Array.from(events).filter((event) => lastSeenMs(event) + ttlMs <= nowMs);
