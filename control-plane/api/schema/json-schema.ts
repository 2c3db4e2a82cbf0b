// Writes the schema as JSON Schema, in the dialect of Kubernetes' OpenAPI documents: what `kubectl explain`, `kubectl apply` and
// editors read. Pure; see openapi.ts for the documents around it.
import { messageSchema, type FieldSchema, type ScalarType } from "./schema.ts";

export interface GroupVersionKind {
  readonly group: string;
  readonly version: string;
  readonly kind: string;
}

export interface JsonSchema {
  readonly $ref?: string;
  readonly allOf?: readonly JsonSchema[];
  readonly description?: string;
  readonly type?: string;
  readonly format?: string;
  readonly items?: JsonSchema;
  readonly additionalProperties?: JsonSchema;
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
  readonly [extension: `x-kubernetes-${string}`]: unknown;
}

const META = "io.k8s.apimachinery.pkg.apis.meta.v1";
const TIME = `${META}.Time`;
const MICRO_TIME = `${META}.MicroTime`;
const QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const FIELDS = `${META}.FieldsV1`;
const RAW = "io.k8s.apimachinery.pkg.runtime.RawExtension";

/** Upstream's public name of a type: "core/v1.Pod" is "io.k8s.api.core.v1.Pod". */
export const publicName = (key: string): string => (key.startsWith("meta/v1.") ? `${META}.${key.slice("meta/v1.".length)}` : `io.k8s.api.${key.replace("/", ".")}`);

export const SCALAR_DEFINITIONS: Readonly<Record<string, JsonSchema>> = {
  [TIME]: { description: "Time is a wrapper around time.Time which supports correct marshaling to YAML and JSON.", type: "string", format: "date-time" },
  [MICRO_TIME]: { description: "MicroTime is version of Time with microsecond level precision.", type: "string", format: "date-time" },
  [QUANTITY]: { description: "Quantity is a fixed-point representation of a number, such as 500m, 1.5, 64Mi or 2G.", type: "string" },
  [INT_OR_STRING]: { description: "IntOrString is a type that can hold an int32 or a string.", type: "string", format: "int-or-string" },
  [FIELDS]: { description: "FieldsV1 stores a set of fields in a data structure like a Trie, in JSON format.", type: "object" },
  [RAW]: { description: "RawExtension is used to hold extensions in external versions.", type: "object" },
};

const SCALARS: Readonly<Record<ScalarType, JsonSchema | string>> = {
  string: { type: "string" }, bool: { type: "boolean" }, int32: { type: "integer", format: "int32" }, int64: { type: "integer", format: "int64" },
  bytes: { type: "string", format: "byte" }, time: TIME, microtime: MICRO_TIME, quantity: QUANTITY, intorstring: INT_OR_STRING, fields: FIELDS, raw: RAW,
};

/** How a document refers to a type: OpenAPI v2 and v3 differ. */
export type Reference = (name: string, description?: string) => JsonSchema;

const describe = (schema: JsonSchema, description: string | undefined): JsonSchema => (description ? { description, ...schema } : schema);

const extensions = (field: FieldSchema): JsonSchema => ({
  ...(field.lt ? { "x-kubernetes-list-type": field.lt } : {}),
  ...(field.lk ? { "x-kubernetes-list-map-keys": field.lk } : {}),
  ...(field.at ? { "x-kubernetes-map-type": "atomic" } : {}),
  ...(field.pk ? { "x-kubernetes-patch-merge-key": field.pk } : {}),
  ...(field.ps ? { "x-kubernetes-patch-strategy": field.ps } : {}),
});

const property = (field: FieldSchema, reference: Reference, description: string | undefined): JsonSchema => {
  const scalar = field.r ? publicName(field.t) : SCALARS[field.t as ScalarType];
  const one = (text?: string): JsonSchema => (typeof scalar === "string" ? reference(scalar, text) : describe(scalar, text));
  if (field.list) return { ...describe({ type: "array", items: one() }, description), ...extensions(field) };
  if (field.map) return { ...describe({ type: "object", additionalProperties: one() }, description), ...extensions(field) };
  return { ...one(description), ...extensions(field) };
};

const TYPE_META: Readonly<Record<string, JsonSchema>> = {
  apiVersion: {
    description: "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources",
    type: "string",
  },
  kind: {
    description: "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds",
    type: "string",
  },
};

/** Descriptions: type -> field -> text, "" for the type itself. Upstream's sources lack those of fields that are references. */
export type Docs = Readonly<Record<string, Readonly<Record<string, string>>>>;

const docOf = (docs: Docs, key: string, name: string, field: FieldSchema): string | undefined => docs[key]?.[name] ?? (field.r ? docs[field.t]?.[""] : undefined);

/** One type. `kinds` are the group-version-kinds that it is the body of; none for the types within. */
export const messageJsonSchema = (key: string, docs: Docs, kinds: readonly GroupVersionKind[], reference: Reference): JsonSchema => {
  const fields = Object.entries(messageSchema(key));
  const required = fields.filter(([, f]) => f.req).map(([name]) => name).sort();
  const properties = Object.fromEntries([
    ...(kinds.length > 0 ? Object.entries(TYPE_META) : []),
    ...fields.map(([name, f]) => [name, property(f, reference, docOf(docs, key, name, f))] as const),
  ].sort(([a], [b]) => (a < b ? -1 : 1)));
  return {
    ...describe({ type: "object", properties }, docs[key]?.[""]),
    ...(required.length > 0 ? { required } : {}),
    ...(kinds.length > 0 ? { "x-kubernetes-group-version-kind": kinds } : {}),
  };
};

/** The list form of a kind. */
export const listJsonSchema = (key: string, kind: GroupVersionKind, reference: Reference): JsonSchema => ({
  description: `${kind.kind}List is a list of ${kind.kind}.`,
  type: "object",
  properties: { ...TYPE_META, items: { description: "Items of the list.", type: "array", items: reference(publicName(key)) }, metadata: reference(`${META}.ListMeta`, "Standard list metadata.") },
  required: ["items"],
  "x-kubernetes-group-version-kind": [{ ...kind, kind: `${kind.kind}List` }],
});

/** The types that `keys` reach, themselves included. */
export const reachable = (keys: readonly string[]): readonly string[] => {
  const seen = new Set(keys);
  for (const key of seen) for (const field of Object.values(messageSchema(key))) if (field.r) seen.add(field.t);
  return [...seen].sort();
};
