// Prometheus' text format, as far as an autoscaler asks: the samples of a few names. Pure.
// https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format; OpenMetrics' additions (exemplars, units) are skipped.
import { GantryError } from "../../../base/errors.ts";
import { selectorMatches } from "../../../base/kube/labels.ts";
import type { Labels, Selector } from "../../../base/kube/labels.ts";

export interface Sample {
  readonly labels: Labels;
  /** Any double: NaN and infinities too. */
  readonly value: number;
}

export interface Metric {
  readonly samples: readonly Sample[];
  /** It only ever rises, so only its rate says anything. */
  readonly isCounter: boolean;
}

const COUNTS = /_(?:total|count|sum|bucket)$/;
const TYPE = /^#\s*TYPE\s+(\S+)\s+(\S+)/;
const NAME = /[a-zA-Z_:][a-zA-Z0-9_:]*/y;
const LABEL = /\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*(?:,\s*)?/y;
const VALUE = /\s*(\S+)/y;
const ESCAPES: Readonly<Record<string, string>> = { n: "\n", "\\": "\\", '"': '"' };

const numberOf = (text: string): number | undefined => {
  const infinite = /^([+-]?)Inf(?:inity)?$/i.exec(text);
  if (infinite) return infinite[1] === "-" ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
  if (/^nan$/i.test(text)) return Number.NaN;
  const value = Number(text);
  return Number.isNaN(value) ? undefined : value;
};

/** The rest of a line after the metric's name; undefined when it can't be read. */
const sampleIn = (line: string, from: number): Sample | undefined => {
  const labels: Record<string, string> = {};
  let at = from;
  while (line[at] === " " || line[at] === "\t") at++;
  if (line[at] === "{") {
    at++;
    for (;;) {
      LABEL.lastIndex = at;
      const match = LABEL.exec(line);
      if (!match) break;
      labels[match[1]!] = match[2]!.replace(/\\(.)/g, (_, c: string) => ESCAPES[c] ?? `\\${c}`);
      at = LABEL.lastIndex;
    }
    while (line[at] === " " || line[at] === "\t") at++;
    if (line[at] !== "}") return undefined;
    at++;
  }
  VALUE.lastIndex = at;
  const value = numberOf(VALUE.exec(line)?.[1] ?? "x");
  return value === undefined ? undefined : { labels, value };
};

/** Samples of the names, as far as they are there. BadRequest for a line about one of them that can't be read. */
export const readMetrics = (text: string, names: ReadonlySet<string>): ReadonlyMap<string, Metric> => {
  const types = new Map<string, string>();
  const samples = new Map<string, Sample[]>();
  let lineNumber = 0;
  for (const line of text.split("\n")) {
    lineNumber++;
    if (line.startsWith("#")) {
      const type = TYPE.exec(line);
      if (type) types.set(type[1]!, type[2]!);
      continue;
    }
    NAME.lastIndex = 0;
    const name = NAME.exec(line)?.[0] ?? "";
    if (!names.has(name)) continue;
    const sample = sampleIn(line.trimEnd(), name.length);
    if (!sample) throw new GantryError("BadRequest", `line ${lineNumber} can't be read: ${JSON.stringify(line.slice(0, 120))} is not NAME{LABEL="VALUE",...} NUMBER`);
    samples.set(name, [...(samples.get(name) ?? []), sample]);
  }
  return new Map(Array.from(samples, ([name, found]) => {
    // A family's type stands at its base name: x_bucket, x_sum and x_count are parts of the histogram x, x_total of OpenMetrics' counter x.
    const type = types.get(name) ?? (COUNTS.test(name) ? types.get(name.replace(COUNTS, "")) ?? "counter" : "untyped");
    return [name, { samples: found, isCounter: type === "counter" || ((type === "histogram" || type === "summary") && COUNTS.test(name)) }];
  }));
};

/** The sum of the samples whose labels match; NaN and infinities say nothing. undefined when none is left. */
export const valueOf = ({ samples }: Metric, selector: Selector): number | undefined => {
  const values = samples.filter((s) => Number.isFinite(s.value) && selectorMatches(selector, s.labels)).map((s) => s.value);
  return values.length === 0 ? undefined : values.reduce((a, b) => a + b, 0);
};
