// What kinds the server has and by which words people name them: aggregated discovery (KEP-3352), two requests.
import { nearest } from "../base/config.ts";
import { GantryError } from "../base/errors.ts";
import type { KubeObject, ResourceType } from "../base/kube/resources.ts";
import type { ApiClient } from "./api-client.ts";

export interface DiscoveryDocument {
  readonly items?: readonly {
    readonly metadata?: { readonly name?: string };
    readonly versions?: readonly {
      readonly version: string;
      readonly resources?: readonly {
        readonly resource: string;
        readonly responseKind?: { readonly kind: string };
        readonly scope: "Namespaced" | "Cluster";
        readonly singularResource?: string;
        readonly shortNames?: readonly string[];
        readonly categories?: readonly string[];
        readonly subresources?: readonly { readonly subresource: string }[];
      }[];
    }[];
  }[];
}

export interface DiscoveredResource extends ResourceType {
  readonly singular: string;
  readonly words: readonly string[];
  readonly categories: readonly string[];
  readonly scalable: boolean;
}

const ACCEPT = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

export const discover = async (client: ApiClient): Promise<readonly DiscoveredResource[]> =>
  resourcesIn(await Promise.all(["/api", "/apis"].map((path) => client.json<DiscoveryDocument>("GET", path, { accept: ACCEPT }))));

/** Each group in its preferred version, which comes first. */
export const resourcesIn = (documents: readonly DiscoveryDocument[]): readonly DiscoveredResource[] =>
  documents.flatMap((d) => d.items ?? []).flatMap((g) => {
    const group = g.metadata?.name ?? "";
    const preferred = g.versions?.[0];
    return (preferred?.resources ?? []).map((r): DiscoveredResource => ({
      name: group === "" ? r.resource : `${r.resource}.${group}`, group, version: preferred!.version, apiVersion: group === "" ? preferred!.version : `${group}/${preferred!.version}`,
      kind: r.responseKind?.kind ?? "", plural: r.resource, namespaced: r.scope === "Namespaced", singular: r.singularResource || r.resource,
      words: [r.resource, r.singularResource ?? "", (r.responseKind?.kind ?? "").toLowerCase(), ...(r.shortNames ?? [])].filter((w) => w !== ""),
      categories: r.categories ?? [], scalable: r.subresources?.some((s) => s.subresource === "scale") === true,
    }));
  });

/** "pod", "deployment.apps": as kubectl names a type beside an object's name. */
export const typeLabel = (type: DiscoveredResource): string => `${type.singular}${type.group === "" ? "" : `.${type.group}`}`;

/** "pods", "po", "Pod", "deployments.apps", or a category such as "all". */
export const resourcesOf = (resources: readonly DiscoveredResource[], word: string): readonly DiscoveredResource[] => {
  const wanted = word.toLowerCase();
  const [plain, group] = wanted.includes(".") ? [wanted.slice(0, wanted.indexOf(".")), wanted.slice(wanted.indexOf(".") + 1)] : [wanted, undefined];
  const exact = resources.find((r) => r.words.includes(plain) && (group === undefined || r.group === group));
  if (exact) return [exact];
  const category = resources.filter((r) => r.categories.includes(wanted));
  if (category.length > 0) return category;
  const hint = nearest(wanted, resources.flatMap((r) => r.words));
  throw new GantryError("BadRequest", `the server has no resource type ${JSON.stringify(word)}${hint ? `; did you mean ${hint}?` : ""}`);
};

export interface Target {
  readonly type: DiscoveredResource;
  /** Undefined: all, or all that a selector selects. */
  readonly name: string | undefined;
}

/** `TYPE NAME...`, `TYPE/NAME...` and `TYPE1,TYPE2` as kubectl takes them. No names: all. */
export const parseTargets = (resources: readonly DiscoveredResource[], words: readonly string[]): readonly Target[] => {
  const [first, ...names] = words;
  if (first === undefined) throw new GantryError("BadRequest", "name a resource type, such as pods, or TYPE/NAME");
  if (words.some((w) => w.includes("/"))) {
    return words.map((word) => {
      const slash = word.indexOf("/");
      if (slash < 1 || slash === word.length - 1) throw new GantryError("BadRequest", `${JSON.stringify(word)}: names must all be given as TYPE/NAME, or none of them`);
      return { type: resourcesOf(resources, word.slice(0, slash))[0]!, name: word.slice(slash + 1) };
    });
  }
  const types = first.split(",").flatMap((w) => resourcesOf(resources, w));
  return names.length === 0 ? types.map((type) => ({ type, name: undefined })) : types.flatMap((type) => names.map((name) => ({ type, name })));
};

/** The resource of a manifest. "Invalid" names what the manifest lacks. */
export const resourceOfManifest = (resources: readonly DiscoveredResource[], manifest: Partial<KubeObject>): DiscoveredResource => {
  for (const field of ["apiVersion", "kind"] as const) {
    if (typeof manifest[field] !== "string" || manifest[field] === "") throw new GantryError("Invalid", `${field} is missing`);
  }
  const { apiVersion, kind } = manifest as KubeObject;
  const found = resources.find((r) => r.apiVersion === apiVersion && r.kind === kind);
  if (found) {
    if (!manifest.metadata?.name) throw new GantryError("Invalid", `${kind} has no metadata.name${manifest.metadata?.generateName ? "; a generated name can't be applied twice" : ""}`);
    return found;
  }
  const elsewhere = resources.find((r) => r.kind === kind);
  const near = nearest(kind, resources.map((r) => r.kind));
  const hint = elsewhere ? `; it has one in ${elsewhere.apiVersion}` : near ? `; did you mean ${near}?` : "";
  throw new GantryError("Invalid", `the server has no kind ${JSON.stringify(kind)} in ${apiVersion}${hint}`);
};
