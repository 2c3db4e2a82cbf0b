// Reads what `gantry why` needs of a workload: its pods, through its ReplicaSets where it has some, events, and why pods have no node.
import { GantryError, isCode } from "../base/errors.ts";
import { EVENTS, HORIZONTAL_POD_AUTOSCALERS, NODES, PODS, REPLICA_SETS } from "../base/kube/resources.ts";
import type { KubeObject, ResourceType } from "../base/kube/resources.ts";
import type { HorizontalPodAutoscaler, Pod } from "../base/kube/types.gen.ts";
import type { Explanation } from "../control-plane/state/explain.ts";
import type { ApiClient } from "./api-client.ts";
import type { WorkloadView } from "./why-workload.ts";

const KINDS: ReadonlySet<string> = new Set(["Deployment", "ReplicaSet", "ReplicationController", "StatefulSet", "DaemonSet", "Job"]);
/** Pods without a node that are asked about: of one template all fail alike, of daemons each has its own node. */
const MAX_EXPLANATIONS = 3;

const isOf = (owner: KubeObject) => (object: KubeObject): boolean => object.metadata.ownerReferences?.some((r) => r.controller === true && r.uid === owner.metadata.uid) === true;

/** None where they aren't served, or not to this user. */
const autoscalersIn = async (client: ApiClient, namespace: string): Promise<readonly HorizontalPodAutoscaler[]> => {
  try {
    return (await client.list(HORIZONTAL_POD_AUTOSCALERS, namespace)).items;
  } catch (error) {
    if (isCode(error, "NotFound", "Forbidden")) return [];
    throw error;
  }
};

export const viewWorkload = async (client: ApiClient, type: ResourceType, namespace: string, name: string, explain: (pod: string) => Promise<Explanation>): Promise<WorkloadView> => {
  if (!KINDS.has(type.kind)) throw new GantryError("BadRequest", `gantry why explains pods, deployments, replicasets, replicationcontrollers, statefulsets, daemonsets and jobs, not ${type.plural}`);
  const [found, pods, sets, events, nodes, autoscalers] = await Promise.all([
    client.get(type, namespace, name), client.list(PODS, namespace), type.kind === "Deployment" ? client.list(REPLICA_SETS, namespace) : { items: [] },
    client.list(EVENTS, namespace), type.kind === "DaemonSet" ? client.list(NODES, undefined) : { items: [] }, autoscalersIn(client, namespace),
  ]);
  const object = { ...found, kind: type.kind, apiVersion: type.apiVersion };
  const replicaSets = sets.items.filter(isOf(object));
  const owners = [object, ...replicaSets].map(isOf);
  const owned = pods.items.filter((pod) => owners.some((is) => is(pod)));
  const homeless = owned.filter((pod: Pod) => !pod.spec?.nodeName && pod.metadata.deletionTimestamp === undefined).slice(0, MAX_EXPLANATIONS);
  const explanations = new Map<string, Explanation>();
  await Promise.all(homeless.map(async ({ metadata }) => {
    try {
      explanations.set(metadata.name!, await explain(metadata.name!));
    } catch (error) {
      // It went meanwhile, or no scheduler leads just now: the pod's own line still stands.
      if (!isCode(error, "NotFound", "ServiceUnavailable")) throw error;
    }
  }));
  return { object, pods: owned, replicaSets, events: events.items, explanations, nodes: nodes.items.map((n) => n.metadata.name!), autoscalers: autoscalers.filter(({ spec: { scaleTargetRef: ref } }) => ref.kind === type.kind && ref.name === name), nowMs: Date.now() };
};
