// What a resource definition is: everything that the API knows of a kind, as data and pure functions. One file per kind in this
// folder; registry.ts lists them. Routing, discovery, OpenAPI, Table printing, patching and protobuf decoding derive from these.
import type { FieldCause } from "../../../base/errors.ts";
import type { KubeObject, ResourceType } from "../../../base/kube/resources.ts";

/** A printer column, as in meta/v1 TableColumnDefinition. */
export interface Column<T extends KubeObject> {
  readonly name: string;
  readonly type: "string" | "integer" | "number" | "boolean" | "date";
  /** "name" for the column that names the object. */
  readonly format?: string;
  readonly description: string;
  /** 0 is always shown, 1 only with -o wide. */
  readonly priority: 0 | 1;
  /** `nowMs` is for ages: duration columns are rendered by the server, as upstream does. */
  value(object: T, nowMs: number): string | number | boolean | null;
}

/** What strategies and validation may look at besides the object. */
export interface RequestContext {
  readonly nowMs: number;
  readonly userName: string;
}

/** Who owns which fields of an object: on a main-resource write `status` is kept from the old object, on /status everything else is. */
export interface Strategy<T extends KubeObject> {
  /** After decoding and schema validation, before defaults: clears what users may not set (status, ...). Pure: returns a new object or the same. */
  prepareForCreate?(object: T, context: RequestContext): T;
  prepareForUpdate?(next: T, current: T, context: RequestContext): T;
  /** metadata.generation rises when this part changed; the default compares `spec`. */
  generationOf?(object: T): unknown;
  /** Seconds that a delete waits for the agent; undefined or 0 deletes at once. Pods only. */
  gracePeriodSeconds?(object: T): number | undefined;
}

export interface Subresources {
  readonly status?: boolean;
  readonly scale?: { readonly specReplicas: string; readonly statusReplicas: string; readonly selector: string };
  /** Served by handlers of their own: log, exec, attach, portforward, binding, eviction, finalize. */
  readonly custom?: readonly { readonly name: string; readonly verbs: readonly string[]; readonly kind: { readonly group: string; readonly version: string; readonly kind: string } }[];
}

/**
 * A version of a kind that is stored as another one. Clients of this version send and see objects of its schema; all else of its
 * definition (defaults, validation, columns, ...) is about the stored form.
 */
export interface VersionConversion {
  /** From what a client sent, decoded. */
  store(object: KubeObject): KubeObject;
  show(stored: KubeObject): KubeObject;
}

export interface ResourceDefinition<T extends KubeObject = KubeObject> {
  readonly type: ResourceType<T>;
  readonly singular: string;
  readonly shortNames: readonly string[];
  readonly categories: readonly string[];
  /** Key in schema.gen.json, such as "apps/v1.Deployment". */
  readonly schema: string;
  readonly conversion?: VersionConversion;
  /** Where there are fewer than the usual ones: what is made on demand can only be read. */
  readonly verbs?: readonly string[];
  /** Fills in what upstream's SetDefaults_* fill in. Pure: a new object or the same. */
  defaults(object: T): T;
  /** All faults of an object about to be created, or updated from `previous`; empty when valid. Schema faults come before and apart. */
  validate(object: T, previous: T | undefined, context: RequestContext): readonly FieldCause[];
  /** What is valid but won't do what its author expects: Warning headers of creates and updates. */
  warnings?(object: T): readonly string[];
  readonly strategy: Strategy<T>;
  /** The first is the name; the last of priority 0 usually is the age. */
  readonly columns: readonly Column<T>[];
  /** Field selectors beyond metadata.name and metadata.namespace: path -> value ("" when absent). */
  readonly fieldSelectors: Readonly<Record<string, (object: T) => string>>;
  readonly subresources: Subresources;
}

/** A stored object as clients of this version see it. */
export const shownAs = ({ conversion }: Pick<ResourceDefinition, "conversion">, stored: KubeObject): KubeObject => conversion?.show(stored) ?? stored;

/** What a client of this version sent, as it is stored. */
export const storedFrom = ({ conversion }: Pick<ResourceDefinition, "conversion">, received: KubeObject): KubeObject => conversion?.store(received) ?? received;
