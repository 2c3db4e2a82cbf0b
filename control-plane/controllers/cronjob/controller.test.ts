import test from "ava";
import { CRON_JOBS, JOBS, PODS } from "../../../base/kube/resources.ts";
import { STAGE_AHEAD, START_AT } from "../../../base/kube/staging.ts";
import type { CronJob, CronJobSpec, Job } from "../../../base/kube/types.gen.ts";
import { createBench, NS, template } from "../testing.ts";
import type { Bench } from "../testing.ts";
import { garbageCollector } from "../garbage-collector/controller.ts";
import { jobController } from "../job/controller.ts";
import { cronJobController } from "./controller.ts";
import { reconcile } from "./reconcile.ts";

/** The fake clock starts at midnight, January 1st 2026, UTC. */
const MIDNIGHT = Date.UTC(2026, 0, 1);
const MINUTE = 60_000;

const cronJob = (name: string, spec: Partial<CronJobSpec> = {}): CronJob => {
  const plain = template({ app: name });
  return {
    apiVersion: "batch/v1", kind: "CronJob", metadata: { name, namespace: NS, uid: `uid-${name}`, creationTimestamp: "2026-01-01T00:00:00Z", generation: 1, annotations: { [STAGE_AHEAD]: "0s" } },
    spec: {
      schedule: "* * * * *", timeZone: "Etc/UTC", concurrencyPolicy: "Allow", suspend: false, successfulJobsHistoryLimit: 3, failedJobsHistoryLimit: 1,
      jobTemplate: { metadata: { labels: { app: name } }, spec: { template: { ...plain, spec: { ...plain.spec!, restartPolicy: "Never" } } } }, ...spec,
    },
  };
};

/** With the default: 30 s ahead. */
const staging = (name: string, spec: Partial<CronJobSpec> = {}): CronJob => {
  const plain = cronJob(name, spec);
  return { ...plain, metadata: { ...plain.metadata, annotations: {} } };
};

const names = (bench: Bench): string[] => bench.list(JOBS).map((j) => j.metadata.name!).sort((a, b) => (a < b ? -1 : 1));
const finish = async (bench: Bench): Promise<void> => {
  for (const pod of bench.list(PODS)) await bench.setPod(pod, { phase: "Succeeded" });
  await bench.run(200);
};

test("each tick makes one job, at its instant, named after its minute", async (t) => {
  const bench = await createBench(t, [cronJobController]);
  await bench.put(CRON_JOBS, cronJob("tick"));
  const at: number[] = [];
  using _watch = bench.cache.resource(JOBS).subscribe(({ type }) => void (type === "added" && at.push(bench.clock.nowMs())));
  await bench.run(3 * MINUTE);
  t.deepEqual(at, [1, 2, 3].map((n) => MIDNIGHT + n * MINUTE));
  t.deepEqual(names(bench), [1, 2, 3].map((n) => `tick-${MIDNIGHT / MINUTE + n}`));
  const [job] = bench.list(JOBS) as [Job];
  t.like(job.metadata, { labels: { app: "tick" }, annotations: { "batch.kubernetes.io/cronjob-scheduled-timestamp": "2026-01-01T00:01:00Z" } });
  t.is(job.spec!.selector!.matchLabels!["batch.kubernetes.io/controller-uid"], job.metadata.uid);
  t.is(job.spec!.template.metadata!.labels!["batch.kubernetes.io/controller-uid"], job.metadata.uid);
  t.is(bench.get(CRON_JOBS, "tick")!.status!.lastScheduleTime, "2026-01-01T00:03:00Z");
  t.is(bench.get(CRON_JOBS, "tick")!.status!.active!.length, 3);
});

test("midnight: a job of parallelism 100 is all created at the tick", async (t) => {
  const bench = await createBench(t, [cronJobController, jobController]);
  const spec = cronJob("midnight").spec;
  await bench.put(CRON_JOBS, cronJob("midnight", { schedule: "0 0 * * *", jobTemplate: { spec: { ...spec.jobTemplate.spec!, parallelism: 100, completions: 100 } } }));
  await bench.run(24 * 60 * MINUTE - 1);
  t.is(bench.list(PODS).length, 0);
  await bench.run(1);
  t.is(bench.list(PODS).length, 100);
});

test("a step of the wall clock forward is noticed within a minute", async (t) => {
  const bench = await createBench(t, [cronJobController]);
  await bench.put(CRON_JOBS, cronJob("noon", { schedule: "0 12 * * *" }));
  await bench.run(MINUTE);
  bench.clock.stepWall(12 * 60 * MINUTE);
  await bench.run(MINUTE);
  t.is(bench.list(JOBS).length, 1);
});

