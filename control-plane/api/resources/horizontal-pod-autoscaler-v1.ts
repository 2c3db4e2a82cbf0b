// HorizontalPodAutoscaler as clients of autoscaling/v1 know it (kubectl autoscale before 1.33): one CPU target. What v1 has no field for
// travels in annotations, as upstream's do, so that nothing is lost on the way through an old client.
// Source: k8s.io/kubernetes/pkg/apis/autoscaling/v1/conversion.go.
import type { KubeObject } from "../../../base/kube/resources.ts";
import type { AutoscalingV1HorizontalPodAutoscaler, HorizontalPodAutoscaler, MetricSpec, MetricStatus } from "../../../base/kube/types.gen.ts";
import { decodeObject } from "../schema/decode.ts";
import type { ResourceDefinition } from "./definition.ts";
import { HORIZONTAL_POD_AUTOSCALER } from "./horizontal-pod-autoscaler.ts";

const PREFIX = "autoscaling.alpha.kubernetes.io/";
const METRICS = `${PREFIX}metrics`;
const CURRENT_METRICS = `${PREFIX}current-metrics`;
const CONDITIONS = `${PREFIX}conditions`;
const BEHAVIOR = `${PREFIX}behavior`;
const OURS: ReadonlySet<string> = new Set([METRICS, CURRENT_METRICS, CONDITIONS, BEHAVIOR]);

type Json = Record<string, unknown>;
type Amounts = "target" | "current";

/** For each source of metrics: v1's flat field -> v2's path. `$` is "target" in a spec and "current" in a status, for both. */
const FIELDS: Readonly<Record<string, readonly (readonly [flat: string, path: string])[]>> = {
  resource: [["name", "name"], ["$AverageUtilization", "$.averageUtilization"], ["$AverageValue", "$.averageValue"]],
  containerResource: [["name", "name"], ["container", "container"], ["$AverageUtilization", "$.averageUtilization"], ["$AverageValue", "$.averageValue"]],
  pods: [["metricName", "metric.name"], ["selector", "metric.selector"], ["$AverageValue", "$.averageValue"]],
  object: [["target", "describedObject"], ["metricName", "metric.name"], ["selector", "metric.selector"], ["$Value", "$.value"], ["averageValue", "$.averageValue"]],
  external: [["metricName", "metric.name"], ["metricSelector", "metric.selector"], ["$Value", "$.value"], ["$AverageValue", "$.averageValue"]],
};

const isJson = (value: unknown): value is Json => typeof value === "object" && value !== null && !Array.isArray(value);
const at = (value: unknown, path: string): unknown => path.split(".").reduce<unknown>((v, key) => (isJson(v) ? v[key] : undefined), value);

/** The sources of a metric, each changed. */
const eachSource = (metric: Json, by: (source: Json, fields: (typeof FIELDS)[string]) => Json): Json =>
  ({ type: metric["type"], ...Object.fromEntries(Object.entries(FIELDS).flatMap(([key, fields]) => (isJson(metric[key]) ? [[key, by(metric[key], fields)]] : []))) });

const flattened = (metric: MetricSpec | MetricStatus, amounts: Amounts): Json =>
  eachSource(metric as unknown as Json, (source, fields) => Object.fromEntries(fields.map(([flat, path]) => [flat.replace("$", amounts), at(source, path.replace("$", amounts))] as const).filter(([, v]) => v !== undefined)));

const targetType = (target: Json): string => (target["averageUtilization"] !== undefined ? "Utilization" : target["averageValue"] !== undefined ? "AverageValue" : "Value");

const unflattened = (metric: Json, amounts: Amounts): Json => eachSource(metric, (source, fields) => {
  const made: Json = {};
  for (const [flat, path] of fields) {
    const value = source[flat.replace("$", amounts)];
    if (value === undefined) continue;
    const [first, second] = path.replace("$", amounts).split(".") as [string, string?];
    if (second === undefined) made[first] = value;
    else made[first] = { ...(made[first] as Json | undefined), [second]: value };
  }
  const { target } = made;
  return amounts === "target" ? { ...made, target: { ...(target as Json | undefined), type: targetType(isJson(target) ? target : {}) } } : { ...made, current: made["current"] ?? {} };
});

/** Upstream writes its internal form, whose fields are Go's. */
const withKeys = (value: unknown, change: (key: string) => string): unknown =>
  Array.isArray(value) ? value.map((v) => withKeys(v, change)) : isJson(value) ? Object.fromEntries(Object.entries(value).map(([k, v]) => [change(k), withKeys(v, change)])) : value;
const exported = (key: string): string => key.replace(/^./, (c) => c.toUpperCase());
const unexported = (key: string): string => key.replace(/^./, (c) => c.toLowerCase());

