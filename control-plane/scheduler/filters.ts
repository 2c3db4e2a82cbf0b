// The checks that a node must pass to take a pod. The same functions decide, explain and re-check. Pure over the node table.
// Order: cheap and telling first; all of them run when explaining.
import { formatBytes, formatMilliCpu } from "../../base/kube/quantity.ts";
import { nodeTermMatches, tolerates } from "../../base/kube/node-match.ts";
import { MEMORY_PRESSURE, NOT_READY, UNREACHABLE, UNSCHEDULABLE } from "../../base/kube/node-taints.ts";
import type { Node, Taint } from "../../base/kube/types.gen.ts";
import type { FailedCheck } from "../state/explain.ts";
import type { NodeTable } from "./node-table.ts";
import type { HostPort, PodClass } from "./pod-class.ts";

export interface Failure extends FailedCheck {
  /** Upstream's short wording for the summary: "Insufficient cpu". */
  readonly short: string;
  /** What would mend it: "request at most 200m cpu (now 500m)". */
  readonly fix: string;
  /** How far off, for choosing the smallest change: 0 to 1 for a shortfall of a resource, 1 for the rest. */
  readonly distance: number;
}

type Filter = (pod: PodClass, table: NodeTable, row: number) => readonly Failure[];
const PASS: readonly Failure[] = [];

const formatAmount = (resource: string, amount: number): string =>
  resource === "cpu" ? formatMilliCpu(amount) : /memory|storage|hugepages/.test(resource) ? formatBytes(amount) : String(amount);

const nodeNameFilter: Filter = (pod, table, row) =>
  pod.nodeName === "" || pod.nodeName === table.nodeName(row) ? PASS
    : [{ check: "node-name", short: "node(s) didn't match the requested node name", message: `the pod asks for node ${pod.nodeName}`, fix: `remove spec.nodeName ${pod.nodeName}`, distance: 1 }];

/** Spec taints, and the ones that a node's state stands for although nobody has written them yet. */
export const effectiveTaints = (node: Node): readonly Taint[] => {
  const taints = node.spec?.taints ?? [];
  const has = (key: string): boolean => taints.some((t) => t.key === key);
  const implied: Taint[] = [];
  if (node.spec?.unschedulable && !has(UNSCHEDULABLE)) implied.push({ key: UNSCHEDULABLE, effect: "NoSchedule" });
  const ready = node.status?.conditions?.find((c) => c.type === "Ready")?.status;
  if (ready !== "True" && !has(NOT_READY) && !has(UNREACHABLE)) implied.push({ key: NOT_READY, effect: "NoSchedule" });
  return implied.length > 0 ? [...taints, ...implied] : taints;
};

const describeTaint = (t: Taint): string => `{${t.key}: ${t.value ?? ""}}`;

/** A pod that asks for memory has a claim to it, so that pressure keeps only those of the class BestEffort away (upstream adds them a toleration). */
const isSpared = (pod: PodClass, taint: Taint): boolean => taint.key === MEMORY_PRESSURE && taint.effect === "NoSchedule" && !pod.bestEffort;

const taintFilter: Filter = (pod, table, row) => {
  const unmet = effectiveTaints(table.node(row)).find((t) => t.effect !== "PreferNoSchedule" && !isSpared(pod, t) && !pod.tolerations.some((o) => tolerates(o, t)));
  if (!unmet) return PASS;
  if (unmet.key === UNSCHEDULABLE) return [{ check: "unschedulable", short: "node(s) were unschedulable", message: "the node is cordoned (spec.unschedulable)", fix: `uncordon it (gantry uncordon ${table.nodeName(row)})`, distance: 1 }];
  return [{ check: "taints", short: `node(s) had untolerated taint ${describeTaint(unmet)}`, message: `the pod does not tolerate the taint ${unmet.key}=${unmet.value ?? ""}:${unmet.effect}`, fix: `tolerate the taint ${unmet.key}:${unmet.effect}, or remove it`, distance: 1 }];
};

