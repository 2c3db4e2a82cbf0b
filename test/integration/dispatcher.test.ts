import test from "ava";
import type { ExecutionContext } from "ava";
import { connect as connectTcp } from "node:net";
import { connect as connectTls } from "node:tls";
import { SystemClock } from "../../base/clock.ts";
import { isCode } from "../../base/errors.ts";
import { newUid } from "../../base/ids.ts";
import { CONFIG_MAPS, LEASES, NODES, PODS, SECRETS } from "../../base/kube/resources.ts";
import type { Pod, PodSpec } from "../../base/kube/types.gen.ts";
import { createAuthority, issue } from "../../base/tls/authority.ts";
import { MemoryStore } from "../../control-plane/state/memory-store.ts";
import { DispatcherClient } from "../../proto/gen/gantry/v1/agent.ts";
import type { UpdateStatusRequest } from "../../proto/gen/gantry/v1/agent.ts";
import { fromServiceError } from "../../proto/grpc-errors.ts";
import { channelCredentials, CHANNEL_OPTIONS, newCredentials } from "../../node-agent/session/credentials.ts";
import {
  describeFakeNode, eventually, memoryCredentials, nodeCredentials, startFakeAgent, startTestDispatcher,
} from "../helpers/fake-agent.ts";
import type { FakeAgent, FakeAgentOptions, TestDispatcher } from "../helpers/fake-agent.ts";

const clock = new SystemClock();
const NAMESPACE = "default";

const start = async (t: ExecutionContext, options: Parameters<typeof startTestDispatcher>[0] = {}): Promise<TestDispatcher> => {
  const cluster = await startTestDispatcher(options);
  t.teardown(() => cluster.close());
  return cluster;
};

const addAgent = async (t: ExecutionContext, cluster: TestDispatcher, nodeName: string, options: Partial<FakeAgentOptions> = {}): Promise<FakeAgent> => {
  const agent = startFakeAgent({ target: cluster.target, nodeName, credentials: memoryCredentials(await nodeCredentials(cluster.authority, nodeName)), ...options });
  t.teardown(() => agent.close());
  await eventually(() => agent.pods.completeSets > 0, `${nodeName} has its first assignments`);
  return agent;
};

const newPod = (name: string, nodeName: string, spec: Partial<PodSpec> = {}): Pod => ({
  apiVersion: "v1", kind: "Pod",
  metadata: { name, namespace: NAMESPACE, uid: newUid(), creationTimestamp: "2026-01-01T00:00:00Z", generation: 1 },
  spec: { containers: [{ name: "main", image: "example:latest" }], nodeName, ...spec }, status: { phase: "Pending" },
});

const createPod = async ({ store }: TestDispatcher, pod: Pod): Promise<Pod> =>
  (await store.create({ type: PODS, namespace: NAMESPACE, name: pod.metadata.name! }, pod, { writer: "api" })).object;

const podNamed = ({ cache }: TestDispatcher, name: string): Pod | undefined => cache.resource(PODS).get(NAMESPACE, name)?.object;
const isReady = (pod: Pod | undefined): boolean => pod?.status?.conditions?.some((c) => c.type === "Ready" && c.status === "True") ?? false;

test("a session makes a Ready node with labels, addresses, capacity, a range of pod addresses and a lease", async (t) => {
  const cluster = await start(t);
  const agent = await addAgent(t, cluster, "node-a", { description: { labels: { disk: "ssd" }, taints: [{ key: "dedicated", value: "x", effect: "NoSchedule" }] } });
  const node = () => cluster.cache.resource(NODES).get("", "node-a")?.object;
  await eventually(() => node()?.status?.conditions?.some((c) => c.type === "Ready" && c.status === "True") ?? false, "node is Ready");
  t.deepEqual(node()!.metadata.labels, { disk: "ssd", "kubernetes.io/hostname": "node-a", "kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux" });
  t.deepEqual(node()!.spec, { podCIDR: "10.64.0.0/24", podCIDRs: ["10.64.0.0/24"], taints: [{ key: "dedicated", value: "x", effect: "NoSchedule" }] });
  t.deepEqual(node()!.status!.addresses, [{ type: "InternalIP", address: "127.0.0.1" }, { type: "Hostname", address: "node-a" }]);
  t.is(node()!.status!.allocatable!["cpu"], "4");
  t.is(node()!.status!.allocatable!["memory"], "8Gi");
  t.is(agent.networks[0]!.podCidr, "10.64.0.0/24");
  await eventually(() => cluster.cache.resource(LEASES).get("kube-node-lease", "node-a")?.object.spec?.renewTime !== undefined, "lease is there");
  t.deepEqual(cluster.dispatcher.streams.connectedNodes(), ["node-a"]);
});

