// Where a pod may stand in relation to other pods: affinity, anti-affinity (its own, and that of the pods that are there) and spread over domains. A domain is
// all nodes with one value of a label, the topology key. Pure over the node table, which counts the pods that a rule is about as they come and go.
// https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#inter-pod-affinity-and-anti-affinity
// https://kubernetes.io/docs/concepts/scheduling-eviction/topology-spread-constraints/
import { fromLabelSelector, selectorMatches, type Labels, type Selector } from "../../base/kube/labels.ts";
import type { LabelSelector, Pod, PodAffinityTerm } from "../../base/kube/types.gen.ts";
import { isDomain, type Failure } from "./filters.ts";
import type { NodeTable } from "./node-table.ts";
import type { PodClass } from "./pod-class.ts";

/** Names of the namespaces whose labels match; they are looked up when a pod is queued. */
export type NamespaceLookup = (selector: LabelSelector) => readonly string[];

/** Pods that match all parts. */
export interface PodGroup {
  readonly key: string;
  readonly parts: readonly { readonly namespaces: readonly string[] | "all"; readonly selector: Selector }[];
  /** Pods on their way out don't count. */
  readonly aliveOnly: boolean;
}

export interface TopologyTerm {
  readonly topologyKey: string;
  readonly group: PodGroup;
}

export interface SpreadRule extends TopologyTerm {
  readonly maxSkew: number;
  readonly minDomains: number;
  readonly isRequired: boolean;
  /** Do nodes that the pod's node affinity, or their taints, keep it from count as domains? */
  readonly honorsAffinity: boolean;
  readonly honorsTaints: boolean;
  /** Is the pod itself one of those that are spread? */
  readonly countsItself: boolean;
}

export interface TopologyNeeds {
  /** One group for all terms: a pod that is there has to match every one of them. */
  readonly affinity: { readonly topologyKeys: readonly string[]; readonly group: PodGroup; readonly matchesItself: boolean } | undefined;
  readonly antiAffinity: readonly TopologyTerm[];
  /** Weight 1 to 100, negative for anti-affinity. */
  readonly preferred: readonly (TopologyTerm & { readonly weight: number })[];
  readonly spread: readonly SpreadRule[];
}

const groupOf = (parts: PodGroup["parts"], aliveOnly: boolean): PodGroup => ({ key: JSON.stringify([parts, aliveOnly]), parts, aliveOnly });

export const isInGroup = ({ parts, aliveOnly }: PodGroup, { metadata }: Pod): boolean =>
  !(aliveOnly && metadata.deletionTimestamp !== undefined)
  && parts.every(({ namespaces, selector }) => (namespaces === "all" || namespaces.includes(metadata.namespace ?? "")) && selectorMatches(selector, metadata.labels));

/** matchLabelKeys: those of the pod's own labels become part of the selector. */
const withOwnLabels = (selector: LabelSelector | undefined, keys: readonly string[] | undefined, without: readonly string[] | undefined, labels: Labels): Selector => {
  // An absent selector matches nothing.
  if (!selector) return [{ key: "", operator: "In", values: [] }];
  const own = (names: readonly string[] | undefined, operator: "In" | "NotIn"): Selector => (names ?? []).flatMap((key) => (labels[key] === undefined ? [] : [{ key, operator, values: [labels[key]] }]));
  return [...fromLabelSelector(selector), ...own(keys, "In"), ...own(without, "NotIn")];
};

const partOf = (term: PodAffinityTerm, pod: Pod, lookup: NamespaceLookup): PodGroup["parts"][number] => {
  const named = term.namespaces ?? [];
  const matching = term.namespaceSelector && Object.keys(term.namespaceSelector).length === 0 ? "all" : term.namespaceSelector ? lookup(term.namespaceSelector) : [];
  const namespaces = matching === "all" ? matching : named.length === 0 && !term.namespaceSelector ? [pod.metadata.namespace ?? ""] : [...new Set([...named, ...matching])].sort();
  return { namespaces, selector: withOwnLabels(term.labelSelector, term.matchLabelKeys, term.mismatchLabelKeys, pod.metadata.labels ?? {}) };
};

const termOf = (term: PodAffinityTerm, pod: Pod, lookup: NamespaceLookup): TopologyTerm => ({ topologyKey: term.topologyKey, group: groupOf([partOf(term, pod, lookup)], false) });

