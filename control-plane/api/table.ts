// Server-side printing: what `kubectl get` shows. https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables
import type { KubeObject } from "../../base/kube/resources.ts";
import { shownAs } from "./resources/definition.ts";
import type { ResourceDefinition } from "./resources/definition.ts";

export interface ColumnDefinition {
  readonly name: string;
  readonly type: string;
  readonly format: string;
  readonly description: string;
  readonly priority: number;
}

export interface TableRow {
  readonly cells: readonly (string | number | boolean | null)[];
  readonly conditions?: readonly { readonly type: string; readonly status: string; readonly reason: string; readonly message: string }[];
  readonly object?: object;
}

/** The caller adds the list's resourceVersion, continue and remainingItemCount to `metadata`. */
export interface Table {
  readonly kind: "Table";
  readonly apiVersion: string;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly columnDefinitions: readonly ColumnDefinition[];
  readonly rows: readonly TableRow[];
}

export const columnDefinitions = (definition: ResourceDefinition): readonly ColumnDefinition[] =>
  definition.columns.map(({ name, type, format = "", description, priority }) => ({ name, type, format, description, priority }));

/** kubectl leaves rows of finished pods out of nothing any more, but still asks for this condition. */
const finished = (object: KubeObject): Pick<TableRow, "conditions"> => {
  if (object.kind !== "Pod") return {};
  const phase = (object as KubeObject & { status?: { phase?: string } }).status?.phase;
  if (phase !== "Succeeded" && phase !== "Failed") return {};
  return { conditions: [{ type: "Completed", status: "True", reason: phase, message: phase === "Failed" ? "The pod failed." : "The pod has completed successfully." }] };
};

export const toRow = (definition: ResourceDefinition, item: KubeObject, nowMs: number, includeObject: "None" | "Metadata" | "Object", apiVersion = "meta.k8s.io/v1"): TableRow => ({
  cells: definition.columns.map((c) => c.value(item, nowMs)),
  ...finished(item),
  ...(includeObject === "Object" ? { object: shownAs(definition, item) } : includeObject === "Metadata" ? { object: { kind: "PartialObjectMetadata", apiVersion, metadata: shownAs(definition, item).metadata } } : {}),
});

/** `apiVersion` is what the client accepts: meta.k8s.io/v1 or, for old ones, meta.k8s.io/v1beta1. */
export const toTable = (definition: ResourceDefinition, items: Iterable<KubeObject>, nowMs: number, includeObject: "None" | "Metadata" | "Object", apiVersion = "meta.k8s.io/v1"): Table => ({
  kind: "Table", apiVersion, metadata: {},
  columnDefinitions: columnDefinitions(definition),
  rows: Array.from(items, (item) => toRow(definition, item, nowMs, includeObject, apiVersion)),
});
