// When a node counts as short of something: thresholds as kubelet takes them, and which of them are met. Pure.
// https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#eviction-signals-and-thresholds
import { parseDurationMs } from "../../base/config.ts";
import { GantryError } from "../../base/errors.ts";
import { tryParseQuantity } from "../../base/kube/quantity.ts";

export const SIGNALS = ["memory.available", "nodefs.available", "nodefs.inodesFree", "imagefs.available", "imagefs.inodesFree", "pid.available"] as const;
export type Signal = (typeof SIGNALS)[number];

/** What is left of a resource, and what there is of it in all. */
export interface Observation {
  readonly available: number;
  readonly capacity: number;
}

export type Observations = Readonly<Record<Signal, Observation>>;

/** A quantity, or a part of the capacity. */
export type Amount = { readonly quantity: number } | { readonly percent: number };

export interface Threshold {
  readonly signal: Signal;
  readonly amount: Amount;
  /** undefined: hard, it acts at once. */
  readonly graceMs: number | undefined;
}

export type Condition = "MemoryPressure" | "DiskPressure" | "PIDPressure";

export const conditionOf = (signal: Signal): Condition => (signal === "memory.available" ? "MemoryPressure" : signal === "pid.available" ? "PIDPressure" : "DiskPressure");

/** The resource in messages and in requests. */
export const resourceOf = (signal: Signal): "memory" | "ephemeral-storage" | "inodes" | "pids" =>
  signal === "memory.available" ? "memory" : signal === "pid.available" ? "pids" : signal.endsWith("inodesFree") ? "inodes" : "ephemeral-storage";

export const amountIn = (amount: Amount, capacity: number): number => ("quantity" in amount ? amount.quantity : Math.floor((capacity * amount.percent) / 100));

/** "100Mi", "10%". "BadRequest" for anything else. */
export const parseAmount = (flag: string, text: string): Amount => {
  const percent = /^(\d+(?:\.\d+)?)%$/.exec(text)?.[1];
  if (percent !== undefined && Number(percent) <= 100) return { percent: Number(percent) };
  const quantity = tryParseQuantity(text);
  if (quantity !== undefined && quantity >= 0) return { quantity: Math.ceil(quantity) };
  throw new GantryError("BadRequest", `${flag}: ${JSON.stringify(text)} is neither a quantity such as 100Mi nor a percentage such as 10%`);
};

const signalOf = (flag: string, text: string): Signal => {
  const signal = SIGNALS.find((s) => s === text);
  if (!signal) throw new GantryError("BadRequest", `${flag}: ${JSON.stringify(text)} is not a signal: one of ${SIGNALS.join(", ")}`);
  return signal;
};

/** Entries `signal<amount`. One of 0 or 0% switches its signal off. */
const parseEntries = (flag: string, entries: readonly string[]): readonly (readonly [Signal, Amount])[] =>
  entries.map((entry) => {
    const at = entry.indexOf("<");
    if (at < 1) throw new GantryError("BadRequest", `${flag}: ${JSON.stringify(entry)} is not SIGNAL<AMOUNT, such as memory.available<100Mi`);
    return [signalOf(flag, entry.slice(0, at)), parseAmount(flag, entry.slice(at + 1))] as const;
  });

/** Entries `signal=value`. */
export const parsePairs = (flag: string, entries: readonly string[]): ReadonlyMap<Signal, string> =>
  new Map(entries.map((entry) => {
    const at = entry.indexOf("=");
    if (at < 1) throw new GantryError("BadRequest", `${flag}: ${JSON.stringify(entry)} is not SIGNAL=VALUE`);
    return [signalOf(flag, entry.slice(0, at)), entry.slice(at + 1)] as const;
  }));

const isOn = (amount: Amount): boolean => ("quantity" in amount ? amount.quantity : amount.percent) > 0;

/** "BadRequest" names the flag and the entry. A soft threshold needs its grace period. */
export const parseThresholds = (flags: { readonly hard: readonly string[]; readonly soft: readonly string[]; readonly softGrace: readonly string[] }): readonly Threshold[] => {
  const grace = parsePairs("--eviction-soft-grace-period", flags.softGrace);
  const soft = parseEntries("--eviction-soft", flags.soft).map(([signal, amount]): Threshold => {
    const text = grace.get(signal);
    const graceMs = text === undefined ? undefined : parseDurationMs(text);
    if (graceMs === undefined) throw new GantryError("BadRequest", `--eviction-soft-grace-period: ${text === undefined ? `${signal} has none: add ${signal}=90s` : `${JSON.stringify(text)} of ${signal} is not a duration such as 90s`}`);
    return { signal, amount, graceMs };
  });
  const hard = parseEntries("--eviction-hard", flags.hard).map(([signal, amount]): Threshold => ({ signal, amount, graceMs: undefined }));
  return [...hard, ...soft].filter((t) => isOn(t.amount));
};

/** With `reclaim` the mark lies that much higher: once it was met, more than the bare minimum is to be won back. */
export const isMet = (threshold: Threshold, { available, capacity }: Observation, reclaim: Amount | undefined): boolean =>
  capacity > 0 && available < amountIn(threshold.amount, capacity) + (reclaim ? amountIn(reclaim, capacity) : 0);

const key = (t: Threshold): string => `${t.signal} ${t.graceMs ?? "hard"}`;

/** What is remembered from one look to the next. */
export interface PressureState {
  /** Since when a threshold has been met. */
  readonly metSinceMs: ReadonlyMap<string, number>;
  /** When a condition was last seen. */
  readonly lastSeenMs: ReadonlyMap<Condition, number>;
}

export const NO_PRESSURE: PressureState = { metSinceMs: new Map(), lastSeenMs: new Map() };

export interface Judgement {
  readonly state: PressureState;
  /** Conditions to report: they last a while after the last time that they were seen, so that a node does not flap. */
  readonly conditions: ReadonlySet<Condition>;
  /** What has to be acted on now: hard ones first, memory before all. */
  readonly due: readonly Threshold[];
}

export const judge = (
  thresholds: readonly Threshold[], observed: Observations, before: PressureState,
  options: { readonly nowMs: number; readonly transitionMs: number; readonly minimumReclaim: ReadonlyMap<Signal, Amount> },
): Judgement => {
  const { nowMs, transitionMs, minimumReclaim } = options;
  const met = thresholds.filter((t) => isMet(t, observed[t.signal], before.metSinceMs.has(key(t)) ? minimumReclaim.get(t.signal) : undefined));
  const metSinceMs = new Map(met.map((t) => [key(t), before.metSinceMs.get(key(t)) ?? nowMs]));
  const lastSeenMs = new Map(before.lastSeenMs);
  for (const t of met) lastSeenMs.set(conditionOf(t.signal), nowMs);
  const due = met.filter((t) => nowMs - metSinceMs.get(key(t))! >= (t.graceMs ?? 0));
  return {
    state: { metSinceMs, lastSeenMs },
    conditions: new Set([...lastSeenMs].filter(([, seenMs]) => nowMs - seenMs < transitionMs || seenMs === nowMs).map(([condition]) => condition)),
    due: due.sort((a, b) => Number(a.graceMs !== undefined) - Number(b.graceMs !== undefined) || SIGNALS.indexOf(a.signal) - SIGNALS.indexOf(b.signal)),
  };
};
