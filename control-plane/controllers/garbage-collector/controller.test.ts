import test from "ava";
import { CONFIG_MAPS, DEPLOYMENTS, EVENTS, NAMESPACES, PODS, REPLICA_SETS } from "../../../base/kube/resources.ts";
import type { ConfigMap, Event, OwnerReference, Pod } from "../../../base/kube/types.gen.ts";
import { keyOf } from "../../state/store.ts";
import { deploymentController } from "../deployment/controller.ts";
import { markedForDeletion } from "../objects.ts";
import { replicaSetController } from "../replicaset/controller.ts";
import { createBench, deployment, NS } from "../testing.ts";
import type { Bench } from "../testing.ts";
import { garbageCollector } from "./controller.ts";

const ALL = [deploymentController, replicaSetController, garbageCollector];

const configMap = (name: string, owners: readonly string[] = [], more: Partial<OwnerReference> = {}): ConfigMap => ({
  apiVersion: "v1", kind: "ConfigMap",
  metadata: { name, namespace: NS, uid: `uid-${name}`, ...(owners.length > 0 && { ownerReferences: owners.map((o) => ({ apiVersion: "v1", kind: "ConfigMap", name: o, uid: `uid-${o}`, ...more })) }) },
});

const mark = (bench: Bench, name: string, finalizer: string): Promise<unknown> =>
  bench.change(DEPLOYMENTS, name, (d) => markedForDeletion({ ...d, metadata: { ...d.metadata, finalizers: [finalizer] } }, bench.clock.nowMs(), 0));

const started = async (bench: Bench, replicas: number): Promise<void> => {
  await bench.put(DEPLOYMENTS, deployment("web", replicas));
  await bench.run();
  await bench.startPods();
  await bench.run(200);
};

test("what a deleted deployment owned goes, down to the pods", async (t) => {
  const bench = await createBench(t, ALL);
  await started(bench, 100);
  await bench.remove(DEPLOYMENTS, "web");
  await bench.run();
  t.deepEqual(bench.list(REPLICA_SETS), []);
  t.is(bench.list(PODS).filter((p) => p.metadata.deletionTimestamp).length, 100);
  await bench.endMarkedPods();
  await bench.run();
  t.is(bench.list(PODS).length, 0);
});

test("in the foreground the owner stays until the last dependent is gone", async (t) => {
  const bench = await createBench(t, ALL);
  await started(bench, 3);
  await mark(bench, "web", "foregroundDeletion");
  await bench.run(100);
  t.truthy(bench.get(DEPLOYMENTS, "web"));
  t.is(bench.list(REPLICA_SETS).length, 1);
  t.is(bench.list(PODS).filter((p) => p.metadata.deletionTimestamp).length, 3);
  t.is(bench.list(PODS).length, 3);
  await bench.endMarkedPods();
  await bench.run(100);
  t.deepEqual([bench.list(PODS), bench.list(REPLICA_SETS), bench.list(DEPLOYMENTS)], [[], [], []]);
});

test("orphaned dependents lose their reference and stay as they are", async (t) => {
  const bench = await createBench(t, ALL);
  await started(bench, 3);
  await mark(bench, "web", "orphan");
  await bench.run(100);
  t.deepEqual(bench.list(DEPLOYMENTS), []);
  t.is(bench.list(REPLICA_SETS)[0]!.metadata.ownerReferences, undefined);
  t.is(bench.list(PODS).filter((p) => !p.metadata.deletionTimestamp).length, 3);
});

test("an object whose owner never was, or has another uid, or lives in another namespace, goes", async (t) => {
  const bench = await createBench(t, [garbageCollector]);
  await bench.put(CONFIG_MAPS, configMap("owner"));
  await bench.put(CONFIG_MAPS, configMap("kept", ["owner"]));
  await bench.put(CONFIG_MAPS, configMap("ghost", ["nobody"]));
  await bench.put(CONFIG_MAPS, configMap("stale", ["owner"], { uid: "uid-earlier-owner" }));
  const elsewhere = configMap("far", ["owner"]);
  await bench.put(NAMESPACES, { apiVersion: "v1", kind: "Namespace", metadata: { name: "other", uid: "ns-other" } });
  await bench.put(CONFIG_MAPS, { ...elsewhere, metadata: { ...elsewhere.metadata, namespace: "other" } });
  await bench.run();
  t.deepEqual(bench.list(CONFIG_MAPS).map((c) => c.metadata.name).sort(), ["kept", "owner"]);
});

test("with another owner alive only the dead reference goes; with an unknown kind of owner nothing does", async (t) => {
  const bench = await createBench(t, [garbageCollector]);
  for (const name of ["one", "two"]) await bench.put(CONFIG_MAPS, configMap(name));
  await bench.put(CONFIG_MAPS, configMap("both", ["one", "two"]));
  await bench.put(CONFIG_MAPS, configMap("custom", ["x"], { apiVersion: "example.org/v1", kind: "Thing" }));
  await bench.run();
  await bench.remove(CONFIG_MAPS, "one");
  await bench.run();
  t.deepEqual(bench.get(CONFIG_MAPS, "both")!.metadata.ownerReferences!.map((r) => r.name), ["two"]);
  await bench.remove(CONFIG_MAPS, "two");
  await bench.run();
  t.deepEqual(bench.list(CONFIG_MAPS).map((c) => c.metadata.name), ["custom"]);
});

test("a cache that lags behind deletes nothing: the store is asked before anything goes", async (t) => {
  const bench = await createBench(t, [garbageCollector]);
  await bench.put(CONFIG_MAPS, configMap("owner"));
  await bench.run();
  const real = bench.cache.resource(CONFIG_MAPS).get.bind(bench.cache.resource(CONFIG_MAPS));
  // The owner is invisible in the cache although it is there.
  bench.cache.resource(CONFIG_MAPS).get = (namespace, name) => (name === "owner" ? undefined : real(namespace, name));
  await bench.put(CONFIG_MAPS, configMap("kept", ["owner"]));
  await bench.run();
  t.truthy(await bench.store.get(keyOf(CONFIG_MAPS, configMap("kept"))));
});

test("events go an hour after they were last seen, finished pods beyond the threshold go, the oldest first", async (t) => {
  const bench = await createBench(t, [garbageCollector], { controllers: { terminatedPodThreshold: 2 } });
  const event = (name: string, lastTimestamp: string): Event => ({ apiVersion: "v1", kind: "Event", metadata: { name, namespace: NS, uid: `uid-${name}` }, involvedObject: {}, lastTimestamp });
  await bench.put(EVENTS, event("old", "2025-12-31T23:10:00Z"));
  await bench.put(EVENTS, event("fresh", "2025-12-31T23:59:00Z"));
  for (const [i, phase] of ["Succeeded", "Failed", "Succeeded", "Running"].entries()) {
    const pod: Pod = { apiVersion: "v1", kind: "Pod", metadata: { name: `p${i}`, namespace: NS, uid: `uid-p${i}`, creationTimestamp: `2025-12-31T00:0${i}:00Z` }, status: { phase } };
    await bench.put(PODS, pod);
  }
  await bench.run(61_000);
  t.deepEqual(bench.list(PODS).map((p) => p.metadata.name).sort(), ["p1", "p2", "p3"]);
  t.is(bench.list(EVENTS).length, 2);
  await bench.run(11 * 60_000);
  t.deepEqual(bench.list(EVENTS).map((e) => e.metadata.name), ["fresh"]);
});
