// StatefulSet: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/stateful-set-v1/
import type { FieldCause } from "../../../base/errors.ts";
import { STATEFUL_SETS } from "../../../base/kube/resources.ts";
import type { PersistentVolumeClaim, StatefulSet, StatefulSetSpec, StatefulSetUpdateStrategy } from "../../../base/kube/types.gen.ts";
import { ageColumn, column, containerColumns, nameColumn } from "./columns.ts";
import type { ResourceDefinition } from "./definition.ts";
import { forbidden, invalid, nonNegative, notSupported, oneOf, required } from "./faults.ts";
import { change, each, fill, without } from "./fill.ts";
import { duplicates, validateMetadata } from "./metadata.ts";
import { isDnsLabel } from "./names.ts";
import { podTemplateDefaults } from "./pod-defaults.ts";
import { sameJson } from "./same-json.ts";
import { isZero, notAboveHundred, validateCountOrPercent, validateReplicated } from "./workload.ts";

const STRATEGIES = ["OnDelete", "RollingUpdate"];
const RETENTIONS = ["Delete", "Retain"];
const ACCESS_MODES = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

const strategyDefaults = (given: StatefulSetUpdateStrategy): StatefulSetUpdateStrategy => {
  const strategy = fill(given, { type: "RollingUpdate" });
  return strategy.type === "RollingUpdate" ? change(fill(strategy, { rollingUpdate: {} }), "rollingUpdate", (r) => fill(r, { partition: 0 })) : strategy;
};

const claimDefaults = (claim: PersistentVolumeClaim): PersistentVolumeClaim =>
  fill(change(fill(claim, { apiVersion: "v1", kind: "PersistentVolumeClaim" }), "spec", (spec) => fill(spec, { volumeMode: "Filesystem" })), { status: { phase: "Pending" } });

const specDefaults = (given: StatefulSetSpec): StatefulSetSpec => {
  const spec = fill(given, { replicas: 1, podManagementPolicy: "OrderedReady", updateStrategy: {}, revisionHistoryLimit: 10, persistentVolumeClaimRetentionPolicy: {} });
  const retained = change(spec, "persistentVolumeClaimRetentionPolicy", (p) => fill(p, { whenDeleted: "Retain", whenScaled: "Retain" }));
  return change(change(change(retained, "updateStrategy", strategyDefaults), "template", podTemplateDefaults), "volumeClaimTemplates", (claims) => each(claims, claimDefaults));
};

const validateStrategy = ({ type, rollingUpdate }: StatefulSetUpdateStrategy): FieldCause[] => {
  const at = "spec.updateStrategy.rollingUpdate";
  if (!type || !STRATEGIES.includes(type)) return [type ? notSupported("spec.updateStrategy.type", type, STRATEGIES) : required("spec.updateStrategy.type")];
  if (type === "OnDelete") return rollingUpdate ? [invalid(at, rollingUpdate, 'only allowed for updateStrategy "RollingUpdate"')] : [];
  const { maxUnavailable } = rollingUpdate ?? {};
  return [
    ...nonNegative(`${at}.partition`, rollingUpdate?.partition), ...validateCountOrPercent(`${at}.maxUnavailable`, maxUnavailable), ...notAboveHundred(`${at}.maxUnavailable`, maxUnavailable),
    ...(isZero(maxUnavailable) ? [invalid(`${at}.maxUnavailable`, maxUnavailable, "cannot be 0")] : []),
  ];
};

const validateClaims = (claims: readonly PersistentVolumeClaim[]): FieldCause[] => {
  const path = "spec.volumeClaimTemplates";
  return [
    ...claims.flatMap(({ metadata, spec }, i) => {
      const at = `${path}[${i}]`;
      const modes = spec?.accessModes ?? [];
      return [
        ...(metadata.name ? isDnsLabel(metadata.name).map((m) => invalid(`${at}.metadata.name`, metadata.name, m)) : [required(`${at}.metadata.name`)]),
        ...(modes.length === 0 ? [required(`${at}.spec.accessModes`, "at least 1 access mode is required")] : []),
        ...modes.flatMap((mode, j) => oneOf(`${at}.spec.accessModes[${j}]`, mode, ACCESS_MODES)),
        ...(spec?.resources?.requests?.["storage"] === undefined ? [required(`${at}.spec.resources.requests[storage]`)] : []),
      ];
    }),
    ...duplicates(claims, (c) => c.metadata.name ?? "", (i) => `${path}[${i}].metadata.name`),
  ];
};

