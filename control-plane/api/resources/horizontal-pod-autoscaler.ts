// HorizontalPodAutoscaler (autoscaling/v2): https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/horizontal-pod-autoscaler-v2/
// Rules and words: k8s.io/kubernetes/pkg/apis/autoscaling/{v2/defaults.go,validation/validation.go}.
import type { FieldCause } from "../../../base/errors.ts";
import { parseQuantity, tryParseQuantity } from "../../../base/kube/quantity.ts";
import { HORIZONTAL_POD_AUTOSCALERS } from "../../../base/kube/resources.ts";
import type {
  CrossVersionObjectReference, HorizontalPodAutoscaler, HorizontalPodAutoscalerBehavior, HorizontalPodAutoscalerSpec, HPAScalingPolicy, HPAScalingRules, MetricIdentifier, MetricSpec, MetricStatus,
  MetricTarget, MetricValueStatus,
} from "../../../base/kube/types.gen.ts";
import { ageColumn, column, nameColumn } from "./columns.ts";
import type { ResourceDefinition } from "./definition.ts";
import { forbidden, invalid, nonNegative, notSupported, oneOf, positive, required } from "./faults.ts";
import { change, fill, without } from "./fill.ts";
import { validateMetadata } from "./metadata.ts";

const DEFAULT_CPU_PERCENT = 80;
const MAX_STABILIZATION_SECONDS = 3600;
const MAX_PERIOD_SECONDS = 1800;
const SELECT_POLICIES = ["Max", "Min", "Disabled"];
const POLICY_TYPES = ["Pods", "Percent"];
const TARGET_TYPES = ["Utilization", "Value", "AverageValue"];

/** metrics[].type -> the field that it needs. */
const SOURCES = { Object: "object", Pods: "pods", Resource: "resource", ContainerResource: "containerResource", External: "external" } as const;
type SourceField = (typeof SOURCES)[keyof typeof SOURCES];
const sourceFieldOf = (type: string | undefined): SourceField | undefined => (type !== undefined && Object.hasOwn(SOURCES, type) ? SOURCES[type as keyof typeof SOURCES] : undefined);

const doubledOr4 = (): HPAScalingPolicy[] => [{ type: "Pods", value: 4, periodSeconds: 15 }, { type: "Percent", value: 100, periodSeconds: 15 }];

/** Of a behavior that is there; without one the controller goes by rules of its own, which are next to the same. */
const behaviorDefaults = (given: HorizontalPodAutoscalerBehavior): HorizontalPodAutoscalerBehavior => {
  const behavior = fill(given, { scaleUp: {}, scaleDown: {} });
  const up = change(behavior, "scaleUp", (rules) => fill(rules, { stabilizationWindowSeconds: 0, selectPolicy: "Max", policies: doubledOr4() }));
  return change(up, "scaleDown", (rules) => fill(rules, { selectPolicy: "Max", policies: [{ type: "Percent", value: 100, periodSeconds: 15 }] }));
};

const specDefaults = (given: HorizontalPodAutoscalerSpec): HorizontalPodAutoscalerSpec => {
  const metrics: MetricSpec[] = [{ type: "Resource", resource: { name: "cpu", target: { type: "Utilization", averageUtilization: DEFAULT_CPU_PERCENT } } }];
  const spec = fill(given, { minReplicas: 1 });
  return change(spec.metrics?.length ? spec : { ...spec, metrics }, "behavior", behaviorDefaults);
};

/** As upstream's ValidatePathSegmentName: it becomes part of a path. */
const validateSegment = (path: string, value: string): FieldCause[] => [
  ...(value === "." || value === ".." ? [invalid(path, value, `may not be '${value}'`)] : []),
  ...["/", "%"].filter((c) => value.includes(c)).map((c) => invalid(path, value, `may not contain '${c}'`)),
];

const validateReference = (path: string, ref: Partial<CrossVersionObjectReference> | undefined): FieldCause[] =>
  (["kind", "name"] as const).flatMap((f) => (ref?.[f] ? validateSegment(`${path}.${f}`, ref[f]) : [required(`${path}.${f}`)]));

const validateIdentifier = (path: string, metric: MetricIdentifier | undefined): FieldCause[] =>
  (metric?.name ? validateSegment(`${path}.name`, metric.name) : [required(`${path}.name`, "must specify a metric name")]);

const isPositive = (quantity: string): boolean => (tryParseQuantity(quantity) ?? 0) > 0;

const validateTarget = (path: string, target: MetricTarget | undefined): FieldCause[] => [
  ...(target?.type ? TARGET_TYPES.includes(target.type) ? [] : [invalid(`${path}.type`, target.type, "must be either Utilization, Value, or AverageValue")] : [required(`${path}.type`, "must specify a metric target type")]),
  ...(["value", "averageValue"] as const).flatMap((f) => (target?.[f] !== undefined && !isPositive(target[f]) ? [invalid(`${path}.${f}`, target[f], "must be positive")] : [])),
  ...(target?.averageUtilization !== undefined && target.averageUtilization < 1 ? [invalid(`${path}.averageUtilization`, target.averageUtilization, "must be greater than 0")] : []),
];

