// Many faults, one upon the other, in an order that a seed decides; then calm, and everything must be as it was asked for. A failure is
// repeated with GANTRY_STORM_SEED=N (its title says which).
import test from "ava";
import { DEPLOYMENTS, NODES, PODS } from "../../base/kube/resources.ts";
import { until, useCluster } from "../helpers/cluster.ts";
import { pickFrom, randomFrom } from "../helpers/random.ts";
import { deployment, isReady, isRolledOut } from "../helpers/workloads.ts";

const SEED = Number(process.env["GANTRY_STORM_SEED"] ?? 20_261_121);
const FAULTS = 24;
const cluster = useCluster(test, { env: { GANTRY_HEARTBEAT_PERIOD: "1s", GANTRY_NODE_LEASE: "4s", GANTRY_POD_EVICTION_DELAY: "1s" } });

test.serial(`a storm of ${FAULTS} faults (seed ${SEED}): afterwards exactly what was asked for runs, once`, async (t) => {
  t.timeout(240_000);
  const c = cluster();
  const random = randomFrom(SEED);
  const pick = pickFrom(random);
  const ns = await c.namespace(t, "storm");
  const sizes = new Map<string, number>([["a", 20], ["b", 15], ["c", 5]]);
  for (const [name, replicas] of sizes) await c.create(DEPLOYMENTS, ns, deployment(name, replicas));
  const cut = new Set<string>();
  t.teardown(() => cut.forEach((node) => c.restore(node)));
  /** The control plane may be down just now: then the next fault comes at once. */
  const attempt = async (args: string): Promise<void> => void (await c.kubectl(`${args} -n ${ns} --request-timeout=3s`));

  const faults: Readonly<Record<string, () => unknown>> = {
    "kill an agent": () => {
      const node = pick(c.nodes);
      if (c.runs(node)) c.kill(node, "SIGKILL");
    },
    "kill the control plane": () => c.runs("control-plane") && c.kill("control-plane", "SIGKILL"),
    "kill etcd": () => c.runs("etcd") && c.kill("etcd", "SIGKILL"),
    "start what is down": () => (cut.size === 0 ? c.up() : undefined),
    "cut a node": () => {
      const node = pick(c.nodes);
      if (cut.size === 0) c.cut(node);
      cut.add(node);
    },
    "mend the network": () => {
      cut.forEach((node) => c.restore(node));
      cut.clear();
    },
    "kill containers": () => {
      for (const { pid } of c.containers().filter(() => random() < 0.1)) if (c.containers().some((r) => r.pid === pid)) process.kill(pid, "SIGKILL");
    },
    scale: async () => {
      const name = pick([...sizes.keys()]);
      const replicas = Math.floor(random() * 30);
      if ((await c.kubectl(`scale deployment ${name} --replicas=${replicas} -n ${ns} --request-timeout=3s`)).code === 0) sizes.set(name, replicas);
    },
    "roll out": () => attempt(`rollout restart deployment ${pick([...sizes.keys()])}`),
    "delete pods": () => attempt(`delete pods -l app=${pick([...sizes.keys()])} --wait=false`),
  };
  for (let i = 0; i < FAULTS; i++) {
    const name = pick(Object.keys(faults));
    t.log(name);
    await faults[name]!();
    await new Promise((wake) => setTimeout(wake, random() * 1000));
  }

  cut.forEach((node) => c.restore(node));
  cut.clear();
  await c.up();
  // A scale whose answer was lost may have happened nevertheless: what counts is what the API says now.
  const { items } = await c.client.list(DEPLOYMENTS, ns);
  const wanted = new Map(items.map((d) => [d.metadata.name!, d.spec!.replicas!]));
  const total = [...wanted.values()].reduce((a, b) => a + b, 0);
  await c.until(NODES, undefined, (nodes) => nodes.every((n) => n.status?.conditions?.find((x) => x.type === "Ready")?.status === "True" && (n.spec?.taints ?? []).length === 0));
  await c.until(DEPLOYMENTS, ns, (all) => all.every((d) => isRolledOut(d, wanted.get(d.metadata.name!)!)), { timeoutMs: 120_000 });
  const pods = await c.until(PODS, ns, (all) => all.length === total && all.every((p) => isReady(p) && !p.metadata.deletionTimestamp));
  await until(() => c.conmons().length === total && c.containers().length === total, `${total} containers run, and no more`).catch((error: unknown) => {
    throw new Error(`${String(error)}: there are ${c.conmons().length} conmon and ${c.containers().length} containers`);
  });
  t.deepEqual(c.containers().map((r) => r.podUid).sort(), pods.map((p) => p.metadata.uid!).sort());
  for (const p of pods) t.is(c.containers().find((r) => r.podUid === p.metadata.uid)?.node, p.spec?.nodeName);
  for (const name of ["control-plane", ...c.nodes]) t.notRegex(c.logText(name), /uncaught|unhandled|TypeError|RangeError/i, name);
});
