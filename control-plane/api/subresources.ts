// Owns the subresources that are views of an object (status, scale, finalize) or one-off commands on it (binding, eviction).
// Streams (log, exec) are in streams/.
import { GantryError } from "../../base/errors.ts";
import { timestamp } from "../../base/kube/meta.ts";
import type { KubeObject } from "../../base/kube/resources.ts";
import { NODES, PODS } from "../../base/kube/resources.ts";
import { formatSelector, fromLabelSelector } from "../../base/kube/labels.ts";
import type { Binding, LabelSelector, Namespace, Pod, PodCondition, Scale } from "../../base/kube/types.gen.ts";
import { receiveObject } from "./body.ts";
import { commitChange } from "./commit.ts";
import { readNewest } from "./context.ts";
import type { ResourceRequest } from "./context.ts";
import { shownAs, storedFrom } from "./resources/definition.ts";
import type { ResourceDefinition } from "./resources/definition.ts";
import { POD_BEING_DEBUGGED } from "./resources/pod.ts";
import { validateResize, withResourcesOf } from "./resources/pod-resize.ts";
import { conflict, invalid, notFound, successStatus } from "./status.ts";
import { checkValid, expectedKindOf, finishUpdate, isDryRun } from "./write.ts";
import type { View } from "./write.ts";

export const statusView = (definition: ResourceDefinition): View => ({
  expected: expectedKindOf(definition),
  show: (object) => shownAs(definition, object),
  merge: (edited, current, request) => finishUpdate(request, { ...current, status: (storedFrom(definition, edited) as { status?: unknown }).status } as KubeObject, current),
});

/** Only namespaces: takes the finalizers of the spec away, the last of which frees the object. */
export const finalizeView = (definition: ResourceDefinition): View => ({
  expected: expectedKindOf(definition),
  show: (object) => object,
  merge: (edited, current) => ({ ...(current as Namespace), spec: { ...(current as Namespace).spec, finalizers: (edited as Namespace).spec?.finalizers ?? [] } }),
});

/** Only pods: CPU and memory of containers that may run already. */
export const resizeView = (definition: ResourceDefinition): View => ({
  expected: expectedKindOf(definition),
  show: (object) => object,
  merge: (edited, current, request) => {
    const [pod, wanted] = [current as Pod, edited as Pod];
    const next = withResourcesOf(pod, wanted);
    const causes = validateResize(wanted, next, pod);
    if (causes.length > 0) throw invalid(definition.type, pod.metadata.name ?? "", causes);
    if (next.spec!.containers.every((c, i) => c === pod.spec!.containers[i]) && (next.spec!.initContainers ?? []).every((c, i) => c === pod.spec!.initContainers![i])) return current;
    // An update of the pod itself may not change what is changed here, so it is held against a pod that had it already.
    checkValid(request, next, { ...next, metadata: pod.metadata });
    return { ...next, metadata: { ...next.metadata, generation: (pod.metadata.generation ?? 0) + 1 } };
  },
});

/** `spec.replicas` in an object, or undefined. */
const at = (object: unknown, path: string): unknown =>
  path.replace(/^\./, "").split(".").reduce<unknown>((value, key) => (value as Record<string, unknown> | undefined)?.[key], object);

/** A copy with the value at the path; what is not on the path is shared. */
const withAt = <T extends object>(object: T, path: string, value: unknown): T => {
  const [key = "", ...rest] = path.replace(/^\./, "").split(".");
  const inner = (object as Record<string, object | undefined>)[key] ?? {};
  return { ...object, [key]: rest.length === 0 ? value : withAt(inner, rest.join("."), value) };
};

const selectorText = (selector: unknown): string => {
  if (selector === undefined) return "";
  if (typeof selector === "string") return selector;
  // A ReplicationController's selector is labels alone.
  const labels = selector as Record<string, unknown>;
  if (Object.values(labels).every((value) => typeof value === "string")) return formatSelector(fromLabelSelector({ matchLabels: labels as Record<string, string> }));
  return formatSelector(fromLabelSelector(selector as LabelSelector));
};

const SCALE = { schema: "autoscaling/v1.Scale", group: "autoscaling", version: "v1", kind: "Scale" } as const;