test("Forbid waits for the job that runs, then makes up for the tick; Replace takes its place", async (t) => {
  const bench = await createBench(t, [cronJobController, jobController, garbageCollector]);
  await bench.put(CRON_JOBS, cronJob("forbid", { concurrencyPolicy: "Forbid" }));
  await bench.run(2 * MINUTE + 1000);
  t.is(bench.list(JOBS).length, 1);
  t.true(bench.events.some((e) => e.reason === "JobAlreadyActive"));
  await finish(bench);
  t.deepEqual(names(bench), [1, 2].map((n) => `forbid-${MIDNIGHT / MINUTE + n}`));
  await bench.remove(CRON_JOBS, "forbid");
  await bench.run(1000);
  await bench.put(CRON_JOBS, cronJob("replace", { concurrencyPolicy: "Replace", schedule: "*/2 * * * *" }));
  await bench.run(5 * MINUTE);
  t.is(bench.list(JOBS).length, 1);
  t.is(bench.get(CRON_JOBS, "replace")!.status!.active!.length, 1);
});

test("only so many finished jobs are kept, and the last success is told", async (t) => {
  const bench = await createBench(t, [cronJobController, jobController, garbageCollector]);
  await bench.put(CRON_JOBS, cronJob("hist", { successfulJobsHistoryLimit: 2 }));
  for (let i = 0; i < 5; i++) {
    await bench.run(MINUTE);
    await finish(bench);
  }
  t.is(bench.list(JOBS).length, 2);
  t.true(names(bench).includes(`hist-${MIDNIGHT / MINUTE + 5}`));
  t.regex(bench.get(CRON_JOBS, "hist")!.status!.lastSuccessfulTime!, /^2026-01-01T00:05:0/);
  t.is(bench.get(CRON_JOBS, "hist")!.status!.active, undefined);
});

test("suspended it makes nothing; resumed only the latest missed tick, and none when that is past its deadline", async (t) => {
  const bench = await createBench(t, [cronJobController]);
  await bench.put(CRON_JOBS, cronJob("nap", { suspend: true, schedule: "*/10 * * * *" }));
  await bench.run(65 * MINUTE);
  t.is(bench.list(JOBS).length, 0);
  await bench.changeSpec(CRON_JOBS, "nap", { suspend: false, startingDeadlineSeconds: 60 });
  await bench.run();
  t.is(bench.list(JOBS).length, 0);
  t.true(bench.events.some((e) => e.reason === "MissSchedule"));
  await bench.changeSpec(CRON_JOBS, "nap", { startingDeadlineSeconds: 600 });
  await bench.run();
  t.deepEqual(names(bench), [`nap-${MIDNIGHT / MINUTE + 60}`]);
});

test("a process that died between the job and the status makes no second job, and writes the status then", async (t) => {
  const bench = await createBench(t, [cronJobController]);
  const owner = cronJob("once");
  const plan = reconcile({ cronJob: owner, jobs: [] }, MIDNIGHT + MINUTE, () => "uid-job");
  await bench.put(JOBS, plan.create!);
  await bench.clock.advance(MINUTE);
  await bench.put(CRON_JOBS, owner);
  await bench.run();
  t.is(bench.list(JOBS).length, 1);
  await bench.run(MINUTE);
  t.is(bench.list(JOBS).length, 2);
});

test("another's job under the tick's name is told, not taken", async (t) => {
  const bench = await createBench(t, [cronJobController]);
  const made = reconcile({ cronJob: cronJob("mine"), jobs: [] }, MIDNIGHT + MINUTE, () => "uid-other").create!;
  await bench.put(JOBS, { ...made, metadata: { ...made.metadata, ownerReferences: undefined } });
  await bench.put(CRON_JOBS, cronJob("mine"));
  await bench.run(MINUTE);
  t.true(bench.events.some((e) => e.reason === "FailedCreate"));
  t.is(bench.get(CRON_JOBS, "mine")!.status?.active, undefined);
});

test("a schedule that can't be read is told in an event and harms nothing else", async (t) => {
  const bench = await createBench(t, [cronJobController]);
  await bench.put(CRON_JOBS, cronJob("bad", { schedule: "99 * * * *" }));
  await bench.put(CRON_JOBS, cronJob("good"));
  await bench.run(MINUTE);
  t.is(bench.list(JOBS).length, 1);
  t.regex(bench.events.find((e) => e.reason === "UnparseableSchedule")!.message, /minute "99": 99 is not between 0 and 59/);
});

