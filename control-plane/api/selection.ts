// Owns which objects a list or a watch is about: label selector, field selector, and a single name. Pure.
import { GantryError } from "../../base/errors.ts";
import type { KubeObject } from "../../base/kube/resources.ts";
import { parseSelector, selectorMatches } from "../../base/kube/labels.ts";
import type { Selector } from "../../base/kube/labels.ts";
import type { ResourceCache } from "../state/cache.ts";
import type { Stored } from "../state/store.ts";
import type { ResourceDefinition } from "./resources/definition.ts";

export interface FieldRequirement {
  readonly field: string;
  readonly equals: boolean;
  readonly value: string;
}

export interface Selection {
  /** True when it takes everything: then remainingItemCount can be told. */
  readonly isEverything: boolean;
  /** "" is all namespaces. */
  readonly namespace: string;
  matches(object: KubeObject): boolean;
  /** The objects of a cache that match, through an index where one helps; in no particular order. */
  from(cache: ResourceCache): Stored[];
}

/** "a=b,c!=d"; a backslash escapes `,`, `=` and itself (k8s.io/apimachinery/pkg/fields). */
export const parseFieldSelector = (text: string): readonly FieldRequirement[] => {
  const terms = text.match(/(?:\\.|[^,\\])+/g) ?? [];
  return terms.map((term) => {
    const match = /^\s*((?:\\.|[^=!\\])+?)\s*(==|=|!=)((?:\\.|[^=\\])*)$/.exec(term);
    if (!match) throw new GantryError("BadRequest", `invalid field selector ${JSON.stringify(text)}: can't understand ${JSON.stringify(term)}; expected FIELD=VALUE or FIELD!=VALUE`);
    return { field: match[1]!.trim(), equals: match[2] !== "!=", value: match[3]!.replace(/\\(.)/g, "$1") };
  });
};

const readerOf = (definition: ResourceDefinition, field: string): ((object: KubeObject) => string) => {
  if (field === "metadata.name") return (object) => object.metadata.name ?? "";
  if (field === "metadata.namespace") return (object) => object.metadata.namespace ?? "";
  const reader = Object.hasOwn(definition.fieldSelectors, field) ? definition.fieldSelectors[field] : undefined;
  if (reader) return reader;
  const known = ["metadata.name", "metadata.namespace", ...Object.keys(definition.fieldSelectors)].sort().join(", ");
  throw new GantryError("BadRequest", `field label not supported: ${field}; ${definition.type.name} can be selected by ${known}`);
};

/** The one label requirement whose index entry is likely the smallest superset of the matches: an equality. */
const indexable = (selector: Selector): string | undefined => {
  const equality = selector.find((r) => r.operator === "In" && r.values.length === 1);
  return equality ? `${equality.key}=${equality.values[0]!}` : undefined;
};

/** Throws BadRequest for selectors that can't be read or that the resource doesn't support. */
export const selectionOf = (definition: ResourceDefinition, target: { readonly namespace: string; readonly name: string }, query: URLSearchParams): Selection => {
  const labels = parseSelector(query.get("labelSelector") ?? "");
  const fields = parseFieldSelector(query.get("fieldSelector") ?? "").map((r) => ({ ...r, read: readerOf(definition, r.field) }));
  if (target.name !== "") fields.push({ field: "metadata.name", equals: true, value: target.name, read: (object) => object.metadata.name ?? "" });
  const wanted = (field: string): string | undefined => fields.find((f) => f.equals && f.field === field)?.value;
  const name = wanted("metadata.name");
  const namespace = !definition.type.namespaced ? "" : target.namespace === "" ? (wanted("metadata.namespace") ?? "") : target.namespace;
  const nodeName = definition.type.name === "pods" ? wanted("spec.nodeName") : undefined;
  const label = indexable(labels);

  const matches = (object: KubeObject): boolean =>
    (namespace === "" || object.metadata.namespace === namespace)
    && fields.every((f) => (f.read(object) === f.value) === f.equals)
    && selectorMatches(labels, object.metadata.labels);

  const candidates = (cache: ResourceCache): Iterable<Stored> => {
    if (name !== undefined && (namespace !== "" || !definition.type.namespaced)) {
      const one = cache.get(namespace, name);
      return one ? [one] : [];
    }
    if (nodeName !== undefined) return cache.byIndex("node", nodeName);
    if (label !== undefined) return cache.byIndex("label", label);
    return cache.list(namespace === "" ? undefined : namespace);
  };

  return {
    isEverything: labels.length === 0 && fields.length === 0, namespace, matches,
    from: (cache) => [...candidates(cache)].filter((stored) => matches(stored.object)),
  };
};
