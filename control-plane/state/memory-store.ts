// The store's contract in memory: what unit tests run on. It owns its objects, keeps every version until `compact`, and deeply
// freezes what it hands out, so that a component that changes a shared object fails in its own test.
import type { KubeObject, ResourceType } from "../../base/kube/resources.ts";
import { MAX_REQUEST_BYTES, endOf, parsePath, pathOf, revisionOf, versionOf } from "./encoding.ts";
import { MemoryElections } from "./memory-elections.ts";
import { planCreate, planDelete, planUpdate } from "./mutation.ts";
import type {
  Fence, ListOptions, ObjectKey, Preconditions, Store, Stored, StoredList, StoreEvent, StoreSnapshot, WatchHandler, WriteOptions,
} from "./store.ts";
import { alreadyExists, atVersion, expired, fenced, future, notFound, storedFromBody, tooLarge } from "./stored.ts";

export type StoreOperation = "get" | "list" | "create" | "update" | "delete" | "ping";

export interface MemoryStoreOptions {
  /** Called before each operation; throws to make it fail, waits to delay it. For tests of what a component does when its store fails. */
  readonly intercept?: (operation: StoreOperation, target: ObjectKey | ResourceType | undefined) => void | Promise<void>;
}

interface Feed {
  next: number;
  readonly handler: WatchHandler;
  scheduled: boolean;
}

const deepFreeze = (value: unknown): void => {
  if (typeof value !== "object" || value === null || Object.isFrozen(value)) return;
  Object.freeze(value);
  for (const part of Object.values(value)) deepFreeze(part);
};

export class MemoryStore implements Store {
  readonly #options: MemoryStoreOptions;
  #revision = 1;
  #compacted = 0;
  /** Every version of every path, oldest first; undefined is a delete. */
  readonly #versions = new Map<string, { readonly revision: number; readonly stored: Stored | undefined }[]>();
  /** All events after #compacted, oldest first; each has a revision of its own. */
  #log: StoreEvent[] = [];
  readonly #feeds = new Set<Feed>();
  readonly #leaders = new Map<string, string>();
  readonly elections = new MemoryElections(this);

  constructor(options: MemoryStoreOptions = {}) {
    this.#options = options;
  }

  async get<T extends KubeObject>(key: ObjectKey<T>): Promise<Stored<T> | undefined> {
    await this.#options.intercept?.("get", key);
    return this.#current(key);
  }

