// Leader election: who may run the controllers and the scheduler. A leader's writes carry its Fence, so that one who was paused and no
// longer leads is refused by the store, whatever it believes. Implemented over etcd by etcd-elections.ts, in memory by memory-elections.ts.
import { backoffDelayMs } from "../../base/backoff.ts";
import type { BackoffPolicy } from "../../base/backoff.ts";
import type { Clock } from "../../base/clock.ts";
import { describeError } from "../../base/errors.ts";
import { newId } from "../../base/ids.ts";
import type { Logger } from "../../base/logger.ts";
import type { Metrics } from "../../base/metrics.ts";
import type { Fence } from "./store.ts";

/** Where a control plane is reached; stored with the election, so that those who don't lead can say where the leader is. */
export interface Addresses {
  /** host:port that agents dial. */
  readonly agents: string;
  /** URL of the API. */
  readonly api: string;
}

export interface Leader {
  readonly identity: string;
  readonly addresses?: Addresses | undefined;
}

export interface Candidate extends Leader {
  /** Of the election: "leader". */
  readonly election: string;
  /** Host and data directory: a process that starts with the identity of the leader takes over at once (its predecessor was killed). */
  readonly identity: string;
  /** Of this process alone. */
  readonly instance: string;
  /** True for a process's first campaign: only then it may take over from its identity, or two with one identity would depose each other forever. */
  readonly first: boolean;
}

export interface Leadership {
  readonly fence: Fence;
  /** Aborted at once when the lease is lost, or can't be renewed in time. */
  readonly lost: AbortSignal;
  /** Lets the next one lead. Never throws. */
  resign(): Promise<void>;
}

export interface Elections {
  /** Resolves when the candidate leads; rejects with the signal's reason when that is aborted first. `onLeader` hears who leads meanwhile. */
  campaign(candidate: Candidate, signal: AbortSignal, onLeader?: (leader: Leader | undefined) => void): Promise<Leadership>;
}

export interface ElectionOptions {
  readonly elections: Elections;
  readonly election?: string | undefined;
  readonly identity: string;
  readonly addresses?: Addresses | undefined;
  /** Hears who leads, this process included; undefined while nobody does or it isn't known. */
  readonly onLeader?: ((leader: Leader | undefined) => void) | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics?: Metrics | undefined;
  /** Ends the whole: abort it to resign and return. */
  readonly signal: AbortSignal;
  /**
   * Runs the leader's components until `signal` is aborted. One that returns or throws earlier ends this leadership: a leader without all
   * of its components is worse than none. It must have stopped when it settles: only then is leadership given up.
   */
  readonly onElected: (fence: Fence, signal: AbortSignal) => Promise<void>;
}

const AGAIN: BackoffPolicy = { initialMs: 500, maxMs: 15_000, factor: 2, jitter: 0 };
/** A term that lasted this long was a success. */
const GOOD_TERM_MS = 60_000;

/** Campaigns, leads, campaigns again, until the signal is aborted. Resolves then; never rejects. */
export const runElection = async ({ elections, election = "leader", identity, addresses, onLeader = ignore, clock, logger, metrics, signal, onElected }: ElectionOptions): Promise<void> => {
  const log = logger.child({ component: "election", election, identity });
  const leading = metrics?.gauge("gantry_leader", "1 while this process leads.", ["election"]);
  const terms = metrics?.counter("gantry_leader_terms_total", "Times this process was elected.", ["election"]);
  const instance = newId();
  leading?.set({ election }, 0);
  let failures = 0;
  for (let first = true; !signal.aborted; first = false) {
    let leadership: Leadership;
    try {
      leadership = await elections.campaign({ election, identity, addresses, instance, first }, signal, onLeader);
    } catch (error) {
      onLeader(undefined);
      if (signal.aborted) return;
      log.warn("campaigning failed", { err: error });
      await clock.sleep(backoffDelayMs(AGAIN, ++failures, () => 0), signal).catch(ignore);
      continue;
    }
    const startMs = clock.monotonicMs();
    log.info("elected", { createRevision: leadership.fence.createRevision });
    leading?.set({ election }, 1);
    terms?.inc({ election });
    onLeader({ identity, addresses });
    const term = AbortSignal.any([signal, leadership.lost]);
    let failed = false;
    try {
      await onElected(leadership.fence, term);
      failed = !term.aborted;
      if (failed) log.error("a component of the leader ended by itself; resigning");
    } catch (error) {
      failed = !term.aborted;
      if (failed) log.error("a component of the leader died; resigning", { err: error });
    }
    leading?.set({ election }, 0);
    onLeader(undefined);
    if (leadership.lost.aborted) log.warn("leadership lost", { why: describeError(leadership.lost.reason) });
    await leadership.resign();
    if (!failed || clock.monotonicMs() - startMs >= GOOD_TERM_MS) failures = 0;
    if (failed) await clock.sleep(backoffDelayMs(AGAIN, ++failures, () => 0), signal).catch(ignore);
  }
};

const ignore = (): void => undefined;
