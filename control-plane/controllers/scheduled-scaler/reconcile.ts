// How many replicas a ScheduledScaler's target is to have now, and what comes next. Pure: (scaler, the target's size, now) -> plan.
import { latestAt, nextAfter, parseCron } from "../../../base/cron.ts";
import { describeError } from "../../../base/errors.ts";
import type { Condition, ScheduledScaler, ScheduledScalerEntry, ScheduledScalerStatus } from "../../../base/kube/types.gen.ts";
import { stageAheadMs, type StagedReplicas } from "../../../base/kube/staging.ts";
import { sameJson, timeMs, timestamp, withCondition } from "../objects.ts";

export interface Say {
  readonly type: "Normal" | "Warning";
  readonly reason: string;
  readonly message: string;
}

export interface Plan {
  /** The target's new size; undefined: it stays. */
  readonly replicas: number | undefined;
  /** The HorizontalPodAutoscaler's new bounds; undefined: they stay. */
  readonly bounds: Bounds | undefined;
  /** What is to be made ready beyond that size for the next change. */
  readonly staged: StagedReplicas | undefined;
  readonly status: ScheduledScalerStatus;
  readonly say: readonly Say[];
  readonly againMs: number | undefined;
}

interface Due {
  readonly atMs: number;
  readonly entry: ScheduledScalerEntry;
}

const zoneOf = (scaler: ScheduledScaler, entry: ScheduledScalerEntry): string | undefined => entry.timeZone ?? scaler.spec?.timeZone;

/** The entry that came last holds; of several at one instant the one that stands last in the list. */
export const holding = (scaler: ScheduledScaler, nowMs: number): Due | undefined => {
  let found: Due | undefined;
  for (const entry of scaler.spec?.entries ?? []) {
    const atMs = latestAt(parseCron(entry.schedule ?? ""), nowMs, zoneOf(scaler, entry));
    if (atMs !== undefined && (!found || atMs >= found.atMs)) found = { atMs, entry };
  }
  return found;
};

export const coming = (scaler: ScheduledScaler, nowMs: number): Due | undefined => {
  let found: Due | undefined;
  for (const entry of scaler.spec?.entries ?? []) {
    const atMs = nextAfter(parseCron(entry.schedule ?? ""), nowMs, zoneOf(scaler, entry));
    if (atMs !== undefined && (!found || atMs <= found.atMs)) found = { atMs, entry };
  }
  return found;
};

/** minReplicas and maxReplicas of the target's HorizontalPodAutoscaler. */
export interface Bounds {
  readonly min: number;
  readonly max: number;
}

export interface Target {
  readonly size: number;
  /** Undefined: no HorizontalPodAutoscaler scales it. */
  readonly bounds: Bounds | undefined;
}

interface Fault {
  readonly reason: "AutoscalerNotFound" | "InvalidBounds";
  readonly message: string;
}

/** What an entry makes of its target: what it doesn't name stays, but for a size beyond new bounds. None (0) stays none: it turns autoscaling off. */
export const applied = ({ replicas, minReplicas, maxReplicas }: ScheduledScalerEntry, { size, bounds }: Target): Target | Fault => {
  if (minReplicas === undefined && maxReplicas === undefined) return { size: replicas ?? size, bounds };
  if (!bounds) return { reason: "AutoscalerNotFound", message: "the entry sets minReplicas or maxReplicas, and no HorizontalPodAutoscaler scales the target" };
  const [min, max] = [minReplicas ?? bounds.min, maxReplicas ?? bounds.max];
  if (min > max) return { reason: "InvalidBounds", message: `minReplicas would be ${min} and maxReplicas ${max}: the entry has to set both` };
  const wanted = replicas ?? size;
  return { size: wanted === 0 ? 0 : Math.min(max, Math.max(min, wanted)), bounds: { min, max } };
};

const isFault = (outcome: Target | Fault): outcome is Fault => "reason" in outcome;

const boundsText = (entry: ScheduledScalerEntry, { bounds }: Target): string =>
  (entry.minReplicas === undefined && entry.maxReplicas === undefined) || !bounds ? "" : `, between ${bounds.min} and ${bounds.max}`;

