import test from "ava";
import type { KubeObject } from "../base/kube/resources.ts";
import type { Event, Pod, ReplicaSet } from "../base/kube/types.gen.ts";
import { explainWorkload, troubleOf } from "./why-workload.ts";
import type { WorkloadView } from "./why-workload.ts";

const nowMs = Date.parse("2026-01-01T01:00:00Z");
const pod = (name: string, status: object, more: { spec?: object; metadata?: object } = {}): Pod =>
  ({ apiVersion: "v1", kind: "Pod", metadata: { name, uid: `uid-${name}`, ...more.metadata }, spec: { nodeName: "node-1", containers: [], ...more.spec }, status });
const event = (uid: string, reason: string, message: string): Event => ({ apiVersion: "v1", kind: "Event", metadata: {}, involvedObject: { uid }, reason, message, lastTimestamp: "2026-01-01T00:59:50Z" });
const c = (state: object, more: object = {}): object => ({ name: "main", ready: false, restartCount: 0, ...more, state });
const READY = { phase: "Running", conditions: [{ type: "Ready", status: "True" }] };
const why = (object: object, more: Partial<WorkloadView> = {}): string[] =>
  explainWorkload({ object: { metadata: { name: "web", namespace: "shop", uid: "uid-web" }, ...object } as KubeObject, pods: [], replicaSets: [], events: [], explanations: new Map(), nodes: [], autoscalers: [], nowMs, ...more }).split("\n");

for (const [title, status, more, expected] of [
  ["an image that can't be had", { phase: "Pending", containerStatuses: [c({ waiting: { reason: "ImagePullBackOff", message: "no such image" } })] }, {}, "container main waits: ImagePullBackOff: no such image"],
  ["a crash loop and how it ended", { phase: "Running", containerStatuses: [c({ waiting: { reason: "CrashLoopBackOff" } }, { restartCount: 4, lastState: { terminated: { exitCode: 137, reason: "OOMKilled" } } })] }, {}, "container main waits: CrashLoopBackOff; it ended with 137 (OOMKilled), restarted 4 times"],
  ["an init container that fails", { phase: "Pending", initContainerStatuses: [{ ...c({ terminated: { exitCode: 2, reason: "Error" } }, { restartCount: 1 }), name: "setup" }], containerStatuses: [c({ waiting: { reason: "PodInitializing" } })] }, {}, "init container setup ended with 2 (Error), restarted 1 times"],
  ["a probe", { phase: "Running", containerStatuses: [c({ running: {} }, { started: true })] }, {}, "container main runs, but is not ready: Readiness probe failed: 503"],
  ["a container that doesn't start up", { phase: "Running", containerStatuses: [c({ running: {} }, { started: false })] }, {}, "container main has not started up yet: Readiness probe failed: 503"],
  ["a lost node", { phase: "Running", conditions: [{ type: "Ready", status: "False", reason: "NodeUnreachable" }] }, {}, "is on node node-1, which does not answer"],
  ["no node", { phase: "Pending" }, { spec: { nodeName: undefined } }, "has no node"],
  ["one that failed", { phase: "Failed", containerStatuses: [c({ terminated: { exitCode: 3, reason: "Error" } })] }, {}, "failed: container main ended with 3 (Error)"],
  ["one that was evicted", { phase: "Failed", reason: "Evicted", message: "the node was low on memory" }, {}, "failed (Evicted: the node was low on memory)"],
  ["one on its way out", READY, { metadata: { deletionTimestamp: "2026-01-01T00:59:00Z", finalizers: ["a/b"] } }, "is being deleted, waits for a/b"],
  ["a good one", READY, {}, undefined],
] as const) {
  test(`a pod's trouble: ${title}`, (t) => t.is(troubleOf(pod("p", status, more), [event("uid-p", "Unhealthy", "Readiness probe failed: 503\n")], nowMs), expected));
}

test("without an event the probe that does not succeed is named", (t) => {
  const probed = (probe: object): string | undefined => troubleOf(pod("p", { phase: "Running", containerStatuses: [c({ running: {} }, { started: true })] }, { spec: { containers: [{ name: "main", readinessProbe: probe }] } }), [], nowMs);
  t.is(probed({ httpGet: { path: "/ok", port: 80 }, periodSeconds: 5 }), "container main runs, but is not ready: its readiness probe, which asks HTTP port 80 for /ok every 5 s, does not succeed");
  t.is(probed({ exec: { command: ["test", "-e", "/x"] } }), "container main runs, but is not ready: its readiness probe, which runs test -e /x every 10 s, does not succeed");
});

