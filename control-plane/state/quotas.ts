// Charges new objects to their namespace's ResourceQuotas before they are made. A charge is a compare-and-put of the quota, so that of two
// objects that want the last of something only one gets it, whichever control plane they come through; many at once are one write. It counts from
// what is there each time, so a refusal is never due to a count that is old. The resource-quota controller writes down what is no longer used.
import type { Clock } from "../../base/clock.ts";
import { GantryError, isCode } from "../../base/errors.ts";
import { MAX_PENDING, PENDING_MS, countedBy, growthOf, isCountedBy, pendingKey, pendingOf, plus, quotaAmounts, recount, take, unspecified, usageOf, withCount } from "../../base/kube/quota.ts";
import type { Count } from "../../base/kube/quota.ts";
import type { Amounts } from "../../base/kube/pod-requests.ts";
import { ALL_RESOURCES, PODS, RESOURCE_QUOTAS } from "../../base/kube/resources.ts";
import type { KubeObject, ResourceType } from "../../base/kube/resources.ts";
import type { ResourceQuota } from "../../base/kube/types.gen.ts";
import type { WatchCache } from "./cache.ts";
import { keyOf } from "./store.ts";
import type { ObjectKey, Store } from "./store.ts";

const NAMESPACED = ALL_RESOURCES.filter((type) => type.namespaced);
/** Each round that fails, another process got through. */
const MAX_ROUNDS = 50;
/** Until some of what stands in the list of pending charges is seen to be there. */
const FULL_MS = 20;

/** Undoes a charge whose object was not made after all. Never throws: what can't be given back now is counted out later. */
export type Refund = () => Promise<void>;

export interface ChargeOptions {
  /** The object as it was, where it is changed and not new. */
  readonly before?: KubeObject | undefined;
  readonly dryRun?: boolean;
}

interface Request {
  readonly key: string;
  readonly usage: Amounts;
  /** What is new of it: all, of a new object. */
  readonly delta: Amounts;
  /** Of an object that is there already. */
  readonly isChange: boolean;
}

interface Waiting extends Request {
  /** What the quota has against it; undefined grants it. */
  readonly answer: (fault: string | undefined) => void;
  readonly fail: (error: unknown) => void;
}

export class Quotas {
  readonly #store: Store;
  readonly #cache: WatchCache;
  readonly #clock: Clock;
  /** By quota, who asks while one is being written; an entry is there while somebody works on it. */
  readonly #queues = new Map<string, Waiting[]>();
  /** Key of an object -> when it was seen to go, in that order. */
  readonly #gone = new Map<string, number>();

  constructor(store: Store, cache: WatchCache, clock: Clock) {
    this.#store = store;
    this.#cache = cache;
    this.#clock = clock;
    for (const type of NAMESPACED) {
      cache.resource(type).subscribe(({ type: what, stored: { object } }) => {
        if (what === "deleted" && hasQuota(cache, object.metadata.namespace!)) this.#went(pendingKey(type, object));
      });
    }
  }

  /** How much of the quota is used, as the cache shows it. */
  count(quota: ResourceQuota): Count {
    const hard = Object.keys(quota.spec?.hard ?? {});
    const types = NAMESPACED.filter((type) => hard.some((name) => isCountedBy(type, name)));
    const cache = this.#cache;
    const objects = function* (): Iterable<{ type: ResourceType; object: KubeObject }> {
      for (const type of types) for (const { object } of cache.resource(type).list(quota.metadata.namespace)) yield { type, object };
    };
    return recount({ quota, objects: objects(), isGone: (key) => this.#gone.has(key), nowMs: this.#clock.nowMs() });
  }

  /** Throws Forbidden, charging nothing, when a quota has no room or the pod doesn't say what a quota must know. */
  async charge(type: ResourceType, object: KubeObject, { before, dryRun = false }: ChargeOptions = {}): Promise<Refund> {
    const refunds: Refund[] = [];
    const refund: Refund = async () => void (await Promise.all(refunds.map((one) => one())));
    const refused = (why: string): GantryError => new GantryError("Forbidden", `${type.name} ${JSON.stringify(object.metadata.name ?? "")} is forbidden: ${why}`);
    const quotas = this.#in(object.metadata.namespace ?? "").filter((quota) => countedBy(quota)(type, object)).sort((a, b) => (a.metadata.name! < b.metadata.name! ? -1 : 1));
    if (quotas.length === 0) return refund;
    const usage = usageOf(type, object);
    const request: Request = { key: pendingKey(type, object), usage, delta: before ? plus(usage, usageOf(type, before), -1) : usage, isChange: before !== undefined };
    try {
      for (const quota of quotas) {
        const missing = type.name === PODS.name && !before ? unspecified(quota, object) : undefined;
        if (missing !== undefined) throw refused(`failed quota: ${quota.metadata.name!}: must specify ${missing}`);
        const fault = dryRun ? take(quota, this.count(quota), request.key, usage, request.delta, 0) : await this.#ask(quota, request);
        if (fault !== undefined) throw refused(fault);
        if (!dryRun && Object.keys(growthOf(quota, request.delta)).length > 0) refunds.push(() => this.#refund(quota, request));
      }
    } catch (error) {
      await refund();
      throw error;
    }
    return refund;
  }

  #in(namespace: string): ResourceQuota[] {
    return Array.from(this.#cache.resource(RESOURCE_QUOTAS).list(namespace), (s) => s.object);
  }

  #went(key: string): void {
    const nowMs = this.#clock.nowMs();
    this.#gone.set(key, nowMs);
    for (const [old, atMs] of this.#gone) {
      if (nowMs - atMs < PENDING_MS) break;
      this.#gone.delete(old);
    }
  }

  #ask(quota: ResourceQuota, request: Request): Promise<string | undefined> {
    const key = keyOf(RESOURCE_QUOTAS, quota);
    const name = `${key.namespace}/${key.name}`;
    return new Promise((answer, fail) => {
      const queue = this.#queues.get(name);
      if (queue) queue.push({ ...request, answer, fail });
      else {
        this.#queues.set(name, [{ ...request, answer, fail }]);
        void this.#work(key, name);
      }
    });
  }

  /** Never rejects: each that waits learns what went wrong. */
  async #work(key: ObjectKey<ResourceQuota>, name: string): Promise<void> {
    for (let batch = this.#queues.get(name)!; batch.length > 0; batch = this.#queues.get(name)!) {
      this.#queues.set(name, []);
      try {
        const left = await this.#grant(key, batch);
        if (left.length === 0) continue;
        this.#queues.get(name)!.unshift(...left);
        await this.#clock.sleep(FULL_MS);
      } catch (error) {
        for (const { fail } of batch) fail(error);
      }
    }
    this.#queues.delete(name);
  }

