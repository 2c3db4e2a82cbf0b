import test from "ava";
import { settle } from "../../base/clock.ts";
import { isCode } from "../../base/errors.ts";
import { SharedTasks, Slots } from "./shared-task.ts";

const never = (): AbortSignal => new AbortController().signal;

test("callers of the same key share one run, callers of another don't; the next after it runs anew", async (t) => {
  const tasks = new SharedTasks<number>();
  let runs = 0;
  const run = (key: string): Promise<number> => tasks.run(key, never(), async () => {
    await settle();
    return ++runs;
  });
  t.deepEqual(await Promise.all([run("a"), run("a"), run("b")]), [1, 1, 2]);
  t.is(await run("a"), 3);
});

test("the run is aborted when the last caller gives up, not before, and a later caller starts a new one", async (t) => {
  const tasks = new SharedTasks<string>();
  const signals: AbortSignal[] = [];
  const start = (signal: AbortSignal): Promise<string> => tasks.run("k", signal, (shared) => {
    signals.push(shared);
    return new Promise((_, reject) => shared.addEventListener("abort", () => reject(new Error("aborted"))));
  });
  const [one, two] = [new AbortController(), new AbortController()];
  const [first, second] = [start(one.signal), start(two.signal)];
  one.abort();
  t.true(isCode(await t.throwsAsync(first), "Cancelled"));
  t.is(signals.length, 1);
  t.false(signals[0]!.aborted);
  two.abort();
  const third = start(never());
  t.true(isCode(await t.throwsAsync(second), "Cancelled"));
  t.true(signals[0]!.aborted);
  t.is(signals.length, 2);
  t.false(signals[1]!.aborted);
  third.catch(() => undefined);
});

test("a failure reaches all callers and is not remembered; a run that ended is not aborted", async (t) => {
  const tasks = new SharedTasks<string>();
  let shared: AbortSignal | undefined;
  const failing = (): Promise<string> => tasks.run("k", never(), () => Promise.reject(new Error("broken")));
  for (const result of await Promise.allSettled([failing(), failing()])) t.is(result.status === "rejected" && (result.reason as Error).message, "broken");
  t.is(await tasks.run("k", never(), (signal) => {
    shared = signal;
    return Promise.resolve("fine");
  }), "fine");
  t.false(shared!.aborted);
  const gone = AbortSignal.abort();
  t.true(isCode(await t.throwsAsync(tasks.run("k", gone, () => Promise.resolve("never"))), "Cancelled"));
});

test("slots run so many at once, in order, also when some fail", async (t) => {
  const slots = new Slots(2);
  let [now, most] = [0, 0];
  const order: number[] = [];
  const results = await Promise.allSettled(Array.from({ length: 6 }, (_, i) => slots.run(async () => {
    order.push(i);
    most = Math.max(most, ++now);
    await settle();
    now--;
    if (i === 1) throw new Error("one");
  })));
  t.is(most, 2);
  t.deepEqual(order, [0, 1, 2, 3, 4, 5]);
  t.deepEqual(results.map((r) => r.status === "rejected"), [false, true, false, false, false, false]);
});
