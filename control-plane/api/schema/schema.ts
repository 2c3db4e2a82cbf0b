// The schema of the Kubernetes types that Gantry knows, as generate.ts derived it from the facts: which fields a message has,
// of which type, how lists merge and where the protobuf encoding keeps them. Read only; owned by generate.ts.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import data from "./schema.gen.json" with { type: "json" };

export type ScalarType =
  | "string" | "bool" | "int32" | "int64" | "bytes" | "time" | "microtime" | "quantity" | "intorstring" | "fields" | "raw";

export interface FieldSchema {
  /** A ScalarType, or with `r` the key of a message such as "core/v1.PodSpec". */
  readonly t: string;
  readonly r?: 1;
  readonly list?: 1;
  /** A map with string keys. */
  readonly map?: 1;
  /** Required: present in upstream's encoding even when zero. */
  readonly req?: 1;
  /** Protobuf field number. */
  readonly no: number;
  /** The field lies in a Go inline struct, which the wire holds as a message under this number. */
  readonly via?: number;
  /** Strategic merge: strategy ("merge", "replace", "retainKeys", "merge,retainKeys") and the merge key of a list. */
  readonly ps?: string;
  readonly pk?: string;
  /** Server-side apply: list type ("map", "set", "atomic") and the list's keys. */
  readonly lt?: string;
  readonly lk?: readonly string[];
  /** Server-side apply: an atomic struct or map. */
  readonly at?: 1;
}

export type MessageSchema = Readonly<Record<string, FieldSchema>>;

export const SCHEMA = data as unknown as Readonly<Record<string, MessageSchema>>;

/** Throws for a key that the generator did not produce: a mistake in a definition, not in a request. */
export const messageSchema = (key: string): MessageSchema => {
  const fields = SCHEMA[key];
  if (!fields) throw new Error(`schema.gen.json has no ${key}: add it to ROOTS in generate.ts`);
  return fields;
};

/**
 * Key of a kind as a client names it: ("coordination.k8s.io/v1", "Lease") is "coordination/v1.Lease"; undefined when unknown.
 * DeleteOptions belongs to every group: clients send it under the group of what they delete.
 */
export const schemaKeyOf = (apiVersion: string, kind: string): string | undefined => {
  const slash = apiVersion.lastIndexOf("/");
  const group = slash === -1 ? "core" : apiVersion.slice(0, slash).split(".")[0]!;
  const key = kind === "DeleteOptions" ? "meta/v1.DeleteOptions" : `${group}/${apiVersion.slice(slash + 1)}.${kind}`;
  return Object.hasOwn(SCHEMA, key) ? key : undefined;
};

/** Descriptions: message key -> field -> text ("" is the message's own). Read anew each time: only OpenAPI documents need it, and they are cached. */
export const readDocs = (): Readonly<Record<string, Readonly<Record<string, string>>>> =>
  JSON.parse(readFileSync(join(import.meta.dirname, "docs.gen.json"), "utf8")) as Record<string, Record<string, string>>;

/** Integers, booleans and the like that Go holds by value with `omitempty`: zero there means absent, and upstream never returns it. */
const GO_VALUE_FIELDS: ReadonlySet<string> = new Set([
  "hostNetwork", "hostPID", "hostIPC", "stdin", "stdinOnce", "tty", "readOnly", "paused", "unschedulable", "sslEnabled",
  "generation", "hostPort", "initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold",
  "minReadySeconds", "observedGeneration", "count", "sizeBytes", "signal", "updatedReplicas", "readyReplicas", "availableReplicas",
  "unavailableReplicas", "fullyLabeledReplicas", "active", "succeeded", "failed", "partition", "retryAfterSeconds", "code",
]);

/** Whether Go's encoder would leave out this decoded value (`omitempty`), so that stored objects look like upstream's. */
export const isOmitted = (name: string, field: FieldSchema, value: unknown): boolean => {
  if (field.req) return false;
  if (field.list || field.map) return typeof value === "object" && value !== null && Object.keys(value).length === 0;
  if (value === "") return true;
  return (value === 0 || value === false) && GO_VALUE_FIELDS.has(name);
};
