import test from "ava";
import { GantryError } from "../../../base/errors.ts";
import { NAMESPACES, PODS, REPLICA_SETS, REPLICATION_CONTROLLERS } from "../../../base/kube/resources.ts";
import type { Pod, ReplicaSet } from "../../../base/kube/types.gen.ts";
import { createBench, NS, template } from "../testing.ts";
import { replicaSetController, replicationController } from "./controller.ts";

const replicaSet = (name: string, replicas: number): ReplicaSet => ({
  apiVersion: "apps/v1", kind: "ReplicaSet", metadata: { name, namespace: NS, uid: `uid-${name}`, generation: 1 },
  spec: { replicas, selector: { matchLabels: { app: name } }, template: template({ app: name }) },
});

const orphan = (name: string, labels: Record<string, string>): Pod => ({
  apiVersion: "v1", kind: "Pod", metadata: { name, namespace: NS, uid: `uid-${name}`, labels }, spec: { containers: [{ name: "main", image: "x" }] }, status: { phase: "Pending" },
});

test("pods are complete: owner, labels, quality of service, unique names", async (t) => {
  const bench = await createBench(t, [replicaSetController]);
  await bench.put(REPLICA_SETS, replicaSet("web", 2));
  await bench.run();
  const [pod] = bench.list(PODS);
  t.regex(pod!.metadata.name!, /^web-[bcdfghjklmnpqrstvwxz2456789]{5}$/);
  t.like(pod, { apiVersion: "v1", kind: "Pod", metadata: { generateName: "web-", labels: { app: "web" } }, status: { phase: "Pending", qosClass: "BestEffort" } });
  t.deepEqual(pod!.metadata.ownerReferences, [{ apiVersion: "apps/v1", kind: "ReplicaSet", name: "web", uid: "uid-web", controller: true, blockOwnerDeletion: true }]);
});

test("the same passes over and over create nothing twice, however late the cache is", async (t) => {
  const bench = await createBench(t, [replicaSetController]);
  await bench.put(REPLICA_SETS, replicaSet("web", 20));
  for (let i = 0; i < 10; i++) {
    await bench.change(REPLICA_SETS, "web", (rs) => ({ ...rs, metadata: { ...rs.metadata, generation: (rs.metadata.generation ?? 0) + 1 } }));
    await bench.clock.advance(0);
  }
  await bench.run(100);
  t.is(bench.list(PODS).length, 20);
});

test("a pod marked for deletion is replaced at once, one that ended too", async (t) => {
  const bench = await createBench(t, [replicaSetController]);
  await bench.put(REPLICA_SETS, replicaSet("web", 3));
  await bench.run();
  await bench.startPods();
  await bench.run(100);
  const [first, second] = bench.list(PODS) as [Pod, Pod];
  await bench.change(PODS, first.metadata.name!, (p) => ({ ...p, metadata: { ...p.metadata, deletionTimestamp: "2026-01-01T00:00:10Z", deletionGracePeriodSeconds: 1 } }));
  await bench.setPod(second, { phase: "Failed" });
  await bench.run();
  t.is(bench.list(PODS).length, 5);
  t.is(bench.list(PODS).filter((p) => p.status?.phase === "Pending").length, 2);
});

test("scaling down deletes pods that run nowhere outright and marks the others", async (t) => {
  const bench = await createBench(t, [replicaSetController]);
  await bench.put(REPLICA_SETS, replicaSet("web", 4));
  await bench.run();
  const bound = bench.list(PODS).slice(0, 2);
  for (const pod of bound) await bench.store.update({ type: PODS, namespace: NS, name: pod.metadata.name! }, (p) => ({ ...p, spec: { ...p.spec!, nodeName: "n" } }), { writer: "scheduler" });
  await bench.changeSpec(REPLICA_SETS, "web", { replicas: 1 });
  await bench.run();
  const left = bench.list(PODS);
  t.is(left.length, 2);
  t.is(left.filter((p) => p.metadata.deletionTimestamp).length, 1);
  t.like(left.find((p) => p.metadata.deletionTimestamp)!.metadata, { deletionGracePeriodSeconds: 1 });
});

