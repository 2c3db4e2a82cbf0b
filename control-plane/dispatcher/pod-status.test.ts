import test from "ava";
import { LIMITS_DISCARDED } from "../../base/kube/pod-extras.ts";
import { STARTED_AT, START_AT, startedAfterMs } from "../../base/kube/staging.ts";
import type { Pod } from "../../base/kube/types.gen.ts";
import type { ContainerState, ContainerStatus, PodStatus } from "../../proto/gen/gantry/v1/agent.ts";
import { toPodStatus } from "./pod-status.ts";

const NOW_MS = Date.UTC(2026, 0, 1, 12);
const NOW = "2026-01-01T12:00:00Z";

const pod = (change: Partial<Pod> = {}): Pod => ({
  apiVersion: "v1", kind: "Pod", metadata: { name: "web", namespace: "shop", uid: "u1", generation: 3 }, spec: { nodeName: "node-a", containers: [{ name: "main" }] },
  status: { phase: "Pending", qosClass: "BestEffort", conditions: [{ type: "PodScheduled", status: "True", lastTransitionTime: "2026-01-01T11:00:00Z" }] }, ...change,
});

const running: ContainerState = { state: { $case: "running", value: { startedAtMs: NOW_MS - 1000 } } };
const waiting = (reason: string): ContainerState => ({ state: { $case: "waiting", value: { reason, message: "" } } });
const terminated = (exitCode: number, reason: string): ContainerState =>
  ({ state: { $case: "terminated", value: { exitCode, signal: 0, reason, message: "", startedAtMs: NOW_MS - 5000, finishedAtMs: NOW_MS - 1000, containerId: "crun://c1" } } });

const container = (name: string, state: ContainerState, change: Partial<ContainerStatus> = {}): ContainerStatus => ({
  name, containerId: "crun://c1", image: "example:1", imageId: "sha256:1", ready: state.state?.$case === "running", started: state.state?.$case === "running", restartCount: 0, state, lastState: undefined, allocated: undefined, actualRequests: undefined, actualLimits: undefined, ...change,
});
const report = (change: Partial<PodStatus> = {}): PodStatus => ({
  uid: "u1", namespace: "shop", name: "web", generation: 1, phase: "Running", reason: "", message: "", podIps: ["10.64.0.2"], hostIp: "10.0.0.1", startTimeMs: NOW_MS - 2000,
  initContainers: [], containers: [container("main", running)], ephemeralContainers: [], gone: false, initialized: true, staged: false, stagesMs: {}, resize: undefined, discarded: [], incidents: [], ...change,
});
const conditions = (status: ReturnType<typeof toPodStatus>): Record<string, string> => Object.fromEntries((status.conditions ?? []).map((c) => [c.type, [c.status, c.reason].filter(Boolean).join(" ")]));

test("a running pod is Ready, with addresses, times and its container's state", (t) => {
  const status = toPodStatus(report(), pod(), NOW_MS);
  t.like(status, { phase: "Running", podIP: "10.64.0.2", hostIP: "10.0.0.1", startTime: "2026-01-01T11:59:58Z", qosClass: "BestEffort", observedGeneration: 3 });
  t.deepEqual(status.podIPs, [{ ip: "10.64.0.2" }]);
  t.deepEqual(conditions(status), { Initialized: "True", Ready: "True", ContainersReady: "True", PodScheduled: "True" });
  t.deepEqual(status.containerStatuses, [{
    name: "main", state: { running: { startedAt: "2026-01-01T11:59:59Z" } }, lastState: {}, ready: true, restartCount: 0, image: "example:1", imageID: "sha256:1", containerID: "crun://c1", started: true,
  }]);
  t.is(status.conditions!.find((c) => c.type === "PodScheduled")!.lastTransitionTime, "2026-01-01T11:00:00Z", "the scheduler's time stays");
  t.is(status.conditions!.find((c) => c.type === "Ready")!.lastTransitionTime, NOW);
});

test("a pod that had a start time says how far from it it started", (t) => {
  const due = pod({ metadata: { name: "web", namespace: "shop", uid: "u1", annotations: { [START_AT]: "2026-01-01T11:59:59Z" } } });
  const punctual = toPodStatus(report({ stagesMs: { started: NOW_MS - 969 } }), due, NOW_MS);
  t.is(conditions(punctual)[STARTED_AT], "True OnTime");
  t.is(startedAfterMs({ ...due, status: punctual }), 31);
  t.is(conditions(toPodStatus(report({ stagesMs: { started: NOW_MS + 500 } }), due, NOW_MS))[STARTED_AT], "False Late");
  t.is(conditions(toPodStatus(report({ staged: true }), due, NOW_MS))[STARTED_AT], undefined);
});

