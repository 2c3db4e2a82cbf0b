// Owns the discovery documents as they go out: made from the definitions when first asked for, and kept as bytes.
import { createHash } from "node:crypto";
import { aggregatedDiscovery, apiGroup, apiGroupList, apiResourceList, apiVersions } from "./discovery.ts";
import { parseAccept } from "./negotiate.ts";
import { SERVED } from "./served.ts";

export interface Document {
  readonly contentType: string;
  readonly bytes: Buffer;
  /** Without quotes. */
  readonly etag: string;
}

/** Whether the client asks for aggregated discovery, and in which version: kubectl 1.26 on. */
export const aggregatedVersion = (accept: string | undefined): "v2" | "v2beta1" | undefined => {
  for (const { type, parameters: { g, v, as } } of parseAccept(accept) as readonly { type: string; parameters: { g?: string; v?: string; as?: string } }[]) {
    if (type !== "application/json" && type !== "*/*") continue;
    if (as === undefined) return undefined;
    if (g === "apidiscovery.k8s.io" && as === "APIGroupDiscoveryList" && (v === "v2" || v === "v2beta1")) return v;
  }
  return undefined;
};

const known = new Map<string, Document>();

const kept = (key: string, contentType: string, make: () => object | undefined): Document | undefined => {
  const found = known.get(key);
  if (found) return found;
  const value = make();
  if (value === undefined) return undefined;
  const bytes = Buffer.from(JSON.stringify(value));
  const document = { contentType, bytes, etag: createHash("sha256").update(bytes).digest("hex") };
  known.set(key, document);
  return document;
};

/** /api, /apis and what is below; undefined when there is nothing at this path. `serverAddress` is where this client reaches us. */
export const discoveryDocument = (path: string, accept: string | undefined, serverAddress: string): Document | undefined => {
  const json = "application/json";
  const [, root, ...rest] = path.split("/");
  if (rest.length === 0 && (root === "api" || root === "apis")) {
    const version = aggregatedVersion(accept);
    // The content type tells the client which form it got.
    if (version) return kept(`${root} ${version}`, `${json};g=apidiscovery.k8s.io;v=${version};as=APIGroupDiscoveryList`, () => aggregatedDiscovery(SERVED, `/${root}`, version));
    return root === "api" ? kept(`${path} ${serverAddress}`, json, () => apiVersions(serverAddress)) : kept(path, json, () => apiGroupList(SERVED));
  }
  if (root === "api" && rest.length === 1) return kept(path, json, () => apiResourceList(SERVED, "", rest[0]!));
  if (root === "apis" && rest.length === 1) return kept(path, json, () => apiGroup(SERVED, rest[0]!));
  if (root === "apis" && rest.length === 2) return kept(path, json, () => apiResourceList(SERVED, rest[0]!, rest[1]!));
  return undefined;
};
