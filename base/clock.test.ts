import test from "ava";
import { SystemClock } from "./clock.ts";

test("no timer comes before its time, also where Node's own would", async (t) => {
  const clock = new SystemClock();
  // Never keeps the process alive by itself.
  const alive = setInterval(() => undefined, 1000);
  t.teardown(() => clearInterval(alive));
  const early = await Promise.all(Array.from({ length: 1000 }, (_, i) => {
    const dueMs = clock.monotonicMs() + i * 0.0437;
    return new Promise<boolean>((resolve) => void clock.setTimer(i * 0.0437, () => resolve(clock.monotonicMs() < dueMs)));
  }));
  t.is(early.filter(Boolean).length, 0);
});

test("a delay of none means the next turn, and what was cancelled does not come", async (t) => {
  const clock = new SystemClock();
  const came: string[] = [];
  clock.setTimer(0, () => came.push("next"));
  clock.setTimer(0, () => came.push("cancelled"))[Symbol.dispose]();
  came.push("now");
  await new Promise((resolve) => setTimeout(resolve, 20));
  t.deepEqual(came, ["now", "next"]);
});
