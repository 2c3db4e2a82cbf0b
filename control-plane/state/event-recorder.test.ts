import test from "ava";
import type { ExecutionContext } from "ava";
import { EVENTS, NAMESPACES } from "../../base/kube/resources.ts";
import type { Event, Pod } from "../../base/kube/types.gen.ts";
import { silentLogger } from "../../base/logger.ts";
import type { FakeClock } from "../../base/clock.ts";
import { createEventRecorder } from "./event-recorder.ts";
import type { EventRecorder } from "./event-recorder.ts";
import type { MemoryStore } from "./memory-store.ts";
import { createTestState } from "./testing.ts";

const pod = (name: string): Pod => ({ apiVersion: "v1", kind: "Pod", metadata: { name, namespace: "default", uid: `uid-${name}`, resourceVersion: "7" } });

interface Bench {
  readonly store: MemoryStore;
  readonly clock: FakeClock;
  readonly recorder: EventRecorder;
  readonly writes: () => number;
  say(regarding: Pod, reason: string, message: string): void;
  events(): Promise<Event[]>;
}

const createBench = async (t: ExecutionContext, broken: { now: boolean } = { now: false }): Promise<Bench> => {
  let writes = 0;
  const { store, cache, clock } = await createTestState({ intercept: (operation, target) => {
    if (!target || !("type" in target) || target.type.name !== EVENTS.name) return;
    writes++;
    if (broken.now) throw new Error(`the store is down for ${operation}`);
  } });
  await store.create({ type: NAMESPACES, namespace: "", name: "default" }, { apiVersion: "v1", kind: "Namespace", metadata: { name: "default", uid: "ns" } }, { writer: "api" });
  await cache.waitFor((await store.list(NAMESPACES)).resourceVersion);
  const recorder = createEventRecorder({ store, cache, clock, logger: silentLogger });
  t.teardown(() => recorder[Symbol.dispose]());
  return {
    store, clock, recorder, writes: () => writes,
    say: (regarding, reason, message) => recorder.record({ regarding, type: "Normal", reason, message, writer: "controller", component: "test" }),
    events: async () => (await store.list(EVENTS)).items.map((s) => s.object),
  };
};

test("an event names its object, is written later, and not by its caller", async (t) => {
  const bench = await createBench(t);
  bench.say(pod("web"), "Created", "Created container main");
  t.is(bench.writes(), 0);
  await bench.clock.advance(1000);
  const [event] = await bench.events();
  t.regex(event!.metadata.name!, /^web\.[0-9a-f]+$/);
  t.like(event, {
    involvedObject: { apiVersion: "v1", kind: "Pod", namespace: "default", name: "web", uid: "uid-web", resourceVersion: "7" },
    type: "Normal", reason: "Created", message: "Created container main", count: 1, firstTimestamp: "2026-01-01T00:00:00Z", source: { component: "test" },
  });
});

test("the same again is counted, before it is written and after", async (t) => {
  const bench = await createBench(t);
  for (let i = 0; i < 5; i++) bench.say(pod("web"), "BackOff", "restarting");
  await bench.clock.advance(2000);
  t.is(bench.writes(), 1);
  bench.say(pod("web"), "BackOff", "restarting");
  await bench.clock.advance(5000);
  const events = await bench.events();
  t.is(events.length, 1);
  t.like(events[0], { count: 6, firstTimestamp: "2026-01-01T00:00:00Z", lastTimestamp: "2026-01-01T00:00:02Z" });
});

test("a hundred like events about one object become eleven", async (t) => {
  const bench = await createBench(t);
  for (let i = 0; i < 100; i++) bench.say(pod("set"), "SuccessfulCreate", `Created pod: web-${i}`);
  await bench.clock.advance(10_000);
  const events = await bench.events();
  t.is(events.length, 11);
  t.is(bench.writes(), 11);
  const combined = events.find((e) => e.message!.startsWith("(combined from similar events): "))!;
  t.is(combined.count, 90);
  t.is(combined.message, "(combined from similar events): Created pod: web-99");
});

test("events about many objects are written in small batches, one after another", async (t) => {
  const bench = await createBench(t);
  for (let i = 0; i < 100; i++) bench.say(pod(`web-${i}`), "Scheduled", "assigned");
  await bench.clock.advance(1000);
  t.is(bench.writes(), 32);
  await bench.clock.advance(100);
  t.is(bench.writes(), 64);
  await bench.recorder.flush();
  t.is((await bench.events()).length, 100);
});

test("a flood about one object is dropped after its burst and trickles on", async (t) => {
  const bench = await createBench(t);
  for (let i = 0; i < 40; i++) {
    bench.say(pod("web"), `Reason${i}`, "different each time");
    await bench.clock.advance(2000);
  }
  t.is((await bench.events()).length, 25);
  await bench.clock.advance(600_000);
  for (let i = 0; i < 3; i++) bench.say(pod("web"), `Later${i}`, "x");
  await bench.clock.advance(2000);
  t.is((await bench.events()).length, 27);
});

test("an event that expired is written anew; one in a namespace that is gone is not", async (t) => {
  const bench = await createBench(t);
  bench.say(pod("web"), "BackOff", "restarting");
  await bench.clock.advance(1000);
  const [first] = await bench.events();
  await bench.store.delete({ type: EVENTS, namespace: "default", name: first!.metadata.name! }, { writer: "controller" });
  bench.say(pod("web"), "BackOff", "restarting");
  await bench.clock.advance(1000);
  t.is((await bench.events())[0]!.count, 2);
  bench.recorder.record({ regarding: { kind: "Pod", namespace: "nowhere", name: "x" }, type: "Warning", reason: "R", message: "m", writer: "scheduler", component: "test" });
  await bench.clock.advance(1000);
  t.is((await bench.events()).length, 1);
});

test("a store that is down costs events, never the caller", async (t) => {
  const broken = { now: true };
  const bench = await createBench(t, broken);
  for (let i = 0; i < 10_000; i++) bench.say(pod(`web-${i}`), "Scheduled", "assigned");
  await bench.clock.advance(20_000);
  broken.now = false;
  bench.say(pod("after"), "Scheduled", "assigned");
  await bench.clock.advance(1000);
  t.deepEqual((await bench.events()).map((e) => e.involvedObject.name), ["after"]);
});
