// What could not be made ready in time for its instant is said before it: an event and a metric.
import type { Pod } from "../../base/kube/types.gen.ts";
import type { Metrics } from "../../base/metrics.ts";
import { timestamp } from "./objects.ts";

/** How long before the instant it is looked at. */
export const TELL_AHEAD_MS = 5000;

/** Why of `wanted` pods that are to start at `atMs` some are not staged; undefined when all are. `pods` are those that were made for it. */
export const notStagedText = (pods: readonly Pod[], wanted: number, atMs: number): string | undefined => {
  const staged = pods.filter((pod) => pod.status?.reason === "Staged").length;
  if (staged >= wanted) return undefined;
  const roomless = pods.map((pod) => pod.status?.conditions?.find((c) => c.type === "PodScheduled" && c.status === "False")).filter((c) => c !== undefined);
  const room = roomless.length === 0 ? "" : `, ${roomless.length} of them for want of room: ${roomless[0]!.message ?? ""}`;
  return `${wanted - staged} of ${wanted} pods are not staged ${TELL_AHEAD_MS / 1000} s before ${timestamp(atMs)}${room}`;
};

const instruments = new WeakMap<Metrics, ReturnType<Metrics["counter"]>>();

export const countNotStaged = (metrics: Metrics | undefined): void => {
  if (!metrics) return;
  let made = instruments.get(metrics);
  if (!made) instruments.set(metrics, (made = metrics.counter("gantry_cron_ticks_not_staged_total", "Ticks of CronJobs, and scale-ups of ScheduledScalers, for which not all pods were staged five seconds ahead.", [])));
  made.inc();
};
