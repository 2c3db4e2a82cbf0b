// The API over real HTTPS on the memory store: verbs, errors, lists, watches, authentication.
import type { IncomingMessage } from "node:http";
import { connect as connectHttp2 } from "node:http2";
import { request as httpsRequest } from "node:https";
import { connect as connectTcp } from "node:net";
import { createInterface } from "node:readline";
import { connect as connectTls } from "node:tls";
import test from "ava";
import type { ExecutionContext } from "ava";
import { settle } from "../../base/clock.ts";
import { PODS } from "../../base/kube/resources.ts";
import { issue } from "../../base/tls/authority.ts";
import { MemoryStore } from "../../control-plane/state/memory-store.ts";
import { ADMIN_TOKEN, GUEST_TOKEN, startTestApi } from "../helpers/api-server.ts";
import type { TestApi } from "../helpers/api-server.ts";

const start = async (t: ExecutionContext, options?: Parameters<typeof startTestApi>[0]): Promise<TestApi> => {
  const api = await startTestApi(options);
  t.teardown(() => api[Symbol.asyncDispose]());
  return api;
};

const PODS_PATH = "/api/v1/namespaces/default/pods";
const CONFIG_PATH = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS_PATH = "/apis/apps/v1/namespaces/default/deployments";

const pod = (name: string, part: { labels?: Record<string, string>; spec?: object; metadata?: object } = {}): object =>
  ({ apiVersion: "v1", kind: "Pod", metadata: { name, ...(part.labels ? { labels: part.labels } : {}), ...part.metadata }, spec: { containers: [{ name: "c", image: "example:1" }], ...part.spec } });
const configMap = (name: string, data: Record<string, string> = { a: "1" }, labels: Record<string, string> = {}): object =>
  ({ apiVersion: "v1", kind: "ConfigMap", metadata: { name, labels }, data });
const deployment = (name: string, replicas = 1): object => ({
  apiVersion: "apps/v1", kind: "Deployment", metadata: { name },
  spec: { replicas, selector: { matchLabels: { app: name } }, template: { metadata: { labels: { app: name } }, spec: { containers: [{ name: "c", image: "example:1" }] } } },
});

interface Frame {
  readonly type: string;
  // oxlint-disable-next-line typescript/no-explicit-any
  readonly object: any;
}

/** A watch whose frames a test takes one by one. */
const watch = async (t: ExecutionContext, api: TestApi, path: string, accept = "application/json"): Promise<{ next(): Promise<Frame>; rest(): Promise<Frame[]> }> => {
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const request = httpsRequest({ host: "127.0.0.1", port: api.server.port, path, ca: api.authority.certificatePem, agent: false, ...api.admin, headers: { accept } }, resolve);
    request.on("error", reject);
    request.end();
    t.teardown(() => request.destroy());
  });
  response.on("error", () => undefined);
  const lines = createInterface({ input: response })[Symbol.asyncIterator]();
  const next = async (): Promise<Frame> => JSON.parse((await lines.next()).value as string) as Frame;
  return {
    next,
    rest: async () => {
      const frames: Frame[] = [];
      for (let line = await lines.next(); !line.done; line = await lines.next()) frames.push(JSON.parse(line.value) as Frame);
      return frames;
    },
  };
};

const names = (list: { items: { metadata: { name: string } }[] }): string[] => list.items.map((i) => i.metadata.name);

