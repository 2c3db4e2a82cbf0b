// How objects lie in etcd: keys, resourceVersions and the versioned value header. Only the stores use it. Pure.
//
// Key:   PREFIX/registry/RESOURCE/NAMESPACE/NAME, "_" standing for the namespace of cluster-scoped resources.
// Value: byte 0 format (1), byte 1 slot (0..127), then the object's JSON in UTF-8 without metadata.resourceVersion.
// A batch of writes is one etcd transaction and so one revision; the slot, the write's place in the batch, makes the
// resourceVersion unique: revision * 128 + slot. A delete leaves no value to hold a slot: see `VersionCounter`.
import { GantryError } from "../../base/errors.ts";
import type { ObjectKey } from "./store.ts";

/** Slots in one revision: 7 bits. */
export const SLOTS = 128;
/** For one request to etcd, and so for one object: etcd's default of 1.5 MiB less what framing needs. */
export const MAX_REQUEST_BYTES = Math.floor(1.4 * 1024 * 1024);
const FORMAT = 1;
const HEADER_BYTES = 2;
const CLUSTER_SCOPED = "_";

/** Arithmetic, not bit operations: those are 32 bits wide in JavaScript. */
export const versionOf = (revision: number, slot: number): number => revision * SLOTS + slot;
export const revisionOf = (resourceVersion: number): number => Math.floor(resourceVersion / SLOTS);
/** The version of a read at `revision`: everything in that revision is seen, so a watch goes on with the next. */
export const endOf = (revision: number): number => versionOf(revision, SLOTS - 1);

/** RESOURCE/NAMESPACE/NAME. Bytewise order of these is the order of lists. */
export const registryPath = (resource: string, namespace: string, name: string): string => `${resource}/${namespace === "" ? CLUSTER_SCOPED : namespace}/${name}`;
export const pathOf = (key: ObjectKey): string => registryPath(key.type.name, key.namespace, key.name);

export interface ParsedPath {
  readonly resource: string;
  readonly namespace: string;
  readonly name: string;
}

/** Undefined when it is no object's path (such as the progress mark). */
export const parsePath = (path: string): ParsedPath | undefined => {
  const first = path.indexOf("/");
  const second = path.indexOf("/", first + 1);
  if (first <= 0 || second < 0) return undefined;
  const namespace = path.slice(first + 1, second);
  return { resource: path.slice(0, first), namespace: namespace === CLUSTER_SCOPED ? "" : namespace, name: path.slice(second + 1) };
};

export const encodeValue = (slot: number, body: string): Buffer => {
  const value = Buffer.allocUnsafe(HEADER_BYTES + Buffer.byteLength(body));
  value[0] = FORMAT;
  value[1] = slot;
  value.write(body, HEADER_BYTES);
  return value;
};

/** "InternalError" for a value of a format that this version does not know: a newer control plane wrote it. */
export const slotOf = (value: Buffer, where: string): number => {
  if (value[0] !== FORMAT || value.length < HEADER_BYTES) {
    throw new GantryError("InternalError", `the value of ${where} in etcd has format ${value[0] ?? "none"}; this version of Gantry reads format ${FORMAT}: was it written by a newer one?`);
  }
  return value[1]!;
};

/** Of a value that `slotOf` accepted. */
export const bodyIn = (value: Buffer): string => value.toString("utf8", HEADER_BYTES);

/**
 * Gives every event of a revision its version, watcher and writer alike. A put's slot is in its value and is the index of its
 * operation in the batch. A delete gets the slot after its predecessor's in that revision (0 for the first): that is at most its
 * own operation's index, so it lies below every later put's slot, and stays unique and ordered.
 */
export class VersionCounter {
  #revision = -1;
  #slot = -1;

  put(revision: number, slot: number): number {
    this.#revision = revision;
    this.#slot = slot;
    return versionOf(revision, slot);
  }

  delete(revision: number): number {
    return this.put(revision, revision === this.#revision ? this.#slot + 1 : 0);
  }
}
