import test from "ava";
import { CONTROLLER_REVISIONS, PERSISTENT_VOLUME_CLAIMS, PODS, STATEFUL_SETS } from "../../../base/kube/resources.ts";
import type { StatefulSet, StatefulSetSpec } from "../../../base/kube/types.gen.ts";
import { garbageCollector } from "../garbage-collector/controller.ts";
import { createBench, NS, template } from "../testing.ts";
import type { Bench } from "../testing.ts";
import { statefulSetController } from "./controller.ts";

const set = (replicas: number, more: Partial<StatefulSetSpec> = {}): StatefulSet => ({
  apiVersion: "apps/v1", kind: "StatefulSet", metadata: { name: "db", namespace: NS, uid: "uid-db", generation: 1, creationTimestamp: "2026-01-01T00:00:00Z" },
  spec: {
    replicas, selector: { matchLabels: { app: "db" } }, template: template({ app: "db" }), podManagementPolicy: "OrderedReady",
    updateStrategy: { type: "RollingUpdate", rollingUpdate: { partition: 0 } }, revisionHistoryLimit: 10, ...more,
  },
});
const names = (bench: Bench): string[] => bench.list(PODS).map((p) => p.metadata.name!).sort();
const images = (bench: Bench): string[] => bench.list(PODS).sort((a, b) => (a.metadata.name! < b.metadata.name! ? -1 : 1)).map((p) => p.spec!.containers[0]!.image!);
const settle = async (bench: Bench, rounds = 25): Promise<void> => {
  for (let i = 0; i < rounds; i++) {
    await bench.run(50);
    await bench.startPods();
    await bench.endMarkedPods();
    await bench.run(50);
  }
};

test("pods come in order, each when the one before it is ready, and keep their names for ever", async (t) => {
  const bench = await createBench(t, [statefulSetController]);
  await bench.put(STATEFUL_SETS, set(3));
  await bench.run(100);
  t.deepEqual(names(bench), ["db-0"]);
  await settle(bench);
  t.deepEqual(names(bench), ["db-0", "db-1", "db-2"]);
  t.like(bench.get(STATEFUL_SETS, "db")!.status, { replicas: 3, readyReplicas: 3, availableReplicas: 3, currentReplicas: 3, updatedReplicas: 3, observedGeneration: 1 });
  const uid = bench.get(PODS, "db-1")!.metadata.uid;
  await bench.remove(PODS, "db-1");
  await settle(bench);
  t.deepEqual(names(bench), ["db-0", "db-1", "db-2"]);
  t.not(bench.get(PODS, "db-1")!.metadata.uid, uid);
});

test("a canary with a partition, its rollout, and the way back along the revisions", async (t) => {
  const bench = await createBench(t, [statefulSetController]);
  await bench.put(STATEFUL_SETS, set(3));
  await settle(bench);
  const first = bench.get(STATEFUL_SETS, "db")!.status!.currentRevision!;
  await bench.changeSpec(STATEFUL_SETS, "db", { template: template({ app: "db" }, "example:2"), updateStrategy: { type: "RollingUpdate", rollingUpdate: { partition: 2 } } });
  await settle(bench);
  t.deepEqual(images(bench), ["example:1", "example:1", "example:2"]);
  t.like(bench.get(STATEFUL_SETS, "db")!.status, { currentRevision: first, currentReplicas: 2, updatedReplicas: 1 });
  // A pod below the partition that is lost comes back as it was.
  await bench.remove(PODS, "db-0");
  await settle(bench);
  t.deepEqual(images(bench), ["example:1", "example:1", "example:2"]);
  await bench.changeSpec(STATEFUL_SETS, "db", { updateStrategy: { type: "RollingUpdate", rollingUpdate: { partition: 0 } } });
  await settle(bench);
  t.deepEqual(images(bench), ["example:2", "example:2", "example:2"]);
  const { status } = bench.get(STATEFUL_SETS, "db")!;
  t.is(status!.currentRevision, status!.updateRevision);
  await bench.changeSpec(STATEFUL_SETS, "db", { template: template({ app: "db" }, "example:1") });
  await settle(bench);
  t.deepEqual(images(bench), ["example:1", "example:1", "example:1"]);
  t.deepEqual(bench.list(CONTROLLER_REVISIONS).map((r) => r.revision).sort(), [2, 3]);
  t.is(bench.get(STATEFUL_SETS, "db")!.status!.currentRevision, first);
});

test("somebody else's pod in an ordinal's place is left alone, said, and waited for", async (t) => {
  const bench = await createBench(t, [statefulSetController]);
  await bench.put(PODS, { apiVersion: "v1", kind: "Pod", metadata: { name: "db-0", namespace: NS, uid: "theirs", labels: { app: "other" } }, spec: { containers: [] }, status: { phase: "Running" } });
  await bench.put(STATEFUL_SETS, set(1));
  await bench.run(2000);
  t.true(bench.events.some((e) => e.reason === "FailedCreate" && /db-0/.test(e.message)));
  t.is(bench.get(PODS, "db-0")!.metadata.uid, "theirs");
  await bench.remove(PODS, "db-0");
  await bench.run(200);
  t.is(bench.get(PODS, "db-0")!.metadata.ownerReferences![0]!.uid, "uid-db");
});

test("in parallel a set of 100 is there at once, and scales down at once", async (t) => {
  const bench = await createBench(t, [statefulSetController]);
  await bench.put(STATEFUL_SETS, set(100, { podManagementPolicy: "Parallel" }));
  await bench.run(100);
  t.is(bench.list(PODS).length, 100);
  await settle(bench, 3);
  await bench.changeSpec(STATEFUL_SETS, "db", { replicas: 2 });
  await settle(bench, 3);
  t.deepEqual(names(bench), ["db-0", "db-1"]);
});

test("claims come with ordinals, stay when pods are lost, and go with an ordinal that is scaled away", async (t) => {
  const bench = await createBench(t, [statefulSetController, garbageCollector]);
  const claims = (): string[] => bench.list(PERSISTENT_VOLUME_CLAIMS).map((c) => `${c.metadata.name!} ${c.metadata.uid!}`).sort();
  await bench.put(STATEFUL_SETS, set(2, {
    persistentVolumeClaimRetentionPolicy: { whenDeleted: "Retain", whenScaled: "Delete" },
    volumeClaimTemplates: [{ apiVersion: "v1", kind: "PersistentVolumeClaim", metadata: { name: "data" }, spec: { accessModes: ["ReadWriteOnce"] } }],
  }));
  await settle(bench);
  const first = claims();
  t.deepEqual(first.map((c) => c.split(" ")[0]), ["data-db-0", "data-db-1"]);
  await bench.remove(PODS, "db-1");
  await settle(bench);
  t.deepEqual(claims(), first);
  await bench.changeSpec(STATEFUL_SETS, "db", { replicas: 1 });
  await settle(bench);
  t.deepEqual(claims(), first.slice(0, 1));
  await bench.changeSpec(STATEFUL_SETS, "db", { replicas: 2 });
  await settle(bench);
  t.deepEqual(names(bench), ["db-0", "db-1"]);
  t.is(claims().length, 2);
  t.not(claims()[1], first[1]);
  await bench.remove(STATEFUL_SETS, "db");
  await settle(bench);
  t.deepEqual([names(bench), claims().length], [[], 2]);
});