test("a deployment: pods in the same trouble stand together, and one explanation serves all that have no node", (t) => {
  const pulling = { phase: "Pending", containerStatuses: [c({ waiting: { reason: "ErrImagePull", message: "not found" } })] };
  const replicaSet = { apiVersion: "apps/v1", kind: "ReplicaSet", metadata: { name: "web-1", uid: "uid-rs" } } as ReplicaSet;
  const lines = why({ kind: "Deployment", spec: { replicas: 7 }, status: { readyReplicas: 1, updatedReplicas: 5, availableReplicas: 1, conditions: [{ type: "Progressing", status: "False", reason: "ProgressDeadlineExceeded", message: "ReplicaSet \"web-1\" has timed out progressing." }] } }, {
    pods: [pod("a", pulling), pod("b", pulling), pod("c", pulling), pod("d", pulling), pod("e", { phase: "Pending" }, { spec: { nodeName: undefined } }), pod("f", READY)], replicaSets: [replicaSet],
    events: [event("uid-rs", "FailedCreate", "Error creating: exceeded quota: small, requested: pods=1")],
    explanations: new Map([["e", { pod: "shop/e", nodeName: undefined, fits: [], summary: "0/1 nodes are available: 1 Insufficient cpu.", groups: [{ nodes: ["node-1"], failed: [{ check: "resources", message: "cpu: needs 9, free 2 of 2" }] }], suggestion: "request at most 2 of cpu (now 9)" }]]),
  });
  t.deepEqual(lines, [
    "Deployment shop/web: 1 of 7 ready, 5 of the newest template, 1 available",
    'ProgressDeadlineExceeded: ReplicaSet "web-1" has timed out progressing.',
    "Pods can't be created: Error creating: exceeded quota: small, requested: pods=1 (10s ago)",
    "4 pods (a, b and 2 more): container main waits: ErrImagePull: not found",
    "1 pod (e): has no node",
    "  0/1 nodes are available: 1 Insufficient cpu.",
    "  node-1: resources: cpu: needs 9, free 2 of 2",
    "  Smallest change: request at most 2 of cpu (now 9)",
  ]);
});

test("a stateful set says which pod holds up the others, and when only a deletion helps", (t) => {
  const lines = why({ kind: "StatefulSet", spec: { replicas: 4 }, status: { readyReplicas: 1, updatedReplicas: 0, updateRevision: "web-new" } }, {
    pods: [pod("web-0", READY), pod("web-1", { phase: "Running", containerStatuses: [c({ waiting: { reason: "CrashLoopBackOff" } })] }, { metadata: { labels: { "controller-revision-hash": "web-bad" } } })],
  });
  t.is(lines[1], "web-1 has to be ready before the 2 pods that are missing can follow (OrderedReady)");
  t.regex(lines[2]!, /delete it \(kubectl delete pod web-1\)/);
});

test("a daemon set names the nodes that it is not on, a job what failed it, and one without trouble says so", (t) => {
  t.regex(why({ kind: "DaemonSet", status: { desiredNumberScheduled: 1, numberReady: 1 } }, { pods: [pod("d", READY)], nodes: ["node-1", "node-2"] }).join("\n"), /^DaemonSet shop\/web: ready on 1 of 1 node, .*\nNot on 1 node \(node-2\)/);
  t.deepEqual(why({ kind: "Job", spec: { completions: 3 }, status: { failed: 1, conditions: [{ type: "FailureTarget", status: "True", reason: "PodFailurePolicy", message: "x" }, { type: "Failed", status: "True", reason: "PodFailurePolicy", message: "exit code 42" }] } }), [
    "Job shop/web: 0 of 3 completions, 0 active, 1 failed", "PodFailurePolicy: exit code 42"]);
  t.deepEqual(why({ kind: "ReplicaSet", spec: { replicas: 1 } }, { pods: [pod("p", READY)] }), ["ReplicaSet shop/web: 1 of 1 ready", "Nothing is wrong with its pods."]);
});

test("an autoscaler that holds the size is named, with what holds it back", (t) => {
  const autoscaler = {
    apiVersion: "autoscaling/v2", kind: "HorizontalPodAutoscaler", metadata: { name: "h" }, spec: { scaleTargetRef: { kind: "Deployment", name: "web" }, minReplicas: 2, maxReplicas: 5 },
    status: { desiredReplicas: 5, conditions: [{ type: "AbleToScale", status: "True", reason: "ReadyForNewScale" }, { type: "ScalingLimited", status: "True", reason: "TooManyReplicas", message: "the desired replica count is more than the maximum replica count" }] },
  };
  t.deepEqual(why({ kind: "Deployment", spec: { replicas: 1 } }, { pods: [pod("p", READY)], autoscalers: [autoscaler] }).slice(1), [
    "Nothing is wrong with its pods.", "HorizontalPodAutoscaler h decides on its size, from 2 to 5; TooManyReplicas: the desired replica count is more than the maximum replica count",
  ]);
});
