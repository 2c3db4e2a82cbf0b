// What every new object passes that depends on other objects of the cluster, whoever makes it, a user or a controller: defaults and bounds of
// LimitRanges, a pod's priority, how long it bears a node in trouble, and ResourceQuotas last, when nothing else can refuse it any more.
import type { Clock } from "../../base/clock.ts";
import { GantryError, isCode } from "../../base/errors.ts";
import { claimLimitFaults, podLimitFaults, withLimitDefaults } from "../../base/kube/limit-range.ts";
import { withDefaultTolerations } from "../../base/kube/node-taints.ts";
import { parseAmounts } from "../../base/kube/pod-requests.ts";
import { priorityClassFaults, withPriority } from "../../base/kube/priority.ts";
import type { PriorityClasses } from "../../base/kube/priority.ts";
import { LIMIT_RANGES, PERSISTENT_VOLUME_CLAIMS, PODS, PRIORITY_CLASSES } from "../../base/kube/resources.ts";
import type { KubeObject, ResourceType } from "../../base/kube/resources.ts";
import type { LimitRange, Pod } from "../../base/kube/types.gen.ts";
import type { WatchCache } from "./cache.ts";
import { priorityClassesOf } from "./priority-classes.ts";
import { quotasOf } from "./quotas.ts";
import type { Refund } from "./quotas.ts";
import type { Store } from "./store.ts";

export interface AdmissionContext {
  readonly store: Store;
  readonly cache: WatchCache;
  readonly clock: Clock;
  /** How long a pod stays on a node that is not ready or not heard of, unless it says itself. */
  readonly defaultTolerationSeconds: number;
}

const rangesIn = (cache: WatchCache, namespace: string): LimitRange[] => Array.from(cache.resource(LIMIT_RANGES).list(namespace), (s) => s.object);

/** A default limit may lie below what a container asks for. */
const checkRequests = (pod: Pod): void => {
  const lists = { containers: pod.spec?.containers ?? [], initContainers: pod.spec?.initContainers ?? [] };
  const faults = Object.entries(lists).flatMap(([list, containers]) => containers.flatMap(({ resources = {} }, i) => {
    const [requests, limits] = [parseAmounts(resources.requests), parseAmounts(resources.limits)];
    return Object.keys(requests).filter((name) => limits[name] !== undefined && requests[name]! > limits[name])
      .map((name) => `spec.${list}[${i}].resources.requests: Invalid value: ${JSON.stringify(resources.requests![name])}: must be less than or equal to ${name} limit of ${resources.limits![name]!}`);
  }));
  if (faults.length > 0) throw new GantryError("Invalid", `Pod ${JSON.stringify(pod.metadata.name ?? "")} is invalid: ${faults.length === 1 ? faults[0]! : `[${faults.join(", ")}]`}`);
};

const forbidden = (type: ResourceType, object: KubeObject, faults: readonly string[]): void => {
  if (faults.length > 0) throw new GantryError("Forbidden", `${type.name} ${JSON.stringify(object.metadata.name ?? "")} is forbidden: ${faults.length === 1 ? faults[0]! : `[${faults.join(", ")}]`}`);
};

/** What an update too may be refused for by other objects: "Forbidden". */
export const checkAmongOthers = (type: ResourceType, object: KubeObject, classes: PriorityClasses): void => {
  if (type.name === PRIORITY_CLASSES.name) forbidden(type, object, priorityClassFaults(object, classes));
};

/** The object as it is to be stored. "Forbidden" or "Invalid" when it may not be. `classes` is for who knows newer ones than the cache. */
export const admitted = ({ cache, defaultTolerationSeconds }: Pick<AdmissionContext, "cache" | "defaultTolerationSeconds">, type: ResourceType, object: KubeObject, classes: PriorityClasses = priorityClassesOf(cache)): KubeObject => {
  const namespace = object.metadata.namespace ?? "";
  const refuse = (faults: readonly string[]): void => forbidden(type, object, faults);
  checkAmongOthers(type, object, classes);
  if (type.name === PERSISTENT_VOLUME_CLAIMS.name) refuse(claimLimitFaults(object, rangesIn(cache, namespace)));
  if (type.name !== PODS.name) return object;
  const ranges = rangesIn(cache, namespace);
  const pod = withLimitDefaults(object, ranges);
  if (pod !== object) checkRequests(pod);
  refuse(podLimitFaults(pod, ranges));
  return withDefaultTolerations(withPriority(pod, classes), defaultTolerationSeconds);
};

/** Makes the object by `create`, charged to the quotas of its namespace. The charge is given back when it surely wasn't made. */
export const createCharged = async <R>(context: Omit<AdmissionContext, "defaultTolerationSeconds">, type: ResourceType, object: KubeObject, create: () => Promise<R>): Promise<R> => {
  if (!type.namespaced) return create();
  return whileCharged(await quotasOf(context).charge(type, object), create);
};

/** After a Timeout or the like it may have been made all the same: then it stays charged until it is seen, or is not. */
export const whileCharged = async <R>(refund: Refund, write: () => Promise<R>): Promise<R> => {
  try {
    return await write();
  } catch (error) {
    if (isCode(error, "AlreadyExists", "Conflict", "NotFound", "Forbidden", "Invalid", "BadRequest", "RequestEntityTooLarge", "Fenced")) await refund();
    throw error;
  }
};
