import test from "ava";
import { DEPLOYMENTS, PODS, REPLICA_SETS } from "../../../base/kube/resources.ts";
import type { Deployment, ReplicaSet } from "../../../base/kube/types.gen.ts";
import { replicaSetController } from "../replicaset/controller.ts";
import { createBench, deployment, template } from "../testing.ts";
import type { Bench } from "../testing.ts";
import { deploymentController } from "./controller.ts";
import { REVISION } from "./revisions.ts";

const CONTROLLERS = [deploymentController, replicaSetController];
const sizes = (bench: Bench): number[] => bench.list(REPLICA_SETS).map((rs) => rs.spec!.replicas!).sort((a, b) => a - b);
const progressing = (d: Deployment | undefined) => d?.status?.conditions?.find((c) => c.type === "Progressing");

/** Agents at work until nothing changes any more. */
const rollOut = async (bench: Bench, each?: () => void): Promise<void> => {
  for (let i = 0; i < 60; i++) {
    await bench.run(50);
    await bench.startPods();
    await bench.endMarkedPods();
    await bench.run(50);
    each?.();
  }
};

test("a deployment of 100 makes one replica set and 100 pods, and tells when they are ready with few writes", async (t) => {
  const bench = await createBench(t, CONTROLLERS);
  await bench.put(DEPLOYMENTS, deployment("web", 100));
  await bench.run();
  t.is(bench.list(PODS).length, 100);
  const [rs] = bench.list(REPLICA_SETS) as [ReplicaSet];
  t.is(rs.metadata.name, `web-${rs.metadata.labels!["pod-template-hash"]!}`);
  t.true(bench.list(PODS).every((p) => p.metadata.labels!["pod-template-hash"] === rs.metadata.labels!["pod-template-hash"] && p.metadata.name!.startsWith(`${rs.metadata.name!}-`)));
  t.is(new Set(bench.list(PODS).map((p) => p.metadata.name)).size, 100);
  let writes = 0;
  using _d = bench.cache.resource(DEPLOYMENTS).subscribe(() => writes++);
  using _r = bench.cache.resource(REPLICA_SETS).subscribe(() => writes++);
  await bench.startPods();
  await bench.run(200);
  t.true(writes <= 6, `${writes} writes of deployment and replica set`);
  const done = bench.get(DEPLOYMENTS, "web")!;
  t.like(done.status, { observedGeneration: 1, replicas: 100, updatedReplicas: 100, readyReplicas: 100, availableReplicas: 100, unavailableReplicas: 0 });
  t.like(progressing(done), { status: "True", reason: "NewReplicaSetAvailable" });
  t.is(done.metadata.annotations?.[REVISION], "1");
});

test("scaling changes the number of pods and makes no new revision", async (t) => {
  const bench = await createBench(t, CONTROLLERS);
  await bench.put(DEPLOYMENTS, deployment("web", 3));
  await rollOut(bench);
  for (const replicas of [10, 2, 0, 4]) {
    await bench.changeSpec(DEPLOYMENTS, "web", { replicas });
    await rollOut(bench);
    t.is(bench.list(PODS).length, replicas);
    t.deepEqual(sizes(bench), [replicas]);
    t.like(bench.get(DEPLOYMENTS, "web")!.status, { replicas, readyReplicas: replicas, availableReplicas: replicas });
  }
  t.is(bench.get(DEPLOYMENTS, "web")!.metadata.annotations?.[REVISION], "1");
});

test("a rolling update keeps within maxSurge and maxUnavailable all the way, and counts up the revision", async (t) => {
  const bench = await createBench(t, CONTROLLERS);
  await bench.put(DEPLOYMENTS, deployment("web", 10, { strategy: { type: "RollingUpdate", rollingUpdate: { maxSurge: 3, maxUnavailable: 2 } } }));
  await rollOut(bench);
  await bench.changeSpec(DEPLOYMENTS, "web", { template: template({ app: "web" }, "example:2") });
  let fewest = 10;
  let most = 0;
  using _watch = bench.cache.resource(PODS).subscribe(() => {
    const alive = bench.list(PODS).filter((p) => !p.metadata.deletionTimestamp);
    most = Math.max(most, alive.length);
    fewest = Math.min(fewest, alive.filter((p) => p.status?.phase === "Running").length);
  });
  await rollOut(bench);
  t.true(most <= 13, `${most} pods at once`);
  t.true(fewest >= 8, `only ${fewest} pods ran`);
  t.deepEqual(sizes(bench), [0, 10]);
  t.true(bench.list(PODS).every((p) => p.spec!.containers[0]!.image === "example:2"));
  t.is(bench.get(DEPLOYMENTS, "web")!.metadata.annotations?.[REVISION], "2");
  t.like(progressing(bench.get(DEPLOYMENTS, "web")), { status: "True", reason: "NewReplicaSetAvailable" });
});

test("going back to an earlier template takes its replica set again, at a new revision", async (t) => {
  const bench = await createBench(t, CONTROLLERS);
  const first = deployment("web", 2);
  await bench.put(DEPLOYMENTS, first);
  await rollOut(bench);
  await bench.changeSpec(DEPLOYMENTS, "web", { template: template({ app: "web" }, "example:2") });
  await rollOut(bench);
  await bench.changeSpec(DEPLOYMENTS, "web", { template: first.spec!.template });
  await rollOut(bench);
  t.is(bench.list(REPLICA_SETS).length, 2);
  t.is(bench.get(DEPLOYMENTS, "web")!.metadata.annotations?.[REVISION], "3");
  const current = bench.list(REPLICA_SETS).find((rs) => rs.spec!.replicas === 2)!;
  t.is(current.spec!.template!.spec!.containers[0]!.image, "example:1");
  t.is(current.metadata.annotations?.["deployment.kubernetes.io/revision-history"], "1");
});