test("nodes get ranges of their own and learn each other's routes", async (t) => {
  const cluster = await start(t);
  const names = ["node-a", "node-b", "node-c"];
  const agents = await Promise.all(names.map((name, i) => addAgent(t, cluster, name, { description: { addresses: [`10.0.0.${i + 1}`] } })));
  for (const [i, agent] of agents.entries()) {
    await eventually(() => agent.networks.at(-1)?.routes.length === 2, `${names[i]} knows two routes`);
    const others = names.map((name, j) => ({ name, via: `10.0.0.${j + 1}` })).filter((_, j) => j !== i);
    t.deepEqual(agent.networks.at(-1)!.routes.map((r) => ({ name: r.nodeName, via: r.via })).sort((a, b) => (a.name < b.name ? -1 : 1)), others);
  }
  t.is(new Set(agents.map((a) => a.networks.at(-1)!.podCidr)).size, 3);

  await agents[2]!.close();
  await cluster.store.delete({ type: NODES, namespace: "", name: "node-c" }, { writer: "api" });
  await eventually(() => agents[0]!.networks.at(-1)!.routes.every((r) => r.nodeName !== "node-c"), "the route goes with the node");
});

test("a pod goes to its node, runs, is deleted and is gone", async (t) => {
  const cluster = await start(t);
  const agent = await addAgent(t, cluster, "node-a");
  await createPod(cluster, newPod("early", "node-a"));
  await eventually(() => isReady(podNamed(cluster, "early")), "early is Ready");
  const status = podNamed(cluster, "early")!.status!;
  t.is(status.phase, "Running");
  t.is(status.podIP, "10.64.0.2");
  t.is(status.containerStatuses![0]!.ready, true);
  t.deepEqual(status.conditions!.map((c) => `${c.type}=${c.status}`), ["Initialized=True", "Ready=True", "ContainersReady=True", "PodScheduled=True"]);

  await cluster.store.update({ type: PODS, namespace: NAMESPACE, name: "early" }, (pod) => ({ ...pod, metadata: { ...pod.metadata, deletionTimestamp: "2026-01-01T00:00:30Z", deletionGracePeriodSeconds: 30 } }), { writer: "api" });
  await eventually(() => podNamed(cluster, "early") === undefined, "early is gone");
  await eventually(() => agent.pods.assignments.size === 0, "the agent forgot it");
});

test("finalizers hold an object that its node has given up, with a grace of 0", async (t) => {
  const cluster = await start(t);
  await addAgent(t, cluster, "node-a");
  const pod = newPod("held", "node-a");
  await createPod(cluster, { ...pod, metadata: { ...pod.metadata, finalizers: ["example.com/hold"], deletionTimestamp: "2026-01-01T00:00:30Z", deletionGracePeriodSeconds: 30 } });
  await eventually(() => podNamed(cluster, "held")?.metadata.deletionGracePeriodSeconds === 0, "grace is 0");
  t.deepEqual(podNamed(cluster, "held")!.metadata.finalizers, ["example.com/hold"]);
});

