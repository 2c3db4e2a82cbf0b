// What a write must pass before it is committed, the same for every store: preconditions, the writer's rights, the object's
// identity. Pure.
import { GantryError } from "../../base/errors.ts";
import type { KubeObject } from "../../base/kube/resources.ts";
import type { ObjectKey, Preconditions, Stored, WriteOptions } from "./store.ts";
import { bodyOf, conflict } from "./stored.ts";
import { checkCreate, checkDelete, checkUpdate } from "./writers.ts";

const checkPreconditions = (key: ObjectKey, current: Stored, { resourceVersion, uid }: Preconditions): void => {
  if (uid !== undefined && uid !== current.object.metadata.uid) {
    throw conflict(key, `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${current.object.metadata.uid}`);
  }
  if (resourceVersion !== undefined && resourceVersion !== String(current.resourceVersion)) throw conflict(key);
};

/** An object stored under another's key would be found by nobody. */
const checkIdentity = (key: ObjectKey, object: KubeObject): void => {
  const { name = "", namespace = "" } = object.metadata;
  if (key.name === "" || key.name.includes("/") || key.namespace.includes("/") || (key.namespace === "") === key.type.namespaced) {
    throw new GantryError("BadRequest", `${key.type.name} can't have the name "${key.name}" in the namespace "${key.namespace}"`);
  }
  if (name !== key.name) throw new GantryError("BadRequest", `metadata.name is "${name}" but the ${key.type.kind} is written as "${key.name}"`);
  if (namespace !== key.namespace) throw new GantryError("BadRequest", `metadata.namespace is "${namespace}" but the ${key.type.kind} is written in "${key.namespace}"`);
};

/** The body to store. */
export const planCreate = (key: ObjectKey, object: KubeObject, { writer }: WriteOptions): string => {
  checkIdentity(key, object);
  checkCreate(key.type.name, writer);
  return bodyOf(object);
};

/** The body to store, or undefined when there is nothing to write. Throws what `change` throws. */
export const planUpdate = <T extends KubeObject>(key: ObjectKey<T>, current: Stored<T>, change: (current: T) => T | undefined, options: WriteOptions & Preconditions): string | undefined => {
  checkPreconditions(key, current, options);
  const next = change(current.object);
  if (next === undefined || next === current.object) return undefined;
  checkIdentity(key, next);
  checkUpdate(key.type.name, options.writer, current.object, next);
  return bodyOf(next);
};

export const planDelete = (key: ObjectKey, current: Stored, options: WriteOptions & Preconditions): void => {
  checkPreconditions(key, current, options);
  checkDelete(key.type.name, options.writer);
};
