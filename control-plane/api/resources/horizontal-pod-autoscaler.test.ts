import test from "ava";
import type { KubeObject } from "../../../base/kube/resources.ts";
import type { AutoscalingV1HorizontalPodAutoscaler, HorizontalPodAutoscaler } from "../../../base/kube/types.gen.ts";
import { decodeObject } from "../schema/decode.ts";
import { seeded } from "../schema/testing/random-objects.ts";
import { HORIZONTAL_POD_AUTOSCALER as V2 } from "./horizontal-pod-autoscaler.ts";
import { HORIZONTAL_POD_AUTOSCALER_V1 as V1 } from "./horizontal-pod-autoscaler-v1.ts";

const context = { nowMs: 0, userName: "tester" };
const target = { kind: "Deployment", name: "web", apiVersion: "apps/v1" };
const decoded = (spec: object, more: object = {}): HorizontalPodAutoscaler =>
  V2.defaults(decodeObject(V2.schema, { apiVersion: "autoscaling/v2", kind: "HorizontalPodAutoscaler", metadata: { name: "h", namespace: "default" }, spec: { scaleTargetRef: target, maxReplicas: 5, ...spec }, ...more }).object as HorizontalPodAutoscaler);
const faults = (spec: object): string[] => V2.validate(decoded(spec), undefined, context).map((c) => `${c.field}: ${c.message}`);
const cpu = (percent: number): object => ({ type: "Resource", resource: { name: "cpu", target: { type: "Utilization", averageUtilization: percent } } });

test("without metrics it is 80 % of the CPU request; behaviour is completed only where there is one", (t) => {
  t.deepEqual(decoded({}).spec, { scaleTargetRef: target, maxReplicas: 5, minReplicas: 1, metrics: [{ type: "Resource", resource: { name: "cpu", target: { type: "Utilization", averageUtilization: 80 } } }] });
  t.deepEqual(decoded({ behavior: { scaleDown: { stabilizationWindowSeconds: 0 } } }).spec.behavior, {
    scaleUp: { stabilizationWindowSeconds: 0, selectPolicy: "Max", policies: [{ type: "Pods", value: 4, periodSeconds: 15 }, { type: "Percent", value: 100, periodSeconds: 15 }] },
    scaleDown: { stabilizationWindowSeconds: 0, selectPolicy: "Max", policies: [{ type: "Percent", value: 100, periodSeconds: 15 }] },
  });
});

