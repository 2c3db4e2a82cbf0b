// The controllers on a real etcd: how fast 0 -> 100 -> 0 is decided and written, and that a change of leaders in the middle neither
// loses nor doubles a pod. Binding and running are played by the test.
import test from "ava";
import type { ExecutionContext } from "ava";
import { SystemClock } from "../../base/clock.ts";
import { isCode } from "../../base/errors.ts";
import { newId, newUid } from "../../base/ids.ts";
import { DEPLOYMENTS, EVENTS, NAMESPACES, NODES, PODS, REPLICA_SETS } from "../../base/kube/resources.ts";
import type { Deployment, Pod } from "../../base/kube/types.gen.ts";
import { silentLogger } from "../../base/logger.ts";
import { Metrics } from "../../base/metrics.ts";
import { deployment } from "../../control-plane/controllers/testing.ts";
import { ensureSystemNamespaces } from "../../control-plane/controllers/namespace/controller.ts";
import { startControllers } from "../../control-plane/controllers/run.ts";
import type { WatchCache } from "../../control-plane/state/cache.ts";
import { createEventRecorder } from "../../control-plane/state/event-recorder.ts";
import { EtcdStore } from "../../control-plane/state/etcd-store.ts";
import { keyOf } from "../../control-plane/state/store.ts";
import type { Fence, ObjectKey, Stored } from "../../control-plane/state/store.ts";
import { NO_NODES } from "../../control-plane/state/testing.ts";
import { createWatchCache } from "../../control-plane/state/watch-cache.ts";
import { startEtcd } from "../helpers/etcd.ts";
import type { TestEtcd } from "../helpers/etcd.ts";

/** The node has no agent that renews its lease: on a busy machine a test may last longer than the usual one. */
const SILENCE_MS = 3_600_000;

const clock = new SystemClock();
let etcd: TestEtcd;
test.before(async () => {
  etcd = await startEtcd();
});
test.after.always(() => etcd?.stop());

interface Plane {
  readonly store: EtcdStore;
  readonly cache: WatchCache;
  readonly metrics: Metrics;
  lead(fence: Fence): { readonly done: Promise<unknown>; stop(): Promise<void> };
  campaign(identity: string): Promise<Fence>;
  /** Resolves once the cache shows it. */
  until(what: string, holds: () => boolean): Promise<void>;
}

const startPlane = async (t: ExecutionContext, prefix: string): Promise<Plane> => {
  const metrics = new Metrics();
  let peek: (key: ObjectKey) => Stored | undefined = () => undefined;
  const store = await EtcdStore.connect({ endpoints: etcd.endpoints, prefix, clock, logger: silentLogger, metrics, peek: (key) => peek(key) });
  t.teardown(() => store.close());
  const cache = createWatchCache({ store, clock, logger: silentLogger, metrics });
  t.teardown(() => cache.close());
  await ensureSystemNamespaces(store, clock);
  await cache.start();
  peek = (key) => cache.resource(key.type).get(key.namespace, key.name);
  const events = createEventRecorder({ store, cache, clock, logger: silentLogger, delayMs: 50 });
  t.teardown(() => events[Symbol.dispose]());
  return {
    store, cache, metrics,
    lead: (fence) => {
      const stop = new AbortController();
      const running = startControllers({ store, cache, clock, random: Math.random, logger: silentLogger, metrics, fence, signal: stop.signal, events, streams: NO_NODES, options: { nodeLeaseMs: SILENCE_MS } });
      const done = running.then(() => undefined, (error: unknown) => error);
      t.teardown(async () => {
        stop.abort();
        await done;
      });
      return { done, stop: async () => {
        stop.abort();
        await done;
      } };
    },
    campaign: async (identity) => (await store.elections.campaign({ election: "leader", identity, instance: newId(), first: true }, new AbortController().signal)).fence,
    until: async (what, holds) => {
      const deadlineMs = clock.monotonicMs() + 60_000;
      while (!holds()) {
        if (clock.monotonicMs() > deadlineMs) throw new Error(`${what} did not happen within 15 s`);
        await clock.sleep(2);
      }
    },
  };
};

const pods = (cache: WatchCache): Pod[] => Array.from(cache.resource(PODS).list(), (s) => s.object);
const unique = (name: string, replicas: number): Deployment => {
  const made = deployment(name, replicas);
  return { ...made, metadata: { ...made.metadata, uid: newUid() } };
};

/** What scheduler and agents write, as fast as it can be written. */
const makeReady = (store: EtcdStore, all: readonly Pod[]): Promise<unknown> => Promise.all(all.map(async (pod) => {
  await store.update(keyOf(PODS, pod), (current) => ({ ...current, spec: { ...current.spec!, nodeName: "node-1" } }), { writer: "scheduler" });
  await store.update(keyOf(PODS, pod), (current) => ({ ...current, status: { ...current.status, phase: "Running", conditions: [{ type: "Ready", status: "True", lastTransitionTime: new Date(clock.nowMs()).toISOString() }] } }), { writer: "agent" });
}));