test("Recreate ends every old pod before it starts a new one", async (t) => {
  const bench = await createBench(t, CONTROLLERS);
  await bench.put(DEPLOYMENTS, deployment("web", 3, { strategy: { type: "Recreate" } }));
  await rollOut(bench);
  let mixed = false;
  using _watch = bench.cache.resource(PODS).subscribe(() => (mixed ||= new Set(bench.list(PODS).map((p) => p.spec!.containers[0]!.image)).size > 1));
  await bench.changeSpec(DEPLOYMENTS, "web", { template: template({ app: "web" }, "example:2") });
  await rollOut(bench);
  t.false(mixed);
  t.is(bench.list(PODS).length, 3);
  t.true(bench.list(PODS).every((p) => p.spec!.containers[0]!.image === "example:2"));
});

test("a paused deployment scales but does not roll out; resumed it does", async (t) => {
  const bench = await createBench(t, CONTROLLERS);
  await bench.put(DEPLOYMENTS, deployment("web", 2));
  await rollOut(bench);
  await bench.changeSpec(DEPLOYMENTS, "web", { paused: true, replicas: 4, template: template({ app: "web" }, "example:2") });
  await rollOut(bench);
  t.is(bench.list(PODS).length, 4);
  t.true(bench.list(PODS).every((p) => p.spec!.containers[0]!.image === "example:1"));
  t.is(progressing(bench.get(DEPLOYMENTS, "web"))?.reason, "DeploymentPaused");
  await bench.changeSpec(DEPLOYMENTS, "web", { paused: false });
  await rollOut(bench);
  t.true(bench.list(PODS).every((p) => p.spec!.containers[0]!.image === "example:2"));
});

test("a rollout that makes no progress says so after its deadline, and loses no working pod beyond maxUnavailable", async (t) => {
  const bench = await createBench(t, CONTROLLERS);
  await bench.put(DEPLOYMENTS, deployment("web", 4, { progressDeadlineSeconds: 30 }));
  await rollOut(bench);
  await bench.changeSpec(DEPLOYMENTS, "web", { template: template({ app: "web" }, "broken:1") });
  await bench.run(45_000);
  await bench.endMarkedPods();
  await bench.run(45_000);
  t.like(progressing(bench.get(DEPLOYMENTS, "web")), { status: "False", reason: "ProgressDeadlineExceeded" });
  t.is(bench.list(PODS).filter((p) => p.status?.phase === "Running").length, 3);
});

test("old replica sets beyond the history limit are removed, the lowest revisions first", async (t) => {
  const bench = await createBench(t, CONTROLLERS);
  await bench.put(DEPLOYMENTS, deployment("web", 1, { revisionHistoryLimit: 2 }));
  await rollOut(bench);
  for (let i = 2; i <= 5; i++) {
    await bench.changeSpec(DEPLOYMENTS, "web", { template: template({ app: "web" }, `example:${i}`) });
    await rollOut(bench);
  }
  t.deepEqual(bench.list(REPLICA_SETS).map((rs) => rs.metadata.annotations![REVISION]).sort(), ["3", "4", "5"]);
});

test("a replica set without owner that matches is adopted, not doubled", async (t) => {
  const bench = await createBench(t, CONTROLLERS);
  await bench.put(DEPLOYMENTS, deployment("web", 3));
  await rollOut(bench);
  const names = bench.list(PODS).map((p) => p.metadata.name).sort();
  const [rs] = bench.list(REPLICA_SETS);
  // kubectl delete --cascade=orphan, then create again.
  await bench.remove(DEPLOYMENTS, "web");
  await bench.change(REPLICA_SETS, rs!.metadata.name!, (current) => ({ ...current, metadata: { ...current.metadata, ownerReferences: undefined } }));
  const again = deployment("web", 3);
  await bench.put(DEPLOYMENTS, { ...again, metadata: { ...again.metadata, uid: "uid-second" } });
  await rollOut(bench);
  t.deepEqual(bench.list(PODS).map((p) => p.metadata.name).sort(), names);
  t.is(bench.list(REPLICA_SETS)[0]!.metadata.ownerReferences![0]!.uid, "uid-second");
});

test("another's replica set under the hash's name leads to another hash", async (t) => {
  const bench = await createBench(t, CONTROLLERS);
  const probe = await createBench(t, CONTROLLERS);
  await probe.put(DEPLOYMENTS, deployment("web", 1));
  await probe.run();
  const taken = probe.list(REPLICA_SETS)[0]!;
  await bench.put(REPLICA_SETS, { ...taken, metadata: { ...taken.metadata, ownerReferences: undefined, labels: { app: "other" }, uid: "uid-other" } });
  await bench.run();
  await bench.put(DEPLOYMENTS, deployment("web", 1));
  await rollOut(bench);
  t.is(bench.get(DEPLOYMENTS, "web")!.status?.collisionCount, 1);
  t.is(bench.list(REPLICA_SETS).length, 2);
  t.is(bench.get(DEPLOYMENTS, "web")!.status?.availableReplicas, 1);
});
