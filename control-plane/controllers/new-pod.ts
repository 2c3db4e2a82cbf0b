// The one place where controllers make a pod. The template was defaulted by the API when its owner was written, so the pod is
// complete; only what is a pod's own (name, uid, owner, status) is added. Pure.
import { qosClassOf } from "../../base/kube/qos-class.ts";
import type { KubeObject, ResourceType } from "../../base/kube/resources.ts";
import type { Pod, PodTemplateSpec } from "../../base/kube/types.gen.ts";
import { controllerReference, timestamp } from "./objects.ts";

export interface PodIds {
  /** newUid and nameSuffix of base/ids.ts, or a test's own. */
  uid(): string;
  suffix(): string;
}

/** Upstream's limit: a pod's name is its host name, a label of at most 63 characters, 5 of them the suffix. */
const MAX_BASE_LENGTH = 58;

/** A name from a base such as "web-": cut so that the suffix always fits. */
export const generatedName = (base: string, suffix: string): string => `${base.slice(0, MAX_BASE_LENGTH)}${suffix}`;

export const newPod = (template: PodTemplateSpec, owner: { readonly type: ResourceType; readonly object: KubeObject }, nowMs: number, ids: PodIds): Pod => {
  const { labels, annotations, finalizers } = template.metadata ?? {};
  const base = `${owner.object.metadata.name!}-`;
  const spec = template.spec!;
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name: generatedName(base, ids.suffix()), generateName: base, namespace: owner.object.metadata.namespace!, uid: ids.uid(), creationTimestamp: timestamp(nowMs), generation: 1,
      ...(labels && { labels }), ...(annotations && { annotations }), ...(finalizers && { finalizers }),
      ownerReferences: [controllerReference(owner.type, owner.object)],
    },
    spec,
    status: { phase: "Pending", qosClass: qosClassOf(spec) },
  };
};
