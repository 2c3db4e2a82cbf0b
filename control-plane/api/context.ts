// Owns what all handlers share: the store, the cache, and when the cache is fresh enough to answer from.
import type { Clock } from "../../base/clock.ts";
import { isCode } from "../../base/errors.ts";
import type { KubeObject } from "../../base/kube/resources.ts";
import type { Logger } from "../../base/logger.ts";
import type { ResourceCache, WatchCache } from "../state/cache.ts";
import type { ObjectKey, Store, Stored } from "../state/store.ts";
import type { RequestContext, ResourceDefinition } from "./resources/definition.ts";
import type { Exchange } from "./exchange.ts";
import { tooLargeResourceVersion } from "./status.ts";

/** How long a read waits for a resourceVersion that this process has not seen yet, as upstream's watch cache. */
const FRESH_TIMEOUT_MS = 3000;

/**
 * How a read without a resourceVersion gets its freshness.
 * - "process": from the cache, once it shows everything that this API server wrote. Whatever a client can know of, it knows
 *   through this server: from its own write's answer, or from a read or watch of this very cache. So with ONE control-plane process no client
 *   ever reads what is older than what it knows, and no read costs a round trip.
 * - "store": from the store, linearizable over all control-plane processes. Needed as soon as there are several.
 */
export type Consistency = "process" | "store";

export interface ApiContext {
  readonly store: Store;
  readonly cache: WatchCache;
  readonly clock: Clock;
  readonly random: () => number;
  readonly logger: Logger;
  readonly freshness: Freshness;
  /** See state/admission.ts. */
  readonly defaultTolerationSeconds: number;
}

export class Freshness {
  readonly consistency: Consistency;
  readonly #cache: WatchCache;
  #lastWritten = 0;

  constructor(cache: WatchCache, consistency: Consistency) {
    this.#cache = cache;
    this.consistency = consistency;
  }

  /** Every write of the API passes here, deletes too (their version is the delete's). */
  wrote<T extends KubeObject>(stored: Stored<T>): Stored<T> {
    this.#lastWritten = Math.max(this.#lastWritten, stored.resourceVersion);
    return stored;
  }

  /** Resolves once the cache shows all that this server wrote. */
  async ownWrites(): Promise<void> {
    if (this.#cache.resourceVersion < this.#lastWritten) await this.atLeast(this.#lastWritten);
  }

  /** Resolves once the cache shows `resourceVersion`; throws Timeout with the cause that clients retry on. */
  async atLeast(resourceVersion: number): Promise<void> {
    if (resourceVersion <= this.#cache.resourceVersion) return;
    try {
      await this.#cache.waitFor(resourceVersion, FRESH_TIMEOUT_MS);
    } catch (error) {
      throw isCode(error, "Timeout") ? tooLargeResourceVersion(resourceVersion, this.#cache.resourceVersion) : error;
    }
  }
}

/** One request for one resource: what a verb's handler gets. */
export interface ResourceRequest {
  readonly context: ApiContext;
  readonly definition: ResourceDefinition;
  readonly exchange: Exchange;
}

/** The key of the one object that the path names. (For namespaces themselves the path's namespace is the name.) */
export const keyOf = ({ definition: { type }, exchange: { info } }: ResourceRequest): ObjectKey => ({ type, namespace: type.namespaced ? info.namespace : "", name: info.name });

export const cacheOf = ({ context, definition }: ResourceRequest): ResourceCache => context.cache.resource(definition.type);

export const strategyContext = ({ context, exchange }: ResourceRequest): RequestContext => ({ nowMs: context.clock.nowMs(), userName: exchange.user.name });

/** The newest state of one object, as fresh as the consistency in force promises. */
export const readNewest = async <T extends KubeObject>({ store, cache, freshness }: ApiContext, key: ObjectKey<T>): Promise<Stored<T> | undefined> => {
  if (freshness.consistency === "store") return store.get(key);
  await freshness.ownWrites();
  return cache.resource(key.type).get(key.namespace, key.name);
};
