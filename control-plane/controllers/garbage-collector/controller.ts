// Deletes what nobody owns any more, carries out foreground and orphan deletions, and clears finished pods and old events. It alone
// takes the finalizers foregroundDeletion and orphan off.
import { ALL_RESOURCES, EVENTS, PODS } from "../../../base/kube/resources.ts";
import type { KubeObject } from "../../../base/kube/resources.ts";
import type { OwnerReference } from "../../../base/kube/types.gen.ts";
import { withoutOwner } from "../objects.ts";
import type { Controller, ControllerContext, Pass } from "../reconcile-loop.ts";
import type { CacheEvent, ResourceCache } from "../../state/cache.ts";
import { oldEvents, surplusPods } from "./leftovers.ts";
import { FOREGROUND, ORPHAN, ownerKey, ownerOf, parseOwnerKey, reconcile } from "./reconcile.ts";
import type { Dependent, OwnerIdentity } from "./reconcile.ts";

const LEFTOVERS = "leftovers";
/** Age is nothing that an event tells; a minute more or less of an hour doesn't matter. */
const LEFTOVERS_PERIOD_MS = 60_000;
/** Old events deleted in one pass: an hour's worth of them must not hold up real work. */
const MAX_LEFTOVERS = 200;

export const garbageCollector = (context: ControllerContext): Controller => {
  const { cache, clock, store, options } = context;
  const resources = ALL_RESOURCES.map((type) => ({ type, cache: cache.resource(type) }));
  const cacheOf = new Map(resources.map((r) => [r.type.name, r.cache]));

  const dependentsOf = (uid: string): Dependent[] =>
    resources.flatMap(({ type, cache: objects }) => Array.from(objects.byIndex("ownerRef", uid), ({ object }): Dependent => ({ type, object })));
  const hasDependents = (uid: string): boolean =>
    resources.some(({ cache: objects }) => objects.byIndex("ownerRef", uid)[Symbol.iterator]().next().done === false);

  /** In the cache, under the name and namespace that the reference means: a uid in another namespace owns nothing here. */
  const cached = (owner: OwnerIdentity): KubeObject | undefined => {
    const object = cacheOf.get(owner.type.name)?.get(owner.namespace, owner.name)?.object;
    return object?.metadata.uid === owner.uid ? object : undefined;
  };

  const ownerLives = (dependent: KubeObject, reference: OwnerReference): boolean => {
    const owner = ownerOf(dependent, reference);
    // Of an unknown kind: taken as alive, for a wrong guess would delete.
    if (!owner) return true;
    const object = cached(owner);
    return object !== undefined && !(object.metadata.deletionTimestamp !== undefined && object.metadata.finalizers?.includes(FOREGROUND));
  };

  const syncOwner = async (identity: OwnerIdentity, { writes }: Pass): Promise<void> => {
    let owner = cached(identity);
    const dependents = dependentsOf(identity.uid).filter(({ object }) => identity.namespace === "" || object.metadata.namespace === identity.namespace);
    if (!owner && dependents.length > 0) {
      // One linearizable read per owner: an absence in the cache alone must never delete anything.
      const live = await store.get(identity);
      if (live?.object.metadata.uid === identity.uid) owner = live.object;
    }
    const plan = reconcile({ owner, dependents, hasDependents, ownerLives, uid: identity.uid });
    const nowMs = clock.nowMs();
    await Promise.all([
      ...plan.unlink.map(({ type, object }) => writes.update(type, object, (current) => withoutOwner(current, identity.uid))),
      ...plan.remove.map(({ type, object }) => writes.delete(type, object, nowMs)),
      ...plan.removeForeground.map(({ type, object }) => writes.delete(type, object, nowMs, { addFinalizer: FOREGROUND })),
    ]);
    if (owner && plan.finalizer) await writes.removeFinalizer(identity.type, owner, plan.finalizer);
  };

  const syncLeftovers = async ({ writes, again }: Pass): Promise<void> => {
    const nowMs = clock.nowMs();
    const objects = function* <T extends KubeObject>(of: ResourceCache<T>): Iterable<T> {
      for (const { object } of of.list()) yield object;
    };
    const events = oldEvents(objects(cache.resource(EVENTS)), nowMs, options.eventTtlMs);
    const pods = surplusPods(objects(cache.resource(PODS)), options.terminatedPodThreshold);
    await Promise.all([
      ...events.slice(0, MAX_LEFTOVERS).map((event) => writes.delete(EVENTS, event, nowMs)),
      ...pods.slice(0, MAX_LEFTOVERS).map((pod) => writes.delete(PODS, pod, nowMs)),
    ]);
    again(Math.max(events.length, pods.length) > MAX_LEFTOVERS ? 1000 : LEFTOVERS_PERIOD_MS);
  };

  return {
    name: "garbage-collector",
    writer: "controller",
    *watch(queue) {
      const add = (identity: OwnerIdentity | undefined): void => {
        if (identity) queue.add(ownerKey(identity));
      };
      const itself = (type: OwnerIdentity["type"], { metadata }: KubeObject): OwnerIdentity => ({ type, namespace: metadata.namespace ?? "", name: metadata.name!, uid: metadata.uid! });
      const isEndingByUs = ({ metadata }: KubeObject): boolean =>
        metadata.deletionTimestamp !== undefined && (metadata.finalizers?.includes(FOREGROUND) === true || metadata.finalizers?.includes(ORPHAN) === true);
      const changed = (type: OwnerIdentity["type"], event: CacheEvent): void => {
        const { object } = event.stored;
        if (event.type === "deleted" ? hasDependents(object.metadata.uid!) : isEndingByUs(object)) add(itself(type, object));
        if (event.type === "modified" && event.previous?.object.metadata.ownerReferences?.length === object.metadata.ownerReferences?.length) return;
        for (const reference of [...(object.metadata.ownerReferences ?? []), ...(event.previous?.object.metadata.ownerReferences ?? [])]) {
          const identity = ownerOf(object, reference);
          const owner = identity && cached(identity);
          // Came after its owner went, or was what its owner waited for.
          if (identity && (owner ? isEndingByUs(owner) : event.type !== "deleted")) add(identity);
        }
      };
      for (const { type, cache: objects } of resources) yield objects.subscribe((event) => changed(type, event));
      for (const { type, cache: objects } of resources) {
        for (const stored of objects.list()) changed(type, { type: "added", stored, previous: undefined, resourceVersion: stored.resourceVersion });
      }
      queue.add(LEFTOVERS);
    },

    async sync(key, pass) {
      const identity = key === LEFTOVERS ? undefined : parseOwnerKey(key);
      if (identity) await syncOwner(identity, pass);
      else await syncLeftovers(pass);
    },
  };
};
