// Owns which container of which pod a stream goes to, and the reasons why there is none; in the words of kubectl and the kubelet.
import { GantryError } from "../../../base/errors.ts";
import { PODS } from "../../../base/kube/resources.ts";
import type { ContainerStatus, Pod } from "../../../base/kube/types.gen.ts";
import { readNewest } from "../context.ts";
import type { ApiContext, ResourceRequest } from "../context.ts";
import { notFound } from "../status.ts";

const DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container";

export const findPodIn = async (context: ApiContext, namespace: string, name: string): Promise<Pod> => {
  const stored = await readNewest(context, { type: PODS, namespace, name });
  if (!stored) throw notFound(PODS, name);
  return stored.object;
};

export const findPod = ({ context, exchange: { info } }: ResourceRequest): Promise<Pod> => findPodIn(context, info.namespace, info.name);

/** Throws BadRequest when there is no such container, or when it is not clear which one is meant. */
export const containerOf = (pod: Pod, wanted: string | null): string => {
  const { name } = pod.metadata;
  const names = (pod.spec?.containers ?? []).map((c) => c.name);
  const initNames = (pod.spec?.initContainers ?? []).map((c) => c.name);
  if (wanted !== null && wanted !== "") {
    const debugNames = (pod.spec?.ephemeralContainers ?? []).map((c) => c.name);
    if (![...names, ...initNames, ...debugNames].includes(wanted)) throw new GantryError("BadRequest", `container ${wanted} is not valid for pod ${name}`);
    return wanted;
  }
  const preferred = pod.metadata.annotations?.[DEFAULT_CONTAINER];
  if (preferred !== undefined && names.includes(preferred)) return preferred;
  if (names.length === 1) return names[0]!;
  const init = initNames.length > 0 ? ` or one of the init containers: [${initNames.join(" ")}]` : "";
  throw new GantryError("BadRequest", `a container name must be specified for pod ${name}, choose one of: [${names.join(" ")}]${init}`);
};

const statusOf = (pod: Pod, container: string): ContainerStatus | undefined =>
  [...(pod.status?.containerStatuses ?? []), ...(pod.status?.initContainerStatuses ?? []), ...(pod.status?.ephemeralContainerStatuses ?? [])].find((s) => s.name === container);

const WAITING_WORDS: Readonly<Record<string, string>> = {
  ErrImagePull: "image can't be pulled", ImagePullBackOff: "trying and failing to pull image",
};

/** Throws BadRequest when the container has not come so far that there could be a log. The kubelet's validateContainerLogStatus. */
export const checkHasLog = (pod: Pod, container: string, previous: boolean): void => {
  const { name } = pod.metadata;
  const status = statusOf(pod, container);
  const fault = (text: string): GantryError => new GantryError("BadRequest", text);
  if (!status) {
    if (previous) throw fault(`previous terminated container "${container}" in pod "${name}" not found`);
    throw fault(`container "${container}" in pod "${name}" is not available`);
  }
  if (previous) {
    if (!status.lastState?.terminated) throw fault(`previous terminated container "${container}" in pod "${name}" not found`);
    return;
  }
  if (status.state?.running || status.state?.terminated || status.lastState?.terminated) return;
  const reason = status.state?.waiting?.reason ?? "";
  throw fault(reason === "" ? `container "${container}" in pod "${name}" is waiting to start - no logs yet` : `container "${container}" in pod "${name}" is waiting to start: ${WAITING_WORDS[reason] ?? reason}`);
};

/** Throws BadRequest when nothing can be executed in the container. */
export const checkRuns = (pod: Pod, container: string): void => {
  const { name, namespace } = pod.metadata;
  const { phase } = pod.status ?? {};
  if (phase === "Succeeded" || phase === "Failed") throw new GantryError("BadRequest", `cannot exec into a container in a completed pod; current phase is ${phase}`);
  if ((pod.spec?.nodeName ?? "") === "") throw new GantryError("BadRequest", `pod ${name} does not have a host assigned`);
  if (!statusOf(pod, container)?.state?.running) throw new GantryError("NotFound", `container not found ("${container}"): it is not running in the pod ${namespace}/${name}`);
};

/** As checkRuns; a container that is only created can be attached to as well, ahead of its start. */
export const checkAttachable = (pod: Pod, container: string): void => {
  if (pod.spec?.nodeName && statusOf(pod, container)?.state?.waiting?.reason === "Created") return;
  const { name, namespace, phase } = { ...pod.metadata, phase: pod.status?.phase };
  if (phase === "Succeeded" || phase === "Failed") throw new GantryError("BadRequest", `cannot attach a container in a completed pod; current phase is ${phase}`);
  if (!statusOf(pod, container)?.state?.running) throw new GantryError("NotFound", `container not found ("${container}"): it is not running in the pod ${namespace}/${name}`);
};

/** Throws BadRequest when no port of the pod can be reached. */
export const checkForwards = (pod: Pod): void => {
  const { name, namespace } = pod.metadata;
  const phase = pod.status?.phase ?? "Pending";
  if (!pod.spec?.nodeName || phase !== "Running") throw new GantryError("BadRequest", `unable to forward port because pod is not running. Current status=${phase} (pod ${namespace}/${name})`);
};