test("references are resolved, and resolved again when they change", async (t) => {
  const cluster = await start(t);
  const agent = await addAgent(t, cluster, "node-a");
  const pod = await createPod(cluster, newPod("refs", "node-a", {
    containers: [{ name: "main", image: "example:latest", env: [{ name: "COLOR", valueFrom: { configMapKeyRef: { name: "settings", key: "color" } } }] }],
    volumes: [{ name: "keys", secret: { secretName: "keys" } }],
  }));
  const uid = pod.metadata.uid!;
  await eventually(() => agent.pods.assignments.get(uid)?.unresolved["main"] === 'configmap "settings" not found', "the missing ConfigMap is named");
  const generation = agent.pods.assignments.get(uid)!.generation;
  await cluster.store.create({ type: CONFIG_MAPS, namespace: NAMESPACE, name: "settings" }, { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "settings", namespace: NAMESPACE, uid: newUid() }, data: { color: "blue" } }, { writer: "api" });
  await cluster.store.create({ type: SECRETS, namespace: NAMESPACE, name: "keys" }, { apiVersion: "v1", kind: "Secret", metadata: { name: "keys", namespace: NAMESPACE, uid: newUid() }, data: { key: Buffer.from("k").toString("base64") } }, { writer: "api" });
  await eventually(() => Object.keys(agent.pods.assignments.get(uid)!.unresolved).length === 0, "everything is resolved");
  const assignment = agent.pods.assignments.get(uid)!;
  t.true(assignment.generation > generation);
  t.deepEqual(assignment.containers[0]!.env, [{ name: "COLOR", source: { $case: "value", value: "blue" } }]);
  t.deepEqual(assignment.volumes[0]!.source?.$case === "files" && assignment.volumes[0]!.source.value.memory, true);
  await cluster.store.update({ type: CONFIG_MAPS, namespace: NAMESPACE, name: "settings" }, (map) => ({ ...map, data: { color: "red" } }), { writer: "api" });
  await eventually(() => { const { source } = agent.pods.assignments.get(uid)!.containers[0]!.env[0]!; return source?.$case === "value" && source.value === "red"; }, "the change arrived");
});

test("100 pods bound at once come in few sets, and a status write sends none", async (t) => {
  const cluster = await start(t);
  const agent = await addAgent(t, cluster, "node-a");
  await Promise.all(Array.from({ length: 100 }, (_, i) => createPod(cluster, newPod(`pod-${i}`, "node-a"))));
  await eventually(() => [...cluster.cache.resource(PODS).list()].every((p) => isReady(p.object)), "all are Ready");
  t.is(agent.pods.assignments.size, 100);
  const text = await cluster.metrics.text();
  const sets = Number(/gantry_dispatcher_assignment_sets_total\{kind="incremental"\} (\d+)/.exec(text)?.[1]);
  t.true(sets >= 1 && sets <= 10, `${sets} sets`);
  t.regex(text, /gantry_dispatcher_assignments_total\{change="upsert"\} 100\n/);
  t.regex(text, /gantry_pod_start_stage_seconds_count\{stage="total"\} 100\n/);
});

test("a set larger than a message comes in parts and counts as one", async (t) => {
  const cluster = await start(t);
  const data = { blob: Buffer.alloc(700_000, "x").toString("base64") };
  await cluster.store.create({ type: SECRETS, namespace: NAMESPACE, name: "large" }, { apiVersion: "v1", kind: "Secret", metadata: { name: "large", namespace: NAMESPACE, uid: newUid() }, data }, { writer: "api" });
  for (let i = 0; i < 10; i++) await createPod(cluster, newPod(`pod-${i}`, "node-a", { volumes: [{ name: "v", secret: { secretName: "large" } }] }));
  const agent = await addAgent(t, cluster, "node-a");
  await eventually(() => agent.pods.assignments.size === 10, "all ten came");
  t.is(agent.pods.completeSets, 1);
});

