// Which pods of lower priority make room for one that fits nowhere. Pure but for the table, which is left as it was. As upstream
// (pkg/scheduler/framework/preemption): all lower ones of a node are taken away, then as many as possible come back, the most important first.
import { isUnder } from "../../base/kube/disruption.ts";
import type { Pod, PodDisruptionBudget } from "../../base/kube/types.gen.ts";
import { fits, isDomain } from "./filters.ts";
import type { NodeTable } from "./node-table.ts";
import type { PodClass } from "./pod-class.ts";
import { topologyCheck } from "./topology.ts";

export interface Preemption {
  readonly nodeName: string;
  /** Perhaps none: those that leave already are enough. */
  readonly victims: readonly Pod[];
}

/** Nodes that are looked at: with more of them a choice as good as any is among the first. */
const MAX_NODES = 100;

const priorityOf = (pod: Pod): number => pod.spec?.priority ?? 0;
/** The most important first; of equal ones the oldest. */
const byImportance = (a: Pod, b: Pod): number =>
  priorityOf(b) - priorityOf(a) || ((a.status?.startTime ?? a.metadata.creationTimestamp ?? "") < (b.status?.startTime ?? b.metadata.creationTimestamp ?? "") ? -1 : 1);

/** Smaller is better: victims whose budgets allow no more, the highest victim's priority, their sum, their number. */
const costOf = (victims: readonly Pod[], budgets: readonly PodDisruptionBudget[]): readonly number[] =>
  [violationsOf(victims, budgets), Math.max(Number.NEGATIVE_INFINITY, ...victims.map(priorityOf)), victims.reduce((sum, v) => sum + priorityOf(v), 0), victims.length];

/** Budgets are kept to if possible, and given up if not (upstream's best effort). */
const violationsOf = (victims: readonly Pod[], budgets: readonly PodDisruptionBudget[]): number => {
  const left = new Map(budgets.map((b) => [b, b.status?.disruptionsAllowed ?? 0]));
  let violations = 0;
  for (const victim of victims) {
    const own = budgets.filter((b) => isUnder(b, victim));
    if (own.some((b) => left.get(b)! <= 0)) violations++;
    for (const b of own) left.set(b, left.get(b)! - 1);
  }
  return violations;
};

const isLess = (a: readonly number[], b: readonly number[]): boolean => {
  const at = a.findIndex((value, i) => value !== b[i]);
  return at >= 0 && a[at]! < b[at]!;
};

/** Undefined when no node would take `pod` even without all lower ones. `isLeaving` are pods that were asked to go already. */
export const preempt = (pod: Pod, podClass: PodClass, table: NodeTable, isLeaving: (pod: Pod) => boolean, budgets: readonly PodDisruptionBudget[] = []): Preemption | undefined => {
  let best: (Preemption & { readonly cost: readonly number[] }) | undefined;
  let looked = 0;
  for (const [row, lower] of table.podsBelow(podClass.priority)) {
    if (looked++ >= MAX_NODES) break;
    const nodeName = table.nodeName(row);
    const allowed = (): boolean => fits(podClass, table, row) && (topologyCheck(pod, podClass, table, isDomain(podClass, table))?.allows(row) ?? true);
    for (const other of lower) table.remove(other.metadata.uid!);
    if (allowed()) {
      const victims: Pod[] = [];
      for (const other of lower.filter((p) => !isLeaving(p)).sort(byImportance)) {
        table.place(other, nodeName);
        if (allowed()) continue;
        table.remove(other.metadata.uid!);
        victims.push(other);
      }
      const cost = costOf(victims, budgets);
      if (!best || isLess(cost, best.cost)) best = { nodeName, victims, cost };
    }
    for (const other of lower) table.place(other, nodeName);
  }
  return best && { nodeName: best.nodeName, victims: best.victims };
};
