// A store, its cache and a clock that stands still, for unit tests of everything that meets in the state.
import { FakeClock } from "../../base/clock.ts";
import { GantryError } from "../../base/errors.ts";
import { silentLogger } from "../../base/logger.ts";
import type { WatchCache } from "./cache.ts";
import { MemoryStore } from "./memory-store.ts";
import type { MemoryStoreOptions } from "./memory-store.ts";
import type { NodeStreams } from "./node-streams.ts";
import { createWatchCache } from "./watch-cache.ts";

export interface TestState {
  readonly store: MemoryStore;
  /** Started and in sync. It shows a write a few microtasks after the write's promise, and at the latest after `settle()` (base/clock.ts). */
  readonly cache: WatchCache;
  readonly clock: FakeClock;
}

/** Objects that come out of either are deeply frozen. Nothing needs closing. */
/** No node is connected. */
export const NO_NODES: NodeStreams = {
  open: (nodeName) => Promise.reject(new GantryError("ServiceUnavailable", `node ${nodeName} is not connected`)), connectedNodes: () => [],
};

export const createTestState = async (options: MemoryStoreOptions & { readonly clock?: FakeClock; readonly ringSize?: number } = {}): Promise<TestState> => {
  const clock = options.clock ?? new FakeClock();
  const store = new MemoryStore(options);
  const cache = createWatchCache({ store, clock, logger: silentLogger, ringSize: options.ringSize });
  await cache.start();
  return { store, cache, clock };
};
