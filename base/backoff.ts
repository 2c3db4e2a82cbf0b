// Capped exponential back-off with full jitter ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015).

export interface BackoffPolicy {
  readonly initialMs: number;
  readonly maxMs: number;
  readonly factor: number;
  /** Share of the delay that is random, 0 to 1: 0 is deterministic, 1 is "full jitter". */
  readonly jitter: number;
}

export const defaultBackoff: BackoffPolicy = { initialMs: 100, maxMs: 10_000, factor: 2, jitter: 0.5 };

/** Delay before attempt `failures + 1`; `random` gives [0, 1). Pure: the caller brings the randomness. */
export const backoffDelayMs = (policy: BackoffPolicy, failures: number, random: () => number): number => {
  const full = Math.min(policy.maxMs, policy.initialMs * policy.factor ** Math.max(0, Math.min(failures, 64) - 1));
  return full * (1 - policy.jitter) + full * policy.jitter * random();
};
