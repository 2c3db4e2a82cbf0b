// How far after its tick each container of each run started: as text for a terminal, and as an SVG. Pure.
import type { Job, Pod } from "../base/kube/types.gen.ts";
import { startedAfterMs } from "../base/kube/staging.ts";

export interface Run {
  readonly job: string;
  readonly tickMs: number;
  /** Sorted, ms after the tick. */
  readonly startsMs: readonly number[];
  /** Pods that have not started. */
  readonly waiting: number;
  /** false: Kubernetes' times, whole seconds; the run was not staged. */
  readonly exact: boolean;
}

const SCHEDULED_AT = "batch.kubernetes.io/cronjob-scheduled-timestamp";

const plainStart = (pod: Pod, tickMs: number): number | undefined => {
  const [state] = (pod.status?.containerStatuses ?? []).map((c) => c.state);
  const at = state?.running?.startedAt ?? state?.terminated?.startedAt;
  return at === undefined ? undefined : Date.parse(at) - tickMs;
};

/** The runs of which there are pods, the oldest first. */
export const runsOf = (jobs: readonly Job[], pods: readonly Pod[]): readonly Run[] => jobs.flatMap((job) => {
  const tickMs = Date.parse(job.metadata.annotations?.[SCHEDULED_AT] ?? "");
  const own = pods.filter((p) => p.metadata.ownerReferences?.some((r) => r.uid === job.metadata.uid));
  if (Number.isNaN(tickMs) || own.length === 0) return [];
  const exact = own.some((p) => startedAfterMs(p) !== undefined);
  const startsMs = own.flatMap((p) => (exact ? startedAfterMs(p) : plainStart(p, tickMs)) ?? []).sort((a, b) => a - b);
  return [{ job: job.metadata.name ?? "", tickMs, startsMs, waiting: own.length - startsMs.length, exact }];
}).sort((a, b) => a.tickMs - b.tickMs);

/** A round number at or above. */
const roundUp = (ms: number): number => {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, ms)));
  return [1, 2, 5, 10].map((n) => n * power).find((n) => n >= ms)!;
};