test("a new session of a node ends the older one, which then may not write any more", async (t) => {
  const cluster = await start(t);
  const credentials = await nodeCredentials(cluster.authority, "node-a");
  const client = new DispatcherClient(cluster.target, channelCredentials(credentials.caPem, credentials), CHANNEL_OPTIONS);
  t.teardown(() => client.close());
  const first = client.session({ node: describeFakeNode("node-a") });
  const ended = new Promise<Error>((resolve) => void first.on("error", resolve));
  const sessionId = await new Promise<string>((resolve) => void first.once("data", (m: { message: { $case: "opened"; value: { sessionId: string } } }) => resolve(m.message.value.sessionId)));
  await addAgent(t, cluster, "node-a");
  t.true(isCode(fromServiceError(await ended), "Conflict"));
  const request: UpdateStatusRequest = { sessionId, pods: [], removedVolumes: [] };
  const refused = await new Promise<Error | null>((resolve) => void client.updateStatus(request, (error: Error | null) => resolve(error)));
  t.true(isCode(fromServiceError(refused), "NotFound"));
});

test("agents find their way back after the control plane was away, and report everything again", async (t) => {
  const cluster = await startTestDispatcher();
  const { port } = cluster.dispatcher;
  const agent = await addAgent(t, cluster, "node-a");
  await createPod(cluster, newPod("web", "node-a"));
  await eventually(() => isReady(podNamed(cluster, "web")), "web is Ready");
  await cluster.close();
  await eventually(() => !agent.session.connected, "the session is over");
  // Meanwhile a pod was deleted by force, and the container of another ended.
  const gone = await createPod(cluster, newPod("gone", "node-a"));
  await cluster.store.delete({ type: PODS, namespace: NAMESPACE, name: "gone" }, { writer: "api" });
  const web = podNamed(cluster, "web")!;
  agent.pods.report(web.metadata.uid!, { phase: "Failed", reason: "Error" });
  agent.pods.upsert({ ...agent.pods.assignments.get(web.metadata.uid!)!, uid: gone.metadata.uid!, name: "gone" });

  const again = await start(t, { store: cluster.store, authority: cluster.authority, port });
  await eventually(() => agent.session.connected, "a new session is open");
  await eventually(() => podNamed(again, "web")?.status?.phase === "Failed", "what happened meanwhile is reported");
  await eventually(() => !agent.pods.assignments.has(gone.metadata.uid!), "what is no longer its own goes");
  t.true(agent.pods.assignments.has(web.metadata.uid!), "an ended pod stays until it is deleted");
});

test("a replica that does not lead refuses sessions and names the leader", async (t) => {
  const leader = await start(t);
  const follower = await start(t, { authority: leader.authority, leadership: { fence: () => undefined, leader: () => leader.target } });
  const agent = startFakeAgent({ target: follower.target, nodeName: "node-a", credentials: memoryCredentials(await nodeCredentials(leader.authority, "node-a")) });
  t.teardown(() => agent.close());
  await agent.session.opened();
  t.deepEqual(leader.dispatcher.streams.connectedNodes(), ["node-a"]);
});

test("a leader that was replaced without knowing loses its sessions with its first refused write", async (t) => {
  const store = new MemoryStore();
  let fence = store.elect("leader");
  const cluster = await start(t, { store, heartbeatPeriodMs: 50, leadership: { fence: () => fence } });
  const agent = await addAgent(t, cluster, "node-a");
  const before = cluster.cache.resource(LEASES).get("kube-node-lease", "node-a")!.resourceVersion;
  const next = store.elect("leader");
  await eventually(async () => /sessions_ended_total\{code="ServiceUnavailable"\} 1/.test(await cluster.metrics.text()), "the session is ended");
  await eventually(() => !agent.session.connected, "the agent knows");
  const after = cluster.cache.resource(LEASES).get("kube-node-lease", "node-a")!.resourceVersion;
  fence = next;
  await eventually(() => agent.session.connected, "it is back with the new term");
  t.true(cluster.cache.resource(LEASES).get("kube-node-lease", "node-a")!.resourceVersion > after && after >= before);
  t.is(cluster.cache.resource(NODES).get("", "node-a")!.object.spec!.podCIDR, "10.64.0.0/24", "its range stays");
});

