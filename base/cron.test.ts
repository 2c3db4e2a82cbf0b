import test from "ava";
import { latestAt, nextAfter, parseCron } from "./cron.ts";

const at = (text: string): number => Date.parse(text);
const iso = (ms: number | undefined): string | undefined => (ms === undefined ? undefined : new Date(ms).toISOString().slice(0, 16));
const UTC = "Etc/UTC";

for (const [text, after, next] of [
  ["* * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:01"],
  ["* * * * *", "2026-01-01T00:00:59.999Z", "2026-01-01T00:01"],
  ["*/15 * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:15"],
  ["5/15 * * * *", "2026-01-01T00:06:00Z", "2026-01-01T00:20"],
  ["*/90 * * * *", "2026-01-01T00:00:00Z", "2026-01-01T01:00"],
  ["0,30 9-17/4 * * *", "2026-01-01T09:30:00Z", "2026-01-01T13:00"],
  ["0 0 * jan-mar MON", "2026-01-01T00:00:00Z", "2026-01-05T00:00"],
  ["0 0 * * 7", "2026-01-01T00:00:00Z", "2026-01-04T00:00"],
  ["0 0 * * fri-7", "2026-01-02T00:00:00Z", "2026-01-03T00:00"],
  ["0 0 ? * ?", "2026-01-01T00:00:00Z", "2026-01-02T00:00"],
  ["0 0 13 * 5", "2026-01-01T00:00:00Z", "2026-01-02T00:00"],
  ["0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00"],
  ["*/20 5 0 * * *", "2026-01-01T00:05:40Z", "2026-01-02T00:05"],
  ["@hourly", "2026-01-01T00:00:00Z", "2026-01-01T01:00"],
  ["@midnight", "2026-01-01T00:00:00Z", "2026-01-02T00:00"],
  ["@weekly", "2026-01-01T00:00:00Z", "2026-01-04T00:00"],
  ["@annually", "2026-01-01T00:00:00Z", "2027-01-01T00:00"],
] as const) {
  test(`after ${after} "${text}" is next due at ${next}`, (t) => t.is(iso(nextAfter(parseCron(text), at(after), UTC)), next));
}

for (const [text, fault] of [
  ["* * * *", /expected five fields \(minute, hour, .*\), found 4/],
  ["", /found 0/],
  ["0 0 0 0 * * *", /a sixth, in front, is the second\), found 7/],
  ["60 * * * * *", /second "60": 60 is not between 0 and 59/],
  ["60 * * * *", /minute "60": 60 is not between 0 and 59/],
  ["* * 0 * *", /day of month "0": 0 is not between 1 and 31/],
  ["* * * foo *", /month "foo": expected .* a name \(jan, feb/],
  ["* 22-2 * * *", /hour "22-2": the range ends \(2\) before it begins \(22\)/],
  ["*/0 * * * *", /minute "\*\/0": the step "0" is not a whole number/],
  ["1-2-3 * * * *", /a range has two ends/],
  ["1/2/3 * * * *", /only one \//],
  ["0 0 L * *", /day of month "L"/],
  ["-1 * * * *", /minute "-1"/],
  ["@every 1h", /expected one of @yearly/],
  ["TZ=UTC 0 0 * * *", /timeZone/],
] as const) {
  test(`${JSON.stringify(text)} is refused with a reason`, (t) => void t.throws(() => parseCron(text), { code: "Invalid", message: fault }));
}

test("a day that never comes has no next time, and none before", (t) => {
  const never = parseCron("0 0 31 2 *");
  t.is(nextAfter(never, at("2026-01-01T00:00:00Z"), UTC), undefined);
  t.is(latestAt(never, at("2026-01-01T00:00:00Z"), UTC), undefined);
});

test("times are those of the time zone, also over a change to daylight saving and back", (t) => {
  const daily = parseCron("30 2 * * *");
  const next = (after: string) => iso(nextAfter(daily, at(after), "Europe/Berlin"));
  t.is(next("2026-01-10T00:00:00Z"), "2026-01-10T01:30");
  // 02:30 doesn't exist on March 29th: it runs when the gap ends, at 03:00.
  t.is(next("2026-03-28T01:30:00Z"), "2026-03-29T01:00");
  t.is(next("2026-03-29T01:00:00Z"), "2026-03-30T00:30");
  // 02:30 comes twice on October 25th: it runs once.
  t.is(next("2026-10-24T00:30:00Z"), "2026-10-25T00:30");
  t.is(next("2026-10-25T00:30:00Z"), "2026-10-26T01:30");
  t.throws(() => nextAfter(daily, 0, "Mars/Olympus"), { code: "Invalid", message: /"Mars\/Olympus" is not a time zone/ });
});

test("the latest time is at or before the given one, to the millisecond", (t) => {
  const quarter = parseCron("*/15 * * * *");
  t.is(latestAt(quarter, at("2026-01-01T00:15:00.000Z"), UTC), at("2026-01-01T00:15:00Z"));
  t.is(latestAt(quarter, at("2026-01-01T00:15:00.001Z"), UTC), at("2026-01-01T00:15:00Z"));
  t.is(latestAt(quarter, at("2026-01-01T00:14:59.999Z"), UTC), at("2026-01-01T00:00:00Z"));
});

test("walking forward and looking back agree, and every time matches a naive check of the fields (seeded)", (t) => {
  let state = 7;
  const random = (n: number): number => (state = (state * 48271) % 2147483647) % n;
  for (let i = 0; i < 60; i++) {
    const minutes = [...new Set([random(60), random(60)])];
    const hours = [...new Set([random(24), random(24), random(24)])];
    const day = random(7);
    const schedule = parseCron(`${minutes.join(",")} ${hours.join(",")} * * ${day}`);
    let ms = at("2026-01-01T00:00:00Z") + random(1e6) * 60_000;
    for (let k = 0; k < 5; k++) {
      const next = nextAfter(schedule, ms, UTC)!;
      const date = new Date(next);
      t.true(next > ms && minutes.includes(date.getUTCMinutes()) && hours.includes(date.getUTCHours()) && date.getUTCDay() === day);
      t.is(latestAt(schedule, next, UTC), next);
      t.true((latestAt(schedule, next - 1, UTC) ?? 0) <= ms);
      ms = next;
    }
  }
});
