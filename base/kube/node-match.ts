// Whether a node is one that a pod may be on: what the scheduler, the DaemonSet controller and evictions agree on. Pure.
import { requirementMatches, type Operator } from "./labels.ts";
import type { Node, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration } from "./types.gen.ts";

/** https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/ */
export const tolerates = (toleration: Toleration, taint: Taint): boolean =>
  (!toleration.effect || toleration.effect === taint.effect)
  && (toleration.key ? toleration.key === taint.key : toleration.operator === "Exists")
  && (toleration.operator === "Exists" || (toleration.value ?? "") === (taint.value ?? ""));

export const nodeTermMatches = (term: NodeSelectorTerm, node: Node): boolean => {
  const expressions = term.matchExpressions ?? [];
  const fields = term.matchFields ?? [];
  if (expressions.length === 0 && fields.length === 0) return false; // upstream: an empty term matches nothing
  const matches = (r: NodeSelectorRequirement, from: Record<string, string>): boolean =>
    requirementMatches({ key: r.key, operator: r.operator as Operator, values: r.values ?? [] }, from);
  return expressions.every((r) => matches(r, node.metadata.labels ?? {})) && fields.every((r) => matches(r, { "metadata.name": node.metadata.name ?? "" }));
};

/** nodeSelector and required node affinity. */
export const selectsNode = ({ nodeSelector, affinity }: PodSpec, node: Node): boolean => {
  const labels = node.metadata.labels ?? {};
  const required = affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution;
  return Object.entries(nodeSelector ?? {}).every(([k, v]) => labels[k] === v) && (!required || required.nodeSelectorTerms.some((t) => nodeTermMatches(t, node)));
};
