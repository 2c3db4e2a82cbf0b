// Job: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/job-v1/
import type { FieldCause } from "../../../base/errors.ts";
import { JOBS } from "../../../base/kube/resources.ts";
import { fromLabelSelector, selectorMatches } from "../../../base/kube/labels.ts";
import { isAhead } from "../../../base/kube/staging.ts";
import type { Job, JobSpec, PodFailurePolicy, PodTemplateSpec } from "../../../base/kube/types.gen.ts";
import { ageColumn, column, containerColumns, nameColumn, selectorColumn } from "./columns.ts";
import type { ResourceDefinition } from "./definition.ts";
import { invalid, nonNegative, oneOf, required } from "./faults.ts";
import { change, each, fill, without } from "./fill.ts";
import { humanDuration } from "./human-duration.ts";
import { validateJobPolicies } from "./job-policies.ts";
import { immutable, validateLabelSelector, validateMetadata } from "./metadata.ts";
import { isDnsLabel } from "./names.ts";
import { podTemplateDefaults } from "./pod-defaults.ts";
import { sameJson } from "./same-json.ts";
import { validateTemplate } from "./workload.ts";

const UID_LABEL = "batch.kubernetes.io/controller-uid";
const MAX_INDEXED_PARALLELISM = 100_000;
const RESTART_POLICIES = ["Never", "OnFailure"];

const MAX_INT32 = 2 ** 31 - 1;

const policyDefaults = (policy: PodFailurePolicy): PodFailurePolicy =>
  change(policy, "rules", (rules) => each(rules, (rule) => change(rule, "onPodConditions", (patterns) => each(patterns, (p) => fill(p, { status: "True" })))));

const specDefaults = (given: JobSpec): JobSpec => {
  const counts = given.completions === undefined && given.parallelism === undefined ? { completions: 1, parallelism: 1 } : { parallelism: 1 };
  const spec = fill(given, {
    ...counts, backoffLimit: given.backoffLimitPerIndex === undefined ? 6 : MAX_INT32, completionMode: "NonIndexed", suspend: false,
    podReplacementPolicy: given.podFailurePolicy ? "Failed" : "TerminatingOrFailed", manualSelector: false,
  });
  return change(change(spec, "podFailurePolicy", policyDefaults), "template", podTemplateDefaults);
};

/** So that two Jobs with the same template never share pods, the selector asks for the Job's uid. */
const withGeneratedSelector = (job: Job): Job => {
  const { uid, name } = job.metadata;
  if (!job.spec || job.spec.manualSelector === true || !uid || !name) return job;
  const template: PodTemplateSpec = job.spec.template ?? {};
  const labels = { ...template.metadata?.labels, "controller-uid": uid, [UID_LABEL]: uid, "job-name": name, "batch.kubernetes.io/job-name": name };
  const selector = { ...job.spec.selector, matchLabels: { ...job.spec.selector?.matchLabels, [UID_LABEL]: uid } };
  return { ...job, spec: { ...job.spec, selector, template: { ...template, metadata: { ...template.metadata, labels } } } };
};

const prepareForCreate = (job: Job): Job => {
  const templateLabels = job.spec?.template?.metadata?.labels;
  // Upstream's default, taken before the generated labels join the template's.
  const labelled = job.metadata.labels || !templateLabels ? job : { ...job, metadata: { ...job.metadata, labels: templateLabels } };
  return withGeneratedSelector(without(labelled, "status"));
};

/** Of a Job and of a CronJob's template, which has no selector yet. */
export const validateJobSpec = (path: string, spec: JobSpec): FieldCause[] => [
  ...(["parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"] as const).flatMap((f) => nonNegative(`${path}.${f}`, spec[f])),
  ...oneOf(`${path}.completionMode`, spec.completionMode, ["Indexed", "NonIndexed"]),
  ...(spec.completionMode === "Indexed" && spec.completions === undefined ? [required(`${path}.completions`, "when completion mode is Indexed")] : []),
  ...(spec.completionMode === "Indexed" && (spec.parallelism ?? 0) > MAX_INDEXED_PARALLELISM
    ? [invalid(`${path}.parallelism`, spec.parallelism, `must be less than or equal to ${MAX_INDEXED_PARALLELISM} when completion mode is Indexed`)] : []),
  ...oneOf(`${path}.podReplacementPolicy`, spec.podReplacementPolicy, spec.podFailurePolicy ? ["Failed"] : ["Failed", "TerminatingOrFailed"]),
  ...validateJobPolicies(path, spec),
  ...validateTemplate(`${path}.template`, spec.template, RESTART_POLICIES),
];

