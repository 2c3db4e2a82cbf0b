// DaemonSet: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/daemon-set-v1/
import type { FieldCause } from "../../../base/errors.ts";
import { DAEMON_SETS } from "../../../base/kube/resources.ts";
import type { DaemonSet, DaemonSetSpec, DaemonSetUpdateStrategy } from "../../../base/kube/types.gen.ts";
import { ageColumn, column, containerColumns, nameColumn, selectorColumn } from "./columns.ts";
import type { ResourceDefinition } from "./definition.ts";
import { forbidden, invalid, nonNegative, notSupported, required } from "./faults.ts";
import { change, fill, without } from "./fill.ts";
import { immutable, validateMetadata } from "./metadata.ts";
import { podTemplateDefaults } from "./pod-defaults.ts";
import { isZero, notAboveHundred, validateCountOrPercent, validateReplicated } from "./workload.ts";

const STRATEGIES = ["OnDelete", "RollingUpdate"];

const strategyDefaults = (given: DaemonSetUpdateStrategy): DaemonSetUpdateStrategy => {
  const strategy = fill(given, { type: "RollingUpdate" });
  if (strategy.type !== "RollingUpdate") return strategy;
  return change(fill(strategy, { rollingUpdate: {} }), "rollingUpdate", (r) => fill(r, { maxUnavailable: isZero(r.maxSurge ?? 0) ? 1 : 0, maxSurge: 0 }));
};

const specDefaults = (given: DaemonSetSpec): DaemonSetSpec => {
  const spec = fill(given, { updateStrategy: {}, revisionHistoryLimit: 10 });
  return change(change(spec, "updateStrategy", strategyDefaults), "template", podTemplateDefaults);
};

const validateStrategy = ({ type, rollingUpdate }: DaemonSetUpdateStrategy): FieldCause[] => {
  const at = "spec.updateStrategy.rollingUpdate";
  if (!type || !STRATEGIES.includes(type)) return [type ? notSupported("spec.updateStrategy.type", type, STRATEGIES) : required("spec.updateStrategy.type")];
  if (type === "OnDelete") return rollingUpdate ? [forbidden(at, "may not be specified when the type is 'OnDelete'")] : [];
  const { maxSurge, maxUnavailable } = rollingUpdate ?? {};
  return [
    ...(rollingUpdate ? [] : [required(at)]),
    ...validateCountOrPercent(`${at}.maxUnavailable`, maxUnavailable), ...validateCountOrPercent(`${at}.maxSurge`, maxSurge),
    ...notAboveHundred(`${at}.maxUnavailable`, maxUnavailable), ...notAboveHundred(`${at}.maxSurge`, maxSurge),
    ...(isZero(maxUnavailable) && isZero(maxSurge) ? [required(`${at}.maxUnavailable`, "cannot be 0 when maxSurge is 0")] : []),
    ...(!isZero(maxUnavailable) && !isZero(maxSurge) ? [invalid(`${at}.maxSurge`, maxSurge, "may not be set when maxUnavailable is non-zero")] : []),
  ];
};

const validateSpec = (spec: DaemonSetSpec): FieldCause[] => {
  const surges = !isZero(spec.updateStrategy?.rollingUpdate?.maxSurge ?? 0);
  const hostPorts = (spec.template?.spec?.containers ?? []).flatMap((c, i) => (c.ports ?? []).flatMap((p, j) => (p.hostPort ? [[i, j] as const] : [])));
  return [
    ...validateReplicated("daemonset", spec), ...validateStrategy(spec.updateStrategy ?? {}), ...nonNegative("spec.revisionHistoryLimit", spec.revisionHistoryLimit),
    ...(surges ? hostPorts.map(([i, j]) => forbidden(`spec.template.spec.containers[${i}].ports[${j}].hostPort`, "may not be specified when daemonset.spec.updateStrategy.rollingUpdate.maxSurge is non-zero: two pods on one node can't share a host port")) : []),
  ];
};

const nodeSelectorOf = (ds: DaemonSet): string =>
  Object.entries(ds.spec?.template?.spec?.nodeSelector ?? {}).map(([k, v]) => `${k}=${v}`).sort().join(",") || "<none>";

export const DAEMON_SET: ResourceDefinition<DaemonSet> = {
  type: DAEMON_SETS,
  singular: "daemonset",
  shortNames: ["ds"],
  categories: ["all"],
  schema: "apps/v1.DaemonSet",
  defaults: (ds) => change(ds, "spec", specDefaults),
  validate: (ds, previous) => [
    ...validateMetadata(DAEMON_SETS, ds, previous),
    ...(ds.spec ? validateSpec(ds.spec) : [required("spec")]),
    ...(previous ? immutable([["spec.selector", ds.spec?.selector, previous.spec?.selector]]) : []),
  ],
  strategy: { prepareForCreate: (ds) => without(ds, "status") },
  columns: [
    nameColumn(),
    column("Desired", "integer", "The total number of nodes that should be running the daemon pod (including nodes correctly running the daemon pod).", (ds) => ds.status?.desiredNumberScheduled ?? 0),
    column("Current", "integer", "The number of nodes that are running at least 1 daemon pod and are supposed to run the daemon pod.", (ds) => ds.status?.currentNumberScheduled ?? 0),
    column("Ready", "integer", "The number of nodes that should be running the daemon pod and have one or more of the daemon pod running with a Ready Condition.", (ds) => ds.status?.numberReady ?? 0),
    column("Up-to-date", "integer", "The total number of nodes that are running updated daemon pod", (ds) => ds.status?.updatedNumberScheduled ?? 0),
    column("Available", "integer", "The number of nodes that should be running the daemon pod and have one or more of the daemon pod running and available (ready for at least spec.minReadySeconds)", (ds) => ds.status?.numberAvailable ?? 0),
    column("Node Selector", "string", "A selector which must be true for the pod to fit on a node.", nodeSelectorOf),
    ageColumn(),
    ...containerColumns<DaemonSet>((ds) => ds.spec?.template?.spec?.containers ?? []),
    selectorColumn((ds) => ds.spec?.selector),
  ],
  fieldSelectors: {},
  subresources: { status: true },
};
