// One resource's part of the watch cache: objects, indexes, and the ring of recent events. Only watch-cache.ts writes it.
import { controllerOf } from "../../base/kube/meta.ts";
import type { KubeObject, ResourceType } from "../../base/kube/resources.ts";
import type { Logger } from "../../base/logger.ts";
import type { CacheEvent, IndexName, ResourceCache } from "./cache.ts";
import type { Stored } from "./store.ts";

/** What the indexes hold: it stays the same while the object changes, so an update touches only the index values that changed. */
interface Entry {
  current: Stored;
}

type Index = Map<string, Set<Entry>>;

const NO_VALUES: readonly string[] = [];

const INDEX_VALUES: Readonly<Record<IndexName, (object: KubeObject) => readonly string[]>> = {
  node: (object) => [(object as { spec?: { nodeName?: string } }).spec?.nodeName ?? ""],
  owner: (object) => {
    const owner = controllerOf(object);
    return owner ? [owner.uid] : NO_VALUES;
  },
  ownerRef: (object) => object.metadata.ownerReferences?.map((reference) => reference.uid) ?? NO_VALUES,
  label: (object) => Object.entries(object.metadata.labels ?? {}).map(([key, value]) => `${key}=${value}`),
};

const namespaceOf = (object: KubeObject): string => object.metadata.namespace ?? "";

export class ResourceStateCache implements ResourceCache {
  readonly type: ResourceType;
  readonly #logger: Logger;
  readonly #namespaces = new Map<string, Map<string, Entry>>();
  readonly #uids = new Map<string, Entry>();
  /** Built when first asked for: an index that nobody reads costs nothing. */
  readonly #indexes = new Map<IndexName, Index>();
  readonly #handlers = new Set<(event: CacheEvent) => void>();
  /** Circular: #ringStart is the oldest. */
  readonly #ring: CacheEvent[] = [];
  readonly #ringSize: number;
  #ringStart = 0;
  /** Events after this version are all in the ring. */
  #ringReachesBackTo = 0;
  #size = 0;

  constructor(type: ResourceType, ringSize: number, logger: Logger) {
    this.type = type;
    this.#ringSize = ringSize;
    this.#logger = logger;
  }

  get size(): number {
    return this.#size;
  }

  get ringLength(): number {
    return this.#ring.length;
  }

  get(namespace: string, name: string): Stored | undefined {
    return this.#namespaces.get(namespace)?.get(name)?.current;
  }

  byUid(uid: string): Stored | undefined {
    return this.#uids.get(uid)?.current;
  }

  *list(namespace?: string): Iterable<Stored> {
    const namespaces = namespace === undefined ? this.#namespaces.values() : [this.#namespaces.get(namespace) ?? new Map<string, Entry>()];
    for (const entries of namespaces) for (const entry of entries.values()) yield entry.current;
  }