  async list<T extends KubeObject>(type: ResourceType<T>, options: ListOptions = {}): Promise<StoredList<T>> {
    await this.#options.intercept?.("list", type);
    const revision = options.at === undefined ? this.#revision : revisionOf(options.at);
    if (revision < this.#compacted) throw expired("list");
    if (revision > this.#revision) throw future(options.at!);
    const prefix = options.namespace === undefined ? `${type.name}/` : pathOf({ type, namespace: options.namespace, name: "" });
    const after = options.after && pathOf({ type, ...options.after });
    const paths = [...this.#versions.keys()].filter((path) => path.startsWith(prefix) && (after === undefined || path > after)).sort();
    const all = paths.map((path) => this.#at(path, revision)).filter((stored) => stored !== undefined) as Stored<T>[];
    const items = all.slice(0, options.limit ?? all.length);
    const last = items.length < all.length ? items.at(-1)?.object.metadata : undefined;
    return {
      items, resourceVersion: options.at ?? endOf(revision), remaining: all.length - items.length,
      next: last && { namespace: type.namespaced ? (last.namespace ?? "") : "", name: last.name! },
    };
  }

  async snapshot(): Promise<StoreSnapshot> {
    const items = [...this.#versions.keys()].sort().flatMap((path) => {
      const stored = this.#at(path, this.#revision);
      return stored ? [{ ...parsePath(path)!, stored }] : [];
    });
    return { items, resourceVersion: endOf(this.#revision) };
  }

  async create<T extends KubeObject>(key: ObjectKey<T>, object: T, options: WriteOptions): Promise<Stored<T>> {
    const body = planCreate(key, object, options);
    await this.#options.intercept?.("create", key);
    this.#checkFence(key, options.fence);
    if (this.#current(key)) throw alreadyExists(key);
    return this.#put(key, body);
  }

  async update<T extends KubeObject>(key: ObjectKey<T>, change: (current: T) => T | undefined, options: WriteOptions & Preconditions): Promise<Stored<T>> {
    await this.#options.intercept?.("update", key);
    const current = this.#current(key);
    if (!current) throw notFound(key);
    const body = planUpdate(key, current, change, options);
    if (body === undefined) return current;
    this.#checkFence(key, options.fence);
    return this.#put(key, body);
  }

  async delete<T extends KubeObject>(key: ObjectKey<T>, options: WriteOptions & Preconditions): Promise<Stored<T>> {
    await this.#options.intercept?.("delete", key);
    const current = this.#current(key);
    if (!current) throw notFound(key);
    planDelete(key, current, options);
    this.#checkFence(key, options.fence);
    const last = atVersion(current, versionOf(this.#revision + 1, 0));
    deepFreeze(last.object);
    this.#commit(key, undefined);
    return last;
  }

  watch(after: number, handler: WatchHandler): Disposable {
    const feed: Feed = { next: after, handler, scheduled: false };
    this.#feeds.add(feed);
    this.#schedule(feed);
    return { [Symbol.dispose]: () => void this.#feeds.delete(feed) };
  }

  async ping(): Promise<void> {
    await this.#options.intercept?.("ping", undefined);
  }

  requestProgress(): void {
    for (const feed of this.#feeds) queueMicrotask(() => this.#feeds.has(feed) && feed.handler.progress(endOf(this.#revision)));
  }

  async close(): Promise<void> {
    this.#feeds.clear();
  }

  /** Forgets what was before the current revision: older lists and watches get "Expired". */
  compact(): void {
    this.#compacted = this.#revision;
    this.#log = [];
    for (const [path, versions] of this.#versions) {
      const last = versions.at(-1)!;
      if (last.stored) this.#versions.set(path, [last]);
      else this.#versions.delete(path);
    }
  }

  /** Makes every watch miss what `meanwhile` writes and then end, as after a compaction that it slept through. */
  async breakWatches(meanwhile: () => Promise<unknown> = async () => undefined): Promise<void> {
    const feeds = [...this.#feeds];
    this.#feeds.clear();
    await meanwhile();
    for (const feed of feeds) feed.handler.lost(expired("watch"));
  }

  /** A new leader: fences of earlier ones are refused from here on. */
  elect(electionKey: string): Fence {
    const createRevision = String(++this.#revision);
    this.#leaders.set(electionKey, createRevision);
    return { electionKey, createRevision };
  }

  #current<T extends KubeObject>(key: ObjectKey<T>): Stored<T> | undefined {
    return this.#versions.get(pathOf(key))?.at(-1)?.stored as Stored<T> | undefined;
  }

  #at(path: string, revision: number): Stored | undefined {
    return this.#versions.get(path)?.findLast((version) => version.revision <= revision)?.stored;
  }

  #checkFence(key: ObjectKey, fence: Fence | undefined): void {
    if (fence && this.#leaders.get(fence.electionKey) !== fence.createRevision) throw fenced(key);
  }

  #put<T extends KubeObject>(key: ObjectKey<T>, body: string): Stored<T> {
    if (Buffer.byteLength(body) > MAX_REQUEST_BYTES) throw tooLarge(Buffer.byteLength(body), MAX_REQUEST_BYTES);
    const stored = storedFromBody<T>(body, versionOf(this.#revision + 1, 0));
    deepFreeze(stored.object);
    this.#commit(key, stored);
    return stored;
  }

  #commit(key: ObjectKey, stored: Stored | undefined): void {
    const revision = ++this.#revision;
    const path = pathOf(key);
    const versions = this.#versions.get(path);
    if (versions) versions.push({ revision, stored });
    else this.#versions.set(path, [{ revision, stored }]);
    this.#log.push({ type: stored ? "put" : "delete", ...parsePath(path)!, resourceVersion: versionOf(revision, 0), stored });
    for (const feed of this.#feeds) this.#schedule(feed);
  }

  /** Watchers hear of a write a little later, as they do from etcd, but before any timer runs. */
  #schedule(feed: Feed): void {
    if (feed.scheduled) return;
    feed.scheduled = true;
    queueMicrotask(() => {
      feed.scheduled = false;
      if (!this.#feeds.has(feed)) return;
      if (revisionOf(feed.next) < this.#compacted) {
        this.#feeds.delete(feed);
        feed.handler.lost(expired("watch"));
        return;
      }
      const from = this.#log.findLastIndex((event) => event.resourceVersion <= feed.next) + 1;
      const batch = this.#log.slice(from);
      if (batch.length === 0) return;
      feed.next = endOf(revisionOf(batch.at(-1)!.resourceVersion));
      feed.handler.events(batch);
    });
  }
}
