// Owns get and list: where their answer comes from (cache or store), how fresh it is, and pages that stand at one version.
// Source: kubernetes.io/docs/reference/using-api/api-concepts ("Resource versions", "Retrieving large results sets in chunks").
import { GantryError, isCode } from "../../base/errors.ts";
import type { KubeObject } from "../../base/kube/resources.ts";
import type { ListMeta } from "../../base/kube/types.gen.ts";
import type { Stored } from "../state/store.ts";
import { cacheOf, keyOf, readNewest } from "./context.ts";
import type { ResourceRequest } from "./context.ts";
import { renderBytes, renderList, renderObject } from "./render.ts";
import type { Rendering } from "./render.ts";
import { selectionOf } from "./selection.ts";
import type { Selection } from "./selection.ts";
import { notFound } from "./status.ts";

/** Objects that one read of a page fetches at least when a selector throws most of them away. */
const MIN_FETCH = 500;

export const renderingOf = ({ context, definition, exchange }: ResourceRequest): Rendering => ({ definition, form: exchange.accept.form, nowMs: context.clock.nowMs() });

/** Throws BadRequest for what is no resourceVersion. undefined when absent. */
export const readResourceVersion = (query: URLSearchParams): number | undefined => {
  const text = query.get("resourceVersion") ?? "";
  if (text === "") return undefined;
  const version = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(version)) throw new GantryError("BadRequest", `resourceVersion: Invalid value: ${JSON.stringify(text)}: must be a number that this server gave out`);
  return version;
};

/** The object that a get's path names, as fresh as its resourceVersion asks. Throws NotFound. */
const readOne = async (request: ResourceRequest): Promise<Stored> => {
  const { context, exchange } = request;
  const key = keyOf(request);
  const version = readResourceVersion(exchange.query);
  let stored: Stored | undefined;
  if (version === undefined) stored = await readNewest(context, key);
  else {
    await context.freshness.atLeast(version);
    stored = cacheOf(request).get(key.namespace, key.name);
  }
  if (!stored) throw notFound(key.type, key.name);
  return stored;
};

export const get = async (request: ResourceRequest): Promise<void> => {
  const { exchange } = request;
  const stored = await readOne(request);
  const rendering = renderingOf(request);
  if (exchange.accept.encoding === "yaml") exchange.value(200, renderObject(rendering, stored.object));
  else exchange.bytes(200, "application/json", renderBytes(rendering, stored));
};

/** A get of what a subresource shows of the object. */
export const getShown = async (request: ResourceRequest, show: (object: KubeObject) => KubeObject): Promise<void> =>
  request.exchange.value(200, show((await readOne(request)).object));

interface Continue {
  readonly version: number;
  readonly after: { readonly namespace: string; readonly name: string };
}

const encodeContinue = ({ version, after }: Continue): string =>
  Buffer.from(JSON.stringify({ v: 1, rv: version, ns: after.namespace, name: after.name })).toString("base64url");

const decodeContinue = (token: string): Continue => {
  try {
    const { v, rv, ns, name } = JSON.parse(Buffer.from(token, "base64url").toString()) as Record<string, unknown>;
    if (v === 1 && Number.isSafeInteger(rv) && typeof ns === "string" && typeof name === "string") return { version: rv as number, after: { namespace: ns, name } };
  } catch {
    // Falls through to the error below: whatever is wrong with it, it is not a token of ours.
  }
  throw new GantryError("BadRequest", `continue: Invalid value: ${JSON.stringify(token)}: not a continue token of this server`);
};

interface ListQuery {
  /** 0: no limit. */
  readonly limit: number;
  readonly continuing: Continue | undefined;
  readonly version: number | undefined;
  readonly match: "" | "Exact" | "NotOlderThan";
}

const readListQuery = (query: URLSearchParams): ListQuery => {
  const limitText = query.get("limit") ?? "";
  const limit = limitText === "" ? 0 : Number(limitText);
  if (!Number.isSafeInteger(limit) || limit < 0) throw new GantryError("BadRequest", `limit: Invalid value: ${JSON.stringify(limitText)}: must be a number of at least 0`);
  const token = query.get("continue") ?? "";
  const version = readResourceVersion(query);
  const match = query.get("resourceVersionMatch") ?? "";
  if (match !== "" && match !== "Exact" && match !== "NotOlderThan") {
    throw new GantryError("BadRequest", `resourceVersionMatch: Unsupported value: ${JSON.stringify(match)}: supported values: "Exact", "NotOlderThan", ""`);
  }
  if (match !== "" && token !== "") throw new GantryError("BadRequest", "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided");
  if (match !== "" && version === undefined) throw new GantryError("BadRequest", "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided");
  if (match === "Exact" && version === 0) throw new GantryError("BadRequest", 'resourceVersionMatch: Forbidden: resourceVersionMatch "Exact" is forbidden for resourceVersion "0"');
  if (token !== "" && version !== undefined && version !== 0) throw new GantryError("BadRequest", "resourceVersion: Invalid value: specifying resource version is not allowed when using continue");
  return { limit, continuing: token === "" ? undefined : decodeContinue(token), version, match };
};

