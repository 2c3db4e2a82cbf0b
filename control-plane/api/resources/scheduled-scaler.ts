// ScheduledScaler (gantry.io/v1): how many replicas a workload has from when on. See docs/design/cron.md.
import type { FieldCause } from "../../../base/errors.ts";
import { SCHEDULED_SCALERS } from "../../../base/kube/resources.ts";
import type { ScheduledScaler, ScheduledScalerEntry, ScheduledScalerSpec } from "../../../base/kube/types.gen.ts";
import { ageColumn, column, nameColumn } from "./columns.ts";
import { validateSchedule } from "./cron-schedule.ts";
import type { ResourceDefinition } from "./definition.ts";
import { forbidden, invalid, nonNegative, notSupported, required, tooMany } from "./faults.ts";
import { change, fill, without } from "./fill.ts";
import { validateMetadata } from "./metadata.ts";

const MAX_ENTRIES = 100;
/** Kinds with a size, and their API versions. */
const TARGETS: Readonly<Record<string, string>> = { Deployment: "apps/v1", StatefulSet: "apps/v1", ReplicaSet: "apps/v1", ReplicationController: "v1" };

const validateEntry = (path: string, entry: ScheduledScalerEntry, spec: ScheduledScalerSpec): FieldCause[] => [
  ...validateSchedule(path, { schedule: entry.schedule ?? "", timeZone: entry.timeZone ?? spec.timeZone }),
  ...(["minReplicas", "maxReplicas"] as const).filter((f) => entry[f] !== undefined).map((f) => forbidden(`${path}.${f}`, "belongs to a HorizontalPodAutoscaler, which Gantry does not have yet: set replicas")),
  ...(entry.replicas === undefined ? [required(`${path}.replicas`, "the number of pods from this time on")] : nonNegative(`${path}.replicas`, entry.replicas)),
];

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

const changeText = (time: string | undefined, replicas: number | undefined): string => (time === undefined ? "<none>" : `${replicas ?? 0} at ${time}`);

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
