// Watches the nodes' leases, marks lost nodes, and evicts what can't stay: pods of lost nodes, pods that don't tolerate a NoExecute
// taint, pods of nodes that are no more. It alone writes a lost node's Ready condition and the node.kubernetes.io taints.
import { describeError } from "../../../base/errors.ts";
import { isNodeReady, OUT_OF_SERVICE } from "../../../base/kube/node-taints.ts";
import { LEASES, NODES, PODS } from "../../../base/kube/resources.ts";
import type { Node, Pod } from "../../../base/kube/types.gen.ts";
import type { Logger } from "../../../base/logger.ts";
import { isReady, isTerminal, markedForDeletion, sameJson } from "../objects.ts";
import type { Controller, ControllerContext, Pass, Requeue } from "../reconcile-loop.ts";
import { graceOf } from "../writes.ts";
import { NodeHealth } from "./health.ts";
import { awaitsTurn, failedWithNode, isMarkedLost, reconcile, reconcileNode, reconcilePodReadiness, troubledSinceMs, withDisruption } from "./reconcile.ts";
import { intervalMsOf, Turns, ZoneCensus, zoneOf } from "./zones.ts";

export const LEASE_NAMESPACE = "kube-node-lease";
const WATCHDOG_MS = 1000;
/** As often as upstream looks at all nodes. */
const SETTLE_MS = 5000;

