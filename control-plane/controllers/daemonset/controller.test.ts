import test from "ava";
import { CONTROLLER_REVISIONS, DAEMON_SETS, NODES, PODS } from "../../../base/kube/resources.ts";
import type { DaemonSet, Pod } from "../../../base/kube/types.gen.ts";
import { keyOf } from "../../state/store.ts";
import { REVISION_HASH } from "../revision-history.ts";
import { createBench, NS, template } from "../testing.ts";
import type { Bench } from "../testing.ts";
import { daemonSetController } from "./controller.ts";
import { nodeOf } from "./placement.ts";

const daemonSet = (image = "example:1"): DaemonSet => ({
  apiVersion: "apps/v1", kind: "DaemonSet", metadata: { name: "d", namespace: NS, uid: "uid-d", generation: 1, creationTimestamp: "2026-01-01T00:00:00Z", annotations: { "kubernetes.io/change-cause": "first" } },
  spec: { selector: { matchLabels: { app: "d" } }, template: template({ app: "d" }, image), updateStrategy: { type: "RollingUpdate", rollingUpdate: { maxUnavailable: 1, maxSurge: 0 } }, revisionHistoryLimit: 1 },
});
const addNode = (bench: Bench, name: string): Promise<unknown> => bench.put(NODES, { apiVersion: "v1", kind: "Node", metadata: { name, uid: `uid-${name}` }, status: { conditions: [{ type: "Ready", status: "True" }] } });

/** The scheduler and agents at work until nothing changes any more. */
const settle = async (bench: Bench): Promise<void> => {
  for (let i = 0; i < 20; i++) {
    await bench.run(50);
    for (const pod of bench.list(PODS).filter((p) => !p.spec?.nodeName)) {
      await bench.store.update(keyOf(PODS, pod), (current) => ({ ...current, spec: { ...current.spec!, nodeName: nodeOf(current) } }), { writer: "scheduler" });
      await bench.setPod(pod, { phase: "Running", conditions: [{ type: "Ready", status: "True", lastTransitionTime: "2026-01-01T00:00:00Z" }] });
    }
    await bench.endMarkedPods();
    await bench.run(50);
  }
};
const where = (bench: Bench): string[] => bench.list(PODS).map(nodeOf).sort();
const revisions = (bench: Bench): number[] => bench.list(CONTROLLER_REVISIONS).map((r) => r.revision).sort((a, b) => a - b);
const images = (bench: Bench): string[] => [...new Set(bench.list(PODS).map((p: Pod) => p.spec!.containers[0]!.image!))];

test("each node gets its pod, new nodes too, and tainted ones lose it", async (t) => {
  const bench = await createBench(t, [daemonSetController]);
  for (const name of ["a", "b"]) await addNode(bench, name);
  await bench.put(DAEMON_SETS, daemonSet());
  await settle(bench);
  t.deepEqual(where(bench), ["a", "b"]);
  t.like(bench.get(DAEMON_SETS, "d")!.status, { desiredNumberScheduled: 2, numberReady: 2, numberAvailable: 2, updatedNumberScheduled: 2, numberUnavailable: 0, observedGeneration: 1 });
  await addNode(bench, "c");
  await settle(bench);
  t.deepEqual(where(bench), ["a", "b", "c"]);
  await bench.change(NODES, "a", (node) => ({ ...node, spec: { taints: [{ key: "away", effect: "NoExecute" }] } }));
  await settle(bench);
  t.deepEqual(where(bench), ["b", "c"]);
});

test("a new template is rolled out node by node, is a revision, and can be returned to", async (t) => {
  const bench = await createBench(t, [daemonSetController]);
  for (const name of ["a", "b", "c"]) await addNode(bench, name);
  await bench.put(DAEMON_SETS, daemonSet());
  await settle(bench);
  const [first] = bench.list(CONTROLLER_REVISIONS);
  t.like(first, { revision: 1, metadata: { annotations: { "kubernetes.io/change-cause": "first" }, labels: { app: "d" } } });
  t.true(bench.list(PODS).every((p) => p.metadata.labels![REVISION_HASH] === first!.metadata.labels![REVISION_HASH]));
  let fewest = 3;
  using _watch = bench.cache.resource(PODS).subscribe(() => (fewest = Math.min(fewest, bench.list(PODS).filter((p) => !p.metadata.deletionTimestamp).length)));
  await bench.changeSpec(DAEMON_SETS, "d", { template: template({ app: "d" }, "example:2") });
  await settle(bench);
  t.is(fewest, 2);
  t.deepEqual([images(bench), revisions(bench)], [["example:2"], [1, 2]]);
  // What `kubectl rollout undo` sends is the revision's data, a patch.
  const { spec } = first!.data as { spec: { template: { $patch: string } } };
  t.is(spec.template.$patch, "replace");
  await bench.changeSpec(DAEMON_SETS, "d", { template: template({ app: "d" }, "example:1") });
  await settle(bench);
  t.deepEqual([images(bench), revisions(bench)], [["example:1"], [2, 3]]);
  for (const tag of ["3", "4"]) {
    await bench.changeSpec(DAEMON_SETS, "d", { template: template({ app: "d" }, `example:${tag}`) });
    await settle(bench);
  }
  // The current one and as many others as the limit says.
  t.deepEqual(revisions(bench), [4, 5]);
});

test("pods that match are adopted, and a name that is taken makes another revision", async (t) => {
  const bench = await createBench(t, [daemonSetController]);
  await addNode(bench, "a");
  const orphan: Pod = { apiVersion: "v1", kind: "Pod", metadata: { name: "orphan", namespace: NS, uid: "uid-orphan", labels: { app: "d" }, creationTimestamp: "2026-01-01T00:00:00Z" }, spec: { containers: [], nodeName: "a" }, status: { phase: "Running" } };
  await bench.put(PODS, orphan);
  await bench.put(DAEMON_SETS, daemonSet());
  await bench.run(100);
  t.is(bench.get(PODS, "orphan")!.metadata.ownerReferences![0]!.uid, "uid-d");
  const [taken] = bench.list(CONTROLLER_REVISIONS);
  const other = await createBench(t, [daemonSetController]);
  await addNode(other, "a");
  await other.put(CONTROLLER_REVISIONS, { ...taken!, metadata: { name: taken!.metadata.name!, namespace: NS, uid: "theirs" }, data: { theirs: true } });
  await other.put(DAEMON_SETS, daemonSet());
  await other.run(100);
  t.is(other.get(DAEMON_SETS, "d")!.status!.collisionCount, 1);
  t.is(other.list(CONTROLLER_REVISIONS).length, 2);
  t.is(other.list(PODS).length, 1);
});
