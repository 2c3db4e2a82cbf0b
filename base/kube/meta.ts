// What every object's metadata says. Pure.
import type { KubeObject } from "./resources.ts";
import type { OwnerReference } from "./types.gen.ts";

/** Which of its owners looks after it. */
export const controllerOf = (object: KubeObject): OwnerReference | undefined => object.metadata.ownerReferences?.find((r) => r.controller === true);

/** RFC 3339 with whole seconds, as meta/v1.Time is serialized. */
export const timestamp = (ms: number): string => `${new Date(ms).toISOString().slice(0, 19)}Z`;

/** Marks for deletion. The instant is the end of the grace period, as upstream's BeforeDelete sets it. */
export const markedForDeletion = <T extends KubeObject>(object: T, nowMs: number, graceSeconds: number): T => ({
  ...object,
  metadata: {
    ...object.metadata, deletionTimestamp: timestamp(nowMs + graceSeconds * 1000), deletionGracePeriodSeconds: graceSeconds,
    ...(object.metadata.generation === undefined ? {} : { generation: object.metadata.generation + 1 }),
  },
});
