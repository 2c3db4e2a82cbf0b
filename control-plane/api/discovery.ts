// Discovery documents, legacy and aggregated, derived from the definitions: how clients learn which resources there are, by which
// verbs and short names. https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api
import type { ResourceDefinition } from "./resources/definition.ts";

const VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const STATUS_VERBS = ["get", "patch", "update"];
const SCALE = { group: "autoscaling", version: "v1", kind: "Scale" };

interface Kind {
  readonly group: string;
  readonly version: string;
  readonly kind: string;
}

interface Subresource {
  readonly name: string;
  readonly kind: Kind;
  readonly verbs: readonly string[];
}

const subresourcesOf = ({ subresources, type }: ResourceDefinition): readonly Subresource[] => [
  ...(subresources.custom ?? []).map((c) => ({ name: c.name, kind: c.kind, verbs: c.verbs })),
  ...(subresources.scale ? [{ name: "scale", kind: SCALE, verbs: STATUS_VERBS }] : []),
  ...(subresources.status ? [{ name: "status", kind: { group: type.group, version: type.version, kind: type.kind }, verbs: STATUS_VERBS }] : []),
].sort((a, b) => (a.name < b.name ? -1 : 1));

/** Groups other than the core one, in the order of the definitions, each with its versions. */
const groupsOf = (definitions: readonly ResourceDefinition[]): ReadonlyMap<string, readonly string[]> => {
  const groups = new Map<string, string[]>();
  for (const { type } of definitions) {
    const versions = groups.get(type.group) ?? [];
    if (!versions.includes(type.version)) versions.push(type.version);
    groups.set(type.group, versions);
  }
  return groups;
};

const within = (definitions: readonly ResourceDefinition[], group: string, version: string): readonly ResourceDefinition[] =>
  definitions.filter((d) => d.type.group === group && d.type.version === version);

/** GET /api. `serverAddress` is where clients reach us, "host:port". */
export const apiVersions = (serverAddress: string): object => ({
  kind: "APIVersions", versions: ["v1"], serverAddressByClientCIDRs: [{ clientCIDR: "0.0.0.0/0", serverAddress }],
});

const groupEntry = (name: string, versions: readonly string[]): object => {
  const entries = versions.map((version) => ({ groupVersion: `${name}/${version}`, version }));
  return { name, versions: entries, preferredVersion: entries[0] };
};

/** GET /apis */
export const apiGroupList = (definitions: readonly ResourceDefinition[]): object => ({
  kind: "APIGroupList", apiVersion: "v1",
  groups: [...groupsOf(definitions)].filter(([name]) => name !== "").map(([name, versions]) => groupEntry(name, versions)),
});

/** GET /apis/GROUP; undefined when there is no such group. */
export const apiGroup = (definitions: readonly ResourceDefinition[], group: string): object | undefined => {
  const versions = group === "" ? undefined : groupsOf(definitions).get(group);
  return versions && { kind: "APIGroup", apiVersion: "v1", ...groupEntry(group, versions) };
};

/** GET /api/v1 (group "") and /apis/GROUP/VERSION; undefined when there is nothing. */
export const apiResourceList = (definitions: readonly ResourceDefinition[], group: string, version: string): object | undefined => {
  const found = within(definitions, group, version);
  if (found.length === 0) return undefined;
  const resources = found.flatMap((d) => [
    {
      name: d.type.plural, singularName: d.singular, namespaced: d.type.namespaced, kind: d.type.kind, verbs: verbsOf(d),
      ...(d.shortNames.length > 0 ? { shortNames: d.shortNames } : {}), ...(d.categories.length > 0 ? { categories: d.categories } : {}),
    },
    ...subresourcesOf(d).map((s) => ({
      name: `${d.type.plural}/${s.name}`, singularName: "", namespaced: d.type.namespaced, kind: s.kind.kind, verbs: s.verbs,
      ...(s.kind.group === group && s.kind.version === version ? {} : { group: s.kind.group, version: s.kind.version }),
    })),
  ]);
  return { kind: "APIResourceList", apiVersion: "v1", groupVersion: group === "" ? version : `${group}/${version}`, resources };
};

// Upstream has no deletecollection of namespaces: one mistyped selector would take everything.
const verbsOf = (d: ResourceDefinition): readonly string[] => d.verbs ?? (d.type.name === "namespaces" ? VERBS.filter((v) => v !== "deletecollection") : VERBS);

const aggregatedResource = (d: ResourceDefinition): object => ({
  resource: d.type.plural,
  responseKind: { group: d.type.group, version: d.type.version, kind: d.type.kind },
  scope: d.type.namespaced ? "Namespaced" : "Cluster",
  singularResource: d.singular,
  verbs: verbsOf(d),
  ...(d.shortNames.length > 0 ? { shortNames: d.shortNames } : {}),
  ...(d.categories.length > 0 ? { categories: d.categories } : {}),
  ...(subresourcesOf(d).length > 0 ? { subresources: subresourcesOf(d).map((s) => ({ subresource: s.name, responseKind: s.kind, verbs: s.verbs })) } : {}),
});

/**
 * GET /api or /apis with `Accept: application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList`. Answer with that very
 * content type, or clients fall back to the legacy form.
 */
export const aggregatedDiscovery = (definitions: readonly ResourceDefinition[], root: "/api" | "/apis", version: "v2" | "v2beta1"): object => ({
  kind: "APIGroupDiscoveryList", apiVersion: `apidiscovery.k8s.io/${version}`, metadata: {},
  items: [...groupsOf(definitions)].filter(([group]) => (group === "") === (root === "/api")).map(([group, versions]) => ({
    metadata: group === "" ? {} : { name: group },
    versions: versions.map((v) => ({ version: v, resources: within(definitions, group, v).map(aggregatedResource), freshness: "Current" })),
  })),
});
