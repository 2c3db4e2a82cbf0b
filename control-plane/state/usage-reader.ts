// What pods and nodes use now, asked of the nodes' agents when somebody asks: the API (metrics.k8s.io) and the autoscaler. Nothing is stored
// and nothing measured in between.
import type { Clock } from "../../base/clock.ts";
import { within } from "../../base/deadline.ts";
import { GantryError, describeError } from "../../base/errors.ts";
import { newId } from "../../base/ids.ts";
import type { Logger } from "../../base/logger.ts";
import type { PodUsage, StatsSample } from "../../proto/gen/gantry/v1/agent.ts";
import type { NodeStreams } from "./node-streams.ts";

/** `kubectl top` in a loop, or several clients: one sample serves whoever comes soon after. */
const SHARED_MS = 2000;
/** A node that hangs holds up nobody for longer; a first reading takes a second. */
const TIMEOUT_MS = 10_000;

/** Samples of whole nodes; one at a time per node. Who asks first lends its signal, so each kind of asker has a reader of its own. */
export class UsageReader {
  readonly #streams: NodeStreams;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #recent = new Map<string, { readonly atMs: number; readonly sample: Promise<StatsSample> }>();

  constructor(streams: NodeStreams, clock: Clock, logger: Logger) {
    this.#streams = streams;
    this.#clock = clock;
    this.#logger = logger;
  }

  /** Of those nodes that answer. */
  async of(nodeNames: readonly string[], signal: AbortSignal): Promise<ReadonlyMap<string, StatsSample>> {
    const connected = new Set(this.#streams.connectedNodes());
    const asked = nodeNames.filter((name) => connected.has(name));
    const answers = await Promise.allSettled(asked.map((name) => this.#one(name, signal)));
    return new Map(answers.flatMap((answer, i) => {
      if (answer.status === "fulfilled") return [[asked[i]!, answer.value] as const];
      this.#logger.debug("a node did not tell its usage", { node: asked[i], err: describeError(answer.reason) });
      return [];
    }));
  }

  #one(nodeName: string, signal: AbortSignal): Promise<StatsSample> {
    const atMs = this.#clock.monotonicMs();
    for (const [name, { atMs: then }] of this.#recent) if (atMs - then > SHARED_MS) this.#recent.delete(name);
    const recent = this.#recent.get(nodeName);
    if (recent) return recent.sample;
    const sample = this.#read(nodeName, signal);
    this.#recent.set(nodeName, { atMs, sample });
    // Whoever asks next tries anew.
    sample.catch(() => this.#recent.delete(nodeName));
    return sample;
  }

  #read(nodeName: string, signal: AbortSignal): Promise<StatsSample> {
    return within(this.#clock, TIMEOUT_MS, `node ${nodeName} did not tell its usage within ${TIMEOUT_MS / 1000} s`, signal, async (end) => {
      await using stream = await this.#streams.open(nodeName, { id: newId(), kind: { $case: "stats", value: { podUids: [], periodMs: 0, storage: false } } }, end);
      for await (const { frame } of stream.frames) if (frame?.$case === "stats") return frame.value;
      throw new GantryError("ServiceUnavailable", `node ${nodeName} sent no sample`);
    });
  }
}

/** By pod uid; made once for each sample, however many ask. */
const indexed = new WeakMap<StatsSample, ReadonlyMap<string, PodUsage>>();

export const usageByPod = (sample: StatsSample): ReadonlyMap<string, PodUsage> => {
  let byUid = indexed.get(sample);
  if (!byUid) indexed.set(sample, (byUid = new Map(sample.pods.map((p) => [p.uid, p]))));
  return byUid;
};
