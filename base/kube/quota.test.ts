import test from "ava";
import { countedBy, exceeded, PENDING_ANNOTATION, PENDING_MS, pendingOf, quotaAmounts, recount, take, unspecified, usageOf, withCount } from "./quota.ts";
import { CONFIG_MAPS, DEPLOYMENTS, PERSISTENT_VOLUME_CLAIMS, PODS } from "./resources.ts";
import type { KubeObject } from "./resources.ts";
import type { PersistentVolumeClaim, Pod, PodSpec, ResourceQuota, ResourceQuotaSpec, ResourceRequirements } from "./types.gen.ts";

const NOW = Date.UTC(2026, 0, 1);
const quota = (hard: Record<string, string>, more: ResourceQuotaSpec = {}): ResourceQuota => ({ apiVersion: "v1", kind: "ResourceQuota", metadata: { name: "q", namespace: "ns" }, spec: { hard, ...more } });
const pod = (name: string, resources: ResourceRequirements = {}, spec: Partial<PodSpec> = {}, status: NonNullable<Pod["status"]> = { phase: "Running" }): Pod =>
  ({ apiVersion: "v1", kind: "Pod", metadata: { name, namespace: "ns", uid: name }, spec: { containers: [{ name: "c", image: "x", resources }], ...spec }, status });
const SMALL = { requests: { cpu: "100m", memory: "1Gi" }, limits: { cpu: "1", memory: "1Gi" } };
const counted = (q: ResourceQuota, pods: readonly Pod[], gone: readonly string[] = [], nowMs = NOW) => recount({ quota: q, objects: pods.map((object) => ({ type: PODS, object })), isGone: (key) => gone.includes(key), nowMs });

test("what objects use", (t) => {
  t.deepEqual(usageOf(PODS, pod("a", SMALL)), {
    "count/pods": 1, pods: 1, cpu: 100, "requests.cpu": 100, memory: 2 ** 30, "requests.memory": 2 ** 30, "limits.cpu": 1000, "limits.memory": 2 ** 30 });
  t.deepEqual(usageOf(PODS, pod("done", SMALL, {}, { phase: "Succeeded" })), { "count/pods": 1 });
  const claim: PersistentVolumeClaim = { apiVersion: "v1", kind: "PersistentVolumeClaim", metadata: { name: "c", namespace: "ns" }, spec: { storageClassName: "fast", resources: { requests: { storage: "1Gi" } } } };
  t.deepEqual(usageOf(PERSISTENT_VOLUME_CLAIMS, claim), {
    "count/persistentvolumeclaims": 1, persistentvolumeclaims: 1, "requests.storage": 2 ** 30,
    "fast.storageclass.storage.k8s.io/persistentvolumeclaims": 1, "fast.storageclass.storage.k8s.io/requests.storage": 2 ** 30 });
  const named = (kind: string): KubeObject => ({ apiVersion: "v1", kind, metadata: { name: "x" } });
  t.deepEqual(usageOf(CONFIG_MAPS, named("ConfigMap")), { "count/configmaps": 1, configmaps: 1 });
  t.deepEqual(usageOf(DEPLOYMENTS, named("Deployment")), { "count/deployments.apps": 1 });
});

const ofClass = (operator: string, values?: string[]): ResourceQuotaSpec => ({ scopeSelector: { matchExpressions: [{ scopeName: "PriorityClass", operator, ...(values && { values }) }] } });
const SCOPES: readonly (readonly [title: string, spec: ResourceQuotaSpec, inside: Pod, outside: Pod])[] = [
  ["BestEffort", { scopes: ["BestEffort"] }, pod("a"), pod("b", SMALL)],
  ["NotBestEffort", { scopes: ["NotBestEffort"] }, pod("a", SMALL), pod("b")],
  ["Terminating", { scopes: ["Terminating"] }, pod("a", {}, { activeDeadlineSeconds: 5 }), pod("b")],
  ["NotTerminating", { scopes: ["NotTerminating"] }, pod("a"), pod("b", {}, { activeDeadlineSeconds: 5 })],
  ["of a class", ofClass("In", ["high"]), pod("a", {}, { priorityClassName: "high" }), pod("b", {}, { priorityClassName: "low" })],
  ["of another class", ofClass("NotIn", ["high"]), pod("a"), pod("b", {}, { priorityClassName: "high" })],
  ["of any class", { scopes: ["PriorityClass"] }, pod("a", {}, { priorityClassName: "low" }), pod("b")],
  ["of no class", ofClass("DoesNotExist"), pod("a"), pod("b", {}, { priorityClassName: "low" })],
  ["with affinity to other namespaces", { scopes: ["CrossNamespacePodAffinity"] },
    pod("a", {}, { affinity: { podAntiAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [{ topologyKey: "k", namespaces: ["x"] }] } } }),
    pod("b", {}, { affinity: { podAntiAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [{ topologyKey: "k" }] } } })],
];
for (const [title, spec, inside, outside] of SCOPES) {
  test(`scope: ${title}`, (t) => t.deepEqual([inside, outside].map((p) => countedBy(quota({ pods: "1" }, spec))(PODS, p)), [true, false]));
}

