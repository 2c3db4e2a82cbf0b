// What a namespace that is going still needs. Pure. Conditions are upstream's (pkg/controller/namespace/deletion).
import type { KubeObject } from "../../../base/kube/resources.ts";
import type { Namespace, NamespaceCondition } from "../../../base/kube/types.gen.ts";
import { timestamp, withCondition } from "../objects.ts";

/** Upstream's name for its own hold on a namespace. */
export const NAMESPACE_FINALIZER = "kubernetes";

export interface Content {
  readonly resource: string;
  readonly objects: readonly KubeObject[];
}

export type Plan =
  | { readonly kind: "keep" }
  | { readonly kind: "empty"; readonly status: NonNullable<Namespace["status"]> }
  /** Nothing is left: let go of it. */
  | { readonly kind: "release" };

const condition = (type: string, isTrue: boolean, reason: string, message: string, nowMs: number): NamespaceCondition =>
  ({ type, status: isTrue ? "True" : "False", reason, message, lastTransitionTime: timestamp(nowMs) });

export const reconcile = (namespace: Namespace, content: readonly Content[], nowMs: number): Plan => {
  if (namespace.metadata.deletionTimestamp === undefined) return { kind: "keep" };
  const left = content.filter(({ objects }) => objects.length > 0);
  if (left.length === 0) return { kind: "release" };
  const counts = left.map(({ resource, objects }) => `${resource} has ${objects.length} resource instances`).join(", ");
  const holders = new Map<string, number>();
  for (const { objects } of left) for (const { metadata } of objects) for (const f of metadata.finalizers ?? []) holders.set(f, (holders.get(f) ?? 0) + 1);
  const held = [...holders].map(([finalizer, count]) => `${finalizer} in ${count} resource instances`).join(", ");
  const remaining = condition("NamespaceContentRemaining", true, "SomeResourcesRemain", `Some resources are remaining: ${counts}`, nowMs);
  const finalizers = condition("NamespaceFinalizersRemaining", held !== "", held ? "SomeFinalizersRemain" : "ContentHasNoFinalizers",
    held ? `Some content in the namespace has finalizers remaining: ${held}` : "All content-preserving finalizers finished", nowMs);
  const conditions = withCondition(withCondition(namespace.status?.conditions ?? [], remaining), finalizers);
  return { kind: "empty", status: { phase: "Terminating", conditions: [...conditions] } };
};
