// Logs, exec and image loading through the API: WebSocket subprotocols, back-pressure, broken streams, clients that leave.
import { request as httpsRequest } from "node:https";
import { PassThrough } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import test from "ava";
import type { ExecutionContext } from "ava";
import { WebSocket } from "ws";
import { CoreV1Api, Exec, KubeConfig, makeInformer } from "@kubernetes/client-node";
import type { V1Pod } from "@kubernetes/client-node";
import { FakeClock } from "../../base/clock.ts";
import { GantryError } from "../../base/errors.ts";
import type { StreamFrame } from "../../proto/gen/gantry/v1/agent.ts";
import { ADMIN_TOKEN, startTestApi } from "../helpers/api-server.ts";
import type { TestApi } from "../helpers/api-server.ts";
import { eventually } from "../helpers/fake-agent.ts";

const out = (text: string): StreamFrame => ({ frame: { $case: "stdout", value: Buffer.from(text) } });
const end = (exitCode: number, code = "", message = "", names: string[] = []): StreamFrame => ({ frame: { $case: "result", value: { code, message, exitCode, names } } });

const startWithPod = async (t: ExecutionContext): Promise<TestApi> => {
  const api = await startTestApi();
  t.teardown(() => api[Symbol.asyncDispose]());
  await api.call("POST", "/api/v1/namespaces/default/pods", { body: { apiVersion: "v1", kind: "Pod", metadata: { name: "box" }, spec: { nodeName: "n1", containers: [{ name: "main", image: "box:1" }] } } });
  await api.call("PATCH", "/api/v1/namespaces/default/pods/box/status", {
    contentType: "application/merge-patch+json",
    body: { status: { phase: "Running", containerStatuses: [{ name: "main", image: "", imageID: "", ready: true, restartCount: 0, state: { running: {} } }] } },
  });
  return api;
};

const LOG = "/api/v1/namespaces/default/pods/box/log";
const EXEC = "/api/v1/namespaces/default/pods/box/exec";

interface Exchange {
  readonly socket: WebSocket;
  /** Everything that came, by channel. */
  readonly received: Map<number, string>;
  readonly closed: Promise<void>;
}

const openExec = (t: ExecutionContext, api: TestApi, query: string, protocol: string): Promise<Exchange> => new Promise((resolve, reject) => {
  const socket = new WebSocket(`wss://127.0.0.1:${api.server.port}${EXEC}?${query}`, [protocol], { ca: api.authority.certificatePem, ...api.admin });
  t.teardown(() => socket.terminate());
  const received = new Map<number, string>();
  const { promise: closed, resolve: onClose } = Promise.withResolvers<void>();
  socket.on("message", (data: Buffer) => received.set(data[0]!, (received.get(data[0]!) ?? "") + data.toString("utf8", 1)));
  socket.on("close", () => onClose());
  socket.on("open", () => resolve({ socket, received, closed }));
  socket.on("unexpected-response", (_request, response) => {
    let text = "";
    response.on("data", (chunk: Buffer) => (text += chunk.toString()));
    response.on("end", () => reject(new Error(`${response.statusCode} ${text}`)));
  });
  socket.on("error", reject);
});

test("exec over v5: stdin until it is closed, resizing, output, exit code", async (t) => {
  const api = await startWithPod(t);
  const seen: string[] = [];
  api.nodes.set("n1", async function* (request, input) {
    if (request.kind?.$case === "exec") seen.push(`${request.kind.value.container} ${request.kind.value.command.join(" ")} tty=${request.kind.value.tty}`);
    for await (const { frame } of input) {
      if (frame?.$case === "stdin") yield out(frame.value.toString().toUpperCase());
      if (frame?.$case === "resize") seen.push(`${frame.value.width}x${frame.value.height}`);
      if (frame?.$case === "stdinClosed") break;
    }
    yield { frame: { $case: "stderr", value: Buffer.from("oops") } };
    yield end(7);
  });
  const { socket, received, closed } = await openExec(t, api, "command=sh&command=-c&stdin=true&stdout=true&stderr=true", "v5.channel.k8s.io");
  t.is(socket.protocol, "v5.channel.k8s.io");
  socket.send(Buffer.from('\u0004{"Width":100,"Height":30}'));
  socket.send(Buffer.from("\0hello "));
  socket.send(Buffer.from("\0world"));
  socket.send(Buffer.from([255, 0]));
  await closed;
  t.deepEqual(seen, ["main sh -c tty=false", "100x30"]);
  t.is(received.get(1), "HELLO WORLD");
  t.is(received.get(2), "oops");
  t.like(JSON.parse(received.get(3)!), { status: "Failure", reason: "NonZeroExitCode", details: { causes: [{ reason: "ExitCode", message: "7" }] } });
});

