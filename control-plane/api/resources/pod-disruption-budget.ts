// PodDisruptionBudget: https://kubernetes.io/docs/reference/kubernetes-api/policy-resources/pod-disruption-budget-v1/ (policy)
import { POD_DISRUPTION_BUDGETS } from "../../../base/kube/resources.ts";
import type { PodDisruptionBudget } from "../../../base/kube/types.gen.ts";
import { ageColumn, column, nameColumn } from "./columns.ts";
import type { ResourceDefinition } from "./definition.ts";
import { invalid, oneOf, required } from "./faults.ts";
import { without } from "./fill.ts";
import { validateLabelSelector, validateMetadata } from "./metadata.ts";
import { notAboveHundred, validateCountOrPercent } from "./workload.ts";

const UNHEALTHY_POLICIES = ["IfHealthyBudget", "AlwaysAllow"];
const shown = (value: number | string | undefined): string => (value === undefined ? "N/A" : String(value));

export const POD_DISRUPTION_BUDGET: ResourceDefinition<PodDisruptionBudget> = {
  type: POD_DISRUPTION_BUDGETS,
  singular: "poddisruptionbudget",
  shortNames: ["pdb"],
  categories: [],
  schema: "policy/v1.PodDisruptionBudget",
  defaults: (budget) => budget,
  validate: (budget, previous) => {
    const { spec } = budget;
    return [
      ...validateMetadata(POD_DISRUPTION_BUDGETS, budget, previous),
      ...(spec ? [] : [required("spec")]),
      ...(spec?.minAvailable !== undefined && spec.maxUnavailable !== undefined ? [invalid("spec", spec, "minAvailable and maxUnavailable cannot be both set")] : []),
      ...(["minAvailable", "maxUnavailable"] as const).flatMap((f) => [...validateCountOrPercent(`spec.${f}`, spec?.[f]), ...notAboveHundred(`spec.${f}`, spec?.[f])]),
      ...(spec?.selector ? validateLabelSelector("spec.selector", spec.selector) : []),
      ...oneOf("spec.unhealthyPodEvictionPolicy", spec?.unhealthyPodEvictionPolicy, UNHEALTHY_POLICIES),
    ];
  },
  strategy: { prepareForCreate: (budget) => without(budget, "status") },
  columns: [
    nameColumn(), column("Min Available", "string", "The minimum number of pods that must be available.", (b) => shown(b.spec?.minAvailable)),
    column("Max Unavailable", "string", "The maximum number of pods that can be unavailable.", (b) => shown(b.spec?.maxUnavailable)),
    column("Allowed Disruptions", "integer", "Calculated number of pods that may be disrupted at this time.", (b) => b.status?.disruptionsAllowed ?? 0), ageColumn(),
  ],
  fieldSelectors: {},
  subresources: { status: true },
};
