// Carries pod statuses to the control plane: the newest of each pod, in batches, one batch in flight, again until accepted.
import type { BackoffPolicy } from "../../base/backoff.ts";
import { backoffDelayMs } from "../../base/backoff.ts";
import type { Clock } from "../../base/clock.ts";
import type { Logger } from "../../base/logger.ts";
import type { Metrics } from "../../base/metrics.ts";
import type { PodStatus } from "../../proto/gen/gantry/v1/agent.ts";
import type { PodService } from "../pods/pod-service.ts";

/** Resolves with the uids that the control plane does not know. */
export type SendStatuses = (batch: readonly PodStatus[]) => Promise<readonly string[]>;

export interface StatusReporterOptions {
  readonly pods: Pick<PodService, "statuses" | "onStatus">;
  readonly clock: Clock;
  readonly random: () => number;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

/** Bounds a message; a node has far fewer pods as a rule. */
const MAX_BATCH = 500;
/** Of many pods that change one after another, each would cost a report, and a write of the control plane's. */
const PAUSE_MS = 20;
/** Of one pod that wait to be told. */
const MAX_INCIDENTS = 20;
const RETRY: BackoffPolicy = { initialMs: 100, maxMs: 5000, factor: 2, jitter: 0.5 };

interface Link {
  readonly send: SendStatuses;
  readonly onUnknown: (uid: string) => void;
  readonly signal: AbortSignal;
}

/** The newer status is all that counts, but for what happened meanwhile. */
const inPlaceOf = (older: PodStatus | undefined, newer: PodStatus): PodStatus =>
  older ? { ...newer, incidents: [...older.incidents, ...newer.incidents].slice(-MAX_INCIDENTS) } : newer;

export class StatusReporter implements Disposable {
  readonly #options: StatusReporterOptions;
  readonly #pending = new Map<string, PodStatus>();
  readonly #subscription: Disposable;
  readonly #batches;
  readonly #failures;
  #link: Link | undefined;
  #pumping = false;

  constructor(options: StatusReporterOptions) {
    this.#options = options;
    const { metrics } = options;
    this.#batches = metrics.histogram("gantry_agent_status_batch_size", "Pod statuses in one report to the control plane.", [], [1, 2, 5, 10, 20, 50, 100, 200, 500]);
    this.#failures = metrics.counter("gantry_agent_status_failures_total", "Reports that the control plane did not accept and that are sent again.");
    this.#subscription = options.pods.onStatus((status) => {
      // Without a session there is nobody to tell; the next one starts with everything.
      if (this.#link === undefined) return;
      this.#pending.set(status.uid, inPlaceOf(this.#pending.get(status.uid), status));
      this.#schedule();
    });
  }

  /** A new session: everything is reported anew, then every change, until the signal aborts. */
  attach(link: Link): void {
    this.#link = link;
    this.#pending.clear();
    for (const status of this.#options.pods.statuses()) this.#pending.set(status.uid, status);
    link.signal.addEventListener("abort", () => {
      if (this.#link === link) this.#link = undefined;
    }, { once: true });
    this.#schedule();
  }

  [Symbol.dispose](): void {
    this.#subscription[Symbol.dispose]();
    this.#link = undefined;
  }

  #schedule(): void {
    if (this.#pumping || this.#pending.size === 0) return;
    this.#pumping = true;
    // The rest of this turn's changes travel along.
    setImmediate(() => void this.#pump());
  }

  async #pump(): Promise<void> {
    let failures = 0;
    while (this.#link !== undefined && this.#pending.size > 0) {
      const link: Link = this.#link;
      const batch = [...this.#pending.values()].slice(0, MAX_BATCH);
      for (const status of batch) this.#pending.delete(status.uid);
      try {
        const unknown = await link.send(batch);
        this.#batches.observe(batch.length);
        failures = 0;
        for (const uid of unknown) link.onUnknown(uid);
        // What comes right behind travels together.
        await this.#options.clock.sleep(PAUSE_MS, link.signal).catch(() => undefined);
      } catch (error) {
        // Unless a new session took over, which reports all anyway. Newer statuses win over those that failed.
        if (this.#link !== link) continue;
        for (const status of batch) {
          const newer = this.#pending.get(status.uid);
          this.#pending.set(status.uid, newer ? inPlaceOf(status, newer) : status);
        }
        this.#failures.inc();
        this.#options.logger.warn("statuses were not accepted; they are sent again", { pods: batch.length, err: error });
        await this.#options.clock.sleep(backoffDelayMs(RETRY, ++failures, this.#options.random), link.signal).catch(() => undefined);
      }
    }
    this.#pumping = false;
  }
}
