import test from "ava";
import { DEPLOYMENTS, HORIZONTAL_POD_AUTOSCALERS, PODS, REPLICA_SETS, SCHEDULED_SCALERS, STATEFUL_SETS } from "../../../base/kube/resources.ts";
import type { HorizontalPodAutoscaler, ScheduledScaler, ScheduledScalerEntry } from "../../../base/kube/types.gen.ts";
import { createBench, deployment, NS, template, type Bench } from "../testing.ts";
import { isAhead, STAGED_REPLICAS } from "../../../base/kube/staging.ts";
import { deploymentController } from "../deployment/controller.ts";
import { replicaSetController } from "../replicaset/controller.ts";
import { statefulSetController } from "../statefulset/controller.ts";
import { scheduledScalerController } from "./controller.ts";
import { applied, coming, holding } from "./reconcile.ts";

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
  await bench.run(20_000);
  t.is(ahead().length, 3, "the change of the spec applied what holds: 2");
  // The ReplicaSet's copy is its Deployment's to take away: without it the ReplicaSet deletes the pods that wait.
  let taken = 0;
  using _copies = bench.cache.resource(REPLICA_SETS).subscribe(({ stored: { object } }) => {
    if (object.metadata.annotations?.[STAGED_REPLICAS] === undefined && object.spec!.replicas === 2) taken++;
  });
  await bench.run(4000);
  t.regex(bench.events.find((e) => e.reason === "NotStaged")?.message ?? "", /^3 of 3 pods are not staged 5 s before 2026-01-01T06:00:00Z/);
  const waiting = ahead();
  await bench.run(5000);
  t.is(size(bench), 5);
  t.is(taken, 0);
  t.is(bench.get(DEPLOYMENTS, "web")!.metadata.annotations?.[STAGED_REPLICAS], undefined);
  t.is(bench.list(REPLICA_SETS)[0]!.metadata.annotations?.[STAGED_REPLICAS], undefined);
  const alive = bench.list(PODS).filter((p) => !p.metadata.deletionTimestamp).map((p) => p.metadata.name!);
  t.is(alive.length, 5);
  t.true(waiting.every((name) => alive.includes(name)), "none was made anew");
});

test("a StatefulSet's pods are made ahead too: in parallel all, in order the next one, and nobody complains of the others", async (t) => {
  for (const [podManagementPolicy, count] of [["Parallel", 3], ["OrderedReady", 1]] as const) {
    const bench = await createBench(t, [scheduledScalerController, statefulSetController]);
    await bench.put(STATEFUL_SETS, {
      apiVersion: "apps/v1", kind: "StatefulSet", metadata: { name: "db", namespace: NS, uid: "uid-db", generation: 1 },
      spec: { replicas: 1, serviceName: "db", podManagementPolicy, selector: { matchLabels: { app: "db" } }, template: template({ app: "db" }), updateStrategy: { type: "RollingUpdate", rollingUpdate: { partition: 0 } } },
    });
    await bench.put(SCHEDULED_SCALERS, scaler([{ schedule: "0 6 * * *", replicas: 4 }, { schedule: "0 22 * * *", replicas: 1 }], { scaleTargetRef: { apiVersion: "apps/v1", kind: "StatefulSet", name: "db" } }));
    await bench.run();
    await bench.startPods();
    await bench.run(6 * HOUR - 29_000);
    const ahead = bench.list(PODS).filter((p) => isAhead(p, bench.clock.nowMs()));
    t.deepEqual(ahead.map((p) => p.metadata.name!).sort(), ["db-1", "db-2", "db-3"].slice(0, count));
    t.is(bench.get(STATEFUL_SETS, "db")!.status!.replicas, 1);
    for (const pod of ahead) await bench.setPod(pod, { phase: "Pending", reason: "Staged" });
    await bench.run(29_000);
    t.deepEqual(bench.events.filter((e) => e.reason === "NotStaged"), []);
    t.is(bench.get(STATEFUL_SETS, "db")!.spec!.replicas, 4);
    for (let i = 0; i < 4; i++) {
      await bench.startPods();
      await bench.run(1000);
    }
    const pods = bench.list(PODS);
    t.is(pods.length, 4);
    t.true(ahead.every((was) => pods.some((p) => p.metadata.uid === was.metadata.uid)), "none was made anew");
  }
});

const autoscaler = (minReplicas: number, maxReplicas: number): HorizontalPodAutoscaler => ({
  apiVersion: "autoscaling/v2", kind: "HorizontalPodAutoscaler", metadata: { name: "web", namespace: NS, uid: "uid-hpa", generation: 1 }, spec: { scaleTargetRef: { apiVersion: "apps/v1", kind: "Deployment", name: "web" }, minReplicas, maxReplicas },
});
const boundsOf = (bench: Bench): (number | undefined)[] => {
  const { minReplicas, maxReplicas } = bench.get(HORIZONTAL_POD_AUTOSCALERS, "web")!.spec;
  return [minReplicas, maxReplicas];
};

