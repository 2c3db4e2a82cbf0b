// The node agent's process: options to parts, and its life until a signal. Containers live on without it.
import { SystemClock } from "../base/clock.ts";
import { GantryError } from "../base/errors.ts";
import { runDaemon } from "../base/lifecycle.ts";
import { createLogger, type LogLevel } from "../base/logger.ts";
import { Metrics } from "../base/metrics.ts";
import { VERSION } from "../base/version.ts";
import { startNodeAgent } from "./composition-root.ts";
import type { NodeAgentOptions } from "./options.ts";

const CLOSE_TIMEOUT_MS = 5000;

/** Resolves to the exit code when the process is told to stop, or when --reset is done. */
export const main = async (options: NodeAgentOptions): Promise<number> => {
  if (process.getuid?.() !== 0) throw new GantryError("FailedPrecondition", "gantry node-agent needs root: it makes namespaces, mounts and cgroups");
  const clock = new SystemClock();
  const logger = createLogger({ level: options.logLevel as LogLevel, component: "node-agent", format: options.logFormat as "auto" | "text" | "json" });
  if (options.reset) {
    const { reset } = await import("./reset.ts");
    // Its timers alone would not keep the process alive.
    const keepAlive = new MessageChannel();
    keepAlive.port1.on("message", () => undefined);
    try {
      await reset(options, clock, logger);
    } finally {
      keepAlive.port1.close();
    }
    return 0;
  }
  if (options.controlPlanes.length === 0) throw new GantryError("BadRequest", "--control-planes is needed: HOST:PORT of at least one control plane's agent port");
  const metrics = new Metrics();
  metrics.collectProcess(clock);
  return runDaemon({ logger, clock, closeTimeoutMs: CLOSE_TIMEOUT_MS }, (stack, signal) =>
    startNodeAgent({ options, clock, random: Math.random, logger, metrics, version: VERSION }, stack, signal));
};
