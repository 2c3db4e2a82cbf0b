// Rules for what decides a Job's end besides its counts: podFailurePolicy, successPolicy, limits per index, managedBy. Wording:
// upstream's pkg/apis/batch/validation.
import type { FieldCause } from "../../../base/errors.ts";
import type { JobSpec, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule, SuccessPolicy } from "../../../base/kube/types.gen.ts";
import { duplicate, invalid, nonNegative, notSupported, oneOf, required, tooLong, tooMany } from "./faults.ts";
import { isDnsSubdomain, isQualifiedName } from "./names.ts";

const MAX_RULES = 20;
const MAX_EXIT_CODES = 255;
/** Beyond this many completions a limit per index would let the status grow without bounds. */
const MANY_COMPLETIONS = 100_000;
const MAX_FAILED_INDEXES = 10_000;
const MAX_MANAGER_LENGTH = 63;
const INDEXED_ONLY = "requires indexed completion mode";

const atMost = (path: string, items: readonly unknown[]): FieldCause[] => (items.length > MAX_RULES ? [tooMany(path, items.length, MAX_RULES)] : []);

const validateExitCodes = (path: string, { operator, values, containerName }: PodFailurePolicyOnExitCodesRequirement, containers: readonly string[]): FieldCause[] => [
  ...(operator ? (["In", "NotIn"].includes(operator) ? [] : [notSupported(`${path}.operator`, operator, ["In", "NotIn"])]) : [required(`${path}.operator`)]),
  ...(containerName !== undefined && !containers.includes(containerName)
    ? [invalid(`${path}.containerName`, containerName, `must be one of the container or initContainer names in the pod template (${containers.join(", ")})`)] : []),
  ...(values.length === 0 ? [invalid(`${path}.values`, values, "at least one value is required")] : []),
  ...(values.length > MAX_EXIT_CODES ? [tooMany(`${path}.values`, values.length, MAX_EXIT_CODES)] : []),
  ...values.flatMap((value, i) => [
    ...(value === 0 && operator === "In" ? [invalid(`${path}.values[${i}]`, value, "must not be 0 for the In operator")] : []),
    ...(i > 0 && value === values[i - 1] ? [duplicate(`${path}.values[${i}]`, value)] : []),
  ]),
  ...(values.some((value, i) => i > 0 && value < values[i - 1]!) ? [invalid(`${path}.values`, values, "must be ordered")] : []),
];

const validateRule = (path: string, rule: PodFailurePolicyRule, spec: JobSpec): FieldCause[] => {
  const { action, onExitCodes, onPodConditions } = rule;
  const containers = [...(spec.template?.spec?.containers ?? []), ...(spec.template?.spec?.initContainers ?? [])].map((c) => c.name);
  const conditions = onPodConditions ?? [];
  return [
    ...(action ? oneOf(`${path}.action`, action, ["Count", "FailIndex", "FailJob", "Ignore"]) : [required(`${path}.action`)]),
    ...(action === "FailIndex" && spec.backoffLimitPerIndex === undefined ? [invalid(`${path}.action`, action, "requires the backoffLimitPerIndex to be set")] : []),
    ...(onExitCodes && conditions.length > 0 ? [invalid(path, rule, "specifying both OnExitCodes and OnPodConditions is not supported")] : []),
    ...(!onExitCodes && conditions.length === 0 ? [invalid(path, rule, "specifying one of OnExitCodes and OnPodConditions is required")] : []),
    ...(onExitCodes ? validateExitCodes(`${path}.onExitCodes`, onExitCodes, containers) : []),
    ...atMost(`${path}.onPodConditions`, conditions),
    ...conditions.flatMap(({ type, status }, i) => [
      ...isQualifiedName(type ?? "").map((m) => invalid(`${path}.onPodConditions[${i}].type`, type ?? "", m)),
      ...oneOf(`${path}.onPodConditions[${i}].status`, status, ["False", "True", "Unknown"]),
    ]),
  ];
};

/** Numbers of a text such as "0,2-4", or what is wrong with it. */
const readIndexes = (text: string, completions: number): number | string => {
  let count = 0;
  let last = -1;
  for (const part of text.split(",")) {
    const [, first, end = first] = /^(\d+)(?:-(\d+))?$/.exec(part) ?? [];
    if (first === undefined) return `${JSON.stringify(part)} is neither an index nor a range such as 2-4`;
    const [from, to] = [Number(first), Number(end)];
    if (from <= last || to < from) return "indexes must be in ascending order, each once";
    if (to >= completions) return `index ${to} is too large: indexes must be smaller than completions (${completions})`;
    count += to - from + 1;
    last = to;
  }
  return count;
};

