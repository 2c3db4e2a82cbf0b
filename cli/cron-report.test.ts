import test from "ava";
import { STARTED_AT, startedAfterText } from "../base/kube/staging.ts";
import type { Job, Pod } from "../base/kube/types.gen.ts";
import { renderSvg, renderText, runsOf } from "./cron-report.ts";

const TICK = Date.UTC(2026, 0, 1);
const job = (name: string, tickMs: number): Job => ({
  apiVersion: "batch/v1", kind: "Job", metadata: { name, uid: `uid-${name}`, annotations: { "batch.kubernetes.io/cronjob-scheduled-timestamp": `${new Date(tickMs).toISOString().slice(0, 19)}Z` } },
});
const pod = (owner: string, status: NonNullable<Pod["status"]>): Pod =>
  ({ apiVersion: "v1", kind: "Pod", metadata: { name: "p", ownerReferences: [{ apiVersion: "batch/v1", kind: "Job", name: owner, uid: `uid-${owner}`, controller: true }] }, status });
const staged = (owner: string, afterMs: number): Pod => pod(owner, { conditions: [{ type: STARTED_AT, status: "True", message: startedAfterText(afterMs, TICK) }] });
const plain = (owner: string, at: string): Pod => pod(owner, { containerStatuses: [{ name: "c", image: "", imageID: "", ready: true, restartCount: 0, state: { running: { startedAt: at } } }] });

const RUNS = runsOf(
  [job("b", TICK + 60_000), job("a", TICK), job("none", TICK)],
  [staged("a", 44), staged("a", 31), staged("a", 160), pod("a", {}), plain("b", "2026-01-01T00:01:02Z")],
);

test("runs in order of their ticks, starts sorted, those that wait counted apart", (t) => {
  t.deepEqual(RUNS, [
    { job: "a", tickMs: TICK, startsMs: [31, 44, 160], waiting: 1, exact: true },
    { job: "b", tickMs: TICK + 60_000, startsMs: [2000], waiting: 0, exact: false },
  ]);
});

test("the text: one line a run on one scale", (t) => {
  const lines = renderText("midnight", RUNS).split("\n");
  t.regex(lines[2]!, /^TICK +STARTED +FIRST +MEDIAN +LAST +\|0 +2 s\|$/);
  t.regex(lines[3]!, /^2026-01-01 00:00:00Z +3\/4 +31 ms +44 ms +160 ms +\|\u2588 +\u2584? *\S* *\|$/u);
  t.regex(lines[4]!, /^2026-01-01 00:01:00Z +1\/1 +2 s \(s\) +2 s \(s\) +2 s \(s\) +\| +\u2588\|$/u);
  t.is(new Set(lines.slice(3, 5).map((l) => l.indexOf("|"))).size, 1);
});

test("the drawing: a dot for each start, at its place, and no name that breaks out of its text", (t) => {
  const svg = renderSvg('<b>"x"&', RUNS);
  t.is(svg.match(/<circle [^>]*fill-opacity/g)!.length, 4);
  t.true(svg.includes("&lt;b&gt;&quot;x&quot;&amp;"));
  t.false(svg.includes("<b>"));
  t.regex(svg, /<circle cx="744\.0"[^>]*class="coarse"/, "the last one at the end of the scale, known to the second only");
  t.regex(svg, />0 s<.*>0\.5 s<.*>2 s</s, "the axis has one unit");
  t.regex(svg, />3 of 4<.*>44 ms<.*>160 ms</s);
  t.true(svg.includes("prefers-color-scheme:dark"));
});

test("the drawing: a hundred that start at once stay in their row, apart; what came early is red", (t) => {
  const svg = renderSvg("burst", [{ job: "j", tickMs: TICK, startsMs: [-3, ...Array.from({ length: 100 }, () => 5)], waiting: 0, exact: true }]);
  const dots = [...svg.matchAll(/<circle cx="([\d.]+)" cy="([\d.]+)"[^>]*class="(\w+)" fill-opacity/g)].map(([, x, y, kind]) => ({ x, y: Number(y), kind }));
  t.is(dots.length, 101);
  t.is(dots[0]!.kind, "early");
  t.true(dots.every(({ y }) => y >= 92 && y <= 132));
  t.true(new Set(dots.map(({ x, y }) => `${x} ${y}`)).size > 90);
});