const affinityFilter: Filter = (pod, table, row) => {
  const node = table.node(row);
  const labels = node.metadata.labels ?? {};
  const missing = Object.entries(pod.nodeSelector).find(([k, v]) => labels[k] !== v);
  const short = "node(s) didn't match Pod's node affinity/selector";
  if (missing) return [{ check: "node-selector", short, message: `nodeSelector wants ${missing[0]}=${missing[1]}, the node has ${labels[missing[0]] === undefined ? "no such label" : `${missing[0]}=${labels[missing[0]]!}`}`, fix: `label the node ${missing[0]}=${missing[1]}`, distance: 1 }];
  if (pod.requiredTerms && !pod.requiredTerms.some((t) => nodeTermMatches(t, node))) return [{ check: "node-affinity", short, message: "none of the required node affinity terms matches the node's labels", fix: "label the node as the pod's node affinity wants", distance: 1 }];
  return PASS;
};

const portsClash = (a: HostPort, b: HostPort): boolean => {
  const any = (ip: string): boolean => ip === "" || ip === "0.0.0.0" || ip === "::";
  return a.port === b.port && a.protocol === b.protocol && (a.ip === b.ip || any(a.ip) || any(b.ip));
};

const portFilter: Filter = (pod, table, row) => {
  if (pod.hostPorts.length === 0) return PASS;
  const taken = pod.hostPorts.find((p) => table.hostPorts(row).some((q) => portsClash(p, q)));
  return taken ? [{ check: "host-ports", short: "node(s) didn't have free ports for the requested pod ports", message: `host port ${taken.port}/${taken.protocol} is taken by another pod`, fix: `free host port ${taken.port}/${taken.protocol}`, distance: 1 }] : PASS;
};

const resourceFilter: Filter = (pod, table, row) => {
  const failures: Failure[] = [];
  const check = (resource: string, needed: number, short: string): void => {
    const total = table.allocatable(row, resource);
    const free = total - table.requested(row, resource);
    if (needed <= free) return;
    const fix = resource === "pods" ? "free a place for a pod" : `request at most ${formatAmount(resource, Math.max(0, free))} of ${resource} (now ${formatAmount(resource, needed)})`;
    failures.push({ check: "resources", short, fix, distance: (needed - Math.max(0, free)) / needed, message: `${resource}: needs ${formatAmount(resource, needed)}, free ${formatAmount(resource, Math.max(0, free))} of ${formatAmount(resource, total)}` });
  };
  check("pods", 1, "Too many pods");
  for (const [resource, needed] of Object.entries(pod.requests)) if (needed > 0) check(resource, needed, `Insufficient ${resource}`);
  return failures;
};

const volumeFilter: Filter = ({ volumes }, table, row) => {
  if (!volumes) return PASS;
  if (volumes.fault !== "") return [{ check: "volumes", short: volumes.fault, message: volumes.fault, fix: "see `kubectl get pvc` and `kubectl describe pvc`", distance: 1 }];
  const node = table.node(row);
  return volumes.terms.every((terms) => terms.some((term) => nodeTermMatches(term, node))) ? PASS
    : [{ check: "volumes", short: "node(s) had volume node affinity conflict", message: "a volume of the pod can't be reached from this node", fix: "use a volume that is reachable from this node", distance: 1 }];
};

const FILTERS: readonly Filter[] = [nodeNameFilter, taintFilter, affinityFilter, portFilter, volumeFilter, resourceFilter];

export const fits = (pod: PodClass, table: NodeTable, row: number): boolean => FILTERS.every((f) => f(pod, table, row).length === 0);

/** Every failed check of a node, for explanations. */
export const failures = (pod: PodClass, table: NodeTable, row: number): readonly Failure[] => FILTERS.flatMap((f) => f(pod, table, row));

/** Which nodes a spread rule counts as domains. */
export const isDomain = (pod: PodClass, table: NodeTable, row: number, { honorsAffinity, honorsTaints }: { readonly honorsAffinity: boolean; readonly honorsTaints: boolean }): boolean =>
  (!honorsAffinity || affinityFilter(pod, table, row).length === 0) && (!honorsTaints || taintFilter(pod, table, row).length === 0);
