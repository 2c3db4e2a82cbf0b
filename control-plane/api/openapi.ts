// The OpenAPI documents, derived from the definitions and the schema: /openapi/v2 (protobuf, or JSON when asked for), /openapi/v3
// and /openapi/v3/{api/v1, apis/GROUP/VERSION} (JSON). kubectl validates, explains and merges by them. Documents are made when
// first asked for; only their bytes are kept.
import { createHash } from "node:crypto";
import type { ResourceDefinition } from "./resources/definition.ts";
import { DEFINITIONS } from "./resources/registry.ts";
import { listJsonSchema, messageJsonSchema, publicName, reachable, SCALAR_DEFINITIONS, type GroupVersionKind, type JsonSchema, type Reference } from "./schema/json-schema.ts";
import { encodeSwagger, type Method, type Operation, type Parameter, type PathItem, type SwaggerDocument } from "./schema/openapi-v2-encoding.ts";
import { readDocs } from "./schema/schema.ts";

export interface OpenApiDocument {
  readonly contentType: string;
  readonly bytes: Buffer;
  /** Without quotes; also the hash in the v3 index. */
  readonly etag: string;
}

/** Exactly this, whatever the client's Accept says: kubectl fails on an echoed `spec.v2@v1.0`. */
const V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
const INFO = { title: "Kubernetes", version: "v1.33.0" } as const;
const BODY_TYPES = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
const PATCH_TYPES = ["application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json"];
const SCALE: GroupVersionKind = { group: "autoscaling", version: "v1", kind: "Scale" };
const SCALE_SCHEMA = "autoscaling/v1.Scale";
const COMMON_SCHEMAS = ["meta/v1.Status", "meta/v1.DeleteOptions", "meta/v1.ListMeta"];

const v2Reference: Reference = (name, description) => ({ $ref: `#/definitions/${name}`, ...(description ? { description } : {}) });
// OpenAPI 3.0 ignores what stands beside a $ref.
const v3Reference: Reference = (name, description) => {
  const $ref = `#/components/schemas/${name}`;
  return description ? { description, allOf: [{ $ref }] } : { $ref };
};

const kindOf = ({ type }: ResourceDefinition): GroupVersionKind => ({ group: type.group, version: type.version, kind: type.kind });

const query = (name: string, type: string, description: string): Parameter => ({ name, in: "query", type, description });
const PRETTY = query("pretty", "string", "If 'true', then the output is pretty printed.");
const DRY_RUN = query("dryRun", "string", "When present, indicates that modifications should not be persisted. Valid values are: All.");
const FIELD_VALIDATION = query("fieldValidation", "string", "What the server does with unknown or duplicate fields: Ignore, Warn (the default) or Strict.");
const FIELD_MANAGER = query("fieldManager", "string", "A name for the actor that makes these changes.");
const LIST_PARAMETERS = [
  query("labelSelector", "string", "Restricts the list by labels."), query("fieldSelector", "string", "Restricts the list by fields."),
  query("limit", "integer", "The most items to return in one response."), query("continue", "string", "The token that the previous page ended with."),
  query("resourceVersion", "string", "Which state the request may be served from."), query("resourceVersionMatch", "string", "How resourceVersion applies: Exact or NotOlderThan."),
  query("timeoutSeconds", "integer", "Ends a watch after this time."), query("watch", "boolean", "Watch for changes instead of listing."),
  query("allowWatchBookmarks", "boolean", "Ask for BOOKMARK events."), query("sendInitialEvents", "boolean", "Begin a watch with what there is."),
];
const WRITE_PARAMETERS = [DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION];
const DELETE_PARAMETERS = [
  DRY_RUN, query("gracePeriodSeconds", "integer", "Seconds before the object should be deleted."), query("propagationPolicy", "string", "Orphan, Background or Foreground."),
];

interface Target {
  readonly path: string;
  readonly kind: GroupVersionKind;
  readonly schema: string;
  readonly methods: Readonly<Partial<Record<Method, string>>>;
  readonly id: string;
}

const ACTION_OF: Readonly<Record<string, string>> = { create: "post", list: "list", read: "get", replace: "put", patch: "patch", delete: "delete", deletecollection: "deletecollection" };

