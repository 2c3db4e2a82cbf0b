// Removes pods that were to go with their end (gantry.io/auto-remove, `gantry run --rm`): whoever started them may be gone by then.
import { autoRemoveMs } from "../../../base/kube/pod-extras.ts";
import { PODS } from "../../../base/kube/resources.ts";
import type { Pod } from "../../../base/kube/types.gen.ts";
import { isTerminal, objectKey, splitKey, timeMs } from "../objects.ts";
import type { Controller, ControllerContext } from "../reconcile-loop.ts";

/** When the pod is to be removed; undefined: not, or not yet known. */
export const removeAtMs = (pod: Pod): number | undefined => {
  const delayMs = autoRemoveMs(pod.metadata.annotations);
  if (delayMs === undefined || !isTerminal(pod) || pod.metadata.deletionTimestamp !== undefined) return undefined;
  // A pod that never ran a container (evicted, failed by its node's loss) has no end but its condition's.
  const ends = [...(pod.status?.initContainerStatuses ?? []), ...(pod.status?.containerStatuses ?? [])].map((c) => timeMs(c.state?.terminated?.finishedAt));
  return Math.max(0, ...ends, ...(pod.status?.conditions ?? []).map((c) => timeMs(c.lastTransitionTime))) + delayMs;
};

export const autoRemoveController = ({ cache, clock }: ControllerContext): Controller => {
  const pods = cache.resource(PODS);
  return {
    name: "auto-remove",
    writer: "controller",
    *watch(queue) {
      yield pods.subscribe(({ type, stored: { object } }) => {
        if (type !== "deleted" && removeAtMs(object) !== undefined) queue.add(objectKey(object));
      });
      for (const { object } of pods.list()) if (removeAtMs(object) !== undefined) queue.add(objectKey(object));
    },
    async sync(key, { writes, again }) {
      const pod = pods.get(...splitKey(key))?.object;
      const atMs = pod && removeAtMs(pod);
      if (atMs === undefined) return;
      const leftMs = atMs - clock.nowMs();
      if (leftMs > 0) again(leftMs);
      else await writes.delete(PODS, pod!, clock.nowMs());
    },
  };
};
