// Time and timers. Everything that needs "now" or a delay takes a Clock, so that tests step it; only base/ touches Date.now,
// performance.now and setTimeout.

export interface Clock {
  /** Wall clock, Unix epoch ms. May step. */
  nowMs(): number;
  /** Never steps back; for durations and deadlines. */
  monotonicMs(): number;
  /** Calls `fn` once after `delayMs` (0 means the next turn), never earlier by `monotonicMs`. Dispose to cancel. Never keeps the process alive by itself. */
  setTimer(delayMs: number, fn: () => void): Disposable;
  /** Calls `fn` once, as soon as the wall clock shows `atMs`: never earlier, and at most a ms later while this process is idle. Steps of the clock are noticed. */
  setAlarm(atMs: number, fn: () => void): Disposable;
  /** Resolves after `delayMs`, or rejects with the signal's reason when it is aborted first. */
  sleep(delayMs: number, signal?: AbortSignal): Promise<void>;
}

// setTimeout's delay is a signed 32-bit number; a longer one fires at once.
const MAX_DELAY_MS = 2 ** 31 - 1;

/** Timers come late and, against the wall clock, early; the last of the way is spent looking at the clock. */
const LOOK_AHEAD_MS = 2;
/** The wall clock may step while a timer runs. */
const ALARM_CHECK_MS = 5000;

const sleepOn = (clock: Clock, delayMs: number, signal: AbortSignal | undefined): Promise<void> =>
  new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason as Error);
      return;
    }
    const onAbort = (): void => {
      timer[Symbol.dispose]();
      reject(signal!.reason as Error);
    };
    const timer = clock.setTimer(delayMs, () => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    });
    signal?.addEventListener("abort", onAbort, { once: true });
  });

export class SystemClock implements Clock {
  nowMs(): number {
    return Date.now();
  }

  monotonicMs(): number {
    return performance.now();
  }

  setTimer(delayMs: number, fn: () => void): Disposable {
    const dueMs = performance.now() + delayMs;
    let handle: NodeJS.Timeout;
    const arm = (leftMs: number): void => {
      handle = setTimeout(look, Math.min(leftMs, MAX_DELAY_MS));
      handle.unref();
    };
    // Node's timers come up to a ms early: who is woken at a time and finds it not there yet has judged for nothing.
    const look = (): void => {
      const leftMs = dueMs - performance.now();
      if (leftMs > 0) arm(leftMs);
      else fn();
    };
    arm(Math.max(0, delayMs));
    return { [Symbol.dispose]: () => clearTimeout(handle) };
  }

  setAlarm(atMs: number, fn: () => void): Disposable {
    let handle: NodeJS.Timeout;
    const look = (): void => {
      const leftMs = atMs - Date.now();
      if (leftMs > LOOK_AHEAD_MS) {
        handle = setTimeout(look, Math.min(leftMs - LOOK_AHEAD_MS, ALARM_CHECK_MS));
        handle.unref();
        return;
      }
      while (Date.now() < atMs);
      fn();
    };
    handle = setTimeout(look, 0);
    handle.unref();
    return { [Symbol.dispose]: () => clearTimeout(handle) };
  }

  sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    return sleepOn(this, delayMs, signal);
  }
}

/** A clock that stands still until a test moves it. Timers fire in order of their due time, with microtasks run in between. */
export class FakeClock implements Clock {
  #wallMs: number;
  #monotonicMs = 0;
  #timers: { dueMs: number; order: number; fn: () => void }[] = [];
  #order = 0;

  constructor(startMs = Date.UTC(2026, 0, 1)) {
    this.#wallMs = startMs;
  }

  nowMs(): number {
    return this.#wallMs;
  }

  monotonicMs(): number {
    return this.#monotonicMs;
  }

  setTimer(delayMs: number, fn: () => void): Disposable {
    const timer = { dueMs: this.#monotonicMs + Math.max(0, delayMs), order: this.#order++, fn };
    this.#timers.push(timer);
    return { [Symbol.dispose]: () => void (this.#timers = this.#timers.filter((t) => t !== timer)) };
  }

  setAlarm(atMs: number, fn: () => void): Disposable {
    let timer: Disposable;
    const look = (): void => {
      const leftMs = atMs - this.#wallMs;
      if (leftMs <= 0) fn();
      else timer = this.setTimer(Math.min(Math.ceil(leftMs), ALARM_CHECK_MS), look); // fractions may be too small to move the clock
    };
    timer = this.setTimer(Math.max(0, Math.min(atMs - this.#wallMs, ALARM_CHECK_MS)), look);
    return { [Symbol.dispose]: () => timer[Symbol.dispose]() };
  }

  sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    return sleepOn(this, delayMs, signal);
  }

  get pendingTimers(): number {
    return this.#timers.length;
  }

  /** Moves both clocks on by `ms`, firing what falls due on the way. */
  async advance(ms: number): Promise<void> {
    const endMs = this.#monotonicMs + ms;
    for (;;) {
      await settle();
      const next = this.#timers.filter((t) => t.dueMs <= endMs).sort((a, b) => a.dueMs - b.dueMs || a.order - b.order)[0];
      if (!next) break;
      this.#moveTo(next.dueMs);
      this.#timers = this.#timers.filter((t) => t !== next);
      next.fn();
    }
    this.#moveTo(endMs);
    await settle();
  }

  /** Steps the wall clock only, as an administrator or NTP does. */
  stepWall(ms: number): void {
    this.#wallMs += ms;
  }

  #moveTo(monotonicMs: number): void {
    this.#wallMs += monotonicMs - this.#monotonicMs;
    this.#monotonicMs = monotonicMs;
  }
}

/** Lets promise chains and immediates that are already due run. */
export const settle = async (): Promise<void> => {
  for (let i = 0; i < 5; i++) await new Promise<void>((resolve) => setImmediate(resolve));
};
