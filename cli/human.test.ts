import test from "ava";
import { humanDuration, humanSize } from "./human.ts";

test("sizes have up to three digits and decimal units", (t) => {
  t.deepEqual([0, 999, 1000, 4_266_000, 130_123_456, 1_234_567_890].map(humanSize), ["0B", "999B", "1kB", "4.27MB", "130MB", "1.23GB"]);
});

test("durations are docker's words", (t) => {
  const [second, minute, hour, day] = [1000, 60_000, 3_600_000, 86_400_000];
  t.deepEqual([0, second, 45 * second, 70 * second, 5 * minute, 65 * minute, 5 * hour, 3 * day, 20 * day, 90 * day, 800 * day].map(humanDuration),
    ["Less than a second", "1 second", "45 seconds", "About a minute", "5 minutes", "About an hour", "5 hours", "3 days", "2 weeks", "3 months", "2 years"]);
});