  /**
   * Decides on all in the order in which they came; returns those that have to wait: the list of pending charges has no place now, or another change of the
   * same object is on its way, for which its one place in the list stands.
   */
  async #grant(key: ObjectKey<ResourceQuota>, batch: readonly Waiting[]): Promise<readonly Waiting[]> {
    for (let round = 0; round < MAX_ROUNDS; round++) {
      const quota = this.#cache.resource(RESOURCE_QUOTAS).get(key.namespace, key.name)?.object;
      if (!quota) {
        // Gone, or not here yet: then somebody else's cache was ahead of ours.
        if (await this.#catchUp(key)) continue;
        for (const { answer } of batch) answer(undefined);
        return [];
      }
      const count = this.count(quota);
      const faults = new Map<Waiting, string | undefined>();
      for (const waiting of batch) {
        if (Object.keys(count.pending).length >= MAX_PENDING) break;
        if (waiting.isChange && count.pending[waiting.key]) continue;
        faults.set(waiting, take(quota, count, waiting.key, waiting.usage, waiting.delta, this.#clock.nowMs()));
      }
      const isNewest = [...faults.values()].includes(undefined) ? await this.#write(quota, count) : (await this.#catchUp(key))?.metadata.resourceVersion === quota.metadata.resourceVersion;
      if (!isNewest) continue;
      for (const [{ answer }, fault] of faults) answer(fault);
      return batch.filter((waiting) => !faults.has(waiting));
    }
    throw new GantryError("Conflict", `the quota ${JSON.stringify(key.name)} is written to by too many at once; please try again`);
  }

  /** False when the quota is no longer what was counted on. */
  async #write(quota: ResourceQuota, count: Count): Promise<boolean> {
    const { resourceVersion, uid } = quota.metadata;
    try {
      const stored = await this.#store.update(keyOf(RESOURCE_QUOTAS, quota), () => withCount(quota, count), { writer: "api", resourceVersion, uid });
      await this.#cache.waitFor(stored.resourceVersion);
      return true;
    } catch (error) {
      if (!isCode(error, "Conflict", "NotFound")) throw error;
      await this.#catchUp(keyOf(RESOURCE_QUOTAS, quota));
      return false;
    }
  }

  /** The newest state, which the cache shows then, too. */
  async #catchUp(key: ObjectKey<ResourceQuota>): Promise<ResourceQuota | undefined> {
    const stored = await this.#store.get(key);
    if (stored) await this.#cache.waitFor(stored.resourceVersion);
    return stored?.object;
  }

  async #refund(quota: ResourceQuota, { key, delta }: Request): Promise<void> {
    try {
      await this.#store.update(keyOf(RESOURCE_QUOTAS, quota), (current) => {
        const { [key]: charge, ...pending } = pendingOf(current);
        if (!charge) return undefined;
        const used = Object.fromEntries(Object.entries(quotaAmounts(current.status?.used)).map(([name, amount]) => [name, amount - Math.max(0, delta[name] ?? 0)]));
        return withCount(current, { used, pending });
      }, { writer: "api", uid: quota.metadata.uid });
    } catch {
      // It is counted out when the object isn't seen to come.
    }
  }
}

export const hasQuota = (cache: WatchCache, namespace: string): boolean => cache.resource(RESOURCE_QUOTAS).list(namespace)[Symbol.iterator]().next().done === false;

const ofCache = new WeakMap<WatchCache, Quotas>();

/** One for each cache: everybody in a process stands in the same queue. */
export const quotasOf = ({ store, cache, clock }: { readonly store: Store; readonly cache: WatchCache; readonly clock: Clock }): Quotas => {
  let quotas = ofCache.get(cache);
  if (!quotas) ofCache.set(cache, (quotas = new Quotas(store, cache, clock)));
  return quotas;
};
