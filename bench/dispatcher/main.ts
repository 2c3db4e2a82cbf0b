// Many agents on one dispatcher: `node bench/dispatcher/main.ts [agents=1000] [pods=10000]`. The agents run in processes of their
// own (this file, forked), so that the CPU and memory printed are the control plane's. See README.md.
import { fork } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { setTimeout as wait } from "node:timers/promises";
import { SystemClock } from "../../base/clock.ts";
import { newUid } from "../../base/ids.ts";
import { PODS } from "../../base/kube/resources.ts";
import { isReady } from "../../base/kube/pod-state.ts";
import { issue } from "../../base/tls/authority.ts";
import { NODE_GROUP, nodeCommonName } from "../../base/tls/node-identity.ts";
import { newCredentials } from "../../node-agent/session/credentials.ts";
import { FakePods, memoryCredentials, startFakeAgent, startTestDispatcher } from "../../test/helpers/fake-agent.ts";

interface Work {
  readonly target: string;
  readonly nodes: readonly { readonly nodeName: string; readonly caPem: string; readonly certificatePem: string; readonly privateKeyPem: string }[];
}

const AGENTS_PER_PROCESS = 1000;

const child = (): void => {
  process.once("message", ({ target, nodes }: Work) => {
    void (async () => {
      const agents = nodes.map(({ nodeName, caPem, certificatePem, privateKeyPem }) =>
        startFakeAgent({ target, nodeName, credentials: memoryCredentials(newCredentials(caPem, certificatePem, privateKeyPem)), pods: new FakePods() }));
      await Promise.all(agents.map((a) => a.session.opened()));
      process.send!("connected");
      process.once("disconnect", () => process.exit(0));
    })();
  });
};

const main = async (agents: number, pods: number): Promise<void> => {
  const clock = new SystemClock();
  const cluster = await startTestDispatcher({ heartbeatPeriodMs: 5000 });
  const beforeIssue = performance.now();
  // One key for all: making 5,000 would take longer than everything else.
  const pairs = await Promise.all(Array.from({ length: agents }, async (_, i) => {
    const nodeName = `node-${i}`;
    const pair = await issue(cluster.authority, { commonName: nodeCommonName(nodeName), organizations: [NODE_GROUP], usage: "client", validForMs: 86_400_000, clock });
    return { nodeName, caPem: cluster.authority.certificatePem, ...pair };
  }));
  console.log(`certificates       ${agents} issued in ${Math.round(performance.now() - beforeIssue)} ms`);
  globalThis.gc?.();
  const baseRss = process.memoryUsage().rss;

  let cpu = process.cpuUsage();
  let started = performance.now();
  const lap = (): string => {
    const used = process.cpuUsage(cpu);
    const text = `${((performance.now() - started) / 1000).toFixed(2)} s, ${((used.user + used.system) / 1e6).toFixed(2)} s CPU`;
    cpu = process.cpuUsage();
    started = performance.now();
    return text;
  };
  const children: ChildProcess[] = [];
  for (let i = 0; i < agents; i += AGENTS_PER_PROCESS) {
    const process = fork(import.meta.filename, ["child"], { execArgv: ["--disable-warning=ExperimentalWarning"] });
    process.send({ target: cluster.target, nodes: pairs.slice(i, i + AGENTS_PER_PROCESS) } satisfies Work);
    children.push(process);
  }
  await Promise.all(children.map((c) => once(c, "message")));
  console.log(`sessions           ${agents} opened in ${lap()}`);
  await wait(2000);
  globalThis.gc?.();
  console.log(`memory             ${((process.memoryUsage().rss - baseRss) / agents / 1024).toFixed(1)} KiB per agent`);

  lap();
  await Promise.all(Array.from({ length: pods }, (_, i) => cluster.store.create({ type: PODS, namespace: "default", name: `pod-${i}` }, {
    apiVersion: "v1", kind: "Pod", metadata: { name: `pod-${i}`, namespace: "default", uid: newUid(), generation: 1 }, spec: { nodeName: `node-${i % agents}`, containers: [{ name: "main", image: "example" }] },
  }, { writer: "api" })));
  const allReady = (): boolean => [...cluster.cache.resource(PODS).list()].every((p) => isReady(p.object));
  while (!allReady()) await wait(20);
  console.log(`pods               ${pods} from created to Ready in ${lap()} (store in memory)`);

  lap();
  await wait(10_000);
  console.log(`idle               ${lap()}, with heartbeats every 5 s`);
  for (const each of children) each.disconnect();
  await cluster.close();
};

if (process.argv[2] === "child") child();
else await main(Number(process.argv[2] ?? 1000), Number(process.argv[3] ?? 10_000)).then(() => process.exit(0));