const validateResourceTarget = (path: string, target: MetricTarget | undefined): FieldCause[] => [
  ...validateTarget(path, target),
  ...(target?.averageUtilization === undefined && target?.averageValue === undefined ? [required(`${path}.averageUtilization`, "must set either a target raw value or a target utilization")] : []),
  ...(target?.averageUtilization !== undefined && target.averageValue !== undefined ? [forbidden(`${path}.averageValue`, "may not set both a target raw value and a target utilization")] : []),
];

const EITHER = "must set either a target value for metric or a per-pod target";

const validateSource = (path: string, field: SourceField, metric: MetricSpec): FieldCause[] => {
  const at = `${path}.${field}`;
  const target = metric[field]?.target;
  switch (field) {
    case "object": return [
      ...validateReference(`${at}.describedObject`, metric.object?.describedObject), ...validateIdentifier(`${at}.metric`, metric.object?.metric), ...validateTarget(`${at}.target`, target),
      ...(target?.value === undefined && target?.averageValue === undefined ? [required(`${at}.target.averageValue`, EITHER)] : []),
    ];
    case "external": return [
      ...validateIdentifier(`${at}.metric`, metric.external?.metric), ...validateTarget(`${at}.target`, target),
      ...(target?.value === undefined && target?.averageValue === undefined ? [required(`${at}.target.averageValue`, EITHER)] : []),
      ...(target?.value !== undefined && target.averageValue !== undefined ? [forbidden(`${at}.target.value`, "may not set both a target value for metric and a per-pod target")] : []),
    ];
    case "pods": return [
      ...validateIdentifier(`${at}.metric`, metric.pods?.metric), ...validateTarget(`${at}.target`, target),
      ...(target?.averageValue === undefined || !isPositive(target.averageValue) ? [required(`${at}.target.averageValue`, "must specify a positive target averageValue")] : []),
    ];
    case "resource": case "containerResource": return [
      ...(metric[field]?.name ? [] : [required(`${at}.name`, "must specify a resource name")]),
      ...(field === "containerResource" && !metric.containerResource?.container ? [required(`${at}.container`, "must specify a container")] : []),
      ...validateResourceTarget(`${at}.target`, target),
    ];
  }
};

const validateMetric = (path: string, metric: MetricSpec): FieldCause[] => {
  const expected = sourceFieldOf(metric.type);
  const present = Object.values(SOURCES).filter((f) => metric[f] !== undefined);
  return [
    ...(!metric.type ? [required(`${path}.type`, "must specify a metric source type")] : expected === undefined ? [notSupported(`${path}.type`, metric.type, Object.keys(SOURCES))] : []),
    ...(expected !== undefined && metric[expected] === undefined ? [required(`${path}.${expected}`, "must populate information for the given metric source")] : []),
    ...present.flatMap((f) => (f === expected ? validateSource(path, f, metric) : [forbidden(`${path}.${f}`, "must populate the given metric source only")])),
  ];
};

const within = (path: string, value: number | undefined, max: number): FieldCause[] =>
  (value !== undefined && value > max ? [invalid(path, value, `must be less than or equal to ${max}`)] : []);

const validateRules = (path: string, rules: HPAScalingRules | undefined): FieldCause[] => (rules === undefined ? [] : [
  ...((rules.stabilizationWindowSeconds ?? 0) < 0 ? [invalid(`${path}.stabilizationWindowSeconds`, rules.stabilizationWindowSeconds, "must be greater than or equal to zero")] : []),
  ...within(`${path}.stabilizationWindowSeconds`, rules.stabilizationWindowSeconds, MAX_STABILIZATION_SECONDS),
  ...oneOf(`${path}.selectPolicy`, rules.selectPolicy, SELECT_POLICIES),
  ...(rules.policies?.length ? [] : [required(`${path}.policies`, "must specify at least one Policy")]),
  ...(rules.policies ?? []).flatMap((policy, i) => [
    ...oneOf(`${path}.policies[${i}].type`, policy.type ?? "", POLICY_TYPES),
    ...positive(`${path}.policies[${i}].value`, policy.value ?? 0),
    ...positive(`${path}.policies[${i}].periodSeconds`, policy.periodSeconds ?? 0),
    ...within(`${path}.policies[${i}].periodSeconds`, policy.periodSeconds, MAX_PERIOD_SECONDS),
  ]),
  ...(rules.tolerance !== undefined && parseQuantity(rules.tolerance) < 0 ? [invalid(`${path}.tolerance`, rules.tolerance, "must be greater or equal to zero")] : []),
]);

