// Staged bursts on a real cluster, by the clock of the containers' own processes: on time, gone without a trace when the tick is not to come,
// and on time whoever was killed meanwhile.
import test, { type ExecutionContext } from "ava";
import { CRON_JOBS, DEPLOYMENTS, EVENTS, JOBS, PODS, SCHEDULED_SCALERS, STATEFUL_SETS } from "../../base/kube/resources.ts";
import { startAtMs } from "../../base/kube/staging.ts";
import type { CronJob, Deployment, Event, Job, Pod, ScheduledScaler, StatefulSet } from "../../base/kube/types.gen.ts";
import { EXAMPLE_IMAGE } from "../../cli/example-image.ts";
import { until, useCluster } from "../helpers/cluster.ts";
import { deployment, isReady, isRolledOut } from "../helpers/workloads.ts";

const cluster = useCluster(test, { nodes: 2 });
const COUNT = 12;
/** Time for a loaded machine to stage them in. */
const LEAD_MS = 9000;
/** Generous: other tests' clusters may run beside this one. What is reached on a quiet machine is bench/cron's to say. */
const LATE_MS = 10_000;

/** Its process says when it started. */
const CLOCK = { containers: [{ name: "clock", image: EXAMPLE_IMAGE, imagePullPolicy: "IfNotPresent", command: ["/bin/sh", "-c", "adjtimex; exec sleep 1000"] }], terminationGracePeriodSeconds: 1 };

const scheduleAt = (ms: number): string => {
  const at = new Date(ms);
  return `${at.getUTCSeconds()} ${at.getUTCMinutes()} ${at.getUTCHours()} ${at.getUTCDate()} ${at.getUTCMonth() + 1} *`;
};

const burst = (name: string, tickMs: number, more: Partial<CronJob["spec"]> = {}): object => ({
  metadata: { name },
  spec: {
    schedule: scheduleAt(tickMs), timeZone: "Etc/UTC",
    jobTemplate: { spec: { parallelism: COUNT, completions: COUNT, template: { spec: { restartPolicy: "Never", ...CLOCK } } } },
    ...more,
  },
});

const isStaged = (p: Pod): boolean => p.status?.reason === "Staged";

/** A CronJob whose pods are all staged. */
const staged = async (t: ExecutionContext, name: string, more: Partial<CronJob["spec"]> = {}): Promise<{ readonly ns: string; readonly tickMs: number }> => {
  await until(() => cluster().conmons().length === 0, "what the test before left is gone");
  const ns = await cluster().namespace(t, name);
  const tickMs = Math.ceil((Date.now() + LEAD_MS) / 1000) * 1000;
  await cluster().create(CRON_JOBS, ns, burst(name, tickMs, more));
  await cluster().until(PODS, ns, (pods) => pods.length === COUNT && pods.every(isStaged));
  if (Date.now() > tickMs - 1000) throw new Error("this machine was too slow to stage them in time");
  return { ns, tickMs };
};

/** When the container's process says that it ran, ms after the tick. */
const startOf = async (ns: string, pod: Pod, tickMs: number): Promise<number> => {
  const [, seconds, micros] = /time\.tv_sec:\s+(\d+)\s+.*?time\.tv_usec:\s+(\d+)/s.exec(await cluster().ok(["logs", "-n", ns, pod.metadata.name!])) ?? [];
  return Number(seconds) * 1000 + Number(micros) / 1000 - tickMs;
};

const starts = async (ns: string, tickMs: number): Promise<number[]> => {
  const pods = await cluster().until(PODS, ns, (all) => all.filter((p) => p.status?.phase === "Running").length === COUNT);
  return Promise.all(pods.map((p) => startOf(ns, p, tickMs)));
};

const onTime = (t: ExecutionContext, ms: readonly number[], count = COUNT): void => {
  t.log(`from ${Math.min(...ms).toFixed(1)} to ${Math.max(...ms).toFixed(1)} ms after the tick`);
  t.is(ms.length, count);
  t.true(ms.every((at) => at >= 0), "none before the tick");
  t.true(ms.every((at) => at < LATE_MS), `all soon after it: ${Math.max(...ms)}`);
};