test("an entry sets the bounds of its target's autoscaler, and the size where it lies outside; what lacks an autoscaler waits for it", async (t) => {
  const bench = await ready(t, [{ schedule: "0 6 * * *", minReplicas: 20, maxReplicas: 80 }, { schedule: "0 22 * * *", minReplicas: 1, maxReplicas: 5 }]);
  t.is(size(bench), 3);
  t.like(bench.get(SCHEDULED_SCALERS, "night")!.status!.conditions![0], { status: "False", reason: "AutoscalerNotFound" });
  await bench.put(HORIZONTAL_POD_AUTOSCALERS, autoscaler(2, 10));
  await bench.run();
  t.deepEqual([boundsOf(bench), size(bench)], [[1, 5], 3]);
  t.like(bench.get(SCHEDULED_SCALERS, "night")!.status!, { lastReplicas: 3, nextReplicas: 20 });
  t.is(bench.get(SCHEDULED_SCALERS, "night")!.status!.conditions![0]!.message, "3 replicas, between 1 and 5 since 2025-12-31T22:00:00Z");
  // Between each two writes the size lies within the bounds, or the autoscaler would move it.
  let outside = 0;
  const look = (): void => {
    const [min = 0, max = 0] = boundsOf(bench);
    if (size(bench) < min || size(bench) > max) outside++;
  };
  using _sizes = bench.cache.resource(DEPLOYMENTS).subscribe(look);
  using _bounds = bench.cache.resource(HORIZONTAL_POD_AUTOSCALERS).subscribe(look);
  await bench.run(6 * HOUR);
  t.deepEqual([boundsOf(bench), size(bench)], [[20, 80], 20]);
  await bench.changeSpec(DEPLOYMENTS, "web", { replicas: 60 });
  await bench.run(HOUR);
  t.is(size(bench), 60, "within its bounds the size is the autoscaler's");
  await bench.run(15 * HOUR);
  t.deepEqual([boundsOf(bench), size(bench)], [[1, 5], 5]);
  t.is(outside, 0);
  t.is(bench.events.filter((e) => e.reason === "Rescaled").at(-1)?.message, "Scaled Deployment web from 60 to 5, between 1 and 5 (0 22 * * *, Etc/UTC)");
});

test("bounds that an entry leaves at odds are told, and nothing changes; an entry may name one bound only", (t) => {
  const entry: ScheduledScalerEntry = { schedule: "* * * * *", minReplicas: 20 };
  t.like(applied(entry, { size: 3, bounds: { min: 1, max: 10 } }), { reason: "InvalidBounds", message: "minReplicas would be 20 and maxReplicas 10: the entry has to set both" });
  t.deepEqual(applied(entry, { size: 3, bounds: { min: 1, max: 30 } }), { size: 20, bounds: { min: 20, max: 30 } });
  t.deepEqual(applied({ maxReplicas: 2 }, { size: 3, bounds: { min: 1, max: 30 } }), { size: 2, bounds: { min: 1, max: 2 } });
  t.deepEqual(applied({ minReplicas: 2, replicas: 7 }, { size: 3, bounds: { min: 1, max: 30 } }), { size: 7, bounds: { min: 2, max: 30 } });
  t.deepEqual(applied(entry, { size: 0, bounds: { min: 1, max: 30 } }), { size: 0, bounds: { min: 20, max: 30 } }, "none at all turns autoscaling off");
  t.deepEqual(applied({ replicas: 9 }, { size: 3, bounds: { min: 1, max: 5 } }), { size: 9, bounds: { min: 1, max: 5 } }, "who names no bounds leaves them");
});

test("the pods of raised bounds are made ahead", async (t) => {
  const bench = await createBench(t, [scheduledScalerController, deploymentController, replicaSetController]);
  await bench.put(DEPLOYMENTS, deployment("web", 1));
  await bench.put(HORIZONTAL_POD_AUTOSCALERS, autoscaler(1, 10));
  await bench.put(SCHEDULED_SCALERS, scaler([{ schedule: "0 6 * * *", minReplicas: 4 }, { schedule: "0 22 * * *", minReplicas: 1 }]));
  await bench.run(6 * HOUR - 10_000);
  t.is(bench.list(PODS).filter((p) => isAhead(p, bench.clock.nowMs())).length, 3);
  await bench.run(10_000);
  t.deepEqual([boundsOf(bench), size(bench), bench.list(PODS).length], [[4, 10], 4, 4]);
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
