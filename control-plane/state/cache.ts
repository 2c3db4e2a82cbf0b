// The contract of the watch cache: one copy of the registry in memory, fed by one store watch, shared by the API's lists and
// watches, the controllers, the scheduler and the dispatcher. Indexes live here and nowhere else. Implemented by watch-cache.ts.
import type { KubeObject, ResourceType } from "../../base/kube/resources.ts";
import type { Stored } from "./store.ts";

export interface CacheEvent<T extends KubeObject = KubeObject> {
  readonly type: "added" | "modified" | "deleted";
  /** The new state; for "deleted" the last one. */
  readonly stored: Stored<T>;
  /** The state before; undefined for "added". */
  readonly previous: Stored<T> | undefined;
  /** Of this change: for "deleted" newer than stored.resourceVersion. */
  readonly resourceVersion: number;
}

/** Names of the secondary indexes: "node" (pods by spec.nodeName, "" when unbound), "owner" (by controller owner's uid), "ownerRef" (by every owner's uid), "label" (by "key=value"). */
export type IndexName = "node" | "owner" | "ownerRef" | "label";

export interface ResourceCache<T extends KubeObject = KubeObject> {
  readonly size: number;
  get(namespace: string, name: string): Stored<T> | undefined;
  byUid(uid: string): Stored<T> | undefined;
  /** All, or one namespace's, in no particular order. */
  list(namespace?: string): Iterable<Stored<T>>;
  byIndex(index: IndexName, value: string): Iterable<Stored<T>>;
  /** Called synchronously, in order, after the cache and its indexes show the event. A throwing handler is logged, not fatal. */
  subscribe(handler: (event: CacheEvent<T>) => void): Disposable;
  /** Recent events after a version, oldest first, or "expired" when the ring no longer reaches back that far. */
  eventsAfter(resourceVersion: number): readonly CacheEvent<T>[] | "expired";
}

export interface WatchCache {
  /** Lists, starts watching, and resolves when in sync. */
  start(): Promise<void>;
  /** In sync with the store at least up to this version. */
  readonly resourceVersion: number;
  resource<T extends KubeObject>(type: ResourceType<T>): ResourceCache<T>;
  /** Resolves once the cache shows this version (at once when it does). "Timeout" after `timeoutMs` (default 10 s). */
  waitFor(resourceVersion: number, timeoutMs?: number): Promise<void>;
  /** Called when resourceVersion moves on without an event for one resource: for watch bookmarks. */
  onProgress(handler: (resourceVersion: number) => void): Disposable;
  /** Called after a gap (compaction): everything may have changed; diffs were already sent to subscribers as events. */
  onResync(handler: () => void): Disposable;
  close(): void;
}