test.serial("a burst is staged, shown as Staged, and starts at its tick; gantry cron says how punctual it was, and what is next", async (t) => {
  const { ns, tickMs } = await staged(t, "burst");
  t.regex(await cluster().ok(["get", "pods", "-n", ns]), /burst-\S+ +0\/1 +Staged/);
  t.regex(await cluster().ok(["get", "jobs", "-n", ns]), /Staged/);
  t.is(cluster().containers().length, COUNT, "their processes are there, and wait");
  const [before] = (await cluster().client.list<CronJob>(CRON_JOBS, ns, {})).items;
  t.is(before!.status?.lastScheduleTime, undefined);
  onTime(t, await starts(ns, tickMs));
  const [cronJob] = await cluster().until(CRON_JOBS, ns, ([c]) => c?.status?.lastScheduleTime !== undefined);
  t.is(Date.parse(cronJob!.status!.lastScheduleTime!), tickMs);
  const [job] = await cluster().until<Job>(JOBS, ns, ([j]) => j?.status?.startTime !== undefined);
  t.is(Date.parse(job!.status!.startTime!), tickMs, "the Job started at the tick");
  const ran = await cluster().gantry(["cron", "report", "burst", "-n", ns]);
  t.regex(ran.out, new RegExp(`${COUNT}/${COUNT} +\\d+ ms `), ran.err);
  t.regex((await cluster().gantry(["cron", "ls", "-n", ns])).out, /burst +\d+ .* Etc\/UTC +30s +20\d\d-/);
});

const workload = (name: string, more: object = {}): object => ({
  metadata: { name }, spec: { replicas: 1, selector: { matchLabels: { app: name } }, template: { metadata: { labels: { app: name } }, spec: CLOCK }, ...more },
});

test.serial("a ScheduledScaler stages what it scales up: a Deployment's pods, and a parallel StatefulSet's, start at the instant", async (t) => {
  const c = cluster();
  await until(() => c.conmons().length === 0, "what the test before left is gone");
  const ns = await c.namespace(t, "tides");
  await c.create(DEPLOYMENTS, ns, workload("web"));
  await c.create(STATEFUL_SETS, ns, workload("db", { serviceName: "db", podManagementPolicy: "Parallel" }));
  await c.until(PODS, ns, (pods) => pods.length === 2 && pods.every(isReady));
  const tickMs = Math.ceil((Date.now() + LEAD_MS) / 1000) * 1000;
  for (const [kind, name, replicas] of [["Deployment", "web", 7], ["StatefulSet", "db", 5]] as const) {
    await c.create(SCHEDULED_SCALERS, ns, { metadata: { name }, spec: { scaleTargetRef: { kind, name }, timeZone: "Etc/UTC", entries: [{ schedule: scheduleAt(tickMs), replicas }, { schedule: scheduleAt(tickMs + 3_600_000), replicas: 1 }] } });
  }
  await c.until(PODS, ns, (pods) => pods.filter(isStaged).length === 10);
  t.true(Date.now() < tickMs, "all are staged before it");
  t.is(c.containers().length, 12, "their processes are there, and wait");
  const [web] = (await c.client.list<Deployment>(DEPLOYMENTS, ns, {})).items;
  t.like(web!.status, { replicas: 1, readyReplicas: 1 });
  const pids = new Set(c.containers().map((r) => r.pid));
  const pods = await c.until(PODS, ns, (all) => all.filter((p) => p.status?.phase === "Running").length === 12);
  const late = pods.filter((p) => startAtMs(p) === tickMs);
  t.deepEqual(late.map((p) => p.metadata.labels!["app"]).sort(), [...Array<string>(4).fill("db"), ...Array<string>(6).fill("web")]);
  onTime(t, await Promise.all(late.map((p) => startOf(ns, p, tickMs))), 10);
  await c.until(DEPLOYMENTS, ns, ([d]) => d !== undefined && isRolledOut(d, 7));
  await c.until<StatefulSet>(STATEFUL_SETS, ns, ([s]) => s?.spec?.replicas === 5 && s.status?.readyReplicas === 5);
  t.deepEqual((await c.client.list(PODS, ns, {})).items.map((p) => p.metadata.uid).sort(), pods.map((p) => p.metadata.uid).sort(), "none was made anew");
  t.true(c.containers().every((r) => pids.has(r.pid)), "the same processes that were staged");
});