const validateSpec = (spec: Partial<HorizontalPodAutoscalerSpec>): FieldCause[] => {
  const { minReplicas = 1, maxReplicas = 0, metrics = [], behavior } = spec;
  return [
    ...nonNegative("spec.minReplicas", minReplicas),
    ...(maxReplicas < 1 ? [invalid("spec.maxReplicas", maxReplicas, "must be greater than 0")] : []),
    ...(maxReplicas < minReplicas ? [invalid("spec.maxReplicas", maxReplicas, "must be greater than or equal to `minReplicas`")] : []),
    ...validateReference("spec.scaleTargetRef", spec.scaleTargetRef),
    ...metrics.flatMap((metric, i) => validateMetric(`spec.metrics[${i}]`, metric)),
    ...(minReplicas === 0 && !metrics.some((m) => m.type === "Object" || m.type === "External")
      ? [forbidden("spec.metrics", "must specify at least one Object or External metric to support scaling to zero replicas")] : []),
    ...validateRules("spec.behavior.scaleUp", behavior?.scaleUp), ...validateRules("spec.behavior.scaleDown", behavior?.scaleDown),
  ];
};

const UNKNOWN = "<unknown>";
const MAX_SHOWN = 2;

const amounts = (current: MetricValueStatus | undefined, target: MetricTarget | undefined): string => {
  if (target?.averageValue !== undefined) return `${current?.averageValue ?? UNKNOWN}/${target.averageValue}`;
  if (target?.value !== undefined) return `${current?.value ?? UNKNOWN}/${target.value}`;
  return `${current?.averageUtilization === undefined ? UNKNOWN : `${current.averageUtilization}%`}/${target?.averageUtilization === undefined ? "<auto>" : `${target.averageUtilization}%`}`;
};

/** "cpu: 12%/50%" */
const metricText = (metric: MetricSpec, status: MetricStatus | undefined): string => {
  const field = sourceFieldOf(metric.type);
  if (field === undefined) return "<unknown type>";
  const target = metric[field]?.target;
  const text = amounts(status?.[field]?.current, target);
  if (field === "resource" || field === "containerResource") return `${metric[field]?.name ?? ""}: ${text}`;
  return field !== "pods" && target?.averageValue !== undefined ? `${text} (avg)` : text;
};

const targetsText = ({ spec, status }: HorizontalPodAutoscaler): string => {
  const texts = (spec?.metrics ?? []).map((metric, i) => metricText(metric, status?.currentMetrics?.[i]));
  if (texts.length === 0) return "<none>";
  return `${texts.slice(0, MAX_SHOWN).join(", ")}${texts.length > MAX_SHOWN ? ` + ${texts.length - MAX_SHOWN} more...` : ""}`;
};

export const HORIZONTAL_POD_AUTOSCALER: ResourceDefinition<HorizontalPodAutoscaler> = {
  type: HORIZONTAL_POD_AUTOSCALERS,
  singular: "horizontalpodautoscaler",
  shortNames: ["hpa"],
  categories: ["all"],
  schema: "autoscaling/v2.HorizontalPodAutoscaler",
  defaults: (hpa) => change(hpa, "spec", specDefaults),
  validate: (hpa, previous) => [
    ...validateMetadata(HORIZONTAL_POD_AUTOSCALERS, hpa, previous),
    ...(hpa.spec ? validateSpec(hpa.spec) : [required("spec")]),
    ...(["currentReplicas", "desiredReplicas"] as const).flatMap((f) => nonNegative(`status.${f}`, hpa.status?.[f])),
  ],
  warnings: ({ spec }) => (spec?.metrics ?? []).flatMap((metric, i) => (metric.type === "Object" || metric.type === "External"
    ? [`spec.metrics[${i}]: metrics of type ${metric.type} come from a metrics adapter, which Gantry has no API for: use type Pods, Resource or ContainerResource`] : [])),
  strategy: { prepareForCreate: (hpa) => without(hpa, "status") },
  columns: [
    nameColumn(),
    column("Reference", "string", "Reference to the target resource.", ({ spec }) => `${spec?.scaleTargetRef?.kind ?? ""}/${spec?.scaleTargetRef?.name ?? ""}`),
    column("Targets", "string", "Current value and target of each metric.", targetsText),
    column("MinPods", "string", "Lower limit of the number of pods.", ({ spec }) => String(spec?.minReplicas ?? "<unset>")),
    column("MaxPods", "string", "Upper limit of the number of pods.", ({ spec }) => String(spec?.maxReplicas ?? 0)),
    column("Replicas", "string", "Current number of pods.", ({ status }) => String(status?.currentReplicas ?? 0)),
    ageColumn(),
  ],
  fieldSelectors: {},
  subresources: { status: true },
};
