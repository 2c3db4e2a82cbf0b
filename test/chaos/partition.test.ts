// One node's network is cut: a switch that fails, a cable that is pulled. The node and all that runs on it live on.
import test from "ava";
import { DEPLOYMENTS, NODES, PODS } from "../../base/kube/resources.ts";
import type { Node } from "../../base/kube/types.gen.ts";
import { until, useCluster } from "../helpers/cluster.ts";
import { container, deployment, isReady, isRolledOut, pod } from "../helpers/workloads.ts";

const cluster = useCluster(test, { env: { GANTRY_HEARTBEAT_PERIOD: "1s", GANTRY_NODE_LEASE: "4s", GANTRY_POD_EVICTION_DELAY: "1s" } });
const CUT = "node-2";

const readiness = (nodes: readonly Node[], name: string): string | undefined => nodes.find((n) => n.metadata.name === name)?.status?.conditions?.find((c) => c.type === "Ready")?.status;

test.serial("a node that is cut off: its pods are replaced elsewhere; when it returns, what is stale stops and the rest runs on", async (t) => {
  t.timeout(240_000);
  const c = cluster();
  t.teardown(() => c.restore(CUT));
  const ns = await c.namespace(t, "partition");
  const forever = { tolerations: [{ key: "node.kubernetes.io/unreachable", operator: "Exists", effect: "NoExecute" }, { key: "node.kubernetes.io/not-ready", operator: "Exists", effect: "NoExecute" }] };
  await c.create(DEPLOYMENTS, ns, deployment("web", 12));
  await c.create(PODS, ns, pod("faithful", { spec: { nodeName: CUT, ...forever } }));
  // What ends while nobody hears of it.
  await c.create(PODS, ns, pod("ends", { run: "sleep 8; exit 5", spec: { nodeName: CUT, restartPolicy: "Never", ...forever } }));
  // What is deleted while nobody there hears of it.
  await c.create(PODS, ns, pod("abandoned", { spec: { nodeName: CUT, ...forever } }));
  const before = await c.until(PODS, ns, (pods) => pods.length === 15 && pods.every(isReady));
  const there = before.filter((p) => p.spec?.nodeName === CUT);
  const stale = there.filter((p) => p.metadata.labels?.["app"] === "web");
  t.true(stale.length >= 3, `${stale.length} of 12 on ${CUT}`);
  const pids = new Map(c.containers().map((r) => [r.podUid, r.pid]));
  const faithful = before.find((p) => p.metadata.name === "faithful")!;

  c.cut(CUT);
  await c.until(NODES, undefined, (nodes) => readiness(nodes, CUT) === "Unknown");
  await c.until(PODS, ns, (pods) => pods.filter((p) => p.metadata.labels?.["app"] === "web" && !p.metadata.deletionTimestamp && isReady(p) && p.spec?.nodeName !== CUT).length === 12);
  const node = await c.client.get(NODES, "", CUT);
  t.true(node.spec?.taints?.some((x) => x.key === "node.kubernetes.io/unreachable"));
  const running = new Map(c.containers().map((r) => [r.podUid, r.pid]));
  for (const p of stale) t.is(running.get(p.metadata.uid!), pids.get(p.metadata.uid!), "cut off, the node stops nothing by itself");
  for (const p of before.filter((x) => x.spec?.nodeName !== CUT)) t.is(running.get(p.metadata.uid!), pids.get(p.metadata.uid!), "the others are not disturbed");
  t.regex(await c.ok(["get", "nodes"]), /node-2 +NotReady/);
  await until(() => !c.containers().some((r) => r.podUid === before.find((p) => p.metadata.name === "ends")!.metadata.uid), "the container on the cut node has ended");

  await c.ok(["delete", "pod", "abandoned", "-n", ns, "--wait=false"]);
  const waiting = await c.client.get(PODS, ns, "abandoned");
  t.truthy(waiting.metadata.deletionTimestamp, "it waits for its node");
  // With NoSchedule it lets go of what is deleted already, and evicts nobody.
  const taints = (add: boolean): Promise<unknown> => c.client.json("PATCH", c.client.pathOf(NODES, undefined, CUT), {
    contentType: "application/merge-patch+json", body: { spec: { taints: [...(node.spec?.taints ?? []), ...(add ? [{ key: "node.kubernetes.io/out-of-service", effect: "NoSchedule" }] : [])] } },
  });
  await taints(true);
  await c.until(PODS, ns, (pods) => !pods.some((p) => p.metadata.name === "abandoned"));
  await taints(false);

  c.restore(CUT);
  await c.until(NODES, undefined, (nodes) => readiness(nodes, CUT) === "True" && !nodes.some((n) => n.spec?.taints?.some((x) => x.key.startsWith("node.kubernetes.io/"))));
  await until(() => !c.containers().some((r) => [...stale, waiting].some((p) => p.metadata.uid === r.podUid)), "what was replaced, and what was let go of, has stopped");
  const after = await c.until(PODS, ns, (pods) => pods.length === 14 && pods.every((p) => !p.metadata.deletionTimestamp && (p.metadata.name === "ends" ? p.status?.phase === "Failed" : isReady(p))));
  t.is(container(after.find((p) => p.metadata.name === "ends")!).state?.terminated?.exitCode, 5, "its end is told late, but told");
  const kept = after.find((p) => p.metadata.name === "faithful")!;
  t.is(kept.metadata.uid, faithful.metadata.uid);
  t.is(container(kept).restartCount, 0);
  t.is(c.containers().find((r) => r.podUid === kept.metadata.uid)?.pid, pids.get(kept.metadata.uid!), "never replaced: the same process");
  t.deepEqual(c.containers().map((r) => r.podUid).sort(), after.filter(isReady).map((p) => p.metadata.uid!).sort(), "what runs is what there should be");
  t.is(c.conmons().length, 13);

  await c.ok(["scale", "deployment", "web", "--replicas=24", "-n", ns]);
  await c.until(DEPLOYMENTS, ns, ([d]) => d !== undefined && isRolledOut(d, 24));
  t.true((await c.client.list(PODS, ns)).items.some((p) => p.spec?.nodeName === CUT && p.metadata.labels?.["app"] === "web"), "the node is used again");
});

test.serial("a cut shorter than the lease is no event: nothing is replaced", async (t) => {
  t.timeout(120_000);
  const c = cluster();
  t.teardown(() => c.restore(CUT));
  const ns = await c.namespace(t, "blip");
  await c.create(DEPLOYMENTS, ns, deployment("web", 6));
  const before = await c.until(PODS, ns, (pods) => pods.length === 6 && pods.every(isReady));
  const cutAt = performance.now();
  c.cut(CUT);
  await until(() => performance.now() - cutAt > 1500, "more than a heartbeat is missed");
  c.restore(CUT);
  // A change made during the cut reaches the node afterwards.
  await c.ok(["scale", "deployment", "web", "--replicas=9", "-n", ns]);
  const after = await c.until(PODS, ns, (pods) => pods.length === 9 && pods.every(isReady));
  t.deepEqual(before.map((p) => p.metadata.uid).filter((uid) => !after.some((p) => p.metadata.uid === uid)), []);
  t.is(readiness((await c.client.list(NODES)).items, CUT), "True");
});
