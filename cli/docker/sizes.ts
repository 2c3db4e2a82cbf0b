// Amounts as docker writes them: "512m" is 512 MiB, "1.5" CPUs, "1m30s". Pure.
import { GantryError } from "../../base/errors.ts";

const UNITS: Readonly<Record<string, number>> = { "": 1, b: 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 };

/** Bytes. Units are binary, in small or capital letters: b, k, m, g, t, also kb or kib. */
export const parseSizeBytes = (where: string, text: string): number => {
  const match = /^(\d+(?:\.\d+)?)\s*([bkmgt]?)(?:i?b)?$/i.exec(text.trim());
  if (!match) throw new GantryError("BadRequest", `${where}: ${JSON.stringify(text)} is not a size such as 512m, 1.5g or 1048576`);
  return Math.round(Number(match[1]) * UNITS[match[2]!.toLowerCase()]!);
};

export const parseMilliCpus = (where: string, text: string): number => {
  const value = /^(\d+\.?\d*|\.\d+)$/.test(text) ? Math.round(Number(text) * 1000) : 0;
  if (value <= 0) throw new GantryError("BadRequest", `${where}: ${JSON.stringify(text)} is not a number of CPUs such as 2 or 0.5`);
  return value;
};

const DURATION_MS: Readonly<Record<string, number>> = { us: 0.001, ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** Go's form: 30s, 1m30s, 1h5m, 500ms. */
export const parseGoDurationMs = (where: string, text: string): number => {
  if (text === "0") return 0;
  if (!/^(\d+(\.\d+)?(us|ms|s|m|h))+$/.test(text)) throw new GantryError("BadRequest", `${where}: ${JSON.stringify(text)} is not a duration such as 30s, 1m30s or 500ms`);
  return [...text.matchAll(/(\d+(?:\.\d+)?)(us|ms|s|m|h)/g)].reduce((sum, [, amount, unit]) => sum + Number(amount) * DURATION_MS[unit!]!, 0);
};

const BINARY = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"] as const;
const DECIMAL = ["B", "kB", "MB", "GB", "TB", "PB"] as const;

const human = (bytes: number, base: number, units: readonly string[]): string => {
  const step = bytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log(bytes) / Math.log(base)));
  return `${Number((bytes / base ** step).toPrecision(4))}${units[step]!}`;
};

/** Memory in docker's tables: "12.5MiB". */
export const binarySize = (bytes: number): string => human(bytes, 1024, BINARY);
/** Traffic and disk in docker's tables: "1.26kB". */
export const decimalSize = (bytes: number): string => human(bytes, 1000, DECIMAL).replace(/^(\d+\.\d{2})\d+/, "$1");
