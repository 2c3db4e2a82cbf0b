// Which pods of lower priority make room for one that fits nowhere. Pure but for the table, which is left as it was. As upstream
// (pkg/scheduler/framework/preemption): all lower ones of a node are taken away, then as many as possible come back, those first
// whose budgets their going would break, then the most important.
import { isUnder } from "../../base/kube/disruption.ts";
import { priorityOf } from "../../base/kube/pod-state.ts";
import type { Pod, PodDisruptionBudget } from "../../base/kube/types.gen.ts";
import { fits } from "./filters.ts";
import type { NodeTable } from "./node-table.ts";
import type { PodClass } from "./pod-class.ts";
import { topologyCheck } from "./topology.ts";

export interface Preemption {
  readonly nodeName: string;
  /** Perhaps none: those that leave already are enough. */
  readonly victims: readonly Pod[];
  /** Of waiting pods of lower priority, which have to look elsewhere. */
  readonly standIns: readonly Pod[];
}

/** Nodes that are looked at: with more of them a choice as good as any is among the first. */
const MAX_NODES = 100;

/** The most important first; of equal ones the oldest. */
const byImportance = (a: Pod, b: Pod): number =>
  priorityOf(b) - priorityOf(a) || ((a.status?.startTime ?? a.metadata.creationTimestamp ?? "") < (b.status?.startTime ?? b.metadata.creationTimestamp ?? "") ? -1 : 1);

/** Smaller is better: victims whose budgets allow no more, the highest victim's priority, their sum, their number, then the waiting pods that lose their room. */
const costOf = ({ victims, standIns }: Omit<Preemption, "nodeName">, budgets: readonly PodDisruptionBudget[]): readonly number[] => [
  violatingOf(victims, budgets).size, Math.max(Number.NEGATIVE_INFINITY, ...victims.map(priorityOf)), victims.reduce((sum, v) => sum + priorityOf(v), 0), victims.length, standIns.length,
];

/** Those of `pods`, taken away in this order, whose budgets would be broken. Budgets are kept to if possible, and given up if not (upstream's best effort). */
const violatingOf = (pods: readonly Pod[], budgets: readonly PodDisruptionBudget[]): ReadonlySet<Pod> => {
  const left = new Map(budgets.map((b) => [b, b.status?.disruptionsAllowed ?? 0]));
  const violating = new Set<Pod>();
  for (const pod of pods) {
    const own = budgets.filter((b) => isUnder(b, pod));
    if (own.some((b) => left.get(b)! <= 0)) violating.add(pod);
    for (const b of own) left.set(b, left.get(b)! - 1);
  }
  return violating;
};

const isLess = (a: readonly number[], b: readonly number[]): boolean => {
  const at = a.findIndex((value, i) => value !== b[i]);
  return at >= 0 && a[at]! < b[at]!;
};

/** What becomes of a pod of lower priority: "victim" may have to go, "leaving" was asked to already, "stand-in" only keeps room for one that waits. */
export type LowerPod = "victim" | "leaving" | "stand-in";

/** Undefined when no node would take `pod` even without all lower ones. */
export const preempt = (pod: Pod, podClass: PodClass, table: NodeTable, kindOf: (pod: Pod) => LowerPod, budgets: readonly PodDisruptionBudget[] = []): Preemption | undefined => {
  let best: (Preemption & { readonly cost: readonly number[] }) | undefined;
  let looked = 0;
  for (const [row, lower] of table.podsBelow(podClass.priority)) {
    if (looked++ >= MAX_NODES) break;
    const nodeName = table.nodeName(row);
    const allowed = (): boolean => fits(podClass, table, row) && (topologyCheck(pod, podClass, table)?.allows(row) ?? true);
    for (const other of lower) table.remove(other.metadata.uid!);
    if (allowed()) {
      const comeBack = (pods: readonly Pod[]): Pod[] => pods.filter((other) => {
        table.place(other, nodeName);
        if (allowed()) return false;
        table.remove(other.metadata.uid!);
        return true;
      });
      const of = (kind: LowerPod): Pod[] => lower.filter((p) => kindOf(p) === kind).sort(byImportance);
      const running = of("victim");
      const guarded = violatingOf(running, budgets);
      const victims = comeBack([...guarded, ...running.filter((p) => !guarded.has(p))]);
      const standIns = comeBack(of("stand-in"));
      const cost = costOf({ victims, standIns }, budgets);
      if (!best || isLess(cost, best.cost)) best = { nodeName, victims, standIns, cost };
    }
    for (const other of lower) table.place(other, nodeName);
  }
  return best && { nodeName: best.nodeName, victims: best.victims, standIns: best.standIns };
};
