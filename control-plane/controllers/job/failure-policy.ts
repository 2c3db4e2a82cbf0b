// What a Job's podFailurePolicy says of a failed pod. Pure. Rules and messages: upstream's pkg/controller/job/pod_failure_policy.go.
import type { ContainerStatus, Pod, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule } from "../../../base/kube/types.gen.ts";

export type Action = "Count" | "FailIndex" | "FailJob" | "Ignore";

export interface Verdict {
  readonly action: Action;
  /** Why, for the Job's condition. */
  readonly message: string;
}

const COUNT: Verdict = { action: "Count", message: "" };

const exitMatch = (pod: Pod, { containerName, operator, values }: PodFailurePolicyOnExitCodesRequirement): ContainerStatus | undefined =>
  [...(pod.status?.containerStatuses ?? []), ...(pod.status?.initContainerStatuses ?? [])].find(({ name, state }) => {
    const code = state?.terminated?.exitCode;
    // A container that succeeded matches nothing, NotIn neither.
    if (code === undefined || code === 0 || (containerName !== undefined && containerName !== name)) return false;
    return values.includes(code) === (operator === "In");
  });

const conditionMatch = (pod: Pod, { onPodConditions = [] }: PodFailurePolicyRule): string | undefined =>
  onPodConditions.find(({ type, status = "True" }) => pod.status?.conditions?.some((c) => c.type === type && c.status === status))?.type;

/** The first rule that matches decides; without any the failure counts. */
export const judge = (policy: PodFailurePolicy | undefined, pod: Pod): Verdict => {
  const { namespace = "", name = "" } = pod.metadata;
  for (const [index, rule] of (policy?.rules ?? []).entries()) {
    const action = rule.action as Action;
    const end = `matching ${action} rule at index ${index}`;
    if (rule.onExitCodes) {
      const container = exitMatch(pod, rule.onExitCodes);
      if (container) return { action, message: `Container ${container.name} for pod ${namespace}/${name} failed with exit code ${container.state!.terminated!.exitCode} ${end}` };
    } else {
      const type = conditionMatch(pod, rule);
      if (type !== undefined) return { action, message: `Pod ${namespace}/${name} has condition ${type} ${end}` };
    }
  }
  return COUNT;
};