export const scaleView = (definition: ResourceDefinition): View => {
  const paths = definition.subresources.scale!;
  return {
    expected: SCALE,
    show: (object) => {
      const { name, namespace, uid, resourceVersion, creationTimestamp } = object.metadata;
      return {
        kind: "Scale", apiVersion: "autoscaling/v1", metadata: { name, namespace, uid, resourceVersion, creationTimestamp },
        spec: { replicas: (at(object, paths.specReplicas) as number | undefined) ?? 0 },
        status: { replicas: (at(object, paths.statusReplicas) as number | undefined) ?? 0, selector: selectorText(at(object, paths.selector)) },
      } satisfies Scale;
    },
    merge: (edited, current, request) => {
      const replicas = (edited as Scale).spec?.replicas ?? 0;
      if (replicas < 0) {
        throw invalid(SCALE, current.metadata.name ?? "", [{ field: "spec.replicas", reason: "FieldValueInvalid", message: `Invalid value: ${replicas}: must be greater than or equal to 0` }]);
      }
      return finishUpdate(request, withAt(current, paths.specReplicas, replicas), current);
    },
  };
};

/** Containers for debugging, added to a pod that exists: `kubectl debug`. */
export const ephemeralView = (definition: ResourceDefinition): View => ({
  expected: expectedKindOf(definition),
  show: (object) => object,
  merge: (edited, current, request) => {
    const pod = current as Pod;
    const next: Pod = { ...pod, spec: { ...pod.spec!, ephemeralContainers: (edited as Pod).spec?.ephemeralContainers } };
    return finishUpdate({ ...request, definition: POD_BEING_DEBUGGED }, next, current);
  },
});

const condition = (pod: Pod, nowMs: number): PodCondition[] => [
  ...(pod.status?.conditions ?? []).filter((c) => c.type !== "PodScheduled"),
  { type: "PodScheduled", status: "True", lastProbeTime: undefined, lastTransitionTime: timestamp(nowMs) },
];

/** POST .../pods/NAME/binding: what a scheduler of one's own does. */
export const bind = async (request: ResourceRequest): Promise<void> => {
  const { context, exchange } = request;
  const { namespace } = exchange.info;
  const binding = await receiveObject(exchange, { schema: "core/v1.Binding", group: "", version: "v1", kind: "Binding" }) as Binding;
  const { metadata, target } = binding;
  const name = exchange.info.subresource === "" ? (metadata.name ?? "") : exchange.info.name;
  const fault = (field: string, message: string): GantryError => invalid({ group: "", kind: "Binding" }, name, [{ field, reason: "FieldValueInvalid", message }]);
  if (name === "" || (metadata.name !== undefined && metadata.name !== name)) throw new GantryError("BadRequest", `the name of the binding (${metadata.name ?? ""}) does not match the pod's (${name})`);
  if (target?.kind !== undefined && target.kind !== "" && target.kind !== "Node") throw fault("target.kind", `Unsupported value: ${JSON.stringify(target.kind)}: supported values: "Node"`);
  const nodeName = target?.name;
  if (nodeName === undefined || nodeName === "") throw fault("target.name", "Required value");
  if (!(await readNewest(context, { type: NODES, namespace: "", name: nodeName }))) throw notFound(NODES, nodeName);
  await commitChange(context, { type: PODS, namespace, name }, (current) => {
    const pod = current as Pod;
    if (pod.metadata.deletionTimestamp !== undefined) throw conflict(PODS, name, `pod ${name} is being deleted, cannot be assigned to a host`);
    if (pod.spec?.nodeName !== undefined && pod.spec.nodeName !== "") throw conflict(PODS, name, `pod ${name} is already assigned to node ${JSON.stringify(pod.spec.nodeName)}`);
    const next = {
      ...pod, spec: { ...pod.spec!, nodeName }, status: { ...pod.status, conditions: condition(pod, context.clock.nowMs()) },
      metadata: { ...pod.metadata, ...(metadata.annotations ? { annotations: { ...pod.metadata.annotations, ...metadata.annotations } } : {}) },
    };
    return { next, remove: false };
  }, { preconditions: { uid: metadata.uid, resourceVersion: metadata.resourceVersion }, dryRun: isDryRun(request) });
  exchange.value(201, successStatus(201));
};
