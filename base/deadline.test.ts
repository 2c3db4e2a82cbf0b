import test from "ava";
import { FakeClock } from "./clock.ts";
import { within } from "./deadline.ts";
import { GantryError } from "./errors.ts";

/** Fails with whatever ends it, in words of its own. */
const untilAborted = (signal: AbortSignal): Promise<never> => new Promise((_, reject) => signal.addEventListener("abort", () => reject(new GantryError("ServiceUnavailable", "broke off"))));
const never = new AbortController().signal;

test("what is done in time is the answer, and no timer stays", async (t) => {
  const clock = new FakeClock();
  t.is(await within(clock, 1000, "late", never, async () => 7), 7);
  t.is(clock.pendingTimers, 0);
});

test("late work is ended, and the error says so in the caller's words", async (t) => {
  const clock = new FakeClock();
  const result = t.throwsAsync(within(clock, 1000, "node n1 did not answer within 1 s", never, untilAborted));
  await clock.advance(1000);
  t.like(await result, { code: "Timeout", message: "node n1 did not answer within 1 s" });
});

test("the work's own error, and a caller who leaves, are no lateness", async (t) => {
  const clock = new FakeClock();
  const leaving = new AbortController();
  const result = t.throwsAsync(within(clock, 1000, "late", leaving.signal, untilAborted));
  leaving.abort();
  t.like(await result, { code: "ServiceUnavailable", message: "broke off" });
  t.is(clock.pendingTimers, 0);
});
