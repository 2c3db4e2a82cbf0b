// Who may write which field (invariant 3), as data; the store enforces it on every update.
import { GantryError } from "../../base/errors.ts";

export type Writer = "api" | "scheduler" | "controller" | "agent" | "node-lifecycle";

/**
 * Paths that a writer may change in an existing object, by resource; "" is everything. A resource or writer that is not listed
 * may change nothing. Create and delete are listed apart. `*` stands for every resource without an entry of its own.
 */
export interface WriterRule {
  readonly create?: readonly Writer[];
  readonly delete?: readonly Writer[];
  readonly update: Readonly<Partial<Record<Writer, readonly string[]>>>;
}

export const WRITER_RULES: Readonly<Record<string, WriterRule>> = {
  pods: {
    create: ["api", "controller"],
    delete: ["api", "controller", "agent", "node-lifecycle"],
    update: {
      // Users change a pod's spec through validation, which forbids spec.nodeName except by the binding subresource.
      api: [""],
      // Staged pods that give way are marked; their agents and their Job let go of them.
      scheduler: ["spec.nodeName", "status.conditions", "status.nominatedNodeName", "metadata.deletionTimestamp", "metadata.deletionGracePeriodSeconds", "metadata.generation"],
      controller: ["metadata"],
      agent: ["status", "metadata.deletionTimestamp", "metadata.deletionGracePeriodSeconds"],
      "node-lifecycle": ["status", "metadata"],
    },
  },
  nodes: {
    create: ["api", "agent"],
    delete: ["api", "node-lifecycle"],
    update: { api: [""], agent: ["status", "metadata.labels", "metadata.annotations", "spec.podCIDR", "spec.podCIDRs", "spec.providerID"], "node-lifecycle": ["status.conditions", "spec.taints", "spec.podCIDR", "spec.podCIDRs", "metadata"] },
  },
  events: { create: ["api", "scheduler", "controller", "agent", "node-lifecycle"], delete: ["api", "controller"], update: { api: [""], scheduler: [""], controller: [""], agent: [""], "node-lifecycle": [""] } },
  "leases.coordination.k8s.io": { create: ["api", "agent", "node-lifecycle"], delete: ["api", "controller", "node-lifecycle"], update: { api: [""], agent: [""], "node-lifecycle": [""] } },
  // The scheduler says on which node a claim's volume is to be; the agent's dispatcher lets go of a volume whose data is gone.
  persistentvolumeclaims: { create: ["api", "controller"], delete: ["api", "controller"], update: { api: [""], controller: [""], scheduler: ["metadata.annotations"] } },
  persistentvolumes: { create: ["api", "controller"], delete: ["api", "controller", "agent"], update: { api: [""], controller: [""], agent: ["metadata.finalizers"] } },
  "*": { create: ["api", "controller"], delete: ["api", "controller"], update: { api: [""], controller: [""] } },
};

/** A rule's paths as a tree: `true` where everything below is allowed. */
type Allowed = true | ReadonlyMap<string, Allowed>;

const toTree = (paths: readonly string[]): Allowed => {
  if (paths.includes("")) return true;
  const heads = new Map<string, string[]>();
  for (const path of paths) {
    const dot = path.indexOf(".");
    const head = dot < 0 ? path : path.slice(0, dot);
    const rest = dot < 0 ? "" : path.slice(dot + 1);
    heads.set(head, [...(heads.get(head) ?? []), rest]);
  }
  return new Map([...heads].map(([head, rests]) => [head, toTree(rests)]));
};

const NOTHING: Allowed = new Map();
/** Assigned by the store itself, so a change of it says nothing. */
const ASSIGNED = "metadata.resourceVersion";

const ruleFor = (resource: string): WriterRule => WRITER_RULES[resource] ?? WRITER_RULES["*"]!;
const trees = new Map<string, Allowed>();
const treeFor = (resource: string, writer: Writer): Allowed => {
  const name = `${resource}\n${writer}`;
  let tree = trees.get(name);
  if (tree === undefined) trees.set(name, (tree = toTree(ruleFor(resource).update[writer] ?? [])));
  return tree;
};

const isTree = (value: unknown): value is Readonly<Record<string, unknown>> => typeof value === "object" && value !== null && !Array.isArray(value);

/** First path that differs and is not allowed. Shared references are equal, so an update costs what it changes. */
const forbiddenPath = (before: unknown, after: unknown, allowed: Allowed, path: string): string | undefined => {
  if (before === after || allowed === true || path === ASSIGNED) return undefined;
  if (Array.isArray(before) && Array.isArray(after) && before.length === after.length) {
    for (let i = 0; i < before.length; i++) {
      const found = forbiddenPath(before[i], after[i], NOTHING, `${path}[${i}]`);
      if (found !== undefined) return found;
    }
    return undefined;
  }
  // Where a part may be written, writing it may create its (absent) parent.
  const left = isTree(before) ? before : before === undefined && allowed.size > 0 ? {} : undefined;
  const right = isTree(after) ? after : after === undefined && allowed.size > 0 ? {} : undefined;
  if (left === undefined || right === undefined) return path;
  for (const key in left) {
    const found = forbiddenPath(left[key], right[key], allowed.get(key) ?? NOTHING, path === "" ? key : `${path}.${key}`);
    if (found !== undefined) return found;
  }
  for (const key in right) {
    if (key in left) continue;
    const found = forbiddenPath(undefined, right[key], allowed.get(key) ?? NOTHING, path === "" ? key : `${path}.${key}`);
    if (found !== undefined) return found;
  }
  return undefined;
};

/** "Forbidden" unless `writer` may change everything in which the two differ. */
export const checkUpdate = (resource: string, writer: Writer, before: object, after: object): void => {
  const path = forbiddenPath(before, after, treeFor(resource, writer), "");
  if (path !== undefined) throw new GantryError("Forbidden", `writer "${writer}" may not change ${path} of ${resource} (see control-plane/state/writers.ts)`);
};

export const checkCreate = (resource: string, writer: Writer): void => {
  if (!ruleFor(resource).create?.includes(writer)) throw new GantryError("Forbidden", `writer "${writer}" may not create ${resource} (see control-plane/state/writers.ts)`);
};

export const checkDelete = (resource: string, writer: Writer): void => {
  if (!ruleFor(resource).delete?.includes(writer)) throw new GantryError("Forbidden", `writer "${writer}" may not delete ${resource} (see control-plane/state/writers.ts)`);
};
