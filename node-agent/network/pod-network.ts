// The contract of a node's pod network. Implemented in this folder by rtnetlink; used by pods/ and session.
import type { ClusterNetwork } from "../../proto/gen/gantry/v1/agent.ts";

export interface PodSandboxNetwork {
  readonly ip: string;
  readonly gateway: string;
  readonly prefixLength: number;
}

/** A port of the node that leads to a pod. */
export interface HostPort {
  readonly port: number;
  /** "", 0.0.0.0: of every address of the node. */
  readonly hostIp: string;
  readonly protocol: string;
  readonly containerPort: number;
}

export interface PublishedPod {
  /** NAMESPACE/NAME, for messages. */
  readonly name: string;
  readonly ip: string;
  readonly ports: readonly HostPort[];
}

export interface PodNetwork {
  /** Bridge, address, masquerading (nftables), ip_forward, routes to the other nodes. Idempotent; called again on every change. */
  configure(network: ClusterNetwork): Promise<void>;
  /**
   * Gives the pod an address and links its (already pinned) network namespace to the bridge; its loopback is up, too. Idempotent: called again for a pod that is
   * set up it returns the same address. "FailedPrecondition" when the node has no pod CIDR yet, "TooManyRequests" when the range is used up.
   */
  attach(podUid: string, netnsPath: string): Promise<PodSandboxNetwork>;
  /** Undoes attach; idempotent, also when half of it is gone. */
  detach(podUid: string): void;
  /** Ports of the node lead to the pod when it resolves. Idempotent. "Conflict" names the pod that has one of them, "FailedPrecondition": no nft. */
  publish(podUid: string, pod: PublishedPod): Promise<void>;
  /** Undoes publish; idempotent. */
  withdraw(podUid: string): Promise<void>;
  /** After a restart: these pods and no others. Until then the ports of before work on. */
  restorePublished(pods: ReadonlyMap<string, PublishedPod>): Promise<void>;
  /** Drops addresses and links of pods that are not in `podUids` (after a restart). */
  reconcile(podUids: ReadonlySet<string>): void;
  /** Removes bridge, rules and routes: for `gantry down` and for tests. */
  destroy(): Promise<void>;
}
