// Owns how the API changes an existing object: one read-modify-write that ends in an update, in the object's removal when
// nothing holds it any longer, or (dry run) in nothing.
import { isCode } from "../../base/errors.ts";
import type { KubeObject } from "../../base/kube/resources.ts";
import type { ObjectKey, Preconditions } from "../state/store.ts";
import type { ApiContext } from "./context.ts";
import { conflict, notFound, withDetails } from "./status.ts";

export const WRITER = { writer: "api" } as const;

/** Rounds of "somebody was faster" before the client is told; only removals can need more than one. */
const MAX_ROUNDS = 5;

export interface Change {
  readonly next: KubeObject;
  /** Remove it instead of storing `next`. */
  readonly remove: boolean;
}

export interface Outcome {
  readonly object: KubeObject;
  readonly removed: boolean;
}

/** Being deleted, with nothing left to wait for: no finalizers, no grace period. */
export const isFinished = (object: KubeObject): boolean => {
  const { deletionTimestamp, deletionGracePeriodSeconds = 0, finalizers = [] } = object.metadata;
  return deletionTimestamp !== undefined && deletionGracePeriodSeconds === 0 && finalizers.length === 0 && namespaceFinalizers(object).length === 0;
};

/** Namespaces alone have finalizers in their spec, too. */
export const namespaceFinalizers = (object: KubeObject): readonly string[] =>
  object.kind === "Namespace" ? ((object as { spec?: { finalizers?: readonly string[] } }).spec?.finalizers ?? []) : [];

/** An update that lets go of an object that is being deleted removes it. */
export const updateOrRemove = (next: KubeObject): Change => ({ next, remove: isFinished(next) });

const checkAgainst = (key: ObjectKey, current: KubeObject, { resourceVersion, uid }: Preconditions): void => {
  if (uid !== undefined && uid !== current.metadata.uid) {
    throw conflict(key.type, key.name, `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${current.metadata.uid}`);
  }
  if (resourceVersion !== undefined && resourceVersion !== current.metadata.resourceVersion) throw conflict(key.type, key.name);
};

const rehearse = async ({ store }: ApiContext, key: ObjectKey, change: (current: KubeObject) => Change, preconditions: Preconditions): Promise<Outcome> => {
  const stored = await store.get(key);
  if (!stored) throw notFound(key.type, key.name);
  checkAgainst(key, stored.object, preconditions);
  const { next, remove } = change(stored.object);
  return { object: next, removed: remove };
};

/** `change` is pure and may be called several times. Errors come in the API's words. */
export const commitChange = async (
  context: ApiContext, key: ObjectKey, change: (current: KubeObject) => Change, options: { readonly preconditions: Preconditions; readonly dryRun: boolean },
): Promise<Outcome> => {
  const { store, freshness } = context;
  if (options.dryRun) return rehearse(context, key, change, options.preconditions);
  try {
    for (let round = 0; round < MAX_ROUNDS; round++) {
      let last: KubeObject | undefined;
      let seenVersion: string | undefined;
      const stored = await store.update(key, (current) => {
        const { next, remove } = change(current);
        last = remove ? next : undefined;
        seenVersion = current.metadata.resourceVersion;
        return remove ? undefined : next;
      }, { ...WRITER, ...options.preconditions });
      if (!last) return { object: freshness.wrote(stored).object, removed: false };
      try {
        const removed = freshness.wrote(await store.delete(key, { ...WRITER, resourceVersion: seenVersion, uid: last.metadata.uid }));
        return { object: { ...last, metadata: { ...last.metadata, resourceVersion: String(removed.resourceVersion) } }, removed: true };
      } catch (error) {
        // Changed since it was read: perhaps something holds it now. Look again.
        if (!isCode(error, "Conflict")) throw error;
      }
    }
    throw conflict(key.type, key.name);
  } catch (error) {
    throw withDetails(error, key.type, key.name);
  }
};