  *byIndex(index: IndexName, value: string): Iterable<Stored> {
    for (const entry of this.#index(index).get(value) ?? []) yield entry.current;
  }

  subscribe(handler: (event: CacheEvent) => void): Disposable {
    // A wrapper, so that the same function may subscribe twice and each disposes of its own.
    const own = (event: CacheEvent): void => handler(event);
    this.#handlers.add(own);
    return { [Symbol.dispose]: () => void this.#handlers.delete(own) };
  }

  eventsAfter(resourceVersion: number): readonly CacheEvent[] | "expired" {
    if (resourceVersion < this.#ringReachesBackTo) return "expired";
    const { length } = this.#ring;
    let low = 0;
    let high = length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#ringAt(middle).resourceVersion <= resourceVersion) low = middle + 1;
      else high = middle;
    }
    return Array.from({ length: length - low }, (_, i) => this.#ringAt(low + i));
  }

  /** Applies one change and tells the subscribers. A delete of what is not there is none. */
  apply(namespace: string, name: string, stored: Stored | undefined, resourceVersion: number, keepInRing: boolean): void {
    const entry = this.#namespaces.get(namespace)?.get(name);
    const previous = entry?.current;
    // Deleted and created again in between, seen only after a gap: two events, or the new object would look like the old one.
    if (stored && previous && stored.object.metadata.uid !== previous.object.metadata.uid) {
      this.apply(namespace, name, undefined, resourceVersion, keepInRing);
      this.apply(namespace, name, stored, resourceVersion, keepInRing);
      return;
    }
    if (stored) {
      if (entry) this.#replace(entry, stored);
      else this.#insert(namespace, name, stored);
    } else if (entry) this.#remove(namespace, name, entry);
    const state = stored ?? previous;
    if (!state) return;
    const event: CacheEvent = { type: stored ? (previous ? "modified" : "added") : "deleted", stored: state, previous, resourceVersion };
    if (keepInRing) this.#remember(event);
    this.#emit(event);
  }

  /** After a gap: older events are incomplete, whoever needs them must list. */
  restartRing(resourceVersion: number): void {
    this.#ring.length = 0;
    this.#ringStart = 0;
    this.#ringReachesBackTo = resourceVersion;
  }

  /** Names that are not in `present` (`NAMESPACE/NAME`): what was deleted during a gap. */
  absentFrom(present: ReadonlySet<string>): readonly { readonly namespace: string; readonly name: string }[] {
    return [...this.#namespaces].flatMap(([namespace, entries]) =>
      [...entries.keys()].filter((name) => !present.has(`${namespace}/${name}`)).map((name) => ({ namespace, name })));
  }

  #index(name: IndexName): Index {
    let index = this.#indexes.get(name);
    if (!index) {
      this.#indexes.set(name, (index = new Map()));
      for (const entries of this.#namespaces.values()) for (const entry of entries.values()) addTo(index, INDEX_VALUES[name](entry.current.object), entry);
    }
    return index;
  }

  #insert(namespace: string, name: string, stored: Stored): void {
    const entry: Entry = { current: stored };
    const entries = this.#namespaces.get(namespace);
    if (entries) entries.set(name, entry);
    else this.#namespaces.set(namespace, new Map([[name, entry]]));
    if (stored.object.metadata.uid !== undefined) this.#uids.set(stored.object.metadata.uid, entry);
    for (const [indexName, index] of this.#indexes) addTo(index, INDEX_VALUES[indexName](stored.object), entry);
    this.#size++;
  }

  #replace(entry: Entry, stored: Stored): void {
    for (const [indexName, index] of this.#indexes) {
      const before = INDEX_VALUES[indexName](entry.current.object);
      const after = INDEX_VALUES[indexName](stored.object);
      if (before.length === after.length && before.every((value, i) => value === after[i])) continue;
      removeFrom(index, before, entry);
      addTo(index, after, entry);
    }
    entry.current = stored;
  }

  #remove(namespace: string, name: string, entry: Entry): void {
    const entries = this.#namespaces.get(namespace)!;
    entries.delete(name);
    if (entries.size === 0) this.#namespaces.delete(namespace);
    const { object } = entry.current;
    if (object.metadata.uid !== undefined) this.#uids.delete(object.metadata.uid);
    for (const [indexName, index] of this.#indexes) removeFrom(index, INDEX_VALUES[indexName](object), entry);
    this.#size--;
  }

  #ringAt(position: number): CacheEvent {
    return this.#ring[(this.#ringStart + position) % this.#ring.length]!;
  }

  #remember(event: CacheEvent): void {
    if (this.#ring.length < this.#ringSize) {
      this.#ring.push(event);
      return;
    }
    this.#ringReachesBackTo = this.#ring[this.#ringStart]!.resourceVersion;
    this.#ring[this.#ringStart] = event;
    this.#ringStart = (this.#ringStart + 1) % this.#ringSize;
  }

  #emit(event: CacheEvent): void {
    for (const handler of this.#handlers) {
      try {
        handler(event);
      } catch (error) {
        this.#logger.error("a subscriber of the watch cache threw", { resource: this.type.name, object: `${namespaceOf(event.stored.object)}/${event.stored.object.metadata.name}`, err: error });
      }
    }
  }
}

const addTo = (index: Index, values: readonly string[], entry: Entry): void => {
  for (const value of values) {
    const entries = index.get(value);
    if (entries) entries.add(entry);
    else index.set(value, new Set([entry]));
  }
};

const removeFrom = (index: Index, values: readonly string[], entry: Entry): void => {
  for (const value of values) {
    const entries = index.get(value);
    if (entries?.delete(entry) && entries.size === 0) index.delete(value);
  }
};
