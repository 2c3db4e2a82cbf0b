// What may change in a pod that exists: pkg/apis/core/validation.ValidatePodUpdate.
import type { FieldCause } from "../../../base/errors.ts";
import type { Container, Pod, PodSpec } from "../../../base/kube/types.gen.ts";
import { forbidden, invalid } from "./faults.ts";
import { sameJson } from "./same-json.ts";

const MUTABLE = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

const imagesOf = (containers: Container[] | undefined, from: Container[] | undefined): Container[] | undefined =>
  containers?.map((c, i) => (from?.[i] ? { ...c, image: from[i].image } : c));

/** `next` with everything that may change set back: must equal the old spec. */
const withoutMutable = (next: PodSpec, old: PodSpec): PodSpec => ({
  ...next,
  containers: imagesOf(next.containers, old.containers) ?? [],
  initContainers: imagesOf(next.initContainers, old.initContainers),
  activeDeadlineSeconds: old.activeDeadlineSeconds,
  tolerations: old.tolerations,
  schedulingGates: old.schedulingGates,
});

/** By their own subresource alone, and only more of them: what was debugged with is a part of the pod's history. */
export const validateEphemeralUpdate = (next: Pod, previous: Pod): FieldCause[] => {
  const wanted = new Map((next.spec?.ephemeralContainers ?? []).map((c) => [c.name, c]));
  return (previous.spec?.ephemeralContainers ?? []).flatMap((old) => {
    const now = wanted.get(old.name);
    if (!now) return [forbidden("spec.ephemeralContainers", `existing ephemeral containers ${JSON.stringify(old.name)} may not be removed`)];
    return sameJson(now, old) ? [] : [forbidden("spec.ephemeralContainers", `existing ephemeral containers ${JSON.stringify(old.name)} may not be changed`)];
  });
};

export const validatePodUpdate = (next: Pod, previous: Pod): FieldCause[] => {
  const [spec, old] = [next.spec, previous.spec];
  if (!spec || !old) return [];
  const causes: FieldCause[] = [];
  const deadline = spec.activeDeadlineSeconds;
  if (old.activeDeadlineSeconds !== undefined && (deadline === undefined || deadline > old.activeDeadlineSeconds)) {
    causes.push(invalid("spec.activeDeadlineSeconds", deadline ?? null, deadline === undefined ? "must not update from a positive integer to nil value" : "must be less than or equal to previous value"));
  }
  const kept = (old.tolerations ?? []).every((t) => (spec.tolerations ?? []).some((n) => sameJson({ ...n, tolerationSeconds: t.tolerationSeconds }, t)));
  if (!kept) causes.push(forbidden("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds"));
  const gates = new Set((old.schedulingGates ?? []).map((g) => g.name));
  const added = (spec.schedulingGates ?? []).filter((g) => !gates.has(g.name));
  if (added.length > 0) causes.push(forbidden("spec.schedulingGates", `only deletion is allowed, but found new scheduling gates ${added.map((g) => `'${g.name}'`).join(", ")}`));
  const munged = withoutMutable(spec, old);
  if (!sameJson(munged, old)) {
    const changed = Object.keys({ ...munged, ...old }).filter((k) => !sameJson(munged[k as keyof PodSpec], old[k as keyof PodSpec]));
    causes.push(forbidden("spec", `${MUTABLE}; changed: ${changed.map((k) => `spec.${k}`).join(", ")}`));
  }
  return causes;
};
