// What this process wrote and its own feed has not brought back yet. Two uses: an update right after a write starts from that write instead
// of from a cache that can't show it yet (which would cost a conflict and a second round trip); and the feed hands on the same parsed object
// instead of parsing the value again. Only guesses come from here: the compare in etcd decides. Owned by the EtcdStore.
import type { Stored } from "./store.ts";

/** Enough for what one batch after another has in flight; more would only be memory. */
const MAX_ENTRIES = 1024;

export class OwnWrites {
  readonly #byPath = new Map<string, Stored>();

  wrote(path: string, stored: Stored): void {
    const known = this.#byPath.get(path);
    if (known && known.resourceVersion > stored.resourceVersion) return;
    if (this.#byPath.size >= MAX_ENTRIES) this.#byPath.delete(this.#byPath.keys().next().value!);
    this.#byPath.set(path, stored);
  }

  /** The feed brings a version (of a delete, when the object is gone): that of our own write if it is the same. */
  seen(path: string, resourceVersion: number): Stored | undefined {
    const own = this.#byPath.get(path);
    if (!own || own.resourceVersion > resourceVersion) return undefined;
    this.#byPath.delete(path);
    return own.resourceVersion === resourceVersion ? own : undefined;
  }

  /** The newer of the two. */
  newest(path: string, cached: Stored | undefined): Stored | undefined {
    const own = this.#byPath.get(path);
    return own && (!cached || own.resourceVersion > cached.resourceVersion) ? own : cached;
  }

  deleted(path: string): void {
    this.#byPath.delete(path);
  }
}
