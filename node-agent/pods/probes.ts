// Runs one container's probes: startup first, and while it has not succeeded none of the others.
// https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#container-probes
import type { Clock } from "../../base/clock.ts";
import { GantryError, describeError } from "../../base/errors.ts";
import type { Container, Probe } from "../../proto/gen/gantry/v1/agent.ts";
import { runHandler, type HandlerTarget } from "./handlers.ts";

type ProbeKind = "Startup" | "Readiness" | "Liveness";

export interface ProbeEvents {
  /** The startup probe has succeeded. */
  onStarted(): void;
  onReady(ready: boolean): void;
  /** Of any probe, each time. */
  onFailure(message: string): void;
  /** Liveness or startup failed often enough: the container is to be ended. */
  onUnhealthy(kind: ProbeKind, message: string, probe: Probe): void;
}

export interface ProbeOptions {
  readonly container: Container;
  readonly target: HandlerTarget;
  readonly clock: Clock;
  readonly random: () => number;
  readonly startedAtMs: number;
  /** The startup probe had succeeded before the agent was restarted. */
  readonly started: boolean;
  readonly ready: boolean;
}

export const hasProbes = (container: Container): boolean => container.startup !== undefined || container.readiness !== undefined || container.liveness !== undefined;

export class ContainerProbes implements Disposable {
  readonly #options: ProbeOptions;
  readonly #events: ProbeEvents;
  readonly #over = new AbortController();
  readonly #timers = new Set<Disposable>();

  constructor(options: ProbeOptions, events: ProbeEvents) {
    this.#options = options;
    this.#events = events;
    const { startup } = options.container;
    if (startup && !options.started) this.#repeat("Startup", startup, false, (ok, message) => {
      if (!ok) return this.#events.onUnhealthy("Startup", message, startup);
      this.#events.onStarted();
      this.#watch();
    }, true);
    else this.#watch();
  }

  [Symbol.dispose](): void {
    this.#over.abort(new GantryError("Cancelled", "the container has ended"));
    for (const timer of this.#timers) timer[Symbol.dispose]();
    this.#timers.clear();
  }

  #watch(): void {
    const { liveness, readiness } = this.#options.container;
    if (this.#over.signal.aborted) return;
    if (readiness) this.#repeat("Readiness", readiness, this.#options.ready, (ok) => this.#events.onReady(ok));
    if (liveness) this.#repeat("Liveness", liveness, true, (ok, message) => {
      if (!ok) this.#events.onUnhealthy("Liveness", message, liveness);
    });
  }

  /** Tells of each change of the verdict, which starts as `verdict`; with `once` it ends with the first success. */
  #repeat(kind: ProbeKind, probe: Probe, verdict: boolean, tell: (ok: boolean, message: string) => void, once = false): void {
    const { clock, random, startedAtMs } = this.#options;
    let inRow = 0;
    let last: boolean | undefined;
    let current: boolean | undefined = once ? undefined : verdict;
    const periodMs = probe.periodMs || 10_000;
    const round = async (): Promise<void> => {
      const { ok, message } = await this.#once(kind, probe);
      if (this.#over.signal.aborted) return;
      if (!ok) this.#events.onFailure(message);
      inRow = ok === last ? inRow + 1 : 1;
      last = ok;
      const enough = inRow >= Math.max(1, ok ? probe.successThreshold : probe.failureThreshold || 3);
      if (enough && ok !== current) {
        current = ok;
        tell(ok, message);
        if (once || (kind === "Liveness" && !ok)) return;
      }
      this.#after(periodMs, round);
    };
    // After a restart of the agent the rounds of all containers would fall together: they start spread over one period.
    const spreadMs = clock.nowMs() - startedAtMs > periodMs ? random() * periodMs : 0;
    this.#after(Math.max(0, startedAtMs + probe.initialDelayMs - clock.nowMs()) + spreadMs, round);
  }

  #after(delayMs: number, fn: () => Promise<void>): void {
    const timer = this.#options.clock.setTimer(delayMs, () => {
      this.#timers.delete(timer);
      void fn();
    });
    this.#timers.add(timer);
  }

  async #once(kind: ProbeKind, probe: Probe): Promise<{ readonly ok: boolean; readonly message: string }> {
    const { clock, target } = this.#options;
    const timeoutMs = probe.timeoutMs || 1000;
    const stop = new AbortController();
    const cancel = (): void => stop.abort(this.#over.signal.reason);
    this.#over.signal.addEventListener("abort", cancel, { once: true });
    const timer = clock.setTimer(timeoutMs, () => stop.abort(new GantryError("Timeout", `timed out after ${timeoutMs / 1000} s`)));
    try {
      if (!probe.handler) throw new GantryError("Invalid", "it has no handler");
      await runHandler(probe.handler, target, stop.signal);
      return { ok: true, message: "" };
    } catch (error) {
      return { ok: false, message: `${kind} probe failed: ${describeError(stop.signal.aborted ? stop.signal.reason : error)}` };
    } finally {
      timer[Symbol.dispose]();
      this.#over.signal.removeEventListener("abort", cancel);
    }
  }
}
