// Jobs that controllers make don't pass through the API, so what it fills in at creation is filled in here. Pure.
// Upstream: pkg/apis/batch/v1/defaults.go and pkg/registry/batch/job/strategy.go.
import { JOBS } from "../../../base/kube/resources.ts";
import type { Job, JobSpec, ObjectMeta } from "../../../base/kube/types.gen.ts";

export const JOB_NAME = "batch.kubernetes.io/job-name";
export const CONTROLLER_UID = "batch.kubernetes.io/controller-uid";

/** A complete Job: defaults, and a selector over its own uid. `metadata` has at least name, namespace and uid. */
export const newJob = (metadata: ObjectMeta, spec: JobSpec): Job => {
  const { name = "", uid = "" } = metadata;
  const labels = metadata.labels ?? spec.template.metadata?.labels;
  const { podFailurePolicy, backoffLimitPerIndex } = spec;
  const single = spec.completions === undefined && spec.parallelism === undefined;
  const template = spec.manualSelector
    ? spec.template
    : {
      ...spec.template,
      metadata: { ...spec.template.metadata, labels: { ...spec.template.metadata?.labels, [CONTROLLER_UID]: uid, [JOB_NAME]: name, "controller-uid": uid, "job-name": name } },
    };
  return {
    apiVersion: JOBS.apiVersion, kind: JOBS.kind, metadata: { generation: 1, ...metadata, ...(labels && { labels }) },
    spec: {
      ...spec, template,
      ...(single && { completions: 1 }), parallelism: spec.parallelism ?? 1, backoffLimit: spec.backoffLimit ?? (backoffLimitPerIndex === undefined ? 6 : 2 ** 31 - 1),
      completionMode: spec.completionMode ?? "NonIndexed", suspend: spec.suspend ?? false, podReplacementPolicy: spec.podReplacementPolicy ?? (podFailurePolicy ? "Failed" : "TerminatingOrFailed"),
      ...(!spec.manualSelector && { selector: { matchLabels: { [CONTROLLER_UID]: uid } } }),
    },
  };
};

/** Jobs may be another controller's, such as a queue's: then nothing of them is touched. */
export const isOurs = (job: Job): boolean => (job.spec?.managedBy ?? "kubernetes.io/job-controller") === "kubernetes.io/job-controller";

/** The condition that ended the job; undefined while it goes on. */
export const finishedBy = (job: Job): "Complete" | "Failed" | undefined => {
  const condition = job.status?.conditions?.find((c) => (c.type === "Complete" || c.type === "Failed") && c.status === "True");
  return condition?.type as "Complete" | "Failed" | undefined;
};

export const finishedAt = (job: Job): string | undefined => job.status?.conditions?.find((c) => (c.type === "Complete" || c.type === "Failed") && c.status === "True")?.lastTransitionTime;
