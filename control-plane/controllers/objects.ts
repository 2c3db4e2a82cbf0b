// What every controller reads from objects and how it builds new ones. Pure; nothing here writes.
import { isReady, isTerminal } from "../../base/kube/pod-state.ts";
import type { KubeObject, ResourceType } from "../../base/kube/resources.ts";
import type { OwnerReference, Pod } from "../../base/kube/types.gen.ts";

export { controllerOf, markedForDeletion, timestamp } from "../../base/kube/meta.ts";
export { isReady, isTerminal } from "../../base/kube/pod-state.ts";

/** Epoch ms of a meta/v1.Time; 0 for one that is absent. */
export const timeMs = (text: string | undefined): number => (text === undefined ? 0 : Date.parse(text));

export const objectKey = (object: KubeObject): string => `${object.metadata.namespace ?? ""}/${object.metadata.name ?? ""}`;
export const splitKey = (key: string): [namespace: string, name: string] => {
  const slash = key.indexOf("/");
  return [key.slice(0, slash), key.slice(slash + 1)];
};

/** Blocks a foreground deletion of the owner, as every controller's reference does upstream. */
export const controllerReference = (type: ResourceType, owner: KubeObject): OwnerReference => ({
  apiVersion: type.apiVersion, kind: type.kind, name: owner.metadata.name!, uid: owner.metadata.uid!, controller: true, blockOwnerDeletion: true,
});

export const withoutOwner = <T extends KubeObject>(object: T, uid: string): T => {
  const left = object.metadata.ownerReferences?.filter((r) => r.uid !== uid);
  return { ...object, metadata: { ...object.metadata, ownerReferences: left?.length ? left : undefined } };
};

/** Counts towards a controller's replicas: a pod that is on its way out already doesn't, so its replacement starts at once. */
export const isActive = (pod: Pod): boolean => !isTerminal(pod) && pod.metadata.deletionTimestamp === undefined;

/** When a ready pod became ready; 0 for others. */
export const readySinceMs = (pod: Pod): number => (isReady(pod) ? timeMs(pod.status?.conditions?.find((c) => c.type === "Ready")?.lastTransitionTime) : 0);
export const restartsOf = (pod: Pod): number => pod.status?.containerStatuses?.reduce((sum, c) => sum + c.restartCount, 0) ?? 0;

/** The spec changed: so does the generation, which the API raises for users and controllers must raise themselves. */
export const withSpec = <T extends KubeObject & { spec?: object | undefined }>(object: T, spec: NonNullable<T["spec"]>): T => ({
  ...object, spec, metadata: { ...object.metadata, generation: (object.metadata.generation ?? 0) + 1 },
});

export const annotationChanged = (before: KubeObject, after: KubeObject, name: string): boolean => before.metadata.annotations?.[name] !== after.metadata.annotations?.[name];

/** What a user or another controller wants of the object changed, or its deletion began; a status write is neither. */
export const specChanged = (before: KubeObject, after: KubeObject): boolean =>
  before.metadata.generation !== after.metadata.generation || before.metadata.deletionTimestamp !== after.metadata.deletionTimestamp;

interface Condition {
  type: string;
  status: string;
  reason?: string | undefined;
  message?: string | undefined;
  lastTransitionTime?: string | undefined;
}

/** Replaces the condition of that type. The transition time moves only when the status does; without any change the same array returns. */
export const withCondition = <C extends Condition>(conditions: readonly C[], next: C): readonly C[] => {
  const at = conditions.findIndex((c) => c.type === next.type);
  const before = conditions[at];
  if (!before) return [...conditions, next];
  if (before.status === next.status && before.reason === next.reason && before.message === next.message) return conditions;
  const kept = before.status === next.status ? { ...next, lastTransitionTime: before.lastTransitionTime } : next;
  return conditions.with(at, kept);
};

/** JSON with sorted keys and without undefined: equal texts mean equal objects, whatever wrote them. */
export const canonicalJson = (value: unknown): string => {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? "null";
  const entries = Object.entries(value).filter(([, v]) => v !== undefined);
  return `{${entries.sort(([a], [b]) => (a < b ? -1 : 1)).map(([k, v]) => `${JSON.stringify(k)}:${canonicalJson(v)}`).join(",")}}`;
};

export const sameJson = (a: unknown, b: unknown): boolean => a === b || canonicalJson(a) === canonicalJson(b);