test("an object is created with identity and defaults, read, listed, and deleted", async (t) => {
  const api = await start(t);
  const created = await api.call("POST", PODS_PATH, { body: pod("a") });
  t.is(created.status, 201, created.text);
  t.regex(created.json.metadata.uid, /^[0-9a-f-]{36}$/);
  t.is(created.json.metadata.namespace, "default");
  t.regex(created.json.metadata.creationTimestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
  t.is(created.json.spec.restartPolicy, "Always");
  t.is(created.json.status.phase, "Pending");
  const read = await api.call("GET", `${PODS_PATH}/a`);
  t.deepEqual(read.json, created.json);
  t.deepEqual(names((await api.call("GET", "/api/v1/pods")).json), ["a"]);
  const deleted = await api.call("DELETE", `${PODS_PATH}/a`);
  t.is(deleted.status, 200);
  t.is((await api.call("GET", `${PODS_PATH}/a`)).status, 404);
  t.deepEqual(names((await api.call("GET", PODS_PATH)).json), []);
});

test("a write is seen by the next read, however slow the cache's feed is", async (t) => {
  const api = await start(t);
  for (let i = 0; i < 20; i++) {
    await api.call("POST", CONFIG_PATH, { body: configMap(`c${i}`) });
    t.is((await api.call("GET", CONFIG_PATH)).json.items.length, i + 1);
  }
});

test("errors are Status objects that clients know", async (t) => {
  const api = await start(t);
  const missing = (await api.call("GET", `${DEPLOYMENTS_PATH}/nope`)).json;
  t.like(missing, { kind: "Status", status: "Failure", reason: "NotFound", code: 404, message: 'deployments.apps "nope" not found', details: { name: "nope", group: "apps", kind: "deployments" } });
  await api.call("POST", CONFIG_PATH, { body: configMap("a") });
  t.like((await api.call("POST", CONFIG_PATH, { body: configMap("a") })).json, { reason: "AlreadyExists", code: 409, message: 'configmaps "a" already exists' });
  const bad = await api.call("POST", DEPLOYMENTS_PATH, { body: deployment("web", -1) });
  t.is(bad.status, 422);
  t.like(bad.json, { reason: "Invalid", details: { kind: "Deployment", group: "apps", name: "web" } });
  t.regex(bad.json.message, /^Deployment\.apps "web" is invalid: spec\.replicas: Invalid value: -1: must be greater than or equal to 0$/);
  t.is(bad.json.details.causes[0].field, "spec.replicas");
  t.like((await api.call("GET", "/api/v1/namespaces/default/widgets")).json, { reason: "NotFound", message: "the server could not find the requested resource" });
  t.is((await api.call("PUT", CONFIG_PATH, { body: configMap("a") })).status, 405);
  t.regex((await api.call("POST", "/api/v1/namespaces/default/services", { body: {} })).json.message, /services are not served yet/);
  t.is((await api.call("POST", CONFIG_PATH, { body: "{ nonsense" })).json.reason, "BadRequest");
  t.is((await api.call("POST", CONFIG_PATH, { body: "x", contentType: "image/png" })).status, 415);
  t.is((await api.call("GET", CONFIG_PATH, { accept: "image/png" })).status, 406);
  t.like((await api.call("POST", "/api/v1/namespaces/nowhere/configmaps", { body: configMap("a") })).json, { reason: "NotFound", message: 'namespaces "nowhere" not found' });
  t.regex((await api.call("POST", CONFIG_PATH, { body: { ...configMap("b"), metadata: { name: "b", namespace: "kube-system" } } })).json.message, /namespace of the provided object does not match/);
  t.regex((await api.call("POST", CONFIG_PATH, { body: { apiVersion: "v1", kind: "Secret", metadata: { name: "b" } } })).json.message, /Secret/);
});

test("a body that is too large is refused with 413, announced or not", async (t) => {
  const api = await start(t);
  const body = JSON.stringify(configMap("big", { a: "x".repeat(4 * 1024 * 1024) }));
  t.like((await api.call("POST", CONFIG_PATH, { body })).json, { code: 413, reason: "RequestEntityTooLarge" });
});

test("an endless upload over HTTP/2 is cut off, and its connection goes on", async (t) => {
  const api = await start(t);
  const session = connectHttp2(`https://127.0.0.1:${api.server.port}`, { ca: api.authority.certificatePem, ...api.admin });
  t.teardown(() => session.destroy());
  const upload = session.request({ ":method": "POST", ":path": CONFIG_PATH, "content-type": "application/json" });
  const chunk = Buffer.alloc(64 * 1024, 32);
  const pour = (): void => {
    if (!upload.closed && !upload.destroyed) upload.write(chunk, () => pour());
  };
  upload.on("error", () => undefined);
  pour();
  t.is(await new Promise((resolve) => upload.on("response", (headers) => resolve(headers[":status"]))), 413);
  upload.resume();
  await new Promise((resolve) => upload.on("close", resolve));
  const after = session.request({ ":path": CONFIG_PATH });
  t.is(await new Promise((resolve) => after.on("response", (headers) => resolve(headers[":status"]))), 200);
});

test("idle HTTP/1.1 connections are kept longer than Go's clients keep them", async (t) => {
  const api = await start(t);
  t.regex(String((await api.call("GET", "/version", { headers: { connection: "keep-alive" } })).headers["keep-alive"]), /timeout=1[0-9]{2}/);
});

test("field validation: strict refuses, warn warns, ignore is silent", async (t) => {
  const api = await start(t);
  const body = { ...configMap("a"), dada: {}, data: { x: "1" } };
  const strict = await api.call("POST", `${CONFIG_PATH}?fieldValidation=Strict`, { body });
  t.is(strict.status, 400);
  t.regex(strict.json.message, /strict decoding error: unknown field "dada"/);
  const warned = await api.call("POST", `${CONFIG_PATH}?fieldValidation=Warn`, { body });
  t.is(warned.status, 201);
  t.regex(String(warned.headers["warning"]), /^299 - "unknown field \\"dada\\""$/);
  const silent = await api.call("POST", `${CONFIG_PATH}?fieldValidation=Ignore`, { body: { ...body, metadata: { name: "b" } } });
  t.is(silent.status, 201);
  t.is(silent.headers["warning"], undefined);
  t.is((await api.call("POST", `${CONFIG_PATH}?fieldValidation=Maybe`, { body })).status, 400);
});

test("YAML bodies and answers", async (t) => {
  const api = await start(t);
  const created = await api.call("POST", CONFIG_PATH, { body: "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: y}\ndata:\n  when: '2026-01-01'\n", contentType: "application/yaml" });
  t.is(created.status, 201, created.text);
  const read = await api.call("GET", `${CONFIG_PATH}/y`, { accept: "application/yaml" });
  t.is(read.headers["content-type"], "application/yaml");
  t.regex(read.text, /kind: ConfigMap/);
  t.is((await api.call("POST", CONFIG_PATH, { body: "a: [", contentType: "application/yaml" })).status, 400);
});

test("generateName makes names, dry run makes nothing", async (t) => {
  const api = await start(t);
  const body = { apiVersion: "v1", kind: "ConfigMap", metadata: { generateName: "gen-" } };
  const [a, b] = [(await api.call("POST", CONFIG_PATH, { body })).json, (await api.call("POST", CONFIG_PATH, { body })).json];
  t.regex(a.metadata.name, /^gen-[a-z0-9]{5}$/);
  t.not(a.metadata.name, b.metadata.name);
  const dry = await api.call("POST", `${CONFIG_PATH}?dryRun=All`, { body: configMap("dry") });
  t.is(dry.status, 201);
  t.is((await api.call("GET", `${CONFIG_PATH}/dry`)).status, 404);
  t.is((await api.call("POST", `${CONFIG_PATH}?dryRun=Some`, { body: configMap("dry") })).status, 400);
  const patched = await api.call("PATCH", `${CONFIG_PATH}/${a.metadata.name}?dryRun=All`, { body: { data: { x: "1" } }, contentType: "application/merge-patch+json" });
  t.is(patched.json.data.x, "1");
  t.is((await api.call("GET", `${CONFIG_PATH}/${a.metadata.name}`)).json.data, undefined);
  t.is((await api.call("DELETE", `${CONFIG_PATH}/${a.metadata.name}?dryRun=All`)).status, 200);
  t.is((await api.call("GET", `${CONFIG_PATH}/${a.metadata.name}`)).status, 200);
  t.regex((await api.call("POST", CONFIG_PATH, { body: { apiVersion: "v1", kind: "ConfigMap", metadata: {} } })).json.message, /name or generateName is required/);
});

test("one PriorityClass at most is the default", async (t) => {
  const api = await start(t);
  const path = "/apis/scheduling.k8s.io/v1/priorityclasses";
  const make = (name: string, globalDefault: boolean): ReturnType<typeof api.call> =>
    api.call("POST", path, { body: { apiVersion: "scheduling.k8s.io/v1", kind: "PriorityClass", metadata: { name }, value: 10, globalDefault } });
  const mark = (name: string, globalDefault: boolean): ReturnType<typeof api.call> => api.call("PATCH", `${path}/${name}`, { body: { globalDefault }, contentType: "application/merge-patch+json" });
  const refusal = { code: 403, reason: "Forbidden", message: 'priorityclasses.scheduling.k8s.io "second" is forbidden: PriorityClass first is already marked as default. Only one default can exist' };
  t.is((await make("first", true)).status, 201);
  t.like((await make("second", true)).json, refusal);
  t.is((await make("second", false)).status, 201);
  t.like((await mark("second", true)).json, refusal);
  t.is((await api.call("PATCH", `${path}/first`, { body: { description: "still" }, contentType: "application/merge-patch+json" })).status, 200);
  t.is((await mark("first", false)).status, 200);
  t.is((await mark("second", true)).status, 200);
});

test("update: a stale version conflicts, none is unconditional, identity is immutable, no change writes nothing", async (t) => {
  const api = await start(t);
  const first = (await api.call("POST", DEPLOYMENTS_PATH, { body: deployment("web") })).json;
  t.is(first.metadata.generation, 1);
  const second = await api.call("PUT", `${DEPLOYMENTS_PATH}/web`, { body: { ...first, spec: { ...first.spec, replicas: 2 } } });
  t.is(second.status, 200, second.text);
  t.is(second.json.metadata.generation, 2);
  const stale = await api.call("PUT", `${DEPLOYMENTS_PATH}/web`, { body: { ...first, spec: { ...first.spec, replicas: 3 } } });
  t.like(stale.json, { code: 409, reason: "Conflict", message: 'Operation cannot be fulfilled on deployments.apps "web": the object has been modified; please apply your changes to the latest version and try again' });
  const { resourceVersion: _, ...unversioned } = first.metadata;
  t.is((await api.call("PUT", `${DEPLOYMENTS_PATH}/web`, { body: { ...first, metadata: unversioned, spec: { ...first.spec, replicas: 4 } } })).status, 200);
  const foreign = await api.call("PUT", `${DEPLOYMENTS_PATH}/web`, { body: { ...first, metadata: { ...unversioned, uid: "other" } } });
  t.like(foreign.json, { code: 409 });
  t.regex(foreign.json.message, /UID in precondition: other/);
  const newest = (await api.call("GET", `${DEPLOYMENTS_PATH}/web`)).json;
  const same = await api.call("PUT", `${DEPLOYMENTS_PATH}/web`, { body: newest });
  t.is(same.json.metadata.resourceVersion, newest.metadata.resourceVersion);
  t.is((await api.call("PUT", `${DEPLOYMENTS_PATH}/other`, { body: newest })).status, 400);
  t.is((await api.call("PUT", `${DEPLOYMENTS_PATH}/gone`, { body: deployment("gone") })).status, 404);
});

test("the three kinds of patch, and server-side apply refused with words", async (t) => {
  const api = await start(t);
  await api.call("POST", DEPLOYMENTS_PATH, { body: deployment("web") });
  const patch = (body: unknown, contentType: string) => api.call("PATCH", `${DEPLOYMENTS_PATH}/web`, { body, contentType });
  t.is((await patch({ spec: { replicas: 2 } }, "application/merge-patch+json")).json.spec.replicas, 2);
  t.is((await patch([{ op: "replace", path: "/spec/replicas", value: 3 }], "application/json-patch+json")).json.spec.replicas, 3);
  const strategic = await patch({ spec: { template: { spec: { containers: [{ name: "side", image: "side:1" }] } } } }, "application/strategic-merge-patch+json");
  t.deepEqual(strategic.json.spec.template.spec.containers.map((c: { name: string }) => c.name).sort(), ["c", "side"]);
  t.is((await patch([{ op: "test", path: "/spec/replicas", value: 9 }], "application/json-patch+json")).status, 422);
  t.is((await patch({ spec: { replicas: -1 } }, "application/merge-patch+json")).status, 422);
  t.is((await patch({ metadata: { resourceVersion: "1" }, spec: { replicas: 9 } }, "application/merge-patch+json")).status, 409);
  const apply = await patch("apiVersion: apps/v1", "application/apply-patch+yaml");
  t.is(apply.status, 415);
  t.regex(apply.json.message, /server-side apply/);
});

test("a resize is charged by what it changes when it is written, whatever was resized meanwhile", async (t) => {
  let meanwhile: (() => Promise<void>) | undefined;
  const api = await start(t, { openStore: () => new MemoryStore({ intercept: async (operation, key) => {
    const run = operation === "update" && key?.name === "x" ? meanwhile : undefined;
    if (run) meanwhile = undefined;
    await run?.();
  } }) });
  const sized = (cpu: string) => ({ spec: { containers: [{ name: "c", image: "example:1", resources: { requests: { cpu } } }] } });
  const resize = (cpu: string) => api.call("PATCH", `${PODS_PATH}/x/resize`, { body: sized(cpu), contentType: "application/strategic-merge-patch+json" });
  await api.call("POST", "/api/v1/namespaces/default/resourcequotas", { body: { apiVersion: "v1", kind: "ResourceQuota", metadata: { name: "q" }, spec: { hard: { "requests.cpu": "5" } } } });
  t.is((await api.call("POST", PODS_PATH, { body: pod("x", sized("4")) })).status, 201);
  meanwhile = async () => {
    t.is((await resize("1")).status, 200);
    t.is((await api.call("POST", PODS_PATH, { body: pod("y", sized("3")) })).status, 201);
  };
  const refused = await resize("4"); // no more than it had when this began, and 3 more than it has when it is written
  t.is(refused.status, 403);
  t.is(refused.json.message, 'pods "x" is forbidden: exceeded quota: q, requested: requests.cpu=3, used: requests.cpu=4, limited: requests.cpu=5');
  t.is((await resize("2")).status, 200);
});

test("status and scale are written apart", async (t) => {
  const api = await start(t);
  const created = (await api.call("POST", DEPLOYMENTS_PATH, { body: deployment("web", 2) })).json;
  const ofStatus = await api.call("PUT", `${DEPLOYMENTS_PATH}/web/status`, { body: { ...created, spec: { ...created.spec, replicas: 9 }, status: { replicas: 2, observedGeneration: 1 } } });
  t.is(ofStatus.status, 200, ofStatus.text);
  t.is(ofStatus.json.spec.replicas, 2);
  t.is(ofStatus.json.status.replicas, 2);
  t.is(ofStatus.json.metadata.generation, 1);
  const main = await api.call("PATCH", `${DEPLOYMENTS_PATH}/web`, { body: { status: { replicas: 7 } }, contentType: "application/merge-patch+json" });
  t.is(main.json.status.replicas, 2);
  const scale = await api.call("GET", `${DEPLOYMENTS_PATH}/web/scale`);
  t.like(scale.json, { kind: "Scale", apiVersion: "autoscaling/v1", spec: { replicas: 2 }, status: { replicas: 2, selector: "app=web" } });
  const scaled = await api.call("PATCH", `${DEPLOYMENTS_PATH}/web/scale`, { body: { spec: { replicas: 5 } }, contentType: "application/merge-patch+json" });
  t.is(scaled.json.spec.replicas, 5);
  const put = await api.call("PUT", `${DEPLOYMENTS_PATH}/web/scale`, { body: { ...scaled.json, spec: { replicas: 6 } } });
  t.is(put.json.spec.replicas, 6, put.text);
  t.is((await api.call("GET", `${DEPLOYMENTS_PATH}/web`)).json.metadata.generation, 3);
  t.is((await api.call("PUT", `${DEPLOYMENTS_PATH}/web/scale`, { body: { ...scaled.json, spec: { replicas: 1 } } })).status, 409);
  t.is((await api.call("PATCH", `${DEPLOYMENTS_PATH}/web/scale`, { body: { spec: { replicas: -5 } }, contentType: "application/merge-patch+json" })).status, 422);
});

test("binding puts a pod onto a node, once", async (t) => {
  const api = await start(t);
  await api.call("POST", "/api/v1/nodes", { body: { apiVersion: "v1", kind: "Node", metadata: { name: "n1" } } });
  await api.call("POST", PODS_PATH, { body: pod("a") });
  const binding = { apiVersion: "v1", kind: "Binding", metadata: { name: "a" }, target: { apiVersion: "v1", kind: "Node", name: "n1" } };
  t.is((await api.call("POST", `${PODS_PATH}/a/binding`, { body: { ...binding, target: { kind: "Node", name: "n2" } } })).status, 404);
  t.like((await api.call("POST", `${PODS_PATH}/a/binding`, { body: binding })).json, { status: "Success", code: 201 });
  const bound = (await api.call("GET", `${PODS_PATH}/a`)).json;
  t.is(bound.spec.nodeName, "n1");
  t.like(bound.status.conditions[0], { type: "PodScheduled", status: "True" });
  const again = await api.call("POST", "/api/v1/namespaces/default/bindings", { body: binding });
  t.is(again.status, 409);
  t.regex(again.json.message, /already assigned to node "n1"/);
});

test("a running pod waits for its node when it is deleted, and a finalizer holds an object until it is taken away", async (t) => {
  const api = await start(t);
  await api.call("POST", PODS_PATH, { body: pod("a", { spec: { nodeName: "n1", terminationGracePeriodSeconds: 7 } }) });
  const dying = (await api.call("DELETE", `${PODS_PATH}/a`)).json;
  t.is(dying.metadata.deletionGracePeriodSeconds, 7);
  t.is((await api.call("GET", `${PODS_PATH}/a`)).status, 200);
  t.is((await api.call("DELETE", `${PODS_PATH}/a`, { body: { kind: "DeleteOptions", apiVersion: "v1", gracePeriodSeconds: 0 } })).status, 200);
  t.is((await api.call("GET", `${PODS_PATH}/a`)).status, 404);

  await api.call("POST", CONFIG_PATH, { body: { ...configMap("held"), metadata: { name: "held", finalizers: ["example.com/hold"] } } });
  const held = (await api.call("DELETE", `${CONFIG_PATH}/held`)).json;
  t.truthy(held.metadata.deletionTimestamp);
  const added = await api.call("PATCH", `${CONFIG_PATH}/held`, { body: { metadata: { finalizers: ["example.com/hold", "example.com/more"] } }, contentType: "application/merge-patch+json" });
  t.is(added.status, 422, added.text);
  t.is((await api.call("PATCH", `${CONFIG_PATH}/held`, { body: { metadata: { finalizers: null } }, contentType: "application/merge-patch+json" })).status, 200);
  t.is((await api.call("GET", `${CONFIG_PATH}/held`)).status, 404);
});

test("delete: preconditions, propagation, protected namespaces, collections", async (t) => {
  const api = await start(t);
  await api.call("POST", CONFIG_PATH, { body: configMap("a") });
  const wrong = await api.call("DELETE", `${CONFIG_PATH}/a`, { body: { preconditions: { uid: "other" } } });
  t.is(wrong.status, 409);
  t.like((await api.call("DELETE", `${CONFIG_PATH}/a`)).json, { kind: "Status", status: "Success", details: { name: "a", kind: "configmaps" } });
  t.is((await api.call("DELETE", `${CONFIG_PATH}/a`)).status, 404);
  await api.call("POST", DEPLOYMENTS_PATH, { body: deployment("web") });
  t.deepEqual((await api.call("DELETE", `${DEPLOYMENTS_PATH}/web?propagationPolicy=Foreground`)).json.metadata.finalizers, ["foregroundDeletion"]);
  t.is((await api.call("DELETE", `${DEPLOYMENTS_PATH}/web?propagationPolicy=Sideways`)).status, 422);
  t.regex((await api.call("DELETE", "/api/v1/namespaces/default")).json.message, /this namespace may not be deleted/);
  t.is((await api.call("DELETE", "/api/v1/namespaces")).status, 405);
  for (const [name, app] of [["x", "1"], ["y", "1"], ["z", "2"]] as const) await api.call("POST", CONFIG_PATH, { body: configMap(name, {}, { app }) });
  const gone = await api.call("DELETE", `${CONFIG_PATH}?labelSelector=app%3D1`);
  t.deepEqual(names(gone.json).sort(), ["x", "y"]);
  t.deepEqual(names((await api.call("GET", CONFIG_PATH)).json), ["z"]);
});

test("a terminating namespace takes nothing new, and goes when it is finalized", async (t) => {
  const api = await start(t);
  t.is((await api.call("POST", "/api/v1/namespaces", { body: { apiVersion: "v1", kind: "Namespace", metadata: { name: "team" } } })).status, 201);
  const terminating = (await api.call("DELETE", "/api/v1/namespaces/team")).json;
  t.is(terminating.status.phase, "Terminating");
  const refused = await api.call("POST", "/api/v1/namespaces/team/configmaps", { body: configMap("late") });
  t.is(refused.status, 403);
  t.is(refused.json.details.causes[0].reason, "NamespaceTerminating");
  t.is((await api.call("PUT", "/api/v1/namespaces/team/finalize", { body: { ...terminating, spec: { finalizers: [] } } })).status, 200);
  t.is((await api.call("GET", "/api/v1/namespaces/team")).status, 404);
});

test("pages stand at the version of the first, whatever happens meanwhile", async (t) => {
  const store = new MemoryStore();
  const api = await start(t, { openStore: () => store });
  for (const i of [1, 2, 3, 4, 5]) await api.call("POST", CONFIG_PATH, { body: configMap(`c${i}`, {}, { odd: String(i % 2) }) });
  const first = (await api.call("GET", `${CONFIG_PATH}?limit=2`)).json;
  t.deepEqual(names(first), ["c1", "c2"]);
  t.is(first.metadata.remainingItemCount, 3);
  await api.call("DELETE", `${CONFIG_PATH}/c4`);
  await api.call("POST", CONFIG_PATH, { body: configMap("c6") });
  const second = (await api.call("GET", `${CONFIG_PATH}?limit=2&continue=${first.metadata.continue}`)).json;
  t.deepEqual(names(second), ["c3", "c4"]);
  t.is(second.metadata.resourceVersion, first.metadata.resourceVersion);
  const third = (await api.call("GET", `${CONFIG_PATH}?limit=2&continue=${second.metadata.continue}`)).json;
  t.deepEqual(names(third), ["c5"]);
  t.is(third.metadata.continue, undefined);

  const odd = (await api.call("GET", `${CONFIG_PATH}?limit=1&labelSelector=odd%3D1`)).json;
  t.deepEqual(names(odd), ["c1"]);
  t.is(odd.metadata.remainingItemCount, undefined);
  const odd2 = (await api.call("GET", `${CONFIG_PATH}?limit=2&labelSelector=odd%3D1&continue=${odd.metadata.continue}`)).json;
  t.deepEqual(names(odd2), ["c3", "c5"]);

  t.deepEqual(names((await api.call("GET", `${CONFIG_PATH}?resourceVersion=${first.metadata.resourceVersion}&resourceVersionMatch=Exact`)).json), ["c1", "c2", "c3", "c4", "c5"]);
  t.is((await api.call("GET", `${CONFIG_PATH}?limit=2&continue=garbage`)).status, 400);
  t.is((await api.call("GET", `${CONFIG_PATH}?limit=-1`)).status, 400);
  store.compact();
  const expired = await api.call("GET", `${CONFIG_PATH}?limit=2&continue=${first.metadata.continue}`);
  t.like(expired.json, { code: 410, reason: "Expired" });
});

test("a version from the future is a time-out that clients retry, one from the past is as good as any", async (t) => {
  const api = await start(t);
  const { resourceVersion } = (await api.call("GET", CONFIG_PATH)).json.metadata;
  t.is((await api.call("GET", `${CONFIG_PATH}?resourceVersion=0`)).status, 200);
  const future = await api.call("GET", `${CONFIG_PATH}?resourceVersion=${Number(resourceVersion) + 128_000}`);
  t.is(future.status, 504);
  t.is(future.json.details.causes[0].reason, "ResourceVersionTooLarge");
  t.is((await api.call("GET", `${CONFIG_PATH}?resourceVersion=abc`)).status, 400);
});

test("a watch goes on from a list, with selectors: what leaves is deleted, what enters is added", async (t) => {
  const api = await start(t);
  await api.call("POST", CONFIG_PATH, { body: configMap("a", {}, { on: "1" }) });
  const { resourceVersion } = (await api.call("GET", CONFIG_PATH)).json.metadata;
  const feed = await watch(t, api, `${CONFIG_PATH}?watch=1&resourceVersion=${resourceVersion}&labelSelector=on%3D1&timeoutSeconds=30`);
  const relabel = (on: string) => api.call("PATCH", `${CONFIG_PATH}/a`, { body: { metadata: { labels: { on } } }, contentType: "application/merge-patch+json" });
  const left = (await relabel("0")).json;
  const back = (await relabel("1")).json;
  await api.call("POST", CONFIG_PATH, { body: configMap("other") });
  await api.call("DELETE", `${CONFIG_PATH}/a`);
  const [one, two, three] = [await feed.next(), await feed.next(), await feed.next()];
  t.is(one.type, "DELETED");
  t.is(one.object.metadata.resourceVersion, left.metadata.resourceVersion);
  t.is(one.object.metadata.labels.on, "1");
  t.is(two.type, "ADDED");
  t.is(two.object.metadata.resourceVersion, back.metadata.resourceVersion);
  t.is(three.type, "DELETED");
  t.true(Number(three.object.metadata.resourceVersion) > Number(back.metadata.resourceVersion));
});

test("a watch without a version begins with the state, and ends after timeoutSeconds", async (t) => {
  const api = await start(t);
  await api.call("POST", CONFIG_PATH, { body: configMap("a") });
  for (const version of ["", "&resourceVersion=0"]) {
    const feed = await watch(t, api, `${CONFIG_PATH}?watch=true&timeoutSeconds=1${version}`);
    const frames = await feed.rest();
    t.deepEqual(frames.map((f) => [f.type, f.object.metadata.name]), [["ADDED", "a"]]);
  }
});

test("a WatchList ends its initial events with a bookmark", async (t) => {
  const api = await start(t);
  await api.call("POST", CONFIG_PATH, { body: configMap("a") });
  const feed = await watch(t, api, `${CONFIG_PATH}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=30`);
  t.like(await feed.next(), { type: "ADDED", object: { metadata: { name: "a" } } });
  const mark = await feed.next();
  t.is(mark.type, "BOOKMARK");
  t.is(mark.object.metadata.annotations["k8s.io/initial-events-end"], "true");
  await api.call("POST", CONFIG_PATH, { body: configMap("b") });
  t.like(await feed.next(), { type: "ADDED", object: { metadata: { name: "b" } } });
  t.is((await api.call("GET", `${CONFIG_PATH}?watch=1&sendInitialEvents=true`)).status, 400);
});

test("a watch from too long ago gets 410 and can list again", async (t) => {
  const api = await start(t, { ringSize: 4 });
  const { resourceVersion } = (await api.call("GET", CONFIG_PATH)).json.metadata;
  for (let i = 0; i < 10; i++) await api.call("POST", CONFIG_PATH, { body: configMap(`c${i}`) });
  await settle();
  const frames = await (await watch(t, api, `${CONFIG_PATH}?watch=1&resourceVersion=${resourceVersion}`)).rest();
  t.like(frames[0], { type: "ERROR", object: { kind: "Status", code: 410, reason: "Expired" } });
});

test("a table comes for lists, single objects and watches; metadata alone too", async (t) => {
  const api = await start(t);
  await api.call("POST", PODS_PATH, { body: pod("a") });
  const accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
  const table = (await api.call("GET", PODS_PATH, { accept })).json;
  t.is(table.kind, "Table");
  t.deepEqual(table.columnDefinitions.filter((c: { priority: number }) => c.priority === 0).map((c: { name: string }) => c.name), ["Name", "Ready", "Status", "Restarts", "Age"]);
  t.is(table.rows[0].cells[0], "a");
  t.is(table.rows[0].object.kind, "PartialObjectMetadata");
  t.truthy(table.metadata.resourceVersion);
  t.is((await api.call("GET", `${PODS_PATH}/a`, { accept })).json.rows.length, 1);
  t.is((await api.call("GET", `${PODS_PATH}?includeObject=Object`, { accept })).json.rows[0].object.spec.containers[0].name, "c");
  const feed = await watch(t, api, `${PODS_PATH}?watch=1&timeoutSeconds=30`, accept);
  const [first] = [await feed.next()];
  t.is(first.object.kind, "Table");
  t.true(first.object.columnDefinitions.length > 4);
  await api.call("POST", PODS_PATH, { body: pod("b") });
  const second = await feed.next();
  t.is(second.object.rows[0].cells[0], "b");
  const partial = (await api.call("GET", PODS_PATH, { accept: "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1" })).json;
  t.is(partial.kind, "PartialObjectMetadataList");
  t.is(partial.items[0].spec, undefined);
});

test("who may come in: certificates of the cluster's CA, known tokens, and the health checks for everybody", async (t) => {
  const api = await start(t);
  t.like((await api.call("GET", PODS_PATH, { token: "" })).json, { code: 401, reason: "Unauthorized" });
  t.is((await api.call("GET", PODS_PATH, { token: ADMIN_TOKEN })).status, 200);
  const unknown = await api.call("GET", PODS_PATH, { token: "guessed-token" });
  t.is(unknown.status, 401);
  t.false(unknown.text.includes("guessed-token"));
  t.like((await api.call("GET", `${PODS_PATH}/x`, { token: GUEST_TOKEN })).json, {
    code: 403, reason: "Forbidden", message: 'pods "x" is forbidden: User "guest" cannot get resource "pods" in API group "" in the namespace "default"',
  });
  t.regex((await api.call("GET", "/metrics", { token: GUEST_TOKEN })).json.message, /cannot get path "\/metrics"/);
  const expired = await issue(api.authority, { commonName: "late", organizations: ["system:masters"], usage: "client", validForMs: -1000, clock: api.clock });
  const refused = await api.call("GET", PODS_PATH, { client: { cert: expired.certificatePem, key: expired.privateKeyPem } });
  t.is(refused.status, 401);
  t.regex(refused.json.message, /^Unauthorized: the client certificate expired at \S+Z$/);
  const other = await startTestApi();
  t.teardown(() => other[Symbol.asyncDispose]());
  t.is((await api.call("GET", PODS_PATH, { client: other.admin })).status, 401);
  for (const path of ["/healthz", "/livez", "/readyz", "/version"]) t.is((await api.call("GET", path, { token: "" })).status, 200, path);
  const acting = await api.call("GET", PODS_PATH, { headers: { "impersonate-user": "bob" } });
  t.regex(acting.json.message, /User "bob" cannot list/);
  t.regex((await api.call("GET", PODS_PATH, { token: GUEST_TOKEN, headers: { "impersonate-user": "root", "impersonate-group": "system:masters" } })).json.message, /cannot impersonate/);
});

test("readyz says which part is not ready", async (t) => {
  const api = await start(t, { openStore: () => new MemoryStore({ intercept: (operation) => { if (operation === "ping") throw new Error("etcd is gone"); } }) });
  const ready = await api.call("GET", "/readyz", { token: "" });
  t.is(ready.status, 503);
  t.regex(ready.text, /\[-\]store failed: etcd is gone/);
  t.is((await api.call("GET", "/livez?verbose", { token: "" })).text, "[+]ping ok\nlivez check passed\n");
  t.is((await api.call("GET", "/readyz?exclude=store", { token: "" })).text, "ok");
});

test("HTTP/2 carries many requests and a watch on one connection, and one aborted watch leaves nothing behind", async (t) => {
  const api = await start(t);
  const session = connectHttp2(`https://127.0.0.1:${api.server.port}`, { ca: api.authority.certificatePem, ...api.admin });
  t.teardown(() => session.destroy());
  const read = (path: string): Promise<number> => new Promise((resolve, reject) => {
    const stream = session.request({ ":path": path });
    let status = 0;
    stream.on("response", (headers) => (status = headers[":status"] ?? 0));
    stream.on("error", reject);
    stream.on("end", () => resolve(status));
    stream.resume();
    stream.end();
  });
  const feed = session.request({ ":path": `${CONFIG_PATH}?watch=1` });
  const frames: string[] = [];
  feed.on("data", (chunk: Buffer) => frames.push(chunk.toString()));
  await new Promise((resolve) => feed.on("response", resolve));
  t.deepEqual([...new Set(await Promise.all(Array.from({ length: 50 }, () => read(CONFIG_PATH))))], [200]);
  await api.call("POST", CONFIG_PATH, { body: configMap("a") });
  await new Promise((resolve) => feed.once("data", resolve));
  t.regex(frames.join(""), /"type":"ADDED"/);
  t.regex(await api.metrics.text(), /gantry_api_watchers\{resource="configmaps"\} 1/);
  feed.close();
  await new Promise((resolve) => feed.on("close", resolve));
  await read(CONFIG_PATH);
  t.regex(await api.metrics.text(), /gantry_api_watchers\{resource="configmaps"\} 0/);
});

test("garbage on the port costs only its own connection", async (t) => {
  const api = await start(t);
  const { port } = api.server;
  await new Promise<void>((resolve) => {
    const plain = connectTcp(port, "127.0.0.1", () => plain.write(Buffer.alloc(4096, 0xa5)));
    plain.on("error", () => undefined);
    plain.on("close", () => resolve());
  });
  for (const protocol of ["h2", "http/1.1"]) {
    await new Promise<void>((resolve) => {
      const socket = connectTls({ port, host: "127.0.0.1", ca: api.authority.certificatePem, ALPNProtocols: [protocol] }, () => socket.write(Buffer.alloc(4096, 0x5a)));
      socket.on("error", () => undefined);
      socket.on("close", () => resolve());
      socket.resume();
    });
  }
  t.is((await api.call("GET", PODS_PATH)).status, 200);
});

test("metrics tell requests by verb, resource and code, with bounded labels", async (t) => {
  const api = await start(t);
  await api.call("GET", PODS_PATH);
  await api.call("GET", "/api/v1/namespaces/default/whatever-i-make-up");
  const text = (await api.call("GET", "/metrics")).text;
  t.regex(text, /gantry_api_request_seconds_count\{verb="list",resource="pods",code="200"\} 1/);
  t.regex(text, /gantry_api_request_seconds_count\{verb="list",resource="other",code="404"\} 1/);
  t.false(text.includes("whatever"));
});

test("closing ends watches cleanly and lets no new request in", async (t) => {
  const api = await startTestApi();
  const feed = await watch(t, api, `${CONFIG_PATH}?watch=1`);
  const rest = feed.rest();
  await api[Symbol.asyncDispose]();
  t.deepEqual(await rest, []);
  await t.throwsAsync(api.call("GET", PODS_PATH));
});

test("5,000 objects are listed whole, in order, and a slow reader of a watch is served in its own time", async (t) => {
  const api = await start(t);
  const count = 5000;
  await Promise.all(Array.from({ length: count }, (_, i) => api.store.create({ type: PODS, namespace: "default", name: `p${String(i).padStart(5, "0")}` },
    { ...pod(`p${String(i).padStart(5, "0")}`), metadata: { name: `p${String(i).padStart(5, "0")}`, namespace: "default", uid: `u${i}`, creationTimestamp: "2026-01-01T00:00:00Z" } } as never, { writer: "api" })));
  await api.cache.waitFor((await api.store.list(PODS, { limit: 1 })).resourceVersion - 127);
  const list = (await api.call("GET", PODS_PATH)).json;
  t.is(list.items.length, count);
  t.is(list.items[4999].metadata.name, "p04999");
  const rows = (await api.call("GET", PODS_PATH, { accept: "application/json;as=Table;v=v1;g=meta.k8s.io" })).json.rows;
  t.is(rows.length, count);
  const feed = await watch(t, api, `${PODS_PATH}?watch=1&timeoutSeconds=2`);
  t.is((await feed.rest()).length, count);
});