test("a node may not report on another's pods, and learns which are unknown", async (t) => {
  const cluster = await start(t);
  const [a, b] = [await addAgent(t, cluster, "node-a"), await addAgent(t, cluster, "node-b")];
  const pod = await createPod(cluster, newPod("web", "node-b"));
  await eventually(() => isReady(podNamed(cluster, "web")), "web is Ready");
  a.pods.upsert(b.pods.assignments.get(pod.metadata.uid!)!);
  a.pods.report(pod.metadata.uid!, { phase: "Failed" });
  await eventually(() => !a.pods.assignments.has(pod.metadata.uid!), "node-a is told to forget it");
  t.is(podNamed(cluster, "web")!.status!.phase, "Running");
});

test("a status of a lower generation than one accepted before is ignored", async (t) => {
  const cluster = await start(t);
  const agent = await addAgent(t, cluster, "node-a");
  const pod = await createPod(cluster, newPod("web", "node-a"));
  await eventually(() => isReady(podNamed(cluster, "web")), "web is Ready");
  agent.pods.report(pod.metadata.uid!, { generation: 10, phase: "Failed" });
  await eventually(() => podNamed(cluster, "web")?.status?.phase === "Failed", "the newer one is written");
  agent.pods.report(pod.metadata.uid!, { generation: 9, phase: "Running" });
  await eventually(async () => /statuses_total\{outcome="outdated"\} 1/.test(await cluster.metrics.text()), "the older one is ignored");
  t.is(podNamed(cluster, "web")!.status!.phase, "Failed");
});

test("deleting a node's object ends its session; a new one makes a new object", async (t) => {
  const cluster = await start(t);
  await addAgent(t, cluster, "node-a");
  const node = () => cluster.cache.resource(NODES).get("", "node-a")?.object;
  const { uid } = node()!.metadata;
  await cluster.store.delete({ type: NODES, namespace: "", name: "node-a" }, { writer: "api" });
  await eventually(() => node() !== undefined && node()!.metadata.uid !== uid, "there is a new object");
  t.truthy(node()!.spec!.podCIDR);
});

test("an agent that hangs loses its session after the lease", async (t) => {
  const cluster = await start(t, { leaseMs: 300, heartbeatPeriodMs: 100 });
  const credentials = await nodeCredentials(cluster.authority, "node-a");
  const client = new DispatcherClient(cluster.target, channelCredentials(credentials.caPem, credentials), CHANNEL_OPTIONS);
  t.teardown(() => client.close());
  const call = client.session({ node: describeFakeNode("node-a") });
  call.resume();
  t.true(isCode(fromServiceError(await new Promise<Error>((resolve) => void call.on("error", resolve))), "Timeout"));
});

test("a description that makes no sense is refused, naming the field", async (t) => {
  const cluster = await start(t);
  const credentials = await nodeCredentials(cluster.authority, "node-a");
  const client = new DispatcherClient(cluster.target, channelCredentials(credentials.caPem, credentials), CHANNEL_OPTIONS);
  t.teardown(() => client.close());
  const failure = async (change: Parameters<typeof describeFakeNode>[1]): Promise<string> => {
    const call = client.session({ node: describeFakeNode("node-a", change) });
    call.resume();
    return fromServiceError(await new Promise<Error>((resolve) => void call.on("error", resolve))).message;
  };
  t.regex(await failure({ addresses: [] }), /node\.addresses/);
  t.regex(await failure({ addresses: ["example.com"] }), /must be an IP address/);
  t.regex(await failure({ labels: { "not ok": "x" } }), /node\.labels: "not ok"/);
  t.regex(await failure({ taints: [{ key: "a", value: "", effect: "Never" }] }), /"Never".*NoSchedule/);
});

