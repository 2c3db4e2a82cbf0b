// Which pod and container a word of the command line means: a pod's name ("web", "pod/web", and "My_App" for my-app), POD/CONTAINER, or the beginning of an id, as `gantry ps` shows
// them. Pure but for findPod and lookUpContainer.
import { GantryError, isCode } from "../../base/errors.ts";
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

/** As docker's: the container's, or while there is none the pod's uid. */
export const idOf = ({ pod, status }: Pick<FoundContainer, "pod" | "status">): string => containerIdOf(status) || (pod.metadata.uid ?? "").replaceAll("-", "");

const withStatus = (pod: Pod, containers: readonly Container[] = [], statuses: readonly ContainerStatus[] = []): readonly FoundContainer[] =>
  containers.map((container) => ({ pod, container, status: statuses.find((s) => s.name === container.name) }));

export const containersOf = (pod: Pod): readonly FoundContainer[] => withStatus(pod, pod.spec?.containers, pod.status?.containerStatuses);

const everyContainerOf = (pod: Pod): readonly FoundContainer[] => [
  ...containersOf(pod), ...withStatus(pod, pod.spec?.initContainers, pod.status?.initContainerStatuses), ...withStatus(pod, pod.spec?.ephemeralContainers, pod.status?.ephemeralContainerStatuses),
];

/** As docker shows it: the pod's name; of a pod with several containers POD/CONTAINER. */
export const nameOf = ({ pod, container }: FoundContainer): string => ((pod.spec?.containers.length ?? 0) > 1 ? `${pod.metadata.name!}/${container.name}` : pod.metadata.name!);

/** Shorter beginnings of ids would be names more often than ids. */
const SHORTEST_ID = 3;
const ID = /^[0-9a-f-]+$/;

/** What a word means; `container` only where it says which. */
export interface FoundPod {
  readonly pod: Pod;
  readonly container?: string;
}

/** POD, and CONTAINER where it is named. */
const partsOf = (word: string): readonly string[] => word.replace(/^(?:pods?|po)\//, "").split("/");

/** undefined: the word means none of these. "NotFound": the pod has no such container. "BadRequest": several fit. */
export const matchWord = (pods: readonly Pod[], word: string): FoundPod | undefined => {
  const [podName = "", container] = partsOf(word);
  const named = (name: string): Pod | undefined => pods.find((p) => p.metadata.name === name);
  const pod = named(podName) ?? named(podName.toLowerCase().replaceAll("_", "-"));
  if (pod) {
    if (container === undefined) return { pod };
    const names = everyContainerOf(pod).map((c) => c.container.name);
    if (!names.includes(container)) throw new GantryError("NotFound", `pod ${podName} has no container ${JSON.stringify(container)}; there are: ${names.join(", ")}`);
    return { pod, container };
  }
  if (word.length < SHORTEST_ID || !ID.test(word)) return undefined;
  const plain = (id: string): string => id.replaceAll("-", "");
  const [found, ...more] = pods.flatMap((p) => {
    const own = everyContainerOf(p).filter((c) => containerIdOf(c.status).startsWith(word)).map((c) => ({ pod: p, container: c.container.name }));
    return own.length === 0 && plain(p.metadata.uid ?? "").startsWith(plain(word)) ? [{ pod: p }] : own;
  });
  if (more.length > 0) throw new GantryError("BadRequest", `${JSON.stringify(word)} is the beginning of several ids: ${[found!, ...more].map((f) => nameOf(containerOf(f))).join(", ")}; give more of it`);
  return found;
};

const containerOf = ({ pod, container }: FoundPod): FoundContainer =>
  everyContainerOf(pod).find((c) => c.container.name === (container ?? pod.spec?.containers[0]?.name))!;

/** The pod's first one where the word names a pod. "NotFound", "BadRequest". */
export const findContainer = (pods: readonly Pod[], word: string): FoundContainer => {
  const found = matchWord(pods, word);
  if (!found) throw new GantryError("NotFound", `no such container: ${word}`);
  return containerOf(found);
};

/** By name first, which costs one object; else among all pods of the namespace. */
export const findPod = async (client: ApiClient, namespace: string, word: string): Promise<FoundPod> => {
  const [name = ""] = partsOf(word);
  let pod: Pod;
  try {
    pod = await client.get(PODS, namespace, name);
  } catch (error) {
    const found = isCode(error, "NotFound") ? matchWord((await client.list(PODS, namespace)).items, word) : undefined;
    if (!found) throw error;
    return found;
  }
  return matchWord([pod], word)!;
};

export const lookUpContainer = async (client: ApiClient, namespace: string, word: string): Promise<FoundContainer> => containerOf(await findPod(client, namespace, word));