const CASES: readonly (readonly [string, object, readonly string[]])[] = [
  ["all kinds of metrics are fine", { metrics: [
    cpu(50), { type: "Resource", resource: { name: "memory", target: { type: "AverageValue", averageValue: "64Mi" } } },
    { type: "ContainerResource", containerResource: { name: "cpu", container: "c", target: { type: "Utilization", averageUtilization: 50 } } },
    { type: "Pods", pods: { metric: { name: "queue" }, target: { type: "AverageValue", averageValue: "10" } } },
    { type: "Object", object: { describedObject: target, metric: { name: "m" }, target: { type: "Value", value: "1" } } },
    { type: "External", external: { metric: { name: "m" }, target: { type: "Value", value: "1" } } },
  ] }, []],
  ["sizes", { minReplicas: 9, maxReplicas: 0 }, ["spec.maxReplicas: Invalid value: 0: must be greater than 0", "spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`"]],
  ["less than none", { minReplicas: -1 }, ["spec.minReplicas: Invalid value: -1: must be greater than or equal to 0"]],
  ["no pods at all, with pods to measure", { minReplicas: 0 }, ["spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas"]],
  ["no target", { scaleTargetRef: { kind: "a/b" } }, ["spec.scaleTargetRef.kind: Invalid value: \"a/b\": may not contain '/'", "spec.scaleTargetRef.name: Required value"]],
  ["an unknown type", { metrics: [{ type: "Vibes" }] }, ['spec.metrics[0].type: Unsupported value: "Vibes": supported values: "ContainerResource", "External", "Object", "Pods", "Resource"']],
  ["the wrong source", { metrics: [{ type: "Resource", pods: { metric: { name: "m" }, target: { type: "Value" } } }] }, ["spec.metrics[0].resource: Required value: must populate information for the given metric source", "spec.metrics[0].pods: Forbidden: must populate the given metric source only"]],
  ["a target without an amount", { metrics: [{ type: "Resource", resource: { name: "cpu", target: { type: "Often" } } }] }, [
    'spec.metrics[0].resource.target.type: Invalid value: "Often": must be either Utilization, Value, or AverageValue',
    "spec.metrics[0].resource.target.averageUtilization: Required value: must set either a target raw value or a target utilization"]],
  ["a negative amount per pod", { metrics: [{ type: "Pods", pods: { metric: { name: "m" }, target: { type: "AverageValue", averageValue: "-1" } } }] }, [
    'spec.metrics[0].pods.target.averageValue: Invalid value: "-1": must be positive', "spec.metrics[0].pods.target.averageValue: Required value: must specify a positive target averageValue"]],
  ["no container", { metrics: [{ type: "ContainerResource", containerResource: { name: "cpu", target: { type: "Utilization", averageUtilization: 0 } } }] }, [
    "spec.metrics[0].containerResource.container: Required value: must specify a container", "spec.metrics[0].containerResource.target.averageUtilization: Invalid value: 0: must be greater than 0"]],
  ["behaviour", { behavior: { scaleUp: { stabilizationWindowSeconds: 3601, selectPolicy: "Any", policies: [{ type: "Percent", value: 0, periodSeconds: 1801 }], tolerance: "-100m" } } }, [
    "spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 3601: must be less than or equal to 3600",
    'spec.behavior.scaleUp.selectPolicy: Unsupported value: "Any": supported values: "Disabled", "Max", "Min"',
    "spec.behavior.scaleUp.policies[0].value: Invalid value: 0: must be greater than zero",
    "spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to 1800",
    'spec.behavior.scaleUp.tolerance: Invalid value: "-100m": must be greater or equal to zero']],
];
for (const [name, spec, wanted] of CASES) test(`validation: ${name}`, (t) => void t.deepEqual(faults(spec), [...wanted]));

test("metrics that need an adapter are taken with a warning", (t) => {
  t.is(V2.warnings!(decoded({ metrics: [{ type: "External", external: { metric: { name: "m" }, target: { type: "Value", value: "1" } } }] })).length, 1);
  t.deepEqual(V2.warnings!(decoded({})), []);
});

test("the Targets column is kubectl's", (t) => {
  const targets = (hpa: HorizontalPodAutoscaler): unknown => V2.columns.find((c) => c.name === "Targets")!.value(hpa, 0);
  t.is(targets(decoded({ metrics: [cpu(50)] })), "cpu: <unknown>/50%");
  const three = decoded({ metrics: [cpu(50), { type: "Pods", pods: { metric: { name: "q" }, target: { type: "AverageValue", averageValue: "10" } } }, { type: "External", external: { metric: { name: "m" }, target: { type: "AverageValue", averageValue: "1" } } }] }, {
    status: { desiredReplicas: 2, currentMetrics: [{ type: "Resource", resource: { name: "cpu", current: { averageUtilization: 12 } } }, { type: "Pods", pods: { metric: { name: "q" }, current: { averageValue: "2500m" } } }] },
  });
  t.is(targets(three), "cpu: 12%/50%, 2500m/10 + 1 more...");
  t.is(targets({ ...three, spec: { ...three.spec, metrics: three.spec.metrics!.slice(2) }, status: undefined }), "<unknown>/1 (avg)");
});

test("a client of v1 creates a CPU target and sees it", (t) => {
  const sent = { apiVersion: "autoscaling/v1", kind: "HorizontalPodAutoscaler", metadata: { name: "h", namespace: "default" }, spec: { scaleTargetRef: target, maxReplicas: 3, targetCPUUtilizationPercentage: 40 } };
  const stored = V1.conversion!.store(decodeObject(V1.schema, sent).object) as HorizontalPodAutoscaler;
  t.is(stored.apiVersion, "autoscaling/v2");
  t.deepEqual(stored.spec.metrics, [{ type: "Resource", resource: { name: "cpu", target: { type: "Utilization", averageUtilization: 40 } } }]);
  t.deepEqual(JSON.parse(JSON.stringify(V1.conversion!.show(stored))), sent);
});