test("staged: made 30 s ahead for the tick, a run from the tick on, all without the control plane's doing at the tick", async (t) => {
  const bench = await createBench(t, [cronJobController, jobController, garbageCollector]);
  await bench.put(CRON_JOBS, staging("burst", { schedule: "*/5 * * * *", jobTemplate: { spec: { ...staging("x").spec.jobTemplate.spec!, parallelism: 3, completions: 3 } } }));
  await bench.run(5 * MINUTE - 30_001);
  t.deepEqual(names(bench), []);
  await bench.run(2);
  t.deepEqual(names(bench), [`burst-${MIDNIGHT / MINUTE + 5}`]);
  for (const pod of bench.list(PODS)) await bench.setPod(pod, { phase: "Pending", reason: "Staged" });
  await bench.run(29_000);
  t.is(bench.list(PODS).length, 3);
  for (const pod of bench.list(PODS)) t.is(pod.metadata.annotations![START_AT], "2026-01-01T00:05:00Z");
  t.is(bench.get(CRON_JOBS, "burst")!.status?.lastScheduleTime, undefined, "not a run yet");
  t.is(bench.get(CRON_JOBS, "burst")!.status?.active, undefined);
  t.is(bench.list(JOBS)[0]!.status!.startTime, undefined);
  t.false(bench.events.some((e) => e.regarding.kind === "CronJob"));
  await bench.run(2000);
  t.is(bench.get(CRON_JOBS, "burst")!.status!.lastScheduleTime, "2026-01-01T00:05:00Z");
  t.is(bench.get(CRON_JOBS, "burst")!.status!.active!.length, 1);
  t.is(bench.list(JOBS)[0]!.status!.startTime, "2026-01-01T00:05:00Z");
  t.is(bench.list(PODS).length, 3);
  t.is(bench.events.filter((e) => e.regarding.kind === "CronJob" && e.reason === "SuccessfulCreate").length, 1);
  await finish(bench);
  t.is(bench.list(JOBS)[0]!.status!.succeeded, 3);
});

for (const [what, act] of [
  ["suspending", (bench: Bench) => bench.changeSpec(CRON_JOBS, "burst", { suspend: true })],
  ["another schedule", (bench: Bench) => bench.changeSpec(CRON_JOBS, "burst", { schedule: "0 12 * * *" })],
  ["no staging any more", (bench: Bench) => bench.change(CRON_JOBS, "burst", (c) => ({ ...c, metadata: { ...c.metadata, annotations: { [STAGE_AHEAD]: "0s" } } }))],
  ["deleting", (bench: Bench) => bench.remove(CRON_JOBS, "burst")],
] as const) {
  test(`${what} before the tick takes the staged pods away without a trace`, async (t) => {
    const bench = await createBench(t, [cronJobController, jobController, garbageCollector]);
    await bench.put(CRON_JOBS, staging("burst", { schedule: "*/5 * * * *", jobTemplate: { spec: { ...staging("x").spec.jobTemplate.spec!, parallelism: 3, completions: 3 } } }));
    await bench.run(5 * MINUTE - 20_000);
    await bench.startPods();
    t.is(bench.list(PODS).length, 3);
    await act(bench);
    for (let i = 0; i < 4; i++) {
      await bench.run(100);
      await bench.endMarkedPods();
    }
    await bench.run(1000);
    t.is(bench.list(PODS).length, 0);
    t.is(bench.list(JOBS).length, 0);
    t.false(bench.events.some((e) => e.type === "Warning" || e.reason === "SuccessfulDelete" || e.regarding.kind === "CronJob"));
  });
}

test("another template before the tick: staged anew; in the last two seconds it counts from the next tick on", async (t) => {
  const bench = await createBench(t, [cronJobController, jobController, garbageCollector]);
  await bench.put(CRON_JOBS, staging("burst"));
  const change = async (image: string): Promise<void> => {
    const { jobTemplate } = bench.get(CRON_JOBS, "burst")!.spec;
    const { template: pods } = jobTemplate.spec!;
    await bench.changeSpec(CRON_JOBS, "burst", { jobTemplate: { ...jobTemplate, spec: { ...jobTemplate.spec, template: { ...pods, spec: { ...pods.spec!, containers: [{ name: "main", image }] } } } } });
    for (let i = 0; i < 4; i++) {
      await bench.run(100);
      await bench.endMarkedPods();
    }
  };
  const images = (): string[] => bench.list(PODS).map((p) => p.spec!.containers[0]!.image!);
  await bench.run(40_000);
  await bench.startPods();
  await change("example:2");
  t.deepEqual(images(), ["example:2"]);
  t.deepEqual(names(bench), [`burst-${MIDNIGHT / MINUTE + 1}`]);
  await bench.run(18_500);
  await change("example:3");
  t.deepEqual(images(), ["example:2"]);
  await bench.run(MINUTE);
  t.deepEqual(images(), ["example:2", "example:3"]);
});

