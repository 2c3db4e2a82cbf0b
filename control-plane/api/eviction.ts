// POST .../pods/NAME/eviction: a delete that the pod's disruption budget has to allow. What `kubectl drain` does.
// https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/ ; upstream: pkg/registry/core/pod/storage/eviction.go.
import { GantryError } from "../../base/errors.ts";
import { DISRUPTION_TARGET, isUnder } from "../../base/kube/disruption.ts";
import { timestamp } from "../../base/kube/meta.ts";
import { isReady } from "../../base/kube/pod-state.ts";
import { POD_DISRUPTION_BUDGETS, PODS } from "../../base/kube/resources.ts";
import type { Eviction, Pod, PodDisruptionBudget } from "../../base/kube/types.gen.ts";
import { receiveObject } from "./body.ts";
import { commitChange } from "./commit.ts";
import { keyOf, readNewest } from "./context.ts";
import type { ResourceRequest } from "./context.ts";
import { deletionFrom, planDeletion } from "./delete.ts";
import { notFound, StatusError, successStatus } from "./status.ts";
import { isDryRun } from "./write.ts";

/** Only where waiting helps by itself (upstream): clients heed it silently, and drain would not say for long what it waits for. */
const PROCESSING_SECONDS = 10;

const refused = (message: string, retryAfterSeconds?: number): StatusError => new StatusError("TooManyRequests", "Cannot evict pod as it would violate the pod's disruption budget.",
  { causes: [{ reason: "DisruptionBudget", message }], ...(retryAfterSeconds !== undefined && { retryAfterSeconds }) });

/** Nothing is disrupted by the end of one that doesn't serve, or goes anyway. */
const isFree = (pod: Pod): boolean => pod.metadata.deletionTimestamp !== undefined || ["Pending", "Succeeded", "Failed"].includes(pod.status?.phase ?? "Pending");

/** The budget with this eviction taken from it; undefined when nothing has to be taken. Throws TooManyRequests. Pure. */
export const granted = (budget: PodDisruptionBudget, pod: Pod, nowMs: number): PodDisruptionBudget | undefined => {
  const name = budget.metadata.name!;
  const { disruptionsAllowed = 0, currentHealthy = 0, desiredHealthy = 0, observedGeneration = 0 } = budget.status ?? {};
  if (!isReady(pod) && (budget.spec?.unhealthyPodEvictionPolicy === "AlwaysAllow" || (currentHealthy >= desiredHealthy && desiredHealthy > 0))) return undefined;
  if (observedGeneration < (budget.metadata.generation ?? 0)) throw refused(`The disruption budget ${name} is still being processed by the server.`, PROCESSING_SECONDS);
  if (disruptionsAllowed <= 0) throw refused(`The disruption budget ${name} needs ${desiredHealthy} healthy pods and has ${currentHealthy} currently`);
  return { ...budget, status: { ...budget.status, disruptionsAllowed: disruptionsAllowed - 1, disruptedPods: { ...budget.status?.disruptedPods, [pod.metadata.name!]: timestamp(nowMs) } } };
};

export const evict = async (request: ResourceRequest): Promise<void> => {
  const { context, definition, exchange } = request;
  const { clock } = context;
  const { name, namespace } = exchange.info;
  const eviction = await receiveObject(exchange, { schema: "policy/v1.Eviction", group: "policy", version: "v1", kind: "Eviction" }) as Eviction;
  if (eviction.metadata.name !== undefined && eviction.metadata.name !== name) throw new GantryError("BadRequest", `the name of the eviction (${eviction.metadata.name}) does not match the pod's (${name})`);
  const deletion = deletionFrom(eviction.deleteOptions ?? {});
  const dryRun = deletion.dryRun || isDryRun(request);
  const stored = await readNewest(context, keyOf(request));
  if (!stored) throw notFound(PODS, name);
  const pod = stored.object as Pod;
  if (!isFree(pod)) {
    const budgets = Array.from(context.cache.resource(POD_DISRUPTION_BUDGETS).list(namespace), (s) => s.object).filter((b) => isUnder(b, pod));
    if (budgets.length > 1) throw new GantryError("InternalError", "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.");
    const [budget] = budgets;
    // Compare-and-put: of two evictions at once the second sees what the first has taken.
    if (budget) {
      await commitChange(context, { type: POD_DISRUPTION_BUDGETS, namespace, name: budget.metadata.name! }, (current) => ({ next: granted(current, pod, clock.nowMs()) ?? current, remove: false }), { preconditions: {}, dryRun });
    }
  }
  await commitChange(context, keyOf(request), (current) => {
    const latest = current as Pod;
    const others = (latest.status?.conditions ?? []).filter((c) => c.type !== DISRUPTION_TARGET);
    const target = { type: DISRUPTION_TARGET, status: "True", reason: "EvictionByEvictionAPI", message: "Eviction API: evicting", lastTransitionTime: timestamp(clock.nowMs()) };
    const told: Pod = latest.metadata.deletionTimestamp === undefined ? { ...latest, status: { ...latest.status, conditions: [...others, target] } } : latest;
    return planDeletion(told, definition, deletion, clock.nowMs());
  }, { preconditions: deletion.preconditions, dryRun });
  exchange.value(201, successStatus(201));
};
