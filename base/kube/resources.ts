// The identity of every resource that Gantry serves: what discovery, storage keys and owner references agree on. What a kind
// means (schema, defaults, validation, columns) is in control-plane/api/resources.
import type {
  ConfigMap, CronJob, Deployment, Event, Job, Lease, Namespace, Node, ObjectMeta, Pod, ReplicaSet, Secret,
} from "./types.gen.ts";

/** Any API object in its JSON form. */
export interface KubeObject {
  apiVersion: string;
  kind: string;
  metadata: ObjectMeta;
}

/** `pods`, `deployments.apps`: plural, and group where there is one. Also the storage prefix and the CLI's canonical name. */
export type ResourceName = string;

export interface ResourceType<T extends KubeObject = KubeObject> {
  readonly name: ResourceName;
  readonly group: string;
  readonly version: string;
  readonly apiVersion: string;
  readonly kind: string;
  readonly plural: string;
  readonly namespaced: boolean;
  /** Never set: carries T for inference. */
  readonly _type?: T;
}

const define = <T extends KubeObject>(group: string, version: string, kind: string, plural: string, namespaced: boolean): ResourceType<T> => ({
  name: group === "" ? plural : `${plural}.${group}`, group, version, apiVersion: group === "" ? version : `${group}/${version}`, kind, plural, namespaced,
});

export const PODS = define<Pod>("", "v1", "Pod", "pods", true);
export const NODES = define<Node>("", "v1", "Node", "nodes", false);
export const NAMESPACES = define<Namespace>("", "v1", "Namespace", "namespaces", false);
export const EVENTS = define<Event>("", "v1", "Event", "events", true);
export const CONFIG_MAPS = define<ConfigMap>("", "v1", "ConfigMap", "configmaps", true);
export const SECRETS = define<Secret>("", "v1", "Secret", "secrets", true);
export const DEPLOYMENTS = define<Deployment>("apps", "v1", "Deployment", "deployments", true);
export const REPLICA_SETS = define<ReplicaSet>("apps", "v1", "ReplicaSet", "replicasets", true);
export const JOBS = define<Job>("batch", "v1", "Job", "jobs", true);
export const CRON_JOBS = define<CronJob>("batch", "v1", "CronJob", "cronjobs", true);
export const LEASES = define<Lease>("coordination.k8s.io", "v1", "Lease", "leases", true);

export const ALL_RESOURCES: readonly ResourceType[] = [
  PODS, NODES, NAMESPACES, EVENTS, CONFIG_MAPS, SECRETS, DEPLOYMENTS, REPLICA_SETS, JOBS, CRON_JOBS, LEASES,
];

export const resourceOfKind = (apiVersion: string, kind: string): ResourceType | undefined =>
  ALL_RESOURCES.find((r) => r.apiVersion === apiVersion && r.kind === kind);
