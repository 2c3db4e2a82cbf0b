import test from "ava";
import { CRON_JOBS, JOBS, PODS } from "../../../base/kube/resources.ts";
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
    apiVersion: "batch/v1", kind: "CronJob", metadata: { name, namespace: NS, uid: `uid-${name}`, creationTimestamp: "2026-01-01T00:00:00Z", generation: 1 },
    spec: {
      schedule: "* * * * *", timeZone: "Etc/UTC", concurrencyPolicy: "Allow", suspend: false, successfulJobsHistoryLimit: 3, failedJobsHistoryLimit: 1,
      jobTemplate: { metadata: { labels: { app: name } }, spec: { template: { ...plain, spec: { ...plain.spec!, restartPolicy: "Never" } } } }, ...spec,
    },
  };
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
  const plan = reconcile(owner, [], MIDNIGHT + MINUTE, () => "uid-job");
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
  const made = reconcile(cronJob("mine"), [], MIDNIGHT + MINUTE, () => "uid-other").create!;
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
