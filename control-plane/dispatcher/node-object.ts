// The Node object of an agent, from what the agent says of itself. Pure.
import { isDeepStrictEqual } from "node:util";
import { GantryError } from "../../base/errors.ts";
import { isLabelKey, isLabelValue } from "../../base/kube/labels.ts";
import { formatBytes, formatMilliCpu, formatQuantity } from "../../base/kube/quantity.ts";
import type { Node, NodeCondition, NodeStatus } from "../../base/kube/types.gen.ts";
import type { NodeCondition as ReportedCondition, NodeDescription, Resources } from "../../proto/gen/gantry/v1/agent.ts";
import { toTime } from "./pod-status.ts";

const MAX_IMAGES = 50;
const TAINT_EFFECTS = new Set(["NoSchedule", "PreferNoSchedule", "NoExecute"]);

/** "Invalid", naming the field: what an agent was configured with must not break the objects of others. */
export const checkDescription = (node: NodeDescription | undefined): NodeDescription => {
  const fault = (field: string, value: unknown, why: string): GantryError => new GantryError("Invalid", `node.${field}: ${JSON.stringify(value)}: ${why}`);
  if (node === undefined) throw new GantryError("Invalid", "node: a description of the node is required");
  if (node.addresses.length === 0) throw fault("addresses", [], "at least one address where other nodes reach this one is required");
  for (const address of node.addresses) if (!/^[0-9a-fA-F.:]+$/.test(address)) throw fault("addresses", address, "must be an IP address");
  for (const [key, value] of Object.entries(node.labels)) {
    if (!isLabelKey(key)) throw fault("labels", key, "is not a label key");
    if (!isLabelValue(value)) throw fault(`labels[${key}]`, value, "is not a label value");
  }
  for (const taint of node.taints) {
    if (!isLabelKey(taint.key)) throw fault("taints", taint.key, "is not a taint key");
    if (!TAINT_EFFECTS.has(taint.effect)) throw fault("taints", taint.effect, `the effect must be one of ${[...TAINT_EFFECTS].join(", ")}`);
  }
  if (node.peerPort < 0 || node.peerPort > 65535) throw fault("peer_port", node.peerPort, "must be a port, or 0 for none");
  if (!node.capacity || !node.allocatable) throw fault("capacity", null, "capacity and allocatable are required");
  return node;
};

const toQuantities = (r: Resources | undefined): Record<string, string> => (r === undefined ? {} : {
  cpu: formatMilliCpu(r.milliCpu), memory: formatBytes(r.memoryBytes), "ephemeral-storage": formatBytes(r.ephemeralStorageBytes), pods: String(r.pods),
  ...Object.fromEntries(Object.entries(r.extended).map(([k, v]) => [k, formatQuantity(k, v)])),
});

const describedStatus = (name: string, d: NodeDescription): NodeStatus => ({
  capacity: toQuantities(d.capacity), allocatable: toQuantities(d.allocatable),
  addresses: [...d.addresses.map((address) => ({ type: "InternalIP", address })), { type: "Hostname", address: d.hostname === "" ? name : d.hostname }],
  nodeInfo: {
    machineID: d.machineId, systemUUID: d.machineId, bootID: d.bootId, kernelVersion: d.kernelVersion, osImage: d.osImage, architecture: d.architecture,
    operatingSystem: "linux", containerRuntimeVersion: d.runtimeVersion, kubeletVersion: d.agentVersion, kubeProxyVersion: "",
  },
  runtimeHandlers: d.runtimeHandlers.map(({ name: handler, userNamespaces }) => ({ name: handler, features: { userNamespaces } })),
  images: d.images.slice(0, MAX_IMAGES).map((image) => ({ names: image.names, sizeBytes: image.sizeBytes })),
});

const wellKnownLabels = (name: string, d: NodeDescription): Record<string, string> => ({
  ...d.labels, "kubernetes.io/hostname": name, "kubernetes.io/arch": d.architecture, "kubernetes.io/os": "linux",
});

