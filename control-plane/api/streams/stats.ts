// Owns GET /apis/gantry.io/v1/namespaces/NS/pods/NAME/stats[?follow=true&period=SECONDS]: what a pod and its containers use, a line of JSON for
// each sample, with what `docker stats` shows. Counters go on from the start of the container; rates are the reader's to make, or `cpuNanoCores`.
import { GantryError } from "../../../base/errors.ts";
import { newId } from "../../../base/ids.ts";
import type { ContainerUsage, PodUsage, StatsSample } from "../../../proto/gen/gantry/v1/agent.ts";
import type { NodeStreams } from "../../state/node-streams.ts";
import type { ApiContext } from "../context.ts";
import type { Exchange } from "../exchange.ts";
import { isTrue } from "../router.ts";
import { findPodIn } from "./pod-target.ts";

const DEFAULT_PERIOD_MS = 1000;
const LEAST_PERIOD_MS = 200;

const periodOf = (query: URLSearchParams): number => {
  const text = query.get("period") ?? "";
  if (text === "") return DEFAULT_PERIOD_MS;
  const ms = Number(text) * 1000;
  if (!(ms >= LEAST_PERIOD_MS && ms <= 3_600_000)) throw new GantryError("BadRequest", `period: ${JSON.stringify(text)} must be a number of seconds, from ${LEAST_PERIOD_MS / 1000} to 3600`);
  return Math.round(ms);
};

const sum = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0);

const common = (used: PodUsage | ContainerUsage, nodeMemoryBytes: number): object => ({
  cpuNanos: used.cpu?.totalNs ?? 0, cpuNanoCores: used.cpu?.nanoCores ?? 0,
  memoryBytes: used.memory?.workingSetBytes ?? 0, memoryLimitBytes: used.memory?.limitBytes || nodeMemoryBytes, pids: used.pids,
});

/** Memory without a limit is limited by the node's, as docker shows it. */
export const statsLine = (sample: StatsSample, used: PodUsage, node: string): object => {
  const memory = sample.node?.memory;
  const nodeMemoryBytes = (memory?.workingSetBytes ?? 0) + (memory?.availableBytes ?? 0);
  return {
    timestamp: new Date(sample.atMs).toISOString(), namespace: used.namespace, pod: used.name, node, ...common(used, nodeMemoryBytes),
    networkRx: used.network?.rxBytes ?? 0, networkTx: used.network?.txBytes ?? 0,
    blockRead: sum(used.containers.map((c) => c.readBytes)), blockWrite: sum(used.containers.map((c) => c.writeBytes)),
    containers: used.containers.map((c) => ({ name: c.name, id: c.id, ...common(c, nodeMemoryBytes), blockRead: c.readBytes, blockWrite: c.writeBytes, oomKills: c.oomKills, logBytes: c.logBytes, pressure: c.pressure })),
  };
};

export const serveStats = async (exchange: Exchange, context: ApiContext, streams: NodeStreams): Promise<void> => {
  const { query, signal, info } = exchange;
  const periodMs = isTrue(query.get("follow")) ? periodOf(query) : 0;
  const pod = await findPodIn(context, info.namespace, info.name);
  const node = pod.spec?.nodeName ?? "";
  if (node === "" || pod.status?.phase !== "Running") throw new GantryError("BadRequest", `pod ${info.namespace}/${info.name} is ${pod.status?.phase ?? "Pending"}: only a running pod can be measured`);
  await using stream = await streams.open(node, { id: newId(), kind: { $case: "stats", value: { podUids: [pod.metadata.uid!], periodMs, storage: false } } }, signal);
  const sink = exchange.open(200, "application/x-ndjson");
  try {
    for await (const { frame } of stream.frames) {
      if (frame?.$case === "result") break;
      if (frame?.$case !== "stats") continue;
      for (const used of frame.value.pods) if (!sink.write(`${JSON.stringify(statsLine(frame.value, used, node))}\n`)) await sink.ready();
    }
  } catch (error) {
    if (!signal.aborted) throw error; // otherwise it broke because the reader is gone
  }
  sink.end();
};
