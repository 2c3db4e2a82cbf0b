// ScheduledScaler (gantry.io/v1): how many replicas a workload has from when on. See docs/design/cron.md.
import type { FieldCause } from "../../../base/errors.ts";
import { SCHEDULED_SCALERS } from "../../../base/kube/resources.ts";
import type { ScheduledScaler, ScheduledScalerEntry, ScheduledScalerSpec } from "../../../base/kube/types.gen.ts";
import { ageColumn, column, nameColumn } from "./columns.ts";
import { validateSchedule } from "./cron-schedule.ts";
import type { ResourceDefinition } from "./definition.ts";
import { invalid, nonNegative, notSupported, positive, required, tooMany } from "./faults.ts";
import { change, fill, without } from "./fill.ts";
import { validateMetadata } from "./metadata.ts";

const MAX_ENTRIES = 100;
/** Kinds with a size, and their API versions. */
const TARGETS: Readonly<Record<string, string>> = { Deployment: "apps/v1", StatefulSet: "apps/v1", ReplicaSet: "apps/v1", ReplicationController: "v1" };

const validateEntry = (path: string, entry: ScheduledScalerEntry, spec: ScheduledScalerSpec): FieldCause[] => {
  const { replicas, minReplicas, maxReplicas } = entry;
  const isOrdered = (low: number | undefined, high: number | undefined): boolean => low === undefined || high === undefined || low <= high;
  return [
    ...validateSchedule(path, { schedule: entry.schedule ?? "", timeZone: entry.timeZone ?? spec.timeZone }),
    ...(replicas ?? minReplicas ?? maxReplicas) === undefined ? [required(`${path}.replicas`, "the number of pods from this time on; or minReplicas and maxReplicas of the target's HorizontalPodAutoscaler")] : [],
    ...(replicas === undefined ? [] : nonNegative(`${path}.replicas`, replicas)),
    ...(["minReplicas", "maxReplicas"] as const).flatMap((f) => (entry[f] === undefined ? [] : positive(`${path}.${f}`, entry[f]))),
    ...(isOrdered(minReplicas, maxReplicas) ? [] : [invalid(`${path}.maxReplicas`, maxReplicas, "must be greater than or equal to `minReplicas`")]),
    ...(replicas === 0 || (isOrdered(minReplicas, replicas) && isOrdered(replicas, maxReplicas)) ? [] : [invalid(`${path}.replicas`, replicas, "must lie between `minReplicas` and `maxReplicas`, or be 0")]),
  ];
};

const validateSpec = (spec: ScheduledScalerSpec): FieldCause[] => {
  const { scaleTargetRef: target, entries = [] } = spec;
  const apiVersion = TARGETS[target?.kind ?? ""];
  return [
    ...(!target?.kind ? [required("spec.scaleTargetRef.kind")] : apiVersion === undefined ? [notSupported("spec.scaleTargetRef.kind", target.kind, Object.keys(TARGETS))] : []),
    ...(target?.name ? [] : [required("spec.scaleTargetRef.name")]),
    ...(apiVersion !== undefined && target?.apiVersion !== apiVersion ? [invalid("spec.scaleTargetRef.apiVersion", target?.apiVersion, `a ${target?.kind ?? ""} is of ${apiVersion}`)] : []),
    ...(entries.length === 0 ? [required("spec.entries", "at least one: schedule and replicas")] : entries.length > MAX_ENTRIES ? [tooMany("spec.entries", entries.length, MAX_ENTRIES)] : []),
    ...entries.flatMap((entry, i) => validateEntry(`spec.entries[${i}]`, entry, spec)),
  ];
};

const specDefaults = (given: ScheduledScalerSpec): ScheduledScalerSpec => {
  const spec = fill(given, { suspend: false });
  return change(spec, "scaleTargetRef", (ref) => {
    const apiVersion = TARGETS[ref.kind ?? ""];
    return ref.apiVersion || apiVersion === undefined ? ref : { ...ref, apiVersion };
  });
};

const changeText = (time: string | undefined, replicas: number | undefined): string => (time === undefined ? "<none>" : `${replicas ?? "<unknown>"} at ${time}`);

export const SCHEDULED_SCALER: ResourceDefinition<ScheduledScaler> = {
  type: SCHEDULED_SCALERS,
  singular: "scheduledscaler",
  shortNames: ["ss"],
  categories: [],
  schema: "gantry/v1.ScheduledScaler",
  defaults: (s) => change(s, "spec", specDefaults),
  validate: (s, previous) => [...validateMetadata(SCHEDULED_SCALERS, s, previous), ...(s.spec ? validateSpec(s.spec) : [required("spec")])],
  strategy: { prepareForCreate: (s) => without(s, "status") },
  columns: [
    nameColumn(),
    column("Target", "string", "What is scaled.", (s) => `${s.spec?.scaleTargetRef?.kind ?? ""}/${s.spec?.scaleTargetRef?.name ?? ""}`),
    column("Suspend", "boolean", "Whether changes are left out.", (s) => (s.spec?.suspend ? "True" : "False")),
    column("Last Change", "string", "Replicas that hold now, and since when.", (s) => changeText(s.status?.lastChangeTime, s.status?.lastReplicas)),
    column("Next Change", "string", "Replicas that come next, and when.", (s) => changeText(s.status?.nextChangeTime, s.status?.nextReplicas)),
    ageColumn(),
  ],
  fieldSelectors: {},
  subresources: { status: true },
};
