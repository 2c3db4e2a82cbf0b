// Objects for the scheduler's tests.
import type { Node, Pod, PodSpec, Taint } from "../../base/kube/types.gen.ts";

export const aNode = (name: string, more: { cpu?: string; memory?: string; pods?: string; labels?: Record<string, string>; taints?: Taint[]; ready?: boolean; unschedulable?: boolean; images?: { names: string[]; sizeBytes: number }[] } = {}): Node => ({
  apiVersion: "v1", kind: "Node", metadata: { name, uid: `uid-${name}`, labels: { "kubernetes.io/hostname": name, ...more.labels } },
  spec: { taints: more.taints, unschedulable: more.unschedulable },
  status: {
    allocatable: { cpu: more.cpu ?? "4", memory: more.memory ?? "8Gi", pods: more.pods ?? "110" },
    conditions: [{ type: "Ready", status: more.ready === false ? "False" : "True" }], images: more.images,
  },
});

export const aPod = (name: string, more: { cpu?: string; memory?: string; owner?: string; spec?: Partial<PodSpec>; hostPort?: number; labels?: Record<string, string>; namespace?: string } = {}): Pod => ({
  apiVersion: "v1", kind: "Pod",
  metadata: {
    name, namespace: more.namespace ?? "default", uid: `uid-${name}`, ...(more.labels && { labels: more.labels }),
    ...(more.owner ? { ownerReferences: [{ apiVersion: "apps/v1", kind: "ReplicaSet", name: more.owner, uid: more.owner, controller: true }] } : {}),
  },
  spec: {
    containers: [{
      name: "c", image: "i",
      resources: { requests: { ...(more.cpu ? { cpu: more.cpu } : {}), ...(more.memory ? { memory: more.memory } : {}) } },
      ...(more.hostPort ? { ports: [{ containerPort: 80, hostPort: more.hostPort, protocol: "TCP" }] } : {}),
    }],
    ...more.spec,
  },
  status: { phase: "Pending" },
});
