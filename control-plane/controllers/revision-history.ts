// ControllerRevisions: the templates that a StatefulSet or DaemonSet has had, as `kubectl rollout history|undo` reads them. Pure.
// Upstream: pkg/controller/history/controller_history.go.
import { createHash } from "node:crypto";
import { SUFFIX_ALPHABET } from "../../base/ids.ts";
import { CONTROLLER_REVISIONS } from "../../base/kube/resources.ts";
import type { KubeObject, ResourceType } from "../../base/kube/resources.ts";
import type { ControllerRevision, PodTemplateSpec } from "../../base/kube/types.gen.ts";
import { canonicalJson, controllerReference, timestamp } from "./objects.ts";

/** On pods: which revision they are of. */
export const REVISION_HASH = "controller-revision-hash";
/** Annotations of the owner that its revisions don't inherit. */
const OWN_ANNOTATIONS: ReadonlySet<string> = new Set(["kubectl.kubernetes.io/last-applied-configuration"]);
const HASH_LENGTH = 10;

type Templated = KubeObject & { readonly spec?: { readonly template: PodTemplateSpec; readonly revisionHistoryLimit?: number | undefined } | undefined };

/** A strategic merge patch that restores the template: what `kubectl rollout undo` sends back to us. */
const dataOf = (template: PodTemplateSpec): object => ({ spec: { template: { ...template, $patch: "replace" } } });

/** The template of a revision; undefined for data that nobody here wrote. */
export const templateOf = (revision: ControllerRevision): PodTemplateSpec | undefined => {
  const template = (revision.data as { spec?: { template?: PodTemplateSpec & { $patch?: string } } } | undefined)?.spec?.template;
  if (!template) return undefined;
  const { $patch: _, ...rest } = template;
  return rest;
};

const texts = new WeakMap<object, string>();
const dataText = (data: unknown): string => {
  if (typeof data !== "object" || data === null) return "";
  let text = texts.get(data);
  if (text === undefined) texts.set(data, (text = canonicalJson(data)));
  return text;
};

const hashOf = (text: string, collisionCount: number): string => {
  const digest = createHash("sha256").update(text).update(collisionCount === 0 ? "" : String(collisionCount)).digest();
  return Array.from(digest.subarray(0, HASH_LENGTH), (byte) => SUFFIX_ALPHABET[byte % SUFFIX_ALPHABET.length]).join("");
};

export interface History {
  /** Of the template as it is now; may be one that is still to be created. */
  readonly current: ControllerRevision;
  /** `current` is new. */
  readonly create: boolean;
  /** `current` is an older one that was returned to, and gets this number. */
  readonly renumber: number | undefined;
}

/** The name's hash of a revision: what a DaemonSet's pods carry. */
export const hashLabel = (revision: ControllerRevision): string => revision.metadata.labels?.[REVISION_HASH] ?? "";

const newestFirst = (a: ControllerRevision, b: ControllerRevision): number => b.revision - a.revision || (a.metadata.name! < b.metadata.name! ? 1 : -1);

export const historyOf = (type: ResourceType, owner: Templated, revisions: readonly ControllerRevision[], collisionCount: number, nowMs: number, uid: () => string): History => {
  const { template } = owner.spec!;
  const data = dataOf(template);
  const text = dataText(data);
  const sorted = [...revisions].sort(newestFirst);
  const next = (sorted[0]?.revision ?? 0) + 1;
  const same = sorted.find((r) => dataText(r.data) === text);
  if (same) return { current: same, create: false, renumber: same === sorted[0] ? undefined : next };
  const { name, namespace, annotations } = owner.metadata;
  const hash = hashOf(text, collisionCount);
  const inherited = Object.fromEntries(Object.entries(annotations ?? {}).filter(([key]) => !OWN_ANNOTATIONS.has(key)));
  const current: ControllerRevision = {
    apiVersion: CONTROLLER_REVISIONS.apiVersion, kind: CONTROLLER_REVISIONS.kind,
    metadata: {
      name: `${name!.slice(0, 253 - HASH_LENGTH - 1)}-${hash}`, namespace: namespace!, uid: uid(), creationTimestamp: timestamp(nowMs),
      labels: { ...template.metadata?.labels, [REVISION_HASH]: hash }, ...(Object.keys(inherited).length > 0 && { annotations: inherited }),
      ownerReferences: [controllerReference(type, owner)],
    },
    data, revision: next,
  };
  return { current, create: true, renumber: undefined };
};

const DEFAULT_LIMIT = 10;

/** The oldest revisions beyond the limit that nothing uses; `live` are names. */
export const surplusRevisions = (owner: Templated, revisions: readonly ControllerRevision[], live: ReadonlySet<string>): readonly ControllerRevision[] =>
  revisions.filter((r) => !live.has(r.metadata.name!) && r.metadata.deletionTimestamp === undefined).sort(newestFirst).slice(owner.spec?.revisionHistoryLimit ?? DEFAULT_LIMIT);
