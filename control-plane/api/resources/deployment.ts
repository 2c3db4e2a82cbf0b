// Deployment: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/deployment-v1/
import type { FieldCause } from "../../../base/errors.ts";
import { DEPLOYMENTS } from "../../../base/kube/resources.ts";
import type { Deployment, DeploymentSpec, DeploymentStrategy } from "../../../base/kube/types.gen.ts";
import { ageColumn, column, containerColumns, nameColumn, selectorColumn } from "./columns.ts";
import type { ResourceDefinition } from "./definition.ts";
import { forbidden, invalid, nonNegative, oneOf, required } from "./faults.ts";
import { change, fill, without } from "./fill.ts";
import { immutable, validateMetadata } from "./metadata.ts";
import { podTemplateDefaults } from "./pod-defaults.ts";
import { isZero, notAboveHundred, validateCountOrPercent, validateReplicated } from "./workload.ts";

const strategyDefaults = (given: DeploymentStrategy): DeploymentStrategy => {
  const strategy = fill(given, { type: "RollingUpdate" });
  if (strategy.type !== "RollingUpdate") return strategy;
  return change(fill(strategy, { rollingUpdate: {} }), "rollingUpdate", (r) => fill(r, { maxUnavailable: "25%", maxSurge: "25%" }));
};

const specDefaults = (given: DeploymentSpec): DeploymentSpec => {
  const spec = fill(given, { replicas: 1, strategy: {}, revisionHistoryLimit: 10, progressDeadlineSeconds: 600 });
  return change(change(spec, "strategy", strategyDefaults), "template", podTemplateDefaults);
};

const validateStrategy = (strategy: DeploymentStrategy): FieldCause[] => {
  const path = "spec.strategy";
  const rolling = strategy.rollingUpdate;
  const at = `${path}.rollingUpdate`;
  return [
    ...(strategy.type ? oneOf(`${path}.type`, strategy.type, ["Recreate", "RollingUpdate"]) : [required(`${path}.type`)]),
    ...(strategy.type === "Recreate" && rolling ? [forbidden(at, "may not be specified when strategy `type` is 'Recreate'")] : []),
    ...validateCountOrPercent(`${at}.maxUnavailable`, rolling?.maxUnavailable), ...validateCountOrPercent(`${at}.maxSurge`, rolling?.maxSurge),
    ...(isZero(rolling?.maxUnavailable) && isZero(rolling?.maxSurge) ? [invalid(`${at}.maxUnavailable`, rolling?.maxUnavailable, "may not be 0 when `maxSurge` is 0")] : []),
    ...notAboveHundred(`${at}.maxUnavailable`, rolling?.maxUnavailable),
  ];
};

const validateSpec = (spec: DeploymentSpec): FieldCause[] => [
  ...validateReplicated("deployment", spec),
  ...validateStrategy(spec.strategy ?? {}),
  ...nonNegative("spec.revisionHistoryLimit", spec.revisionHistoryLimit),
  ...nonNegative("spec.progressDeadlineSeconds", spec.progressDeadlineSeconds),
  ...((spec.progressDeadlineSeconds ?? 600) <= (spec.minReadySeconds ?? 0) ? [invalid("spec.progressDeadlineSeconds", spec.progressDeadlineSeconds, "must be greater than minReadySeconds")] : []),
];

export const DEPLOYMENT: ResourceDefinition<Deployment> = {
  type: DEPLOYMENTS,
  singular: "deployment",
  shortNames: ["deploy"],
  categories: ["all"],
  schema: "apps/v1.Deployment",
  defaults: (d) => change(d, "spec", specDefaults),
  validate: (d, previous) => [
    ...validateMetadata(DEPLOYMENTS, d, previous),
    ...(d.spec ? validateSpec(d.spec) : [required("spec")]),
    ...(previous ? immutable([["spec.selector", d.spec?.selector, previous.spec?.selector]]) : []),
  ],
  strategy: { prepareForCreate: (d) => without(d, "status") },
  columns: [
    nameColumn(),
    column("Ready", "string", "Number of the pod with ready state", (d) => `${d.status?.readyReplicas ?? 0}/${d.spec?.replicas ?? 0}`),
    column("Up-to-date", "string", "Total number of non-terminated pods targeted by this deployment that have the desired template spec.", (d) => d.status?.updatedReplicas ?? 0),
    column("Available", "string", "Total number of available pods (ready for at least minReadySeconds) targeted by this deployment.", (d) => d.status?.availableReplicas ?? 0),
    ageColumn(),
    ...containerColumns<Deployment>((d) => d.spec?.template?.spec?.containers ?? []),
    selectorColumn((d) => d.spec?.selector),
  ],
  fieldSelectors: {},
  subresources: { status: true, scale: { specReplicas: ".spec.replicas", statusReplicas: ".status.replicas", selector: ".spec.selector" } },
};
