// How a Job's finished pods become numbers: each exactly once, although anybody may delete a finished pod at any time. Pure.
//
// Each pod carries a finalizer, the hold. In one write of the status a finished pod is added to succeeded or failed and its uid to
// uncountedTerminatedPods; then its hold is taken off; then the uid is dropped. A crash between any two of these counts nothing
// twice and nothing never. (Upstream adds to the sums only when it drops the uid; the sum is the same, the number is right one write
// earlier here.) What a failure policy ignores, and what was staged and taken away before its start, loses its hold without being counted.
//
// With a limit per index the last failed pod of an index keeps its hold until its successor exists: it alone knows how often the
// index has failed.
import { hasMadeWay } from "../../../base/kube/staging.ts";
import type { Job, Pod } from "../../../base/kube/types.gen.ts";
import { isTerminal, timeMs } from "../objects.ts";
import { judge } from "./failure-policy.ts";
import type { Verdict } from "./failure-policy.ts";
import { failuresBefore, hasLimitPerIndex, ignoredBefore, indexOf, isIndexed, parseIndexes } from "./indexes.ts";

export const HOLD = "batch.kubernetes.io/job-tracking";
export const isHeld = (pod: Pod): boolean => pod.metadata.finalizers?.includes(HOLD) === true;

/** Pods counted, and created, in one pass: bounds the status. */
export const MAX_PER_PASS = 500;

/**
 * A pod on its way out never reaches the phase Failed when its node is lost: it counts as failed at once, unless only failed ones may be
 * replaced. One that was never placed has no agent that could tell its end.
 */
export const hasFailed = (job: Job, pod: Pod): boolean => {
  if (hasMadeWay(pod)) return false;
  if (pod.status?.phase === "Failed") return true;
  if (pod.metadata.deletionTimestamp === undefined || isTerminal(pod)) return false;
  return job.spec?.podReplacementPolicy !== "Failed" || !pod.spec?.nodeName;
};

export const endedMs = (pod: Pod): number => {
  const ends = [...(pod.status?.containerStatuses ?? []), ...(pod.status?.initContainerStatuses ?? [])].map((c) => timeMs(c.state?.terminated?.finishedAt));
  return Math.max(...ends, 0) || timeMs(pod.metadata.deletionTimestamp) || timeMs(pod.metadata.creationTimestamp);
};

export interface IndexHistory {
  readonly counted: number;
  readonly ignored: number;
  /** Of the last failure. */
  readonly endedMs: number;
  readonly podUid: string;
}

export interface Counts {
  readonly succeeded: number;
  readonly failed: number;
  readonly completed: ReadonlySet<number>;
  readonly failedIndexes: ReadonlySet<number>;
  /** By index, from the pods that are there; only with a limit per index. */
  readonly histories: ReadonlyMap<number, IndexHistory>;
  readonly uncounted: { readonly succeeded: readonly string[]; readonly failed: readonly string[] };
  /** Their hold may go once this count is written. */
  readonly release: readonly Pod[];
  /** Of these the ones (uids) that are needed until their index has a successor; when the job ends, nobody needs them. */
  readonly needed: ReadonlySet<string>;
  /** Nothing is left for the next pass. */
  readonly all: boolean;
  /** The pod failure that ends the whole job. */
  readonly fatal: Verdict | undefined;
}

const within = (indexes: ReadonlySet<number>, job: Job): Set<number> => new Set([...indexes].filter((i) => i >= 0 && i < (job.spec?.completions ?? 0)));

/** The last failed pod of each index: the one with the most failures behind it. */
const historiesOf = (lost: readonly { readonly pod: Pod; readonly verdict: Verdict }[]): Map<number, IndexHistory> => {
  const histories = new Map<number, IndexHistory>();
  for (const { pod, verdict } of lost) {
    const ignored = verdict.action === "Ignore" ? 1 : 0;
    const history = { counted: failuresBefore(pod) + 1 - ignored, ignored: ignoredBefore(pod) + ignored, endedMs: endedMs(pod), podUid: pod.metadata.uid! };
    const known = histories.get(indexOf(pod));
    if (!known || history.counted + history.ignored > known.counted + known.ignored) histories.set(indexOf(pod), history);
  }
  return histories;
};

