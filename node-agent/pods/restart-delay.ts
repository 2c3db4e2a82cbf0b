// When to try again. https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#restart-policy: 10 s, doubling to 5 minutes,
// forgotten after 10 minutes without a fault. Pure.

const FIRST_MS = 10_000;
const MOST_MS = 300_000;
/** An instance that ran this long wipes out what was before. */
export const FORGIVEN_AFTER_MS = 600_000;

/** Wait before the restart that follows the `crashes`-th end in a row: the first restart comes at once. */
export const restartDelayMs = (crashes: number): number => (crashes <= 1 ? 0 : retryDelayMs(crashes - 1));

/** Wait after the `failures`-th failure in a row of a pull or a create. */
export const retryDelayMs = (failures: number): number => Math.min(MOST_MS, FIRST_MS * 2 ** Math.min(Math.max(0, failures - 1), 10));
