// Structured logs through winston: readable lines on a terminal, one JSON object a line otherwise. Field names in use
// everywhere: component, node, pod (namespace/name), podUid, container, session, err. Secrets never go in: see redact.
import winston from "winston";
import { describeError } from "./errors.ts";

export type LogLevel = "debug" | "info" | "warn" | "error";
export type LogFields = Readonly<Record<string, unknown>>;

export interface Logger {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  child(fields: LogFields): Logger;
}

const SECRET_NAME = /token|password|secret|authorization|private.?key/i;

/** Replaces values whose field name says that they are secret, and errors by their text. */
export const redact = (fields: LogFields): Record<string, unknown> =>
  Object.fromEntries(Object.entries(fields).map(([k, v]) => [k, SECRET_NAME.test(k) ? "[redacted]" : v instanceof Error ? describeError(v) : v]));

const readable = winston.format.printf(({ timestamp, level, message, ...rest }) => {
  const fields = Object.entries(rest).map(([k, v]) => `${k}=${typeof v === "string" && !/[\s"]/.test(v) ? v : JSON.stringify(v)}`).join(" ");
  return `${String(timestamp).slice(11, 23)} ${level.toUpperCase().padEnd(5)} ${String(message)}${fields ? ` ${fields}` : ""}`;
});

export const createLogger = (options: { level: LogLevel; component: string; format?: "auto" | "json" | "text"; stream?: NodeJS.WritableStream }): Logger => {
  const text = options.format === "text" || (options.format !== "json" && process.stderr.isTTY === true);
  const root = winston.createLogger({
    level: options.level,
    format: winston.format.combine(winston.format.timestamp(), text ? readable : winston.format.json()),
    transports: [new winston.transports.Stream({ stream: options.stream ?? process.stderr })],
  });
  const wrap = (bound: LogFields): Logger => {
    const at = (level: LogLevel) => (message: string, fields: LogFields = {}): void => {
      // Debug lines stand on hot paths: while they are off they cost next to nothing.
      if (root.isLevelEnabled(level)) root.log(level, message, redact({ ...bound, ...fields }));
    };
    return { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error"), child: (fields) => wrap({ ...bound, ...fields }) };
  };
  return wrap({ component: options.component });
};

const nothing = (): void => undefined;
export const silentLogger: Logger = { debug: nothing, info: nothing, warn: nothing, error: nothing, child: () => silentLogger };