/** Which paths there are, and what each method does there. */
const targetsOf = (d: ResourceDefinition): readonly Target[] => {
  const { type, subresources } = d;
  const root = type.group === "" ? `/api/${type.version}` : `/apis/${type.group}/${type.version}`;
  const collection = `${root}${type.namespaced ? "/namespaces/{namespace}" : ""}/${type.plural}`;
  const item = `${collection}/{name}`;
  const scope = `${type.group.split(".")[0] || "core"}${type.version}${type.namespaced ? "Namespaced" : ""}${type.kind}`.replace(/^./, (c) => c.toUpperCase()).replace(/(?<=^[A-Za-z]+)v(?=\d)/, "V");
  const kind = kindOf(d);
  const one = { get: "read", put: "replace", patch: "patch" };
  return [
    { path: collection, kind, schema: d.schema, id: scope, methods: { get: "list", post: "create", ...(type.name === "namespaces" ? {} : { delete: "deletecollection" }) } },
    { path: item, kind, schema: d.schema, id: scope, methods: { ...one, delete: "delete" } },
    ...(subresources.status ? [{ path: `${item}/status`, kind, schema: d.schema, id: `${scope}Status`, methods: one }] : []),
    ...(subresources.scale ? [{ path: `${item}/scale`, kind: SCALE, schema: SCALE_SCHEMA, id: `${scope}Scale`, methods: one }] : []),
  ];
};

const parametersOf = (target: Target, action: string, reference: Reference): readonly Parameter[] => {
  const inPath = [...target.path.matchAll(/\{(\w+)\}/g)].map(([, name]): Parameter => ({ name: name!, in: "path", required: true, type: "string", description: `The object's ${name!}.` }));
  const body = (schema: JsonSchema, required: boolean): Parameter => ({ name: "body", in: "body", required, schema });
  switch (action) {
    case "list": return [...inPath, PRETTY, ...LIST_PARAMETERS];
    case "create": case "replace": return [...inPath, PRETTY, ...WRITE_PARAMETERS, body(reference(publicName(target.schema)), true)];
    case "patch": return [...inPath, PRETTY, ...WRITE_PARAMETERS, query("force", "boolean", "Take over conflicting fields (apply patches)."), body({ type: "object" }, true)];
    case "delete": return [...inPath, PRETTY, ...DELETE_PARAMETERS, body(reference(publicName("meta/v1.DeleteOptions")), false)];
    case "deletecollection": return [...inPath, PRETTY, ...LIST_PARAMETERS, ...DELETE_PARAMETERS, body(reference(publicName("meta/v1.DeleteOptions")), false)];
    default: return [...inPath, PRETTY];
  }
};

const operationOf = (target: Target, action: string, reference: Reference): Operation => {
  const answer = action === "list" ? `${publicName(target.schema)}List` : action.startsWith("delete") ? publicName("meta/v1.Status") : publicName(target.schema);
  const reads = action === "list" || action === "read";
  return {
    description: `${action} ${target.kind.kind}`,
    operationId: `${action}${target.id}`,
    consumes: action === "patch" ? PATCH_TYPES : reads ? [] : BODY_TYPES,
    produces: ["application/json", "application/yaml"],
    parameters: parametersOf(target, action, reference),
    responses: { [action === "create" ? "201" : "200"]: { description: "OK", schema: reference(answer) } },
    "x-kubernetes-action": ACTION_OF[action]!,
    "x-kubernetes-group-version-kind": target.kind,
  };
};

const pathsOf = (definitions: readonly ResourceDefinition[], reference: Reference): Record<string, PathItem> =>
  Object.fromEntries(definitions.flatMap(targetsOf).map((target) =>
    [target.path, Object.fromEntries(Object.entries(target.methods).map(([method, action]) => [method, operationOf(target, action, reference)]))]));

const schemasOf = (definitions: readonly ResourceDefinition[], all: readonly ResourceDefinition[], reference: Reference): Record<string, JsonSchema> => {
  const docs = readDocs();
  const kinds = new Map<string, readonly GroupVersionKind[]>(definitions.map((d) => [d.schema, [kindOf(d)]]));
  const groups = [...new Map(all.map((d) => [d.type.apiVersion, d.type])).values()];
  kinds.set("meta/v1.DeleteOptions", groups.map(({ group, version }) => ({ group, version, kind: "DeleteOptions" })));
  kinds.set("meta/v1.Status", [{ group: "", version: "v1", kind: "Status" }]);
  kinds.set(SCALE_SCHEMA, [SCALE]);
  const scaled = definitions.some((d) => d.subresources.scale) ? [SCALE_SCHEMA] : [];
  const keys = reachable([...definitions.map((d) => d.schema), ...COMMON_SCHEMAS, ...scaled]);
  return Object.fromEntries([
    ...Object.entries(SCALAR_DEFINITIONS),
    ...keys.map((key) => [publicName(key), messageJsonSchema(key, docs, kinds.get(key) ?? [], reference)] as const),
    ...definitions.map((d) => [`${publicName(d.schema)}List`, listJsonSchema(d.schema, kindOf(d), reference)] as const),
  ].sort(([a], [b]) => (a < b ? -1 : 1)));
};