test("a quota with scopes counts pods only; one without names of a kind doesn't count that kind", (t) => {
  const map: KubeObject = { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "m", namespace: "ns" } };
  t.false(countedBy(quota({ configmaps: "1", pods: "1" }, { scopes: ["BestEffort"] }))(CONFIG_MAPS, map));
  t.false(countedBy(quota({ pods: "1" }))(CONFIG_MAPS, map));
  t.true(countedBy(quota({ "count/configmaps": "1" }))(CONFIG_MAPS, map));
});

test("too much is said in upstream's words, all of it, sorted", (t) => {
  const q = quota({ pods: "3", "requests.memory": "4Gi", "requests.cpu": "1" });
  const used = quotaAmounts({ pods: "3", "requests.memory": "3Gi", "requests.cpu": "100m" });
  t.is(exceeded(q, used, usageOf(PODS, pod("a", { requests: { cpu: "100m", memory: "2Gi" } }))),
    "exceeded quota: q, requested: pods=1,requests.memory=2Gi, used: pods=3,requests.memory=3Gi, limited: pods=3,requests.memory=4Gi");
  t.is(exceeded(q, { ...used, pods: 2 }, usageOf(PODS, pod("a", { requests: { memory: "1Gi" } }))), undefined);
});

test("a container must say what the quota limits", (t) => {
  const q = quota({ "requests.cpu": "1", "limits.memory": "1Gi" });
  t.is(unspecified(q, pod("a")), "requests.cpu for: c; limits.memory for: c");
  t.is(unspecified(q, pod("a", SMALL)), undefined);
});

test("a charge stays until its object is seen, is seen to go, or didn't come for a minute", (t) => {
  const q = quota({ pods: "2" });
  const count = counted(q, []);
  const charge = (name: string): string | undefined => take(q, count, `pods/${name}`, usageOf(PODS, pod(name)), usageOf(PODS, pod(name)), NOW);
  t.is(charge("a"), undefined);
  t.is(charge("b"), undefined);
  t.is(charge("c"), "exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2");
  const stored = withCount(q, count);
  t.deepEqual(stored.status, { hard: { pods: "2" }, used: { pods: "2" } });
  // Neither is seen: a recount leaves them charged.
  t.like(counted(stored, []), { used: { pods: 2 }, againMs: PENDING_MS });
  // One is here, and counts once.
  const seen = counted(stored, [pod("a")]);
  t.deepEqual([seen.used, Object.keys(seen.pending)], [{ pods: 2 }, ["pods/b"]]);
  t.like(counted(stored, [pod("a")], ["pods/b"]), { used: { pods: 1 }, pending: {} });
  t.like(counted(stored, [pod("a")], [], NOW + PENDING_MS), { used: { pods: 1 }, pending: {} });
  t.is(withCount(stored, counted(stored, [], [], NOW + PENDING_MS)).metadata.annotations, undefined);
});

test("a resize that is on its way counts at what was granted", (t) => {
  const q = quota({ "requests.cpu": "1" });
  const [before, after] = [pod("a", { requests: { cpu: "100m" } }), pod("a", { requests: { cpu: "300m" } })];
  const count = counted(q, [before]);
  t.is(take(q, count, "pods/a", usageOf(PODS, after), { "requests.cpu": 200 }, NOW), undefined);
  const stored = withCount(q, count);
  t.like(counted(stored, [before]), { used: { "requests.cpu": 300 } });
  t.deepEqual(counted(stored, [after]), { used: { "requests.cpu": 300 }, pending: {}, againMs: undefined });
});

test("a pod whose time to end is long over doesn't keep others out", (t) => {
  const leaving = pod("a");
  const marked = { ...leaving, metadata: { ...leaving.metadata, deletionTimestamp: "2026-01-01T00:00:00Z", deletionGracePeriodSeconds: 30 } };
  t.deepEqual(counted(quota({ pods: "1" }), [marked]), { used: { pods: 1 }, pending: {}, againMs: 30_000 });
  t.like(counted(quota({ pods: "1" }), [marked], [], NOW + 30_000), { used: { pods: 0 } });
});

for (const text of ["", "{", "null", '{"pods/a":1}', '{"pods/a":{"atMs":"x","usage":{}}}']) {
  test(`an annotation that says ${JSON.stringify(text)} is nothing pending`, (t) => t.deepEqual(pendingOf({ ...quota({}), metadata: { name: "q", annotations: { [PENDING_ANNOTATION]: text } } }), {}));
}
