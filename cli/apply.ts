// `apply`: three-way merge as kubectl's client-side apply, with the same annotation, so that the two can take turns. The patch is a
// JSON merge patch (RFC 7386): maps are merged key by key, lists are taken from the manifest whole and defaulted again by the server.
import { isDeepStrictEqual } from "node:util";
import { isCode } from "../base/errors.ts";
import type { KubeObject, ResourceType } from "../base/kube/resources.ts";
import { applyJsonMerge } from "../control-plane/api/patch/json-merge.ts";
import type { ApiClient } from "./api-client.ts";
import type { DryRun } from "./dry-run.ts";

const LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration";

const isMap = (v: unknown): v is Record<string, unknown> => typeof v === "object" && v !== null && !Array.isArray(v);

/**
 * What turns `current` into what `next` says, taking away what `previous` said and `next` doesn't. Undefined: nothing to do. Pure.
 * In maps, what somebody else added stays; a list becomes what `next` says.
 */
export const threeWayPatch = (previous: unknown, current: unknown, next: unknown): unknown => {
  if (!isMap(next)) return isDeepStrictEqual(next, current) || (next === null && current === undefined) ? undefined : next;
  const before = isMap(previous) ? previous : {};
  const now = isMap(current) ? current : {};
  const patch: Record<string, unknown> = {};
  for (const key of Object.keys(before)) if (!(key in next) && key in now) patch[key] = null;
  for (const [key, value] of Object.entries(next)) {
    const part = Array.isArray(value) && hasList(before[key], now[key], value) ? undefined : threeWayPatch(before[key], now[key], value);
    if (part !== undefined) patch[key] = part;
  }
  return Object.keys(patch).length > 0 || !isMap(current) ? patch : undefined;
};

/**
 * The server adds defaults to list items: a list is as wanted when each item holds at least what the manifest says. When the manifest said
 * something else before, that may be what the item holds more: then it is not.
 */
const hasList = (previous: unknown, current: unknown, wanted: readonly unknown[]): boolean =>
  covers(current, wanted) && (previous === undefined || isDeepStrictEqual(previous, wanted));

const covers = (current: unknown, wanted: unknown): boolean => {
  if (Array.isArray(wanted)) return Array.isArray(current) && current.length === wanted.length && wanted.every((w, i) => covers(current[i], w));
  if (isMap(wanted)) return isMap(current) && Object.entries(wanted).every(([k, v]) => covers(current[k], v));
  return current === wanted || (wanted === null && current === undefined);
};

export interface Applied {
  readonly result: "created" | "configured" | "unchanged";
  readonly object: KubeObject;
}

export interface ApplyOptions {
  readonly dryRun?: DryRun;
}

/** Creates or patches. The server refuses unknown and duplicate fields: a typing error would otherwise have no effect, silently. */
export const applyObject = async (client: ApiClient, type: ResourceType, manifest: KubeObject, namespace: string, { dryRun = "none" }: ApplyOptions = {}): Promise<Applied> => {
  const query = `?fieldValidation=Strict${dryRun === "server" ? "&dryRun=All" : ""}`;
  const { status: _status, ...wanted } = withoutLastApplied(manifest) as KubeObject & { status?: unknown };
  const annotated = { ...wanted, metadata: { ...wanted.metadata, annotations: { ...wanted.metadata.annotations, [LAST_APPLIED]: `${JSON.stringify(wanted)}\n` } } };
  let current: KubeObject;
  try {
    current = await client.get(type, namespace, manifest.metadata.name!);
  } catch (error) {
    if (!isCode(error, "NotFound")) throw error;
    return { result: "created", object: dryRun === "client" ? annotated : await client.json("POST", client.pathOf(type, namespace) + query, { body: annotated }) };
  }
  const last = current.metadata.annotations?.[LAST_APPLIED];
  const previous: unknown = last === undefined ? {} : JSON.parse(last);
  if (threeWayPatch(previous, current, wanted) === undefined) return { result: "unchanged", object: current };
  const body = threeWayPatch(previous, current, annotated);
  if (dryRun === "client") return { result: "configured", object: applyJsonMerge(current, body) as KubeObject };
  const object = await client.json<KubeObject>("PATCH", client.pathOf(type, namespace, manifest.metadata.name) + query, { body, contentType: "application/merge-patch+json" });
  // The server may write the same otherwise (cpu: 0.5 is 500m): then it changed nothing.
  return { result: object.metadata.resourceVersion === current.metadata.resourceVersion ? "unchanged" : "configured", object };
};

/** An object that was read from a server carries the annotation: it must not be put into itself. */
const withoutLastApplied = (object: KubeObject): KubeObject => {
  const { [LAST_APPLIED]: last, ...annotations } = object.metadata.annotations ?? {};
  return last === undefined ? object : { ...object, metadata: { ...object.metadata, annotations } };
};
