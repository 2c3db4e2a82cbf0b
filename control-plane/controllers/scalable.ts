// The kinds whose pods are counted by `spec.replicas`.
import { DEPLOYMENTS, REPLICATION_CONTROLLERS, REPLICA_SETS, STATEFUL_SETS } from "../../base/kube/resources.ts";
import type { KubeObject, ResourceType } from "../../base/kube/resources.ts";

export interface Scalable extends KubeObject {
  spec?: { replicas?: number | undefined } | undefined;
}

export const SCALABLE = [DEPLOYMENTS, STATEFUL_SETS, REPLICA_SETS, REPLICATION_CONTROLLERS] as readonly ResourceType[] as readonly ResourceType<Scalable>[];
