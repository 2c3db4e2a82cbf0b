import test from "ava";
import type { ExecutionContext } from "ava";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import type { ServerWritableStream } from "@grpc/grpc-js";
import { isCode } from "../../base/errors.ts";
import { newUid } from "../../base/ids.ts";
import { NODES, PODS } from "../../base/kube/resources.ts";
import { createAuthority } from "../../base/tls/authority.ts";
import { SystemClock } from "../../base/clock.ts";
import { AssignmentSet_Kind, DispatcherService } from "../../proto/gen/gantry/v1/agent.ts";
import type { AssignmentsRequest, AssignmentSet, LogsRequest, NodeDescription, SessionMessage, SessionRequest, StreamFrame, StreamRequest } from "../../proto/gen/gantry/v1/agent.ts";
import type { RecordedEvent } from "../../control-plane/state/event-recorder.ts";
import type { NodeStream } from "../../control-plane/state/node-streams.ts";
import { eventually, memoryCredentials, nodeCredentials, serverMaterial, startFakeAgent, startTestDispatcher } from "../helpers/fake-agent.ts";
import type { FakeAgent, TestDispatcher } from "../helpers/fake-agent.ts";

const logsOf = (podUid: string, change: Partial<LogsRequest> = {}): StreamRequest =>
  ({ id: "", kind: { $case: "logs", value: { podUid, container: "main", follow: false, previous: false, timestamps: false, overRestarts: false, tailLines: undefined, sinceMs: undefined, limitBytes: undefined, ...change } } });
const execOf = (podUid: string, stdin: boolean): StreamRequest =>
  ({ id: "", kind: { $case: "exec", value: { podUid, container: "main", command: ["echo", "hello"], stdin, stdout: true, stderr: true, tty: false, env: [], user: "", workingDir: "", detach: false } } });

const start = async (t: ExecutionContext, options: Parameters<typeof startTestDispatcher>[0] = {}): Promise<{ readonly cluster: TestDispatcher; readonly agent: FakeAgent; readonly uid: string }> => {
  const cluster = await startTestDispatcher(options);
  t.teardown(() => cluster.close());
  const agent = startFakeAgent({ target: cluster.target, nodeName: "node-a", credentials: memoryCredentials(await nodeCredentials(cluster.authority, "node-a")) });
  t.teardown(() => agent.close());
  await agent.session.opened();
  const uid = newUid();
  await cluster.store.create({ type: PODS, namespace: "default", name: "web" }, {
    apiVersion: "v1", kind: "Pod", metadata: { name: "web", namespace: "default", uid }, spec: { nodeName: "node-a", containers: [{ name: "main", image: "example" }] },
  }, { writer: "api" });
  await eventually(() => agent.pods.assignments.has(uid), "the pod is there");
  return { cluster, agent, uid };
};

test("pods of a group learn each other's addresses, and forget them, without a change of their own", async (t) => {
  const cluster = await startTestDispatcher();
  t.teardown(() => cluster.close());
  const agent = startFakeAgent({ target: cluster.target, nodeName: "node-a", credentials: memoryCredentials(await nodeCredentials(cluster.authority, "node-a")) });
  t.teardown(() => agent.close());
  await agent.session.opened();
  const key = (name: string) => ({ type: PODS, namespace: "default", name });
  const member = (name: string, group: string) => cluster.store.create(key(name), {
    apiVersion: "v1", kind: "Pod", metadata: { name, namespace: "default", uid: `uid-${name}`, labels: { "gantry.io/hosts-group": group }, annotations: { "gantry.io/hosts-names": name.replace(/-.*/, "") } },
    spec: { nodeName: "node-a", containers: [{ name: "main", image: "example" }] },
  }, { writer: "api" });
  const setIp = (name: string, podIP: string) => cluster.store.update(key(name), (pod) => ({ ...pod, status: { ...pod.status, podIP } }), { writer: "agent" });
  const aliases = (name: string): string => (agent.pods.assignments.get(`uid-${name}`)?.hostAliases ?? []).map((a) => `${a.ip} ${a.hostnames.join(" ")}`).join("; ");
  await member("web-1", "shop");
  await member("db-1", "shop");
  await member("db-2", "other");
  await setIp("db-1", "10.1.0.2");
  await setIp("db-2", "10.1.0.3");
  await eventually(() => aliases("web-1") === "10.1.0.2 db-1 db", "web-1 knows db-1 and no other group's");
  t.is(aliases("db-1"), "");
  await setIp("db-1", "10.1.0.9");
  await eventually(() => aliases("web-1") === "10.1.0.9 db-1 db", "the new address came");
  await cluster.store.delete(key("db-1"), { writer: "agent" });
  await eventually(() => aliases("web-1") === "", "who is gone is forgotten");
});

