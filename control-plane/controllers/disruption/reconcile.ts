// How many pods of a PodDisruptionBudget may be evicted now. Pure. Upstream: pkg/controller/disruption/disruption.go.
import type { Pod, PodDisruptionBudget, PodDisruptionBudgetStatus } from "../../../base/kube/types.gen.ts";
import { isReady, isTerminal, timeMs, timestamp, withCondition } from "../objects.ts";

export interface Input {
  readonly budget: PodDisruptionBudget;
  /** All that its selector matches. */
  readonly pods: readonly Pod[];
  /** How many pods the controllers of these pods want in all; a string says whose size can't be told. */
  readonly wanted: number | string;
  readonly nowMs: number;
}

export interface Plan {
  readonly status: PodDisruptionBudgetStatus;
  readonly againMs: number | undefined;
}

/** An eviction that was granted, and whose pod is not seen to go after this long, did not happen (upstream: 2 min). */
const GRANT_MS = 120_000;

const share = (value: number | string, of: number): number => (typeof value === "string" ? Math.ceil((of * Number.parseInt(value, 10)) / 100) : value);

export const reconcile = ({ budget, pods, wanted, nowMs }: Input): Plan => {
  const { spec, metadata } = budget;
  const before = budget.status ?? {};
  const condition = (status: "True" | "False", reason: string, message: string): PodDisruptionBudgetStatus["conditions"] =>
    [...withCondition(before.conditions ?? [], { type: "DisruptionAllowed", status, reason, message, observedGeneration: metadata.generation, lastTransitionTime: timestamp(nowMs) })] as PodDisruptionBudgetStatus["conditions"];
  const alive = pods.filter((p) => !isTerminal(p));
  const { minAvailable, maxUnavailable } = spec ?? {};
  const countsPods = maxUnavailable === undefined && typeof minAvailable !== "string";
  if (!countsPods && typeof wanted === "string") {
    return { status: { ...before, disruptionsAllowed: 0, observedGeneration: metadata.generation, conditions: condition("False", "SyncFailed", wanted) }, againMs: undefined };
  }
  const expectedPods = countsPods ? alive.length : wanted as number;
  const desiredHealthy = maxUnavailable !== undefined ? Math.max(0, expectedPods - share(maxUnavailable, expectedPods)) : share(minAvailable ?? 0, expectedPods);
  // Granted, but not marked yet as far as we see: they count as gone.
  const granted = Object.entries(before.disruptedPods ?? {}).filter(([name, at]) => nowMs - timeMs(at) < GRANT_MS && alive.some((p) => p.metadata.name === name && p.metadata.deletionTimestamp === undefined));
  const disrupted = new Set(granted.map(([name]) => name));
  const currentHealthy = alive.filter((p) => p.metadata.deletionTimestamp === undefined && !disrupted.has(p.metadata.name!) && isReady(p)).length;
  const disruptionsAllowed = expectedPods <= 0 ? 0 : Math.max(0, currentHealthy - desiredHealthy);
  return {
    status: {
      currentHealthy, desiredHealthy, expectedPods, disruptionsAllowed, observedGeneration: metadata.generation, ...(granted.length > 0 && { disruptedPods: Object.fromEntries(granted) }),
      conditions: disruptionsAllowed > 0 ? condition("True", "SufficientPods", "") : condition("False", "InsufficientPods", ""),
    },
    againMs: granted.length === 0 ? undefined : Math.max(1, Math.min(...granted.map(([, at]) => timeMs(at) + GRANT_MS - nowMs))),
  };
};
