// Local times of IANA time zones: the offset at an instant, and the instant of a local time. A "wall" is a local time written as if it
// were UTC (epoch ms), so that calendars compute on it without any zone. Pure but for the runtime's own time zone data (Intl).
import { GantryError } from "./errors.ts";

/** Throws "Invalid" for what is not an IANA time zone. */
export const checkTimeZone = (timeZone: string): void => {
  try {
    Intl.DateTimeFormat("en", { timeZone });
  } catch {
    throw new GantryError("Invalid", `${JSON.stringify(timeZone)} is not a time zone: expected a name of the IANA time zone database such as "Europe/Berlin" or "Etc/UTC"`);
  }
};

/** From `atMs` on local time is UTC + `afterMs`; before it was UTC + `beforeMs`. */
export interface Transition {
  readonly atMs: number;
  readonly beforeMs: number;
  readonly afterMs: number;
}

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** Zones lie between UTC-12 and UTC+14; on its way from a wall to its instant one passes at most this. */
const WIDEST_OFFSET_MS = 16 * HOUR_MS;

export class TimeZone {
  readonly #format: Intl.DateTimeFormat;
  /** By UTC year. Finding them takes a few ms, looking them up none. */
  readonly #years = new Map<number, { readonly firstMs: number; readonly transitions: readonly Transition[] }>();

  private constructor(name: string) {
    checkTimeZone(name);
    this.#format = new Intl.DateTimeFormat("en-US", {
      timeZone: name, calendar: "gregory", numberingSystem: "latn", hourCycle: "h23", year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric", second: "numeric",
    });
  }

  static readonly #known = new Map<string, TimeZone>();

  /** Without a name: the one of this process. */
  static of(name: string = Intl.DateTimeFormat().resolvedOptions().timeZone): TimeZone {
    let zone = TimeZone.#known.get(name);
    if (!zone) TimeZone.#known.set(name, (zone = new TimeZone(name)));
    return zone;
  }

  offsetMs(atMs: number): number {
    const { firstMs, transitions } = this.#year(new Date(atMs).getUTCFullYear());
    let offsetMs = firstMs;
    for (const t of transitions) {
      if (t.atMs > atMs) break;
      offsetMs = t.afterMs;
    }
    return offsetMs;
  }

  wallAt(atMs: number): number {
    return atMs + this.offsetMs(atMs);
  }

  /** The first instant at which clocks show `wallMs`. For a time that they skip: the instant at which they skip it. Never decreases. */
  instantOf(wallMs: number): number {
    const skip = this.transitionBetween(wallMs - WIDEST_OFFSET_MS, wallMs + WIDEST_OFFSET_MS);
    if (!skip) return wallMs - this.offsetMs(wallMs);
    const { atMs, beforeMs, afterMs } = skip;
    if (wallMs < atMs + beforeMs) return wallMs - beforeMs;
    return Math.max(atMs, wallMs - afterMs);
  }

  /** The first change of the offset in (fromMs, toMs]. */
  transitionBetween(fromMs: number, toMs: number): Transition | undefined {
    for (let year = new Date(fromMs).getUTCFullYear(); year <= new Date(toMs).getUTCFullYear(); year++) {
      const found = this.#year(year).transitions.find((t) => t.atMs > fromMs && t.atMs <= toMs);
      if (found) return found;
    }
    return undefined;
  }

  #year(year: number): { readonly firstMs: number; readonly transitions: readonly Transition[] } {
    const known = this.#years.get(year);
    if (known) return known;
    const startMs = Date.UTC(year, 0, 1);
    const firstMs = this.#ask(startMs);
    const transitions: Transition[] = [];
    let beforeMs = firstMs;
    // No zone has changed twice within a day. The first instant of the next year is that year's.
    for (let fromMs = startMs; new Date(fromMs).getUTCFullYear() === year; fromMs += DAY_MS) {
      const afterMs = this.#ask(fromMs + DAY_MS - 1000);
      if (afterMs !== beforeMs) transitions.push({ atMs: this.#search(fromMs - 1000, fromMs + DAY_MS - 1000, beforeMs), beforeMs, afterMs });
      beforeMs = afterMs;
    }
    const made = { firstMs, transitions };
    this.#years.set(year, made);
    return made;
  }

  /** The first whole second after `lowMs` at which the offset is not `beforeMs`; at `highMs` it isn't. */
  #search(lowMs: number, highMs: number, beforeMs: number): number {
    let [low, high] = [lowMs / 1000, highMs / 1000];
    while (high - low > 1) {
      const middle = Math.floor((low + high) / 2);
      if (this.#ask(middle * 1000) === beforeMs) low = middle;
      else high = middle;
    }
    return high * 1000;
  }

  #ask(atMs: number): number {
    const parts: Record<string, number> = {};
    for (const { type, value } of this.#format.formatToParts(atMs)) parts[type] = Number(value);
    const { year = 0, month = 1, day = 1, hour = 0, minute = 0, second = 0 } = parts;
    return Date.UTC(year, month - 1, day, hour, minute, second) - Math.floor(atMs / 1000) * 1000;
  }
}
