// Names, hashes and annotations of a Deployment's ReplicaSets: what `kubectl rollout history|undo|restart` reads. Pure.
// Upstream: pkg/controller/deployment/util/deployment_util.go.
import { createHash } from "node:crypto";
import { SUFFIX_ALPHABET } from "../../../base/ids.ts";
import { REPLICA_SETS } from "../../../base/kube/resources.ts";
import { DEPLOYMENTS } from "../../../base/kube/resources.ts";
import { STAGED_REPLICAS } from "../../../base/kube/staging.ts";
import type { Deployment, PodTemplateSpec, ReplicaSet } from "../../../base/kube/types.gen.ts";
import { canonicalJson, controllerReference, timestamp } from "../objects.ts";

export const HASH_LABEL = "pod-template-hash";
export const REVISION = "deployment.kubernetes.io/revision";
export const REVISION_HISTORY = "deployment.kubernetes.io/revision-history";
export const DESIRED_REPLICAS = "deployment.kubernetes.io/desired-replicas";
export const MAX_REPLICAS = "deployment.kubernetes.io/max-replicas";

/** Annotations of the Deployment that its ReplicaSets don't inherit. */
const OWN_ANNOTATIONS: ReadonlySet<string> = new Set([
  "kubectl.kubernetes.io/last-applied-configuration", REVISION, REVISION_HISTORY, DESIRED_REPLICAS, MAX_REPLICAS, "deprecated.deployment.rollback.to",
]);

const HASH_LENGTH = 10;
const texts = new WeakMap<PodTemplateSpec, string>();

/** The template without the hash label that a ReplicaSet's copy has. Cached: templates are immutable and compared often. */
const templateText = (template: PodTemplateSpec): string => {
  let text = texts.get(template);
  if (text === undefined) {
    const { [HASH_LABEL]: _hash, ...labels } = template.metadata?.labels ?? {};
    texts.set(template, (text = canonicalJson({ ...template, metadata: { ...template.metadata, labels, creationTimestamp: undefined } })));
  }
  return text;
};

export const sameTemplate = (a: PodTemplateSpec, b: PodTemplateSpec): boolean => templateText(a) === templateText(b);

/** Stable for one template; `collisions` changes it when another ReplicaSet has the name already. In the alphabet of generated names. */
export const templateHash = (template: PodTemplateSpec, collisions = 0): string =>
  Array.from(createHash("sha256").update(`${templateText(template)}${collisions || ""}`).digest().subarray(0, HASH_LENGTH), (byte) => SUFFIX_ALPHABET[byte % SUFFIX_ALPHABET.length]).join("");

export const revisionOf = (object: Deployment | ReplicaSet): number => Number(object.metadata.annotations?.[REVISION] ?? 0) || 0;

/** The annotations of the current ReplicaSet at revision `revision`; earlier revisions that it had are kept in its history. */
export const annotationsAt = (deployment: Deployment, current: ReplicaSet | undefined, revision: number, maxReplicas: number): Record<string, string> => {
  const before = current?.metadata.annotations ?? {};
  const inherited = Object.entries(deployment.metadata.annotations ?? {}).filter(([key]) => !OWN_ANNOTATIONS.has(key));
  const old = before[REVISION];
  const history = old !== undefined && old !== String(revision) ? [before[REVISION_HISTORY], old].filter((part) => part).join(",") : before[REVISION_HISTORY];
  // Unlike the others this one goes, too, when the Deployment's goes.
  const { [STAGED_REPLICAS]: _, ...kept } = before;
  return {
    ...kept, ...Object.fromEntries(inherited), [REVISION]: String(revision), ...(history && { [REVISION_HISTORY]: history }),
    [DESIRED_REPLICAS]: String(deployment.spec?.replicas ?? 1), [MAX_REPLICAS]: String(maxReplicas),
  };
};

export const newReplicaSet = (deployment: Deployment, replicas: number, revision: number, maxReplicas: number, nowMs: number, uid: string): ReplicaSet => {
  const { metadata, spec, status } = deployment;
  const template = spec!.template;
  const hash = templateHash(template, status?.collisionCount);
  const labels = { ...template.metadata?.labels, [HASH_LABEL]: hash };
  return {
    apiVersion: REPLICA_SETS.apiVersion,
    kind: REPLICA_SETS.kind,
    metadata: {
      name: `${metadata.name!.slice(0, 253 - HASH_LENGTH - 1)}-${hash}`, namespace: metadata.namespace!, uid, creationTimestamp: timestamp(nowMs), generation: 1, labels,
      annotations: annotationsAt(deployment, undefined, revision, maxReplicas), ownerReferences: [controllerReference(DEPLOYMENTS, deployment)],
    },
    spec: {
      replicas,
      ...(spec!.minReadySeconds && { minReadySeconds: spec!.minReadySeconds }),
      selector: { ...spec!.selector, matchLabels: { ...spec!.selector.matchLabels, [HASH_LABEL]: hash } },
      template: { ...template, metadata: { ...template.metadata, labels } },
    },
    status: { replicas: 0 },
  };
};