test("exec over v4, only what was asked for is sent", async (t) => {
  const api = await startWithPod(t);
  api.nodes.set("n1", async function* () {
    yield out("visible");
    yield { frame: { $case: "stderr", value: Buffer.from("not asked for") } };
    yield end(0);
  });
  const { received, closed } = await openExec(t, api, "command=x&stdout=true", "v4.channel.k8s.io");
  await closed;
  t.is(received.get(1), "visible");
  t.false(received.has(2));
  t.like(JSON.parse(received.get(3)!), { status: "Success" });
});

test("an exec that can't be says why: before the upgrade as a Status, after it on the status channel", async (t) => {
  const api = await startWithPod(t);
  await t.throwsAsync(openExec(t, api, "command=x&stdout=true&container=nope", "v5.channel.k8s.io"), { message: /400 .*container nope is not valid for pod box/ });
  await t.throwsAsync(openExec(t, api, "stdout=true", "v5.channel.k8s.io"), { message: /400 .*at least one command/ });
  await t.throwsAsync(openExec(t, api, "command=x", "v5.channel.k8s.io"), { message: /400 .*stdin, stdout, stderr/ });
  await t.throwsAsync(openExec(t, api, "command=x&stdout=true", "v1.unheard.of"), { message: /400 .*unable to negotiate protocol.*v1\.unheard\.of/ });
  const { received, closed } = await openExec(t, api, "command=x&stdout=true", "v5.channel.k8s.io");
  await closed;
  t.like(JSON.parse(received.get(3)!), { status: "Failure", reason: "ServiceUnavailable", message: "node n1 is not connected" });
  t.is((await api.call("POST", `${EXEC}?command=x&stdout=true`)).json.message, "Upgrade request required");
  const anonymous = new WebSocket(`wss://127.0.0.1:${api.server.port}${EXEC}?command=x&stdout=true`, ["v5.channel.k8s.io"], { ca: api.authority.certificatePem });
  t.is(await new Promise((resolve) => {
    anonymous.on("error", () => undefined);
    anonymous.on("unexpected-response", (_request, response) => {
      response.resume();
      resolve(response.statusCode);
    });
  }), 401);
});

test("a client that leaves an exec stops it on the node", async (t) => {
  const api = await startWithPod(t);
  const { promise: stopped, resolve } = Promise.withResolvers<void>();
  api.nodes.set("n1", async function* (_request, _input, signal) {
    signal.addEventListener("abort", () => resolve(), { once: true });
    yield out("started");
    await delay(10_000, undefined, { signal, ref: false }).catch(() => undefined);
  });
  const { socket } = await openExec(t, api, "command=sleep&stdout=true", "v5.channel.k8s.io");
  socket.terminate();
  await stopped;
  t.pass();
});

test("a slow client of exec makes the node wait instead of filling the memory", async (t) => {
  const api = await startWithPod(t);
  const chunk = Buffer.alloc(64 * 1024, 120);
  let produced = 0;
  api.nodes.set("n1", async function* () {
    for (; produced < 2000; produced++) yield { frame: { $case: "stdout", value: chunk } };
    yield end(0);
  });
  const { socket, closed, received } = await openExec(t, api, "command=yes&stdout=true", "v5.channel.k8s.io");
  socket.pause();
  await delay(300);
  t.true(produced < 1000, `${produced} chunks were produced for a client that reads none`);
  socket.resume();
  await closed;
  t.is(received.get(1)!.length, 2000 * chunk.length);
});

