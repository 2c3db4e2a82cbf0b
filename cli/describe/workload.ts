// What makes pods: deployments, replica sets, stateful sets, daemon sets, jobs, cron jobs.
import { formatSelector, fromLabelSelector } from "../../base/kube/labels.ts";
import type { CronJob, DaemonSet, Deployment, Job, LabelSelector, PodTemplateSpec, ReplicaSet, ReplicationController, StatefulSet } from "../../base/kube/types.gen.ts";
import { podSpecLines } from "./pod.ts";
import { conditionLines, field, fields, mapLines, span } from "./text.ts";

const selectorLine = (selector: LabelSelector | undefined): string => field("Selector", selector && formatSelector(fromLabelSelector(selector)));

const templateLines = (template: PodTemplateSpec | undefined): string[] =>
  ["Pod Template:", ...mapLines("Labels", template?.metadata?.labels, "  "), ...(template?.spec ? podSpecLines(template.spec, new Map(), "  ") : [])];

export const deploymentLines = ({ spec, status }: Deployment): string[] => [
  field("Replicas", `${spec?.replicas ?? 1} desired | ${status?.updatedReplicas ?? 0} updated | ${status?.replicas ?? 0} total | ${status?.availableReplicas ?? 0} available | ${status?.unavailableReplicas ?? 0} unavailable`),
  selectorLine(spec?.selector), field("Strategy", strategyText(spec?.strategy)), ...(spec?.paused ? [field("Paused", "true")] : []), ...templateLines(spec?.template), ...conditionLines(status?.conditions),
];

const strategyText = (strategy: NonNullable<Deployment["spec"]>["strategy"]): string =>
  `${strategy?.type ?? "RollingUpdate"}${strategy?.rollingUpdate ? `, ${strategy.rollingUpdate.maxUnavailable ?? "25%"} max unavailable, ${strategy.rollingUpdate.maxSurge ?? "25%"} max surge` : ""}`;

export const replicaSetLines = ({ spec, status }: ReplicaSet): string[] => [
  field("Replicas", `${status?.replicas ?? 0} current / ${spec?.replicas ?? 1} desired`), field("Ready", status?.readyReplicas ?? 0), selectorLine(spec?.selector), ...templateLines(spec?.template), ...(status?.conditions?.length ? conditionLines(status.conditions) : []),
];

export const replicationControllerLines = ({ spec, status }: ReplicationController): string[] => [
  field("Replicas", `${status?.replicas ?? 0} current / ${spec?.replicas ?? 1} desired`), field("Ready", status?.readyReplicas ?? 0), selectorLine(spec?.selector && { matchLabels: spec.selector }),
  ...templateLines(spec?.template), ...(status?.conditions?.length ? conditionLines(status.conditions) : []),
];

export const daemonSetLines = ({ spec, status }: DaemonSet): string[] => {
  const rolling = spec?.updateStrategy?.rollingUpdate;
  const bounds = rolling ? `, ${rolling.maxUnavailable ?? 1} max unavailable, ${rolling.maxSurge ?? 0} max surge` : "";
  return [
    field("Nodes", `${status?.desiredNumberScheduled ?? 0} desired | ${status?.currentNumberScheduled ?? 0} current | ${status?.updatedNumberScheduled ?? 0} updated | ${status?.numberAvailable ?? 0} available | ${status?.numberMisscheduled ?? 0} misscheduled`),
    selectorLine(spec?.selector), ...mapLines("Node Selector", spec?.template.spec?.nodeSelector), field("Strategy", `${spec?.updateStrategy?.type ?? "RollingUpdate"}${bounds}`), ...templateLines(spec?.template),
  ];
};

export const statefulSetLines = ({ spec, status }: StatefulSet): string[] => {
  const { type = "RollingUpdate", rollingUpdate } = spec?.updateStrategy ?? {};
  const { whenDeleted = "Retain", whenScaled = "Retain" } = spec?.persistentVolumeClaimRetentionPolicy ?? {};
  const claims = (spec?.volumeClaimTemplates ?? []).map((c) => `${c.metadata.name ?? ""}: ${c.spec?.resources?.requests?.["storage"] ?? "?"}, ${(c.spec?.accessModes ?? []).join(" ")}`);
  return [
    field("Replicas", `${spec?.replicas ?? 1} desired | ${status?.updatedReplicas ?? 0} updated | ${status?.replicas ?? 0} total | ${status?.availableReplicas ?? 0} available`),
    selectorLine(spec?.selector), field("Service", spec?.serviceName), field("Pods", `${spec?.podManagementPolicy ?? "OrderedReady"}, from ordinal ${spec?.ordinals?.start ?? 0}`),
    field("Strategy", `${type}${rollingUpdate?.partition ? `, partition ${rollingUpdate.partition}` : ""}${rollingUpdate?.maxUnavailable === undefined ? "" : `, ${rollingUpdate.maxUnavailable} max unavailable`}`),
    field("Revision", status?.currentRevision === status?.updateRevision ? status?.currentRevision : `${status?.currentRevision ?? ""}, updating to ${status?.updateRevision ?? ""}`),
    ...(claims.length > 0 ? [...fields("Claims", claims), field("Claims Kept", `when deleted: ${whenDeleted}, when scaled: ${whenScaled}`)] : []), ...templateLines(spec?.template),
  ];
};

export const jobLines = ({ spec, status }: Job, nowMs: number): string[] => [
  field("Parallelism", spec?.parallelism), field("Completions", spec?.completions), field("Mode", spec?.completionMode ?? "NonIndexed"), field("Backoff Limit", spec?.backoffLimit), ...(spec?.suspend ? [field("Suspend", "true")] : []),
  field("Start Time", status?.startTime), ...(status?.completionTime ? [field("Completed At", status.completionTime)] : []),
  ...(status?.startTime ? [field("Duration", span((status.completionTime ? Date.parse(status.completionTime) : nowMs) - Date.parse(status.startTime)))] : []),
  field("Pods", `${status?.active ?? 0} active (${status?.ready ?? 0} ready) / ${status?.succeeded ?? 0} succeeded / ${status?.failed ?? 0} failed`), ...(status?.completedIndexes ? [field("Completed", status.completedIndexes)] : []),
  selectorLine(spec?.selector), ...templateLines(spec?.template), ...conditionLines(status?.conditions),
];

export const cronJobLines = ({ spec, status }: CronJob): string[] => [
  field("Schedule", spec.schedule), field("Time Zone", spec.timeZone), field("Concurrency", spec.concurrencyPolicy), field("Suspend", spec.suspend ?? false),
  field("Deadline", spec.startingDeadlineSeconds === undefined ? undefined : `${spec.startingDeadlineSeconds}s to start`), field("History", `${spec.successfulJobsHistoryLimit ?? 3} successful, ${spec.failedJobsHistoryLimit ?? 1} failed`),
  field("Last Schedule", status?.lastScheduleTime), field("Last Success", status?.lastSuccessfulTime), ...fields("Active Jobs", (status?.active ?? []).map((j) => j.name ?? "")),
  field("Parallelism", spec.jobTemplate.spec?.parallelism), field("Completions", spec.jobTemplate.spec?.completions), ...templateLines(spec.jobTemplate.spec?.template),
];
