// The clock that time(2) reads.
import * as libc from "./libc.ts";

const CLOCK_REALTIME_COARSE = 5;
const time = Buffer.alloc(16);

/**
 * Unix epoch ms. The kernel moves it with its ticks: up to 10 ms behind Date.now(), more where a virtual machine's are late. Programs that
 * ask for whole seconds, as `date` of busybox does, are told this one: clock_gettime(2), time(2).
 */
export const coarseNowMs = (): number => {
  libc.clockGettime(CLOCK_REALTIME_COARSE, time);
  return Number(time.readBigInt64LE(0)) * 1000 + Number(time.readBigInt64LE(8)) / 1e6;
};