/** Its pods' volumes of the claim templates' names are the claims: a mount of one is no fault although the template has no such volume. */
const withClaimVolumes = (spec: StatefulSetSpec): StatefulSetSpec => {
  const names = new Set((spec.volumeClaimTemplates ?? []).map((c) => c.metadata.name ?? ""));
  const pod = spec.template?.spec;
  if (names.size === 0 || !pod) return spec;
  const volumes = [...(pod.volumes ?? []).filter((v) => !names.has(v.name)), ...[...names].map((name) => ({ name, persistentVolumeClaim: { claimName: name } }))];
  return { ...spec, template: { ...spec.template, spec: { ...pod, volumes } } };
};

const validateSpec = (spec: StatefulSetSpec): FieldCause[] => [
  ...validateReplicated("statefulset", withClaimVolumes(spec)), ...validateStrategy(spec.updateStrategy ?? {}),
  ...(spec.podManagementPolicy ? oneOf("spec.podManagementPolicy", spec.podManagementPolicy, ["OrderedReady", "Parallel"]) : [required("spec.podManagementPolicy")]),
  ...nonNegative("spec.revisionHistoryLimit", spec.revisionHistoryLimit), ...nonNegative("spec.ordinals.start", spec.ordinals?.start),
  ...oneOf("spec.persistentVolumeClaimRetentionPolicy.whenDeleted", spec.persistentVolumeClaimRetentionPolicy?.whenDeleted, RETENTIONS),
  ...oneOf("spec.persistentVolumeClaimRetentionPolicy.whenScaled", spec.persistentVolumeClaimRetentionPolicy?.whenScaled, RETENTIONS),
  ...(spec.serviceName ? isDnsLabel(spec.serviceName).map((m) => invalid("spec.serviceName", spec.serviceName, m)) : []),
  ...validateClaims(spec.volumeClaimTemplates ?? []),
];

const MUTABLE = ["replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit", "persistentVolumeClaimRetentionPolicy", "minReadySeconds"] as const;

const validateUpdate = (next: StatefulSetSpec, old: StatefulSetSpec): FieldCause[] => {
  const fixed = (spec: StatefulSetSpec): StatefulSetSpec => ({ ...spec, ...Object.fromEntries(MUTABLE.map((f) => [f, undefined])) });
  return sameJson(fixed(next), fixed(old)) ? [] : [forbidden("spec", `updates to statefulset spec for fields other than ${MUTABLE.slice(0, -1).map((f) => `'${f}'`).join(", ")} and '${MUTABLE.at(-1)!}' are forbidden`)];
};

export const STATEFUL_SET: ResourceDefinition<StatefulSet> = {
  type: STATEFUL_SETS,
  singular: "statefulset",
  shortNames: ["sts"],
  categories: ["all"],
  schema: "apps/v1.StatefulSet",
  defaults: (set) => change(set, "spec", specDefaults),
  validate: (set, previous) => [
    ...validateMetadata(STATEFUL_SETS, set, previous, isDnsLabel),
    ...(set.spec ? validateSpec(set.spec) : [required("spec")]),
    ...(set.spec && previous?.spec ? validateUpdate(set.spec, previous.spec) : []),
  ],
  strategy: { prepareForCreate: (set) => without(set, "status") },
  columns: [
    nameColumn(),
    column("Ready", "string", "Number of the pod with ready state", (set) => `${set.status?.readyReplicas ?? 0}/${set.spec?.replicas ?? 0}`),
    ageColumn(),
    ...containerColumns<StatefulSet>((set) => set.spec?.template?.spec?.containers ?? []),
  ],
  fieldSelectors: {},
  subresources: { status: true, scale: { specReplicas: ".spec.replicas", statusReplicas: ".status.replicas", selector: ".spec.selector" } },
};