const CGROUPS_ANNOTATION = "gantry.io/cgroups";
/** Where the node's agent gives image blobs to other nodes. */
export const PEER_PORT_ANNOTATION = "gantry.io/image-peer-port";

const NOT_YET: ReportedCondition = { type: "NetworkUnavailable", status: true, reason: "NetworkNotConfigured", message: "the node has not set up its pod network yet" };
const PRESSURES = ["MemoryPressure", "DiskPressure", "PIDPressure"] as const;

/** All conditions that the agent answers for: the pressures, and Ready, which follows from the others. */
const toConditions = (reported: readonly ReportedCondition[]): readonly Omit<NodeCondition, "lastTransitionTime" | "lastHeartbeatTime">[] => {
  const byType = new Map(reported.map((c) => [c.type, c]));
  const network = byType.get("NetworkUnavailable") ?? NOT_YET;
  const explicit = byType.get("Ready");
  const broken = network.status ? network : explicit && !explicit.status ? explicit : undefined;
  const pressures = PRESSURES.map((type) => {
    const c = byType.get(type);
    return c ? { type, status: c.status ? "True" : "False", reason: c.reason, message: c.message } : { type, status: "False", reason: `AgentHasNo${type}`, message: `the agent reports no ${type}` };
  });
  const ready = broken
    ? { type: "Ready", status: "False", reason: broken.reason || "AgentNotReady", message: broken.message }
    : { type: "Ready", status: "True", reason: "AgentReady", message: "the agent is connected and can run pods" };
  return [...pressures, { type: "NetworkUnavailable", status: network.status ? "True" : "False", reason: network.reason, message: network.message }, ready];
};

/** Same reference when nothing changed: heartbeats renew the lease, not the node. */
export const withConditions = (node: Node, reported: readonly ReportedCondition[], nowMs: number): Node => {
  const now = toTime(nowMs)!;
  const before = new Map((node.status?.conditions ?? []).map((c) => [c.type, c]));
  let changed = false;
  const next = toConditions(reported).map((c): NodeCondition => {
    const old = before.get(c.type);
    before.delete(c.type);
    if (old?.status === c.status && old.reason === c.reason && old.message === c.message) return old;
    changed = true;
    return { ...c, lastHeartbeatTime: now, lastTransitionTime: old?.status === c.status ? (old.lastTransitionTime ?? now) : now };
  });
  return changed ? { ...node, status: { ...node.status, conditions: [...before.values(), ...next] } } : node;
};

/** What a session, or a heartbeat with a new description, writes. Taints are a new node's only: afterwards they are the users'. */
export const withDescription = (node: Node, d: NodeDescription, podCidr: string): Node => {
  const name = node.metadata.name ?? "";
  const next: Node = {
    ...node,
    metadata: {
      ...node.metadata,
      labels: { ...node.metadata.labels, ...wellKnownLabels(name, d) },
      annotations: { ...node.metadata.annotations, [CGROUPS_ANNOTATION]: d.cgroupNotes.join("; "), ...(d.peerPort > 0 ? { [PEER_PORT_ANNOTATION]: String(d.peerPort) } : {}) },
    },
    spec: { ...node.spec, podCIDR: podCidr, podCIDRs: [podCidr] },
    status: { ...node.status, ...describedStatus(name, d) },
  };
  return isDeepStrictEqual(next, node) ? node : next;
};

export const newNode = (name: string, uid: string, d: NodeDescription, podCidr: string, nowMs: number): Node => {
  const bare: Node = {
    apiVersion: "v1", kind: "Node", metadata: { name, uid, creationTimestamp: toTime(nowMs) },
    ...(d.taints.length > 0 ? { spec: { taints: d.taints.map(({ key, value, effect }) => ({ key, effect, ...(value === "" ? {} : { value }) })) } } : {}),
  };
  return withConditions(withDescription(bare, d, podCidr), [NOT_YET], nowMs);
};