/** undefined for what is no JSON: as upstream, what can't be read is left out. */
const parsed = (text: string | undefined): unknown => {
  try {
    return text === undefined ? undefined : JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
};
const listIn = (text: string | undefined): readonly Json[] => {
  const value = parsed(text);
  return Array.isArray(value) ? value.filter(isJson) : [];
};

const cpuPercent = (metric: MetricSpec): number | undefined => (metric.type === "Resource" && metric.resource?.name === "cpu" ? metric.resource.target?.averageUtilization : undefined);
const currentCpuPercent = (metric: MetricStatus): number | undefined => (metric.type === "Resource" && metric.resource?.name === "cpu" ? metric.resource.current?.averageUtilization : undefined);

const show = (stored: KubeObject): KubeObject => {
  const { metadata, spec, status } = stored as HorizontalPodAutoscaler;
  const others = (spec?.metrics ?? []).filter((m) => cpuPercent(m) === undefined).map((m) => flattened(m, "target"));
  const current = (status?.currentMetrics ?? []).filter((m) => currentCpuPercent(m) === undefined).map((m) => flattened(m, "current"));
  const notes: Record<string, string> = {
    ...(others.length > 0 && { [METRICS]: JSON.stringify(others) }), ...(current.length > 0 && { [CURRENT_METRICS]: JSON.stringify(current) }),
    ...(status?.conditions?.length && { [CONDITIONS]: JSON.stringify(status.conditions) }), ...(spec?.behavior && { [BEHAVIOR]: JSON.stringify(withKeys(spec.behavior, exported)) }),
  };
  const shown: AutoscalingV1HorizontalPodAutoscaler = {
    apiVersion: "autoscaling/v1", kind: "HorizontalPodAutoscaler",
    metadata: { ...metadata, ...(metadata.annotations || Object.keys(notes).length > 0 ? { annotations: { ...metadata.annotations, ...notes } } : {}) },
    spec: {
      scaleTargetRef: spec.scaleTargetRef, minReplicas: spec.minReplicas, maxReplicas: spec.maxReplicas,
      targetCPUUtilizationPercentage: (spec?.metrics ?? []).map(cpuPercent).find((p) => p !== undefined),
    },
    ...(status && { status: {
      observedGeneration: status.observedGeneration, lastScaleTime: status.lastScaleTime, currentReplicas: status.currentReplicas ?? 0, desiredReplicas: status.desiredReplicas ?? 0,
      currentCPUUtilizationPercentage: (status.currentMetrics ?? []).map(currentCpuPercent).find((p) => p !== undefined),
    } }),
  };
  return shown;
};

const store = (received: KubeObject): KubeObject => {
  const { metadata, spec, status } = received as AutoscalingV1HorizontalPodAutoscaler;
  const notes = metadata.annotations ?? {};
  const annotations = Object.fromEntries(Object.entries(notes).filter(([key]) => !OURS.has(key)));
  const percent = spec?.targetCPUUtilizationPercentage;
  const currentPercent = status?.currentCPUUtilizationPercentage;
  const metrics = [
    ...listIn(notes[METRICS]).map((m) => unflattened(m, "target")),
    ...(percent === undefined ? [] : [{ type: "Resource", resource: { name: "cpu", target: { type: "Utilization", averageUtilization: percent } } }]),
  ];
  const currentMetrics = [
    ...listIn(notes[CURRENT_METRICS]).map((m) => unflattened(m, "current")),
    ...(currentPercent === undefined ? [] : [{ type: "Resource", resource: { name: "cpu", current: { averageUtilization: currentPercent } } }]),
  ];
  // Decoded, because annotations hold what anybody wrote there.
  const { object } = decodeObject(HORIZONTAL_POD_AUTOSCALER.schema, {
    metadata: { ...metadata, annotations },
    ...(spec && { spec: { scaleTargetRef: spec.scaleTargetRef, minReplicas: spec.minReplicas, maxReplicas: spec.maxReplicas, metrics, behavior: withKeys(parsed(notes[BEHAVIOR]), unexported) } }),
    ...(status && { status: {
      observedGeneration: status.observedGeneration, lastScaleTime: status.lastScaleTime, currentReplicas: status.currentReplicas, desiredReplicas: status.desiredReplicas,
      currentMetrics, conditions: listIn(notes[CONDITIONS]),
    } }),
  });
  return { ...object, apiVersion: HORIZONTAL_POD_AUTOSCALER.type.apiVersion, kind: HORIZONTAL_POD_AUTOSCALER.type.kind };
};

export const HORIZONTAL_POD_AUTOSCALER_V1: ResourceDefinition<HorizontalPodAutoscaler> = {
  ...HORIZONTAL_POD_AUTOSCALER,
  type: { ...HORIZONTAL_POD_AUTOSCALER.type, version: "v1", apiVersion: "autoscaling/v1" },
  schema: "autoscaling/v1.HorizontalPodAutoscaler",
  conversion: { store, show },
};
