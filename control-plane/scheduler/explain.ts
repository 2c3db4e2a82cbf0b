// Says why a pod can or can't be placed, with the very filters that decide. Pure over a node table; createExplainer builds one from
// the cache on demand, so that a replica that doesn't lead can answer too.
import { GantryError } from "../../base/errors.ts";
import { fromLabelSelector, selectorMatches } from "../../base/kube/labels.ts";
import { isTerminal } from "../../base/kube/pod-state.ts";
import { NAMESPACES, NODES, PODS } from "../../base/kube/resources.ts";
import type { Pod } from "../../base/kube/types.gen.ts";
import type { WatchCache } from "../state/cache.ts";
import type { Explanation, NodeGroup, PodExplainer } from "../state/explain.ts";
import { failures, type Failure } from "./filters.ts";
import { NodeTable } from "./node-table.ts";
import { classOf, type PodClass } from "./pod-class.ts";
import { topologyCheck, type NamespaceLookup } from "./topology.ts";
import { volumeNeeds } from "./volume-needs.ts";

export const namespaceLookup = (cache: WatchCache): NamespaceLookup => (selector) => {
  const requirements = fromLabelSelector(selector);
  return Array.from(cache.resource(NAMESPACES).list(), (s) => s.object).filter((n) => selectorMatches(requirements, n.metadata.labels)).map((n) => n.metadata.name!);
};

/** A table of everything that the cache shows. */
export const buildNodeTable = (cache: WatchCache): NodeTable => {
  const table = new NodeTable(namespaceLookup(cache));
  for (const { object } of cache.resource(NODES).list()) table.setNode(object);
  for (const { object } of cache.resource(PODS).list()) if (object.spec?.nodeName && !isTerminal(object)) table.place(object, object.spec.nodeName);
  return table;
};

export interface ClassExplanation {
  readonly groups: readonly NodeGroup[];
  readonly fits: readonly string[];
  readonly summary: string;
  readonly suggestion: string | undefined;
}

/** For `pod`, which is of the class. */
export const explainClass = (pod: Pod, podClass: PodClass, table: NodeTable): ClassExplanation => {
  const topology = topologyCheck(pod, podClass, table);
  const fitting: string[] = [];
  const groups = new Map<string, { nodes: string[]; failed: readonly Failure[] }>();
  const counts = new Map<string, number>();
  let nearest: { node: string; failed: readonly Failure[]; distance: number } | undefined;
  for (const row of table.rows()) {
    const broken = topology?.failure(row);
    const failed = [...failures(podClass, table, row), ...(broken ? [broken] : [])];
    const name = table.nodeName(row);
    if (failed.length === 0) {
      fitting.push(name);
      continue;
    }
    const key = JSON.stringify(failed.map((f) => f.message));
    const group = groups.get(key);
    if (group) group.nodes.push(name);
    else groups.set(key, { nodes: [name], failed });
    for (const f of failed) counts.set(f.short, (counts.get(f.short) ?? 0) + 1);
    const distance = failed.reduce((sum, f) => sum + f.distance, 0);
    if (!nearest || distance < nearest.distance) nearest = { node: name, failed, distance };
  }
  const reasons = [...counts].map(([short, n]) => `${n} ${short}`).sort().join(", ");
  return {
    groups: [...groups.values()].sort((a, b) => b.nodes.length - a.nodes.length)
      .map((g) => ({ nodes: g.nodes, failed: g.failed.map(({ check, message }) => ({ check, message })) })),
    fits: fitting,
    summary: table.size === 0 ? "no nodes available to schedule pods" : `${fitting.length}/${table.size} nodes are available${reasons === "" ? "" : `: ${reasons}`}.`,
    suggestion: fitting.length > 0 || !nearest ? undefined : `to fit on node ${nearest.node}: ${nearest.failed.map((f) => f.fix).join("; ")}`,
  };
};

/** Gates come before all else; where it would fit is said all the same. */
const behindGates = (pod: Pod, found: ClassExplanation): ClassExplanation => {
  const gates = (pod.spec?.schedulingGates ?? []).map((g) => JSON.stringify(g.name)).join(", ");
  if (gates === "") return found;
  const fix = `remove ${gates} from spec.schedulingGates`;
  return { groups: found.groups, fits: [], summary: `held by scheduling gates ${gates}. Without them: ${found.summary}`, suggestion: found.suggestion ? `${fix}; ${found.suggestion}` : fix };
};

export const createExplainer = (cache: WatchCache): PodExplainer => ({
  explain(namespace: string, name: string): Explanation {
    const pod = cache.resource(PODS).get(namespace, name)?.object;
    if (!pod) throw new GantryError("NotFound", `pods "${name}" not found in namespace "${namespace}"`);
    const table = buildNodeTable(cache);
    // For a pod that is placed the question is where else it would fit: its own room must not count against it.
    table.remove(pod.metadata.uid!);
    const { nodeName: bound, ...spec } = pod.spec!;
    const found = explainClass(pod, classOf({ ...pod, spec: bound && isScheduled(pod) ? spec : pod.spec! }, volumeNeeds(pod, cache), namespaceLookup(cache)), table);
    return { pod: `${namespace}/${name}`, nodeName: bound, ...(bound ? found : behindGates(pod, found)) };
  },
});

const isScheduled = (pod: Pod): boolean => pod.status?.conditions?.some((c) => c.type === "PodScheduled" && c.status === "True") === true;
