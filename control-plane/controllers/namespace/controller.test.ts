import test from "ava";
import { CONFIG_MAPS, DEPLOYMENTS, NAMESPACES, PODS, REPLICA_SETS } from "../../../base/kube/resources.ts";
import { createTestState } from "../../state/testing.ts";
import { deploymentController } from "../deployment/controller.ts";
import { garbageCollector } from "../garbage-collector/controller.ts";
import { markedForDeletion } from "../objects.ts";
import { replicaSetController } from "../replicaset/controller.ts";
import { createBench, deployment, NS } from "../testing.ts";
import type { Bench } from "../testing.ts";
import { ensureSystemNamespaces, namespaceController, SYSTEM_NAMESPACES } from "./controller.ts";

/** As the API does. */
const leave = (bench: Bench): Promise<unknown> =>
  bench.change(NAMESPACES, NS, (ns) => ({ ...markedForDeletion(ns, bench.clock.nowMs(), 0), status: { phase: "Terminating" } }));

test("a namespace goes once everything in it is gone, and nothing is made anew meanwhile", async (t) => {
  const bench = await createBench(t, [deploymentController, replicaSetController, garbageCollector, namespaceController]);
  await bench.put(DEPLOYMENTS, deployment("web", 5));
  await bench.put(CONFIG_MAPS, { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "c", namespace: NS, uid: "uid-c" } });
  await bench.run();
  await bench.startPods();
  await bench.run(100);
  await leave(bench);
  await bench.run(100);
  t.deepEqual([bench.list(DEPLOYMENTS), bench.list(REPLICA_SETS), bench.list(CONFIG_MAPS)], [[], [], []]);
  t.is(bench.list(PODS).filter((p) => p.metadata.deletionTimestamp).length, 5);
  t.like(bench.get(NAMESPACES, NS)!.status!.conditions!.find((c) => c.type === "NamespaceContentRemaining"), { status: "True", reason: "SomeResourcesRemain" });
  await bench.endMarkedPods();
  await bench.run(200);
  t.is(bench.get(NAMESPACES, NS), undefined);
});

test("an object that a finalizer holds keeps the namespace, and the status says which", async (t) => {
  const bench = await createBench(t, [namespaceController]);
  await bench.put(CONFIG_MAPS, { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "held", namespace: NS, uid: "uid-c", finalizers: ["example.org/hold"] } });
  await leave(bench);
  await bench.run(100);
  t.regex(bench.get(NAMESPACES, NS)!.status!.conditions!.find((c) => c.type === "NamespaceFinalizersRemaining")!.message!, /example\.org\/hold in 1 resource instances/);
  await bench.remove(CONFIG_MAPS, "held");
  await bench.run(200);
  t.is(bench.get(NAMESPACES, NS), undefined);
});

test("what slips in at the last moment goes too", async (t) => {
  const bench = await createBench(t, [namespaceController]);
  await bench.put(CONFIG_MAPS, { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "held", namespace: NS, uid: "uid-c", finalizers: ["example.org/hold"] } });
  await leave(bench);
  await bench.run(100);
  await bench.put(CONFIG_MAPS, { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "late", namespace: NS, uid: "uid-late" } });
  await bench.run(100);
  t.deepEqual(bench.list(CONFIG_MAPS).map((c) => c.metadata.name), ["held"]);
});

test("the system's namespaces are made once, whoever is first", async (t) => {
  const { store, cache, clock } = await createTestState();
  await Promise.all([ensureSystemNamespaces(store, clock), ensureSystemNamespaces(store, clock)]);
  await ensureSystemNamespaces(store, clock);
  await cache.waitFor((await store.list(NAMESPACES)).resourceVersion);
  t.deepEqual(Array.from(cache.resource(NAMESPACES).list(), (n) => n.object.metadata.name!).sort(), [...SYSTEM_NAMESPACES].sort());
});
