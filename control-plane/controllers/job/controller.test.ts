import test from "ava";
import { JOBS, PODS } from "../../../base/kube/resources.ts";
import type { Job, JobSpec, Pod } from "../../../base/kube/types.gen.ts";
import { createBench, NS, template } from "../testing.ts";
import type { Bench } from "../testing.ts";
import { garbageCollector } from "../garbage-collector/controller.ts";
import { jobController } from "./controller.ts";
import { newJob } from "./defaults.ts";
import { formatIndexes, parseIndexes } from "./indexes.ts";

const job = (name: string, spec: Partial<JobSpec>): Job => {
  const plain = template({}, "example:1");
  return newJob({ name, namespace: NS, uid: `uid-${name}`, creationTimestamp: "2026-01-01T00:00:00Z" }, { ...spec, template: spec.template ?? { ...plain, spec: { ...plain.spec!, restartPolicy: "Never" } } });
};

const conditions = (bench: Bench, name: string): string[] => (bench.get(JOBS, name)!.status?.conditions ?? []).filter((c) => c.status === "True").map((c) => c.type);
const end = async (bench: Bench, pods: readonly Pod[], phase: "Succeeded" | "Failed"): Promise<void> => {
  for (const pod of pods) await bench.setPod(pod, { phase, containerStatuses: [{ name: "main", ready: false, restartCount: 0, image: "", imageID: "", state: { terminated: { exitCode: phase === "Failed" ? 1 : 0, finishedAt: new Date(bench.clock.nowMs()).toISOString() } } }] });
};
const running = (bench: Bench): Pod[] => bench.list(PODS).filter((p) => p.status?.phase === "Running" && !p.metadata.deletionTimestamp);
const going = async (bench: Bench, ms = 100): Promise<void> => {
  await bench.run(ms);
  await bench.startPods();
  await bench.run(ms);
};

test("a job of 100 completions at parallelism 100 runs 100 pods, counts them and completes", async (t) => {
  const bench = await createBench(t, [jobController]);
  await bench.put(JOBS, job("mid", { parallelism: 100, completions: 100 }));
  await going(bench);
  t.like(bench.get(JOBS, "mid")!.status, { active: 100, ready: 100 });
  t.truthy(bench.get(JOBS, "mid")!.status!.startTime);
  const [pod] = bench.list(PODS);
  t.like(pod!.metadata.labels, { "job-name": "mid", "batch.kubernetes.io/job-name": "mid", "controller-uid": "uid-mid", "batch.kubernetes.io/controller-uid": "uid-mid" });
  await end(bench, running(bench).slice(0, 40), "Succeeded");
  await bench.run(200);
  t.like(bench.get(JOBS, "mid")!.status, { active: 60, succeeded: 40 });
  await end(bench, running(bench), "Succeeded");
  await bench.run(200);
  t.like(bench.get(JOBS, "mid")!.status, { succeeded: 100 });
  t.is(bench.get(JOBS, "mid")!.status!.active, undefined);
  t.deepEqual(conditions(bench, "mid"), ["SuccessCriteriaMet", "Complete"]);
  t.truthy(bench.get(JOBS, "mid")!.status!.completionTime);
  t.is(bench.list(PODS).length, 100);
  t.true(bench.list(PODS).every((p) => !p.metadata.finalizers));
  t.is(bench.events.filter((e) => e.reason === "Completed").length, 1);
});

test("parallelism bounds how many run at once, completions how many in all", async (t) => {
  const bench = await createBench(t, [jobController]);
  await bench.put(JOBS, job("few", { parallelism: 3, completions: 7 }));
  const seen: number[] = [];
  for (let i = 0; i < 5; i++) {
    await going(bench);
    seen.push(running(bench).length);
    await end(bench, running(bench), "Succeeded");
  }
  await going(bench);
  t.deepEqual(seen, [3, 3, 1, 0, 0]);
  t.deepEqual(conditions(bench, "few"), ["SuccessCriteriaMet", "Complete"]);
});

test("finished pods are counted although they are deleted at once", async (t) => {
  const bench = await createBench(t, [jobController]);
  await bench.put(JOBS, job("count", { parallelism: 5, completions: 5 }));
  await going(bench);
  for (const pod of running(bench)) {
    await end(bench, [pod], "Succeeded");
    await bench.change(PODS, pod.metadata.name!, (p) => ({ ...p, metadata: { ...p.metadata, deletionTimestamp: "2026-01-01T00:00:00Z", deletionGracePeriodSeconds: 0 } }));
    await bench.run(100);
  }
  t.is(bench.get(JOBS, "count")!.status!.succeeded, 5);
  t.deepEqual(bench.list(PODS), []);
});