const textOf = async (stream: NodeStream): Promise<{ readonly text: string; readonly exitCode: number | undefined; readonly names: readonly string[] }> => {
  let [text, exitCode, names] = ["", undefined as number | undefined, [] as readonly string[]];
  for await (const { frame } of stream.frames) {
    if (frame?.$case === "stdout") text += Buffer.from(frame.value).toString();
    if (frame?.$case === "result") ({ exitCode, names } = frame.value);
  }
  return { text, exitCode, names };
};

const openStreams = async (cluster: TestDispatcher): Promise<number> => Number(/^gantry_dispatcher_streams (\d+)/m.exec(await cluster.metrics.text())![1]);

test("logs come through the agent's own connection, and nothing stays open", async (t) => {
  const { cluster, agent, uid } = await start(t);
  agent.pods.logLines.set(`${uid}/main`, ["one\n", "two\n"]);
  const { text } = await textOf(await cluster.dispatcher.streams.open("node-a", logsOf(uid), new AbortController().signal));
  t.is(text, "one\ntwo\n");
  await eventually(async () => (await openStreams(cluster)) === 0, "the stream is closed");
});

test("a refusal reaches whoever opens the stream", async (t) => {
  const { cluster, uid } = await start(t);
  const { streams } = cluster.dispatcher;
  const error = await t.throwsAsync(streams.open("node-a", logsOf(uid, { container: "other" }), new AbortController().signal));
  t.true(isCode(error, "NotFound"));
  t.regex(error.message, /container other/);
  t.true(isCode(await t.throwsAsync(streams.open("node-b", logsOf(uid), new AbortController().signal)), "ServiceUnavailable"));
  t.true(isCode(await t.throwsAsync(streams.open("node-a", { id: "", kind: undefined }, new AbortController().signal)), "MethodNotAllowed"));
});

test("an abort ends a stream that is followed, on both sides", async (t) => {
  const { cluster, agent, uid } = await start(t);
  agent.pods.logLines.set(`${uid}/main`, ["one\n"]);
  const abort = new AbortController();
  const stream = await cluster.dispatcher.streams.open("node-a", logsOf(uid, { follow: true }), abort.signal);
  const reading = textOf(stream);
  await eventually(async () => (await openStreams(cluster)) === 1, "the stream is open");
  abort.abort();
  await t.throwsAsync(reading);
  await eventually(async () => (await openStreams(cluster)) === 0, "the stream is closed");
  t.true(isCode(await t.throwsAsync(cluster.dispatcher.streams.open("node-a", logsOf(uid), abort.signal)), "Cancelled"));
});

test("exec carries input, output and the exit code, with back-pressure", async (t) => {
  const { cluster, uid } = await start(t);
  const { streams } = cluster.dispatcher;
  t.deepEqual(await textOf(await streams.open("node-a", execOf(uid, false), new AbortController().signal)), { text: "echo hello", exitCode: 0, names: [] });

  const stream = await streams.open("node-a", execOf(uid, true), new AbortController().signal);
  const reading = textOf(stream);
  const chunk = Buffer.alloc(60_000, "x");
  for (let i = 0; i < 100; i++) await stream.send({ frame: { $case: "stdin", value: chunk } });
  stream.end();
  const { text, exitCode } = await reading;
  t.is(text.length, 6_000_000);
  t.is(exitCode, 6_000_000 % 256);
});