/** Each pod of an Indexed job has its own host name, which must be one. */
const validateIndexedName = (job: Job): FieldCause[] => {
  const { completionMode, completions = 0 } = job.spec!;
  if (completionMode !== "Indexed" || completions <= 0 || !job.metadata.name) return [];
  const faults = isDnsLabel(`${job.metadata.name}-${completions - 1}`);
  return faults.map((m) => invalid("metadata.name", job.metadata.name, `will not be able to create pods with a valid host name, which is the name and the index: ${m}`));
};

const validateSelector = (job: Job, spec: JobSpec): FieldCause[] => {
  const { selector } = spec;
  if (!selector) return [required("spec.selector")];
  const causes = validateLabelSelector("spec.selector", selector);
  if (spec.manualSelector !== true && job.metadata.uid && !sameJson(selector, { matchLabels: { [UID_LABEL]: job.metadata.uid } })) {
    causes.push(invalid("spec.selector", selector, "`selector` not auto-generated"));
  }
  if (!selectorMatches(fromLabelSelector(selector), spec.template?.metadata?.labels)) {
    causes.push(invalid("spec.template.metadata.labels", spec.template?.metadata?.labels ?? {}, "`selector` does not match template `labels`"));
  }
  return causes;
};

/** A suspended Job that never started may still be told where to run (queue controllers do so). */
const withoutDirectives = (template: PodTemplateSpec | undefined): unknown => ({
  ...template,
  metadata: { ...template?.metadata, labels: undefined, annotations: undefined },
  spec: { ...template?.spec, nodeSelector: undefined, tolerations: undefined, affinity: undefined, schedulingGates: undefined },
});

const validateUpdate = (next: JobSpec, old: JobSpec, previous: Job): FieldCause[] => {
  const elastic = next.completionMode === "Indexed" && next.completions === next.parallelism;
  const open = old.suspend === true && previous.status?.startTime === undefined;
  const template = (t: PodTemplateSpec | undefined): unknown => (open ? withoutDirectives(t) : t);
  return immutable([
    ...(elastic ? [] : [["spec.completions", next.completions, old.completions] as const]),
    ["spec.selector", next.selector, old.selector],
    ...(sameJson(template(next.template), template(old.template)) ? [] : [["spec.template", next.template, old.template] as const]),
    ["spec.completionMode", next.completionMode, old.completionMode],
    ["spec.podFailurePolicy", next.podFailurePolicy, old.podFailurePolicy],
    ["spec.successPolicy", next.successPolicy, old.successPolicy],
    ["spec.backoffLimitPerIndex", next.backoffLimitPerIndex, old.backoffLimitPerIndex],
    ["spec.managedBy", next.managedBy, old.managedBy],
  ]);
};

const statusOf = (job: Job, nowMs: number): string => {
  const has = (type: string): boolean => job.status?.conditions?.some((c) => c.type === type && c.status === "True") ?? false;
  if (has("Complete")) return "Complete";
  if (has("Failed")) return "Failed";
  if (job.metadata.deletionTimestamp !== undefined) return "Terminating";
  return ["Suspended", "FailureTarget", "SuccessCriteriaMet"].find(has) ?? (isAhead(job, nowMs) && job.status?.startTime === undefined ? "Staged" : "Running");
};

const completionsOf = (job: Job): string => {
  const done = job.status?.succeeded ?? 0;
  const parallelism = job.spec?.parallelism ?? 0;
  if (job.spec?.completions !== undefined) return `${done}/${job.spec.completions}`;
  return parallelism > 1 ? `${done}/1 of ${parallelism}` : `${done}/1`;
};

const durationOf = (job: Job, nowMs: number): string => {
  const { startTime, completionTime } = job.status ?? {};
  return startTime === undefined ? "" : humanDuration((completionTime === undefined ? nowMs : Date.parse(completionTime)) - Date.parse(startTime));
};

export const JOB: ResourceDefinition<Job> = {
  type: JOBS,
  singular: "job",
  shortNames: [],
  categories: ["all"],
  schema: "batch/v1.Job",
  defaults: (job) => change(job, "spec", specDefaults),
  validate: (job, previous) => [
    ...validateMetadata(JOBS, job, previous),
    ...(job.spec ? [...validateJobSpec("spec", job.spec), ...validateSelector(job, job.spec)] : [required("spec")]),
    ...(job.spec && !previous ? validateIndexedName(job) : []),
    ...(job.spec && previous?.spec ? validateUpdate(job.spec, previous.spec, previous) : []),
  ],
  strategy: { prepareForCreate },
  columns: [
    nameColumn(),
    column("Status", "string", "Status of the job.", statusOf),
    column("Completions", "string", "The number of pods which reached phase Succeeded.", completionsOf),
    column("Duration", "string", "Time required to complete the job.", durationOf),
    ageColumn(),
    ...containerColumns<Job>((j) => j.spec?.template?.spec?.containers ?? []),
    selectorColumn((j) => j.spec?.selector),
  ],
  fieldSelectors: { "status.successful": (j) => String(j.status?.succeeded ?? 0) },
  subresources: { status: true },
};
