// How long pods took to each stage, from the control plane's /metrics. Pure but for the one request.
import { text, type ApiClient } from "../../cli/api-client.ts";

export interface Stage {
  readonly stage: string;
  readonly meanMs: number;
  readonly p99Ms: number;
}

const METRIC = "gantry_pod_start_stage_seconds";

/** From the text format of Prometheus: one histogram with the label `stage`. */
export const parseStages = (metrics: string): readonly Stage[] => {
  const series = new Map<string, { buckets: { le: number; count: number }[]; sum: number; count: number }>();
  for (const match of metrics.matchAll(new RegExp(`^${METRIC}_(bucket|sum|count)\\{([^}]*)\\} (\\S+)$`, "gm"))) {
    const labels = Object.fromEntries([...match[2]!.matchAll(/(\w+)="([^"]*)"/g)].map((l) => [l[1]!, l[2]!]));
    const stage = labels["stage"] ?? "";
    const entry = series.get(stage) ?? { buckets: [], sum: 0, count: 0 };
    series.set(stage, entry);
    if (match[1] === "bucket") entry.buckets.push({ le: labels["le"] === "+Inf" ? Infinity : Number(labels["le"]), count: Number(match[3]) });
    else if (match[1] === "sum") entry.sum = Number(match[3]);
    else entry.count = Number(match[3]);
  }
  return [...series].filter(([, s]) => s.count > 0).map(([stage, s]) => ({
    stage, meanMs: (s.sum / s.count) * 1000, p99Ms: (s.buckets.sort((a, b) => a.le - b.le).find((b) => b.count >= 0.99 * s.count)?.le ?? Infinity) * 1000,
  }));
};

export const stagesOf = async (client: ApiClient): Promise<readonly Stage[]> => parseStages(await text(await client.send("GET", "/metrics", { accept: "*/*" })));
