// Rules for what a pod says about where it may run: node selectors, affinity, tolerations, topology spread, gates.
import type { FieldCause } from "../../../base/errors.ts";
import type { NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm, PodSpec, Toleration } from "../../../base/kube/types.gen.ts";
import { forbidden, invalid, oneOf, required } from "./faults.ts";
import { duplicates, validateLabels, validateLabelSelector } from "./metadata.ts";
import { isLabelValue, isQualifiedName } from "./names.ts";

const EFFECTS = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
const UNSATISFIABLE = ["DoNotSchedule", "ScheduleAnyway"];

const validateRequirement = (path: string, r: NodeSelectorRequirement, fieldsOnly: boolean): FieldCause[] => {
  const count = r.values?.length ?? 0;
  const shape = ((): FieldCause[] => {
    switch (r.operator) {
      case "In": case "NotIn": return count === 0 ? [required(`${path}.values`, "must be specified when `operator` is 'In' or 'NotIn'")] : [];
      case "Exists": case "DoesNotExist": return count > 0 ? [forbidden(`${path}.values`, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")] : [];
      case "Gt": case "Lt": return count === 1 ? [] : [required(`${path}.values`, "must be specified single value when `operator` is 'Lt' or 'Gt'")];
      default: return [invalid(`${path}.operator`, r.operator ?? "", "not a valid selector operator")];
    }
  })();
  if (!fieldsOnly) return [...shape, ...isQualifiedName(r.key ?? "").map((m) => invalid(`${path}.key`, r.key ?? "", m))];
  return [...shape, ...(r.key === "metadata.name" ? [] : [invalid(`${path}.key`, r.key ?? "", "not a valid field selector key")])];
};

export const validateNodeTerms = (path: string, selector: NodeSelector | undefined): FieldCause[] =>
  (selector?.nodeSelectorTerms ?? []).flatMap((term, i) => validateTerm(`${path}.nodeSelectorTerms[${i}]`, term));

const validateTerm = (path: string, term: NodeSelectorTerm): FieldCause[] => [
  ...(term.matchExpressions ?? []).flatMap((r, i) => validateRequirement(`${path}.matchExpressions[${i}]`, r, false)),
  ...(term.matchFields ?? []).flatMap((r, i) => validateRequirement(`${path}.matchFields[${i}]`, r, true)),
];

const validateWeight = (path: string, weight: number): FieldCause[] =>
  (weight >= 1 && weight <= 100 ? [] : [invalid(`${path}.weight`, weight ?? 0, "must be in the range 1-100")]);

const validatePodTerm = (path: string, term: PodAffinityTerm): FieldCause[] => [
  ...(term.topologyKey ? isQualifiedName(term.topologyKey).map((m) => invalid(`${path}.topologyKey`, term.topologyKey, m)) : [required(`${path}.topologyKey`, "can not be empty")]),
  ...validateLabelSelector(`${path}.labelSelector`, term.labelSelector),
  ...validateLabelSelector(`${path}.namespaceSelector`, term.namespaceSelector),
];

const validateAffinity = (path: string, affinity: NonNullable<PodSpec["affinity"]>): FieldCause[] => {
  const { nodeAffinity, podAffinity, podAntiAffinity } = affinity;
  const node = `${path}.nodeAffinity`;
  const demanded = nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution;
  const terms = demanded?.nodeSelectorTerms ?? [];
  return [
    ...(demanded && terms.length === 0 ? [required(`${node}.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms`, "must have at least one node selector term")] : []),
    ...terms.flatMap((t, i) => validateTerm(`${node}.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[${i}]`, t)),
    ...(nodeAffinity?.preferredDuringSchedulingIgnoredDuringExecution ?? []).flatMap((p, i) => {
      const at = `${node}.preferredDuringSchedulingIgnoredDuringExecution[${i}]`;
      return [...validateWeight(at, p.weight), ...validateTerm(`${at}.preference`, p.preference ?? {})];
    }),
    ...([["podAffinity", podAffinity], ["podAntiAffinity", podAntiAffinity]] as const).flatMap(([name, a]) => [
      ...(a?.requiredDuringSchedulingIgnoredDuringExecution ?? []).flatMap((t, i) => validatePodTerm(`${path}.${name}.requiredDuringSchedulingIgnoredDuringExecution[${i}]`, t)),
      ...(a?.preferredDuringSchedulingIgnoredDuringExecution ?? []).flatMap((w, i) => {
        const at = `${path}.${name}.preferredDuringSchedulingIgnoredDuringExecution[${i}]`;
        return [...validateWeight(at, w.weight), ...(w.podAffinityTerm ? validatePodTerm(`${at}.podAffinityTerm`, w.podAffinityTerm) : [required(`${at}.podAffinityTerm`)])];
      }),
    ]),
  ];
};

const validateToleration = (path: string, t: Toleration): FieldCause[] => [
  ...(t.key ? isQualifiedName(t.key).map((m) => invalid(`${path}.key`, t.key, m)) : []),
  ...(!t.key && t.operator !== "Exists" ? [invalid(`${path}.operator`, t.operator ?? "", "operator must be Exists when `key` is empty, which means \"match all values and all keys\"")] : []),
  ...(t.tolerationSeconds !== undefined && t.effect !== "NoExecute" ? [invalid(`${path}.effect`, t.effect ?? "", "effect must be 'NoExecute' when `tolerationSeconds` is set")] : []),
  ...oneOf(`${path}.operator`, t.operator || undefined, ["Equal", "Exists"]),
  ...(t.operator === "Exists" && t.value ? [invalid(`${path}.operator`, t.value, "value must be empty when `operator` is 'Exists'")] : []),
  ...(t.operator !== "Exists" ? isLabelValue(t.value ?? "").map((m) => invalid(`${path}.operator`, t.value, m)) : []),
  ...oneOf(`${path}.effect`, t.effect || undefined, EFFECTS),
];

export const validateScheduling = (path: string, spec: PodSpec): FieldCause[] => [
  ...validateLabels(`${path}.nodeSelector`, spec.nodeSelector),
  ...(spec.tolerations ?? []).flatMap((t, i) => validateToleration(`${path}.tolerations[${i}]`, t)),
  ...(spec.affinity ? validateAffinity(`${path}.affinity`, spec.affinity) : []),
  ...(spec.topologySpreadConstraints ?? []).flatMap((c, i) => {
    const at = `${path}.topologySpreadConstraints[${i}]`;
    return [
      ...(c.maxSkew > 0 ? [] : [invalid(`${at}.maxSkew`, c.maxSkew ?? 0, "must be greater than zero")]),
      ...(c.topologyKey ? isQualifiedName(c.topologyKey).map((m) => invalid(`${at}.topologyKey`, c.topologyKey, m)) : [required(`${at}.topologyKey`, "can not be empty")]),
      ...(c.whenUnsatisfiable ? oneOf(`${at}.whenUnsatisfiable`, c.whenUnsatisfiable, UNSATISFIABLE) : [required(`${at}.whenUnsatisfiable`)]),
      ...validateLabelSelector(`${at}.labelSelector`, c.labelSelector),
    ];
  }),
  ...(spec.schedulingGates ?? []).flatMap((g, i) => isQualifiedName(g.name ?? "").map((m) => invalid(`${path}.schedulingGates[${i}].name`, g.name ?? "", m))),
  ...duplicates(spec.schedulingGates ?? [], (g) => g.name, (i) => `${path}.schedulingGates[${i}].name`),
  ...(spec.nodeName && spec.schedulingGates?.length ? [forbidden(`${path}.nodeName`, "cannot be set until all schedulingGates have been cleared")] : []),
  ...(spec.readinessGates ?? []).flatMap((g, i) => isQualifiedName(g.conditionType ?? "").map((m) => invalid(`${path}.readinessGates[${i}].conditionType`, g.conditionType ?? "", m))),
];