test("failures are retried with a growing delay until the limit, then the job has failed and what runs is stopped", async (t) => {
  const bench = await createBench(t, [jobController]);
  await bench.put(JOBS, job("flaky", { parallelism: 2, completions: 4, backoffLimit: 2 }));
  await going(bench);
  // 10 s after the first failure, 20 s after the second.
  for (const delayMs of [10_000, 20_000]) {
    await end(bench, running(bench).slice(0, 1), "Failed");
    await bench.run(delayMs - 1000);
    t.is(bench.list(PODS).filter((p) => p.status?.phase === "Pending").length, 0);
    await bench.run(1000);
    t.is(bench.list(PODS).filter((p) => p.status?.phase === "Pending").length, 1);
    await going(bench);
    t.is(running(bench).length, 2);
  }
  await end(bench, running(bench).slice(0, 1), "Failed");
  await bench.run(200);
  t.true(bench.list(PODS).some((p) => p.metadata.deletionTimestamp));
  t.deepEqual(conditions(bench, "flaky"), ["FailureTarget"]);
  await bench.endMarkedPods();
  await bench.run(200);
  t.deepEqual(conditions(bench, "flaky"), ["FailureTarget", "Failed"]);
  t.like(bench.get(JOBS, "flaky")!.status!.conditions!.find((c) => c.type === "Failed"), { reason: "BackoffLimitExceeded", message: "Job has reached the specified backoff limit" });
  t.is(bench.get(JOBS, "flaky")!.status!.failed, 4);
  await bench.run(700_000);
  t.is(running(bench).length, 0);
});

test("a job that runs longer than its deadline fails at that instant", async (t) => {
  const bench = await createBench(t, [jobController]);
  await bench.put(JOBS, job("slow", { activeDeadlineSeconds: 30 }));
  await going(bench);
  await bench.run(29_000);
  t.deepEqual(conditions(bench, "slow"), []);
  await bench.run(1500);
  await bench.endMarkedPods();
  await bench.run(200);
  t.is(bench.get(JOBS, "slow")!.status!.conditions!.find((c) => c.type === "Failed")?.reason, "DeadlineExceeded");
});

test("a suspended job stops its pods without counting them, and goes on when resumed", async (t) => {
  const bench = await createBench(t, [jobController]);
  await bench.put(JOBS, job("nap", { parallelism: 2, completions: 2 }));
  await going(bench);
  await bench.changeSpec(JOBS, "nap", { suspend: true });
  await bench.run(200);
  await bench.endMarkedPods();
  await bench.run(200);
  t.deepEqual(bench.list(PODS), []);
  t.deepEqual(conditions(bench, "nap"), ["Suspended"]);
  t.is(bench.get(JOBS, "nap")!.status!.startTime, undefined);
  t.is(bench.get(JOBS, "nap")!.status!.failed, undefined);
  await bench.changeSpec(JOBS, "nap", { suspend: false });
  await going(bench);
  t.is(running(bench).length, 2);
  await end(bench, running(bench), "Succeeded");
  await bench.run(200);
  t.deepEqual(conditions(bench, "nap"), ["SuccessCriteriaMet", "Complete"]);
});

test("a finished job goes after its time to live, and its pods with it", async (t) => {
  const bench = await createBench(t, [jobController, garbageCollector]);
  await bench.put(JOBS, job("brief", { ttlSecondsAfterFinished: 10 }));
  await going(bench);
  await end(bench, running(bench), "Succeeded");
  await bench.run(5000);
  t.truthy(bench.get(JOBS, "brief"));
  await bench.run(7000);
  t.is(bench.get(JOBS, "brief"), undefined);
  t.deepEqual(bench.list(PODS), []);
});

test("pods of a deleted job are let go of, running ones after their agent stopped them", async (t) => {
  const bench = await createBench(t, [jobController, garbageCollector]);
  await bench.put(JOBS, job("gone", { parallelism: 3, completions: 3 }));
  await going(bench);
  await end(bench, running(bench).slice(0, 1), "Succeeded");
  await bench.remove(JOBS, "gone");
  await bench.run(200);
  t.is(bench.list(PODS).length, 2);
  t.true(bench.list(PODS).every((p) => p.metadata.deletionTimestamp && !p.metadata.finalizers));
  await bench.endMarkedPods();
  await bench.run(200);
  t.deepEqual(bench.list(PODS), []);
});

test("a work queue job (no completions) is done when one pod succeeded and none runs any more", async (t) => {
  const bench = await createBench(t, [jobController]);
  await bench.put(JOBS, job("queue", { parallelism: 3 }));
  await going(bench);
  await end(bench, running(bench).slice(0, 1), "Succeeded");
  await going(bench);
  t.is(running(bench).length, 2);
  await end(bench, running(bench), "Succeeded");
  await going(bench);
  t.deepEqual(conditions(bench, "queue"), ["SuccessCriteriaMet", "Complete"]);
});