test("an image archive of any size is streamed, and its node says so at the next heartbeat", async (t) => {
  const { cluster, agent } = await start(t, { heartbeatPeriodMs: 50 });
  const stream = await cluster.dispatcher.streams.open("node-a", { id: "", kind: { $case: "loadImage", value: { name: "gantry.local/example:latest" } } }, new AbortController().signal);
  const reading = textOf(stream);
  for (let i = 0; i < 200; i++) await stream.send({ frame: { $case: "stdin", value: Buffer.alloc(65_536) } });
  stream.end();
  t.deepEqual((await reading).names, ["gantry.local/example:latest"]);
  t.is(agent.images.loaded[0]!.sizeBytes, 200 * 65_536);
  await eventually(() => cluster.cache.resource(NODES).get("", "node-a")?.object.status?.images?.[0]?.names?.[0] === "gantry.local/example:latest", "the node lists the image");
});

test("a stream ends with an error when its node goes away", async (t) => {
  const { cluster, agent, uid } = await start(t);
  agent.pods.logLines.set(`${uid}/main`, ["one\n"]);
  const reading = textOf(await cluster.dispatcher.streams.open("node-a", logsOf(uid, { follow: true }), new AbortController().signal));
  await agent.close();
  t.true(isCode(await t.throwsAsync(reading), "ServiceUnavailable"));
});

test("an agent that does not dial back is waited for only so long", async (t) => {
  const cluster = await startTestDispatcher({ streamTimeoutMs: 50 });
  t.teardown(() => cluster.close());
  const { DispatcherClient } = await import("../../proto/gen/gantry/v1/agent.ts");
  const { channelCredentials, CHANNEL_OPTIONS } = await import("../../node-agent/session/credentials.ts");
  const { describeFakeNode } = await import("../helpers/fake-agent.ts");
  const credentials = await nodeCredentials(cluster.authority, "node-a");
  const client = new DispatcherClient(cluster.target, channelCredentials(credentials.caPem, credentials), CHANNEL_OPTIONS);
  t.teardown(() => client.close());
  const call = client.session({ node: describeFakeNode("node-a") });
  call.on("error", () => undefined);
  await new Promise((resolve) => void call.once("data", resolve));
  call.resume();
  t.true(isCode(await t.throwsAsync(cluster.dispatcher.streams.open("node-a", logsOf("x"), new AbortController().signal)), "Timeout"));
  call.cancel();
});

/** A control plane that says what a test wants it to say. */
const startScripted = async (t: ExecutionContext, assignments: (call: ServerWritableStream<AssignmentsRequest, AssignmentSet>, attempt: number) => void): Promise<{ readonly agent: FakeAgent; readonly sessions: NodeDescription[] }> => {
  const authority = await createAuthority("test-ca", new SystemClock());
  const { certificatePem, privateKeyPem, caPem } = await serverMaterial(authority);
  const server = new Server();
  const sessions: NodeDescription[] = [];
  let attempts = 0;
  server.addService(DispatcherService, {
    session: (call: ServerWritableStream<SessionRequest, SessionMessage>) => {
      sessions.push(call.request.node!);
      const network = { clusterCidr: "10.64.0.0/12", podCidr: "10.64.0.0/24", routes: [], dnsServers: [], clusterDomain: "cluster.local" };
      call.write({ message: { $case: "opened", value: { sessionId: `s${sessions.length}`, nodeName: "node-a", heartbeatPeriodMs: 1000, leaseMs: 4000, network, controlPlanes: [] } } });
    },
    heartbeat: (_call: unknown, callback: (error: null, value: unknown) => void) => callback(null, { nextPeriodMs: 1000 }),
    assignments: (call: ServerWritableStream<AssignmentsRequest, AssignmentSet>) => assignments(call, ++attempts),
    updateStatus: (_call: unknown, callback: (error: null, value: unknown) => void) => callback(null, { unknown: [] }),
    stream: () => undefined, renewCertificate: () => undefined,
  });
  const port = await new Promise<number>((resolve, reject) => server.bindAsync("127.0.0.1:0", ServerCredentials.createSsl(Buffer.from(caPem), [{ cert_chain: Buffer.from(certificatePem), private_key: Buffer.from(privateKeyPem) }], true), (e, p) => (e ? reject(e) : resolve(p))));
  t.teardown(() => server.forceShutdown());
  const agent = startFakeAgent({ target: `127.0.0.1:${port}`, nodeName: "node-a", credentials: memoryCredentials(await nodeCredentials(authority, "node-a")) });
  t.teardown(() => agent.close());
  return { agent, sessions };
};

