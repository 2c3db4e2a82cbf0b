// Which objects belong to a controller: those it owns, unless their labels left its selector (released), and those without a
// controller whose labels match (adopted). Shared by all controllers that own what a selector picks.
import { fromLabelSelector, selectorMatches } from "../../base/kube/labels.ts";
import type { Selector } from "../../base/kube/labels.ts";
import { NAMESPACES } from "../../base/kube/resources.ts";
import type { KubeObject, ResourceType } from "../../base/kube/resources.ts";
import type { LabelSelector } from "../../base/kube/types.gen.ts";
import type { ResourceCache, WatchCache } from "../state/cache.ts";
import { controllerOf, controllerReference, withoutOwner } from "./objects.ts";
import type { Writes } from "./writes.ts";

export interface Claim<T extends KubeObject> {
  readonly owned: readonly T[];
  readonly adopt: readonly T[];
  readonly release: readonly T[];
}

/** Pure. An owner that is being deleted adopts nothing; an object that is being deleted is neither adopted nor released. */
export const claim = <T extends KubeObject>(owner: KubeObject, selector: Selector, candidates: Iterable<T>): Claim<T> => {
  const owned: T[] = [];
  const adopt: T[] = [];
  const release: T[] = [];
  for (const object of candidates) {
    const controller = controllerOf(object);
    const leaving = object.metadata.deletionTimestamp !== undefined;
    const matches = selectorMatches(selector, object.metadata.labels);
    if (controller?.uid === owner.metadata.uid) (matches || leaving ? owned : release).push(object);
    else if (!controller && matches && !leaving && owner.metadata.deletionTimestamp === undefined) adopt.push(object);
  }
  return { owned, adopt, release };
};

/** Objects that `claim` has to look at: by owner, and by the selector's most telling label. Each once. */
export const candidatesOf = <T extends KubeObject>(cache: ResourceCache<T>, owner: KubeObject, selector: LabelSelector): Set<T> => {
  const found = new Set<T>();
  for (const { object } of cache.byIndex("owner", owner.metadata.uid!)) found.add(object);
  const labels = Object.entries(selector.matchLabels ?? {});
  // The last label is the one that controllers add (pod-template-hash, controller-uid): it matches the fewest.
  const [key, value] = labels.at(-1) ?? [];
  const others = key === undefined ? cache.list(owner.metadata.namespace ?? "") : cache.byIndex("label", `${key}=${value!}`);
  for (const { object } of others) if (object.metadata.namespace === owner.metadata.namespace) found.add(object);
  return found;
};

/** What else a controller changes in the same write as the reference, such as a finalizer of its own. */
export interface ClaimMarks<T extends KubeObject> {
  adopted(object: T): T;
  released(object: T): T;
}

const NO_MARKS: ClaimMarks<KubeObject> = { adopted: (object) => object, released: (object) => object };

/** Applies adoptions and releases; returns what the owner has afterwards. */
export const applyClaim = async <T extends KubeObject>(
  writes: Writes, type: ResourceType<T>, ownerType: ResourceType, owner: KubeObject, { owned, adopt, release }: Claim<T>, marks: ClaimMarks<T> = NO_MARKS as ClaimMarks<T>,
): Promise<readonly T[]> => {
  const reference = controllerReference(ownerType, owner);
  const [adopted] = await Promise.all([
    Promise.all(adopt.map((object) => writes.update(type, object, (current) =>
      (controllerOf(current) ? undefined : marks.adopted({ ...current, metadata: { ...current.metadata, ownerReferences: [...(current.metadata.ownerReferences ?? []), reference] } }))))),
    Promise.all(release.map((object) => writes.update(type, object, (current) => marks.released(withoutOwner(current, owner.metadata.uid!))))),
  ]);
  return adopted.length === 0 ? owned : [...owned, ...adopted.filter((object) => object !== undefined && controllerOf(object)?.uid === owner.metadata.uid) as T[]];
};

export const selectorOf = (selector: LabelSelector): Selector => fromLabelSelector(selector);

const ownSelector = (owner: KubeObject): LabelSelector | undefined => (owner as { spec?: { selector?: LabelSelector } }).spec?.selector;

/** Owners in the object's namespace that would adopt it, for an object without a controller. `selectorIn` where the kind's selector is of another form. */
export const adoptersOf = <O extends KubeObject>(owners: ResourceCache<O>, object: KubeObject, selectorIn: (owner: O) => LabelSelector | undefined = ownSelector): readonly O[] => {
  if (controllerOf(object) || !object.metadata.labels) return [];
  return Array.from(owners.list(object.metadata.namespace ?? ""), (o) => o.object).filter((owner) => {
    const selector = selectorIn(owner);
    return selector !== undefined && selectorMatches(fromLabelSelector(selector), object.metadata.labels);
  });
};

/** A namespace that is being emptied takes nothing new in; the API refuses it to users, controllers write past the API. */
export const takesNewObjects = (cache: WatchCache, namespace: string): boolean => {
  const home = cache.resource(NAMESPACES).get("", namespace)?.object;
  return home !== undefined && home.metadata.deletionTimestamp === undefined;
};
