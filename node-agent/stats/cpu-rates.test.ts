import test from "ava";
import { CpuRates } from "./cpu-rates.ts";

const SECOND = 1e9;

test("a rate is the difference over the time between, and unknown without one", (t) => {
  const rates = new CpuRates();
  t.deepEqual(rates.of("a", { totalNs: SECOND, atMs: 100_000 }), { nanoCores: 0, windowMs: 0 });
  t.deepEqual(rates.of("a", { totalNs: SECOND, atMs: 100_100 }), { nanoCores: 0, windowMs: 0 }, "too soon");
  t.deepEqual(rates.of("a", { totalNs: 2 * SECOND, atMs: 102_000 }), { nanoCores: SECOND / 2, windowMs: 2000 });
});

test("frequent askers don't shorten each other's window below the least", (t) => {
  const rates = new CpuRates();
  for (let atMs = 0; atMs <= 60_000; atMs += 100) {
    const { nanoCores, windowMs } = rates.of("a", { totalNs: atMs * 1e6, atMs });
    if (atMs < 900) t.is(windowMs, 0);
    else {
      t.true(windowMs >= 900 && windowMs <= 10_000, `${windowMs}`);
      t.is(nanoCores, SECOND);
    }
  }
});

test("a young container is judged since its start, an old one is not", (t) => {
  const rates = new CpuRates();
  t.deepEqual(rates.of("young", { totalNs: SECOND, atMs: 100_000 }, 96_000), { nanoCores: SECOND / 4, windowMs: 4000 });
  t.deepEqual(rates.of("old", { totalNs: SECOND, atMs: 1_000_000 }, 96_000), { nanoCores: 0, windowMs: 0 });
});

test("a counter that began anew, or was not read for long, starts over", (t) => {
  const rates = new CpuRates();
  rates.of("a", { totalNs: 10 * SECOND, atMs: 0 });
  t.is(rates.of("a", { totalNs: SECOND, atMs: 2000 }).windowMs, 0);
  t.deepEqual(rates.of("a", { totalNs: 2 * SECOND, atMs: 4000 }), { nanoCores: SECOND / 2, windowMs: 2000 });
  t.is(rates.of("a", { totalNs: 3 * SECOND, atMs: 100_000 }).windowMs, 0);
  rates.forgetBefore(200_000);
  t.is(rates.of("a", { totalNs: 3 * SECOND, atMs: 101_000 }).windowMs, 0, "forgotten");
});