const documentOf = (contentType: string, bytes: Buffer): OpenApiDocument => ({ contentType, bytes, etag: createHash("sha256").update(bytes).digest("hex").toUpperCase() });

const json = (value: unknown): OpenApiDocument => documentOf("application/json", Buffer.from(JSON.stringify(value)));

const swagger = (definitions: readonly ResourceDefinition[]): SwaggerDocument =>
  ({ swagger: "2.0", info: INFO, paths: pathsOf(definitions, v2Reference), definitions: schemasOf(definitions, definitions, v2Reference) });

const toV3Parameter = ({ name, in: where, description, required, type }: Parameter): object =>
  ({ name, in: where, ...(description ? { description } : {}), ...(required ? { required } : {}), schema: { type, uniqueItems: true } });

/** The v2 operation in the shape of OpenAPI 3: bodies apart from parameters, media types with each schema. */
const toV3Operation = ({ consumes, produces, parameters, responses, ...rest }: Operation): object => {
  const body = parameters.find((p) => p.in === "body");
  const content = (types: readonly string[], schema: JsonSchema | undefined): object => Object.fromEntries(types.map((t) => [t, schema ? { schema } : {}]));
  return {
    ...rest,
    parameters: parameters.filter((p) => p.in !== "body").map(toV3Parameter),
    ...(body ? { requestBody: { content: content(consumes, body.schema), ...(body.required ? { required: true } : {}) } } : {}),
    responses: Object.fromEntries(Object.entries(responses).map(([code, r]) => [code, { description: r.description, content: content(produces, r.schema) }])),
  };
};

const v3Document = (definitions: readonly ResourceDefinition[], all: readonly ResourceDefinition[]): object => ({
  openapi: "3.0.0", info: INFO,
  paths: Object.fromEntries(Object.entries(pathsOf(definitions, v3Reference)).map(([path, item]) =>
    [path, Object.fromEntries(Object.entries(item).map(([method, operation]) => [method, toV3Operation(operation)]))])),
  components: { schemas: schemasOf(definitions, all, v3Reference) },
});

/**
 * Serves the documents of `definitions`: path ("/openapi/v2", "/openapi/v3/apis/apps/v1", without query) and Accept header ->
 * document, or undefined when there is none.
 */
export const createOpenApi = (definitions: readonly ResourceDefinition[]): ((path: string, accept: string | undefined) => OpenApiDocument | undefined) => {
  const cache = new Map<string, OpenApiDocument>();
  const once = (key: string, make: () => OpenApiDocument): OpenApiDocument => {
    const document = cache.get(key) ?? make();
    cache.set(key, document);
    return document;
  };
  const groups = Map.groupBy(definitions, ({ type }) => (type.group === "" ? `api/${type.version}` : `apis/${type.group}/${type.version}`));
  const group = (name: string): OpenApiDocument | undefined => {
    const members = groups.get(name);
    return members && once(name, () => json(v3Document(members, definitions)));
  };
  const index = (): OpenApiDocument => json({
    paths: Object.fromEntries([...groups.keys()].map((name) => [name, { serverRelativeURL: `/openapi/v3/${name}?hash=${group(name)!.etag}` }])),
  });
  return (path, accept) => {
    if (path === "/openapi/v2") {
      return accept?.includes("protobuf") ? once("v2", () => documentOf(V2_PROTOBUF, encodeSwagger(swagger(definitions)))) : once("v2 json", () => json(swagger(definitions)));
    }
    if (path === "/openapi/v3") return once("v3", index);
    return path.startsWith("/openapi/v3/") ? group(path.slice("/openapi/v3/".length)) : undefined;
  };
};

/** The documents of everything that Gantry serves. */
export const openapiDocument = createOpenApi(DEFINITIONS);