/** What keeps other pods away from the pod's domains, once it is there. */
export const repelsOf = (pod: Pod, lookup: NamespaceLookup): readonly TopologyTerm[] =>
  (pod.spec?.affinity?.podAntiAffinity?.requiredDuringSchedulingIgnoredDuringExecution ?? []).map((term) => termOf(term, pod, lookup));

/** undefined for the many pods that ask for none of it. */
export const topologyNeeds = (pod: Pod, lookup: NamespaceLookup): TopologyNeeds | undefined => {
  const { affinity, topologySpreadConstraints = [] } = pod.spec!;
  const { podAffinity, podAntiAffinity } = affinity ?? {};
  if (!podAffinity && !podAntiAffinity && topologySpreadConstraints.length === 0) return undefined;
  const required = podAffinity?.requiredDuringSchedulingIgnoredDuringExecution ?? [];
  const together = groupOf(required.map((term) => partOf(term, pod, lookup)), false);
  const weighted = (terms: readonly { weight: number; podAffinityTerm: PodAffinityTerm }[] | undefined, sign: 1 | -1): TopologyNeeds["preferred"] =>
    (terms ?? []).map(({ weight, podAffinityTerm }) => ({ ...termOf(podAffinityTerm, pod, lookup), weight: sign * weight }));
  return {
    affinity: required.length === 0 ? undefined : { topologyKeys: required.map((term) => term.topologyKey), group: together, matchesItself: isInGroup(together, pod) },
    antiAffinity: repelsOf(pod, lookup),
    preferred: [...weighted(podAffinity?.preferredDuringSchedulingIgnoredDuringExecution, 1), ...weighted(podAntiAffinity?.preferredDuringSchedulingIgnoredDuringExecution, -1)],
    spread: topologySpreadConstraints.map((c) => {
      const group = groupOf([{ namespaces: [pod.metadata.namespace ?? ""], selector: withOwnLabels(c.labelSelector, c.matchLabelKeys, undefined, pod.metadata.labels ?? {}) }], true);
      return {
        topologyKey: c.topologyKey, group, maxSkew: c.maxSkew, minDomains: c.minDomains ?? 1, isRequired: c.whenUnsatisfiable !== "ScheduleAnyway",
        honorsAffinity: (c.nodeAffinityPolicy ?? "Honor") === "Honor", honorsTaints: c.nodeTaintsPolicy === "Honor", countsItself: isInGroup(group, pod),
      };
    }),
  };
};

/** Points for a weight of 1, and for each pod that a domain has more than the emptiest one. */
const PREFERRED_POINTS = 2;
const SOFT_SPREAD_POINTS = 10;

/** For one pod, as the table is now. */
export interface TopologyCheck {
  allows(row: number): boolean;
  /** The first rule that the row breaks, in words. */
  failure(row: number): Failure | undefined;
  /** Undefined when there is nothing to prefer. */
  readonly points: ((row: number) => number) | undefined;
}

/** What a spread rule counts: rows, and the domains that they make up. */
interface Eligible {
  readonly rows: ReadonlySet<number>;
  readonly domains: number;
}

/** Kept by the class until nodes change. */
export interface EligibleRows {
  shape: number;
  readonly byRule: Map<SpreadRule, Eligible>;
}
export const noEligibleRows = (): EligibleRows => ({ shape: -1, byRule: new Map() });

const labelOf = (table: NodeTable, row: number, key: string): string | undefined => table.node(row).metadata.labels?.[key];

/** A node without the label is in no domain. */
const isIn = (domains: { has(domain: string): boolean }, domain: string | undefined): boolean => domain !== undefined && domains.has(domain);

/** Pods of the group for each domain. */
const domainsOf = (table: NodeTable, { topologyKey, group }: TopologyTerm, among?: ReadonlySet<number>): Map<string, number> => {
  const domains = new Map<string, number>();
  for (const [row, count] of table.countsOf(group)) {
    const domain = among && !among.has(row) ? undefined : labelOf(table, row, topologyKey);
    if (domain !== undefined) domains.set(domain, (domains.get(domain) ?? 0) + count);
  }
  return domains;
};

const failure = (check: string, short: string, message: string, fix: string): Failure => ({ check, short, message, fix, distance: 1 });
const nameOf = (term: TopologyTerm): string => term.group.parts.map(({ selector }) => selector.map((r) => (r.operator === "In" ? `${r.key}=${r.values.join("|")}` : `${r.key} ${r.operator} ${r.values.join("|")}`.trim())).join(",") || "any").join(" and ");

