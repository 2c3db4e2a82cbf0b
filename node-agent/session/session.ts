// The agent's connection to the control plane: dials one replica after another until one opens a session, and again whenever it
// ends. Containers never depend on it: without a session the node goes on with what it was last told.
import { backoffDelayMs } from "../../base/backoff.ts";
import type { BackoffPolicy } from "../../base/backoff.ts";
import { GantryError } from "../../base/errors.ts";
import { Connection } from "./connection.ts";
import { explainDialError } from "./credentials.ts";
import type { SessionContext, SessionOptions } from "./session-context.ts";
import { StatusReporter } from "./status-reporter.ts";

export interface AgentSession {
  /** Starts dialling; returns at once. */
  start(): void;
  readonly connected: boolean;
  /** Resolves when a session is open, at once when one is: for tests and for start-up messages. */
  opened(): Promise<void>;
  close(): Promise<void>;
}

/** Below a lease by far: a control plane that restarts finds its nodes again before any counts as lost. */
const REDIAL: BackoffPolicy = { initialMs: 200, maxMs: 3000, factor: 2, jitter: 0.5 };

export const createSession = (options: SessionOptions): AgentSession => {
  const { clock, random } = options;
  const logger = options.logger.child({ component: "session" });
  const reporter = new StatusReporter({ ...options, logger });
  const closing = new AbortController();
  const known = new Set(options.controlPlanes);
  const watchers = new Set<() => void>();
  let connection: Connection | undefined;
  let running: Promise<void> | undefined;

  const isConnected = (): boolean => connection?.sessionId !== undefined;
  options.metrics.gauge("gantry_agent_session_connected", "1 while a session with the control plane is open.", [], (gauge) => gauge.set(isConnected() ? 1 : 0));
  const dials = options.metrics.counter("gantry_agent_dials_total", "Attempts to open a session, by whether it opened.", ["result"]);
  const context: SessionContext = {
    ...options, logger, reporter,
    metrics: {
      heartbeat: options.metrics.histogram("gantry_agent_heartbeat_seconds", "Round trip of heartbeats."),
      restarts: options.metrics.counter("gantry_agent_assignment_restarts_total", "Assignment streams that had to start over."),
    },
    onOpened: () => {
      for (const watcher of watchers) watcher();
      watchers.clear();
    },
  };

  const run = async (): Promise<void> => {
    let failures = 0;
    let next: string | undefined;
    for (let attempt = 0; !closing.signal.aborted; attempt++) {
      const targets = [...known];
      const target = next ?? targets[attempt % targets.length];
      if (target === undefined) throw new GantryError("Invalid", "no control plane is given: expected at least one HOST:PORT");
      const credentials = options.credentials.load();
      if (credentials === undefined) throw new GantryError("FailedPrecondition", "this machine has no node credentials: join first");
      connection = new Connection(target, credentials, context);
      const end = await connection.run();
      dials.inc({ result: end.opened ? "opened" : "failed" });
      if (closing.signal.aborted) return;
      for (const address of end.controlPlanes) known.add(address);
      next = end.leader;
      failures = end.opened ? 0 : failures + 1;
      if (end.renewed) continue;
      const delayMs = backoffDelayMs(REDIAL, failures, random);
      logger.warn(end.opened ? "session ended" : "could not open a session", { controlPlane: target, retryInMs: Math.round(delayMs), err: explainDialError(target, end.error, clock.nowMs()) });
      await clock.sleep(delayMs, closing.signal).catch(() => undefined);
    }
  };

  return {
    start() {
      running ??= run().catch((error: unknown) => {
        // A session that can't go on leaves the node as it is; the log says what to do.
        if (!closing.signal.aborted) logger.error("no further attempts to reach the control plane", { err: error });
      });
    },
    get connected() {
      return isConnected();
    },
    opened: () => (isConnected() ? Promise.resolve() : new Promise((resolve) => watchers.add(resolve))),
    async close() {
      closing.abort(new GantryError("Cancelled", "the agent is stopping"));
      connection?.end(new GantryError("Cancelled", "the agent is stopping"));
      reporter[Symbol.dispose]();
      await running;
    },
  };
};