test("what v1 has no fields for survives an update by one of its clients", (t) => {
  const full = decoded({
    metrics: [
      { type: "Pods", pods: { metric: { name: "q", selector: { matchLabels: { a: "b" } } }, target: { type: "AverageValue", averageValue: "10" } } },
      { type: "Object", object: { describedObject: target, metric: { name: "m" }, target: { type: "Value", value: "1" } } }, cpu(50),
    ],
    behavior: { scaleDown: { stabilizationWindowSeconds: 5, tolerance: "50m" } },
  }, { status: { currentReplicas: 1, desiredReplicas: 2, currentMetrics: [{ type: "Pods", pods: { metric: { name: "q" }, current: { averageValue: "3" } } }], conditions: [{ type: "AbleToScale", status: "True", reason: "R", message: "m" }] } });
  const shown = V1.conversion!.show(full) as AutoscalingV1HorizontalPodAutoscaler;
  t.is(shown.spec.targetCPUUtilizationPercentage, 50);
  t.deepEqual(JSON.parse(shown.metadata.annotations!["autoscaling.alpha.kubernetes.io/metrics"]!)[0], { type: "Pods", pods: { metricName: "q", selector: { matchLabels: { a: "b" } }, targetAverageValue: "10" } });
  t.deepEqual(V1.conversion!.store(shown), full);
});

test("there and back gives the same, whatever the metrics, but that the CPU target comes last", (t) => {
  const random = seeded(71);
  const amounts: object[] = [{ type: "AverageValue", averageValue: "10" }, { type: "Value", value: "1500m" }];
  const metric = { name: "m", selector: { matchExpressions: [{ key: "k", operator: "In", values: ["v"] }] } };
  const pick = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)]!;
  const makers: (() => object)[] = [
    () => ({ type: "Resource", resource: { name: "memory", target: pick([{ type: "Utilization", averageUtilization: 7 }, amounts[0]]) } }),
    () => ({ type: "ContainerResource", containerResource: { name: "cpu", container: "c", target: pick([{ type: "Utilization", averageUtilization: 7 }, amounts[0]]) } }),
    () => ({ type: "Pods", pods: { metric, target: amounts[0] } }), () => ({ type: "Object", object: { describedObject: target, metric, target: pick(amounts) } }), () => ({ type: "External", external: { metric, target: pick(amounts) } }),
  ];
  for (let i = 0; i < 200; i++) {
    const metrics = [...Array.from({ length: 1 + Math.floor(random() * 5) }, () => pick(makers)()), ...(random() < 0.5 ? [cpu(1 + i)] : [])];
    const made = decoded({ metrics, ...(random() < 0.5 && { behavior: { scaleUp: { selectPolicy: pick(["Max", "Min", "Disabled"]), tolerance: "10m" } } }) });
    t.deepEqual(V2.validate(made, undefined, context).filter((c) => !c.field.startsWith("metadata")), []);
    t.deepEqual(V1.conversion!.store(V1.conversion!.show(made)), made);
  }
});

test("annotations that are nonsense are left out", (t) => {
  const sent = { metadata: { name: "h", annotations: { "autoscaling.alpha.kubernetes.io/metrics": '[{"type":7,"pods":{"metricName":5}},null]', "autoscaling.alpha.kubernetes.io/behavior": "{", x: "y" } }, spec: { scaleTargetRef: target, maxReplicas: 3 } };
  const stored = V1.conversion!.store(decodeObject(V1.schema, sent).object) as HorizontalPodAutoscaler & KubeObject;
  t.deepEqual(stored.metadata.annotations, { x: "y" });
  t.is(stored.spec.behavior, undefined);
});