interface Rule {
  allows(row: number): boolean;
  /** Why it doesn't. */
  tell(row: number): Failure;
}

const affinityRule = ({ affinity }: TopologyNeeds, table: NodeTable): Rule[] => {
  if (!affinity) return [];
  const counts = affinity.topologyKeys.map((topologyKey) => ({ topologyKey, domains: domainsOf(table, { topologyKey, group: affinity.group }) }));
  // The first of its kind has nobody to join: it may go anywhere, or none of them ever could.
  const isFirst = affinity.matchesItself && table.countsOf(affinity.group).size === 0;
  return counts.map(({ topologyKey, domains }): Rule => ({
    allows: (row) => {
      const domain = labelOf(table, row, topologyKey);
      return domain !== undefined && (isFirst || domains.has(domain));
    },
    tell: (row) => {
      const domain = labelOf(table, row, topologyKey);
      return failure("pod-affinity", "node(s) didn't match pod affinity rules", domain === undefined ? `the node has no label ${topologyKey}` : `no pod with ${nameOf({ topologyKey, group: affinity.group })} runs where ${topologyKey}=${domain}`, "place a pod that the pod's affinity asks for there");
    },
  }));
};

const antiAffinityRule = (term: TopologyTerm, table: NodeTable): Rule => {
  const domains = domainsOf(table, term);
  return {
    allows: (row) => !isIn(domains, labelOf(table, row, term.topologyKey)),
    tell: (row) => {
      const domain = labelOf(table, row, term.topologyKey)!;
      return failure("pod-anti-affinity", "node(s) didn't match pod anti-affinity rules", `a pod with ${nameOf(term)} runs where ${term.topologyKey}=${domain}`, `take the pods with ${nameOf(term)} away from ${term.topologyKey}=${domain}`);
    },
  };
};

const repelledRule = (pod: Pod, table: NodeTable): Rule[] => {
  const rules: Rule[] = [];
  for (const { term, rows } of table.repellers()) {
    if (!isInGroup(term.group, pod)) continue;
    const domains = new Set<string>();
    for (const row of rows.keys()) {
      const domain = labelOf(table, row, term.topologyKey);
      if (domain !== undefined) domains.add(domain);
    }
    rules.push({
      allows: (row) => !isIn(domains, labelOf(table, row, term.topologyKey)),
      tell: (row) => failure("pod-anti-affinity", "node(s) didn't satisfy existing pods anti-affinity rules", `a pod that runs where ${term.topologyKey}=${labelOf(table, row, term.topologyKey)!} wants no pod with ${nameOf(term)} near it`, `take the pods away that repel ${nameOf(term)}`),
    });
  }
  return rules;
};

interface Spread {
  /** Those that have pods. */
  readonly domains: ReadonlyMap<string, number>;
  readonly fewest: number;
}

const spreadOf = (rule: SpreadRule, table: NodeTable, eligible: Eligible): Spread => {
  const domains = domainsOf(table, rule, eligible.rows);
  let fewest = 0;
  if (domains.size === eligible.domains && eligible.domains >= rule.minDomains) {
    fewest = Infinity;
    for (const count of domains.values()) fewest = Math.min(fewest, count);
  }
  return { domains, fewest: fewest === Infinity ? 0 : fewest };
};

const spreadRule = (rule: SpreadRule, table: NodeTable, eligible: Eligible): Rule => {
  const { domains, fewest } = spreadOf(rule, table, eligible);
  const skewOf = (count: number): number => count + (rule.countsItself ? 1 : 0) - fewest;
  return {
    allows: (row) => {
      const domain = labelOf(table, row, rule.topologyKey);
      return domain !== undefined && skewOf(domains.get(domain) ?? 0) <= rule.maxSkew;
    },
    tell: (row) => {
      const domain = labelOf(table, row, rule.topologyKey);
      if (domain === undefined) return failure("topology-spread", "node(s) didn't match pod topology spread constraints (missing required label)", `the node has no label ${rule.topologyKey}`, `label the node ${rule.topologyKey}`);
      const count = domains.get(domain) ?? 0;
      const skew = skewOf(count);
      return failure("topology-spread", "node(s) didn't match pod topology spread constraints", `${rule.topologyKey}=${domain} has ${count} pods, the emptiest domain ${fewest}: the skew would be ${skew}, at most ${rule.maxSkew} is allowed`, `raise maxSkew of ${rule.topologyKey} to ${skew}`);
    },
  };
};

