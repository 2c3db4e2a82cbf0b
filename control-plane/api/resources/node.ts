// Node: https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/node-v1/
import type { FieldCause } from "../../../base/errors.ts";
import { NODES } from "../../../base/kube/resources.ts";
import type { Node } from "../../../base/kube/types.gen.ts";
import { ageColumn, column, nameColumn, wide } from "./columns.ts";
import type { ResourceDefinition } from "./definition.ts";
import { invalid, oneOf, required } from "./faults.ts";
import { change, fill } from "./fill.ts";
import { duplicates, validateMetadata } from "./metadata.ts";
import { isLabelValue, isQualifiedName } from "./names.ts";
import { validateAmounts } from "./quantities.ts";

const ROLE_PREFIX = "node-role.kubernetes.io/";
const TAINT_EFFECTS = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

const statusOf = (node: Node): string => {
  const ready = node.status?.conditions?.find((c) => c.type === "Ready");
  const state = ready === undefined ? "Unknown" : ready.status === "True" ? "Ready" : "NotReady";
  return node.spec?.unschedulable ? `${state},SchedulingDisabled` : state;
};

const rolesOf = (node: Node): string => {
  const roles = Object.entries(node.metadata.labels ?? {}).flatMap(([k, v]) =>
    k.startsWith(ROLE_PREFIX) ? [k.slice(ROLE_PREFIX.length)] : k === "kubernetes.io/role" ? [v] : []).filter((r) => r !== "");
  return [...new Set(roles)].sort().join(",") || "<none>";
};

const addressOf = (node: Node, type: string): string => node.status?.addresses?.find((a) => a.type === type)?.address ?? "<none>";

const validateTaints = (node: Node): FieldCause[] => {
  const taints = node.spec?.taints ?? [];
  const path = (i: number): string => `spec.taints[${i}]`;
  return [
    ...taints.flatMap((t, i) => [
      ...isQualifiedName(t.key ?? "").map((m) => invalid(`${path(i)}.key`, t.key ?? "", m)),
      ...isLabelValue(t.value ?? "").map((m) => invalid(`${path(i)}.value`, t.value, m)),
      ...(t.effect ? oneOf(`${path(i)}.effect`, t.effect, TAINT_EFFECTS) : [required(`${path(i)}.effect`)]),
    ]),
    ...duplicates(taints, (t) => `${t.key}:${t.effect}`, path),
  ];
};

export const NODE: ResourceDefinition<Node> = {
  type: NODES,
  singular: "node",
  shortNames: ["no"],
  categories: [],
  schema: "core/v1.Node",
  defaults: (node) => change(node, "status", (s) => (s.capacity && !s.allocatable ? fill(s, { allocatable: s.capacity }) : s)),
  validate: (node, previous) => [
    ...validateMetadata(NODES, node, previous),
    ...validateTaints(node),
    ...validateAmounts("status.capacity", node.status?.capacity), ...validateAmounts("status.allocatable", node.status?.allocatable),
    ...(previous?.spec?.podCIDR && node.spec?.podCIDR !== previous.spec.podCIDR
      ? [invalid("spec.podCIDR", node.spec?.podCIDR ?? "", "node updates may only change podCIDR from \"\" to valid")] : []),
  ],
  strategy: {},
  columns: [
    nameColumn(),
    column("Status", "string", "The status of the node", statusOf),
    column("Roles", "string", "The roles of the node", rolesOf),
    ageColumn(),
    column("Version", "string", "Kubelet Version reported by the node.", (n) => n.status?.nodeInfo?.kubeletVersion ?? ""),
    wide("Internal-IP", "string", "The node's address inside the cluster.", (n) => addressOf(n, "InternalIP")),
    wide("External-IP", "string", "The node's address outside the cluster.", (n) => addressOf(n, "ExternalIP")),
    wide("OS-Image", "string", "OS Image reported by the node.", (n) => n.status?.nodeInfo?.osImage || "<unknown>"),
    wide("Kernel-Version", "string", "Kernel Version reported by the node.", (n) => n.status?.nodeInfo?.kernelVersion || "<unknown>"),
    wide("Container-Runtime", "string", "ContainerRuntime Version reported by the node.", (n) => n.status?.nodeInfo?.containerRuntimeVersion || "<unknown>"),
  ],
  fieldSelectors: { "spec.unschedulable": (n) => String(n.spec?.unschedulable ?? false) },
  subresources: { status: true },
};