test.serial("0 -> 100 -> 0: few writes, little time", async (t) => {
  const plane = await startPlane(t, `/test-${newId()}`);
  const { store, cache } = plane;
  // Bound to a node that exists, or the pods would be collected.
  await store.create({ type: NODES, namespace: "", name: "node-1" }, { apiVersion: "v1", kind: "Node", metadata: { name: "node-1", uid: newUid() } }, { writer: "api" });
  plane.lead(await plane.campaign("a"));
  const web = unique("web", 100);
  let objects = 0;
  using _d = cache.resource(DEPLOYMENTS).subscribe(() => objects++);
  using _r = cache.resource(REPLICA_SETS).subscribe(() => objects++);

  const startMs = clock.monotonicMs();
  const startCpu = process.cpuUsage();
  await store.create(keyOf(DEPLOYMENTS, web), web, { writer: "api" });
  await plane.until("100 pods", () => cache.resource(PODS).size === 100);
  const createdMs = clock.monotonicMs() - startMs;
  const createdCpu = process.cpuUsage(startCpu);
  await makeReady(store, pods(cache));
  await plane.until("a status of 100 available", () => cache.resource(DEPLOYMENTS).get("default", "web")?.object.status?.availableReplicas === 100);
  const writesUp = objects;
  await clock.sleep(300);
  const deleteMs = clock.monotonicMs();
  await store.delete(keyOf(DEPLOYMENTS, web), { writer: "api" });
  await plane.until("100 marks", () => pods(cache).length === 100 && pods(cache).every((p) => p.metadata.deletionTimestamp !== undefined));
  const markedMs = clock.monotonicMs() - deleteMs;
  t.log(`created in ${createdMs.toFixed(0)} ms (${((createdCpu.user + createdCpu.system) / 1000).toFixed(0)} ms CPU, store and cache included), marked in ${markedMs.toFixed(0)} ms, ${writesUp} writes of deployment and replica set`);
  t.true(createdMs < 2000 && markedMs < 2000);
  t.true(writesUp <= 16, `${writesUp} writes of deployment and replica set`);
  await clock.sleep(400);
  // 10 creations, 10 deletions, each with its "combined" one, and the deployment's own.
  t.true(cache.resource(EVENTS).size <= 30, `${cache.resource(EVENTS).size} events`);
});

test.serial("a leader that is deposed in the middle of 0 -> 300 stops with Fenced, and its successor ends at exactly 300", async (t) => {
  const prefix = `/test-${newId()}`;
  const [old, successor] = [await startPlane(t, prefix), await startPlane(t, prefix)];
  const deposed = old.lead(await old.campaign("one"));
  for (const name of ["a", "b", "c"]) {
    const made = unique(name, 100);
    await old.store.create(keyOf(DEPLOYMENTS, made), made, { writer: "api" });
  }
  await old.until("some pods", () => old.cache.resource(PODS).size > 0);
  // The same identity takes over at once, as after a SIGKILL; the old one doesn't know yet and goes on writing.
  successor.lead(await successor.campaign("one"));
  const more = unique("d", 100);
  await successor.store.create(keyOf(DEPLOYMENTS, more), more, { writer: "api" });
  const error = await deposed.done;
  t.true(isCode(error, "Fenced"), String(error));
  await successor.until("400 pods", () => successor.cache.resource(PODS).size === 400);
  await clock.sleep(300);
  for (const name of ["a", "b", "c", "d"]) {
    t.is(pods(successor.cache).filter((p) => p.metadata.labels!["app"] === name && !p.metadata.deletionTimestamp).length, 100);
    t.is(Array.from(successor.cache.resource(REPLICA_SETS).byIndex("label", `app=${name}`)).length, 1);
  }
});

test.serial("leadership may come back to the same process: its metrics and recorder are used again", async (t) => {
  const plane = await startPlane(t, `/test-${newId()}`);
  await plane.lead(await plane.campaign("a")).stop();
  plane.lead(await plane.campaign("a"));
  const again = unique("again", 5);
  await plane.store.create(keyOf(DEPLOYMENTS, again), again, { writer: "api" });
  await plane.until("5 pods", () => plane.cache.resource(PODS).size === 5);
  // The pods are there before the pass that made them ends.
  while (!/gantry_work_queue_sync_seconds_count\{queue="replicaset"\} [1-9]/.test(await plane.metrics.text())) await clock.sleep(50);
  t.is(plane.cache.resource(NAMESPACES).size, 4);
});
