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

const [LEFT, RIGHT, TOP, ROW, PLOT] = [190, 150, 64, 34, 560] as const;

/** One line a run, one dot a container; readable on light and dark. */
export const renderSvg = (name: string, runs: readonly Run[]): string => {
  const scaleMs = scaleOf(runs);
  const height = TOP + ROW * runs.length + 40;
  const x = (ms: number): string => (LEFT + (Math.min(Math.max(ms, 0), scaleMs) / scaleMs) * PLOT).toFixed(1);
  const bottom = TOP + ROW * runs.length;
  const grid = [0, 0.25, 0.5, 0.75, 1].map((share) => `<line x1="${x(share * scaleMs)}" y1="${TOP - 8}" x2="${x(share * scaleMs)}" y2="${bottom}" stroke="#ccc"/><text x="${x(share * scaleMs)}" y="${bottom + 18}" text-anchor="middle">${showMs(share * scaleMs)}</text>`);
  const rows = runs.map((run, i) => {
    const y = TOP + ROW * i + ROW / 2;
    const dots = run.startsMs.map((ms, n) => `<circle cx="${x(ms)}" cy="${(y + ((n % 5) - 2) * 4).toFixed(1)}" r="2.5" fill="${ms < 0 ? "#c00" : "#27a"}" fill-opacity="0.6"/>`).join("");
    const last = run.startsMs.at(-1);
    return `<text x="${LEFT - 12}" y="${y + 4}" text-anchor="end">${escape(utc(run.tickMs))}</text>${dots}<text x="${LEFT + PLOT + 12}" y="${y + 4}">${run.startsMs.length}/${run.startsMs.length + run.waiting}, last ${last === undefined ? "-" : showMs(last)}</text>`;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${LEFT + PLOT + RIGHT} ${height}" width="${LEFT + PLOT + RIGHT}" height="${height}" font-family="sans-serif" font-size="12" fill="#333">`,
    `<title>Runs of ${escape(name)}: start of each container after its tick</title>`, '<rect width="100%" height="100%" fill="#fff"/>',
    `<text x="16" y="28" font-size="16" font-weight="bold">${escape(name)}: start of each container after its tick</text>`, ...grid, ...rows, "</svg>", "",
  ].join("\n");
};
