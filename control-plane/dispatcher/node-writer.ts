// Writes Node objects and node leases on behalf of agents, and decides which range of pod addresses a node gets.
import { isDeepStrictEqual } from "node:util";
import type { Clock } from "../../base/clock.ts";
import { GantryError, isCode } from "../../base/errors.ts";
import { newUid } from "../../base/ids.ts";
import { LEASES, NODES } from "../../base/kube/resources.ts";
import type { Lease, Node } from "../../base/kube/types.gen.ts";
import type { Logger } from "../../base/logger.ts";
import type { NodeCondition, NodeDescription } from "../../proto/gen/gantry/v1/agent.ts";
import type { WatchCache } from "../state/cache.ts";
import type { Fence, Store } from "../state/store.ts";
import { newNode, withConditions, withDescription } from "./node-object.ts";
import { PodCidrAllocator } from "./pod-cidrs.ts";

export const LEASE_NAMESPACE = "kube-node-lease";

export interface NodeWriterOptions {
  readonly store: Store;
  readonly cache: WatchCache;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly fence: () => Fence | undefined;
  readonly clusterCidr: string;
  readonly nodeMask: number;
  readonly leaseMs: number;
}

const nodeKey = (name: string) => ({ type: NODES, namespace: "", name });

export class NodeWriter implements Disposable {
  readonly #options: NodeWriterOptions;
  readonly #subscription: Disposable;
  /** Which ranges are taken, as of the leadership that `era` names: the fence keeps every other process from writing one meanwhile. */
  #allocator: { readonly era: string; readonly ready: Promise<PodCidrAllocator> } | undefined;

  constructor(options: NodeWriterOptions) {
    this.#options = options;
    // Refuses a bad range at start, not at the first node.
    void new PodCidrAllocator(options.clusterCidr, options.nodeMask);
    this.#subscription = options.cache.resource(NODES).subscribe(({ type, stored: { object } }) => {
      const cidr = object.spec?.podCIDR;
      if (type === "deleted" && cidr) void this.#allocator?.ready.then((allocator) => allocator.release(object.metadata.name ?? "", cidr), () => undefined);
    });
  }

  [Symbol.dispose](): void {
    this.#subscription[Symbol.dispose]();
  }

  /** Creates or updates the node's object and makes sure that it has a range of pod addresses. */
  async describe(name: string, description: NodeDescription): Promise<Node> {
    const { store, clock, fence } = this.#options;
    const options = { writer: "agent", fence: fence() } as const;
    const allocator = await this.#loadAllocator(options.fence);
    const current = await store.get(nodeKey(name));
    const podCidr = this.#rangeFor(name, current?.object, allocator);
    try {
      const stored = current
        ? await store.update(nodeKey(name), (node) => withDescription(node, description, node.spec?.podCIDR || podCidr), options)
        : await store.create(nodeKey(name), newNode(name, newUid(), description, podCidr, clock.nowMs()), options);
      // Somebody else's range may have come in between; then ours is free again.
      if (stored.object.spec?.podCIDR !== podCidr) allocator.release(name, podCidr);
      return stored.object;
    } catch (error) {
      // Only these say for certain that nothing was written; after a lost connection the range may well be in use.
      if (!isCode(error, "AlreadyExists", "NotFound")) throw error;
      // Created or deleted by a user in between: look again.
      allocator.release(name, podCidr);
      return this.describe(name, description);
    }
  }

  /** Writes the node only when a condition changed. "NotFound" when the object was deleted. */
  async report(name: string, conditions: readonly NodeCondition[], description: NodeDescription | undefined): Promise<void> {
    const { store, cache, clock, fence } = this.#options;
    const change = (node: Node): Node => {
      const described = description ? withDescription(node, description, node.spec?.podCIDR ?? "") : node;
      return withConditions(described, conditions, clock.nowMs());
    };
    const cached = cache.resource(NODES).get("", name)?.object;
    if (cached && change(cached) === cached) return;
    await store.update(nodeKey(name), change, { writer: "agent", fence: fence() });
  }

  /** Returns the version of the write: whoever has seen it has seen everything that was written before. */
  async renewLease(nodeName: string, nodeUid: string): Promise<number> {
    const { store, clock, fence, leaseMs } = this.#options;
    const key = { type: LEASES, namespace: LEASE_NAMESPACE, name: nodeName };
    const options = { writer: "agent", fence: fence() } as const;
    const spec = {
      holderIdentity: nodeName, leaseDurationSeconds: Math.ceil(leaseMs / 1000),
      renewTime: `${new Date(clock.nowMs()).toISOString().slice(0, -1)}000Z`,
    };
    // Goes with its node.
    const ownerReferences = [{ apiVersion: "v1", kind: "Node", name: nodeName, uid: nodeUid }];
    const renew = (lease: Lease): Lease => ({
      ...lease, spec: { ...lease.spec, ...spec },
      metadata: isDeepStrictEqual(lease.metadata.ownerReferences, ownerReferences) ? lease.metadata : { ...lease.metadata, ownerReferences },
    });
    try {
      return (await store.update(key, renew, options)).resourceVersion;
    } catch (error) {
      if (!isCode(error, "NotFound")) throw error;
    }
    const metadata = { name: nodeName, namespace: LEASE_NAMESPACE, uid: newUid(), creationTimestamp: `${spec.renewTime.slice(0, 19)}Z`, ownerReferences };
    try {
      return (await store.create(key, { apiVersion: LEASES.apiVersion, kind: LEASES.kind, metadata, spec }, options)).resourceVersion;
    } catch (error) {
      // The session before this one was as quick.
      if (isCode(error, "AlreadyExists")) return (await store.update(key, renew, options)).resourceVersion;
      throw error;
    }
  }

  #loadAllocator(fence: Fence | undefined): Promise<PodCidrAllocator> {
    const era = fence?.createRevision ?? "";
    if (this.#allocator?.era === era) return this.#allocator.ready;
    const ready = this.#readRanges();
    const loading = { era, ready };
    this.#allocator = loading;
    ready.catch(() => {
      if (this.#allocator === loading) this.#allocator = undefined;
    });
    return ready;
  }

  /** From the store, not the cache: what the leader before wrote last may not have reached the cache yet. */
  async #readRanges(): Promise<PodCidrAllocator> {
    const { store, logger, clusterCidr, nodeMask } = this.#options;
    const allocator = new PodCidrAllocator(clusterCidr, nodeMask);
    for (const { object } of (await store.list(NODES)).items) {
      const { name = "" } = object.metadata;
      const cidr = object.spec?.podCIDR;
      if (cidr && !allocator.reserve(name, cidr)) logger.error("two nodes have the same range of pod addresses; delete one of the Node objects and its agent joins anew", { node: name, podCidr: cidr });
    }
    return allocator;
  }

  #rangeFor(name: string, node: Node | undefined, allocator: PodCidrAllocator): string {
    const existing = node?.spec?.podCIDR;
    if (existing === undefined || existing === "") return allocator.allocate(name);
    if (!allocator.reserve(name, existing)) {
      throw new GantryError("Conflict", `node ${name}: its range of pod addresses ${existing} belongs to another node as well; delete the Node object ${name} to have it given a new one`);
    }
    return existing;
  }
}
