// What a change of a pod's status is worth an event, so that `kubectl describe pod` and `kubectl get events` say why a container does
// not run. Only what goes wrong: an event for every normal step would cost as many writes as the pod itself. Pure.
import { LIMITS_DISCARDED } from "../../base/kube/pod-extras.ts";
import type { PodStatus } from "../../base/kube/types.gen.ts";

export interface PodTrouble {
  /** Upstream's: Failed, BackOff, FailedCreatePodSandBox. */
  readonly reason: string;
  readonly message: string;
}

/** Waiting for what takes its time. With a message, the sandbox failed. */
const NORMAL = new Set(["ContainerCreating", "PodInitializing"]);
/** Its message says for what it waits, and nothing is wrong. */
const STAGED = "Staged";

export const podTroubles = (before: PodStatus | undefined, after: PodStatus): readonly PodTrouble[] => {
  const statuses = (status: PodStatus | undefined) => [...(status?.initContainerStatuses ?? []), ...(status?.containerStatuses ?? []), ...(status?.ephemeralContainerStatuses ?? [])];
  const earlier = new Map(statuses(before).map((c) => [c.name, c]));
  const troubles = new Map<string, PodTrouble>();
  for (const { name, state, restartCount } of statuses(after)) {
    const { reason = "", message = "" } = state?.waiting ?? {};
    if (reason === "" || reason === STAGED || (NORMAL.has(reason) && message === "")) continue;
    const was = earlier.get(name);
    // A container that crashed again waits as it did before, but longer.
    if (was?.state?.waiting?.reason === reason && was.state.waiting.message === message && was.restartCount === restartCount) continue;
    const trouble = NORMAL.has(reason) ? { reason: "FailedCreatePodSandBox", message }
      : reason.endsWith("BackOff") ? { reason: "BackOff", message } : { reason: "Failed", message: `${reason}: ${message || `container ${name}`}` };
    // A sandbox that fails shows in each of its containers.
    troubles.set(`${trouble.reason} ${trouble.message}`, trouble);
  }
  if (after.reason === "Evicted" && before?.reason !== "Evicted") troubles.set("Evicted", { reason: "Evicted", message: after.message ?? "" });
  for (const { type, reason = "", message = "" } of after.conditions ?? []) {
    const was = before?.conditions?.find((c) => c.type === type);
    if (type === "PodResizePending" && (was?.reason !== reason || was.message !== message)) troubles.set(type, { reason: `Resize${reason}`, message: `Pod resize ${reason}: ${message}` });
    else if (type === "PodResizeInProgress" && reason === "Error" && was?.message !== message) troubles.set(type, { reason: "ResizeError", message: `Pod resize error: ${message}` });
    else if (type === LIMITS_DISCARDED && was?.message !== message) troubles.set(type, { reason: "LimitsDiscarded", message });
  }
  return [...troubles.values()];
};
