import test from "ava";
import { settle } from "../../base/clock.ts";
import { isCode } from "../../base/errors.ts";
import { PODS } from "../../base/kube/resources.ts";
import type { Pod } from "../../base/kube/types.gen.ts";
import type { CacheEvent } from "./cache.ts";
import { keyOf } from "./store.ts";
import { createTestState } from "./testing.ts";
import type { TestState } from "./testing.ts";

const pod = (name: string, extra: Partial<Pod["metadata"]> = {}, nodeName?: string): Pod => ({
  apiVersion: "v1", kind: "Pod", metadata: { name, namespace: "default", uid: `uid-${name}`, ...extra }, spec: { containers: [], ...(nodeName ? { nodeName } : {}) },
});
const create = ({ store }: TestState, object: Pod) => store.create(keyOf(PODS, object), object, { writer: "api" });
const names = (items: Iterable<{ readonly object: Pod }>): string[] => [...items].map((s) => s.object.metadata.name!).sort();
const api = { writer: "api" } as const;

test("the cache shows what was there before it started and what is written after", async (t) => {
  const state = await createTestState();
  const a = await create(state, pod("a"));
  await settle();
  const pods = state.cache.resource(PODS);
  t.is(pods.get("default", "a")?.resourceVersion, a.resourceVersion);
  t.is(pods.byUid("uid-a")?.object.metadata.name, "a");
  t.deepEqual(names(pods.list()), ["a"]);
  t.deepEqual(names(pods.list("other")), []);
  t.is(pods.size, 1);
});

test("indexes follow an object's changes and forget it when it is deleted", async (t) => {
  const state = await createTestState();
  const pods = state.cache.resource(PODS);
  const owner = { apiVersion: "apps/v1", kind: "ReplicaSet", name: "rs", uid: "rs-1", controller: true };
  await create(state, pod("a", { labels: { app: "web" }, ownerReferences: [owner, { ...owner, uid: "other", controller: false }] }));
  await create(state, pod("b", { labels: { app: "web" } }, "n1"));
  await settle();
  t.deepEqual(names(pods.byIndex("label", "app=web")), ["a", "b"]);
  t.deepEqual(names(pods.byIndex("node", "")), ["a"]);
  t.deepEqual(names(pods.byIndex("owner", "rs-1")), ["a"]);
  t.deepEqual(names(pods.byIndex("owner", "other")), []);
  t.deepEqual(names(pods.byIndex("ownerRef", "other")), ["a"]);

  await state.store.update(keyOf(PODS, pod("a")), (p) => ({ ...p, spec: { ...p.spec!, nodeName: "n1" } }), { writer: "scheduler" });
  await state.store.update(keyOf(PODS, pod("b")), (p) => ({ ...p, metadata: { ...p.metadata, labels: { app: "db" } } }), api);
  await settle();
  t.deepEqual(names(pods.byIndex("node", "n1")), ["a", "b"]);
  t.deepEqual(names(pods.byIndex("label", "app=web")), ["a"]);
  t.deepEqual(names(pods.byIndex("label", "app=db")), ["b"]);

  await state.store.delete(keyOf(PODS, pod("a")), api);
  await settle();
  t.deepEqual(names(pods.byIndex("node", "n1")), ["b"]);
  t.deepEqual(names(pods.byIndex("ownerRef", "other")), []);
  t.is(pods.byUid("uid-a"), undefined);
});

test("subscribers hear each change once, in order, with the state before, and a throwing one harms nobody", async (t) => {
  const state = await createTestState();
  const pods = state.cache.resource(PODS);
  const heard: CacheEvent<Pod>[] = [];
  pods.subscribe(() => {
    throw new Error("mine");
  });
  const subscription = pods.subscribe((event) => heard.push(event));
  const made = await create(state, pod("a"));
  await state.store.update(keyOf(PODS, pod("a")), (p) => ({ ...p, metadata: { ...p.metadata, labels: { x: "1" } } }), api);
  const gone = await state.store.delete(keyOf(PODS, pod("a")), api);
  await settle();
  t.deepEqual(heard.map((e) => e.type), ["added", "modified", "deleted"]);
  t.is(heard[1]!.previous?.resourceVersion, made.resourceVersion);
  t.is(heard[2]!.resourceVersion, gone.resourceVersion);
  t.true(heard[2]!.resourceVersion > heard[2]!.stored.resourceVersion);
  subscription[Symbol.dispose]();
  await create(state, pod("b"));
  await settle();
  t.is(heard.length, 3);
});

test("the ring gives the events after a version until it has dropped one of them", async (t) => {
  const state = await createTestState({ ringSize: 3 });
  const pods = state.cache.resource(PODS);
  const start = state.cache.resourceVersion;
  const versions: number[] = [];
  for (const name of ["a", "b", "c"]) versions.push((await create(state, pod(name))).resourceVersion);
  await settle();
  const after = (version: number) => {
    const events = pods.eventsAfter(version);
    return events === "expired" ? events : events.map((e) => e.stored.object.metadata.name);
  };
  t.deepEqual(after(start), ["a", "b", "c"]);
  t.deepEqual(after(versions[1]!), ["c"]);
  t.deepEqual(after(state.cache.resourceVersion), []);
  await create(state, pod("d"));
  await settle();
  t.is(after(start), "expired");
  t.deepEqual(after(versions[0]!), ["b", "c", "d"]);
});

test("after a gap subscribers get the difference, the ring starts anew, and a namesake is a new object", async (t) => {
  const state = await createTestState();
  const pods = state.cache.resource(PODS);
  await create(state, pod("kept"));
  await create(state, pod("deleted"));
  await create(state, pod("renewed"));
  await settle();
  const before = state.cache.resourceVersion;
  const heard: string[] = [];
  pods.subscribe((event) => heard.push(`${event.type} ${event.stored.object.metadata.uid}`));
  let resyncs = 0;
  state.cache.onResync(() => resyncs++);
  await state.store.breakWatches(async () => {
    await state.store.delete(keyOf(PODS, pod("deleted")), api);
    await state.store.delete(keyOf(PODS, pod("renewed")), api);
    await create(state, pod("renewed", { uid: "uid-2" }));
    await create(state, pod("new"));
  });
  await settle();
  t.is(resyncs, 1);
  t.deepEqual(heard.sort(), ["added uid-2", "added uid-new", "deleted uid-deleted", "deleted uid-renewed"]);
  t.is(pods.eventsAfter(before), "expired");
  await create(state, pod("later"));
  await settle();
  t.is(heard.at(-1), "added uid-later");
});

test("waitFor resolves when the version is there and times out saying where the cache stands", async (t) => {
  const state = await createTestState();
  const { resourceVersion } = await create(state, pod("a"));
  await state.cache.waitFor(resourceVersion);
  const far = state.cache.waitFor(resourceVersion + 1_000_000, 500);
  const failed = t.throwsAsync(far);
  await state.clock.advance(500);
  const error = await failed;
  t.true(isCode(error, "Timeout"));
  t.regex(error.message, new RegExp(`stands at ${state.cache.resourceVersion}`));
  t.is(state.clock.pendingTimers, 0);
});

test("objects that leave the store are frozen to the bottom", async (t) => {
  const state = await createTestState();
  const stored = await create(state, pod("a", { labels: { app: "web" } }));
  t.throws(() => void (stored.object.metadata.labels!["app"] = "db"), { instanceOf: TypeError });
  t.is(JSON.parse(stored.bytes().toString()).metadata.resourceVersion, String(stored.resourceVersion));
  t.is(stored.bytes(), stored.bytes());
});