test("orphans that match are adopted, owned pods that no longer match are released", async (t) => {
  const bench = await createBench(t, [replicaSetController]);
  await bench.put(PODS, orphan("mine", { app: "web" }));
  await bench.put(PODS, orphan("other", { app: "else" }));
  await bench.put(REPLICA_SETS, replicaSet("web", 2));
  await bench.run();
  t.is(bench.list(PODS).length, 3);
  t.is(bench.get(PODS, "mine")!.metadata.ownerReferences?.[0]?.uid, "uid-web");
  t.is(bench.get(PODS, "other")!.metadata.ownerReferences, undefined);
  await bench.change(PODS, "mine", (p) => ({ ...p, metadata: { ...p.metadata, labels: { app: "debug" } } }));
  await bench.run(100);
  t.is(bench.get(PODS, "mine")!.metadata.ownerReferences, undefined);
  t.is(bench.list(PODS).length, 4);
  await bench.put(PODS, orphan("late", { app: "web" }));
  await bench.run(100);
  t.is(bench.list(PODS).filter((p) => p.metadata.ownerReferences?.[0]?.uid === "uid-web").length, 2);
});

test("creates that fail are retried with care and show in the status until they succeed", async (t) => {
  let broken = true;
  let attempts = 0;
  const bench = await createBench(t, [replicaSetController], { store: { intercept: (operation, target) => {
    if (operation !== "create" || !target || !("type" in target) || target.type.name !== PODS.name) return;
    attempts++;
    if (broken) throw new GantryError("ServiceUnavailable", "etcd is away");
  } } });
  await bench.put(REPLICA_SETS, replicaSet("web", 50));
  await bench.run();
  t.is(attempts, 50);
  attempts = 0;
  await bench.run(2000);
  t.true(attempts > 0 && attempts < 20, `${attempts} attempts in two seconds`);
  t.regex(bench.get(REPLICA_SETS, "web")!.status!.conditions![0]!.message!, /etcd is away/);
  broken = false;
  await bench.run(10_000);
  t.is(bench.list(PODS).length, 50);
  t.is(bench.get(REPLICA_SETS, "web")!.status!.conditions, undefined);
});

test("a namespace that is going gets no new pods", async (t) => {
  const bench = await createBench(t, [replicaSetController]);
  await bench.put(REPLICA_SETS, replicaSet("web", 2));
  await bench.run();
  await bench.change(NAMESPACES, NS, (ns) => ({ ...ns, metadata: { ...ns.metadata, deletionTimestamp: "2026-01-01T00:00:00Z" } }));
  for (const pod of bench.list(PODS)) await bench.remove(PODS, pod.metadata.name!);
  await bench.run(1000);
  t.deepEqual(bench.list(PODS), []);
});

test("the events of 100 creations name the replica set; deletions too", async (t) => {
  const bench = await createBench(t, [replicaSetController]);
  await bench.put(REPLICA_SETS, replicaSet("web", 3));
  await bench.run();
  t.is(bench.events.filter((e) => e.reason === "SuccessfulCreate").length, 3);
  await bench.changeSpec(REPLICA_SETS, "web", { replicas: 0 });
  await bench.run();
  t.is(bench.events.filter((e) => e.reason === "SuccessfulDelete" && e.component === "replicaset-controller").length, 3);
});

test("a replication controller does the same with a selector of labels alone", async (t) => {
  const bench = await createBench(t, [replicaSetController, replicationController]);
  await bench.put(PODS, orphan("early", { app: "web" }));
  await bench.put(REPLICATION_CONTROLLERS, { apiVersion: "v1", kind: "ReplicationController", metadata: { name: "web", namespace: NS, uid: "uid-web", generation: 1 }, spec: { replicas: 3, selector: { app: "web" }, template: template({ app: "web" }) } });
  await bench.run();
  t.is(bench.list(PODS).length, 3);
  t.deepEqual(bench.get(PODS, "early")!.metadata.ownerReferences, [{ apiVersion: "v1", kind: "ReplicationController", name: "web", uid: "uid-web", controller: true, blockOwnerDeletion: true }]);
  await bench.startPods();
  await bench.run(100);
  t.deepEqual(bench.get(REPLICATION_CONTROLLERS, "web")!.status, { replicas: 3, fullyLabeledReplicas: 3, readyReplicas: 3, availableReplicas: 3, observedGeneration: 1 });
  await bench.changeSpec(REPLICATION_CONTROLLERS, "web", { replicas: 1 });
  await bench.run(100);
  t.is(bench.list(PODS).filter((p) => !p.metadata.deletionTimestamp).length, 1);
  await bench.change(PODS, bench.list(PODS).find((p) => !p.metadata.deletionTimestamp)!.metadata.name!, (p) => ({ ...p, metadata: { ...p.metadata, labels: { app: "free" } } }));
  await bench.run(100);
  t.is(bench.list(PODS).filter((p) => !p.metadata.deletionTimestamp && p.metadata.labels!["app"] === "web").length, 1);
  t.is(bench.list(PODS).find((p) => p.metadata.labels!["app"] === "free")!.metadata.ownerReferences, undefined);
});
