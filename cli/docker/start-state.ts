// How far a new pod is on its way to run, as `run` tells it: what it waits for, or why it never will, with docker's exit codes. Pure.
import type { ContainerStatus, Pod } from "../../base/kube/types.gen.ts";

export type StartState =
  | { readonly kind: "waiting"; readonly text: string }
  | { readonly kind: "running" }
  | { readonly kind: "created" }
  | { readonly kind: "ended"; readonly exitCode: number }
  /** No node has room, so that the scheduler's explanation is worth asking for. */
  | { readonly kind: "unschedulable"; readonly message: string }
  | { readonly kind: "failed"; readonly exitCode: number; readonly message: string };

/** docker: 125 the engine failed, 126 the command can't be run, 127 there is no such command. */
export const ENGINE_FAILED = 125;
const CANNOT_RUN = 126;
const NO_COMMAND = 127;

const IMAGE_FAULTS = new Set(["ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError", "RegistryUnavailable"]);
const CONFIG_FAULTS = new Set(["CreateContainerConfigError", "CreateContainerError", "RunContainerError", "FailedCreatePodSandBox"]);

export const startErrorCode = (message: string): number => (/not found|no such file/i.test(message) ? NO_COMMAND : CANNOT_RUN);

const ofContainer = (status: ContainerStatus, pod: Pod): StartState => {
  const ended = status.state?.terminated ?? (status.restartCount > 0 ? status.lastState?.terminated : undefined);
  if (ended?.reason === "StartError") return { kind: "failed", exitCode: startErrorCode(ended.message ?? ""), message: ended.message ?? "the command could not be started" };
  if (status.state?.running) return { kind: "running" };
  if (ended) return pod.spec?.restartPolicy === "Never" || pod.status?.phase === "Succeeded" || pod.status?.phase === "Failed" ? { kind: "ended", exitCode: ended.exitCode } : { kind: "running" };
  const { reason = "", message = "" } = status.state?.waiting ?? {};
  if (IMAGE_FAULTS.has(reason)) return { kind: "failed", exitCode: ENGINE_FAILED, message: `image ${status.image}: ${message || reason}` };
  if (CONFIG_FAULTS.has(reason)) return { kind: "failed", exitCode: ENGINE_FAILED, message: message || reason };
  if (reason === "Created") return { kind: "created" };
  return { kind: "waiting", text: /pull/i.test(`${reason} ${message}`) ? `pulling ${status.image}${message ? `: ${message}` : ""}` : `${reason || "waiting"}${message ? `: ${message}` : ""}` };
};

export const startState = (pod: Pod): StartState => {
  const scheduled = pod.status?.conditions?.find((c) => c.type === "PodScheduled");
  if (!pod.spec?.nodeName) {
    return scheduled?.status === "False" ? { kind: "unschedulable", message: scheduled.message ?? scheduled.reason ?? "no node fits" } : { kind: "waiting", text: "looking for a node" };
  }
  const [status] = pod.status?.containerStatuses ?? [];
  if (!status) {
    return pod.status?.phase === "Failed" ? { kind: "failed", exitCode: ENGINE_FAILED, message: pod.status.message ?? pod.status.reason ?? "the pod failed" } : { kind: "waiting", text: `starting on ${pod.spec.nodeName}` };
  }
  return ofContainer(status, pod);
};

/** What `run` exits with; undefined while the pod goes on. */
export const exitCodeOf = (pod: Pod): number | undefined => {
  const phase = pod.status?.phase;
  if (phase !== "Succeeded" && phase !== "Failed") return undefined;
  const ended = pod.status?.containerStatuses?.[0]?.state?.terminated;
  return ended?.reason === "StartError" ? startErrorCode(ended.message ?? "") : (ended?.exitCode ?? ENGINE_FAILED);
};
