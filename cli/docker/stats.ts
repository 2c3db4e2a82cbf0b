// `stats`: what containers use, as docker's live table. The rows are pure; the watching is below.
import { linesOf, type ApiClient } from "../api-client.ts";
import type { Pod } from "../../base/kube/types.gen.ts";
import { humanSize } from "../human.ts";
import { shortId } from "./container-rows.ts";
import { binarySize } from "./sizes.ts";

/** A line of GET /apis/gantry.io/v1/namespaces/NS/pods/NAME/stats. */
export interface StatsLine {
  readonly pod: string;
  readonly networkRx: number;
  readonly networkTx: number;
  readonly containers: readonly {
    readonly name: string;
    readonly id: string;
    readonly cpuNanoCores: number;
    readonly memoryBytes: number;
    readonly memoryLimitBytes: number;
    readonly pids: number;
    readonly blockRead: number;
    readonly blockWrite: number;
  }[];
}

export const STATS_FORMAT = {
  headings: { ID: "CONTAINER ID", Container: "CONTAINER", Name: "NAME", CPUPerc: "CPU %", MemUsage: "MEM USAGE / LIMIT", MemPerc: "MEM %", NetIO: "NET I/O", BlockIO: "BLOCK I/O", PIDs: "PIDS", Node: "NODE" },
  table: "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
};

const percent = (part: number, whole: number): string => `${(whole > 0 ? (part / whole) * 100 : 0).toFixed(2)}%`;

/** A pod's line as a row for each container; 100 % of CPU is one core. The network is the pod's, so that its containers share the numbers. */
export const statsRows = (line: StatsLine, node: string): readonly Record<string, string>[] =>
  line.containers.map((c) => ({
    ID: shortId(c.id.replace(/^[^:]*:\/\//, "")), Container: line.pod, Name: line.containers.length > 1 ? `${line.pod}/${c.name}` : line.pod, CPUPerc: percent(c.cpuNanoCores, 1e9), MemUsage: `${binarySize(c.memoryBytes)} / ${binarySize(c.memoryLimitBytes)}`,
    MemPerc: percent(c.memoryBytes, c.memoryLimitBytes), NetIO: `${humanSize(line.networkRx)} / ${humanSize(line.networkTx)}`, BlockIO: `${humanSize(c.blockRead)} / ${humanSize(c.blockWrite)}`, PIDs: String(c.pids), Node: node,
  }));

const statsPath = (pod: Pod, query: string): string => `/apis/gantry.io/v1/namespaces/${encodeURIComponent(pod.metadata.namespace!)}/pods/${encodeURIComponent(pod.metadata.name!)}/stats${query}`;

/** Two samples: CPU time needs a span to be a rate. */
const SAMPLES = 2;

/** One pod's newest line of a short look. */
export const statsNow = async (client: ApiClient, pod: Pod): Promise<StatsLine | undefined> => {
  const end = new AbortController();
  let newest: StatsLine | undefined;
  let count = 0;
  try {
    for await (const text of linesOf(await client.send("GET", statsPath(pod, "?follow=true&period=0.5"), { signal: end.signal }))) {
      newest = JSON.parse(text) as StatsLine;
      if (++count >= SAMPLES) break;
    }
  } finally {
    end.abort();
  }
  return newest;
};

/** Each line as it comes, until the pod ends or the signal is aborted. */
export const followStats = async (client: ApiClient, pod: Pod, signal: AbortSignal, onLine: (line: StatsLine) => void): Promise<void> => {
  try {
    for await (const text of linesOf(await client.send("GET", statsPath(pod, "?follow=true"), { signal }))) onLine(JSON.parse(text) as StatsLine);
  } catch (error) {
    if (!signal.aborted) throw error;
  }
};
