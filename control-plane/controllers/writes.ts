// The writes of one pass over one key. It remembers the newest version it wrote: before the same key is decided again, the cache
// must show that version, or the controller would act twice on what it has already done.
import { isCode } from "../../base/errors.ts";
import { PODS } from "../../base/kube/resources.ts";
import type { KubeObject, ResourceType } from "../../base/kube/resources.ts";
import type { Pod } from "../../base/kube/types.gen.ts";
import { keyOf } from "../state/store.ts";
import { admitted, createCharged } from "../state/admission.ts";
import type { AdmissionContext } from "../state/admission.ts";
import type { Fence, Store, Stored } from "../state/store.ts";
import type { Writer } from "../state/writers.ts";
import { isTerminal, markedForDeletion } from "./objects.ts";

export interface DeleteHow {
  /** Pods only; the pod's own period when absent. */
  readonly graceSeconds?: number;
  /** Finalizers to add while marking: "foregroundDeletion" or "orphan". */
  readonly addFinalizer?: string;
  /** Finalizers of ours to drop in the same write. */
  readonly dropFinalizer?: string;
}

/** Deletes only while this holds for the newest state: what was decided from an older one may be wrong by now. */
export type StillSo<T> = (latest: T) => boolean;

/** Creates what every cluster has, unless it is there; any control plane may, leader or not. */
export const createIfMissing = async <T extends KubeObject>(store: Store, type: ResourceType<T>, object: T): Promise<void> => {
  if (await store.get(keyOf(type, object))) return;
  try {
    await store.create(keyOf(type, object), object, { writer: "controller" });
  } catch (error) {
    if (!isCode(error, "AlreadyExists")) throw error;
  }
};

export class Writes {
  readonly #store: Store;
  readonly #options: { readonly writer: Writer; readonly fence: Fence | undefined };
  readonly #admission: AdmissionContext | undefined;
  newestVersion = 0;

  /** With `admission`, new objects pass what those of users pass. */
  constructor(store: Store, writer: Writer, fence: Fence | undefined, admission?: AdmissionContext) {
    this.#store = store;
    this.#admission = admission;
    this.#options = { writer, fence };
  }

  async create<T extends KubeObject>(type: ResourceType<T>, object: T): Promise<T> {
    const admission = this.#admission;
    const make = (made: T) => this.#store.create(keyOf(type, object), made, this.#options);
    if (!admission) return this.#saw(await make(object)).object;
    const made = admitted(admission, type, object) as T;
    return this.#saw(await createCharged(admission, type, made, () => make(made))).object;
  }

  /** Applies `change` to the newest state of this very object; undefined when it, or its name's bearer, is gone. */
  async update<T extends KubeObject>(type: ResourceType<T>, object: T, change: (current: T) => T | undefined): Promise<T | undefined> {
    try {
      return this.#saw(await this.#store.update(keyOf(type, object), change, { ...this.#options, uid: object.metadata.uid })).object;
    } catch (error) {
      // A Conflict here is another uid: update() retries by itself when only the version moved.
      if (isCode(error, "NotFound", "Conflict")) return undefined;
      throw error;
    }
  }

  /**
   * Deletes as the API does: what has finalizers, and a pod that may be running, is only marked; its agent or the finalizers'
   * owners let go of it. Deleting what is already marked or gone does nothing.
   */
  async delete<T extends KubeObject>(type: ResourceType<T>, object: T, nowMs: number, how: DeleteHow = {}, stillSo: StillSo<T> = () => true): Promise<void> {
    for (let current: T | undefined = object; current !== undefined && stillSo(current);) {
      const mark: T | undefined = toMark(type, current, nowMs, how);
      if (mark) {
        const after: T | undefined = await this.update(type, current, (latest) => (stillSo(latest) && (latest.metadata.deletionTimestamp === undefined || how.dropFinalizer) ? toMark(type, latest, nowMs, how) : undefined));
        if (after === undefined || after.metadata.deletionTimestamp !== undefined) return;
        // What kept it has gone meanwhile: now it can be deleted outright.
        current = after;
        continue;
      }
      try {
        // With the version: a pod that is bound after all since we looked must be stopped by its agent, not forgotten.
        this.#saw(await this.#store.delete(keyOf(type, current), { ...this.#options, uid: current.metadata.uid, resourceVersion: current.metadata.resourceVersion }));
        return;
      } catch (error) {
        if (isCode(error, "NotFound")) return;
        if (!isCode(error, "Conflict")) throw error;
        const latest: Stored<T> | undefined = await this.#store.get(keyOf(type, current));
        current = latest?.object.metadata.uid === object.metadata.uid ? latest?.object : undefined;
      }
    }
  }

  /** Takes a finalizer off; the object goes with its last one when it is marked, and no agent still has to confirm its end. */
  async removeFinalizer<T extends KubeObject>(type: ResourceType<T>, object: T, finalizer: string): Promise<void> {
    const after = await this.update(type, object, (current) => withoutFinalizer(current, finalizer));
    if (!after || after.metadata.deletionTimestamp === undefined || after.metadata.finalizers?.length) return;
    if (type.name === PODS.name && !isTerminal(after) && (after.metadata.deletionGracePeriodSeconds ?? 0) > 0) return;
    try {
      this.#saw(await this.#store.delete(keyOf(type, after), { ...this.#options, uid: after.metadata.uid, resourceVersion: after.metadata.resourceVersion }));
    } catch (error) {
      // Somebody touched it in between: whoever takes off the last finalizer deletes it.
      if (!isCode(error, "NotFound", "Conflict")) throw error;
    }
  }

  #saw<T extends KubeObject>(stored: Stored<T>): Stored<T> {
    this.newestVersion = Math.max(this.newestVersion, stored.resourceVersion);
    return stored;
  }
}

export const withoutFinalizer = <T extends KubeObject>(object: T, finalizer: string): T => {
  const { finalizers } = object.metadata;
  if (!finalizers?.includes(finalizer)) return object;
  const left = finalizers.filter((f) => f !== finalizer);
  return { ...object, metadata: { ...object.metadata, finalizers: left.length ? left : undefined } };
};

/** Seconds that a pod's agent gets; 0 when there is nobody to wait for. */
export const graceOf = (pod: Pod, graceSeconds?: number): number =>
  !pod.spec?.nodeName || isTerminal(pod) ? 0 : (graceSeconds ?? pod.spec.terminationGracePeriodSeconds ?? 30);

/** The marked object, or undefined when it can be deleted outright. */
const toMark = <T extends KubeObject>(type: ResourceType<T>, object: T, nowMs: number, { graceSeconds, addFinalizer, dropFinalizer }: DeleteHow): T | undefined => {
  const kept = dropFinalizer === undefined ? object : withoutFinalizer(object, dropFinalizer);
  const finalizers = [...(kept.metadata.finalizers ?? []), ...(addFinalizer && !kept.metadata.finalizers?.includes(addFinalizer) ? [addFinalizer] : [])];
  const grace = type.name === PODS.name ? graceOf(kept, graceSeconds) : 0;
  if (finalizers.length === 0 && grace === 0) return undefined;
  if (kept.metadata.deletionTimestamp !== undefined) return kept;
  return markedForDeletion({ ...kept, metadata: { ...kept.metadata, finalizers: finalizers.length ? finalizers : undefined } }, nowMs, grace);
};
