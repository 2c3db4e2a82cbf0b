// Cron expressions as CronJobs take them: five fields, names, lists, ranges, steps, @hourly and the like, in any time zone. Reading
// and its errors are ours; the calendar (leap years, daylight saving, days of the week) is croner's. Pure.
// https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/#schedule-syntax
import { Cron } from "croner";
import { GantryError } from "./errors.ts";

export interface CronSchedule {
  /** As it was written. */
  readonly text: string;
  /** Normalized: five fields that croner reads the same way as upstream's parser (robfig/cron). */
  readonly pattern: string;
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
    return { text, pattern };
  }
  const parts = trimmed.split(/\s+/);
  if (parts.length !== FIELDS.length) throw fault(`expected five fields (${FIELDS.map((f) => f.name).join(", ")}), found ${trimmed === "" ? 0 : parts.length}`);
  return { text, pattern: FIELDS.map((field, i) => parts[i]!.split(",").map((item) => normalize(field, item, fault)).join(",")).join(" ") };
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

/** Throws "Invalid" for what is not an IANA time zone. */
export const checkTimeZone = (timeZone: string): void => {
  try {
    Intl.DateTimeFormat("en", { timeZone });
  } catch {
    throw new GantryError("Invalid", `${JSON.stringify(timeZone)} is not a time zone: expected a name of the IANA time zone database such as "Europe/Berlin" or "Etc/UTC"`);
  }
};

const calendars = new Map<string, Cron>();
const MAX_CALENDARS = 1000;

const calendarOf = ({ pattern }: CronSchedule, timeZone: string | undefined): Cron => {
  const key = `${timeZone ?? ""} ${pattern}`;
  let calendar = calendars.get(key);
  if (!calendar) {
    if (timeZone !== undefined) checkTimeZone(timeZone);
    if (calendars.size >= MAX_CALENDARS) calendars.delete(calendars.keys().next().value!);
    // Without a function it starts no timer; our Clock keeps time.
    calendars.set(key, (calendar = new Cron(pattern, { mode: "5-part", ...(timeZone !== undefined && { timezone: timeZone }) })));
  }
  return calendar;
};

/**
 * The first instant after `afterMs` (epoch ms); undefined when there is none (February 31st). Without a time zone that of this
 * process counts, as upstream. A time that daylight saving skips runs when the gap ends; one that comes twice runs once.
 */
export const nextAfter = (schedule: CronSchedule, afterMs: number, timeZone?: string): number | undefined =>
  calendarOf(schedule, timeZone).nextRun(new Date(afterMs))?.getTime();

/** The last instant at or before `atMs`. */
export const latestAt = (schedule: CronSchedule, atMs: number, timeZone?: string): number | undefined => {
  // Croner looks strictly before, to the second.
  const [before] = calendarOf(schedule, timeZone).previousRuns(1, new Date(Math.floor(atMs / 1000) * 1000 + 1000));
  return before?.getTime();
};