test("an indexed job gives each pod its number and repeats only the index that failed", async (t) => {
  const bench = await createBench(t, [jobController]);
  await bench.put(JOBS, job("shard", { parallelism: 4, completions: 4, completionMode: "Indexed" }));
  await going(bench);
  const index = (p: Pod): string => p.metadata.annotations!["batch.kubernetes.io/job-completion-index"]!;
  t.deepEqual(running(bench).map(index).sort(), ["0", "1", "2", "3"]);
  const second = running(bench).find((p) => index(p) === "1")!;
  t.regex(second.metadata.name!, /^shard-1-.{5}$/);
  t.is(second.spec!.hostname, "shard-1");
  t.true(second.spec!.containers[0]!.env!.some((e) => e.name === "JOB_COMPLETION_INDEX"));
  await end(bench, running(bench).filter((p) => index(p) !== "1"), "Succeeded");
  await end(bench, [second], "Failed");
  await going(bench, 12_000);
  t.is(bench.get(JOBS, "shard")!.status!.completedIndexes, "0,2-3");
  t.deepEqual(running(bench).map(index), ["1"]);
  await end(bench, running(bench), "Succeeded");
  await going(bench);
  t.is(bench.get(JOBS, "shard")!.status!.completedIndexes, "0-3");
  t.true(conditions(bench, "shard").includes("Complete"));
});

test("container restarts count against the limit where pods restart in place", async (t) => {
  const bench = await createBench(t, [jobController]);
  const plain = template({}, "example:1");
  await bench.put(JOBS, job("retry", { backoffLimit: 3, template: { ...plain, spec: { ...plain.spec!, restartPolicy: "OnFailure" } } }));
  await going(bench);
  await bench.setPod(running(bench)[0]!, { containerStatuses: [{ name: "main", ready: false, restartCount: 3, image: "", imageID: "" }] });
  await bench.run(200);
  t.true(conditions(bench, "retry").includes("FailureTarget"));
});

test("index ranges are read as they are written", (t) => {
  for (const text of ["", "0", "0,2-4,7", "5-6"]) t.is(formatIndexes(parseIndexes(text)), text);
  t.is(formatIndexes([3, 1, 2, 9]), "1-3,9");
});

test("a job with a selector of its own adopts pods that match, holds them, and lets go of those that no longer do", async (t) => {
  const bench = await createBench(t, [jobController]);
  const pod = (name: string): Pod => ({ apiVersion: "v1", kind: "Pod", metadata: { name, namespace: NS, uid: `uid-${name}`, labels: { app: "mine" }, creationTimestamp: "2026-01-01T00:00:00Z" }, spec: { containers: [] }, status: { phase: "Running" } });
  await bench.put(PODS, pod("early"));
  const plain = template({ app: "mine" });
  await bench.put(JOBS, job("mine", { parallelism: 2, completions: 2, manualSelector: true, selector: { matchLabels: { app: "mine" } }, template: { ...plain, spec: { ...plain.spec!, restartPolicy: "Never" } } }));
  await going(bench);
  t.like(bench.get(PODS, "early")!.metadata, { finalizers: ["batch.kubernetes.io/job-tracking"], ownerReferences: [{ uid: "uid-mine" }] });
  t.is(bench.list(PODS).length, 2);
  await Promise.all([bench.put(PODS, pod("late")), bench.change(PODS, "early", (p) => ({ ...p, metadata: { ...p.metadata, labels: { app: "other" } } }))]);
  await bench.run(100);
  t.is(bench.get(PODS, "late")!.metadata.ownerReferences![0]!.uid, "uid-mine");
  t.like(bench.get(PODS, "early")!.metadata, { finalizers: undefined, ownerReferences: undefined });
});

test("another controller's job is left alone", async (t) => {
  const bench = await createBench(t, [jobController]);
  await bench.put(JOBS, job("theirs", { managedBy: "acme.io/queue" }));
  await bench.run(1000);
  t.deepEqual([bench.list(PODS).length, bench.get(JOBS, "theirs")!.status], [0, undefined]);
});

test("a pod that ended just before it was to be removed keeps its result", async (t) => {
  const bench = await createBench(t, [jobController]);
  await bench.put(JOBS, job("late", { parallelism: 2, completions: 2 }));
  await going(bench);
  const [one] = running(bench);
  // Both at once: the controller decides on a state in which the pod still runs.
  await Promise.all([bench.changeSpec(JOBS, "late", { suspend: true }), end(bench, [one!], "Succeeded")]);
  await bench.run(200);
  await bench.endMarkedPods();
  await bench.run(200);
  t.is(bench.get(JOBS, "late")!.status!.succeeded, 1);
});
