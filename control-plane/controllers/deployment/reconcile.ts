// What a Deployment's ReplicaSets need now. Pure: (deployment, its ReplicaSets, whether old pods still run, now) -> plan.
import { STAGED_REPLICAS } from "../../../base/kube/staging.ts";
import type { Deployment, DeploymentStatus, ReplicaSet } from "../../../base/kube/types.gen.ts";
import { sameJson, withSpec } from "../objects.ts";
import { annotationsAt, DESIRED_REPLICAS, MAX_REPLICAS, newReplicaSet, REVISION, revisionOf, sameTemplate } from "./revisions.ts";
import { boundsOf, currentSize, occupiedBy, oldestFirst, rollingSizes, scaledSizes, sizeOf, total, wasScaled } from "./sizes.ts";
import type { Sizes } from "./sizes.ts";
import { deploymentStatus } from "./status.ts";

export interface Input {
  readonly deployment: Deployment;
  /** All that it owns. */
  readonly replicaSets: readonly ReplicaSet[];
  /** Some pod of an old ReplicaSet has not ended: Recreate waits for that. */
  readonly oldPodsRun: boolean;
  readonly nowMs: number;
  readonly uid: () => string;
}

export interface Resize {
  readonly replicaSet: ReplicaSet;
  readonly from: number;
  readonly to: number;
}

export interface Plan {
  readonly create: ReplicaSet | undefined;
  /** Changed ReplicaSets, whole: sizes and annotations. */
  readonly update: readonly { readonly before: ReplicaSet; readonly after: ReplicaSet }[];
  readonly resizes: readonly Resize[];
  readonly remove: readonly ReplicaSet[];
  /** For deployment.kubernetes.io/revision on the Deployment; undefined to leave it. */
  readonly revision: string | undefined;
  readonly status: DeploymentStatus;
  readonly againMs: number | undefined;
}

const DEFAULT_HISTORY = 10;

/** The ReplicaSet of the current template; of several (hash collisions of older versions) the oldest, so that all agree. */
export const currentOf = (deployment: Deployment, replicaSets: readonly ReplicaSet[]): ReplicaSet | undefined =>
  [...replicaSets].sort(oldestFirst).find((rs) => rs.spec?.template && sameTemplate(rs.spec.template, deployment.spec!.template));

const finished = (deployment: Deployment, old: readonly ReplicaSet[]): ReplicaSet[] => {
  const limit = deployment.spec?.revisionHistoryLimit ?? DEFAULT_HISTORY;
  const idle = old.filter((rs) => sizeOf(rs) === 0 && (rs.status?.replicas ?? 0) === 0 && (rs.status?.observedGeneration ?? 0) >= (rs.metadata.generation ?? 0) && rs.metadata.deletionTimestamp === undefined);
  return idle.sort((a, b) => revisionOf(a) - revisionOf(b)).slice(0, Math.max(0, idle.length - limit));
};

export const reconcile = ({ deployment, replicaSets, oldPodsRun, nowMs, uid }: Input): Plan => {
  const spec = deployment.spec!;
  const bounds = boundsOf(deployment);
  const maxReplicas = bounds.replicas + bounds.maxSurge;
  const isRecreate = spec.strategy?.type === "Recreate";
  const current = currentOf(deployment, replicaSets);
  const old = replicaSets.filter((rs) => rs !== current);
  const deleting = deployment.metadata.deletionTimestamp !== undefined;
  const scaled = wasScaled(bounds, replicaSets);
  const othersTotal = total(old, occupiedBy);
  const revision = Math.max(0, ...old.map(revisionOf)) + 1;

  const sizes = (): Sizes => {
    if (deleting) return new Map();
    if (spec.paused || scaled) return scaledSizes(deployment, bounds, current, old);
    if (isRecreate) {
      const down = new Map(old.filter((rs) => sizeOf(rs) > 0).map((rs) => [rs.metadata.uid!, 0]));
      return current && down.size === 0 && !oldPodsRun ? new Map([[current.metadata.uid!, bounds.replicas]]) : down;
    }
    return current ? rollingSizes(bounds, current, old) : new Map();
  };
  const wanted = sizes();
  const mayCreate = !current && !deleting && !spec.paused && !scaled && !(isRecreate && (othersTotal > 0 || oldPodsRun));
  const create = mayCreate ? newReplicaSet(deployment, currentSize(bounds, isRecreate, 0, othersTotal), revision, maxReplicas, nowMs, uid()) : undefined;

  const update: { before: ReplicaSet; after: ReplicaSet }[] = [];
  const resizes: Resize[] = [];
  if (!deleting) {
    for (const rs of replicaSets) {
      const { [STAGED_REPLICAS]: _, ...others } = rs.metadata.annotations ?? {};
      const to = wanted.get(rs.metadata.uid!) ?? sizeOf(rs);
      const isCurrent = rs === current && !spec.paused;
      const annotations = isCurrent
        ? annotationsAt(deployment, rs, Math.max(revision, revisionOf(rs)), maxReplicas)
        // Also those that keep their size: else the change of spec.replicas would look unhandled for ever.
        : to > 0 || sizeOf(rs) > 0 ? { ...others, [DESIRED_REPLICAS]: String(bounds.replicas), [MAX_REPLICAS]: String(maxReplicas) } : others;
      const minReady = isCurrent ? (spec.minReadySeconds ?? 0) : (rs.spec?.minReadySeconds ?? 0);
      const resized = to !== sizeOf(rs) || minReady !== (rs.spec?.minReadySeconds ?? 0);
      if (!resized && sameJson(annotations, rs.metadata.annotations ?? {})) continue;
      const annotated: ReplicaSet = { ...rs, metadata: { ...rs.metadata, annotations } };
      update.push({ before: rs, after: resized ? withSpec(annotated, { ...rs.spec!, replicas: to, ...(minReady > 0 || rs.spec?.minReadySeconds ? { minReadySeconds: minReady } : {}) }) : annotated });
      if (to !== sizeOf(rs)) resizes.push({ replicaSet: rs, from: sizeOf(rs), to });
    }
  }
  const { status, complete, againMs } = deploymentStatus({ deployment, bounds, current: create ?? current, old, nowMs, created: create });
  const holder = create ?? update.find(({ before }) => before === current)?.after ?? current;
  const shown = holder?.metadata.annotations?.[REVISION];
  return {
    create, update, resizes,
    remove: complete && !deleting ? finished(deployment, old) : [],
    revision: shown !== undefined && shown !== deployment.metadata.annotations?.[REVISION] ? shown : undefined,
    status, againMs,
  };
};
