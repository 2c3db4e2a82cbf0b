// What becomes of the dependents of one owner. Pure. https://kubernetes.io/docs/concepts/architecture/garbage-collection/
import { ALL_RESOURCES, resourceOfKind } from "../../../base/kube/resources.ts";
import type { KubeObject, ResourceType } from "../../../base/kube/resources.ts";
import type { OwnerReference } from "../../../base/kube/types.gen.ts";

export const FOREGROUND = "foregroundDeletion";
export const ORPHAN = "orphan";

export interface Dependent {
  readonly type: ResourceType;
  readonly object: KubeObject;
}

/** One owner as its dependents name it; also the queue's key. */
export interface OwnerIdentity {
  readonly type: ResourceType;
  /** Of the dependents: an owner lives in their namespace, or in none. */
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
}

export const ownerKey = ({ type, namespace, name, uid }: OwnerIdentity): string => [type.name, namespace, name, uid].join(" ");

export const parseOwnerKey = (key: string): OwnerIdentity | undefined => {
  const [resource, namespace, name, uid] = key.split(" ") as [string, string, string, string];
  const type = ALL_RESOURCES.find((t) => t.name === resource);
  return type && { type, namespace, name, uid };
};

/** Undefined for a kind that Gantry doesn't know: whether such an owner exists nobody here can tell, so nothing is collected for it. */
export const ownerOf = (dependent: KubeObject, reference: OwnerReference): OwnerIdentity | undefined => {
  const type = resourceOfKind(reference.apiVersion, reference.kind);
  return type && { type, namespace: type.namespaced ? (dependent.metadata.namespace ?? "") : "", name: reference.name, uid: reference.uid };
};

export interface Plan {
  readonly remove: readonly Dependent[];
  /** Deleted in the foreground in their turn: they have dependents of their own, and the owner waits. */
  readonly removeForeground: readonly Dependent[];
  /** The reference to the owner goes, the object stays. */
  readonly unlink: readonly Dependent[];
  /** A finalizer of the owner that has done its work. */
  readonly finalizer: string | undefined;
}

export interface Input {
  /** The owner with that uid; undefined when it is gone. */
  readonly owner: KubeObject | undefined;
  readonly dependents: readonly Dependent[];
  readonly hasDependents: (uid: string) => boolean;
  /** Whether an owner other than this one still exists and is not being deleted in the foreground. */
  readonly ownerLives: (dependent: KubeObject, reference: OwnerReference) => boolean;
  readonly uid: string;
}

export const reconcile = ({ owner, dependents, hasDependents, ownerLives, uid }: Input): Plan => {
  const nothing: Plan = { remove: [], removeForeground: [], unlink: [], finalizer: undefined };
  const hasAnotherOwner = ({ object }: Dependent): boolean => object.metadata.ownerReferences?.some((r) => r.uid !== uid && ownerLives(object, r)) === true;
  const untouched = dependents.filter(({ object }) => object.metadata.deletionTimestamp === undefined);
  if (!owner) return { ...nothing, unlink: untouched.filter(hasAnotherOwner), remove: untouched.filter((d) => !hasAnotherOwner(d)) };
  if (owner.metadata.deletionTimestamp === undefined) return nothing;
  if (owner.metadata.finalizers?.includes(ORPHAN)) return dependents.length > 0 ? { ...nothing, unlink: dependents } : { ...nothing, finalizer: ORPHAN };
  if (!owner.metadata.finalizers?.includes(FOREGROUND)) return nothing;
  const blocking = dependents.filter(({ object }) => object.metadata.ownerReferences?.some((r) => r.uid === uid && r.blockOwnerDeletion));
  if (blocking.length === 0) return { ...nothing, finalizer: FOREGROUND, remove: untouched.filter((d) => !hasAnotherOwner(d)) };
  const going = untouched.filter((d) => !hasAnotherOwner(d));
  return {
    ...nothing, unlink: untouched.filter(hasAnotherOwner),
    removeForeground: going.filter(({ object }) => hasDependents(object.metadata.uid!)), remove: going.filter(({ object }) => !hasDependents(object.metadata.uid!)),
  };
};
