import test from "ava";
import { claimLimitFaults, LIMIT_RANGER_ANNOTATION, podLimitFaults, withLimitDefaults } from "./limit-range.ts";
import type { LimitRange, LimitRangeItem, PersistentVolumeClaim, Pod, ResourceRequirements } from "./types.gen.ts";

const range = (item: LimitRangeItem, name = "limits"): LimitRange => ({ apiVersion: "v1", kind: "LimitRange", metadata: { name, namespace: "default" }, spec: { limits: [item] } });
const pod = (...resources: (ResourceRequirements | undefined)[]): Pod =>
  ({ apiVersion: "v1", kind: "Pod", metadata: { name: "p", namespace: "default" }, spec: { containers: resources.map((r, i) => ({ name: `c${i}`, image: "x", ...(r && { resources: r }) })) }, status: { phase: "Pending", qosClass: "BestEffort" } });

test("containers that don't say get the defaults, and the pod says which", (t) => {
  const ranges = [range({ type: "Container", default: { cpu: "500m", memory: "256Mi" }, defaultRequest: { cpu: "100m" } })];
  const given = withLimitDefaults(pod(undefined, { requests: { cpu: "200m" }, limits: { memory: "1Gi" } }), ranges);
  t.deepEqual(given.spec!.containers.map((c) => c.resources), [
    { limits: { cpu: "500m", memory: "256Mi" }, requests: { cpu: "100m" } },
    { limits: { cpu: "500m", memory: "1Gi" }, requests: { cpu: "200m" } },
  ]);
  t.is(given.metadata.annotations![LIMIT_RANGER_ANNOTATION], "LimitRanger plugin set: cpu request for container c0; cpu, memory limit for container c0; cpu limit for container c1");
  t.is(given.status!.qosClass, "Burstable");
});

test("who limits itself asks for its limit, not for the default", (t) => {
  const given = withLimitDefaults(pod({ limits: { cpu: "50m" } }), [range({ type: "Container", defaultRequest: { cpu: "100m" } })]);
  t.deepEqual(given.spec!.containers[0]!.resources, { limits: { cpu: "50m" }, requests: { cpu: "50m" } });
});

test("a pod that lacks nothing, or a namespace without ranges, changes nothing", (t) => {
  const full = pod({ limits: { cpu: "1" }, requests: { cpu: "1" } });
  t.is(withLimitDefaults(full, [range({ type: "Container", default: { cpu: "2" } })]), full);
  t.is(withLimitDefaults(full, []), full);
});

const CASES: readonly (readonly [title: string, item: LimitRangeItem, resources: ResourceRequirements, faults: readonly string[]])[] = [
  ["within its bounds", { type: "Container", min: { cpu: "100m" }, max: { cpu: "1" } }, { requests: { cpu: "100m" }, limits: { cpu: "1" } }, []],
  ["below the minimum", { type: "Container", min: { cpu: "100m" } }, { requests: { cpu: "50m" } }, ["minimum cpu usage per Container is 100m, but request is 50m"]],
  ["without the request that has a minimum", { type: "Container", min: { memory: "1Mi" } }, {}, ["minimum memory usage per Container is 1Mi.  No request is specified"]],
  ["with a limit above the maximum", { type: "Container", max: { memory: "1Gi" } }, { limits: { memory: "2Gi" } }, ["maximum memory usage per Container is 1Gi, but limit is 2Gi"]],
  ["without the limit that has a maximum", { type: "Container", max: { memory: "1Gi" } }, { requests: { memory: "1Gi" } }, ["maximum memory usage per Container is 1Gi.  No limit is specified"]],
  ["with too much between request and limit", { type: "Container", maxLimitRequestRatio: { cpu: "2" } }, { requests: { cpu: "100m" }, limits: { cpu: "300m" } }, ["cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000"]],
  ["with a ratio of memory that fits", { type: "Container", maxLimitRequestRatio: { memory: "1.5" } }, { requests: { memory: "2Gi" }, limits: { memory: "3Gi" } }, []],
  ["with a ratio and no limit", { type: "Container", maxLimitRequestRatio: { cpu: "2" } }, { requests: { cpu: "100m" } }, ["cpu max limit to request ratio per Container is 2, but no limit is specified or limit is 0"]],
];
for (const [title, item, resources, faults] of CASES) test(`a container ${title}`, (t) => t.deepEqual(podLimitFaults(pod(resources), [range(item)]), faults));

test("a pod's bounds are for the sum of its containers", (t) => {
  const one = { requests: { cpu: "600m" }, limits: { cpu: "600m" } };
  t.deepEqual(podLimitFaults(pod(one), [range({ type: "Pod", max: { cpu: "1" } })]), []);
  t.deepEqual(podLimitFaults(pod(one, one), [range({ type: "Pod", max: { cpu: "1" } })]), ["maximum cpu usage per Pod is 1, but limit is 1200m"]);
});

test("claims have bounds of their own", (t) => {
  const claim = (storage: string): PersistentVolumeClaim => ({ apiVersion: "v1", kind: "PersistentVolumeClaim", metadata: { name: "c" }, spec: { resources: { requests: { storage } } } });
  const ranges = [range({ type: "PersistentVolumeClaim", min: { storage: "1Gi" }, max: { storage: "10Gi" } })];
  t.deepEqual(["1Gi", "500Mi", "20Gi"].map((size) => claimLimitFaults(claim(size), ranges)), [
    [], ["minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 500Mi"], ["maximum storage usage per PersistentVolumeClaim is 10Gi, but request is 20Gi"]]);
});
