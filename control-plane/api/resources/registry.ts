// All kinds that the API serves. A new kind is one new file and one line here.
import type { KubeObject } from "../../../base/kube/resources.ts";
import type { ResourceDefinition } from "./definition.ts";
import { CONFIG_MAP } from "./config-map.ts";
import { CONTROLLER_REVISION } from "./controller-revision.ts";
import { CRON_JOB } from "./cron-job.ts";
import { DAEMON_SET } from "./daemon-set.ts";
import { DEPLOYMENT } from "./deployment.ts";
import { EVENT } from "./event.ts";
import { HORIZONTAL_POD_AUTOSCALER } from "./horizontal-pod-autoscaler.ts";
import { HORIZONTAL_POD_AUTOSCALER_V1 } from "./horizontal-pod-autoscaler-v1.ts";
import { JOB } from "./job.ts";
import { LEASE } from "./lease.ts";
import { LIMIT_RANGE } from "./limit-range.ts";
import { NAMESPACE } from "./namespace.ts";
import { NODE } from "./node.ts";
import { PERSISTENT_VOLUME } from "./persistent-volume.ts";
import { PERSISTENT_VOLUME_CLAIM } from "./persistent-volume-claim.ts";
import { POD } from "./pod.ts";
import { REPLICA_SET } from "./replica-set.ts";
import { REPLICATION_CONTROLLER } from "./replication-controller.ts";
import { POD_DISRUPTION_BUDGET } from "./pod-disruption-budget.ts";
import { PRIORITY_CLASS } from "./priority-class.ts";
import { RESOURCE_QUOTA } from "./resource-quota.ts";
import { RUNTIME_CLASS } from "./runtime-class.ts";
import { SCHEDULED_SCALER } from "./scheduled-scaler.ts";
import { SECRET } from "./secret.ts";
import { STATEFUL_SET } from "./stateful-set.ts";
import { STORAGE_CLASS } from "./storage-class.ts";

// A definition's functions take their own kind; the API passes each only objects that decoded as that kind.
const erase = <T extends KubeObject>(definition: ResourceDefinition<T>): ResourceDefinition => definition as unknown as ResourceDefinition;

export const DEFINITIONS: readonly ResourceDefinition[] = [
  erase(POD), erase(NODE), erase(NAMESPACE), erase(EVENT), erase(CONFIG_MAP), erase(SECRET),
  erase(DEPLOYMENT), erase(REPLICA_SET), erase(DAEMON_SET), erase(STATEFUL_SET), erase(CONTROLLER_REVISION), erase(REPLICATION_CONTROLLER),
  // Of several versions the first is the preferred one.
  erase(HORIZONTAL_POD_AUTOSCALER), erase(HORIZONTAL_POD_AUTOSCALER_V1),
  erase(JOB), erase(CRON_JOB), erase(LEASE),
  erase(PERSISTENT_VOLUME), erase(PERSISTENT_VOLUME_CLAIM), erase(STORAGE_CLASS), erase(RUNTIME_CLASS), erase(PRIORITY_CLASS), erase(POD_DISRUPTION_BUDGET), erase(RESOURCE_QUOTA), erase(LIMIT_RANGE), erase(SCHEDULED_SCALER),
];

const BY_PLURAL = new Map(DEFINITIONS.map((d) => [`${d.type.apiVersion}/${d.type.plural}`, d]));
const BY_KIND = new Map(DEFINITIONS.map((d) => [`${d.type.apiVersion}/${d.type.kind}`, d]));

/** `group` is "" for the core group. */
export const definitionOf = (group: string, version: string, plural: string): ResourceDefinition | undefined =>
  BY_PLURAL.get(`${group === "" ? version : `${group}/${version}`}/${plural}`);

export const definitionOfKind = (apiVersion: string, kind: string): ResourceDefinition | undefined => BY_KIND.get(`${apiVersion}/${kind}`);
