// From what metrics ask for to what is done about it now: recent recommendations hold it back (stabilization), policies and bounds limit it.
// Pure. Source: k8s.io/kubernetes/pkg/controller/podautoscaler/horizontal.go, whose reasons and words are kept.
import type { HorizontalPodAutoscalerBehavior, HPAScalingRules } from "../../../base/kube/types.gen.ts";

export interface Recommendation {
  readonly replicas: number;
  readonly atMs: number;
}

/** A change of the size that was made: how many pods more, or (among `downs`) less. */
export interface ScaleEvent {
  readonly change: number;
  readonly atMs: number;
}

/** What a decision depends on besides the present. Times are monotonic. It lives in memory: who leads anew starts with the size found. */
export interface History {
  readonly recommendations: readonly Recommendation[];
  readonly ups: readonly ScaleEvent[];
  readonly downs: readonly ScaleEvent[];
}

/** Nothing is scaled down before as much time has passed as a window lasts. */
export const startOfHistory = (replicas: number, atMs: number): History => ({ recommendations: [{ replicas, atMs }], ups: [], downs: [] });

export interface Proposal {
  readonly replicas: number;
  readonly wanted: number;
  readonly min: number;
  readonly max: number;
  readonly behavior: HorizontalPodAutoscalerBehavior | undefined;
  readonly history: History;
  readonly atMs: number;
}

export interface Verdict {
  readonly replicas: number;
  readonly stabilized: { readonly reason: string; readonly message: string };
  readonly limited: { readonly isLimited: boolean; readonly reason: string; readonly message: string };
}

/** --horizontal-pod-autoscaler-downscale-stabilization */
const DOWN_STABILIZATION_S = 300;
const MS = 1000;

const READY = { reason: "ReadyForNewScale", message: "recommended size matches current size" };
const UP_STABILIZED = { reason: "ScaleUpStabilized", message: "recent recommendations were lower than current one, applying the lowest recent recommendation" };
const DOWN_STABILIZED = { reason: "ScaleDownStabilized", message: "recent recommendations were higher than current one, applying the highest recent recommendation" };
const WITHIN = { isLimited: false, reason: "DesiredWithinRange", message: "the desired count is within the acceptable range" };
const TOO_MANY = { isLimited: true, reason: "TooManyReplicas", message: "the desired replica count is more than the maximum replica count" };
const TOO_FEW = { isLimited: true, reason: "TooFewReplicas", message: "the desired replica count is less than the minimum replica count" };
const UP_LIMIT = { isLimited: true, reason: "ScaleUpLimit", message: "the desired replica count is increasing faster than the maximum scale rate" };
const DOWN_LIMIT = { isLimited: true, reason: "ScaleDownLimit", message: "the desired replica count is decreasing faster than the maximum scale rate" };

const upWindowMs = (behavior: HorizontalPodAutoscalerBehavior | undefined): number => (behavior?.scaleUp?.stabilizationWindowSeconds ?? 0) * MS;
const downWindowMs = (behavior: HorizontalPodAutoscalerBehavior | undefined): number => (behavior?.scaleDown?.stabilizationWindowSeconds ?? DOWN_STABILIZATION_S) * MS;

/** Between the lowest recommendation of the window for scaling up and the highest of that for scaling down the size stays as it is. */
const stabilized = ({ replicas, wanted, behavior, history, atMs }: Proposal): number => {
  const within = (windowMs: number): number[] => history.recommendations.filter((r) => atMs - r.atMs < windowMs).map((r) => r.replicas);
  const highest = Math.max(wanted, ...within(downWindowMs(behavior)));
  // Without a behaviour a recommendation that was cut off may still be followed.
  if (!behavior) return highest;
  return Math.min(Math.max(replicas, Math.min(wanted, ...within(upWindowMs(behavior)))), highest);
};

/** How far the rules let the size go now, counted from what it was when each policy's period began. */
const limitOf = (rules: HPAScalingRules | undefined, isUp: boolean, { replicas, history, atMs }: Proposal): number => {
  const { selectPolicy = "Max", policies = [] } = rules ?? {};
  if (selectPolicy === "Disabled") return replicas;
  const limits = policies.map(({ type, value, periodSeconds }) => {
    const changed = (events: readonly ScaleEvent[]): number => events.filter((e) => atMs - e.atMs < periodSeconds * MS).reduce((n, e) => n + e.change, 0);
    const before = replicas - changed(history.ups) + changed(history.downs);
    if (type === "Pods") return isUp ? before + value : before - value;
    // Rounded so that something changes.
    return isUp ? Math.ceil((before * (100 + value)) / 100) : Math.trunc((before * (100 - value)) / 100);
  });
  // The greatest change is the highest limit on the way up, and the lowest on the way down.
  return (selectPolicy === "Max") === isUp ? Math.max(...limits) : Math.min(...limits);
};

/** The size itself is within its bounds: what isn't was brought there before metrics were asked. */
const limited = (proposal: Proposal, wanted: number): { readonly replicas: number; readonly limited: Verdict["limited"] } => {
  const { replicas, min, max, behavior } = proposal;
  const ceiling = behavior ? Math.max(replicas, limitOf(behavior.scaleUp, true, proposal)) : Math.max(2 * replicas, 4);
  const floor = behavior ? Math.min(replicas, limitOf(behavior.scaleDown, false, proposal)) : 0;
  const [most, least] = [Math.min(max, ceiling), Math.max(min, floor)];
  if (wanted > replicas && wanted > most) return { replicas: most, limited: ceiling < max ? UP_LIMIT : TOO_MANY };
  if (wanted < replicas && wanted < least) return { replicas: least, limited: floor > min ? DOWN_LIMIT : TOO_FEW };
  return { replicas: wanted, limited: WITHIN };
};

export const decide = (proposal: Proposal): Verdict => {
  const { replicas, wanted } = proposal;
  const steady = stabilized(proposal);
  return { ...limited(proposal, steady), stabilized: steady === wanted ? READY : proposal.behavior && wanted >= replicas ? UP_STABILIZED : DOWN_STABILIZED };
};

/** With what was recommended (nothing, where a bound decided) and, where the size changed, with that; without what no rule looks at any more. */
export const remembered = ({ behavior, history, wanted, replicas, atMs }: Omit<Proposal, "min" | "max" | "wanted"> & { readonly wanted: number | undefined }, after: number): History => {
  const keptMs = Math.max(upWindowMs(behavior), downWindowMs(behavior));
  const periodMs = (rules: HPAScalingRules | undefined): number => Math.max(0, ...(rules?.policies ?? []).map((p) => p.periodSeconds)) * MS;
  const changesMs = Math.max(periodMs(behavior?.scaleUp), periodMs(behavior?.scaleDown));
  const recent = (events: readonly ScaleEvent[], change: number): readonly ScaleEvent[] =>
    [...events.filter((e) => atMs - e.atMs < changesMs), ...(change > 0 && behavior ? [{ change, atMs }] : [])];
  return {
    recommendations: [...history.recommendations.filter((r) => atMs - r.atMs < keptMs), ...(wanted === undefined ? [] : [{ replicas: wanted, atMs }])],
    ups: recent(history.ups, after - replicas), downs: recent(history.downs, replicas - after),
  };
};
