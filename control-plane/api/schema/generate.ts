// Build-time generator (`make gen`): derives Gantry's knowledge of the Kubernetes types from three sources and writes
// three files that are committed and checked for freshness:
//   base/kube/types.gen.ts                 TypeScript interfaces of the JSON form
//   control-plane/api/schema/schema.gen.json   fields, types, required-ness, protobuf numbers, merge keys (see schema.ts)
//   control-plane/api/schema/docs.gen.json     descriptions, apart because only `kubectl explain` reads them
// Sources: facts/kubernetes-protobuf-fields.json (wire truth: exact integer widths, Quantity, Time), facts/
// kubernetes-list-merge-keys.json (patch and apply keys), and @kubernetes/client-node's models (JSON names, what is
// required, descriptions). Where the JSON form flattens a Go inline struct, the model lacks the protobuf field's name.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { FieldSchema } from "./schema.ts";

const root = join(import.meta.dirname, "../../..");
const modelsDir = join(root, "node_modules/@kubernetes/client-node/dist/gen/models");

/** Kinds whose whole type graph is generated. A new kind starts with a line here. */
const ROOTS = [
  "core/v1.Pod", "core/v1.Node", "core/v1.Namespace", "core/v1.Event", "core/v1.ConfigMap", "core/v1.Secret", "core/v1.Binding",
  "core/v1.PodTemplateSpec", "core/v1.ReplicationController", "apps/v1.Deployment", "apps/v1.ReplicaSet", "apps/v1.DaemonSet", "apps/v1.StatefulSet", "apps/v1.ControllerRevision", "batch/v1.Job", "batch/v1.CronJob",
  "core/v1.PersistentVolume", "core/v1.PersistentVolumeClaim", "storage/v1.StorageClass", "node/v1.RuntimeClass", "scheduling/v1.PriorityClass", "policy/v1.PodDisruptionBudget", "policy/v1.Eviction", "core/v1.ResourceQuota", "core/v1.LimitRange", "coordination/v1.Lease", "autoscaling/v1.Scale", "gantry/v1.ScheduledScaler", "autoscaling/v2.HorizontalPodAutoscaler", "autoscaling/v1.HorizontalPodAutoscaler", "meta/v1.Status", "meta/v1.DeleteOptions", "meta/v1.ListMeta",
];

const PACKAGES: readonly (readonly [string, string])[] = [
  ["k8s.io.apimachinery.pkg.apis.meta.v1", "meta/v1"],
  ["k8s.io.apimachinery.pkg.runtime", "runtime"],
  ["k8s.io.apimachinery.pkg.util.intstr", "intstr"],
  ["k8s.io.apimachinery.pkg.api.resource", "resource"],
];

/** JSON scalars that are messages on the wire. */
const SCALAR_MESSAGES: Readonly<Record<string, string>> = {
  "meta/v1.Time": "time", "meta/v1.MicroTime": "microtime", "resource.Quantity": "quantity",
  "intstr.IntOrString": "intorstring", "meta/v1.FieldsV1": "fields", "runtime.RawExtension": "raw",
};

const shortName = (full: string): string => {
  const dot = full.lastIndexOf(".");
  const [pkg, name] = [full.slice(0, dot), full.slice(dot + 1)];
  const known = PACKAGES.find(([p]) => p === pkg);
  if (known) return `${known[1]}.${name}`;
  const api = /^k8s\.io\.api\.([a-z]+)\.(v\d+\w*)$/.exec(pkg);
  if (!api) throw new Error(`unknown protobuf package ${pkg}`);
  return `${api[1]}/${api[2]}.${name}`;
};

type ProtoField = [number, string, "repeated"?];
const factsOf = (file: string): Record<string, Record<string, ProtoField>> => JSON.parse(readFileSync(join(import.meta.dirname, "facts", file), "utf8")) as Record<string, Record<string, ProtoField>>;
/** Gantry's own kinds are written down in the same form. */
const rawFacts = { ...factsOf("kubernetes-protobuf-fields.json"), ...factsOf("gantry-protobuf-fields.json") };
const messages = new Map(Object.entries(rawFacts).map(([k, v]) => [shortName(k), v]));
interface MergeFact { patchStrategy?: string; patchMergeKey?: string; listType?: string; listMapKeys?: string[]; mapType?: string; structType?: string }
const mergeFacts = JSON.parse(readFileSync(join(import.meta.dirname, "facts/kubernetes-list-merge-keys.json"), "utf8")) as Record<string, Record<string, MergeFact>>;

interface Model { doc: string; props: Map<string, { required: boolean; doc: string }> }
const readModel = (key: string): Model | undefined => {
  const [pkg, name] = key.split(".") as [string, string];
  const [group, version] = pkg.split("/") as [string, string | undefined];
  const V = (version ?? "v1").toUpperCase();
  const G = group.charAt(0).toUpperCase() + group.slice(1);
  const path = [`${G}${V}${name}`, `${V}${name}`].map((n) => join(modelsDir, `${n}.d.ts`)).find((p) => existsSync(p));
  if (!path) return undefined;
  const text = readFileSync(path, "utf8");
  const clean = (s: string): string => s.replaceAll(/^\s*\* ?/gm, "").replaceAll("\\'", "'").replaceAll('\\"', '"').replaceAll(/\s+/g, " ").trim();
  const props = new Map<string, { required: boolean; doc: string }>();
  for (const m of text.matchAll(/(?:\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\s*)?^ {4}'([\w$]+)'(\?)?: /gm)) {
    props.set(m[2] === "_continue" ? "continue" : m[2]!.replace(/^_/, ""), { required: m[3] === undefined, doc: clean(m[1] ?? "") });
  }
  return { doc: clean(/\/\*\*([^/]*?)\*\/\s*export declare class/.exec(text)?.[1] ?? ""), props };
};

