// Keeps the ControllerRevisions of one owner: adopts, creates, renumbers and clears them. Shared by StatefulSets and DaemonSets.
import { isCode } from "../../base/errors.ts";
import { newUid } from "../../base/ids.ts";
import { CONTROLLER_REVISIONS } from "../../base/kube/resources.ts";
import type { KubeObject, ResourceType } from "../../base/kube/resources.ts";
import type { ControllerRevision, LabelSelector, PodTemplateSpec } from "../../base/kube/types.gen.ts";
import { applyClaim, candidatesOf, claim, selectorOf } from "./claim.ts";
import { sameJson } from "./objects.ts";
import type { ControllerContext, Pass } from "./reconcile-loop.ts";
import { historyOf, surplusRevisions } from "./revision-history.ts";

type Owner = KubeObject & {
  readonly spec?: { readonly template: PodTemplateSpec; readonly selector: LabelSelector; readonly revisionHistoryLimit?: number | undefined } | undefined;
  status?: { collisionCount?: number | undefined } | undefined;
};

export interface Revisions {
  readonly current: ControllerRevision;
  /** All of the owner's, `current` among them. */
  readonly all: readonly ControllerRevision[];
}

/** Undefined when the new revision's name was taken: the owner's collisionCount is raised, and the next pass tries another. */
export const keepHistory = async <T extends Owner>({ cache, clock, store }: ControllerContext, type: ResourceType<T>, owner: T, { writes }: Pass): Promise<Revisions | undefined> => {
  const { selector } = owner.spec!;
  const owned = await applyClaim(writes, CONTROLLER_REVISIONS, type, owner, claim(owner, selectorOf(selector), candidatesOf(cache.resource(CONTROLLER_REVISIONS), owner, selector)));
  const history = historyOf(type, owner, owned, owner.status?.collisionCount ?? 0, clock.nowMs(), newUid);
  const { current } = history;
  if (history.renumber !== undefined) {
    const revision = history.renumber;
    const renumbered = await writes.update(CONTROLLER_REVISIONS, current, (latest) => ({ ...latest, revision }));
    if (!renumbered) return undefined;
    return { current: renumbered, all: owned.map((r) => (r === current ? renumbered : r)) };
  }
  if (!history.create || owner.metadata.deletionTimestamp !== undefined) return { current, all: owned };
  try {
    const created = await writes.create(CONTROLLER_REVISIONS, current);
    return { current: created, all: [...owned, created] };
  } catch (error) {
    if (!isCode(error, "AlreadyExists")) throw error;
    const taken = (await store.get({ type: CONTROLLER_REVISIONS, namespace: owner.metadata.namespace!, name: current.metadata.name! }))?.object;
    // One with our data will be seen, or adopted, as soon as the cache has it.
    if (!taken || sameJson(taken.data, current.data)) return undefined;
    await writes.update(type, owner, (latest) => ({ ...latest, status: { ...latest.status, collisionCount: (owner.status?.collisionCount ?? 0) + 1 } }));
    return undefined;
  }
};

/** `live` are the names of revisions that something uses. */
export const clearHistory = async ({ clock }: ControllerContext, owner: Owner, { all }: Revisions, live: ReadonlySet<string>, { writes }: Pass): Promise<void> => {
  await Promise.all(surplusRevisions(owner, all, live).map((revision) => writes.delete(CONTROLLER_REVISIONS, revision, clock.nowMs())));
};
