import test from "ava";
import { PODS, DEPLOYMENTS, LIMIT_RANGES, REPLICA_SETS, RESOURCE_QUOTAS } from "../../../base/kube/resources.ts";
import type { LimitRange, ResourceQuota } from "../../../base/kube/types.gen.ts";
import { deploymentController } from "../deployment/controller.ts";
import { replicaSetController } from "../replicaset/controller.ts";
import { createBench, deployment, NS } from "../testing.ts";
import { resourceQuotaController } from "./controller.ts";

const quota = (hard: Record<string, string>): ResourceQuota => ({ apiVersion: "v1", kind: "ResourceQuota", metadata: { name: "q", namespace: NS, uid: "uid-q" }, spec: { hard } });

test("controllers' pods are charged; what goes is given back and used by what waited", async (t) => {
  const bench = await createBench(t, [deploymentController, replicaSetController, resourceQuotaController]);
  await bench.put(RESOURCE_QUOTAS, quota({ pods: "3", "count/deployments.apps": "5" }));
  await bench.run(100);
  t.deepEqual(bench.get(RESOURCE_QUOTAS, "q")!.status, { hard: { pods: "3", "count/deployments.apps": "5" }, used: { pods: "0", "count/deployments.apps": "0" } });
  await bench.put(DEPLOYMENTS, deployment("web", 5));
  await bench.run(2000);
  t.is(bench.list(PODS).length, 3);
  t.deepEqual(bench.get(RESOURCE_QUOTAS, "q")!.status!.used, { pods: "3", "count/deployments.apps": "1" });
  t.is(bench.get(RESOURCE_QUOTAS, "q")!.metadata.annotations, undefined);
  t.true(bench.events.some((e) => e.reason === "FailedCreate" && /exceeded quota: q, requested: pods=1, used: pods=3, limited: pods=3/.test(e.message)));
  t.like(bench.list(REPLICA_SETS)[0]!.status!.conditions![0], { type: "ReplicaFailure", status: "True" });
  await bench.startPods();
  await bench.changeSpec(DEPLOYMENTS, "web", { replicas: 1 });
  await bench.run(2000);
  await bench.endMarkedPods();
  await bench.run(2000);
  t.is(bench.list(PODS).length, 1);
  t.deepEqual(bench.get(RESOURCE_QUOTAS, "q")!.status!.used, { pods: "1", "count/deployments.apps": "1" });
  await bench.changeSpec(RESOURCE_QUOTAS, "q", { hard: { pods: "2" } });
  await bench.run(100);
  t.deepEqual(bench.get(RESOURCE_QUOTAS, "q")!.status, { hard: { pods: "2" }, used: { pods: "1" } });
});

test("controllers' pods get a LimitRange's defaults, too", async (t) => {
  const bench = await createBench(t, [deploymentController, replicaSetController]);
  await bench.put<LimitRange>(LIMIT_RANGES, { apiVersion: "v1", kind: "LimitRange", metadata: { name: "l", namespace: NS, uid: "uid-l" }, spec: { limits: [{ type: "Container", default: { cpu: "1" }, defaultRequest: { cpu: "250m" } }] } });
  await bench.run();
  await bench.put(DEPLOYMENTS, deployment("web", 1));
  await bench.run(100);
  t.deepEqual(bench.list(PODS)[0]!.spec!.containers[0]!.resources, { limits: { cpu: "1" }, requests: { cpu: "250m" } });
});
