// One version of an object as it leaves a store, and the errors about objects that every store words alike.
import { GantryError } from "../../base/errors.ts";
import type { KubeObject } from "../../base/kube/resources.ts";
import type { ObjectKey, Stored } from "./store.ts";

class StoredObject<T extends KubeObject> implements Stored<T> {
  readonly object: T;
  readonly resourceVersion: number;
  #bytes: Buffer | undefined;

  constructor(object: T, resourceVersion: number) {
    this.object = object;
    this.resourceVersion = resourceVersion;
  }

  bytes(): Buffer {
    return (this.#bytes ??= Buffer.from(JSON.stringify(this.object)));
  }
}

/** `body` is an object's JSON without a resourceVersion (see `bodyOf`); the result is a fresh object that shares nothing with its writer. */
export const storedFromBody = <T extends KubeObject>(body: string, resourceVersion: number): Stored<T> => {
  const object = JSON.parse(body) as T;
  object.metadata.resourceVersion = String(resourceVersion);
  return new StoredObject(object, resourceVersion);
};

/** The same state at another version: what a delete returns. */
export const atVersion = <T extends KubeObject>(stored: Stored<T>, resourceVersion: number): Stored<T> =>
  new StoredObject({ ...stored.object, metadata: { ...stored.object.metadata, resourceVersion: String(resourceVersion) } }, resourceVersion);

/** What is stored of an object: its JSON without metadata.resourceVersion, which only the commit decides. */
export const bodyOf = (object: KubeObject): string => {
  const { resourceVersion: _, ...metadata } = object.metadata;
  return JSON.stringify({ ...object, metadata });
};

export const notFound = (key: ObjectKey): GantryError => new GantryError("NotFound", `${key.type.name} "${key.name}" not found`);
export const alreadyExists = (key: ObjectKey): GantryError => new GantryError("AlreadyExists", `${key.type.name} "${key.name}" already exists`);
export const conflict = (key: ObjectKey, why = "the object has been modified; please apply your changes to the latest version and try again"): GantryError =>
  new GantryError("Conflict", `Operation cannot be fulfilled on ${key.type.name} "${key.name}": ${why}`);
export const fenced = (key: ObjectKey): GantryError =>
  new GantryError("Fenced", `the write to ${key.type.name} "${key.name}" was refused: this process no longer leads`);
export const expired = (what: string): GantryError => new GantryError("Expired", `The resourceVersion for the provided ${what} is too old.`);
export const future = (resourceVersion: number): GantryError => new GantryError("BadRequest", `resourceVersion: ${resourceVersion} has not been reached yet; use one that a list or an object had`);
export const tooLarge = (sizeBytes: number, limitBytes: number): GantryError =>
  new GantryError("RequestEntityTooLarge", `the object is too large to store: ${sizeBytes} bytes with its key, the limit is ${limitBytes}`);
