import test from "ava";
import { FakeClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/logger.ts";
import { Metrics } from "../../base/metrics.ts";
import { Bursts, type Staged } from "./bursts.ts";

const START = Date.UTC(2026, 0, 1);
const AT = START + 60_000;

const burst = (coarseNowMs: () => number): { readonly clock: FakeClock; readonly started: () => number } => {
  const clock = new FakeClock(START);
  let started = 0;
  const pod: Staged = { startDue: () => ++started, settle: () => undefined };
  new Bursts({ clock, coarseNowMs, logger: silentLogger, metrics: new Metrics() }).expect(pod, AT);
  return { clock, started: () => started };
};

test("nothing starts before its instant, nor before the clock that programs are told shows it", async (t) => {
  let looks = 0;
  const seen: number[] = [];
  // Two ticks behind, at first.
  const { clock, started } = burst(() => {
    seen.push(started());
    return AT - 8 + 4 * Math.floor(looks++ / 10);
  });
  await clock.advance(59_999);
  t.is(started(), 0);
  t.is(looks, 0);
  await clock.advance(1);
  t.is(started(), 1);
  t.is(looks, 21, "until it shows the instant, and not once more");
  t.deepEqual([...new Set(seen)], [0]);
});

test("a clock that stands still holds nothing up", async (t) => {
  const { clock, started } = burst(() => START);
  await clock.advance(60_000);
  t.is(started(), 1);
});
