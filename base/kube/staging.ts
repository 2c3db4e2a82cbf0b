// Staged start: what is to start at an instant carries it as an annotation, from the CronJob's Job to its pods to their nodes. Everything is
// made ready ahead of it and started at it. Pure.
import { GantryError } from "../errors.ts";
import type { KubeObject } from "./resources.ts";
import type { Pod } from "./types.gen.ts";

/** RFC 3339, on Jobs and pods: start no container before this instant. */
export const START_AT = "gantry.io/start-at";
/** Condition of a pod that had a start time: how far from it its first container ran, by its node's clock. */
export const STARTED_AT = "gantry.io/StartedOnTime";
/** More than this is late. */
export const LATE_MS = 1000;
/** On CronJobs and ScheduledScalers: how long before an instant its pods are made ready; "0s" turns it off. */
export const STAGE_AHEAD = "gantry.io/stage-ahead";
export const DEFAULT_STAGE_AHEAD_MS = 30_000;
export const MAX_STAGE_AHEAD_MS = 3_600_000;
/** Controllers write the books of an instant this long after it: at the instant itself processors are the containers'. */
export const BOOKS_AFTER_MS = 500;

/** Epoch ms; 0 when there is no such instant. */
export const startAtMs = ({ metadata }: Pick<KubeObject, "metadata">): number => Date.parse(metadata.annotations?.[START_AT] ?? "") || 0;

export const startingAt = <T extends Pick<KubeObject, "metadata">>(object: T, atMs: number): T =>
  ({ ...object, metadata: { ...object.metadata, annotations: { ...object.metadata.annotations, [START_AT]: new Date(atMs).toISOString() } } });

/** It waits for its instant. */
export const isAhead = (object: Pick<KubeObject, "metadata">, nowMs: number): boolean => startAtMs(object) > nowMs;

/** A Job that was taken away before its instant: none of its processes has ever run. (It is marked without a grace: the timestamp is when.) */
export const isWithdrawn = ({ metadata }: Pick<KubeObject, "metadata">): boolean =>
  metadata.deletionTimestamp !== undefined && Date.parse(metadata.deletionTimestamp) < startAtMs({ metadata });

/** A pod that was to start at an instant and is taken away without having run: it made way, it didn't fail. */
export const hasMadeWay = (pod: Pod): boolean => pod.metadata.deletionTimestamp !== undefined && startAtMs(pod) > 0 && (pod.status?.phase ?? "Pending") === "Pending";

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
const DURATION = /^(?:\d+(?:\.\d+)?(?:ms|s|m|h))+$/;

/** As Go writes durations: 30s, 1m30s, 500ms. Throws "Invalid" with what is right. */
export const parseStageAhead = (text: string): number => {
  const wrong = (why: string): GantryError => new GantryError("Invalid", `${JSON.stringify(text)} ${why}: expected a duration such as "30s" or "2m", at most 1h, or "0s" to turn staging off`);
  if (text === "0") return 0;
  if (!DURATION.test(text)) throw wrong("is not a duration");
  const ms = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g)].reduce((sum, [, number, unit]) => sum + Number(number) * UNIT_MS[unit!]!, 0);
  if (ms > MAX_STAGE_AHEAD_MS) throw wrong("is too long");
  return Math.round(ms);
};

/** The default for one that can't be read: the API refuses those, but an object may be older than that check. */
export const stageAheadMs = ({ metadata }: Pick<KubeObject, "metadata">): number => {
  const text = metadata.annotations?.[STAGE_AHEAD];
  if (text === undefined) return DEFAULT_STAGE_AHEAD_MS;
  try {
    return parseStageAhead(text);
  } catch {
    return DEFAULT_STAGE_AHEAD_MS;
  }
};

const AFTER = /^(-?\d+) ms after /;

/** From the condition back to ms after the start time; undefined while it hasn't started, and for pods without one. */
export const startedAfterMs = (pod: Pod): number | undefined => {
  const [, ms] = AFTER.exec(pod.status?.conditions?.find((c) => c.type === STARTED_AT)?.message ?? "") ?? [];
  return ms === undefined ? undefined : Number(ms);
};

export const startedAfterText = (afterMs: number, dueMs: number): string => `${afterMs} ms after ${new Date(dueMs).toISOString()}`;

/** On what a ScheduledScaler scales, while a scale-up is ahead: how many pods are made ready beyond `spec.replicas`, for when, and by whom. Its ReplicaSet makes them. */
export const STAGED_REPLICAS = "gantry.io/staged-replicas";

export interface StagedReplicas {
  readonly more: number;
  readonly atMs: number;
  /** The name of the ScheduledScaler, which takes the annotation away in the write that scales. */
  readonly by: string;
}

const STAGED = /^(\d+) more at (\S+) by (\S+)$/;

export const stagedReplicasText = ({ more, atMs, by }: StagedReplicas): string => `${more} more at ${new Date(atMs).toISOString()} by ${by}`;

export const stagedReplicasOf = ({ metadata }: Pick<KubeObject, "metadata">): StagedReplicas | undefined => {
  const [, more, at, by] = STAGED.exec(metadata.annotations?.[STAGED_REPLICAS] ?? "") ?? [];
  const atMs = Date.parse(at ?? "");
  return by === undefined || Number.isNaN(atMs) ? undefined : { more: Number(more), atMs, by };
};

/** The object with this text as its annotation; undefined takes it away. */
export const withStagedReplicas = <T extends Pick<KubeObject, "metadata">>(object: T, text: string | undefined): T => {
  const { [STAGED_REPLICAS]: before, ...others } = object.metadata.annotations ?? {};
  if (before === text) return object;
  return { ...object, metadata: { ...object.metadata, annotations: text === undefined ? others : { ...others, [STAGED_REPLICAS]: text } } };
};
