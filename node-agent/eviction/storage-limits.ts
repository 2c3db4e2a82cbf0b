// Which limit of ephemeral storage a pod exceeds, in kubelet's words. Pure.
// https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/#setting-requests-and-limits-for-local-ephemeral-storage
import { formatBytes } from "../../base/kube/quantity.ts";
import type { Assignment } from "../pods/assignment.ts";

export interface StorageUsage {
  /** Writable layer and logs, by container. */
  readonly containers: ReadonlyMap<string, number>;
  /** Volumes on disk that go with the pod, by name. */
  readonly volumes: ReadonlyMap<string, number>;
}

const emptyDirs = (pod: Assignment): readonly { readonly name: string; readonly limitBytes: number }[] =>
  pod.volumes.flatMap(({ name, source }) => (source?.$case === "emptyDir" && !source.value.memory ? [{ name, limitBytes: source.value.sizeLimitBytes }] : []));

const limitOf = (container: Assignment["containers"][number]): number => container.limits?.ephemeralStorageBytes ?? 0;

/** Is there anything to measure for? Most pods set no limit. */
export const hasStorageLimits = (pod: Assignment): boolean => [...pod.containers, ...pod.initContainers].some((c) => limitOf(c) > 0) || emptyDirs(pod).some((v) => v.limitBytes > 0);

/** undefined: the pod keeps within its limits. The whole pod's limit holds only when every container sets one. */
export const exceededLimit = (pod: Assignment, { containers, volumes }: StorageUsage): string | undefined => {
  for (const { name, limitBytes } of emptyDirs(pod)) {
    if (limitBytes > 0 && (volumes.get(name) ?? 0) > limitBytes) return `Usage of EmptyDir volume ${JSON.stringify(name)} exceeds the limit ${JSON.stringify(formatBytes(limitBytes))}. `;
  }
  for (const container of [...pod.containers, ...pod.initContainers]) {
    const limit = limitOf(container);
    if (limit > 0 && (containers.get(container.name) ?? 0) > limit) return `Container ${container.name} exceeded its local ephemeral storage limit ${JSON.stringify(formatBytes(limit))}. `;
  }
  if (!pod.containers.every((c) => limitOf(c) > 0)) return undefined;
  const sum = (numbers: Iterable<number>): number => [...numbers].reduce((a, b) => a + b, 0);
  const total = sum(pod.containers.map(limitOf));
  return sum(containers.values()) + sum(volumes.values()) > total ? `Pod ephemeral local storage usage exceeds the total limit of containers ${formatBytes(total)}. ` : undefined;
};
