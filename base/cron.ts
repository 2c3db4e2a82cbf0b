// Cron expressions as CronJobs take them: five fields, or six with seconds in front; names, lists, ranges, steps, @hourly and the like;
// in any time zone. Reading and its errors are ours; the calendar (leap years, days of the week) is croner's, on local times; what daylight
// saving does to those is time-zone.ts's and one rule: a time that doesn't exist runs at the next that does, one that comes twice runs once.
// Pure. https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/#schedule-syntax
import { Cron } from "croner";
import { GantryError } from "./errors.ts";
import { TimeZone } from "./time-zone.ts";

export interface CronSchedule {
  /** As it was written. */
  readonly text: string;
  /** Normalized: six fields, seconds first, that croner reads the same way as upstream's parser (robfig/cron). */
  readonly pattern: string;
  /** It has a field for seconds: its ticks are told apart by the second, others by the minute. */
  readonly hasSeconds: boolean;
}

interface Field {
  readonly name: string;
  readonly min: number;
  readonly max: number;
  readonly names?: readonly string[];
  /** Number of the first name. */
  readonly firstName?: number;
}

const MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const SECOND: Field = { name: "second", min: 0, max: 59 };
const FIELDS: readonly Field[] = [
  { name: "minute", min: 0, max: 59 },
  { name: "hour", min: 0, max: 23 },
  { name: "day of month", min: 1, max: 31 },
  { name: "month", min: 1, max: 12, names: MONTHS, firstName: 1 },
  // 7 is Sunday too, as in crontab(5).
  { name: "day of week", min: 0, max: 7, names: DAYS, firstName: 0 },
];

const SHORTHANDS: Readonly<Record<string, string>> = {
  "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
};

/** Throws "Invalid", naming the field, its value and what would be right. */
export const parseCron = (text: string): CronSchedule => {
  const fault = (why: string): GantryError => new GantryError("Invalid", `${JSON.stringify(text)} is not a schedule: ${why}`);
  const trimmed = text.trim();
  if (/^(CRON_)?TZ=/.test(trimmed)) throw fault("set the time zone in timeZone, not in the schedule");
  if (trimmed.startsWith("@")) {
    const pattern = SHORTHANDS[trimmed.toLowerCase()];
    if (!pattern) throw fault(`expected one of ${Object.keys(SHORTHANDS).join(", ")}, or five fields`);
    return { text, pattern: `0 ${pattern}`, hasSeconds: false };
  }
  const parts = trimmed.split(/\s+/);
  const hasSeconds = parts.length === FIELDS.length + 1;
  const fields = hasSeconds ? [SECOND, ...FIELDS] : FIELDS;
  if (parts.length !== fields.length) {
    throw fault(`expected five fields (${FIELDS.map((f) => f.name).join(", ")}; a sixth, in front, is the second), found ${trimmed === "" ? 0 : parts.length}`);
  }
  const pattern = fields.map((field, i) => parts[i]!.split(",").map((item) => normalize(field, item, fault)).join(",")).join(" ");
  return { text, pattern: hasSeconds ? pattern : `0 ${pattern}`, hasSeconds };
};

const normalize = (field: Field, item: string, fault: (why: string) => GantryError): string => {
  const { min, max } = field;
  const [range, step, ...more] = item.split("/");
  const wrong = (why: string): GantryError => fault(`${field.name} ${JSON.stringify(item)}: ${why}`);
  const number = (word: string): number => {
    const named = field.names?.indexOf(word.toLowerCase()) ?? -1;
    const value = named >= 0 ? named + field.firstName! : /^\d+$/.test(word) ? Number(word) : undefined;
    if (value === undefined) throw wrong(`expected *, a number from ${min} to ${max}${field.names ? ` or a name (${field.names.join(", ")})` : ""}, a range a-b, or any of these with a /step`);
    if (value < min || value > max) throw wrong(`${word} is not between ${min} and ${max}`);
    return value;
  };
  if (more.length > 0) throw wrong("only one / is possible");
  const every = step === undefined ? 1 : /^[1-9]\d*$/.test(step) ? Number(step) : 0;
  if (every === 0) throw wrong(`the step ${JSON.stringify(step)} is not a whole number from 1 up`);
  if (range === "*" || range === "?") return every === 1 ? "*" : stepped(min, field.name === "day of week" ? 6 : max, every);
  const [from, to, ...rest] = range!.split("-");
  if (rest.length > 0) throw wrong("a range has two ends");
  const first = number(from!);
  // "5/15" means "5-59/15".
  const last = to === undefined ? (step === undefined ? first : Math.max(first, field.name === "day of week" ? 6 : max)) : number(to);
  if (last < first) throw wrong(`the range ends (${to!}) before it begins (${from!})`);
  return stepped(first, last, every);
};

/** Croner refuses a step that is larger than its range; it means the first value only. */
const stepped = (first: number, last: number, every: number): string =>
  first === last || every > last - first ? String(first) : `${first}-${last}${every === 1 ? "" : `/${every}`}`;

const calendars = new Map<string, Cron>();
const MAX_CALENDARS = 1000;

const calendarOf = ({ pattern }: CronSchedule): Cron => {
  let calendar = calendars.get(pattern);
  if (!calendar) {
    if (calendars.size >= MAX_CALENDARS) calendars.delete(calendars.keys().next().value!);
    // Without a function it starts no timer; our Clock keeps time. With an offset instead of a zone it is 20 times faster.
    calendars.set(pattern, (calendar = new Cron(pattern, { mode: "6-part", utcOffset: 0 })));
  }
  return calendar;
};

/**
 * The first instant after `afterMs` (epoch ms); undefined when there is none (February 31st). Without a time zone that of this
 * process counts, as upstream. A time that daylight saving skips runs when the gap ends; one that comes twice runs the first time only.
 */
export const nextAfter = (schedule: CronSchedule, afterMs: number, timeZone?: string): number | undefined => {
  const zone = TimeZone.of(timeZone);
  const calendar = calendarOf(schedule);
  for (let wallMs = zone.wallAt(afterMs); ;) {
    const next = calendar.nextRun(new Date(wallMs))?.getTime();
    if (next === undefined) return undefined;
    const atMs = zone.instantOf(next);
    if (atMs > afterMs) return atMs;
    // Clocks were set back and this time has been before: on to the first that hasn't. (Or, at the end of a gap, the next of the times that it swallowed.)
    const back = zone.transitionBetween(atMs, afterMs);
    wallMs = back && back.atMs + back.beforeMs > next ? back.atMs + back.beforeMs - 1000 : next;
  }
};

/** The last instant at or before `atMs`. */
export const latestAt = (schedule: CronSchedule, atMs: number, timeZone?: string): number | undefined => {
  const zone = TimeZone.of(timeZone);
  // Clocks that were set back show less than they have shown: an hour earlier they may have been further.
  const back = zone.transitionBetween(atMs - MAX_FOLD_MS, atMs);
  const wallMs = Math.max(zone.wallAt(atMs), back ? back.atMs + back.beforeMs - 1 : 0);
  // Croner looks strictly before, to the second.
  const [before] = calendarOf(schedule).previousRuns(1, new Date(Math.floor(wallMs / 1000) * 1000 + 1000));
  return before && zone.instantOf(before.getTime());
};

/** Clocks have been set back by at most a day (zones that changed sides of the date line). */
const MAX_FOLD_MS = 24 * 3_600_000;
