// Creates the pods of one owner, as ReplicaSets, DaemonSets and Jobs all do, and tells of each.
import { describeError } from "../../base/errors.ts";
import { PODS } from "../../base/kube/resources.ts";
import type { KubeObject } from "../../base/kube/resources.ts";
import type { Pod } from "../../base/kube/types.gen.ts";
import { inBatches } from "./batch.ts";
import type { Pass } from "./reconcile-loop.ts";

/** Keys of owners whose last creates failed, with the reason. Only a hint to go slowly: losing it costs a burst of failing writes. */
export type CreateFailures = Map<string, string>;

/** Throws what the first failing create threw, after the others were counted. */
export const createPods = async (key: string, owner: KubeObject, pods: readonly Pod[], failures: CreateFailures, { writes, announce }: Pass): Promise<void> => {
  const { done, error, failed } = await inBatches(pods, failures.has(key), (pod) => writes.create(PODS, pod));
  for (const pod of done) announce({ regarding: owner, type: "Normal", reason: "SuccessfulCreate", message: `Created pod: ${pod.metadata.name!}` });
  if (failed === 0) {
    failures.delete(key);
    return;
  }
  failures.set(key, describeError(error));
  announce({ regarding: owner, type: "Warning", reason: "FailedCreate", message: `Error creating: ${describeError(error)}` });
  throw error;
};
