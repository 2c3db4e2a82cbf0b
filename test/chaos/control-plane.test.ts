// The control plane and its etcd are killed and stopped in the middle of their work.
import test from "ava";
import { DEPLOYMENTS, LEASES, NODES, PODS, REPLICA_SETS } from "../../base/kube/resources.ts";
import type { Lease } from "../../base/kube/types.gen.ts";
import { until, useCluster } from "../helpers/cluster.ts";
import { deployment, isReady, isRolledOut } from "../helpers/workloads.ts";

const HEARTBEAT_MS = 1000;
const LEASE_MS = 4000;
const EVICTION_MS = 1000;
const cluster = useCluster(test, { env: { GANTRY_HEARTBEAT_PERIOD: `${HEARTBEAT_MS}ms`, GANTRY_NODE_LEASE: `${LEASE_MS}ms`, GANTRY_POD_EVICTION_DELAY: `${EVICTION_MS}ms` } });
const NODE_NAMES = ["node-1", "node-2", "node-3"] as const;

for (const victim of ["control-plane", "etcd"] as const) {
  test.serial(`${victim} killed in the middle of 0 -> 100: exactly 100 come up, none twice, and all go again`, async (t) => {
    t.timeout(240_000);
    const c = cluster();
    const ns = await c.namespace(t, `kill-${victim}`);
    const agents = NODE_NAMES.map((n) => c.pid(n));
    await c.create(DEPLOYMENTS, ns, deployment("hundred", 100));
    // Three times: while pods are made, while they are placed and started, and when most run.
    for (const atLeast of [1, 20, 60]) {
      await c.until(PODS, ns, (pods) => pods.filter((p) => (atLeast === 1 ? p.spec?.nodeName !== undefined : isReady(p))).length >= atLeast, { timeoutMs: 90_000 });
      const killed = c.pid(victim);
      c.kill(victim, "SIGKILL");
      if (victim === "control-plane") {
        await c.gone(victim);
        await c.up();
      } else {
        // Nobody but the control plane starts it again.
        await until(() => c.runs("etcd") && c.pid("etcd") !== killed, "etcd runs again");
      }
    }
    await c.until(DEPLOYMENTS, ns, ([d]) => d !== undefined && isRolledOut(d, 100), { timeoutMs: 90_000 });
    const pods = await c.until(PODS, ns, (items) => items.length === 100 && items.every(isReady));
    t.is((await c.client.list(REPLICA_SETS, ns)).items.length, 1);
    t.is(new Set(pods.map((p) => p.status?.podIP)).size, 100, "each has an address of its own");
    t.deepEqual(NODE_NAMES.map((n) => c.pid(n)), agents, "no agent was disturbed");

    const running = c.containers();
    t.is(running.length, 100);
    t.deepEqual(running.map((r) => r.podUid).sort(), pods.map((p) => p.metadata.uid!).sort(), "the containers are those of the pods");
    t.is(c.conmons().length, 100, "and no orphan");
    for (const p of pods) t.is(running.find((r) => r.podUid === p.metadata.uid)?.node, p.spec?.nodeName);

    await c.ok(["scale", "deployment", "hundred", "--replicas=0", "-n", ns]);
    await c.until(PODS, ns, (items) => items.length === 0);
    await until(() => c.conmons().length === 0 && c.containers().length === 0, "no container is left");
  });
}

test.serial("a control plane that is stopped for longer than the lease evicts nobody when it goes on", async (t) => {
  t.timeout(180_000);
  const c = cluster();
  const ns = await c.namespace(t, "stall");
  await c.create(DEPLOYMENTS, ns, deployment("web", 12));
  const before = await c.until(PODS, ns, (pods) => pods.length === 12 && pods.every(isReady));
  const pids = new Map(c.containers().map((r) => [r.podUid, r.pid]));
  const leases = await c.client.list(LEASES, "kube-node-lease");
  t.is(leases.items.length, 3);

  const stoppedAt = performance.now();
  c.kill("control-plane", "SIGSTOP");
  t.teardown(() => c.kill("control-plane", "SIGCONT"));
  await until(() => performance.now() - stoppedAt > 2 * LEASE_MS + EVICTION_MS, "twice the lease has passed");
  c.kill("control-plane", "SIGCONT");
  const wokenAt = Date.now();

  // Every node reports again, and goes on for as long as it would take to lose it and to evict its pods.
  const renewedAt = (l: Lease): number => Date.parse(String(l.spec?.renewTime));
  await c.until(LEASES, "kube-node-lease", (all) => all.filter((l) => renewedAt(l) > wokenAt + LEASE_MS + EVICTION_MS).length === 3);
  const after = (await c.client.list(PODS, ns)).items;
  t.deepEqual(after.map((p) => [p.metadata.uid, p.metadata.deletionTimestamp, p.spec?.nodeName]).sort(), before.map((p) => [p.metadata.uid, undefined, p.spec?.nodeName]).sort());
  t.true(after.every(isReady));
  for (const p of after) t.is(c.containers().find((r) => r.podUid === p.metadata.uid)?.pid, pids.get(p.metadata.uid!));
  for (const node of (await c.client.list(NODES)).items) {
    t.is(node.status?.conditions?.find((x) => x.type === "Ready")?.status, "True");
    t.is(node.spec?.taints, undefined);
  }
  t.notRegex(await c.ok(["get", "events", "-A"]), /NodeNotReady|TaintManagerEviction|Evict/);
});
