// All kinds that the API serves. A new kind is one new file and one line here.
import type { KubeObject } from "../../../base/kube/resources.ts";
import type { ResourceDefinition } from "./definition.ts";
import { CONFIG_MAP } from "./config-map.ts";
import { CRON_JOB } from "./cron-job.ts";
import { DEPLOYMENT } from "./deployment.ts";
import { EVENT } from "./event.ts";
import { JOB } from "./job.ts";
import { LEASE } from "./lease.ts";
import { NAMESPACE } from "./namespace.ts";
import { NODE } from "./node.ts";
import { POD } from "./pod.ts";
import { REPLICA_SET } from "./replica-set.ts";
import { SECRET } from "./secret.ts";

// A definition's functions take their own kind; the API passes each only objects that decoded as that kind.
const erase = <T extends KubeObject>(definition: ResourceDefinition<T>): ResourceDefinition => definition as unknown as ResourceDefinition;

export const DEFINITIONS: readonly ResourceDefinition[] = [
  erase(POD), erase(NODE), erase(NAMESPACE), erase(EVENT), erase(CONFIG_MAP), erase(SECRET),
  erase(DEPLOYMENT), erase(REPLICA_SET), erase(JOB), erase(CRON_JOB), erase(LEASE),
];

const BY_PLURAL = new Map(DEFINITIONS.map((d) => [`${d.type.apiVersion}/${d.type.plural}`, d]));
const BY_KIND = new Map(DEFINITIONS.map((d) => [`${d.type.apiVersion}/${d.type.kind}`, d]));

/** `group` is "" for the core group. */
export const definitionOf = (group: string, version: string, plural: string): ResourceDefinition | undefined =>
  BY_PLURAL.get(`${group === "" ? version : `${group}/${version}`}/${plural}`);

export const definitionOfKind = (apiVersion: string, kind: string): ResourceDefinition | undefined => BY_KIND.get(`${apiVersion}/${kind}`);
