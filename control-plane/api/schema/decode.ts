// Turns what a client sent (parsed JSON or YAML) into an object of a known type: checks every field's type, reports fields
// that don't exist, and normalizes as Go's decoder and encoder together do (nulls and empty values go, quantities, times and
// base64 get their canonical form), so that equal objects are stored equally. Pure.
import { GantryError, type FieldCause } from "../../../base/errors.ts";
import type { KubeObject } from "../../../base/kube/resources.ts";
import { isOmitted, messageSchema, type FieldSchema, type ScalarType } from "./schema.ts";
import { normalizeBytes, normalizeMicroTime, normalizeQuantity, normalizeTime, type Scalar } from "./scalars.ts";

export interface UnknownField {
  /** `spec.containers[0].imagePullPolicyy` */
  readonly path: string;
}

export interface Decoded {
  /** Only as good as `causes` is empty: faulty fields are left out. */
  readonly object: KubeObject;
  readonly unknownFields: readonly UnknownField[];
  readonly causes: readonly FieldCause[];
}

interface State {
  readonly unknownFields: UnknownField[];
  readonly causes: FieldCause[];
}

/** Where a value stands: for users with indexes, for Go's message without, led by the innermost struct's name. */
interface Place {
  readonly path: string;
  readonly goPath: string;
  readonly struct: string;
}

const jsonKind = (value: unknown): string =>
  value === null ? "null" : Array.isArray(value) ? "array" : typeof value === "boolean" ? "bool" : typeof value;

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null && !Array.isArray(value);

const goType = (field: FieldSchema): string => {
  const base = field.r ? field.t.replace(/^.*\/(?=v\d)/, "") : field.t;
  return field.list ? `[]${base}` : field.map ? `map[string]${base}` : base;
};

const shorten = (value: unknown): string => {
  const text = JSON.stringify(value) ?? "undefined";
  return text.length > 64 ? `${text.slice(0, 61)}...` : text;
};

const typeFault = (state: State, place: Place, value: unknown, type: string): undefined => {
  const literal = typeof value === "number" && type.startsWith("int") ? ` ${value}` : "";
  const got = typeof value === "string" || typeof value === "boolean" ? ` (got ${shorten(value)})` : "";
  state.causes.push({
    field: place.path, reason: "FieldValueTypeInvalid",
    message: `json: cannot unmarshal ${jsonKind(value)}${literal} into Go struct field ${place.struct}.${place.goPath} of type ${type}${got}`,
  });
};

const normalized = (state: State, place: Place, result: Scalar): string | undefined => {
  if ("value" in result) return result.value;
  state.causes.push({ field: place.path, reason: "FieldValueInvalid", message: `${place.path}: ${result.fault}` });
  return undefined;
};

const INT32_LIMIT = 2 ** 31;

const decodeScalar = (state: State, place: Place, type: ScalarType, value: unknown): unknown => {
  switch (type) {
    case "string": return typeof value === "string" ? value : typeFault(state, place, value, "string");
    case "bool": return typeof value === "boolean" ? value : typeFault(state, place, value, "bool");
    case "int32":
      return typeof value === "number" && Number.isInteger(value) && value >= -INT32_LIMIT && value < INT32_LIMIT ? value : typeFault(state, place, value, "int32");
    case "int64":
      return typeof value === "number" && Number.isInteger(value) && Math.abs(value) <= 2 ** 63 ? value : typeFault(state, place, value, "int64");
    case "intorstring":
      if (typeof value === "number") return decodeScalar(state, place, "int32", value);
      return typeof value === "string" ? value : typeFault(state, place, value, "intstr.IntOrString");
    case "quantity":
      return typeof value === "string" || typeof value === "number" ? normalized(state, place, normalizeQuantity(value)) : typeFault(state, place, value, "resource.Quantity");
    case "time": return typeof value === "string" ? normalized(state, place, normalizeTime(value)) : typeFault(state, place, value, "v1.Time");
    case "microtime": return typeof value === "string" ? normalized(state, place, normalizeMicroTime(value)) : typeFault(state, place, value, "v1.MicroTime");
    case "bytes": return typeof value === "string" ? normalized(state, place, normalizeBytes(value)) : typeFault(state, place, value, "[]byte");
    case "fields": return isObject(value) ? value : typeFault(state, place, value, "v1.FieldsV1");
    case "raw": return value;
  }
};

