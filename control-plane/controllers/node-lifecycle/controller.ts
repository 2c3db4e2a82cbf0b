// Watches the nodes' leases, marks lost nodes, and evicts what can't stay: pods of lost nodes, pods that don't tolerate a NoExecute
// taint, pods of nodes that are no more. It alone writes a lost node's Ready condition and the node.kubernetes.io taints.
import { describeError } from "../../../base/errors.ts";
import { LEASES, NODES, PODS } from "../../../base/kube/resources.ts";
import type { Node, Pod } from "../../../base/kube/types.gen.ts";
import type { Logger } from "../../../base/logger.ts";
import { isActive, isReady, isTerminal, markedForDeletion, sameJson } from "../objects.ts";
import type { Controller, ControllerContext, Pass, Requeue } from "../reconcile-loop.ts";
import { graceOf } from "../writes.ts";
import { NodeHealth } from "./health.ts";
import { evictAtMs, isMarkedLost, reconcileNode, reconcilePodReadiness, withDisruption } from "./reconcile.ts";

export const LEASE_NAMESPACE = "kube-node-lease";
const WATCHDOG_MS = 1000;

export const nodeLifecycleController = (context: ControllerContext): Controller => {
  const { cache, clock, store, options } = context;
  const logger: Logger = context.logger.child({ component: "node-lifecycle" });
  const nodes = cache.resource(NODES);
  const leases = cache.resource(LEASES);
  const pods = cache.resource(PODS);
  const health = new NodeHealth({ leaseMs: options.nodeLeaseMs }, clock.monotonicMs());
  /** Nodes that pods are bound to and that don't exist, with the monotonic time since when; -Infinity for those whose deletion was seen. */
  const absentSince = new Map<string, number>();

  const podsOf = (node: string): Pod[] => Array.from(pods.byIndex("node", node), (s) => s.object);
  const renewTimeOf = (node: string): string | undefined => leases.get(LEASE_NAMESPACE, node)?.object.spec?.renewTime;

  /** Also called before a node is judged: after a SIGSTOP the judging timer may fire before the watchdog's. */
  const watchdog = (): void => {
    if (health.tick(clock.monotonicMs(), WATCHDOG_MS)) logger.warn("this process did not run for a while: every node gets a whole lease again", { leaseMs: options.nodeLeaseMs });
  };

  /** The lease as the store has it: a cache that lags must not cost a node its pods. Throws when the store can't tell, which counts as our own silence. */
  const isReallySilent = async (node: string): Promise<boolean> => {
    try {
      const lease = await store.get({ type: LEASES, namespace: LEASE_NAMESPACE, name: node });
      return !health.renew(node, lease?.object.spec?.renewTime, clock.monotonicMs());
    } catch (error) {
      health.extendAll(clock.monotonicMs());
      logger.warn("the store could not be asked for a silent node's lease: every node gets a whole lease again", { node, err: describeError(error) });
      throw error;
    }
  };

  const evict = async (pod: Pod, message: string, { writes, announce }: Pass): Promise<void> => {
    const nowMs = clock.nowMs();
    announce({ regarding: pod, type: "Normal", reason: "TaintManagerEviction", message: `Marking for deletion Pod ${pod.metadata.namespace!}/${pod.metadata.name!}: ${message}` });
    await writes.update(PODS, pod, (current) => (current.metadata.deletionTimestamp === undefined ? markedForDeletion(withDisruption(current, message, nowMs), nowMs, graceOf(current)) : undefined));
  };

  const syncPresent = async (node: Node, pass: Pass): Promise<void> => {
    const name = node.metadata.name!;
    watchdog();
    if (health.of(name, clock.monotonicMs()) === "lost" && !isMarkedLost(node)) await isReallySilent(name);
    const nowMs = clock.monotonicMs();
    const liveness = health.of(name, nowMs);
    const mayEvict = !health.allLost(nowMs);
    const next = reconcileNode(node, liveness, mayEvict, clock.nowMs());
    if (next !== node) {
      await pass.writes.update(NODES, node, (current) => {
        const wanted = reconcileNode(current, liveness, mayEvict, clock.nowMs());
        return sameJson(wanted, current) ? undefined : wanted;
      });
      if (isMarkedLost(next) && !isMarkedLost(node)) {
        logger.warn("a node is lost", { node: name, leaseMs: options.nodeLeaseMs });
        pass.announce({ regarding: node, type: "Warning", reason: "NodeNotReady", message: `Node ${name} status is now: NodeNotReady: its agent has not renewed its lease for ${options.nodeLeaseMs / 1000} s` });
      } else if (!isMarkedLost(next) && isMarkedLost(node)) {
        logger.info("a lost node returned", { node: name });
        pass.announce({ regarding: node, type: "Normal", reason: "NodeReady", message: `Node ${name} status is now: NodeReady: its agent renews its lease again` });
      }
    }
    const lost = isMarkedLost(next);
    const mine = podsOf(name).filter((pod) => !isTerminal(pod));
    const inDoubt = mine.filter((pod) => reconcilePodReadiness(pod, lost, clock.nowMs()) !== pod);
    await Promise.all(inDoubt.map((pod) => pass.writes.update(PODS, pod, (current) => reconcilePodReadiness(current, lost, clock.nowMs()))));

    // Whom to evict, and when to look again: at the next deadline, whether the lease's or a pod's.
    const untilLostMs = health.lostAtMs(name) - clock.monotonicMs();
    let againMs = untilLostMs > 0 ? untilLostMs : undefined;
    if (next.spec?.taints?.some((t) => t.effect === "NoExecute")) {
      // While we don't know whether it is lost, or all seem to be, nobody goes on account of that.
      const judged = lost && (liveness !== "lost" || !mayEvict) ? next.spec.taints.filter((t) => t.key !== "node.kubernetes.io/unreachable") : next.spec.taints;
      const wallMs = clock.nowMs();
      const lostAtMs = wallMs + health.lostAtMs(name) - clock.monotonicMs();
      const due: Pod[] = [];
      for (const pod of mine.filter(isActive)) {
        const atMs = evictAtMs(pod, { taints: judged, lostAtMs, podEvictionMs: options.podEvictionMs });
        if (atMs === undefined) continue;
        if (atMs <= wallMs) due.push(pod);
        else againMs = Math.min(againMs ?? Infinity, atMs - wallMs);
      }
      const why = lost ? `node ${name} is unreachable` : `it does not tolerate a NoExecute taint of node ${name}`;
      await Promise.all(due.map((pod) => evict(pod, why, pass)));
    }
    // A node that stays lost while nobody may be evicted is judged again when another returns; see `watch`.
    if (againMs !== undefined) pass.again(Math.max(1, againMs));
  };

  const syncAbsent = async (name: string, pass: Pass): Promise<void> => {
    const stranded = podsOf(name);
    if (stranded.length === 0) {
      absentSince.delete(name);
      return;
    }
    watchdog();
    const sinceMs = absentSince.get(name) ?? clock.monotonicMs();
    absentSince.set(name, sinceMs);
    const leftMs = sinceMs + options.absentNodeMs - clock.monotonicMs();
    if (leftMs > 0) {
      pass.again(leftMs);
      return;
    }
    if (await store.get({ type: NODES, namespace: "", name })) return;
    // No agent will ever confirm: they go at once.
    for (const pod of stranded) pass.announce({ regarding: pod, type: "Warning", reason: "NodeGone", message: `Deleting the pod: its node ${name} no longer exists` });
    await Promise.all(stranded.map((pod) => pass.writes.delete(PODS, pod, clock.nowMs(), { graceSeconds: 0 })));
  };

  /** After all seemed lost every node has to be looked at again, not only the one that was heard of. */
  const addAll = (queue: Requeue): void => {
    for (const name of health.names) queue.add(name);
  };

  return {
    name: "node-lifecycle",
    writer: "node-lifecycle",
    *watch(queue) {
      yield nodes.subscribe(({ type, stored: { object }, previous }) => {
        const name = object.metadata.name!;
        if (type === "deleted") {
          health.forget(name);
          absentSince.set(name, -Infinity);
        } else {
          health.track(name, renewTimeOf(name), clock.monotonicMs());
          absentSince.delete(name);
          // A new session says Ready just before its first renewal: without this it would be called lost once more.
          if (previous && isMarkedLost(previous.object) && !isMarkedLost(object)) health.heard(name, clock.monotonicMs());
        }
        queue.add(name);
      });
      yield leases.subscribe(({ type, stored: { object } }) => {
        if (type === "deleted" || object.metadata.namespace !== LEASE_NAMESPACE) return;
        const name = object.metadata.name!;
        const wereAllLost = health.allLost(clock.monotonicMs());
        if (!health.renew(name, object.spec?.renewTime, clock.monotonicMs())) return;
        if (wereAllLost) addAll(queue);
        const node = nodes.get("", name)?.object;
        if (node && isMarkedLost(node)) queue.add(name);
      });
      yield pods.subscribe(({ type, stored: { object: pod }, previous }) => {
        const name = pod.spec?.nodeName;
        if (type === "deleted" || !name || (previous?.object.spec?.nodeName === name && !(isReady(pod) && !isReady(previous.object)))) return;
        const node = nodes.get("", name)?.object;
        if (!node || isMarkedLost(node) || node.spec?.taints?.some((t) => t.effect === "NoExecute")) queue.add(name);
      });
      for (const { object } of nodes.list()) {
        health.track(object.metadata.name!, renewTimeOf(object.metadata.name!), clock.monotonicMs());
        queue.add(object.metadata.name!);
      }
      for (const { object: pod } of pods.list()) if (pod.spec?.nodeName && !nodes.get("", pod.spec.nodeName)) queue.add(pod.spec.nodeName);
      yield every(context, WATCHDOG_MS, watchdog);
    },

    async sync(name, pass) {
      const node = nodes.get("", name)?.object;
      if (node) await syncPresent(node, pass);
      else await syncAbsent(name, pass);
    },
  };
};

const every = ({ clock }: ControllerContext, periodMs: number, fn: () => void): Disposable => {
  let timer: Disposable;
  const arm = (): void => {
    timer = clock.setTimer(periodMs, () => {
      fn();
      arm();
    });
  };
  arm();
  return { [Symbol.dispose]: () => timer[Symbol.dispose]() };
};
