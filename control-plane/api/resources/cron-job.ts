// CronJob: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/cron-job-v1/
import type { FieldCause } from "../../../base/errors.ts";
import { CRON_JOBS } from "../../../base/kube/resources.ts";
import type { CronJob, CronJobSpec } from "../../../base/kube/types.gen.ts";
import { ageColumn, column, containerColumns, nameColumn, selectorColumn } from "./columns.ts";
import { validateSchedule, validateStageAhead } from "./cron-schedule.ts";
import type { ResourceDefinition } from "./definition.ts";
import { forbidden, invalid, nonNegative, oneOf, required } from "./faults.ts";
import { change, fill, without } from "./fill.ts";
import { age } from "./human-duration.ts";
import { validateJobSpec } from "./job.ts";
import { validateMetadata } from "./metadata.ts";
import { podTemplateDefaults } from "./pod-defaults.ts";

/** A Job's name adds 11 characters, and must fit into a label. */
const MAX_NAME_LENGTH = 52;

const specDefaults = (given: CronJobSpec): CronJobSpec => {
  const spec = fill(given, { concurrencyPolicy: "Allow", suspend: false, successfulJobsHistoryLimit: 3, failedJobsHistoryLimit: 1 });
  return change(spec, "jobTemplate", (t) => change(t, "spec", (job) => change(job, "template", podTemplateDefaults)));
};

const validateSpec = (spec: CronJobSpec): FieldCause[] => {
  const job = spec.jobTemplate?.spec;
  return [
    ...validateSchedule("spec", spec),
    ...nonNegative("spec.startingDeadlineSeconds", spec.startingDeadlineSeconds),
    ...(spec.concurrencyPolicy ? oneOf("spec.concurrencyPolicy", spec.concurrencyPolicy, ["Allow", "Forbid", "Replace"]) : [required("spec.concurrencyPolicy")]),
    ...nonNegative("spec.successfulJobsHistoryLimit", spec.successfulJobsHistoryLimit),
    ...nonNegative("spec.failedJobsHistoryLimit", spec.failedJobsHistoryLimit),
    ...(job ? validateJobSpec("spec.jobTemplate.spec", job) : [required("spec.jobTemplate.spec")]),
    ...(job?.selector ? [invalid("spec.jobTemplate.spec.selector", job.selector, "`selector` will be auto-generated")] : []),
    ...(job?.manualSelector === true ? [forbidden("spec.jobTemplate.spec.manualSelector", "a CronJob's Jobs have generated selectors; leave the field out")] : []),
  ];
};

const pyBool = (value: boolean): string => (value ? "True" : "False");

export const CRON_JOB: ResourceDefinition<CronJob> = {
  type: CRON_JOBS,
  singular: "cronjob",
  shortNames: ["cj"],
  categories: ["all"],
  schema: "batch/v1.CronJob",
  defaults: (cj) => change(cj, "spec", specDefaults),
  validate: (cj, previous) => [
    ...validateMetadata(CRON_JOBS, cj, previous),
    ...(!previous && (cj.metadata.name?.length ?? 0) > MAX_NAME_LENGTH ? [invalid("metadata.name", cj.metadata.name, `must be no more than ${MAX_NAME_LENGTH} characters`)] : []),
    ...validateStageAhead(cj),
    ...(cj.spec ? validateSpec(cj.spec) : [required("spec")]),
  ],
  strategy: { prepareForCreate: (cj) => without(cj, "status") },
  columns: [
    nameColumn(),
    column("Schedule", "string", "The schedule in Cron format, see https://en.wikipedia.org/wiki/Cron.", (cj) => cj.spec?.schedule ?? ""),
    column("Timezone", "string", "The time zone name for the given schedule, see https://en.wikipedia.org/wiki/List_of_tz_database_time_zones.", (cj) => cj.spec?.timeZone ?? "<none>"),
    column("Suspend", "boolean", "This flag tells the controller to suspend subsequent executions.", (cj) => pyBool(cj.spec?.suspend ?? false)),
    column("Active", "integer", "Number of running jobs.", (cj) => cj.status?.active?.length ?? 0),
    column("Last Schedule", "string", "Information when was the last time the job was successfully scheduled.", (cj, nowMs) => (cj.status?.lastScheduleTime ? age(cj.status.lastScheduleTime, nowMs) : "<none>")),
    ageColumn(),
    ...containerColumns<CronJob>((cj) => cj.spec?.jobTemplate?.spec?.template?.spec?.containers ?? []),
    selectorColumn((cj) => cj.spec?.jobTemplate?.spec?.selector),
  ],
  fieldSelectors: {},
  subresources: { status: true },
};
