// When each pod that is on its way up was first seen and sent to its node, and the histogram of where its time went. Memory only: pods that
// started while another process led are not measured.
import type { Clock } from "../../base/clock.ts";
import { PODS } from "../../base/kube/resources.ts";
import type { Metrics } from "../../base/metrics.ts";
import type { PodStatus } from "../../proto/gen/gantry/v1/agent.ts";
import type { WatchCache } from "../state/cache.ts";

/** Those that the agent tells (PodStatus.stages_ms), in the order in which a pod passes them. */
const AGENT_STAGES = ["accepted", "pulled", "sandboxed", "created", "started"] as const;

interface Start {
  readonly seenMs: number;
  sentMs?: number;
}

export class PodStarts implements Disposable {
  readonly #clock: Clock;
  readonly #starts = new Map<string, Start>();
  readonly #subscription: Disposable;
  readonly #stages;

  constructor({ cache, clock, metrics }: { readonly cache: WatchCache; readonly clock: Clock; readonly metrics: Metrics }) {
    this.#clock = clock;
    this.#stages = metrics.histogram("gantry_pod_start_stage_seconds",
      "Time that a pod took to each stage of its start from the one before: scheduled (since the pod was created; its node was sent to it), accepted, pulled, sandboxed, created, started (on the node), ready (the status that says so is stored). total is their sum.", ["stage"]);
    this.#subscription = cache.resource(PODS).subscribe(({ type, stored: { object } }) => {
      const uid = object.metadata.uid ?? "";
      if (type === "deleted") this.#starts.delete(uid);
      else if (type === "added" && (object.status?.phase ?? "Pending") === "Pending") this.#starts.set(uid, { seenMs: clock.nowMs() });
    });
  }

  /** Its assignment went to its node; later ones are changes. */
  sent(uid: string): void {
    const start = this.#starts.get(uid);
    if (start) start.sentMs ??= this.#clock.nowMs();
  }

  /** The node's report is stored. Counts once, when the pod is ready, or has ended without ever being so. */
  stored(report: PodStatus): void {
    const start = this.#starts.get(report.uid);
    const isUp = report.containers.length > 0 && report.containers.every((c) => c.ready);
    if (start?.sentMs === undefined || !report.stagesMs["started"] || !(isUp || report.phase === "Succeeded" || report.phase === "Failed")) return;
    this.#starts.delete(report.uid);
    this.#stages.observe({ stage: "scheduled" }, (start.sentMs - start.seenMs) / 1000);
    let previousMs = start.sentMs;
    for (const stage of AGENT_STAGES) {
      const atMs = report.stagesMs[stage];
      if (!atMs) continue;
      // Clocks of two machines differ: a negative time would poison the sum.
      this.#stages.observe({ stage }, Math.max(0, atMs - previousMs) / 1000);
      previousMs = atMs;
    }
    const nowMs = this.#clock.nowMs();
    this.#stages.observe({ stage: "ready" }, Math.max(0, nowMs - previousMs) / 1000);
    this.#stages.observe({ stage: "total" }, Math.max(0, nowMs - start.seenMs) / 1000);
  }

  [Symbol.dispose](): void {
    this.#subscription[Symbol.dispose]();
  }
}
