// A pod's priority: from its PriorityClass, or the one that is the default. Pure. https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/
import { GantryError } from "../errors.ts";
import type { Pod, PriorityClass } from "./types.gen.ts";

/** A user's classes lie below the system's. */
export const HIGHEST_USER_PRIORITY = 1_000_000_000;
export const SYSTEM_PREFIX = "system-";
/** They are there in every cluster: controllers/system-priorities.ts makes their objects. */
export const SYSTEM_PRIORITIES: ReadonlyMap<string, number> = new Map([["system-cluster-critical", 2_000_000_000], ["system-node-critical", 2_000_001_000]]);

export interface PriorityClasses {
  byName(name: string): PriorityClass | undefined;
  all(): Iterable<PriorityClass>;
}

/** Of several defaults the lowest: so that two leaders in a row, or a mistake, lift nobody. */
const defaultOf = (classes: PriorityClasses): PriorityClass | undefined =>
  Array.from(classes.all()).filter((c) => c.globalDefault).reduce<PriorityClass | undefined>((lowest, c) => (lowest && (lowest.value ?? 0) <= (c.value ?? 0) ? lowest : c), undefined);

/** What the other classes have against one, in upstream's words. https://github.com/kubernetes/kubernetes/blob/master/plugin/pkg/admission/priority/admission.go */
export const priorityClassFaults = (candidate: PriorityClass, classes: PriorityClasses): readonly string[] => {
  const first = candidate.globalDefault ? defaultOf(classes) : undefined;
  return first && first.metadata.name !== candidate.metadata.name ? [`PriorityClass ${first.metadata.name!} is already marked as default. Only one default can exist`] : [];
};

/** The pod with its priority and preemption policy. "Forbidden" when there is no such class, or the pod gives another number than its class. */
export const withPriority = (pod: Pod, classes: PriorityClasses): Pod => {
  const { priorityClassName: name = "", priority: given, preemptionPolicy: ownPolicy } = pod.spec!;
  const of = (className: string, value: number, policy: string | undefined): Pod => {
    const fault = (field: string, computed: number | string): GantryError =>
      new GantryError("Forbidden", `pods ${JSON.stringify(pod.metadata.name ?? "")} is forbidden: the ${field} must not be provided in pod spec; priority admission controller computed ${computed} from the given PriorityClass name`);
    if (given !== undefined && given !== value) throw fault(`integer value of priority (${given})`, value);
    if (ownPolicy !== undefined && policy !== undefined && ownPolicy !== policy) throw fault(`string value of PreemptionPolicy (${ownPolicy})`, policy);
    const preemptionPolicy = ownPolicy ?? policy ?? "PreemptLowerPriority";
    return { ...pod, spec: { ...pod.spec!, priority: value, preemptionPolicy, ...(className !== "" && { priorityClassName: className }) } };
  };
  if (name !== "") {
    const system = SYSTEM_PRIORITIES.get(name);
    const found = classes.byName(name);
    if (system === undefined && !found) throw new GantryError("Forbidden", `pods ${JSON.stringify(pod.metadata.name ?? "")} is forbidden: no PriorityClass with name ${name} was found`);
    return of(name, found?.value ?? system ?? 0, found?.preemptionPolicy);
  }
  const byDefault = defaultOf(classes);
  return byDefault ? of(byDefault.metadata.name!, byDefault.value ?? 0, byDefault.preemptionPolicy) : of("", 0, undefined);
};