test("without a valid node certificate nothing but registration answers, and the refusal says why", async (t) => {
  const cluster = await start(t);
  const other = await createAuthority("other", clock);
  const attempt = async (options: Parameters<typeof channelCredentials>[1]): Promise<ReturnType<typeof fromServiceError>> => {
    const client = new DispatcherClient(cluster.target, channelCredentials(cluster.authority.certificatePem, options), CHANNEL_OPTIONS);
    t.teardown(() => client.close());
    const failed = new Promise<Error>((resolve) => void client.session({ node: describeFakeNode("node-a") }).on("data", () => resolve(new Error("opened"))).on("error", resolve));
    const unary = new Promise<Error | null>((resolve) => void client.heartbeat({ sessionId: "x", conditions: [], node: undefined }, (error: Error | null) => resolve(error)));
    t.true(isCode(fromServiceError(await unary), "Unauthorized"));
    return fromServiceError(await failed);
  };
  const none = await attempt(undefined);
  t.true(isCode(none, "Unauthorized"));
  t.regex(none.message, /no client certificate/);

  const expired = await nodeCredentials(cluster.authority, "node-a", -60_000);
  t.regex((await attempt(expired)).message, /CERT_HAS_EXPIRED; its machine must join again/);

  const foreign = await nodeCredentials(other, "node-a");
  const refused = await attempt({ ...foreign, caPem: cluster.authority.certificatePem });
  t.true(isCode(refused, "Unauthorized"));
  t.regex(refused.message, /not valid here/);

  const admin = await issue(cluster.authority, { commonName: "system:node:node-a", organizations: ["system:masters"], usage: "client", validForMs: 60_000, clock });
  t.regex((await attempt({ ...expired, ...admin })).message, /not a node's/);
  t.is(cluster.cache.resource(NODES).size, 0);
  t.throws(() => newCredentials(cluster.authority.certificatePem, foreign.certificatePem, foreign.privateKeyPem), { message: /not issued by/ });
});

test("garbage on the port hurts nobody", async (t) => {
  const cluster = await start(t);
  const agent = await addAgent(t, cluster, "node-a");
  const { port } = cluster.dispatcher;
  const closed = (socket: ReturnType<typeof connectTcp>): Promise<void> => new Promise((resolve) => void socket.on("error", () => undefined).once("close", () => resolve()).resume());
  const plain = connectTcp(port, "127.0.0.1");
  plain.end("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  const random = connectTcp(port, "127.0.0.1");
  random.end(Buffer.from(Array.from({ length: 5000 }, (_, i) => (i * 7919) % 256)));
  const http1 = connectTls({ port, host: "127.0.0.1", rejectUnauthorized: false, ALPNProtocols: ["http/1.1"] });
  const notHttp2 = connectTls({ port, host: "127.0.0.1", rejectUnauthorized: false, ALPNProtocols: ["h2"] }, () => notHttp2.end("garbage ".repeat(1000)));
  await Promise.all([plain, random, http1, notHttp2].map(closed));
  await createPod(cluster, newPod("web", "node-a"));
  await eventually(() => isReady(podNamed(cluster, "web")), "the node still works");
  t.true(agent.session.connected);
});

test("200 agents connect and run 1,000 pods within seconds", async (t) => {
  const cluster = await start(t);
  const started = performance.now();
  const agents = await Promise.all(Array.from({ length: 200 }, (_, i) => addAgent(t, cluster, `node-${i}`)));
  const connected = performance.now();
  t.is(new Set(agents.map((a) => a.networks[0]!.podCidr)).size, 200);
  await Promise.all(Array.from({ length: 1000 }, (_, i) => createPod(cluster, newPod(`pod-${i}`, `node-${i % 200}`))));
  await eventually(() => [...cluster.cache.resource(PODS).list()].every((p) => isReady(p.object)), "all are Ready", 30_000);
  t.log(`200 sessions in ${Math.round(connected - started)} ms, 1,000 pods in ${Math.round(performance.now() - connected)} ms`);
  t.is(agents.reduce((n, a) => n + a.pods.assignments.size, 0), 1000);
});

