// The taints that a node's state brings with it, and how long pods bear them. Pure.
// https://kubernetes.io/docs/reference/labels-annotations-taints/
import { tolerates } from "./node-match.ts";
import type { Node, Pod, Toleration } from "./types.gen.ts";

export const UNREACHABLE = "node.kubernetes.io/unreachable";
export const NOT_READY = "node.kubernetes.io/not-ready";
export const UNSCHEDULABLE = "node.kubernetes.io/unschedulable";
export const MEMORY_PRESSURE = "node.kubernetes.io/memory-pressure";
export const DISK_PRESSURE = "node.kubernetes.io/disk-pressure";
export const PID_PRESSURE = "node.kubernetes.io/pid-pressure";
export const NETWORK_UNAVAILABLE = "node.kubernetes.io/network-unavailable";
/** Set by a user who knows that the machine is off: what it ran need not be waited for. https://kubernetes.io/docs/concepts/cluster-administration/node-shutdown/#non-graceful-node-shutdown */
export const OUT_OF_SERVICE = "node.kubernetes.io/out-of-service";

export const isNodeReady = (node: Node): boolean => node.status?.conditions?.some((c) => c.type === "Ready" && c.status === "True") === true;

/** Those that every pod bears for a while, for the node may come back. */
const PASSING = [NOT_READY, UNREACHABLE] as const;

const bears = (tolerations: readonly Toleration[] | undefined, key: string): boolean => tolerations?.some((t) => tolerates(t, { key, effect: "NoExecute" })) === true;

/** The pod with tolerations of `seconds` for a node that is not ready or not heard of, where it has none of its own (upstream: the admission plugin DefaultTolerationSeconds). */
export const withDefaultTolerations = (pod: Pod, seconds: number): Pod => {
  const missing = PASSING.filter((key) => !bears(pod.spec?.tolerations, key));
  if (missing.length === 0) return pod;
  const added = missing.map((key): Toleration => ({ key, operator: "Exists", effect: "NoExecute", tolerationSeconds: seconds }));
  return { ...pod, spec: { ...pod.spec!, tolerations: [...(pod.spec?.tolerations ?? []), ...added] } };
};

/** The changed pod with those of the tolerations that were added to `before` which the change leaves out: a manifest that is applied again doesn't know them. */
export const keepingDefaultTolerations = (pod: Pod, before: Pod): Pod => {
  const dropped = (before.spec?.tolerations ?? []).filter((t) => PASSING.some((key) => t.key === key && !bears(pod.spec?.tolerations, key)));
  return dropped.length === 0 || !pod.spec ? pod : { ...pod, spec: { ...pod.spec, tolerations: [...(pod.spec.tolerations ?? []), ...dropped] } };
};
