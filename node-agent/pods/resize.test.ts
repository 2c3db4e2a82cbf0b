import test from "ava";
import { Resources } from "../../proto/gen/gantry/v1/agent.ts";
import { nextStep } from "./next-step.ts";
import { newPodRecord, type ContainerRecord, type PodRecord } from "./pod-record.ts";
import { admitResize, allocationOf, resizeAtMs, takesRestart, withAllocation } from "./resize.ts";
import { makePod } from "./testing.ts";

const NOW = 1_000_000;
const MI = 1 << 20;
const amounts = (milliCpu: number, memoryMi: number): Resources => Resources.fromPartial({ milliCpu, memoryBytes: memoryMi * MI });
const pod = (milliCpu: number, memoryMi: number, restartOnResize: string[] = [], generation = 1) =>
  makePod({ generation, qosClass: "Burstable", containers: [{ name: "main", requests: amounts(milliCpu, memoryMi), limits: amounts(milliCpu, memoryMi), restartOnResize }] });
const running = (given: ReturnType<typeof pod>, change: Partial<ContainerRecord> = {}, own: Partial<PodRecord> = {}): PodRecord => {
  const record = { ...newPodRecord(given, NOW), sandbox: true, volumesGeneration: 99, ...own };
  const allocated = allocationOf(given.containers[0]!);
  Object.assign(record.containers["main"]!, { phase: "running", imageId: "i", started: true, ready: true, allocated, applied: allocated }, change);
  return record;
};
const situation = { nowMs: NOW, unassigned: false };

test("changed resources are a step of their own; the same ones, and those of a container that never ran, are none", (t) => {
  t.is(nextStep(pod(200, 64, [], 2), running(pod(100, 64)), situation).kind, "resize");
  t.is(nextStep(pod(100, 64, [], 2), running(pod(100, 64)), situation).kind, "wait");
  t.is(resizeAtMs(pod(200, 64), newPodRecord(pod(200, 64), NOW)), undefined);
  t.is(resizeAtMs(pod(100, 64), running(pod(100, 64), { applied: allocationOf(pod(50, 64).containers[0]!) })), 0, "given, but not in force: the agent was killed in between");
});

test("a resize without room waits for its time, one that can't be for another assignment", (t) => {
  const record = running(pod(100, 64), {}, { resize: { state: "Deferred", message: "", generation: 2, retryAtMs: NOW + 10_000 } });
  t.deepEqual(nextStep(pod(200, 64, [], 2), record, situation), { kind: "wait", untilMs: NOW + 10_000 });
  t.is(nextStep(pod(200, 64, [], 2), record, { ...situation, nowMs: NOW + 10_000 }).kind, "resize");
  t.is(nextStep(pod(150, 64, [], 3), record, situation).kind, "resize");
  const never = running(pod(100, 64), {}, { resize: { state: "Infeasible", message: "", generation: 2, retryAtMs: 0 } });
  t.deepEqual(nextStep(pod(9000, 64, [], 2), never, situation), { kind: "wait" });
});

test("a refused resize that is taken back is cleared away", (t) => {
  t.is(nextStep(pod(100, 64, [], 3), running(pod(100, 64), {}, { resize: { state: "Infeasible", message: "", generation: 2, retryAtMs: 0 } }), situation).kind, "resize");
});

test("room: the whole node's for one pod, what others leave for now", (t) => {
  const allocatable = amounts(1000, 1000);
  t.deepEqual(admitResize(pod(600, 64), { milliCpu: 400, memoryBytes: 0 }, allocatable), { state: "ok" });
  t.deepEqual(admitResize(pod(601, 64), { milliCpu: 400, memoryBytes: 0 }, allocatable), { state: "Deferred", message: "Node didn't have enough resource: cpu, requested: 601, used: 400, capacity: 1000" });
  t.like(admitResize(pod(100, 1001), { milliCpu: 0, memoryBytes: 0 }, allocatable), { state: "Infeasible" });
});

test("only a change of a resource whose policy says so restarts the container, which keeps what it was given", (t) => {
  const [from, to] = [allocationOf(pod(100, 64).containers[0]!), allocationOf(pod(100, 128).containers[0]!)];
  t.false(takesRestart(pod(0, 0, ["cpu"]).containers[0]!, from, to));
  t.true(takesRestart(pod(0, 0, ["memory"]).containers[0]!, from, to));
  t.is(withAllocation(pod(300, 300).containers[0]!, running(pod(100, 64)).containers["main"]).requests!.milliCpu, 100);
});

test("a container that is restarted for a resize comes back at once, also with the policy Never", (t) => {
  const given = { ...pod(100, 64), restartPolicy: "Never" };
  const record = running(given, { phase: "ended", collected: true, restarting: true, end: { containerId: "c", exitCode: 143, signal: 15, reason: "Error", message: "", startedAtMs: NOW - 500, finishedAtMs: NOW } });
  t.is(nextStep(given, record, situation).kind, "restart");
});
