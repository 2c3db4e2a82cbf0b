// Which budgets a pod falls under. Pure.
import { fromLabelSelector, selectorMatches } from "./labels.ts";
import type { Pod, PodDisruptionBudget } from "./types.gen.ts";

/** An absent selector matches nothing; an empty one, in policy/v1, all pods of the namespace. */
export const isUnder = (budget: PodDisruptionBudget, pod: Pod): boolean =>
  budget.metadata.namespace === pod.metadata.namespace && budget.spec?.selector !== undefined && selectorMatches(fromLabelSelector(budget.spec.selector), pod.metadata.labels);

/** Condition that says why a pod goes that did nothing wrong. */
export const DISRUPTION_TARGET = "DisruptionTarget";
