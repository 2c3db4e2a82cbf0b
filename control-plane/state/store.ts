// The contract of the state store: what every implementation (etcd-store, memory-store) promises, checked by one suite
// (store-contract.ts). It owns the objects' storage and their resourceVersions; nobody else assigns one.
import type { KubeObject, ResourceName, ResourceType } from "../../base/kube/resources.ts";
import type { Writer } from "./writers.ts";

export interface ObjectKey<T extends KubeObject = KubeObject> {
  readonly type: ResourceType<T>;
  /** "" for cluster-scoped resources. */
  readonly namespace: string;
  readonly name: string;
}

/**
 * One version of an object. Objects that leave the store are deeply frozen in tests and must be treated so everywhere: a
 * change is a new object (structural sharing is welcome).
 */
export interface Stored<T extends KubeObject = KubeObject> {
  /** With metadata.resourceVersion filled in. */
  readonly object: T;
  /** (etcd revision << 7) | slot: unique, and ordered like the writes. A safe integer below 2^53. */
  readonly resourceVersion: number;
  /** The object's JSON in UTF-8, serialized at most once and shared by all watchers. */
  bytes(): Buffer;
}

/** Proof of leadership: a leader's write carries it and is refused (code "Fenced") once another leads. */
export interface Fence {
  readonly electionKey: string;
  readonly createRevision: string;
}

export interface WriteOptions {
  /** Who writes: the store refuses ("Forbidden") what writers.ts does not allow them. */
  readonly writer: Writer;
  readonly fence?: Fence | undefined;
}

export interface Preconditions {
  readonly resourceVersion?: string | undefined;
  readonly uid?: string | undefined;
}

export interface ListOptions {
  readonly namespace?: string | undefined;
  readonly limit?: number | undefined;
  /** Name (and namespace) after which to go on: what `next` held. */
  readonly after?: { readonly namespace: string; readonly name: string } | undefined;
  /** Read as of this resourceVersion. "Expired" when compacted. */
  readonly at?: number | undefined;
}

export interface StoredList<T extends KubeObject = KubeObject> {
  readonly items: readonly Stored<T>[];
  /** The version that the whole list stands at: a watch from here misses nothing. */
  readonly resourceVersion: number;
  readonly next?: { readonly namespace: string; readonly name: string } | undefined;
  /** How many items come after this page. */
  readonly remaining: number;
}

export interface StoreSnapshot {
  readonly items: readonly { readonly resource: ResourceName; readonly namespace: string; readonly name: string; readonly stored: Stored }[];
  readonly resourceVersion: number;
}

export interface StoreEvent {
  readonly type: "put" | "delete";
  readonly resource: ResourceName;
  readonly namespace: string;
  readonly name: string;
  readonly resourceVersion: number;
  /** The new state; for a delete, undefined. */
  readonly stored: Stored | undefined;
}

export interface WatchHandler {
  /** Events in order. One call holds whole revisions only. */
  events(batch: readonly StoreEvent[]): void;
  /** Nothing up to and including this version is still to come. */
  progress(resourceVersion: number): void;
  /** The feed can't go on (code "Expired": compacted): list again, then watch from the list's version. */
  lost(error: Error): void;
}

export interface Store {
  /** A linearizable read. */
  get<T extends KubeObject>(key: ObjectKey<T>): Promise<Stored<T> | undefined>;
  /** In key order: namespace, then name. */
  list<T extends KubeObject>(type: ResourceType<T>, options?: ListOptions): Promise<StoredList<T>>;
  /** All resources at one version; for caches. */
  snapshot(): Promise<StoreSnapshot>;
  /** "AlreadyExists" when the key is taken. metadata.resourceVersion of the argument is ignored. */
  create<T extends KubeObject>(key: ObjectKey<T>, object: T, options: WriteOptions): Promise<Stored<T>>;
  /**
   * Reads, applies the pure `change`, writes; on a concurrent write, again. `change` returns the same reference (or undefined)
   * to write nothing. "NotFound" when absent; "Conflict" when a precondition does not hold. The first read may come from a
   * cache (see EtcdStoreOptions.peek): a stale one only costs a retry.
   */
  update<T extends KubeObject>(key: ObjectKey<T>, change: (current: T) => T | undefined, options: WriteOptions & Preconditions): Promise<Stored<T>>;
  /** Returns the last state, at the version of its deletion (as Kubernetes does). "NotFound" when absent. */
  delete<T extends KubeObject>(key: ObjectKey<T>, options: WriteOptions & Preconditions): Promise<Stored<T>>;
  /** Events after `after`, until disposed. The implementation reconnects and resumes by itself; see WatchHandler.lost. */
  watch(after: number, handler: WatchHandler): Disposable;
  /** Asks every watch for a `progress` call that covers everything written before now. Costs a write: only for one who waits. */
  requestProgress(): void;
  /** Resolves when a round trip works: /readyz. */
  ping(signal?: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

export const keyOf = <T extends KubeObject>(type: ResourceType<T>, object: KubeObject): ObjectKey<T> => ({
  type, namespace: type.namespaced ? (object.metadata.namespace ?? "") : "", name: object.metadata.name ?? "",
});
