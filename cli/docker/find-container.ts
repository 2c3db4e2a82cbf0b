// Which container a word means: a pod's name, POD/CONTAINER, or the beginning of a container's id. Pure but for find*, which list pods.
import { GantryError } from "../../base/errors.ts";
import { PODS } from "../../base/kube/resources.ts";
import type { Container, ContainerStatus, Pod } from "../../base/kube/types.gen.ts";
import type { ApiClient } from "../api-client.ts";

export interface FoundContainer {
  readonly pod: Pod;
  readonly container: Container;
  readonly status: ContainerStatus | undefined;
}

/** Without "crun://"; "" before the container exists. */
export const containerIdOf = (status: ContainerStatus | undefined): string => (status?.containerID ?? "").replace(/^[^:]*:\/\//, "");

export const containersOf = (pod: Pod): readonly FoundContainer[] =>
  (pod.spec?.containers ?? []).map((container) => ({ pod, container, status: pod.status?.containerStatuses?.find((s) => s.name === container.name) }));

/** As docker shows it: the pod's name; of a pod with several containers POD/CONTAINER. */
export const nameOf = ({ pod, container }: FoundContainer): string => ((pod.spec?.containers.length ?? 0) > 1 ? `${pod.metadata.name!}/${container.name}` : pod.metadata.name!);

const SHORTEST_ID = 3;

/** "NotFound", or "BadRequest" when several fit. */
export const findContainer = (pods: readonly Pod[], word: string): FoundContainer => {
  const [podName = "", containerName] = word.replace(/^(?:pods?|po)\//, "").split("/");
  const named = (name: string): Pod | undefined => pods.find((p) => p.metadata.name === name);
  const pod = named(podName) ?? named(podName.toLowerCase().replaceAll("_", "-"));
  if (pod) {
    const all = containersOf(pod);
    const found = containerName === undefined ? all[0] : all.find((c) => c.container.name === containerName);
    if (!found) throw new GantryError("NotFound", `pod ${podName} has no container ${JSON.stringify(containerName)}; there are: ${all.map((c) => c.container.name).join(", ")}`);
    return found;
  }
  const byId = word.length < SHORTEST_ID ? [] : pods.flatMap(containersOf).filter((c) => containerIdOf(c.status).startsWith(word) || c.pod.metadata.uid?.startsWith(word));
  if (byId.length > 1) throw new GantryError("BadRequest", `${JSON.stringify(word)} is the beginning of several ids: ${byId.map(nameOf).join(", ")}`);
  if (byId[0]) return byId[0];
  throw new GantryError("NotFound", `no such container: ${word}`);
};

/** By name first, which costs one object; else among all pods of the namespace. */
export const lookUpContainer = async (client: ApiClient, namespace: string, word: string): Promise<FoundContainer> => {
  const { items } = await client.list(PODS, namespace);
  return findContainer(items, word);
};
