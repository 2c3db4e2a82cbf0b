import test from "ava";
import type { ContainerStatus, Pod } from "../../../base/kube/types.gen.ts";
import { toTable } from "../table.ts";
import { age, humanDuration } from "./human-duration.ts";
import { definitionOf } from "./registry.ts";

const nowMs = Date.UTC(2026, 0, 10, 12);
const ago = (seconds: number): string => new Date(nowMs - seconds * 1000).toISOString().replace(".000Z", "Z");
const POD = definitionOf("", "v1", "pods")!;

const status = (name: string, part: Partial<ContainerStatus>): ContainerStatus => ({ name, ready: false, restartCount: 0, image: "", imageID: "", ...part });
const running = (name = "c", part: Partial<ContainerStatus> = {}): ContainerStatus => status(name, { ready: true, state: { running: {} }, ...part });
const pod = (part: Partial<Pod["status"]>, more: { containers?: number; init?: readonly ("job" | "sidecar")[]; deleted?: boolean } = {}): Pod => ({
  apiVersion: "v1", kind: "Pod",
  metadata: { name: "p", namespace: "default", creationTimestamp: ago(3600), ...(more.deleted ? { deletionTimestamp: ago(1) } : {}) },
  spec: {
    containers: Array.from({ length: more.containers ?? 1 }, (_, i) => ({ name: i === 0 ? "c" : `c${i}` })),
    ...(more.init ? { initContainers: more.init.map((k, i) => ({ name: `i${i}`, ...(k === "sidecar" ? { restartPolicy: "Always" } : {}) })) } : {}),
  },
  status: { phase: "Pending", ...part },
});

/** READY STATUS RESTARTS */
const shown = (p: Pod): string => toTable(POD, [p], nowMs, "None").rows[0]!.cells.slice(1, 4).join(" ");

const terminated = (exitCode: number, more: object = {}): ContainerStatus => status("c", { state: { terminated: { exitCode, ...more } } });

const CASES: readonly (readonly [string, Pod, string])[] = [
  ["a pod that nobody looked at yet is Pending", pod({}), "0/1 Pending 0"],
  ["a waiting container gives its reason", pod({ containerStatuses: [status("c", { state: { waiting: { reason: "ContainerCreating" } } })] }), "0/1 ContainerCreating 0"],
  ["a staged pod shows Staged", pod({ containerStatuses: [status("c", { state: { waiting: { reason: "Staged" } } })] }), "0/1 Staged 0"],
  ["a running pod counts what is ready", pod({ phase: "Running", containerStatuses: [running("c"), running("c1", { ready: false })] }, { containers: 2 }), "1/2 Running 0"],
  ["restarts say when the last was", pod({ phase: "Running", containerStatuses: [running("c", { restartCount: 3, lastState: { terminated: { exitCode: 1, finishedAt: ago(300) } } })] }), "1/1 Running 3 (5m ago)"],
  ["restarts of which nothing is left have no time", pod({ phase: "Running", containerStatuses: [running("c", { restartCount: 3 })] }), "1/1 Running 3"],
  ["a crash loop", pod({ phase: "Running", containerStatuses: [status("c", { restartCount: 5, state: { waiting: { reason: "CrashLoopBackOff" } }, lastState: { terminated: { exitCode: 1, finishedAt: ago(60) } } })] }), "0/1 CrashLoopBackOff 5 (60s ago)"],
  ["a finished pod is Completed", pod({ phase: "Succeeded", containerStatuses: [terminated(0, { reason: "Completed" })] }), "0/1 Completed 0"],
  ["an exit without a reason shows its code", pod({ phase: "Failed", containerStatuses: [terminated(3)] }), "0/1 ExitCode:3 0"],
  ["a death by signal shows the signal", pod({ phase: "Failed", containerStatuses: [terminated(137, { signal: 9 })] }), "0/1 Signal:9 0"],
  ["the memory killer's reason shows", pod({ phase: "Failed", containerStatuses: [terminated(137, { reason: "OOMKilled" })] }), "0/1 OOMKilled 0"],
  ["one container done, one running and ready", pod({ phase: "Running", conditions: [{ type: "Ready", status: "True" }], containerStatuses: [terminated(0, { reason: "Completed" }), running("c1")] }, { containers: 2 }), "1/2 Running 0"],
  ["one container done, one running, the pod not ready", pod({ phase: "Running", containerStatuses: [terminated(0, { reason: "Completed" }), running("c1")] }, { containers: 2 }), "1/2 NotReady 0"],
  ["an evicted pod shows the pod's own reason", pod({ phase: "Failed", reason: "Evicted" }), "0/1 Evicted 0"],
  ["a deleted pod is Terminating", pod({ phase: "Running", containerStatuses: [running()] }, { deleted: true }), "1/1 Terminating 0"],
  ["a deleted pod that had ended shows how", pod({ phase: "Succeeded", containerStatuses: [terminated(0, { reason: "Completed" })] }, { deleted: true }), "0/1 Completed 0"],
  ["a deleted pod on a lost node is Unknown", pod({ phase: "Running", reason: "NodeLost" }, { deleted: true }), "0/1 Unknown 0"],
  ["a gated pod says so", pod({ conditions: [{ type: "PodScheduled", status: "False", reason: "SchedulingGated" }] }), "0/1 SchedulingGated 0"],
  ["init containers are counted on", pod({ initContainerStatuses: [status("i0", { state: { terminated: { exitCode: 0 } } }), status("i1", { state: { running: {} } })] }, { init: ["job", "job"] }), "0/1 Init:1/2 0"],
  ["a failed init container without reason", pod({ initContainerStatuses: [status("i0", { restartCount: 2, state: { terminated: { exitCode: 2 } } })] }, { init: ["job"] }), "0/1 Init:ExitCode:2 2"],
  ["an init container that waits for a reason", pod({ initContainerStatuses: [status("i0", { state: { waiting: { reason: "ImagePullBackOff" } } })] }, { init: ["job"] }), "0/1 Init:ImagePullBackOff 0"],
  ["an init container in its turn", pod({ initContainerStatuses: [status("i0", { state: { waiting: { reason: "PodInitializing" } } })] }, { init: ["job"] }), "0/1 Init:0/1 0"],
  ["a started sidecar counts as a container", pod({ phase: "Running", initContainerStatuses: [running("i0", { started: true, restartCount: 1 })], containerStatuses: [running()] }, { init: ["sidecar"] }), "2/2 Running 1"],
  ["an ended init container's restarts no longer count", pod({ phase: "Running", initContainerStatuses: [status("i0", { restartCount: 4, state: { terminated: { exitCode: 0 } } })], containerStatuses: [running()] }, { init: ["job"] }), "1/1 Running 0"],
];
for (const [name, p, expected] of CASES) test(name, (t) => t.is(shown(p), expected));

