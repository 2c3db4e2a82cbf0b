// The identity of every resource that Gantry serves: what discovery, storage keys and owner references agree on. What a kind
// means (schema, defaults, validation, columns) is in control-plane/api/resources.
import type {
  ConfigMap, ControllerRevision, CronJob, DaemonSet, Deployment, Event, HorizontalPodAutoscaler, Job, Lease, LimitRange, Namespace, Node, ObjectMeta, PersistentVolume, PersistentVolumeClaim, Pod, ReplicaSet, ReplicationController,
  PodDisruptionBudget, PriorityClass, ResourceQuota, RuntimeClass, ScheduledScaler, Secret, StatefulSet, StorageClass,
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
export const DAEMON_SETS = define<DaemonSet>("apps", "v1", "DaemonSet", "daemonsets", true);
export const STATEFUL_SETS = define<StatefulSet>("apps", "v1", "StatefulSet", "statefulsets", true);
export const CONTROLLER_REVISIONS = define<ControllerRevision>("apps", "v1", "ControllerRevision", "controllerrevisions", true);
export const REPLICATION_CONTROLLERS = define<ReplicationController>("", "v1", "ReplicationController", "replicationcontrollers", true);
export const JOBS = define<Job>("batch", "v1", "Job", "jobs", true);
export const CRON_JOBS = define<CronJob>("batch", "v1", "CronJob", "cronjobs", true);
export const SCHEDULED_SCALERS = define<ScheduledScaler>("gantry.io", "v1", "ScheduledScaler", "scheduledscalers", true);
export const LEASES = define<Lease>("coordination.k8s.io", "v1", "Lease", "leases", true);
export const PERSISTENT_VOLUMES = define<PersistentVolume>("", "v1", "PersistentVolume", "persistentvolumes", false);
export const PERSISTENT_VOLUME_CLAIMS = define<PersistentVolumeClaim>("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", true);
export const STORAGE_CLASSES = define<StorageClass>("storage.k8s.io", "v1", "StorageClass", "storageclasses", false);
export const RUNTIME_CLASSES = define<RuntimeClass>("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses", false);
export const PRIORITY_CLASSES = define<PriorityClass>("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", false);
export const POD_DISRUPTION_BUDGETS = define<PodDisruptionBudget>("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", true);
export const RESOURCE_QUOTAS = define<ResourceQuota>("", "v1", "ResourceQuota", "resourcequotas", true);
export const HORIZONTAL_POD_AUTOSCALERS = define<HorizontalPodAutoscaler>("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", true);
export const LIMIT_RANGES = define<LimitRange>("", "v1", "LimitRange", "limitranges", true);

export const ALL_RESOURCES: readonly ResourceType[] = [
  PODS, NODES, NAMESPACES, EVENTS, CONFIG_MAPS, SECRETS, DEPLOYMENTS, REPLICA_SETS, DAEMON_SETS, STATEFUL_SETS,
  CONTROLLER_REVISIONS, REPLICATION_CONTROLLERS, JOBS, CRON_JOBS, LEASES, SCHEDULED_SCALERS,
  PERSISTENT_VOLUMES, PERSISTENT_VOLUME_CLAIMS, STORAGE_CLASSES, RUNTIME_CLASSES, PRIORITY_CLASSES, POD_DISRUPTION_BUDGETS, RESOURCE_QUOTAS, LIMIT_RANGES,
  HORIZONTAL_POD_AUTOSCALERS,
];

export const resourceOfKind = (apiVersion: string, kind: string): ResourceType | undefined =>
  ALL_RESOURCES.find((r) => r.apiVersion === apiVersion && r.kind === kind);
