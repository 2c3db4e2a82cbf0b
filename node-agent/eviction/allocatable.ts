// What of a node pods can ask for: its capacity without what is kept back for the system and what has to stay free. Pure.
// https://kubernetes.io/docs/tasks/administer-cluster/reserve-compute-resources/
import { isHugePages } from "../../base/kube/huge-pages.ts";
import type { Resources } from "../../proto/gen/gantry/v1/agent.ts";
import { amountIn, type Signal, type Threshold } from "./thresholds.ts";

export interface Reserved {
  readonly milliCpu: number;
  readonly memoryBytes: number;
  readonly storageBytes: number;
}

/** Memory that is huge pages is nobody's otherwise, as for the kubelet. Below a hard threshold pods are evicted, so that much is nobody's. */
export const allocatableOf = (capacity: Resources, reserved: Reserved, thresholds: readonly Threshold[]): Resources => {
  const kept = (signal: Signal, of: number): number => {
    const hard = thresholds.find((t) => t.signal === signal && t.graceMs === undefined);
    return hard ? amountIn(hard.amount, of) : 0;
  };
  const left = (total: number, ...taken: readonly number[]): number => Math.max(0, taken.reduce((rest, t) => rest - t, total));
  const pages = Object.entries(capacity.extended).filter(([resource]) => isHugePages(resource)).map(([, bytes]) => bytes);
  return {
    ...capacity, milliCpu: left(capacity.milliCpu, reserved.milliCpu),
    memoryBytes: left(capacity.memoryBytes, reserved.memoryBytes, kept("memory.available", capacity.memoryBytes), ...pages),
    ephemeralStorageBytes: left(capacity.ephemeralStorageBytes, reserved.storageBytes, kept("nodefs.available", capacity.ephemeralStorageBytes)),
  };
};
