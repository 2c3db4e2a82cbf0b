import test from "ava";
import { FakeClock, settle } from "./clock.ts";
import { WorkQueue } from "./work-queue.ts";
import type { WorkQueueOptions } from "./work-queue.ts";

const queueOf = (clock: FakeClock, sync: (key: string) => Promise<void>, more: Partial<WorkQueueOptions> = {}): WorkQueue =>
  new WorkQueue({ name: "test", clock, random: () => 0.5, concurrency: 2, sync, failed: () => undefined, ...more });

test("keys that one burst adds run once each, in the order they came", async (t) => {
  const clock = new FakeClock();
  const ran: string[] = [];
  using queue = queueOf(clock, async (key) => void ran.push(key));
  for (const key of ["b", "a", "b", "c", "a"]) queue.add(key);
  t.is(queue.depth, 3);
  await clock.advance(0);
  t.deepEqual(ran, ["b", "a", "c"]);
  t.true(queue.idle);
});

test("a key added while it runs runs again afterwards, never at the same time", async (t) => {
  const clock = new FakeClock();
  let running = 0;
  let most = 0;
  let runs = 0;
  const gate = Promise.withResolvers<void>();
  using queue = queueOf(clock, async () => {
    most = Math.max(most, ++running);
    runs++;
    await gate.promise;
    running--;
  });
  queue.add("a");
  await clock.advance(0);
  queue.add("a");
  queue.add("a");
  await clock.advance(0);
  t.is(runs, 1);
  gate.resolve();
  await clock.advance(0);
  t.is(runs, 2);
  t.is(most, 1);
});

test("no more than `concurrency` keys run at once, and the others follow", async (t) => {
  const clock = new FakeClock();
  let running = 0;
  let most = 0;
  let runs = 0;
  using queue = queueOf(clock, async () => {
    most = Math.max(most, ++running);
    await settle();
    running--;
    runs++;
  }, { concurrency: 3 });
  for (let i = 0; i < 10; i++) queue.add(`k${i}`);
  for (let i = 0; i < 10; i++) await clock.advance(0);
  t.is(runs, 10);
  t.is(most, 3);
});

test("a failing key backs off exponentially on its own and starts afresh after a success", async (t) => {
  const clock = new FakeClock();
  const at: number[] = [];
  const failures: number[] = [];
  let fails = 3;
  using queue = queueOf(clock, async (key) => {
    if (key !== "bad") return;
    at.push(clock.monotonicMs());
    if (fails-- > 0) throw new Error("not yet");
  }, { backoff: { initialMs: 100, maxMs: 1000, factor: 2, jitter: 0 }, failed: (_key, _error, n) => failures.push(n) });
  queue.add("bad");
  await clock.advance(5000);
  t.deepEqual(at, [0, 100, 300, 700]);
  t.deepEqual(failures, [1, 2, 3]);
  fails = 1;
  queue.add("bad");
  await clock.advance(150);
  t.deepEqual(at.slice(4), [5000, 5100]);
});

test("of several delays the earliest counts", async (t) => {
  const clock = new FakeClock();
  const at: number[] = [];
  using queue = queueOf(clock, async () => void at.push(clock.monotonicMs()));
  queue.addAfter("a", 500);
  queue.addAfter("a", 50);
  queue.addAfter("a", 200);
  await clock.advance(1000);
  t.deepEqual(at, [50]);
  t.is(clock.pendingTimers, 0);
});

test("a closed queue starts nothing and leaves no timer behind", async (t) => {
  const clock = new FakeClock();
  let runs = 0;
  const queue = queueOf(clock, async () => void runs++);
  queue.add("a");
  queue.addAfter("b", 10);
  queue[Symbol.dispose]();
  queue.add("c");
  await clock.advance(100);
  t.is(runs, 0);
  t.is(clock.pendingTimers, 0);
});

test("close waits for what runs", async (t) => {
  const clock = new FakeClock();
  const gate = Promise.withResolvers<void>();
  const queue = queueOf(clock, () => gate.promise);
  queue.add("a");
  await clock.advance(0);
  let closed = false;
  const closing = queue.close().then(() => (closed = true));
  await settle();
  t.false(closed);
  gate.resolve();
  t.true(await closing);
});

test("whatever the interleaving, the last state added is seen by a later pass (seeded)", async (t) => {
  for (let seed = 1; seed <= 30; seed++) {
    let state = seed;
    const random = (): number => (state = (state * 48271) % 2147483647) / 2147483647;
    const clock = new FakeClock();
    const want = new Map<string, number>();
    const seen = new Map<string, number>();
    const running = new Set<string>();
    using queue = queueOf(clock, async (key) => {
      t.false(running.has(key));
      running.add(key);
      const value = want.get(key)!;
      await clock.sleep(Math.floor(random() * 20));
      running.delete(key);
      if (random() < 0.3) throw new Error("chance");
      seen.set(key, value);
    }, { random });
    for (let i = 0; i < 200; i++) {
      const key = `k${Math.floor(random() * 5)}`;
      want.set(key, i);
      if (random() < 0.5) queue.add(key);
      else queue.addAfter(key, Math.floor(random() * 30));
      if (random() < 0.2) await clock.advance(Math.floor(random() * 15));
    }
    await clock.advance(600_000);
    t.deepEqual(Object.fromEntries(seen), Object.fromEntries(want));
  }
});
