import test from "ava";
import type { KubeObject } from "../../base/kube/resources.ts";
import { planDeletion } from "./delete.ts";
import type { Deletion } from "./delete.ts";
import { definitionOf } from "./resources/registry.ts";

const nowMs = Date.UTC(2026, 0, 1);
const PODS = definitionOf("", "v1", "pods")!;
const DEPLOYMENTS = definitionOf("apps", "v1", "deployments")!;
const JOBS = definitionOf("batch", "v1", "jobs")!;
const NAMESPACES = definitionOf("", "v1", "namespaces")!;

const deletion = (part: Partial<Deletion> = {}): Deletion => ({ gracePeriodSeconds: undefined, propagation: undefined, preconditions: {}, dryRun: false, ...part });
const pod = (part: { nodeName?: string; phase?: string; metadata?: object } = {}): KubeObject => ({
  apiVersion: "v1", kind: "Pod", metadata: { name: "a", namespace: "default", uid: "u", ...part.metadata },
  spec: { nodeName: part.nodeName, terminationGracePeriodSeconds: 30, containers: [] }, status: { phase: part.phase ?? "Running" },
} as unknown as KubeObject);
const deployment = (metadata: object = {}): KubeObject => ({ apiVersion: "apps/v1", kind: "Deployment", metadata: { name: "a", namespace: "default", generation: 3, ...metadata } });

test("a pod without a node goes at once, one that is done too", (t) => {
  t.true(planDeletion(pod(), PODS, deletion(), nowMs).remove);
  t.true(planDeletion(pod({ nodeName: "n", phase: "Succeeded" }), PODS, deletion({ gracePeriodSeconds: 10 }), nowMs).remove);
});

test("a running pod is marked and waits for its node", (t) => {
  const { next, remove } = planDeletion(pod({ nodeName: "n" }), PODS, deletion(), nowMs);
  t.false(remove);
  t.is(next.metadata.deletionTimestamp, "2026-01-01T00:00:30Z");
  t.is(next.metadata.deletionGracePeriodSeconds, 30);
});

test("grace period 0 removes a running pod at once", (t) => t.true(planDeletion(pod({ nodeName: "n" }), PODS, deletion({ gracePeriodSeconds: 0 }), nowMs).remove));

test("a second delete may shorten the wait, not lengthen it", (t) => {
  const dying = planDeletion(pod({ nodeName: "n" }), PODS, deletion(), nowMs).next;
  t.is(planDeletion(dying, PODS, deletion(), nowMs + 5000).next, dying);
  t.is(planDeletion(dying, PODS, deletion({ gracePeriodSeconds: 60 }), nowMs + 5000).next, dying);
  const sooner = planDeletion(dying, PODS, deletion({ gracePeriodSeconds: 10 }), nowMs + 5000).next;
  t.is(sooner.metadata.deletionGracePeriodSeconds, 10);
  t.is(sooner.metadata.deletionTimestamp, "2026-01-01T00:00:10Z");
  t.true(planDeletion(dying, PODS, deletion({ gracePeriodSeconds: 0 }), nowMs).remove);
});

test("a finalizer holds an object, whatever the grace period", (t) => {
  const { next, remove } = planDeletion(pod({ nodeName: "n", metadata: { finalizers: ["example.com/hold"] } }), PODS, deletion({ gracePeriodSeconds: 0 }), nowMs);
  t.false(remove);
  t.is(next.metadata.deletionGracePeriodSeconds, 0);
  t.deepEqual(next.metadata.finalizers, ["example.com/hold"]);
});

test("propagation becomes a finalizer, which the garbage collector takes away", (t) => {
  t.true(planDeletion(deployment(), DEPLOYMENTS, deletion(), nowMs).remove);
  t.true(planDeletion(deployment(), DEPLOYMENTS, deletion({ propagation: "Background" }), nowMs).remove);
  const foreground = planDeletion(deployment(), DEPLOYMENTS, deletion({ propagation: "Foreground" }), nowMs);
  t.false(foreground.remove);
  t.deepEqual(foreground.next.metadata.finalizers, ["foregroundDeletion"]);
  t.is(foreground.next.metadata.generation, 4);
  t.deepEqual(planDeletion(deployment(), DEPLOYMENTS, deletion({ propagation: "Orphan" }), nowMs).next.metadata.finalizers, ["orphan"]);
});

test("Background after Foreground lets the object go", (t) => {
  const waiting = planDeletion(deployment(), DEPLOYMENTS, deletion({ propagation: "Foreground" }), nowMs).next;
  t.true(planDeletion(waiting, DEPLOYMENTS, deletion({ propagation: "Background" }), nowMs).remove);
  t.false(planDeletion(waiting, DEPLOYMENTS, deletion(), nowMs).remove);
});

test("a Job keeps its pods unless told otherwise, as batch/v1 has always done", (t) => {
  const job: KubeObject = { apiVersion: "batch/v1", kind: "Job", metadata: { name: "a", namespace: "default" } };
  t.deepEqual(planDeletion(job, JOBS, deletion(), nowMs).next.metadata.finalizers, ["orphan"]);
  t.true(planDeletion(job, JOBS, deletion({ propagation: "Background" }), nowMs).remove);
});

test("a namespace terminates until its content is gone", (t) => {
  const namespace = { apiVersion: "v1", kind: "Namespace", metadata: { name: "a" }, spec: { finalizers: ["kubernetes"] }, status: { phase: "Active" } } as KubeObject;
  const { next, remove } = planDeletion(namespace, NAMESPACES, deletion(), nowMs);
  t.false(remove);
  t.is((next as unknown as { status: { phase: string } }).status.phase, "Terminating");
  t.true(planDeletion({ ...namespace, spec: { finalizers: [] } } as KubeObject, NAMESPACES, deletion(), nowMs).remove);
});
