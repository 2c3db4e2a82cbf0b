// Keeps one pod of each DaemonSet on every node that it belongs on. It alone creates and marks a DaemonSet's pods, and writes its status
// and its revisions.
import { nameSuffix, newUid } from "../../../base/ids.ts";
import { CONTROLLER_REVISIONS, DAEMON_SETS, NODES, PODS } from "../../../base/kube/resources.ts";
import type { DaemonSet, Node, Pod, PodTemplateSpec } from "../../../base/kube/types.gen.ts";
import { adoptersOf, applyClaim, candidatesOf, claim, selectorOf, takesNewObjects } from "../claim.ts";
import { clearHistory, keepHistory } from "../history-writes.ts";
import { newPod } from "../new-pod.ts";
import type { PodIds } from "../new-pod.ts";
import { createPods, type CreateFailures } from "../pod-creates.ts";
import { controllerOf, isActive, objectKey, sameJson, specChanged, splitKey } from "../objects.ts";
import type { Controller, ControllerContext, Pass } from "../reconcile-loop.ts";
import { hashLabel, REVISION_HASH } from "../revision-history.ts";
import { judgeNode, nodeOf, templateFor } from "./placement.ts";
import { reconcile } from "./reconcile.ts";
import type { Plan } from "./reconcile.ts";

const IDS: PodIds = { uid: newUid, suffix: nameSuffix };
/** Pods created in one pass: bounds its memory; the next goes on. */
const MAX_CREATES = 500;

const withHash = (template: PodTemplateSpec, hash: string): PodTemplateSpec =>
  ({ ...template, metadata: { ...template.metadata, labels: { ...template.metadata?.labels, [REVISION_HASH]: hash } } });

export const daemonSetController = (context: ControllerContext): Controller => {
  const { cache, clock } = context;
  const daemonSets = cache.resource(DAEMON_SETS);
  const nodes = cache.resource(NODES);
  const pods = cache.resource(PODS);
  const failures: CreateFailures = new Map();

  const ownerKey = (object: Pod): string | undefined => {
    const owner = controllerOf(object);
    const found = owner?.kind === DAEMON_SETS.kind ? daemonSets.byUid(owner.uid)?.object : undefined;
    return found && objectKey(found);
  };

  const apply = async (key: string, daemonSet: DaemonSet, plan: Plan, hash: string, pass: Pass): Promise<void> => {
    const { writes, announce } = pass;
    const nowMs = clock.nowMs();
    await Promise.all(plan.remove.map((pod) => writes.delete(PODS, pod, nowMs)));
    for (const pod of plan.remove) {
      const [type, reason, message] = plan.ended.includes(pod)
        ? ["Warning", "FailedDaemonPod", `Found ended daemon pod ${objectKey(pod)} on node ${nodeOf(pod)}, replacing it`] as const
        : ["Normal", "SuccessfulDelete", `Deleted pod: ${pod.metadata.name!}`] as const;
      announce({ regarding: daemonSet, type, reason, message });
    }
    if (plan.create.length === 0 || !takesNewObjects(cache, daemonSet.metadata.namespace!)) return;
    const template = withHash(daemonSet.spec!.template, hash);
    const made = plan.create.slice(0, MAX_CREATES).map((node) => newPod(templateFor(template, node), { type: DAEMON_SETS, object: daemonSet }, nowMs, IDS));
    await createPods(key, daemonSet, made, failures, pass);
  };

  return {
    name: "daemonset",
    writer: "controller",
    *watch(queue) {
      yield daemonSets.subscribe(({ stored, previous }) => {
        if (!previous || specChanged(previous.object, stored.object) || previous.object.status?.collisionCount !== stored.object.status?.collisionCount) queue.add(objectKey(stored.object));
      });
      yield pods.subscribe(({ type, stored: { object: pod }, previous }) => {
        const before = previous && ownerKey(previous.object);
        const owner = ownerKey(pod);
        const lost = type === "deleted" || (previous !== undefined && isActive(previous.object) && !isActive(pod));
        if (owner !== undefined) queue.addAfter(owner, lost ? 0 : context.options.statusDelayMs);
        if (before !== undefined && before !== owner) queue.add(before);
        if (type !== "deleted" && (!previous || before !== undefined || previous.object.metadata.labels !== pod.metadata.labels)) {
          for (const adopter of adoptersOf(daemonSets, pod)) queue.add(objectKey(adopter));
        }
      });
      yield nodes.subscribe(({ type, stored: { object: node }, previous }) => {
        // Heartbeats and other news of a node's state: nothing that places a daemon.
        if (type === "modified" && previous && sameJson(placing(previous.object), placing(node))) return;
        for (const { object } of daemonSets.list()) {
          const was = type === "modified" && previous && object.spec ? judgeNode(object.spec.template, previous.object) : undefined;
          if (!was || !sameJson(was, judgeNode(object.spec!.template, node))) queue.add(objectKey(object));
        }
      });
      yield cache.resource(CONTROLLER_REVISIONS).subscribe(({ type, stored: { object } }) => {
        const owner = controllerOf(object);
        const daemonSet = type === "deleted" && owner?.kind === DAEMON_SETS.kind ? daemonSets.byUid(owner.uid)?.object : undefined;
        if (daemonSet) queue.add(objectKey(daemonSet));
      });
      for (const { object } of daemonSets.list()) queue.add(objectKey(object));
    },

    async sync(key, pass) {
      const daemonSet = daemonSets.get(...splitKey(key))?.object;
      if (!daemonSet?.spec) {
        failures.delete(key);
        return;
      }
      const { selector } = daemonSet.spec;
      const owned = await applyClaim(pass.writes, PODS, DAEMON_SETS, daemonSet, claim(daemonSet, selectorOf(selector), candidatesOf(pods, daemonSet, selector)));
      const revisions = await keepHistory(context, DAEMON_SETS, daemonSet, pass);
      if (!revisions) {
        pass.again(0);
        return;
      }
      const hash = hashLabel(revisions.current);
      const plan = reconcile({ daemonSet, nodes: Array.from(nodes.list(), (s) => s.object), pods: owned, hash, nowMs: clock.nowMs() });
      if (!sameJson(plan.status, daemonSet.status)) await pass.writes.update(DAEMON_SETS, daemonSet, (current) => ({ ...current, status: plan.status }));
      await apply(key, daemonSet, plan, hash, pass);
      const inUse = new Set(owned.map((pod) => pod.metadata.labels?.[REVISION_HASH]));
      await clearHistory(context, daemonSet, revisions, new Set(revisions.all.filter((r) => r === revisions.current || inUse.has(hashLabel(r))).map((r) => r.metadata.name!)), pass);
      if (plan.againMs !== undefined) pass.again(plan.againMs);
    },
  };
};

/** What of a node decides whether a daemon belongs on it. */
const placing = ({ metadata, spec }: Node): object => ({ labels: metadata.labels, taints: spec?.taints });