const emptySet = (appliesTo: string, resultsIn: string, complete = false): AssignmentSet =>
  ({ kind: complete ? AssignmentSet_Kind.KIND_COMPLETE : AssignmentSet_Kind.KIND_INCREMENTAL, appliesTo, resultsIn, upsert: [], remove: [], more: false, removeVolumes: [] });

test("a missed assignment set makes the agent start over, within the same session", async (t) => {
  const { agent, sessions } = await startScripted(t, (call, attempt) => {
    call.write(emptySet("", `${attempt}.1`, true));
    if (attempt === 1) call.write(emptySet("1.2", "1.3"));
  });
  await eventually(() => agent.pods.completeSets === 2, "a second COMPLETE set");
  t.is(sessions.length, 1);
  t.true(agent.session.connected);
  t.regex(await agent.metrics.text(), /gantry_agent_assignment_restarts_total 1/);
});

test("an assignment stream that ends is opened again", async (t) => {
  const { agent } = await startScripted(t, (call, attempt) => {
    call.write(emptySet("", "1", true));
    if (attempt === 1) call.end();
  });
  await eventually(() => agent.pods.completeSets === 2, "a second COMPLETE set");
  t.pass();
});

test("statuses reported while a batch is in flight follow in one batch, newest only", async (t) => {
  const { cluster, agent, uid } = await start(t);
  await eventually(() => cluster.cache.resource(PODS).byUid(uid)?.object.status?.phase === "Running", "Running");
  for (let i = 0; i < 50; i++) agent.pods.report(uid, { message: `change ${i}` });
  await eventually(() => cluster.cache.resource(PODS).byUid(uid)!.object.status!.message === "change 49", "the last one arrives");
  const batches = Number(/gantry_agent_status_batch_size_count (\d+)/.exec(await agent.metrics.text())![1]);
  t.true(batches <= 4, `${batches} batches`);
});

test("what happened to a pod beside its status becomes its events: all of it, in order, whatever batches it came in", async (t) => {
  const recorded: RecordedEvent[] = [];
  const { agent, uid } = await start(t, { events: { record: (event) => void recorded.push(event), flush: async () => undefined, [Symbol.dispose]: () => undefined } });
  for (let i = 0; i < 10; i++) agent.pods.report(uid, { incidents: [{ type: "Warning", reason: "Unhealthy", message: `probe ${i}`, container: i === 9 ? "" : "main" }] });
  await eventually(() => recorded.length === 10, "ten events");
  t.deepEqual(recorded.map((e) => e.message), Array.from({ length: 10 }, (_, i) => `probe ${i}`));
  t.like(recorded[0], { type: "Warning", reason: "Unhealthy", fieldPath: "spec.containers{main}", component: "node-agent", host: "node-a", regarding: { metadata: { name: "web", uid } } });
  t.is(recorded[9]!.fieldPath, undefined);
});

test("frames of a stream keep their order under load", async (t) => {
  const { cluster, agent, uid } = await start(t);
  const lines = Array.from({ length: 5000 }, (_, i) => `${i}\n`);
  agent.pods.logLines.set(`${uid}/main`, lines);
  const stream = await cluster.dispatcher.streams.open("node-a", logsOf(uid), new AbortController().signal);
  const frames: StreamFrame[] = [];
  for await (const frame of stream.frames) frames.push(frame);
  t.is(frames.filter((f) => f.frame?.$case === "stdout").map((f) => Buffer.from((f.frame as { value: Uint8Array }).value).toString()).join(""), lines.join(""));
});