const scaleOf = (runs: readonly Run[]): number => roundUp(Math.max(10, ...runs.flatMap((r) => r.startsMs)));
export const showMs = (ms: number): string => (Math.abs(ms) < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(ms % 1000 === 0 ? 0 : 2)} s`);
const at = (sorted: readonly number[], share: number): number | undefined => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
const utc = (ms: number): string => new Date(ms).toISOString().replace("T", " ").replace(/\.000Z$/, "Z");

const BARS = " \u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588";
const WIDTH = 40;

const strip = ({ startsMs }: Run, scaleMs: number): string => {
  const counts = Array.from({ length: WIDTH }, () => 0);
  for (const ms of startsMs) counts[Math.min(WIDTH - 1, Math.max(0, Math.floor((ms / scaleMs) * WIDTH)))]!++;
  const most = Math.max(...counts, 1);
  return counts.map((n) => BARS[n === 0 ? 0 : Math.max(1, Math.round((n / most) * (BARS.length - 1)))]!).join("");
};

export const renderText = (name: string, runs: readonly Run[]): string => {
  const scaleMs = scaleOf(runs);
  const header = ["TICK", "STARTED", "FIRST", "MEDIAN", "LAST", `|0${showMs(scaleMs).padStart(WIDTH - 1)}|`];
  const rows = runs.map((run) => [
    utc(run.tickMs), `${run.startsMs.length}/${run.startsMs.length + run.waiting}`,
    ...[0, 0.5, 1].map((share) => (run.startsMs.length === 0 ? "-" : `${showMs(at(run.startsMs, share)!)}${run.exact ? "" : " (s)"}`)), `|${strip(run, scaleMs)}|`,
  ]);
  const widths = header.map((_, i) => Math.max(...[header, ...rows].map((row) => row[i]!.length)));
  const lines = [header, ...rows].map((row) => row.map((cell, i) => cell.padEnd(widths[i]!)).join("  ").trimEnd());
  const coarse = runs.some((r) => !r.exact) ? ["", "(s): not staged, known to the second only."] : [];
  return [`Runs of ${name}: how long after the tick their containers started`, "", ...lines, ...coarse].join("\n");
};

const escape = (text: string): string => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");

const [LEFT, PLOT, TOP, ROW] = [184, 560, 92, 40] as const;
/** Right edges of the columns behind the plot. */
const COLUMNS = { started: LEFT + PLOT + 84, median: LEFT + PLOT + 158, last: LEFT + PLOT + 232 } as const;
const SVG_WIDTH = COLUMNS.last + 20;
const RADIUS = 2.5;
/** Dots whose centres lie in one such strip are stacked. */
const STRIP = 2 * RADIUS;
/** Colours by class, light and dark: paper, text, faint text, grid, the tick's line, a dot, one that came early. */
const STYLE = [
  ".paper{fill:#fff}.ink{fill:#1f2328}.faint{fill:#656d76}.grid{stroke:#e2e6ea}.tick{stroke:#656d76;stroke-width:1.5}.dot{fill:#2a78b5}.coarse{fill:none;stroke:#2a78b5}.early,.missing{fill:#c9352b}.missing{font-weight:bold}",
  "@media (prefers-color-scheme:dark){.paper{fill:#15191f}.ink{fill:#e6e9ed}.faint{fill:#98a1ab}.grid{stroke:#2c333c}.tick{stroke:#98a1ab}.dot{fill:#5aa9e6}.coarse{stroke:#5aa9e6}.early,.missing{fill:#ff7b72}}",
] as const;

/** One unit for the whole axis: "7.5 s" beside "0 s", never "0 ms" beside "10 s". */
const axisText = (ms: number, scaleMs: number): string => (scaleMs < 1000 ? `${Number(ms.toFixed(1))} ms` : `${Number((ms / 1000).toFixed(2))} s`);

const svgText = (x: number | string, y: number, text: string, { kind = "ink", anchor = "start", more = "" }: { kind?: string; anchor?: "start" | "middle" | "end"; more?: string } = {}): string =>
  `<text x="${x}" y="${y}" class="${kind}" text-anchor="${anchor}"${more}>${escape(text)}</text>`;

/** Offsets from the row's middle that keep dots at nearly the same place apart: the first in the middle, the others by turns above and below. */
const stacked = (places: readonly number[]): readonly number[] => {
  const height = new Map<number, number>();
  const stripOf = (x: number): number => Math.floor(x / STRIP);
  for (const x of places) height.set(stripOf(x), (height.get(stripOf(x)) ?? 0) + 1);
  const seen = new Map<number, number>();
  return places.map((x) => {
    const strip = stripOf(x);
    const nth = seen.get(strip) ?? 0;
    seen.set(strip, nth + 1);
    // Many are drawn closer, so that they stay in their row.
    const step = Math.min(2 * RADIUS, (ROW - 10) / Math.max(1, height.get(strip)! - 1));
    return (nth % 2 === 1 ? -1 : 1) * Math.ceil(nth / 2) * step;
  });
};

const svgRow = (run: Run, middle: number, placeOf: (ms: number) => number): string => {
  const { startsMs, waiting, exact } = run;
  const places = startsMs.map(placeOf);
  const offsets = stacked(places);
  const dots = startsMs.map((ms, n) => `<circle cx="${places[n]!.toFixed(1)}" cy="${(middle + offsets[n]!).toFixed(1)}" r="${RADIUS}" class="${ms < 0 ? "early" : exact ? "dot" : "coarse"}" fill-opacity="0.7"/>`).join("");
  const shown = (share: number): string => (startsMs.length === 0 ? "–" : showMs(at(startsMs, share)!));
  const y = middle + 4;
  return [
    svgText(LEFT - 16, y, utc(run.tickMs), { anchor: "end" }), dots,
    svgText(COLUMNS.started, y, `${startsMs.length} of ${startsMs.length + waiting}`, { anchor: "end", kind: waiting > 0 ? "missing" : "ink" }),
    svgText(COLUMNS.median, y, shown(0.5), { anchor: "end" }), svgText(COLUMNS.last, y, shown(1), { anchor: "end" }),
  ].join("");
};

/** One line a run, one dot a container; light or dark as the viewer is. */
export const renderSvg = (name: string, runs: readonly Run[]): string => {
  const scaleMs = scaleOf(runs);
  const bottom = TOP + ROW * runs.length;
  const height = bottom + 84;
  const placeOf = (ms: number): number => LEFT + (Math.min(Math.max(ms, 0), scaleMs) / scaleMs) * PLOT;
  const axis = [0, 0.25, 0.5, 0.75, 1].map((share) => {
    const x = placeOf(share * scaleMs).toFixed(1);
    return `<line x1="${x}" y1="${TOP - 6}" x2="${x}" y2="${bottom + 4}" class="${share === 0 ? "tick" : "grid"}"/>${svgText(x, bottom + 20, axisText(share * scaleMs, scaleMs), { kind: "faint", anchor: "middle" })}`;
  });
  const heads = [
    svgText(LEFT - 16, TOP - 14, "tick (UTC)", { kind: "faint", anchor: "end" }),
    ...Object.entries(COLUMNS).map(([title, x]) => svgText(x, TOP - 14, title, { kind: "faint", anchor: "end" })),
  ];
  const isEarly = runs.some((r) => r.startsMs.some((ms) => ms < 0));
  const kinds = [["dot", "a container"], ...(runs.some((r) => !r.exact) ? [["coarse", "not staged: known to the second only"]] : []), ...(isEarly ? [["early", "before its tick"]] : [])] as [string, string][];
  let legendX: number = LEFT;
  const legend = kinds.map(([kind, text]) => {
    const drawn = `<circle cx="${legendX + 4}" cy="${bottom + 61}" r="${RADIUS + 0.5}" class="${kind}"/>${svgText(legendX + 14, bottom + 65, text, { kind: "faint" })}`;
    legendX += 44 + text.length * 6.5;
    return drawn;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${SVG_WIDTH} ${height}" width="${SVG_WIDTH}" height="${height}" font-family="system-ui, 'DejaVu Sans', sans-serif" font-size="12">`,
    `<title>Runs of ${escape(name)}: start of each container after its tick</title>`, "<style>", ...STYLE, "</style>", '<rect width="100%" height="100%" class="paper"/>',
    svgText(20, 32, name, { more: ' font-size="17" font-weight="bold"' }), svgText(20, 52, "How long after each tick its containers started", { kind: "faint" }), ...heads, ...axis,
    svgText(LEFT + PLOT / 2, bottom + 38, "after the tick", { kind: "faint", anchor: "middle" }), ...runs.map((run, i) => svgRow(run, TOP + ROW * i + ROW / 2, placeOf)), ...legend, "</svg>", "",
  ].join("\n");
};