/** What Go's zero value of a null list element or map value is. */
const zeroOf = (field: FieldSchema): unknown => {
  if (field.r) return {};
  if (field.t === "bool") return false;
  if (field.t === "quantity") return "0";
  return field.t.startsWith("int") ? 0 : "";
};

const decodeOne = (state: State, place: Place, field: FieldSchema, value: unknown): unknown => {
  if (value === null) return zeroOf(field);
  return field.r ? decodeMessage(state, place, field.t, value) : decodeScalar(state, place, field.t as ScalarType, value);
};

const decodeField = (state: State, place: Place, field: FieldSchema, value: unknown): unknown => {
  if (field.list) {
    if (!Array.isArray(value)) return typeFault(state, place, value, goType(field));
    return value.map((v, i) => decodeOne(state, { ...place, path: `${place.path}[${i}]` }, field, v)).filter((v) => v !== undefined);
  }
  if (field.map) {
    if (!isObject(value)) return typeFault(state, place, value, goType(field));
    // fromEntries defines properties, so a key "__proto__" stays a key
    return Object.fromEntries(Object.entries(value)
      .map(([k, v]) => [k, decodeOne(state, { ...place, path: `${place.path}.${k}` }, field, v)] as const)
      .filter(([, v]) => v !== undefined));
  }
  return decodeOne(state, place, field, value);
};

const TYPE_META: FieldSchema = { t: "string", no: 0 };

const decodeMessage = (state: State, at: Place, key: string, value: unknown, root = false): Record<string, unknown> | undefined => {
  if (!isObject(value)) return typeFault(state, at, value, goType({ t: key, r: 1, no: 0 }));
  const fields = messageSchema(key);
  const struct = key.slice(key.lastIndexOf(".") + 1);
  const out: Record<string, unknown> = {};
  for (const name of Object.keys(value)) {
    const field = Object.hasOwn(fields, name) ? fields[name] : root && (name === "apiVersion" || name === "kind") ? TYPE_META : undefined;
    const path = at.path === "" ? name : `${at.path}.${name}`;
    if (!field) {
      state.unknownFields.push({ path });
      continue;
    }
    if (value[name] === null) continue;
    const decoded = decodeField(state, { path, goPath: at.goPath === "" ? name : `${at.goPath}.${name}`, struct }, field, value[name]);
    if (decoded !== undefined && !isOmitted(name, field, decoded)) out[name] = decoded;
  }
  return out;
};

/**
 * `schemaKey` as in schema.gen.json, such as "apps/v1.Deployment". A cause's `message` is upstream's whole sentence. The result
 * always has metadata when the type has.
 */
export const decodeObject = (schemaKey: string, input: unknown): Decoded => {
  const state: State = { unknownFields: [], causes: [] };
  const object = decodeMessage(state, { path: "", goPath: "", struct: schemaKey.slice(schemaKey.lastIndexOf(".") + 1) }, schemaKey, input, true) ?? {};
  if ("metadata" in messageSchema(schemaKey)) object["metadata"] ??= {};
  return { object: object as unknown as KubeObject, unknownFields: state.unknownFields, causes: state.causes };
};

/** Upstream's words for an unknown field: in the Warning header, or in a strict decoding error. */
export const unknownFieldMessage = ({ path }: UnknownField): string => `unknown field "${path}"`;

const cannotHandle = (type: { readonly kind: string; readonly version: string }, why: string, causes: readonly FieldCause[]): GantryError =>
  new GantryError("BadRequest", `${type.kind} in version "${type.version}" cannot be handled as a ${type.kind}: ${why}`, { causes });

/** BadRequest for fields of a wrong type. */
export const decodeError = (type: { readonly kind: string; readonly version: string }, causes: readonly FieldCause[]): GantryError =>
  cannotHandle(type, causes.map((c) => c.message).join(", "), causes);

/** BadRequest for fieldValidation=Strict. `faults` are messages such as unknownFieldMessage's and duplicateFields'. */
export const strictDecodingError = (type: { readonly kind: string; readonly version: string }, faults: readonly string[]): GantryError =>
  cannotHandle(type, `strict decoding error: ${faults.join(", ")}`, []);
