import test from "ava";
import { latestAt, nextAfter, parseCron } from "./cron.ts";
import { TimeZone } from "./time-zone.ts";

const at = (text: string): number => Date.parse(text);
const HOUR = 3_600_000;

test("a skipped local time is the instant of the skip; a doubled one its first", (t) => {
  const berlin = TimeZone.of("Europe/Berlin");
  t.is(berlin.instantOf(at("2026-03-29T01:59:59Z")), at("2026-03-29T00:59:59Z"));
  for (const wall of ["02:00", "02:30", "03:00"]) t.is(berlin.instantOf(at(`2026-03-29T${wall}:00Z`)), at("2026-03-29T01:00:00Z"), wall);
  t.is(berlin.instantOf(at("2026-10-25T02:30:00Z")), at("2026-10-25T00:30:00Z"));
  t.is(berlin.instantOf(at("2026-10-25T03:00:00Z")), at("2026-10-25T02:00:00Z"));
  // Half an hour only; and a zone that left out a whole day.
  t.is(TimeZone.of("Australia/Lord_Howe").instantOf(at("2026-10-04T02:15:00Z")), at("2026-10-03T15:30:00Z"));
  t.is(TimeZone.of("Pacific/Apia").instantOf(at("2011-12-30T12:00:00Z")), at("2011-12-30T10:00:00Z"));
  t.throws(() => TimeZone.of("Mars/Olympus"), { code: "Invalid", message: /"Mars\/Olympus" is not a time zone/ });
});

/** By brute force, and by the rule's own words: a scheduled local time runs at the first instant at which clocks show it or a later one. */
const expected = (zone: string, fromMs: number, toMs: number, isDue: (wall: Date) => boolean): number[] => {
  const format = new Intl.DateTimeFormat("sv-SE", { timeZone: zone, dateStyle: "short", timeStyle: "medium" });
  const wallAt = (ms: number): number => Date.parse(`${format.format(ms).replace(" ", "T")}Z`);
  const found = new Set<number>();
  let furthest = wallAt(fromMs - 1000);
  for (let ms = fromMs; ms <= toMs; ms += 60_000) {
    const wall = wallAt(ms);
    for (let w = furthest + 60_000 - (furthest % 60_000); w <= wall; w += 60_000) if (isDue(new Date(w))) found.add(ms);
    furthest = Math.max(furthest, wall);
  }
  return [...found];
};

test("over every change of clocks of 2026 and 2027 in a dozen zones: what brute force says, forwards and backwards (seeded)", (t) => {
  let state = 11;
  const random = (n: number): number => (state = (state * 48271) % 2147483647) % n;
  for (const zone of ["Europe/Berlin", "America/New_York", "America/Havana", "Australia/Lord_Howe", "Asia/Beirut", "Africa/Casablanca", "America/Santiago", "Pacific/Chatham", "Atlantic/Azores", "America/Nuuk", "Africa/Cairo", "Antarctica/Troll"]) {
    let changes = 0;
    for (let ms = at("2026-01-01T00:00:00Z"); ;) {
      const change = TimeZone.of(zone).transitionBetween(ms, at("2028-01-01T00:00:00Z"));
      if (!change) break;
      changes++;
      ms = change.atMs;
      const minutes = [0, random(60)];
      const hours = random(3) === 0 ? Array.from({ length: 24 }, (_, h) => h) : [0, 1, 2, 3, 23].filter(() => random(3) > 0);
      if (hours.length === 0) continue;
      const schedule = parseCron(`${minutes.join(",")} ${hours.join(",")} * * *`);
      const [from, to] = [ms - 5 * HOUR, ms + 5 * HOUR];
      const due = expected(zone, from, to, (wall) => minutes.includes(wall.getUTCMinutes()) && hours.includes(wall.getUTCHours()));
      const walked: number[] = [];
      for (let next = nextAfter(schedule, from - 1, zone)!; next <= to; next = nextAfter(schedule, next, zone)!) walked.push(next);
      t.deepEqual(walked, due, `${zone} around ${new Date(ms).toISOString()}: ${schedule.text}`);
      for (let k = 0; k < 20 && due.length > 0; k++) {
        const probe = due[0]! + random(to - due[0]!);
        t.is(latestAt(schedule, probe, zone), due.findLast((d) => d <= probe), `${zone} at ${new Date(probe).toISOString()}: ${schedule.text}`);
      }
    }
    t.true(changes >= 2, `${zone} changes its clocks`);
  }
});

test("each second of an hour that comes twice runs once, and the hour that is skipped costs one run", (t) => {
  const every = parseCron("*/10 * * * * *");
  t.is(nextAfter(every, at("2026-10-25T00:59:50Z"), "Europe/Berlin"), at("2026-10-25T02:00:00Z"));
  t.is(nextAfter(every, at("2026-10-25T01:20:00Z"), "Europe/Berlin"), at("2026-10-25T02:00:00Z"));
  t.is(latestAt(every, at("2026-10-25T01:20:00Z"), "Europe/Berlin"), at("2026-10-25T00:59:50Z"));
  t.is(nextAfter(every, at("2026-03-29T00:59:50Z"), "Europe/Berlin"), at("2026-03-29T01:00:00Z"));
  t.is(nextAfter(every, at("2026-03-29T01:00:00Z"), "Europe/Berlin"), at("2026-03-29T01:00:10Z"));
});
