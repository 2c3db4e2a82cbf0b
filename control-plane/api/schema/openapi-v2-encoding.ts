// Writes an OpenAPI v2 document (as JSON would hold it) in gnostic's protobuf encoding, the only one that kubectl asks for.
// Field numbers: https://github.com/google/gnostic/blob/main/openapiv2/OpenAPIv2.proto
import type { JsonSchema } from "./json-schema.ts";

export interface Parameter {
  readonly name: string;
  readonly in: "query" | "path" | "body";
  readonly description?: string;
  readonly required?: boolean;
  readonly type?: string;
  readonly schema?: JsonSchema;
}

export interface Operation {
  readonly description: string;
  readonly operationId: string;
  readonly consumes: readonly string[];
  readonly produces: readonly string[];
  readonly parameters: readonly Parameter[];
  readonly responses: Readonly<Record<string, { readonly description: string; readonly schema?: JsonSchema }>>;
  readonly "x-kubernetes-action": string;
  readonly "x-kubernetes-group-version-kind": unknown;
}

export type Method = "get" | "put" | "post" | "delete" | "patch";
export type PathItem = Readonly<Partial<Record<Method, Operation>>>;

export interface SwaggerDocument {
  readonly swagger: "2.0";
  readonly info: { readonly title: string; readonly version: string };
  readonly paths: Readonly<Record<string, PathItem>>;
  readonly definitions: Readonly<Record<string, JsonSchema>>;
}

const varint = (value: number): Buffer => {
  const bytes: number[] = [];
  let rest = value;
  for (; rest > 0x7f; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 0x80);
  return Buffer.from([...bytes, rest]);
};

const LENGTH_DELIMITED = 2;

const bytesField = (no: number, value: Buffer): Buffer => Buffer.concat([varint(no * 8 + LENGTH_DELIMITED), varint(value.length), value]);
const text = (no: number, value: string | undefined): Buffer => (value ? bytesField(no, Buffer.from(value)) : Buffer.alloc(0));
const texts = (no: number, values: readonly string[] | undefined): Buffer => Buffer.concat((values ?? []).map((v) => bytesField(no, Buffer.from(v))));
const flag = (no: number, value: boolean | undefined): Buffer => (value ? Buffer.concat([varint(no * 8), varint(1)]) : Buffer.alloc(0));
const message = (no: number, ...parts: readonly Buffer[]): Buffer => bytesField(no, Buffer.concat(parts));
const named = (no: number, name: string, value: readonly Buffer[]): Buffer => message(no, text(1, name), message(2, ...value));

/** NamedAny {1 name, 2 Any {2 yaml}}: JSON is YAML. */
const vendorExtensions = (no: number, object: object): Buffer =>
  Buffer.concat(Object.entries(object).filter(([k]) => k.startsWith("x-")).map(([k, v]) => named(no, k, [text(2, JSON.stringify(v))])));

const schema = (s: JsonSchema): Buffer[] => [
  text(1, s.$ref), text(2, s.format), text(4, s.description), texts(19, s.required),
  ...(s.additionalProperties ? [message(21, message(1, ...schema(s.additionalProperties)))] : []),
  ...(s.type ? [message(22, text(1, s.type))] : []),
  ...(s.items ? [message(23, message(1, ...schema(s.items)))] : []),
  ...(s.allOf ?? []).map((a) => message(24, ...schema(a))),
  ...(s.properties ? [message(25, ...Object.entries(s.properties).map(([name, p]) => named(1, name, schema(p))))] : []),
  vendorExtensions(31, s),
];

const parameter = (p: Parameter): Buffer => {
  if (p.in === "body") return message(1, text(1, p.description), text(2, p.name), text(3, p.in), flag(4, p.required), ...(p.schema ? [message(5, ...schema(p.schema))] : []));
  const common = [flag(1, p.required), text(2, p.in), text(3, p.description), text(4, p.name)];
  return message(2, p.in === "query" ? message(3, ...common, text(6, p.type)) : message(4, ...common, text(5, p.type)));
};

const operation = (o: Operation): Buffer[] => [
  text(3, o.description), text(5, o.operationId), texts(6, o.produces), texts(7, o.consumes),
  ...o.parameters.map((p) => message(8, message(1, parameter(p)))),
  message(9, ...Object.entries(o.responses).map(([code, r]) => named(1, code, [message(1, text(1, r.description), ...(r.schema ? [message(2, message(1, ...schema(r.schema)))] : []))]))),
  vendorExtensions(13, o),
];

const METHOD_FIELD: Readonly<Record<Method, number>> = { get: 2, put: 3, post: 4, delete: 5, patch: 8 };

const pathItem = (item: PathItem): Buffer[] => (Object.keys(item) as Method[]).map((m) => message(METHOD_FIELD[m], ...operation(item[m]!)));

export const encodeSwagger = (document: SwaggerDocument): Buffer => Buffer.concat([
  text(1, document.swagger),
  message(2, text(1, document.info.title), text(2, document.info.version)),
  message(8, ...Object.entries(document.paths).map(([path, item]) => named(2, path, pathItem(item)))),
  message(9, ...Object.entries(document.definitions).map(([name, s]) => named(1, name, schema(s)))),
]);