const preferredPoints = (term: TopologyNeeds["preferred"][number], table: NodeTable): (row: number) => number => {
  const domains = domainsOf(table, term);
  return (row) => {
    const domain = labelOf(table, row, term.topologyKey);
    const count = domain === undefined ? 0 : domains.get(domain) ?? 0;
    // One pod to be near to is enough; each one to keep away from is one more.
    return PREFERRED_POINTS * term.weight * (term.weight > 0 ? Math.min(1, count) : count);
  };
};

const softSpreadPoints = (rule: SpreadRule, table: NodeTable, eligible: Eligible): (row: number) => number => {
  const { domains, fewest } = spreadOf(rule, table, eligible);
  let most = fewest;
  for (const count of domains.values()) most = Math.max(most, count);
  return (row) => {
    const domain = labelOf(table, row, rule.topologyKey);
    return -SOFT_SPREAD_POINTS * ((domain === undefined ? most + 1 : domains.get(domain) ?? 0) - fewest);
  };
};

/** Undefined when no rule is about this pod. `kept` spares asking the class's own filters again for each pod. */
export const topologyCheck = (pod: Pod, podClass: PodClass, table: NodeTable, kept: EligibleRows = noEligibleRows()): TopologyCheck | undefined => {
  const needs = podClass.topology;
  if (!needs && table.repellerCount === 0) return undefined;
  const repelled = repelledRule(pod, table);
  if (!needs) return repelled.length === 0 ? undefined : { ...allOf(repelled), points: undefined };
  if (kept.shape !== table.shape) {
    kept.byRule.clear();
    kept.shape = table.shape;
  }
  const requiredKeys = needs.spread.filter((r) => r.isRequired).map((r) => r.topologyKey);
  const eligible = (rule: SpreadRule): Eligible => {
    let found = kept.byRule.get(rule);
    if (!found) {
      // Upstream: a node that lacks the key of any required rule is no domain of the others either.
      const rows = new Set([...table.rows()].filter((row) => isDomain(podClass, table, row, rule) && (!rule.isRequired || requiredKeys.every((k) => labelOf(table, row, k) !== undefined))));
      const domains = new Set<string>();
      for (const row of rows) {
        const domain = labelOf(table, row, rule.topologyKey);
        if (domain !== undefined) domains.add(domain);
      }
      kept.byRule.set(rule, (found = { rows, domains: domains.size }));
    }
    return found;
  };
  const rules = [
    ...affinityRule(needs, table), ...needs.antiAffinity.map((term) => antiAffinityRule(term, table)), ...repelled,
    ...needs.spread.filter((r) => r.isRequired).map((rule) => spreadRule(rule, table, eligible(rule))),
  ];
  const points = [...needs.preferred.map((term) => preferredPoints(term, table)), ...needs.spread.filter((r) => !r.isRequired).map((rule) => softSpreadPoints(rule, table, eligible(rule)))];
  return { ...allOf(rules), points: points.length === 0 ? undefined : (row) => points.reduce((sum, of) => sum + of(row), 0) };
};

const allOf = (rules: readonly Rule[]): Pick<TopologyCheck, "allows" | "failure"> => ({
  allows: (row) => rules.every((rule) => rule.allows(row)),
  failure: (row) => rules.find((rule) => !rule.allows(row))?.tell(row),
});

/** Is the best row not the one that is best by itself? With preferences; and with affinity, for which the rows that are best by themselves are the ones far from its pods. */
export const needsAllRows = ({ topology }: PodClass): boolean => topology !== undefined && (topology.affinity !== undefined || topology.preferred.length > 0 || topology.spread.some((r) => !r.isRequired));

/** May a pod that is placed make room for it? */
export const waitsForOthers = ({ topology }: PodClass): boolean => topology !== undefined && (topology.affinity !== undefined || topology.spread.some((r) => r.isRequired));

/** Keys of the groups that the class's rules count. */
export const groupsOf = ({ topology }: PodClass): readonly string[] =>
  topology === undefined ? [] : [...(topology.affinity ? [topology.affinity] : []), ...topology.antiAffinity, ...topology.preferred, ...topology.spread].map(({ group }) => group.key);
