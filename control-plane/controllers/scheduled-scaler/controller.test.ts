import test from "ava";
import { DEPLOYMENTS, PODS, REPLICA_SETS, SCHEDULED_SCALERS } from "../../../base/kube/resources.ts";
import type { ScheduledScaler, ScheduledScalerEntry } from "../../../base/kube/types.gen.ts";
import { createBench, deployment, NS, type Bench } from "../testing.ts";
import { isAhead, STAGED_REPLICAS } from "../../../base/kube/staging.ts";
import { deploymentController } from "../deployment/controller.ts";
import { replicaSetController } from "../replicaset/controller.ts";
import { scheduledScalerController } from "./controller.ts";
import { coming, holding } from "./reconcile.ts";

const HOUR = 3_600_000;
/** The fake clock starts at midnight, January 1st 2026, UTC. */
const scaler = (entries: ScheduledScalerEntry[], more: Partial<ScheduledScaler["spec"]> = {}): ScheduledScaler => ({
  apiVersion: "gantry.io/v1", kind: "ScheduledScaler", metadata: { name: "night", namespace: NS, uid: "uid-night", generation: 1, creationTimestamp: "2026-01-01T00:00:00Z" },
  spec: { scaleTargetRef: { apiVersion: "apps/v1", kind: "Deployment", name: "web" }, timeZone: "Etc/UTC", entries, ...more },
});
const DAY_AND_NIGHT: ScheduledScalerEntry[] = [{ schedule: "0 6 * * *", replicas: 100 }, { schedule: "0 22 * * *", replicas: 10 }];
const size = (bench: Bench): number => bench.get(DEPLOYMENTS, "web")!.spec!.replicas!;
const ready = async (t: Parameters<typeof createBench>[0], entries = DAY_AND_NIGHT, more: Partial<ScheduledScaler["spec"]> = {}): Promise<Bench> => {
  const bench = await createBench(t, [scheduledScalerController]);
  await bench.put(DEPLOYMENTS, deployment("web", 3));
  await bench.put(SCHEDULED_SCALERS, scaler(entries, more));
  await bench.run();
  return bench;
};

test("the last past entry holds from the start; each change is made at its instant, once", async (t) => {
  const bench = await ready(t);
  t.is(size(bench), 10, "yesterday's 22:00");
  t.like(bench.get(SCHEDULED_SCALERS, "night")!.status, { lastChangeTime: "2025-12-31T22:00:00Z", lastReplicas: 10, nextChangeTime: "2026-01-01T06:00:00Z", nextReplicas: 100 });
  await bench.run(6 * HOUR - 1);
  t.is(size(bench), 10);
  await bench.run(1);
  t.is(size(bench), 100);
  t.is(bench.get(DEPLOYMENTS, "web")!.metadata.generation, 3);
  await bench.changeSpec(DEPLOYMENTS, "web", { replicas: 50 });
  await bench.run(HOUR);
  t.is(size(bench), 50, "who scales by hand keeps that until the next change");
  await bench.run(15 * HOUR);
  t.is(size(bench), 10);
  t.deepEqual(bench.events.filter((e) => e.reason === "Rescaled").map((e) => e.message), [
    "Scaled Deployment web from 3 to 10 (0 22 * * *, Etc/UTC)", "Scaled Deployment web from 10 to 100 (0 6 * * *, Etc/UTC)", "Scaled Deployment web from 50 to 10 (0 22 * * *, Etc/UTC)",
  ]);
});

test("a clock that is set back repeats nothing; one that steps forward makes the change that holds then", async (t) => {
  const bench = await ready(t);
  await bench.run(6 * HOUR);
  bench.clock.stepWall(-2 * HOUR);
  await bench.changeSpec(DEPLOYMENTS, "web", { replicas: 7 });
  await bench.run(3 * HOUR);
  t.is(size(bench), 7);
  bench.clock.stepWall(18 * HOUR);
  await bench.run(61_000);
  t.is(size(bench), 10);
});

