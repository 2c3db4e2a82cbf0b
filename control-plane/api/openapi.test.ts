import test from "ava";
import { createOpenApi } from "./openapi.ts";
import { DEFINITIONS } from "./resources/registry.ts";

const documents = createOpenApi(DEFINITIONS);
const V2_ACCEPT = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
const read = (path: string, accept = "application/json"): Record<string, any> => JSON.parse(documents(path, accept)!.bytes.toString()) as Record<string, any>; // oxlint-disable-line typescript/no-explicit-any

/** The fields of a protobuf message: number -> values, from the specification. */
const fieldsOf = (bytes: Buffer): Map<number, Buffer[]> => {
  const fields = new Map<number, Buffer[]>();
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes[at++]!;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
  };
  while (at < bytes.length) {
    const tag = varint();
    const length = tag % 8 === 0 ? 0 : varint();
    if (tag % 8 === 0) varint();
    fields.set(Math.floor(tag / 8), [...(fields.get(Math.floor(tag / 8)) ?? []), bytes.subarray(at, at + length)]);
    at += length;
  }
  return fields;
};
const namedValues = (bytes: Buffer, no: number): Map<string, Buffer> => new Map((fieldsOf(bytes).get(no) ?? []).map((entry) => {
  const fields = fieldsOf(entry);
  return [fields.get(1)![0]!.toString(), fields.get(2)?.[0] ?? Buffer.alloc(0)] as const;
}));

test("v2 is served as protobuf under the one content type that kubectl takes", (t) => {
  const document = documents("/openapi/v2", V2_ACCEPT)!;
  t.is(document.contentType, "application/com.github.proto-openapi.spec.v2.v1.0+protobuf");
  const root = fieldsOf(document.bytes);
  t.is(root.get(1)![0]!.toString(), "2.0");
  const json = read("/openapi/v2");
  t.deepEqual([...namedValues(root.get(9)![0]!, 1).keys()], Object.keys(json["definitions"]));
  t.deepEqual([...namedValues(root.get(8)![0]!, 2).keys()], Object.keys(json["paths"]));
});

test("v2's definitions carry merge keys and kinds as YAML extensions", (t) => {
  const definitions = namedValues(fieldsOf(documents("/openapi/v2", V2_ACCEPT)!.bytes).get(9)![0]!, 1);
  const extensionsOf = (schema: Buffer): Record<string, unknown> => Object.fromEntries([...namedValues(schema, 31)].map(([k, any]) => [k, JSON.parse(fieldsOf(any).get(2)![0]!.toString()) as unknown]));
  t.deepEqual(extensionsOf(definitions.get("io.k8s.api.apps.v1.Deployment")!)["x-kubernetes-group-version-kind"], [{ group: "apps", version: "v1", kind: "Deployment" }]);
  const podSpec = namedValues(fieldsOf(definitions.get("io.k8s.api.core.v1.PodSpec")!).get(25)![0]!, 1);
  t.like(extensionsOf(podSpec.get("containers")!), { "x-kubernetes-patch-merge-key": "name", "x-kubernetes-patch-strategy": "merge" });
});

test("every reference in every document leads somewhere", (t) => {
  const paths = ["/openapi/v2", ...Object.keys(read("/openapi/v3")["paths"]).map((p) => `/openapi/v3/${p}`)];
  t.deepEqual(paths, ["/openapi/v2", "/openapi/v3/api/v1", "/openapi/v3/apis/apps/v1", "/openapi/v3/apis/autoscaling/v2", "/openapi/v3/apis/autoscaling/v1", "/openapi/v3/apis/batch/v1", "/openapi/v3/apis/coordination.k8s.io/v1", "/openapi/v3/apis/storage.k8s.io/v1", "/openapi/v3/apis/node.k8s.io/v1", "/openapi/v3/apis/scheduling.k8s.io/v1", "/openapi/v3/apis/policy/v1", "/openapi/v3/apis/gantry.io/v1"]);
  for (const path of paths) {
    const document = read(path);
    const known = new Set(Object.keys(document["definitions"] ?? document["components"].schemas));
    const references = [...JSON.stringify(document).matchAll(/"\$ref":"#\/(?:definitions|components\/schemas)\/([^"]+)"/g)].map(([, name]) => name!);
    t.true(references.length > 20);
    t.deepEqual([...new Set(references.filter((r) => !known.has(r)))], []);
  }
});

test("each kind's PATCH takes fieldValidation and dryRun: kubectl validates at the server then", (t) => {
  for (const { type } of DEFINITIONS) {
    const group = type.group === "" ? `api/${type.version}` : `apis/${type.group}/${type.version}`;
    const patch = read(`/openapi/v3/${group}`)["paths"][`/${group}${type.namespaced ? "/namespaces/{namespace}" : ""}/${type.plural}/{name}`].patch;
    t.deepEqual(patch["x-kubernetes-group-version-kind"], { group: type.group, version: type.version, kind: type.kind });
    const inQuery = (patch.parameters as { name: string; in: string }[]).filter((p) => p.in === "query").map((p) => p.name);
    t.true(inQuery.includes("fieldValidation") && inQuery.includes("dryRun"));
  }
});

test("operation ids are nobody else's", (t) => {
  const ids = [...JSON.stringify(read("/openapi/v2")).matchAll(/"operationId":"([^"]+)"/g)].map(([, id]) => id!);
  t.true(ids.length > 60);
  t.is(new Set(ids).size, ids.length);
  t.true(ids.includes("patchAppsV1NamespacedDeployment") && ids.includes("readCoreV1Node"));
});

test("the v3 index names each document by its hash, and bytes are made once", (t) => {
  const index = read("/openapi/v3")["paths"] as Record<string, { serverRelativeURL: string }>;
  for (const [name, { serverRelativeURL }] of Object.entries(index)) {
    const document = documents(`/openapi/v3/${name}`, undefined)!;
    t.is(serverRelativeURL, `/openapi/v3/${name}?hash=${document.etag}`);
    t.is(documents(`/openapi/v3/${name}`, undefined), document);
  }
  t.is(documents("/openapi/v3/apis/frob/v1", undefined), undefined);
  t.is(documents("/openapi", undefined), undefined);
});