interface Page {
  readonly items: readonly Stored[];
  readonly metadata: ListMeta;
}

// etcd's order, which pages follow: by the bytes of NAMESPACE/NAME. Names are ASCII, so comparing strings is comparing bytes.
const pathOf = ({ object: { metadata } }: Stored): string => `${metadata.namespace ?? ""}/${metadata.name ?? ""}`;
const byPath = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
const inOrder = (items: readonly Stored[]): readonly Stored[] =>
  items.map((stored) => ({ stored, path: pathOf(stored) })).sort((a, b) => byPath(a.path, b.path)).map(({ stored }) => stored);

/** A page from the store: reads on until `limit` matches are found or nothing is left, all at one version. */
const pageFromStore = async (request: ResourceRequest, selection: Selection, limit: number, at: number | undefined, after: Continue["after"] | undefined): Promise<Page> => {
  const { context: { store }, definition: { type } } = request;
  const items: Stored[] = [];
  let version = at;
  let cursor = after;
  for (;;) {
    const page = await store.list(type, {
      ...(type.namespaced && selection.namespace !== "" ? { namespace: selection.namespace } : {}),
      ...(limit > 0 ? { limit: selection.isEverything ? limit : Math.max(limit, MIN_FETCH) } : {}), at: version, after: cursor,
    }).catch((error: unknown) => {
      if (!isCode(error, "Expired")) throw error;
      throw new GantryError("Expired", after === undefined
        ? `The resourceVersion for the provided list is too old: ${version}`
        : "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter.");
    });
    version = page.resourceVersion;
    const matching = page.items.filter((stored) => selection.matches(stored.object));
    const room = limit === 0 ? Infinity : limit - items.length;
    const isCut = matching.length > room;
    items.push(...(isCut ? matching.slice(0, room) : matching));
    const metadata = { resourceVersion: String(version) };
    if (!isCut && !page.next) return { items, metadata };
    if (limit > 0 && items.length >= limit) {
      const last = items.at(-1)!.object.metadata;
      const token = encodeContinue({ version, after: isCut || !page.next ? { namespace: last.namespace ?? "", name: last.name ?? "" } : page.next });
      return { items, metadata: { ...metadata, continue: token, ...(selection.isEverything ? { remainingItemCount: page.remaining } : {}) } };
    }
    cursor = page.next;
  }
};

/** From the cache when that is as good; a list that needs pages comes from the store, which can stand still at a version. */
const readPage = async (request: ResourceRequest, selection: Selection): Promise<Page> => {
  const { context: { freshness, cache }, exchange } = request;
  const { limit, continuing, version, match } = readListQuery(exchange.query);
  if (continuing) return pageFromStore(request, selection, limit, continuing.version, continuing.after);
  if (match === "Exact" || (limit > 0 && version !== undefined && version !== 0 && match === "")) return pageFromStore(request, selection, limit, version, undefined);
  if (version === undefined) {
    if (freshness.consistency === "store") return pageFromStore(request, selection, limit, undefined, undefined);
    await freshness.ownWrites();
  } else await freshness.atLeast(version);
  const items = selection.from(cacheOf(request));
  if (limit > 0 && items.length > limit && version !== 0) return pageFromStore(request, selection, limit, undefined, undefined);
  return { items: inOrder(items), metadata: { resourceVersion: String(cache.resourceVersion) } };
};

export const list = async (request: ResourceRequest): Promise<void> => {
  const { definition, exchange } = request;
  const { items, metadata } = await readPage(request, selectionOf(definition, exchange.info, exchange.query));
  const pieces = renderList(renderingOf(request), items, metadata);
  if (exchange.accept.encoding === "json") return exchange.pieces(200, "application/json", pieces);
  exchange.value(200, JSON.parse([...pieces].map(String).join("")));
};
