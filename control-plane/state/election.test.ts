import test from "ava";
import { FakeClock, settle } from "../../base/clock.ts";
import { silentLogger } from "../../base/logger.ts";
import { Metrics } from "../../base/metrics.ts";
import { runElection } from "./election.ts";
import { MemoryStore } from "./memory-store.ts";
import type { Fence } from "./store.ts";

const start = (onElected: (fence: Fence, signal: AbortSignal) => Promise<void>) => {
  const clock = new FakeClock();
  const { elections } = new MemoryStore();
  const metrics = new Metrics();
  const stop = new AbortController();
  const ended = runElection({ elections, identity: "a", clock, logger: silentLogger, metrics, signal: stop.signal, onElected });
  return { clock, elections, metrics, stop, ended };
};
const untilAborted = (signal: AbortSignal): Promise<void> => new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));

test("losing the lease aborts the term at once, and the next term has a new fence", async (t) => {
  const fences: string[] = [];
  const { elections, stop, ended, metrics } = start(async (fence, signal) => {
    fences.push(fence.createRevision);
    await untilAborted(signal);
  });
  await settle();
  t.regex(await metrics.text(), /gantry_leader\{election="leader"\} 1/);
  elections.depose();
  await settle();
  t.is(fences.length, 2);
  t.not(fences[0], fences[1]);
  stop.abort();
  await ended;
  t.regex(await metrics.text(), /gantry_leader\{election="leader"\} 0/);
});

test("a term that ends by itself is tried again only after a growing pause", async (t) => {
  let terms = 0;
  const { clock, stop, ended } = start(async () => {
    terms++;
    if (terms % 2) throw new Error("died");
  });
  await settle();
  t.is(terms, 1);
  await clock.advance(499);
  t.is(terms, 1);
  await clock.advance(1);
  t.is(terms, 2);
  await clock.advance(999);
  t.is(terms, 2);
  await clock.advance(1);
  t.is(terms, 3);
  stop.abort();
  await ended;
});

test("leadership is given up only after the components have stopped", async (t) => {
  const order: string[] = [];
  const { clock, elections, stop, ended } = start(async (_, signal) => {
    await untilAborted(signal);
    await clock.sleep(100);
    order.push("stopped");
  });
  await settle();
  const next = elections.campaign({ election: "leader", identity: "b", instance: "b", first: true }, new AbortController().signal).then(() => order.push("next leads"));
  stop.abort();
  await clock.advance(100);
  await Promise.all([ended, next]);
  t.deepEqual(order, ["stopped", "next leads"]);
});