test("limits that the node left out are a condition", (t) => {
  t.like(toPodStatus(report({ discarded: ["No weight.", "No rate."] }), pod(), NOW_MS).conditions!.find((c) => c.type === LIMITS_DISCARDED), { status: "True", reason: "NotSupported", message: "No weight. No rate." });
});

test("the same report again changes nothing, whenever it comes", (t) => {
  const first = toPodStatus(report(), pod(), NOW_MS);
  const stored = pod({ status: JSON.parse(JSON.stringify(first)) as typeof first });
  t.is(toPodStatus(report(), stored, NOW_MS + 60_000), stored.status!);
});

test("a condition keeps its time until its status changes", (t) => {
  const first = pod({ status: toPodStatus(report(), pod(), NOW_MS) });
  const later = toPodStatus(report({ containers: [container("main", waiting("CrashLoopBackOff"), { restartCount: 2, lastState: terminated(1, "Error") })] }), first, NOW_MS + 5000);
  t.deepEqual(conditions(later), { Initialized: "True", Ready: "False ContainersNotReady", ContainersReady: "False ContainersNotReady", PodScheduled: "True" });
  t.is(later.conditions!.find((c) => c.type === "Initialized")!.lastTransitionTime, NOW);
  t.is(later.conditions!.find((c) => c.type === "Ready")!.lastTransitionTime, "2026-01-01T12:00:05Z");
  t.is(later.conditions!.find((c) => c.type === "Ready")!.message, "containers with unready status: [main]");
  t.deepEqual(later.containerStatuses![0]!.state, { waiting: { reason: "CrashLoopBackOff" } });
  t.is(later.containerStatuses![0]!.lastState!.terminated!.exitCode, 1);
});

test("init containers that are not done are named, started sidecars are", (t) => {
  const initContainers = [{ name: "one" }, { name: "side", restartPolicy: "Always" }, { name: "two" }];
  const status = toPodStatus(
    report({ phase: "Pending", initialized: false, initContainers: [container("one", terminated(0, "Completed")), container("side", running), container("two", running)], containers: [container("main", waiting("PodInitializing"))] }),
    pod({ spec: { containers: [{ name: "main" }], initContainers } }), NOW_MS,
  );
  t.like(status.conditions!.find((c) => c.type === "Initialized"), { status: "False", reason: "ContainersNotInitialized", message: "containers with incomplete status: [two]" });
});

test("a pod that ended says so", (t) => {
  const done = toPodStatus(report({ phase: "Succeeded", containers: [container("main", terminated(0, "Completed"))] }), pod(), NOW_MS);
  t.deepEqual(conditions(done), { Initialized: "True", Ready: "False PodCompleted", ContainersReady: "False PodCompleted", PodScheduled: "True" });
  t.deepEqual(done.containerStatuses![0]!.state!.terminated, { exitCode: 0, reason: "Completed", startedAt: "2026-01-01T11:59:55Z", finishedAt: "2026-01-01T11:59:59Z", containerID: "crun://c1" });
  t.is(conditions(toPodStatus(report({ phase: "Failed", reason: "DeadlineExceeded", containers: [container("main", terminated(137, "Error"))] }), pod(), NOW_MS))["Ready"], "False PodFailed");
});

test("readiness gates of others are kept and waited for", (t) => {
  const gated = (status: "True" | "False"): Pod => pod({
    spec: { containers: [{ name: "main" }], readinessGates: [{ conditionType: "example.com/lb" }] }, status: { conditions: [{ type: "example.com/lb", status }] },
  });
  t.is(conditions(toPodStatus(report(), gated("False"), NOW_MS))["Ready"], "False ReadinessGatesNotReady");
  const open = toPodStatus(report(), gated("True"), NOW_MS);
  t.is(conditions(open)["Ready"], "True");
  t.is(conditions(open)["example.com/lb"], "True");
});

test("a staged pod is shown as Staged, and not for longer", (t) => {
  const staged = toPodStatus(report({ phase: "Pending", staged: true }), pod(), NOW_MS);
  t.is(staged.reason, "Staged");
  t.is(toPodStatus(report(), pod({ status: staged }), NOW_MS).reason, undefined);
});
