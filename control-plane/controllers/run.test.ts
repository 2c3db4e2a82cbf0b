import test from "ava";
import { settle } from "../../base/clock.ts";
import { isCode } from "../../base/errors.ts";
import { CONFIG_MAPS, CRON_JOBS, DEPLOYMENTS, JOBS, NAMESPACES, NODES, PODS } from "../../base/kube/resources.ts";
import type { KubeObject, ResourceType } from "../../base/kube/resources.ts";
import { silentLogger } from "../../base/logger.ts";
import { createEventRecorder } from "../state/event-recorder.ts";
import { keyOf } from "../state/store.ts";
import { NO_NODES, createTestState } from "../state/testing.ts";
import { newJob } from "./job/defaults.ts";
import { HOLD } from "./job/counting.ts";
import { startControllers } from "./run.ts";
import { deployment, NS, template } from "./testing.ts";

const plain = template({ app: "x" });
const jobTemplate = { ...plain, spec: { ...plain.spec!, restartPolicy: "Never" } };

test("a new leader catches up with everything that happened before it led", async (t) => {
  const { store, cache, clock } = await createTestState();
  const put = <T extends KubeObject>(type: ResourceType<T>, object: T): Promise<unknown> => store.create(keyOf(type, object), object, { writer: "api" });
  const pod = (name: string, metadata: object, nodeName?: string) =>
    put(PODS, { apiVersion: "v1", kind: "Pod", metadata: { name, namespace: NS, uid: `uid-${name}`, ...metadata }, spec: { containers: [], ...(nodeName && { nodeName }) }, status: { phase: "Pending" } });
  for (const name of [NS, "leaving"]) {
    await put(NAMESPACES, { apiVersion: "v1", kind: "Namespace", metadata: { name, uid: `ns-${name}`, ...(name !== NS && { deletionTimestamp: "2026-01-01T00:00:00Z" }) }, spec: { finalizers: ["kubernetes"] } });
  }
  await put(CONFIG_MAPS, { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "c", namespace: "leaving", uid: "uid-c" } });
  await put(DEPLOYMENTS, deployment("web", 3));
  await put(JOBS, newJob({ name: "work", namespace: NS, uid: "uid-work" }, { template: jobTemplate, completions: 2, parallelism: 2 }));
  await put(CRON_JOBS, { apiVersion: "batch/v1", kind: "CronJob", metadata: { name: "tick", namespace: NS, uid: "uid-tick", creationTimestamp: "2025-12-31T23:58:00Z" }, spec: { schedule: "* * * * *", timeZone: "Etc/UTC", jobTemplate: { spec: { template: jobTemplate } } } });
  await pod("abandoned", { finalizers: [HOLD], ownerReferences: [{ apiVersion: "batch/v1", kind: "Job", name: "gone", uid: "uid-gone", controller: true }] });
  await pod("stranded", {}, "no-such-node");
  await put(NODES, { apiVersion: "v1", kind: "Node", metadata: { name: "silent", uid: "uid-silent" }, status: { conditions: [{ type: "Ready", status: "True" }] } });
  await settle();

  const stop = new AbortController();
  const recorder = createEventRecorder({ store, cache, clock, logger: silentLogger });
  const done = startControllers({ store, cache, clock, random: () => 0.5, logger: silentLogger, fence: undefined, signal: stop.signal, events: recorder, streams: NO_NODES });
  for (let i = 0; i < 30; i++) await clock.advance(5);
  const owners = Array.from(cache.resource(PODS).list(NS), ({ object }) => object.metadata.ownerReferences?.[0]?.name ?? object.metadata.name!);
  t.is(owners.filter((name) => name.startsWith("web-")).length, 3);
  t.is(owners.filter((name) => name === "work").length, 2);
  t.is(owners.filter((name) => name.startsWith("tick-")).length, 1);
  t.false(owners.includes("gone"));
  t.is(cache.resource(NAMESPACES).get("", "leaving"), undefined);
  await clock.advance(45_000);
  t.is(cache.resource(PODS).get(NS, "stranded"), undefined);
  t.is(cache.resource(NODES).get("", "silent")!.object.status!.conditions![0]!.status, "Unknown");

  stop.abort();
  await done;
  recorder[Symbol.dispose]();
  t.is(clock.pendingTimers, 0);
});

test("a leader that is fenced off ends with Fenced, and all its controllers with it", async (t) => {
  const { store, cache, clock } = await createTestState();
  const fence = store.elect("leader");
  await store.create({ type: NAMESPACES, namespace: "", name: NS }, { apiVersion: "v1", kind: "Namespace", metadata: { name: NS, uid: "ns" } }, { writer: "api" });
  const recorder = createEventRecorder({ store, cache, clock, logger: silentLogger });
  const done = startControllers({ store, cache, clock, random: () => 0.5, logger: silentLogger, fence, signal: new AbortController().signal, events: recorder, streams: NO_NODES }).then(() => undefined, (error: unknown) => error);
  await clock.advance(10);
  store.elect("leader");
  await store.create(keyOf(DEPLOYMENTS, deployment("web", 3)), deployment("web", 3), { writer: "api" });
  for (let i = 0; i < 10; i++) await clock.advance(5);
  t.true(isCode(await done, "Fenced"));
  t.is(cache.resource(PODS).size, 0);
  recorder[Symbol.dispose]();
  t.is(clock.pendingTimers, 0);
});