const validateSuccess = (path: string, { rules }: SuccessPolicy, completions: number): FieldCause[] => [
  ...(rules.length === 0 ? [required(`${path}.rules`, "at least one rules must be specified when the successPolicy is specified")] : []),
  ...atMost(`${path}.rules`, rules),
  ...rules.flatMap(({ succeededIndexes, succeededCount }, i) => {
    const at = `${path}.rules[${i}]`;
    const indexes = succeededIndexes === undefined ? completions : readIndexes(succeededIndexes, completions);
    return [
      ...(succeededIndexes === undefined && succeededCount === undefined ? [required(at, "at least one of succeededCount or succeededIndexes must be specified")] : []),
      ...(typeof indexes === "string" ? [invalid(`${at}.succeededIndexes`, succeededIndexes, indexes)] : []),
      ...(succeededCount !== undefined && succeededCount <= 0 ? [invalid(`${at}.succeededCount`, succeededCount, "must be greater than or equal to 1")] : []),
      ...(succeededCount !== undefined && typeof indexes === "number" && succeededCount > indexes
        ? [invalid(`${at}.succeededCount`, succeededCount, succeededIndexes === undefined
          ? `must be less than or equal to ${completions} (the number of specified completions)` : `must be less than or equal to ${indexes} (the number of indexes in the specified succeededIndexes field)`)] : []),
    ];
  }),
];

export const validateJobPolicies = (path: string, spec: JobSpec): FieldCause[] => {
  const { backoffLimitPerIndex, maxFailedIndexes, completionMode, completions = 0, managedBy, parallelism = 1, podFailurePolicy, successPolicy } = spec;
  const indexed = completionMode === "Indexed";
  const many = indexed && backoffLimitPerIndex !== undefined && completions > MANY_COMPLETIONS;
  return [
    ...nonNegative(`${path}.backoffLimitPerIndex`, backoffLimitPerIndex), ...nonNegative(`${path}.maxFailedIndexes`, maxFailedIndexes),
    ...(!indexed && backoffLimitPerIndex !== undefined ? [invalid(`${path}.backoffLimitPerIndex`, backoffLimitPerIndex, INDEXED_ONLY)] : []),
    ...(maxFailedIndexes !== undefined && backoffLimitPerIndex === undefined ? [required(`${path}.backoffLimitPerIndex`, "when maxFailedIndexes is specified")] : []),
    ...(indexed && maxFailedIndexes !== undefined && maxFailedIndexes > completions ? [invalid(`${path}.maxFailedIndexes`, maxFailedIndexes, "must be less than or equal to completions")] : []),
    ...(many && maxFailedIndexes === undefined ? [required(`${path}.maxFailedIndexes`, `must be specified when completions is above ${MANY_COMPLETIONS}`)] : []),
    ...(many && (maxFailedIndexes ?? 0) > MAX_FAILED_INDEXES ? [invalid(`${path}.maxFailedIndexes`, maxFailedIndexes, `must be less than or equal to ${MAX_FAILED_INDEXES}`)] : []),
    ...(many && parallelism > MAX_FAILED_INDEXES ? [invalid(`${path}.parallelism`, parallelism, `must be less than or equal to ${MAX_FAILED_INDEXES} when completions are above ${MANY_COMPLETIONS} and used with backoffLimitPerIndex`)] : []),
    ...(podFailurePolicy ? [
      ...atMost(`${path}.podFailurePolicy.rules`, podFailurePolicy.rules ?? []),
      ...(podFailurePolicy.rules ?? []).flatMap((rule, i) => validateRule(`${path}.podFailurePolicy.rules[${i}]`, rule, spec)),
      ...(spec.template?.spec?.restartPolicy === "Never" ? [] : [invalid(`${path}.template.spec.restartPolicy`, spec.template?.spec?.restartPolicy ?? null, 'only "Never" is supported when podFailurePolicy is specified')]),
    ] : []),
    ...(backoffLimitPerIndex !== undefined && spec.template?.spec?.restartPolicy !== "Never"
      ? [invalid(`${path}.template.spec.restartPolicy`, spec.template?.spec?.restartPolicy ?? null, 'only "Never" is supported when backoffLimitPerIndex is specified')] : []),
    ...(successPolicy ? (indexed ? validateSuccess(`${path}.successPolicy`, successPolicy, completions) : [invalid(`${path}.successPolicy`, successPolicy, INDEXED_ONLY)]) : []),
    ...(managedBy === undefined ? [] : validateManager(`${path}.managedBy`, managedBy)),
  ];
};

/** A path below a domain, such as kueue.x-k8s.io/multikueue. */
const validateManager = (path: string, value: string): FieldCause[] => {
  const slash = value.indexOf("/");
  const domain = slash < 0 ? "" : value.slice(0, slash);
  return [
    ...(slash < 0 || slash === value.length - 1 ? [invalid(path, value, "must be a domain-prefixed path (such as \"acme.io/foo\")")] : isDnsSubdomain(domain).map((m) => invalid(path, value, m))),
    ...(value.length > MAX_MANAGER_LENGTH ? [tooLong(path, MAX_MANAGER_LENGTH)] : []),
  ];
};