test("Forbid stages nothing while a run is active, and a run that comes in between sends the staged away", async (t) => {
  const bench = await createBench(t, [cronJobController, jobController, garbageCollector]);
  await bench.put(CRON_JOBS, staging("solo", { concurrencyPolicy: "Forbid" }));
  await bench.run(MINUTE + 1000);
  t.is(bench.list(JOBS).length, 1);
  await bench.run(50_000);
  t.is(bench.list(JOBS).length, 1, "nothing staged beside the run");
  await finish(bench);
  t.is(bench.list(JOBS).length, 2, "staged as soon as the run has ended");
  const owner = { ...bench.get(CRON_JOBS, "solo")!, status: {} };
  const manual = reconcile({ cronJob: owner, jobs: [] }, MIDNIGHT + MINUTE, () => "uid-manual").create!;
  await bench.put(JOBS, { ...manual, metadata: { ...manual.metadata, name: "by-hand", annotations: {} } });
  await bench.run(500);
  await bench.endMarkedPods();
  await bench.run(500);
  t.deepEqual(names(bench).filter((n) => n !== `solo-${MIDNIGHT / MINUTE + 1}`), ["by-hand"]);
});

test("pods deleted before their tick are replaced at once and not counted as failures", async (t) => {
  const bench = await createBench(t, [cronJobController, jobController, garbageCollector]);
  await bench.put(CRON_JOBS, staging("burst"));
  await bench.run(40_000);
  await bench.startPods();
  const [pod] = bench.list(PODS);
  await bench.setPod(pod!, { phase: "Pending", reason: "Staged" });
  await bench.change(PODS, pod!.metadata.name!, (p) => ({ ...p, metadata: { ...p.metadata, deletionTimestamp: "2026-01-01T00:00:41Z", deletionGracePeriodSeconds: 1 } }));
  await bench.run(100);
  t.is(bench.list(PODS).filter((p) => !p.metadata.deletionTimestamp).length, 1);
  for (let i = 0; i < 3; i++) {
    await bench.endMarkedPods();
    await bench.run(100);
  }
  t.is(bench.list(PODS).length, 1);
  t.is(bench.list(JOBS)[0]!.status!.failed, undefined);
});

test("a clock that steps back repeats nothing", async (t) => {
  const bench = await createBench(t, [cronJobController, jobController]);
  await bench.put(CRON_JOBS, staging("tick"));
  await bench.run(2 * MINUTE + 1000);
  t.is(bench.list(JOBS).length, 2);
  bench.clock.stepWall(-2 * MINUTE);
  await bench.run(2 * MINUTE - 32_000);
  t.is(bench.list(JOBS).length, 2);
  await bench.run(3 * MINUTE);
  t.deepEqual(names(bench), [1, 2, 3, 4, 5].slice(0, bench.list(JOBS).length).map((n) => `tick-${MIDNIGHT / MINUTE + n}`));
});

test("seconds: ticks of one minute are told apart", async (t) => {
  const bench = await createBench(t, [cronJobController]);
  await bench.put(CRON_JOBS, cronJob("fast", { schedule: "*/20 * * * * *" }));
  await bench.run(MINUTE);
  t.deepEqual(names(bench), [20, 40, 60].map((n) => `fast-${MIDNIGHT / 1000 + n}`));
});

test("what is not staged five seconds ahead is told before the tick, with the reason", async (t) => {
  const bench = await createBench(t, [cronJobController, jobController]);
  await bench.put(CRON_JOBS, staging("burst"));
  await bench.run(54_000);
  const [pod] = bench.list(PODS);
  await bench.setPod(pod!, { conditions: [{ type: "PodScheduled", status: "False", reason: "Unschedulable", message: "0/3 nodes are available: 3 Insufficient cpu." }] });
  t.false(bench.events.some((e) => e.reason === "NotStaged"));
  await bench.run(2000);
  const told = bench.events.filter((e) => e.reason === "NotStaged");
  t.is(told.length, 1);
  t.is(told[0]!.message, "1 of 1 pods are not staged 5 s before 2026-01-01T00:01:00Z, 1 of them for want of room: 0/3 nodes are available: 3 Insufficient cpu.");
  await bench.run(36_000);
  t.is(bench.list(JOBS).length, 2, "the tick came nevertheless, and the next is staged");
});
