// `update`: other limits for a container that is there, by Kubernetes' resize in place. limitsFrom is pure.
import { GantryError } from "../../base/errors.ts";
import { formatBytes, formatMilliCpu, toUnits } from "../../base/kube/quantity.ts";
import { PODS } from "../../base/kube/resources.ts";
import type { Pod, ResourceRequirements } from "../../base/kube/types.gen.ts";
import type { ApiClient } from "../api-client.ts";
import { watchPod } from "../lifecycle/pods.ts";
import type { FoundContainer } from "./find-container.ts";

export interface UpdateRequest {
  /** 0: as it is; here and below. */
  readonly memoryBytes: number;
  readonly memoryReservationBytes: number;
  readonly milliCpus: number;
}

/** What the container is to have. Without a reservation of its own its whole limit is reserved, as when it was made. "FailedPrecondition" where Kubernetes can't: a pod that had no limits gets none. */
export const limitsFrom = (request: UpdateRequest, { pod, container }: FoundContainer): ResourceRequirements => {
  const { limits = {}, requests = {} } = container.resources ?? {};
  const name = pod.metadata.name!;
  if (Object.keys(limits).length + Object.keys(requests).length === 0) throw new GantryError("FailedPrecondition", `${name} was made without limits, and can't get any while it is there: make it anew with 'gantry run -m ... --cpus ...'`);
  const memory = request.memoryBytes > 0 ? formatBytes(request.memoryBytes) : limits["memory"];
  const reservedBytes = request.memoryReservationBytes || (requests["memory"] === undefined ? 0 : requests["memory"] === limits["memory"] && request.memoryBytes > 0 ? request.memoryBytes : toUnits(requests["memory"]));
  if (memory !== undefined && reservedBytes > toUnits(memory)) throw new GantryError("BadRequest", `--memory-reservation: ${formatBytes(reservedBytes)} is more than the limit, ${memory}`);
  return {
    limits: { ...limits, ...(memory === undefined ? {} : { memory }), ...(request.milliCpus > 0 ? { cpu: formatMilliCpu(request.milliCpus) } : {}) },
    requests: { ...requests, ...(reservedBytes > 0 ? { memory: formatBytes(reservedBytes) } : {}), ...(request.milliCpus > 0 && requests["cpu"] === undefined ? { cpu: "0" } : {}) },
  };
};

const condition = (pod: Pod, type: string): string | undefined => pod.status?.conditions?.find((c) => c.type === type && c.status === "True")?.message;

const PATIENCE_MS = 10_000;

/** Resolves when it is in force. "FailedPrecondition" with the node's reason when it isn't within 10 s. */
export const updateContainer = async (client: ApiClient, found: FoundContainer, request: UpdateRequest): Promise<void> => {
  const { pod, container } = found;
  const resources = limitsFrom(request, found);
  const made = await client.json<Pod>("PATCH", client.pathOf(PODS, pod.metadata.namespace, pod.metadata.name, "resize"), { body: { spec: { containers: [{ name: container.name, resources }] } }, contentType: "application/strategic-merge-patch+json" });
  const inForce = (now: Pod): boolean => {
    const limits = now.status?.containerStatuses?.find((s) => s.name === container.name)?.resources?.limits ?? {};
    return Object.entries(resources.limits ?? {}).every(([key, amount]) => limits[key] !== undefined && toUnits(limits[key]) === toUnits(amount));
  };
  const stop = new AbortController();
  const timer = setTimeout(() => stop.abort(), PATIENCE_MS);
  let last = made;
  try {
    await watchPod(client, made, (now) => {
      if (now) last = now;
      return now === undefined || inForce(now) || !now.status?.containerStatuses?.some((s) => s.name === container.name && s.state?.running) ? true : undefined;
    }, stop.signal);
  } catch (error) {
    if (!stop.signal.aborted) throw error;
    throw new GantryError("FailedPrecondition", `${pod.metadata.name!}: ${condition(last, "PodResizePending") ?? condition(last, "PodResizeInProgress") ?? "the node has not changed it yet"}`);
  } finally {
    clearTimeout(timer);
  }
};
