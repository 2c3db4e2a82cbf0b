// What a resize may change: the CPU and memory of containers that a pod has already. pkg/apis/core/validation.ValidatePodResize. Pure.
import type { FieldCause } from "../../../base/errors.ts";
import { qosClassOf } from "../../../base/kube/qos-class.ts";
import type { Container, ContainerResizePolicy, Pod } from "../../../base/kube/types.gen.ts";
import { forbidden, invalid, oneOf, required } from "./faults.ts";
import { duplicates } from "./metadata.ts";
import { validateResources } from "./quantities.ts";
import { sameJson } from "./same-json.ts";

const RESIZABLE = ["cpu", "memory"];
const POLICIES = ["NotRequired", "RestartContainer"];

/** `current` with the resources of `edited`, by the containers' names: a resize changes nothing else. */
export const withResourcesOf = (current: Pod, edited: Pod): Pod => {
  const merged = (containers: Container[] | undefined, from: readonly Container[] | undefined): Container[] | undefined => containers?.map((c) => {
    const next = from?.find((e) => e.name === c.name);
    return next && !sameJson(next.resources, c.resources) ? { ...c, resources: next.resources } : c;
  });
  const spec = current.spec!;
  const initContainers = merged(spec.initContainers, edited.spec?.initContainers);
  return { ...current, spec: { ...spec, containers: merged(spec.containers, edited.spec?.containers) ?? [], ...(initContainers ? { initContainers } : {}) } };
};

const others = (amounts: Readonly<Record<string, string>> | undefined): Record<string, string> => Object.fromEntries(Object.entries(amounts ?? {}).filter(([name]) => !RESIZABLE.includes(name)));

const validateContainer = (path: string, next: Container, old: Container, isPlainInit: boolean): FieldCause[] => {
  if (sameJson(next.resources, old.resources)) return [];
  const at = `${path}.resources`;
  if (isPlainInit) return [forbidden(at, "only resources of containers and of restartable init containers are mutable")];
  return [
    ...validateResources(at, next.resources),
    ...(["requests", "limits"] as const).flatMap((kind) => [
      ...(sameJson(others(next.resources?.[kind]), others(old.resources?.[kind])) ? [] : [forbidden(`${at}.${kind}`, "only cpu and memory resources are mutable")]),
      ...RESIZABLE.filter((r) => old.resources?.[kind]?.[r] !== undefined && next.resources?.[kind]?.[r] === undefined).map((r) => forbidden(`${at}.${kind}`, `resource ${kind} cannot be removed: ${r}`)),
    ]),
  ];
};

/** `edited` as the client sent it, `next` what would be stored. */
export const validateResize = (edited: Pod, next: Pod, old: Pod): FieldCause[] => {
  const names = (pod: Pod): readonly string[] => [...(pod.spec?.containers ?? []), ...(pod.spec?.initContainers ?? [])].map((c) => c.name);
  const unknown = names(edited).filter((name) => !names(old).includes(name));
  const ended = old.status?.phase === "Succeeded" || old.status?.phase === "Failed";
  return [
    ...unknown.map((name) => forbidden("spec.containers", `pod resize may not add containers, and the pod has no ${JSON.stringify(name)}`)),
    ...(ended ? [forbidden("spec", `the pod has ended (${old.status!.phase}): there is nothing to resize`)] : []),
    ...next.spec!.containers.flatMap((c, i) => validateContainer(`spec.containers[${i}]`, c, old.spec!.containers[i]!, false)),
    ...(next.spec!.initContainers ?? []).flatMap((c, i) => validateContainer(`spec.initContainers[${i}]`, c, old.spec!.initContainers![i]!, c.restartPolicy !== "Always")),
    ...(qosClassOf(next.spec!) === qosClassOf(old.spec!) ? [] : [invalid("spec", qosClassOf(next.spec!), "Pod QOS Class may not change as a result of resizing")]),
  ];
};

export const validateResizePolicy = (path: string, policies: readonly ContainerResizePolicy[], restartPolicy: string | undefined): FieldCause[] => [
  ...policies.flatMap((p, i) => [
    ...(p.resourceName ? oneOf(`${path}[${i}].resourceName`, p.resourceName, RESIZABLE) : [required(`${path}[${i}].resourceName`)]),
    ...(p.restartPolicy ? oneOf(`${path}[${i}].restartPolicy`, p.restartPolicy, POLICIES) : [required(`${path}[${i}].restartPolicy`)]),
    ...(restartPolicy === "Never" && p.restartPolicy === "RestartContainer" ? [invalid(`${path}[${i}].restartPolicy`, p.restartPolicy, "must be 'NotRequired' when `restartPolicy` is 'Never'")] : []),
  ]),
  ...duplicates(policies, (p) => p.resourceName, (i) => `${path}[${i}]`),
];