const schema: Record<string, Record<string, FieldSchema>> = {};
const docs: Record<string, { "": string } & Record<string, string>> = {};

const convert = (key: string): void => {
  if (key in schema) return;
  const fields = messages.get(key);
  if (!fields) throw new Error(`no protobuf facts for ${key}`);
  const model = readModel(key);
  const out: Record<string, FieldSchema> = {};
  const doc: { "": string } & Record<string, string> = { "": model?.doc ?? "" };
  schema[key] = out;
  docs[key] = doc;
  const place = (owner: string, ownerModel: Model | undefined, name: string, [no, type, repeated]: ProtoField, via: number | undefined): void => {
    const mapOf = /^map<string,(.+)>$/.exec(type)?.[1];
    const inner = mapOf ?? type;
    const isMessage = inner.startsWith("k8s.io.");
    const ref = isMessage ? shortName(inner) : inner;
    const scalar = SCALAR_MESSAGES[ref];
    if (isMessage && !scalar && !messages.has(ref)) return; // an alpha API's type: behind a feature gate that Gantry doesn't have
    const prop = (model ?? ownerModel)?.props.get(name);
    if (isMessage && !scalar && !repeated && !mapOf && model && !prop && via === undefined) {
      for (const [n, f] of Object.entries(messages.get(ref) ?? {})) place(ref, readModel(ref), n, f, no); // a Go inline struct
      return;
    }
    const merge = mergeFacts[owner]?.[name];
    out[name] = {
      t: scalar ?? ref, ...(isMessage && !scalar ? { r: 1 as const } : {}), ...(repeated ? { list: 1 as const } : {}), ...(mapOf ? { map: 1 as const } : {}),
      ...(prop?.required ? { req: 1 as const } : {}), no, ...(via === undefined ? {} : { via }),
      ...(merge?.patchStrategy ? { ps: merge.patchStrategy } : {}), ...(merge?.patchMergeKey ? { pk: merge.patchMergeKey } : {}),
      ...(merge?.listType ? { lt: merge.listType } : {}), ...(merge?.listMapKeys ? { lk: merge.listMapKeys } : {}),
      ...(merge?.structType === "atomic" || merge?.mapType === "atomic" ? { at: 1 as const } : {}),
    };
    if (prop?.doc) doc[name] = prop.doc;
    if (isMessage && !scalar) convert(ref);
  };
  for (const [name, field] of Object.entries(fields)) place(key, model, name, field, undefined);
};
for (const r of ROOTS) convert(r);

const isKind = (key: string): boolean => "metadata" in (schema[key] ?? {}) && /meta\/v1\.(ObjectMeta|ListMeta)/.test(schema[key]!["metadata"]!.t) && key !== "core/v1.PodTemplateSpec" && key !== "batch/v1.JobTemplateSpec" && key !== "core/v1.PersistentVolumeClaimTemplate";
const names = new Map<string, string>();
for (const key of Object.keys(schema)) {
  const [pkg, name] = key.split(".") as [string, string];
  const taken = [...names.values()].includes(name);
  names.set(key, taken ? pkg.split("/").map((p) => p.charAt(0).toUpperCase() + p.slice(1)).join("") + name : name);
}
const SCALARS: Readonly<Record<string, string>> = {
  string: "string", bool: "boolean", int32: "number", int64: "number", bytes: "string", time: "string", microtime: "string",
  quantity: "Quantity", intorstring: "number | string", fields: "Record<string, unknown>", raw: "unknown",
};
const lines = [
  "// Generated by control-plane/api/schema/generate.ts (`make gen`); do not edit.",
  "// The JSON form of the Kubernetes API types. Times are RFC 3339 strings; bytes are base64.",
  "",
  "/** A quantity as the API takes it: `\"500m\"`, `\"1Gi\"`, or a bare number; stored as a string. See quantity.ts. */",
  "export type Quantity = string;",
];
for (const [key, fields] of Object.entries(schema)) {
  lines.push("", `/** ${key} */`, `export interface ${names.get(key)!} {`);
  if (isKind(key)) lines.push("  apiVersion: string;", "  kind: string;");
  for (const [name, f] of Object.entries(fields)) {
    const base = f.r ? names.get(f.t)! : SCALARS[f.t];
    if (!base) throw new Error(`${key}.${name}: no TypeScript type for ${f.t}`);
    const type = f.list ? (base.includes("|") ? `(${base})[]` : `${base}[]`) : f.map ? `Record<string, ${base}>` : base;
    const meta = isKind(key) && name === "metadata" && f.t === "meta/v1.ObjectMeta";
    lines.push(`  ${/^\w+$/.test(name) ? name : JSON.stringify(name)}${f.req || meta ? "" : "?"}: ${type}${f.req || meta ? "" : " | undefined"};`);
  }
  lines.push("}");
}
const jsonLines = (v: Record<string, unknown>): string => `{\n${Object.entries(v).map(([k, x]) => `${JSON.stringify(k)}:${JSON.stringify(x)}`).join(",\n")}\n}\n`;
writeFileSync(join(root, "base/kube/types.gen.ts"), lines.join("\n") + "\n");
writeFileSync(join(import.meta.dirname, "schema.gen.json"), jsonLines(schema));
writeFileSync(join(import.meta.dirname, "docs.gen.json"), jsonLines(docs));
