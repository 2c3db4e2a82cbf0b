// The life of a daemon: it runs until SIGTERM or SIGINT, or until a part that it can't do without fails; then everything is closed in
// reverse order of its making. A second signal ends it at once.
import type { Clock } from "./clock.ts";
import { describeError } from "./errors.ts";
import type { Logger } from "./logger.ts";

export interface DaemonOptions {
  readonly logger: Logger;
  readonly clock: Clock;
  /** Closing may take this long; then the process exits with what it has. */
  readonly closeTimeoutMs: number;
}

/**
 * Runs `start`, which registers what is to be closed on `stack` as it makes it, then waits. `fail` ends the daemon because of an error.
 * Resolves to the exit code: 0 after a signal, 1 after an error.
 */
export const runDaemon = async (options: DaemonOptions, start: (stack: AsyncDisposableStack, signal: AbortSignal, fail: (error: unknown) => void) => Promise<void>): Promise<number> => {
  const { logger, clock, closeTimeoutMs } = options;
  const ending = new AbortController();
  const { promise: ended, resolve: end } = Promise.withResolvers<number>();
  let endingSinceMs = 0;
  let timeout: Disposable | undefined;
  // Counts from the signal on, so that a start which doesn't heed it is bounded too.
  const beginEnd = (reason: unknown, code: number): void => {
    endingSinceMs = clock.monotonicMs();
    timeout = clock.setTimer(closeTimeoutMs, () => {
      logger.error("closing took too long", { closeTimeoutMs });
      process.exit(1);
    });
    ending.abort(reason);
    end(code);
  };
  const onSignal = (name: NodeJS.Signals): void => {
    if (ending.signal.aborted) process.exit(1);
    logger.info("stopping", { signal: name });
    beginEnd(new Error(`received ${name}`), 0);
  };
  const fail = (error: unknown): void => {
    if (ending.signal.aborted) return;
    logger.error("stopping because of an error", { err: describeError(error) });
    beginEnd(error, 1);
  };
  // A bug must not leave a daemon half alive: it ends, loudly, and its supervisor starts it again.
  const onUncaught = (error: Error): void => {
    logger.error("uncaught exception", { err: error.stack ?? describeError(error) });
    fail(error);
  };
  process.on("SIGTERM", onSignal).on("SIGINT", onSignal).on("uncaughtException", onUncaught);
  // Nothing else may keep the process alive: timers are unref'd, and a daemon without a listening port would just end.
  const keepAlive = new MessageChannel();
  keepAlive.port1.on("message", () => undefined);
  const stack = new AsyncDisposableStack();
  try {
    await start(stack, ending.signal, fail);
  } catch (error) {
    fail(error);
  }
  const code = await ended;
  try {
    await stack.disposeAsync();
  } catch (error) {
    logger.error("closing failed", { err: describeError(error) });
  }
  logger.info("stopped", { afterMs: Math.round(clock.monotonicMs() - endingSinceMs) });
  timeout?.[Symbol.dispose]();
  keepAlive.port1.close();
  process.off("SIGTERM", onSignal).off("SIGINT", onSignal).off("uncaughtException", onUncaught);
  return code;
};