export const count = (job: Job, pods: readonly Pod[]): Counts => {
  const { status } = job;
  const spec = job.spec!;
  const held = new Map(pods.filter(isHeld).map((p) => [p.metadata.uid!, p]));
  const known = status?.uncountedTerminatedPods ?? {};
  const kept = { succeeded: (known.succeeded ?? []).filter((uid) => held.has(uid)), failed: (known.failed ?? []).filter((uid) => held.has(uid)) };
  const counted = new Set([...kept.succeeded, ...kept.failed]);
  const won = pods.filter((p) => p.status?.phase === "Succeeded");
  const lost = pods.filter((p) => hasFailed(job, p)).map((pod) => ({ pod, verdict: judge(spec.podFailurePolicy, pod) }));
  const isFresh = (pod: Pod): boolean => isHeld(pod) && !counted.has(pod.metadata.uid!);
  const newlyWon = won.filter(isFresh).slice(0, MAX_PER_PASS);
  const newlyLost = lost.filter(({ pod, verdict }) => isFresh(pod) && verdict.action !== "Ignore").slice(0, MAX_PER_PASS - newlyWon.length);

  const completed = isIndexed(job) ? within(parseIndexes(status?.completedIndexes), job) : new Set<number>();
  if (isIndexed(job)) for (const index of within(new Set(newlyWon.map(indexOf)), job)) completed.add(index);

  const perIndex = hasLimitPerIndex(job);
  const histories = perIndex ? historiesOf(lost) : new Map<number, IndexHistory>();
  const failedIndexes = perIndex ? within(parseIndexes(status?.failedIndexes), job) : new Set<number>();
  if (perIndex) {
    const ended = lost.filter(({ pod, verdict }) => verdict.action === "FailIndex" || (verdict.action !== "Ignore" && failuresBefore(pod) >= spec.backoffLimitPerIndex!));
    for (const index of within(new Set(ended.map(({ pod }) => indexOf(pod))), job)) if (!completed.has(index)) failedIndexes.add(index);
  }
  const succeeded = [...kept.succeeded, ...newlyWon.map((p) => p.metadata.uid!)];
  const failed = [...kept.failed, ...newlyLost.map(({ pod }) => pod.metadata.uid!)];
  const ignored = lost.filter(({ pod, verdict }) => verdict.action === "Ignore" && isHeld(pod)).map(({ pod }) => pod);
  const withdrawn = pods.filter((pod) => isHeld(pod) && hasMadeWay(pod));
  const unfinished = (index: number): boolean => index >= 0 && index < (spec.completions ?? 0) && !completed.has(index) && !failedIndexes.has(index);
  // A pod of a later attempt, whatever became of it, carries the history on.
  const attempts = new Map<number, number>();
  for (const pod of perIndex ? pods : []) attempts.set(indexOf(pod), Math.max(attempts.get(indexOf(pod)) ?? 0, failuresBefore(pod) + ignoredBefore(pod)));
  const needed = [...histories].filter(([index, history]) => unfinished(index) && (attempts.get(index) ?? 0) < history.counted + history.ignored).map(([, { podUid }]) => podUid);
  return {
    succeeded: isIndexed(job) ? completed.size : (status?.succeeded ?? 0) + newlyWon.length, failed: (status?.failed ?? 0) + newlyLost.length,
    completed, failedIndexes, histories, uncounted: { succeeded, failed },
    release: [...[...succeeded, ...failed].map((uid) => held.get(uid)!), ...ignored, ...withdrawn], needed: new Set(needed),
    all: won.every((pod) => !isFresh(pod) || newlyWon.includes(pod)) && lost.every((l) => l.verdict.action === "Ignore" || !isFresh(l.pod) || newlyLost.includes(l)),
    fatal: lost.find(({ verdict }) => verdict.action === "FailJob")?.verdict,
  };
};