test("a followed log ends when the client leaves, and an error before the first line is a Status", async (t) => {
  const api = await startWithPod(t);
  const { promise: stopped, resolve } = Promise.withResolvers<void>();
  api.nodes.set("n1", async function* (_request, _input, signal) {
    signal.addEventListener("abort", () => resolve(), { once: true });
    yield out("first\n");
    await delay(10_000, undefined, { signal, ref: false }).catch(() => undefined);
  });
  const request = httpsRequest({ host: "127.0.0.1", port: api.server.port, path: `${LOG}?follow=true`, ca: api.authority.certificatePem, agent: false, ...api.admin }, (response) => {
    response.once("data", () => request.destroy());
  });
  request.on("error", () => undefined);
  request.end();
  await stopped;
  api.nodes.set("n1", async function* () {
    yield end(0, "NotFound", "the log file is gone");
  });
  t.like((await api.call("GET", LOG)).json, { code: 404, message: "the log file is gone" });
  t.like((await api.call("GET", `${LOG}?tailLines=-3`)).json, { code: 422 });
});

test("an image goes to every node, chunk by chunk, and each answers for itself", async (t) => {
  const api = await startWithPod(t);
  t.like((await api.call("POST", "/apis/gantry.io/v1/images", { body: "x" })).json, { code: 503 });
  const got = new Map<string, number>();
  for (const node of ["n1", "n2"]) {
    api.nodes.set(node, async function* (_request, input) {
      let size = 0;
      for await (const { frame } of input) if (frame?.$case === "stdin") size += frame.value.length;
      got.set(node, size);
      yield end(0, "", "", ["example:1"]);
    });
  }
  api.nodes.set("n3", async function* (_request, input) {
    for await (const { frame } of input) if (frame) break;
    yield end(0, "BadRequest", "not a tar archive");
  });
  const body = Buffer.alloc(5_000_000, 7);
  const loaded = await api.call("POST", "/apis/gantry.io/v1/images?name=example:1", { body, contentType: "application/x-tar" });
  const lines = loaded.text.trim().split("\n").map((line) => JSON.parse(line) as Record<string, unknown>);
  t.is(loaded.status, 200);
  t.deepEqual([got.get("n1"), got.get("n2")], [body.length, body.length]);
  t.deepEqual(lines.filter((l) => l["done"]).map((l) => l["node"]).sort(), ["n1", "n2"]);
  t.like(lines.find((l) => l["node"] === "n3"), { error: "not a tar archive" });
  t.deepEqual(lines.at(-1), { summary: { loaded: 2, failed: 1 } });
  t.is((await api.call("POST", "/apis/gantry.io/v1/images?node=n9", { body: "x" })).status, 404);
  t.is((await api.call("PUT", "/apis/gantry.io/v1/images", { body: "x" })).status, 405);
});

