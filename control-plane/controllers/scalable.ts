// The kinds whose pods are counted by `spec.replicas`.
import { fromLabelSelector } from "../../base/kube/labels.ts";
import type { Selector } from "../../base/kube/labels.ts";
import { DEPLOYMENTS, REPLICATION_CONTROLLERS, REPLICA_SETS, STATEFUL_SETS } from "../../base/kube/resources.ts";
import type { KubeObject, ResourceType } from "../../base/kube/resources.ts";
import type { LabelSelector } from "../../base/kube/types.gen.ts";

export interface Scalable extends KubeObject {
  spec?: { replicas?: number | undefined; selector?: LabelSelector | Record<string, string> | undefined } | undefined;
}

export const SCALABLE = [DEPLOYMENTS, STATEFUL_SETS, REPLICA_SETS, REPLICATION_CONTROLLERS] as readonly ResourceType[] as readonly ResourceType<Scalable>[];

/** Which pods count towards its size. */
export const podSelectorOf = (type: ResourceType<Scalable>, { spec }: Scalable): Selector =>
  // A ReplicationController's selector is labels alone.
  fromLabelSelector(type.name === REPLICATION_CONTROLLERS.name ? { matchLabels: spec?.selector as Record<string, string> | undefined } : (spec?.selector as LabelSelector | undefined) ?? {});
