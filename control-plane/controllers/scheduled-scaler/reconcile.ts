// How many replicas a ScheduledScaler's target is to have now, and what comes next. Pure: (scaler, the target's size, now) -> plan.
import { latestAt, nextAfter, parseCron } from "../../../base/cron.ts";
import { describeError } from "../../../base/errors.ts";
import type { Condition, ScheduledScaler, ScheduledScalerEntry, ScheduledScalerStatus } from "../../../base/kube/types.gen.ts";
import { stageAheadMs, type StagedReplicas } from "../../../base/kube/staging.ts";
import { timeMs, timestamp, withCondition } from "../objects.ts";

export interface Say {
  readonly type: "Normal" | "Warning";
  readonly reason: string;
  readonly message: string;
}

export interface Plan {
  /** The target's new size; undefined: it stays. */
  readonly replicas: number | undefined;
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

/** `size` is undefined when there is no target. */
export const reconcile = (scaler: ScheduledScaler, size: number | undefined, nowMs: number): Plan => {
  const { spec, metadata } = scaler;
  const before = scaler.status ?? {};
  const condition = (status: "True" | "False", reason: string, message: string): Condition[] =>
    [...withCondition(before.conditions ?? [], { type: "Scheduled", status, reason, message, observedGeneration: metadata.generation, lastTransitionTime: timestamp(nowMs) })] as Condition[];
  const rest = { replicas: undefined, staged: undefined, say: [], againMs: undefined };
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
  /** Beyond the size that the target has then; nothing for a change to a smaller one. */
  const staged = (sizeThen: number): StagedReplicas | undefined =>
    next !== undefined && next.atMs - nowMs <= aheadMs && (next.entry.replicas ?? 0) > sizeThen
      ? { more: (next.entry.replicas ?? 0) - sizeThen, atMs: next.atMs, by: metadata.name! } : undefined;
  const outlook: ScheduledScalerStatus = {
    ...(before.lastChangeTime !== undefined && { lastChangeTime: before.lastChangeTime, lastReplicas: before.lastReplicas }),
    ...(next && !spec?.suspend && { nextChangeTime: timestamp(next.atMs), nextReplicas: next.entry.replicas ?? 0 }),
    ...(before.observedGeneration !== undefined && { observedGeneration: before.observedGeneration }),
  };
  if (spec?.suspend) return { ...rest, againMs, status: { ...outlook, conditions: condition("False", "Suspended", "spec.suspend is true: changes are left out") } };
  if (size === undefined) {
    const { kind = "", name = "" } = spec?.scaleTargetRef ?? {};
    return { ...rest, againMs, status: { ...outlook, conditions: condition("False", "TargetNotFound", `there is no ${kind} ${JSON.stringify(name)} in namespace ${metadata.namespace ?? ""}`) } };
  }
  if (!now) return { ...rest, againMs, staged: staged(size), status: { ...outlook, observedGeneration: metadata.generation, conditions: condition("True", "Waiting", "no entry has been due yet: the target keeps its size") } };
  // Each change is made once: who scales by hand afterwards keeps that until the next. A clock that was set back repeats nothing.
  const isMade = before.observedGeneration === metadata.generation && timeMs(before.lastChangeTime) >= now.atMs;
  if (isMade) return { ...rest, againMs, staged: staged(size), status: { ...outlook, conditions: condition("True", "Holding", `${before.lastReplicas ?? 0} replicas since ${before.lastChangeTime ?? ""}`) } };
  const wanted = now.entry.replicas ?? 0;
  const since = timestamp(now.atMs);
  return {
    againMs, replicas: wanted === size ? undefined : wanted, staged: staged(wanted),
    status: { ...outlook, lastChangeTime: since, lastReplicas: wanted, observedGeneration: metadata.generation, conditions: condition("True", "Holding", `${wanted} replicas since ${since}`) },
    say: wanted === size ? [] : [{ type: "Normal", reason: "Rescaled", message: `Scaled ${spec?.scaleTargetRef?.kind ?? ""} ${spec?.scaleTargetRef?.name ?? ""} from ${size} to ${wanted} (${now.entry.schedule ?? ""}, ${zoneOf(scaler, now.entry) ?? "the control plane's time zone"})` }],
  };
};