test.serial("a ScheduledScaler scales at its instants", async (t) => {
  const ns = await cluster().namespace(t, "scaler");
  await cluster().create(DEPLOYMENTS, ns, deployment("web", 0));
  // Every ten seconds another size: whichever holds, the other comes.
  await cluster().create(SCHEDULED_SCALERS, ns, { metadata: { name: "tides" }, spec: { scaleTargetRef: { kind: "Deployment", name: "web" }, timeZone: "Etc/UTC", entries: [{ schedule: "0,20,40 * * * * *", replicas: 2 }, { schedule: "10,30,50 * * * * *", replicas: 1 }] } });
  for (const size of [1, 2]) await cluster().until(DEPLOYMENTS, ns, ([d]) => d !== undefined && isRolledOut(d, size));
  const [scaler] = (await cluster().client.list<ScheduledScaler>(SCHEDULED_SCALERS, ns, {})).items;
  t.like(scaler!.status, { lastReplicas: 2, nextReplicas: 1 });
  t.is((Date.parse(scaler!.status!.lastChangeTime!) / 1000) % 20, 0);
  t.regex(await cluster().ok(["get", "scheduledscalers", "-n", ns]), /tides +Deployment\/web +False +2 at \S+Z +1 at \S+Z/);
});

test.serial("suspended before the tick: no container runs, and nothing tells of it", async (t) => {
  const { ns, tickMs } = await staged(t, "off");
  await cluster().ok(["patch", "cronjob", "off", "-n", ns, "-p", '{"spec":{"suspend":true}}']);
  await cluster().until(PODS, ns, (pods) => pods.length === 0);
  await cluster().until(JOBS, ns, (jobs) => jobs.length === 0);
  t.true(Date.now() < tickMs, "all gone before the tick");
  await until(() => cluster().conmons().length === 0 || Date.now() > tickMs, "no container is left");
  const events = (await cluster().client.list<Event>(EVENTS, ns, {})).items;
  t.deepEqual(events.filter((e) => e.type === "Warning").map((e) => e.message), []);
});

test.serial("the control plane is killed right before the tick: the nodes start by themselves, and the tick counts once", async (t) => {
  const { ns, tickMs } = await staged(t, "headless");
  await until(() => Date.now() > tickMs - 300, "the tick is near");
  cluster().kill("control-plane", "SIGKILL");
  await cluster().gone("control-plane");
  await until(() => Date.now() > tickMs + 1000, "the tick has passed");
  await cluster().up();
  onTime(t, await starts(ns, tickMs));
  const [cronJob] = await cluster().until(CRON_JOBS, ns, ([c]) => c?.status?.lastScheduleTime !== undefined);
  t.is(Date.parse(cronJob!.status!.lastScheduleTime!), tickMs);
  t.is((await cluster().client.list(JOBS, ns, {})).items.length, 1);
});

test.serial("an agent is killed while its pods are staged: it finds them again, and they start at the tick", async (t) => {
  const { ns, tickMs } = await staged(t, "orphans");
  const before = cluster().containers().map((c) => c.pid).sort();
  cluster().kill("node-1", "SIGKILL");
  await cluster().gone("node-1");
  await cluster().up();
  onTime(t, await starts(ns, tickMs));
  t.deepEqual(cluster().containers().map((c) => c.pid).sort(), before, "the same processes that were staged");
});
