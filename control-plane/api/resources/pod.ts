// Pod: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/
import { keepingDefaultTolerations } from "../../../base/kube/node-taints.ts";
import { PODS } from "../../../base/kube/resources.ts";
import type { Pod } from "../../../base/kube/types.gen.ts";
import type { ResourceDefinition } from "./definition.ts";
import { change } from "./fill.ts";
import { validateMetadata } from "./metadata.ts";
import { POD_COLUMNS } from "./pod-columns.ts";
import { podDefaults, podSpecDefaults } from "./pod-defaults.ts";
import { validateEphemeralUpdate, validatePodUpdate } from "./pod-update.ts";
import { validateLifecycle, validatePodSpec, validateStartAt } from "./pod-validation.ts";
import { isTerminal } from "../../../base/kube/pod-state.ts";
import { qosClassOf } from "../../../base/kube/qos-class.ts";
import { forbidden, required } from "./faults.ts";


const streamOptions = (kind: string): { group: string; version: string; kind: string } => ({ group: "", version: "v1", kind });

export const POD: ResourceDefinition<Pod> = {
  type: PODS,
  singular: "pod",
  shortNames: ["po"],
  categories: ["all"],
  schema: "core/v1.Pod",
  defaults: (pod) => change(pod, "spec", podSpecDefaults),
  validate: (pod, previous) => [
    ...validateMetadata(PODS, pod, previous), ...validateStartAt("metadata.annotations", pod.metadata.annotations),
    ...validateLifecycle("metadata.annotations", pod.metadata.annotations, previous && { annotations: previous.metadata.annotations }),
    ...(pod.spec ? validatePodSpec("spec", pod.spec) : [required("spec")]),
    ...(previous ? validatePodUpdate(pod, previous) : pod.spec?.ephemeralContainers?.length ? [forbidden("spec.ephemeralContainers", "cannot be set on create")] : []),
  ],
  strategy: {
    prepareForCreate: (pod) => {
      const complete = change(pod, "spec", podDefaults);
      return { ...complete, status: { phase: "Pending", ...(complete.spec?.containers ? { qosClass: qosClassOf(complete.spec) } : {}) } };
    },
    // A controller creates pods straight from a template, without a pod's own defaults: an update doesn't bring them in.
    prepareForUpdate: (next, current) => keepingDefaultTolerations(current.spec?.enableServiceLinks === undefined ? next : change(next, "spec", podDefaults), current),
    gracePeriodSeconds: (pod) => (!pod.spec?.nodeName || isTerminal(pod) ? 0 : (pod.spec.terminationGracePeriodSeconds ?? 30)),
  },
  columns: POD_COLUMNS,
  fieldSelectors: {
    "spec.nodeName": (p) => p.spec?.nodeName ?? "",
    "spec.restartPolicy": (p) => p.spec?.restartPolicy ?? "",
    "spec.schedulerName": (p) => p.spec?.schedulerName ?? "",
    "spec.serviceAccountName": (p) => p.spec?.serviceAccountName ?? "",
    "spec.hostNetwork": (p) => String(p.spec?.hostNetwork ?? false),
    "status.phase": (p) => p.status?.phase ?? "",
    "status.podIP": (p) => p.status?.podIP ?? "",
    "status.podIPs": (p) => p.status?.podIPs?.map((i) => i.ip ?? "").join(",") ?? "",
    "status.nominatedNodeName": (p) => p.status?.nominatedNodeName ?? "",
  },
  subresources: {
    status: true,
    custom: [
      { name: "binding", verbs: ["create"], kind: { group: "", version: "v1", kind: "Binding" } },
      { name: "eviction", verbs: ["create"], kind: { group: "policy", version: "v1", kind: "Eviction" } },
      { name: "attach", verbs: ["create", "get"], kind: streamOptions("PodAttachOptions") },
      { name: "portforward", verbs: ["create", "get"], kind: streamOptions("PodPortForwardOptions") },
      { name: "ephemeralcontainers", verbs: ["get", "patch", "update"], kind: streamOptions("Pod") },
      { name: "exec", verbs: ["create", "get"], kind: streamOptions("PodExecOptions") },
      { name: "resize", verbs: ["get", "patch", "update"], kind: streamOptions("Pod") },
      { name: "log", verbs: ["get"], kind: streamOptions("Pod") },
    ],
  },
};

/** What the ephemeralcontainers subresource holds a pod to: it changes nothing else, and there nothing else may change these. */
export const POD_BEING_DEBUGGED: ResourceDefinition<Pod> = {
  ...POD,
  validate: (pod, previous) => [...(pod.spec ? validatePodSpec("spec", pod.spec) : [required("spec")]), ...(previous ? validateEphemeralUpdate(pod, previous) : [])],
};