test("wide columns show address, node and gates, or <none>", (t) => {
  const cells = (p: Pod): unknown => toTable(POD, [p], nowMs, "None").rows[0]!.cells.slice(4);
  t.deepEqual(cells(pod({})), ["60m", "<none>", "<none>", "<none>", "<none>"]);
  const placed = pod({ podIP: "10.1.0.2", conditions: [{ type: "g/a", status: "True" }] });
  t.deepEqual(cells({ ...placed, spec: { ...placed.spec!, nodeName: "n1", readinessGates: [{ conditionType: "g/a" }, { conditionType: "g/b" }] } }), ["60m", "10.1.0.2", "n1", "<none>", "1/2"]);
});

test("rows carry the metadata, the object or nothing, as asked", (t) => {
  const p = pod({ phase: "Succeeded" });
  t.deepEqual(toTable(POD, [p], nowMs, "Metadata").rows[0]!.object, { kind: "PartialObjectMetadata", apiVersion: "meta.k8s.io/v1", metadata: p.metadata });
  t.is(toTable(POD, [p], nowMs, "Object").rows[0]!.object, p);
  const row = toTable(POD, [p], nowMs, "None").rows[0]!;
  t.is(row.object, undefined);
  t.is(row.conditions?.[0]?.type, "Completed");
});

const DURATIONS: readonly (readonly [number, string])[] = [
  [-3, "<invalid>"], [-1, "0s"], [0, "0s"], [1, "1s"], [119, "119s"], [120, "2m"], [125, "2m5s"], [599, "9m59s"], [600, "10m"], [10_799, "179m"], [10_800, "3h"],
  [10_860, "3h1m"], [28_799, "7h59m"], [28_800, "8h"], [172_799, "47h"], [172_800, "2d"], [176_400, "2d1h"], [691_199, "7d23h"], [691_200, "8d"],
  [63_071_999, "729d"], [63_072_000, "2y"], [66_000_000, "2y33d"], [252_287_999, "7y364d"], [252_288_000, "8y"],
];
for (const [seconds, text] of DURATIONS) test(`${seconds} s are shown as ${text}`, (t) => t.is(humanDuration(seconds * 1000), text));

test("an absent instant has an unknown age", (t) => t.is(age(undefined, nowMs), "<unknown>"));