test("what all nodes are asked is answered within a deadline, and says which of them did not", async (t) => {
  const clock = new FakeClock(Date.now());
  await using api = await startTestApi({ server: { clock } });
  for (const name of ["n1", "n2", "gone"]) await api.call("POST", "/api/v1/nodes", { body: { apiVersion: "v1", kind: "Node", metadata: { name } } });
  const asked: string[] = [];
  const record = { id: "sha256:1", manifestDigest: "sha256:2", mediaType: "", manifestBytes: 1, names: ["example:1"], sizeBytes: 1, createdMs: 0, architecture: "amd64", labels: {}, usedBy: [], layers: [] };
  api.nodes.set("n1", async function* () {
    yield { frame: { $case: "imageReport", value: { images: [record], untagged: ["example:1"], deleted: [], freedBytes: 0, usage: undefined, config: Buffer.alloc(0) } } };
    yield end(0);
  });
  // As an agent that took the call and was stopped (SIGSTOP), or waits for a disk that hangs.
  api.nodes.set("n2", async function* (request, _input, signal) {
    asked.push(request.kind?.$case === "image" ? request.kind.value.action!.$case : "");
    await new Promise((_, reject) => signal.addEventListener("abort", () => reject(new GantryError("ServiceUnavailable", "the stream broke off"))));
    yield end(0);
  });
  const whenLate = async (method: string, path: string, ms: number, body?: object): Promise<Record<string, unknown>> => {
    const count = asked.length;
    const answer = api.call(method, `/apis/gantry.io/v1/images${path}`, { body });
    await eventually(() => asked.length > count, "the silent node is asked");
    await clock.advance(ms);
    return (await answer).json as Record<string, unknown>;
  };
  const late = (seconds: number): object => ({ node: "n2", error: `node n2 did not answer within ${seconds} s` });
  const gone = { node: "gone", error: "node gone is not connected: is its agent running?" };
  t.like(await whenLate("GET", "", 10_000), { items: [{ node: "n1", names: ["example:1"] }], failed: [late(10), gone] });
  t.like(await whenLate("GET", "/df", 120_000), { nodes: [{ node: "n1" }], failed: [late(120), gone] });
  t.like(await whenLate("GET", "?node=n2", 10_000), { code: 504, message: "node n2 did not answer within 10 s" });
  // One deadline for all images that go, not one for each.
  t.like(await whenLate("POST", "/remove", 120_000, { references: ["example:1", "example:2"] }), { results: [{ nodes: [{ node: "n1" }], failed: [late(120)] }, { nodes: [{ node: "n1" }], failed: [late(120)] }] });
  t.deepEqual(asked, ["list", "usage", "list", "remove"]);
});

test("why a pod runs where it runs", async (t) => {
  const api = await startWithPod(t);
  t.like((await api.call("GET", "/apis/gantry.io/v1/namespaces/default/pods/box/why")).json, { pod: "default/box", summary: "0/0 nodes are available." });
  t.is((await api.call("GET", "/apis/gantry.io/v1/namespaces/default/pods/box/whence")).status, 404);
});

test("the JavaScript client: list, informer, log errors, exec", async (t) => {
  const api = await startWithPod(t);
  api.nodes.set("n1", async function* () {
    yield out("from inside");
    yield end(0);
  });
  const config = new KubeConfig();
  config.loadFromFile(api.kubeconfig);
  const core = config.makeApiClient(CoreV1Api);
  t.deepEqual((await core.listNamespacedPod({ namespace: "default" })).items.map((p) => p.metadata?.name), ["box"]);
  const missing = await t.throwsAsync<Error & { code: number }>(core.readNamespacedPod({ namespace: "default", name: "nope" }) as Promise<unknown>);
  t.is(missing?.code, 404);

  const informer = makeInformer<V1Pod>(config, "/api/v1/namespaces/default/pods", () => core.listNamespacedPod({ namespace: "default" }));
  const added: string[] = [];
  const { promise: second, resolve } = Promise.withResolvers<void>();
  informer.on("add", (pod) => {
    added.push(pod.metadata?.name ?? "");
    if (added.length === 2) resolve();
  });
  await informer.start();
  t.teardown(() => informer.stop());
  await core.createNamespacedPod({ namespace: "default", body: { metadata: { name: "two" }, spec: { containers: [{ name: "c", image: "x" }] } } });
  await second;
  t.deepEqual(added, ["box", "two"]);
  await informer.stop();

  const stdout = new PassThrough();
  let text = "";
  stdout.on("data", (chunk: Buffer) => (text += chunk.toString()));
  const status = await new Promise<{ status?: string }>((done, reject) => {
    new Exec(config).exec("default", "box", "main", ["ls"], stdout, null, null, false, done).catch(reject);
  });
  t.is(status.status, "Success");
  t.is(text, "from inside");
});

test("a stream that breaks half-way breaks the answer instead of ending it", async (t) => {
  const api = await startWithPod(t);
  api.nodes.set("n1", async function* () {
    yield out("half of a li");
    await delay(20);
    throw new GantryError("ServiceUnavailable", "the node is gone");
  });
  await t.throwsAsync(api.call("GET", LOG), { message: /aborted|hang up|reset/ });
  t.is((await api.call("GET", "/version", { token: ADMIN_TOKEN })).status, 200);
});
