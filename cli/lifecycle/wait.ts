// `wait`: until a container has ended, or the pod is gone; its exit code. By watching.
import { GantryError } from "../../base/errors.ts";
import type { ContainerStatus, Pod } from "../../base/kube/types.gen.ts";
import type { ApiClient } from "../api-client.ts";
import { watchPod } from "./pods.ts";

export type WaitCondition = "not-running" | "next-exit" | "removed";

const statusOf = (pod: Pod, container: string): ContainerStatus | undefined =>
  [...(pod.status?.containerStatuses ?? []), ...(pod.status?.initContainerStatuses ?? [])].find((c) => c.name === container);

/** Ends that are known of, counted: restarts, and the present one. */
const endsOf = (status: ContainerStatus | undefined): number => (status?.restartCount ?? 0) + (status?.state?.terminated || status?.state?.waiting?.reason === "CrashLoopBackOff" ? 1 : 0);

const lastExit = (status: ContainerStatus | undefined): number | undefined => (status?.state?.terminated ?? status?.lastState?.terminated)?.exitCode;

/** Undefined while the condition does not hold. Pure. */
export const exitOf = (before: Pod, now: Pod, container: string, condition: WaitCondition): number | undefined => {
  const [old, status] = [statusOf(before, container), statusOf(now, container)];
  if (condition === "removed") return undefined;
  const isNew = endsOf(status) > endsOf(old);
  // Of a pod that ended without this container ever having run there is no code.
  const isOver = now.status?.phase === "Succeeded" || now.status?.phase === "Failed";
  if (condition === "next-exit") return isNew ? (lastExit(status) ?? 0) : undefined;
  if (isNew || status?.state?.terminated) return lastExit(status) ?? 0;
  return isOver ? (lastExit(status) ?? 1) : undefined;
};

export const waitForEnd = async (client: ApiClient, pod: Pod, container: string, condition: WaitCondition): Promise<number> => {
  let last: Pod = pod;
  return watchPod(client, pod, (now) => {
    if (!now) {
      const code = lastExit(statusOf(last, container));
      if (code === undefined && condition !== "removed") throw new GantryError("NotFound", `pod ${pod.metadata.name} was deleted before its container's exit code was known`);
      return code ?? 0;
    }
    last = now;
    return exitOf(pod, now, container, condition);
  });
};
