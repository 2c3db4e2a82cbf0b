// Why a pod runs where it runs, or doesn't: what `gantry why`, the PodScheduled condition and FailedScheduling events say. The
// scheduler implements PodExplainer; the API serves it; they meet here.

export interface FailedCheck {
  /** The filter's name: "resources", "taints", "node-affinity", ... */
  readonly check: string;
  /** For users: "insufficient cpu: needs 500m, 200m of 2 free". */
  readonly message: string;
}

export interface NodeGroup {
  readonly nodes: readonly string[];
  readonly failed: readonly FailedCheck[];
}

export interface Explanation {
  readonly pod: string;
  readonly nodeName: string | undefined;
  /** Nodes that fail alike, the largest group first; empty when it fits somewhere. */
  readonly groups: readonly NodeGroup[];
  readonly fits: readonly string[];
  /** "0/3 nodes are available: 2 Insufficient cpu, 1 node(s) had untolerated taint {...}." as upstream words it. */
  readonly summary: string;
  /** The smallest change that would make it fit, in words; undefined when it fits or nothing small would help. */
  readonly suggestion: string | undefined;
}

export interface PodExplainer {
  /** "NotFound" when there is no such pod. */
  explain(namespace: string, name: string): Explanation;
}