/** `target` is undefined when there is none. */
export const reconcile = (scaler: ScheduledScaler, target: Target | undefined, nowMs: number): Plan => {
  const { spec, metadata } = scaler;
  const before = scaler.status ?? {};
  const condition = (status: "True" | "False", reason: string, message: string): Condition[] =>
    [...withCondition(before.conditions ?? [], { type: "Scheduled", status, reason, message, observedGeneration: metadata.generation, lastTransitionTime: timestamp(nowMs) })] as Condition[];
  const rest = { replicas: undefined, bounds: undefined, staged: undefined, say: [], againMs: undefined };
  let now: Due | undefined;
  let next: Due | undefined;
  try {
    [now, next] = [holding(scaler, nowMs), coming(scaler, nowMs)];
  } catch (error) {
    return { ...rest, status: { ...before, conditions: condition("False", "UnparseableSchedule", describeError(error)) } };
  }
  const aheadMs = stageAheadMs(scaler);
  // Whichever comes next: the time to stage, or the instant.
  const againMs = next === undefined ? undefined : next.atMs - aheadMs > nowMs ? next.atMs - aheadMs - nowMs : next.atMs - nowMs;
  /** The size that the next change makes of the target as it is then; undefined when it can't. */
  const sizeAfter = (then: Target): number | undefined => {
    const outcome = next && applied(next.entry, then);
    return !outcome || isFault(outcome) ? undefined : outcome.size;
  };
  /** Beyond the size that the target has then; nothing for a change to a smaller one. */
  const staged = (then: Target): StagedReplicas | undefined => {
    const more = (sizeAfter(then) ?? 0) - then.size;
    return next !== undefined && next.atMs - nowMs <= aheadMs && more > 0 ? { more, atMs: next.atMs, by: metadata.name! } : undefined;
  };
  const outlook = (then: Target | undefined): ScheduledScalerStatus => {
    const nextReplicas = then ? sizeAfter(then) : next?.entry.replicas;
    return {
      ...(before.lastChangeTime !== undefined && { lastChangeTime: before.lastChangeTime, lastReplicas: before.lastReplicas }),
      ...(next && !spec?.suspend && { nextChangeTime: timestamp(next.atMs), ...(nextReplicas !== undefined && { nextReplicas }) }),
      ...(before.observedGeneration !== undefined && { observedGeneration: before.observedGeneration }),
    };
  };
  const failed = (reason: string, message: string): Plan => ({ ...rest, againMs, status: { ...outlook(target), conditions: condition("False", reason, message) } });
  if (spec?.suspend) return failed("Suspended", "spec.suspend is true: changes are left out");
  if (!target) {
    const { kind = "", name = "" } = spec?.scaleTargetRef ?? {};
    return failed("TargetNotFound", `there is no ${kind} ${JSON.stringify(name)} in namespace ${metadata.namespace ?? ""}`);
  }
  if (!now) return { ...rest, againMs, staged: staged(target), status: { ...outlook(target), observedGeneration: metadata.generation, conditions: condition("True", "Waiting", "no entry has been due yet: the target keeps its size") } };
  // Each change is made once: who scales by hand afterwards keeps that until the next. A clock that was set back repeats nothing.
  const isMade = before.observedGeneration === metadata.generation && timeMs(before.lastChangeTime) >= now.atMs;
  if (isMade) return { ...rest, againMs, staged: staged(target), status: { ...outlook(target), conditions: condition("True", "Holding", before.conditions?.find((c) => c.type === "Scheduled" && c.reason === "Holding")?.message ?? holdingText(before)) } };
  const wanted = applied(now.entry, target);
  if (isFault(wanted)) return failed(wanted.reason, wanted.message);
  const since = timestamp(now.atMs);
  const limits = boundsText(now.entry, wanted);
  const isNews = wanted.size !== target.size || (limits !== "" && !sameJson(wanted.bounds, target.bounds));
  const { kind = "", name = "" } = spec?.scaleTargetRef ?? {};
  return {
    againMs, replicas: wanted.size === target.size ? undefined : wanted.size, bounds: sameJson(wanted.bounds, target.bounds) ? undefined : wanted.bounds, staged: staged(wanted),
    status: { ...outlook(wanted), lastChangeTime: since, lastReplicas: wanted.size, observedGeneration: metadata.generation, conditions: condition("True", "Holding", `${wanted.size} replicas${limits} since ${since}`) },
    say: isNews ? [{ type: "Normal", reason: "Rescaled", message: `Scaled ${kind} ${name} from ${target.size} to ${wanted.size}${limits} (${now.entry.schedule ?? ""}, ${zoneOf(scaler, now.entry) ?? "the control plane's time zone"})` }] : [],
  };
};

const holdingText = ({ lastReplicas = 0, lastChangeTime = "" }: ScheduledScalerStatus): string => `${lastReplicas} replicas since ${lastChangeTime}`;