export const nodeLifecycleController = (context: ControllerContext): Controller => {
  const { cache, clock, store, options } = context;
  const logger: Logger = context.logger.child({ component: "node-lifecycle" });
  const nodes = cache.resource(NODES);
  const leases = cache.resource(LEASES);
  const pods = cache.resource(PODS);
  const census = new ZoneCensus();
  const turns = new Turns();
  /** Nodes of which it was said that their pods stay. */
  const held = new Set<string>();
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
    await writes.update(PODS, pod, (current) => (current.metadata.deletionTimestamp === undefined ? markedForDeletion(withDisruption(current, "DeletionByTaintManager", message, nowMs), nowMs, graceOf(current)) : undefined));
  };

  /** No agent will ever confirm the end of these: they go at once. */
  const release = async (pod: Pod, message: string, { writes, announce }: Pass): Promise<void> => {
    announce({ regarding: pod, type: "Warning", reason: "NodeGone", message: `Deleting the pod: ${message}` });
    const failed = await writes.update(PODS, pod, (current) => failedWithNode(current, message, clock.nowMs()));
    if (failed) await writes.delete(PODS, failed, clock.nowMs(), { graceSeconds: 0 });
  };

  /** Whether the node may get the taint by which its pods go; asks for another pass where it has to wait. */
  const mayExecute = (node: Node, isEmpty: boolean, mayEvict: boolean, { again, announce }: Pass): boolean => {
    const name = node.metadata.name!;
    const zone = zoneOf(node);
    const count = census.of(zone);
    if (!mayEvict || !awaitsTurn(node)) {
      held.delete(name);
      return false;
    }
    // What fails with it, by the same fault, is seen to fail within a few heartbeats: until then nobody can tell how badly the zone is hit.
    const settleMs = Math.min(SETTLE_MS, options.podEvictionMs / 2) - (clock.nowMs() - troubledSinceMs(node));
    if (settleMs > 0) {
      again(Math.min(settleMs, SETTLE_MS));
      return false;
    }
    // There is nothing to wait for its turn for.
    if (isEmpty) return true;
    const waitMs = turns.take(zone, name, intervalMsOf(count, options.evictionPace), clock.monotonicMs());
    if (waitMs === Infinity && !held.has(name)) {
      held.add(name);
      announce({ regarding: node, type: "Warning", reason: "EvictionsHeld", message: `The pods of node ${name} stay: ${count.unhealthy} of ${count.healthy + count.unhealthy} nodes ${zone === "" ? "" : `of zone ${zone} `}are lost or not ready, at ${options.evictionPace.unhealthyPercent} % the fault is taken to be their network's. They go when fewer are, or when the node gets the taint ${OUT_OF_SERVICE}:NoExecute, or is deleted` });
    }
    if (waitMs !== Infinity) held.delete(name);
    // Held altogether, it is judged again when its zone recovers; see `watch`.
    if (waitMs > 0 && waitMs < Infinity) again(waitMs);
    return waitMs === 0;
  };

  const announceChange = (before: Node, after: Node, { announce }: Pass): void => {
    const name = after.metadata.name!;
    if (isMarkedLost(after) === isMarkedLost(before)) return;
    if (isMarkedLost(after)) {
      logger.warn("a node is lost", { node: name, leaseMs: options.nodeLeaseMs });
      announce({ regarding: after, type: "Warning", reason: "NodeNotReady", message: `Node ${name} status is now: NodeNotReady: its agent has not renewed its lease for ${options.nodeLeaseMs / 1000} s` });
    } else {
      logger.info("a lost node returned", { node: name });
      announce({ regarding: after, type: "Normal", reason: "NodeReady", message: `Node ${name} status is now: NodeReady: its agent renews its lease again` });
    }
  };

  const syncPresent = async (node: Node, pass: Pass): Promise<void> => {
    const { writes, again } = pass;
    const name = node.metadata.name!;
    watchdog();
    if (health.of(name, clock.monotonicMs()) === "lost" && !isMarkedLost(node)) await isReallySilent(name);
    const nowMs = clock.monotonicMs();
    const wallMs = clock.nowMs();
    const liveness = health.of(name, nowMs);
    const mayEvict = !health.allLost(nowMs) && !census.allUnhealthy;
    const mine = podsOf(name);
    const execute = mayExecute(reconcileNode(node, liveness, false, wallMs), mine.every(isTerminal), mayEvict, pass);
    const plan = reconcile({
      node, pods: mine, liveness, mayEvict, mayExecute: execute, lostAtMs: wallMs + health.lostAtMs(name) - nowMs, podEvictionMs: options.podEvictionMs,
    }, wallMs);
    if (plan.node !== node) {
      await writes.update(NODES, node, (current) => {
        const wanted = reconcileNode(current, liveness, mayEvict && execute, clock.nowMs());
        return sameJson(wanted, current) ? undefined : wanted;
      });
      announceChange(node, plan.node, pass);
    }
    const lost = isMarkedLost(plan.node);
    await Promise.all([
      ...plan.inDoubt.map((pod) => writes.update(PODS, pod, (current) => reconcilePodReadiness(current, lost, clock.nowMs()))),
      ...plan.evict.map((pod) => evict(pod, `node ${name} ${plan.why}`, pass)),
      ...plan.release.map((pod) => release(pod, `its node ${name} ${plan.why}`, pass)),
    ]);
    // From when it was judged: what was judged just before its time is judged again, although by now its time is up.
    const untilLostMs = health.lostAtMs(name) - nowMs;
    for (const ms of [untilLostMs > 0 ? untilLostMs : undefined, plan.againMs]) if (ms !== undefined) again(Math.max(1, ms));
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
    await Promise.all(stranded.map((pod) => release(pod, `its node ${name} no longer exists`, pass)));
  };

  /** After all seemed lost, or much of a zone, every node has to be looked at again, not only the one that was heard of. */
  const addAll = (queue: Requeue): void => {
    for (const name of health.names) queue.add(name);
  };

  /** Keeps the census; true when what it says of the node's zone, or of all, has changed. */
  const counted = (name: string, node: Node | undefined, zone: string): boolean => {
    const verdict = (): string => `${census.allUnhealthy} ${intervalMsOf(census.of(zone), options.evictionPace)}`;
    const before = verdict();
    if (node) census.set(name, zone, isNodeReady(node));
    else census.remove(name);
    return verdict() !== before;
  };

  return {
    name: "node-lifecycle",
    writer: "node-lifecycle",
    *watch(queue) {
      yield nodes.subscribe(({ type, stored: { object }, previous }) => {
        const name = object.metadata.name!;
        if (type === "deleted") {
          health.forget(name);
          held.delete(name);
          absentSince.set(name, -Infinity);
        } else {
          health.track(name, renewTimeOf(name), clock.monotonicMs());
          absentSince.delete(name);
          // A new session says Ready just before its first renewal: without this it would be called lost once more.
          if (previous && isMarkedLost(previous.object) && !isMarkedLost(object)) health.heard(name, clock.monotonicMs());
        }
        queue.add(name);
        if (counted(name, type === "deleted" ? undefined : object, zoneOf(object))) addAll(queue);
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
        const isNews = !previous || previous.object.spec?.nodeName !== name || (isReady(pod) && !isReady(previous.object)) || pod.metadata.deletionTimestamp !== previous.object.metadata.deletionTimestamp;
        if (type === "deleted" || !name || !isNews) return;
        const node = nodes.get("", name)?.object;
        if (!node || isMarkedLost(node) || node.spec?.taints?.some((t) => t.effect === "NoExecute" || t.key === OUT_OF_SERVICE)) queue.add(name);
      });
      for (const { object } of nodes.list()) {
        counted(object.metadata.name!, object, zoneOf(object));
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