test("suspended it changes nothing; without a target it says so and waits for it", async (t) => {
  const bench = await ready(t, DAY_AND_NIGHT, { suspend: true });
  t.is(size(bench), 3);
  t.like(bench.get(SCHEDULED_SCALERS, "night")!.status!.conditions![0], { type: "Scheduled", status: "False", reason: "Suspended" });
  await bench.remove(DEPLOYMENTS, "web");
  await bench.changeSpec(SCHEDULED_SCALERS, "night", { suspend: false });
  await bench.run();
  t.like(bench.get(SCHEDULED_SCALERS, "night")!.status!.conditions![0], { status: "False", reason: "TargetNotFound", message: `there is no Deployment "web" in namespace ${NS}` });
  await bench.put(DEPLOYMENTS, deployment("web", 3));
  await bench.run();
  t.is(size(bench), 10);
});

test("overlaps: at one instant the last in the list wins; zones are each entry's own", (t) => {
  const both = scaler([{ schedule: "0 0 * * *", replicas: 1 }, { schedule: "0 0 1 * *", replicas: 2 }, { schedule: "30 8 * * *", timeZone: "Asia/Seoul", replicas: 3 }]);
  const midnight = Date.UTC(2026, 0, 1);
  t.is(holding(both, midnight)!.entry.replicas, 2);
  t.is(coming(both, midnight - 1)!.entry.replicas, 2);
  t.is(holding(both, midnight - 1)!.entry.replicas, 3, "23:30 UTC the day before");
});

test("the pods of a scale-up are made ahead and wait; they become replicas in the write that scales", async (t) => {
  const bench = await createBench(t, [scheduledScalerController, deploymentController, replicaSetController]);
  await bench.put(DEPLOYMENTS, deployment("web", 2));
  await bench.put(SCHEDULED_SCALERS, scaler([{ schedule: "0 6 * * *", replicas: 5 }, { schedule: "0 22 * * *", replicas: 2 }]));
  await bench.run();
  await bench.startPods();
  await bench.run(6 * HOUR - 31_000);
  t.is(bench.list(PODS).length, 2);
  await bench.run(1000);
  const ahead = (): string[] => bench.list(PODS).filter((p) => isAhead(p, bench.clock.nowMs())).map((p) => p.metadata.name!).sort();
  const staged = ahead();
  t.is(staged.length, 3);
  t.is(size(bench), 2);
  await bench.changeSpec(DEPLOYMENTS, "web", { replicas: 3 });
  await bench.run(1000);
  t.is(ahead().length, 2, "one less is missing then");
  await bench.changeSpec(SCHEDULED_SCALERS, "night", { suspend: true });
  await bench.run(1000);
  await bench.endMarkedPods();
  await bench.run(1000);
  t.deepEqual(ahead(), [], "called off");
  t.is(bench.list(PODS).length, 3);
  await bench.changeSpec(SCHEDULED_SCALERS, "night", { suspend: false });
  await bench.run(24_000);
  t.is(ahead().length, 3, "the change of the spec applied what holds: 2");
  t.regex(bench.events.find((e) => e.reason === "NotStaged")?.message ?? "", /^3 of 3 pods are not staged 5 s before 2026-01-01T06:00:00Z/);
  const waiting = ahead();
  await bench.run(5000);
  t.is(size(bench), 5);
  t.is(bench.get(DEPLOYMENTS, "web")!.metadata.annotations?.[STAGED_REPLICAS], undefined);
  t.is(bench.list(REPLICA_SETS)[0]!.metadata.annotations?.[STAGED_REPLICAS], undefined);
  const alive = bench.list(PODS).filter((p) => !p.metadata.deletionTimestamp).map((p) => p.metadata.name!);
  t.is(alive.length, 5);
  t.true(waiting.every((name) => alive.includes(name)), "none was made anew");
});

test("what a scaler staged goes with it", async (t) => {
  const bench = await createBench(t, [scheduledScalerController, deploymentController, replicaSetController]);
  await bench.put(DEPLOYMENTS, deployment("web", 1));
  await bench.put(SCHEDULED_SCALERS, scaler([{ schedule: "0 6 * * *", replicas: 4 }, { schedule: "0 22 * * *", replicas: 1 }]));
  await bench.run(6 * HOUR - 10_000);
  t.is(bench.list(PODS).length, 4);
  await bench.remove(SCHEDULED_SCALERS, "night");
  await bench.run(1000);
  await bench.endMarkedPods();
  await bench.run(30_000);
  t.is(bench.list(PODS).length, 1);
});
