// What people and machines get wrong: each gives an error to act on, and every daemon stays up.
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { get as httpsGet } from "node:https";
import { connect as connectTcp, createServer, type AddressInfo, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect as connectTls } from "node:tls";
import { ChannelCredentials, Metadata, status as Status } from "@grpc/grpc-js";
import test, { type ExecutionContext } from "ava";
import { SystemClock } from "../../base/clock.ts";
import { PODS } from "../../base/kube/resources.ts";
import type { Pod } from "../../base/kube/types.gen.ts";
import { createAuthority, issue, type KeyPair } from "../../base/tls/authority.ts";
import { EXAMPLE_IMAGE } from "../../cli/example-image.ts";
import { ociArchive } from "../../node-agent/images/image-builder.ts";
import { writeTar } from "../../node-agent/images/tar-writer.ts";
import { inNetworkNamespace } from "../../node-agent/linux/namespaces.ts";
import { CHANNEL_OPTIONS } from "../../node-agent/session/credentials.ts";
import { DispatcherClient } from "../../proto/gen/gantry/v1/agent.ts";
import { until, useCluster } from "../helpers/cluster.ts";
import { maliciousLayers, testImage } from "../helpers/images.ts";
import { findKubectl } from "../helpers/kubectl.ts";
import { pushImage, startProxy, startRegistry } from "../helpers/registry.ts";
import { container, deployment, isReady, pod } from "../helpers/workloads.ts";

const cluster = useCluster(test, { nodes: 2 });
const NODE = "node-1";
let pids: readonly number[] = [];
const daemons = (): readonly number[] => ["control-plane", "etcd", ...cluster().nodes].map((name) => cluster().pid(name));
test.serial.before(() => {
  pids = daemons();
});

test.afterEach("every daemon still runs, and none has met a bug", (t) => {
  t.deepEqual(daemons(), pids);
  for (const name of ["control-plane", ...cluster().nodes]) t.notRegex(cluster().logText(name), /uncaught|unhandled|TypeError|RangeError/i, name);
});

const scratch = (t: ExecutionContext): string => {
  const directory = mkdtempSync(join(tmpdir(), "gantry-bad-"));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
};

/** The status that the API answers with. */
const rejected = async (method: string, path: string, body: string, contentType = "application/json"): Promise<string> => {
  try {
    await cluster().client.json(method, path, { body, contentType });
  } catch (error) {
    const { code, message } = error as { code: string; message: string };
    return `${code}: ${message}`;
  }
  throw new Error(`${method} ${path} was accepted: ${body.slice(0, 200)}`);
};

const PODS_PATH = "/api/v1/namespaces/default/pods";
const DEPLOYMENTS_PATH = "/apis/apps/v1/namespaces/default/deployments";
const web = (change: (d: { metadata: Record<string, unknown>; spec: Record<string, never> }) => void): string => {
  const object = structuredClone(deployment("web", 1)) as Parameters<typeof change>[0];
  change(object);
  return JSON.stringify(object);
};
const aPod = (change: (p: { metadata: Record<string, unknown>; spec: Record<string, unknown> & { containers: Record<string, unknown>[] } }) => void): string => {
  const object = structuredClone(pod("box")) as Parameters<typeof change>[0];
  change(object);
  return JSON.stringify(object);
};

const BAD_REQUESTS: readonly (readonly [title: string, request: readonly [method: string, path: string, body: string, type?: string], error: RegExp])[] = [
  ["malformed JSON", ["POST", PODS_PATH, '{"kind": "Pod", "metadata": {'], /BadRequest:.*JSON/],
  ["malformed YAML", ["POST", PODS_PATH, "kind: Pod\n  metadata: [", "application/yaml"], /BadRequest:.*(YAML|yaml|line 2)/],
  ["another kind than the path's", ["POST", PODS_PATH, aPod((p) => Object.assign(p, { kind: "Deployment" }))], /BadRequest:.*Deployment.*Pod/],
  ["a text where a number belongs", ["POST", DEPLOYMENTS_PATH, web((d) => Object.assign(d.spec, { replicas: "three" }))], /BadRequest:.*replicas/],
  ["an object where a list belongs", ["POST", PODS_PATH, aPod((p) => Object.assign(p.spec, { containers: { name: "main" } }))], /BadRequest:.*containers/],
  ["an unknown field, strictly", ["POST", `${DEPLOYMENTS_PATH}?fieldValidation=Strict`, web((d) => Object.assign(d.spec, { replcas: 3 }))], /BadRequest:.*unknown field "spec\.replcas"/],
  ["negative replicas", ["POST", DEPLOYMENTS_PATH, web((d) => Object.assign(d.spec, { replicas: -1 }))], /Invalid:.*spec\.replicas: Invalid value: -1: must be greater than or equal to 0/],
  ["an invalid name", ["POST", PODS_PATH, aPod((p) => Object.assign(p.metadata, { name: "Bad_Name" }))], /Invalid:.*metadata\.name: Invalid value: "Bad_Name".*lower/],
  ["a name of 300 characters", ["POST", PODS_PATH, aPod((p) => Object.assign(p.metadata, { name: "a".repeat(300) }))], /Invalid:.*metadata\.name.*253/],
  ["a label that is none", ["POST", PODS_PATH, aPod((p) => Object.assign(p.metadata, { labels: { "a b": "c" } }))], /Invalid:.*metadata\.labels.*"a b"/],
  ["a pod without containers", ["POST", PODS_PATH, aPod((p) => Object.assign(p.spec, { containers: [] }))], /Invalid:.*spec\.containers: Required value/],
  ["two containers of one name", ["POST", PODS_PATH, aPod((p) => p.spec.containers.push(p.spec.containers[0]!))], /Invalid:.*spec\.containers\[1\]\.name: Duplicate value: "main"/],
  ["a quantity that is none", ["POST", PODS_PATH, aPod((p) => Object.assign(p.spec.containers[0]!, { resources: { limits: { memory: "1 GB" } } }))], /(BadRequest|Invalid):.*memory.*1 GB|(BadRequest|Invalid):.*quantit/],
  ["a request above its limit", ["POST", PODS_PATH, aPod((p) => Object.assign(p.spec.containers[0]!, { resources: { requests: { cpu: "2" }, limits: { cpu: "1" } } }))], /Invalid:.*requests.*must be less than or equal to cpu limit/],
  ["a selector that selects something else", ["POST", DEPLOYMENTS_PATH, web((d) => Object.assign(d.spec, { selector: { matchLabels: { app: "other" } } }))], /Invalid:.*spec\.template\.metadata\.labels.*`?selector`? does not match/],
  ["a mount of no volume", ["POST", PODS_PATH, aPod((p) => Object.assign(p.spec.containers[0]!, { volumeMounts: [{ name: "none", mountPath: "/x" }] }))], /Invalid:.*volumeMounts\[0\]\.name: Not found: "none"/],
  ["a schedule that is none", ["POST", "/apis/batch/v1/namespaces/default/cronjobs", JSON.stringify({ apiVersion: "batch/v1", kind: "CronJob", metadata: { name: "c" }, spec: { schedule: "61 * * * *", jobTemplate: { spec: { template: { spec: { restartPolicy: "Never", containers: [{ name: "m", image: "i" }] } } } } } })], /Invalid:.*spec\.schedule: Invalid value: "61 \* \* \* \*"/],
  ["a namespace that is not there", ["POST", "/api/v1/namespaces/nowhere/pods", aPod(() => undefined)], /NotFound:.*namespaces? "nowhere" not found/],
  ["more than the body limit", ["POST", "/api/v1/namespaces/default/configmaps", JSON.stringify({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "big" }, data: { a: "x".repeat(4 * 2 ** 20) } })], /RequestEntityTooLarge:.*limit/],
  ["more than an object may hold", ["POST", "/api/v1/namespaces/default/configmaps", JSON.stringify({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "big" }, data: { a: "x".repeat(2 ** 20), b: "x".repeat(2 ** 20) } })], /(Invalid|RequestEntityTooLarge):.*(Too long|too large|1048576)/],
  ["a patch that is none", ["PATCH", `${DEPLOYMENTS_PATH}/nope`, "[]", "application/merge-patch+json"], /(NotFound|BadRequest):/],
  ["a patch of an unknown type", ["PATCH", `${DEPLOYMENTS_PATH}/nope`, "{}", "text/plain"], /UnsupportedMediaType:.*text\/plain/],
  ["a body of an unknown type", ["POST", PODS_PATH, "<pod/>", "text/html"], /UnsupportedMediaType:.*text\/html.*application\/json/],
  ["a method that is not served", ["PUT", PODS_PATH, "{}"], /MethodNotAllowed:/],
  ["a path that is not served", ["POST", "/apis/nothing/v1/things", "{}"], /NotFound:/],
];

for (const [title, request, error] of BAD_REQUESTS) test(`API: ${title}`, async (t) => t.regex(await rejected(...request), error));

test("API: selectors and continue tokens that are none", async (t) => {
  const { client } = cluster();
  await t.throwsAsync(client.json("GET", `${PODS_PATH}?labelSelector=a%20b%20c`), { message: /a b c|label selector|parse/ });
  await t.throwsAsync(client.json("GET", `${PODS_PATH}?fieldSelector=spec.colour%3Dred`), { message: /spec\.colour/ });
  await t.throwsAsync(client.json("GET", `${PODS_PATH}?limit=1&continue=garbage`), { message: /continue/ });
  await t.throwsAsync(client.json("GET", `${PODS_PATH}?watch=1&resourceVersion=tomorrow`), { message: /resourceVersion|resource version/i });
});

const withKubectl = findKubectl("1.33") === undefined ? test.skip : test;

withKubectl("kubectl says what is wrong with a manifest, and where", async (t) => {
  const c = cluster();
  t.regex(await c.fails("apply -f -", { input: web((d) => Object.assign(d.spec, { replcas: 3 })) }), /unknown field "spec\.replcas"/);
  t.regex(await c.fails("create -f - --validate=false", { input: web((d) => Object.assign(d.spec, { replicas: -1 })) }), /spec\.replicas: Invalid value: -1/);
  t.regex(await c.fails("apply -f -", { input: "kind: Deployment\nspec: [" }), /yaml|line/i);
  t.regex(await c.fails("scale deploy nope --replicas=3"), /NotFound|not found/);
  const gantry = await c.gantry("apply -f -", { input: web((d) => Object.assign(d.spec, { replcas: 3 })) });
  t.not(gantry.code, 0);
  t.regex(gantry.err, /spec\.replcas/);
});

/** Waits until the container waits for one of these reasons, and gives what it says. */
const waitsFor = async (ns: string, name: string, reason: RegExp): Promise<string> => {
  const waiting = (p: Pod): string => p.status?.containerStatuses?.[0]?.state?.waiting?.reason ?? "";
  const [p] = await cluster().until(PODS, ns, ([first]) => first !== undefined && reason.test(waiting(first)), { selector: `app=${name}` });
  return `${waiting(p!)}: ${container(p!).state!.waiting!.message}`;
};

test("images: unknown, of a registry that is down, with a wrong digest, damaged on the way, with a name that is none", async (t) => {
  const c = cluster();
  const ns = await c.namespace(t, "images");
  const registry = await startRegistry(t);
  const image = await testImage();
  for (const repository of ["app", "damaged"]) await pushImage(registry.origin, repository, "1", image);
  const proxy = await startProxy(t, registry.origin, (r) => (/\/damaged\/blobs\//.test(r.path) ? { body: (bytes) => Buffer.from(bytes.map((b, i) => (i === 20 ? b ^ 1 : b))) } : undefined));
  const port = await relayInto(t, c.state.hosts[0]!.netnsPath, Number(proxy.host.split(":")[1]));
  const missing = `sha256:${"0".repeat(64)}`;
  const cases: readonly (readonly [name: string, image: string, error: RegExp])[] = [
    ["unknown", `127.0.0.1:${port}/nonesuch:1`, /ErrImagePull: .*127\.0\.0\.1:\d+\/nonesuch:1.*(not found|no such|unknown)/i],
    ["no-tag", `127.0.0.1:${port}/app:2`, /ErrImagePull: .*app:2.*(not found|no such|unknown)/i],
    ["wrong-digest", `127.0.0.1:${port}/app@${missing}`, /ErrImagePull: .*sha256:0000.*(not found|no such|unknown)/i],
    ["damaged", `127.0.0.1:${port}/damaged:1`, /ErrImagePull: .*digest/i],
    ["down", "127.0.0.1:9/app:1", /ErrImagePull: .*(refused|cannot reach)/i],
    ["no-name", "Not A Name", /InvalidImageName: .*Not A Name/],
  ];
  await Promise.all(cases.map(([name, ref]) => c.create(PODS, ns, pod(name, { spec: { nodeName: NODE }, container: { image: ref } }))));
  for (const [name, , error] of cases) t.regex(await waitsFor(ns, name, /^(ErrImagePull|InvalidImageName)$/), error, name);
  await until(async () => /Warning +Failed .*nonesuch/.test(await c.ok(["describe", "pod", "unknown", "-n", ns])), "kubectl describe says it too");
  t.regex(await c.ok(["get", "pods", "-n", ns]), /(ErrImagePull|ImagePullBackOff)[\s\S]*InvalidImageName/);

  // The same, right: nothing of the failures sticks.
  await c.create(PODS, ns, pod("right", { spec: { nodeName: NODE }, container: { image: `127.0.0.1:${port}/app:1` } }));
  await c.until(PODS, ns, ([p]) => p !== undefined && isReady(p), { selector: "app=right" });
});

/** A port on the host's loopback that leads to a port on ours. */
const relayInto = async (t: ExecutionContext, netnsPath: string, target: number): Promise<number> => {
  const sockets = new Set<Socket>();
  const server = createServer((incoming) => {
    const outgoing = connectTcp(target, "127.0.0.1");
    for (const socket of [incoming, outgoing]) {
      sockets.add(socket);
      socket.on("error", () => void (incoming.destroy(), outgoing.destroy()));
    }
    incoming.pipe(outgoing).pipe(incoming);
  });
  // Without a host's name to look up, listen() makes its socket at once, in this thread's namespace.
  inNetworkNamespace(netnsPath, () => server.listen(0));
  if (!server.listening) await new Promise((resolve) => server.once("listening", resolve));
  t.teardown(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return (server.address() as AddressInfo).port;
};

test("containers: a command that is not there, a directory that is not there, a user that is not there, a missing ConfigMap", async (t) => {
  const c = cluster();
  const ns = await c.namespace(t, "commands");
  const volume = (source: object): object => ({ volumes: [{ name: "v", ...source }] });
  const mounted = { volumeMounts: [{ name: "v", mountPath: "/v" }] };
  await Promise.all([
    c.create(PODS, ns, pod("no-command", { run: ["/bin/nonesuch", "x"] })),
    c.create(PODS, ns, pod("no-word", { run: ["nonesuch"] })),
    c.create(PODS, ns, pod("no-program", { run: ["/etc/passwd"] })),
    c.create(PODS, ns, pod("no-user", { container: { securityContext: { runAsNonRoot: true } } })),
    c.create(PODS, ns, pod("no-directory", { spec: volume({ hostPath: { path: "/nonesuch/x", type: "Directory" } }), container: mounted })),
    c.create(PODS, ns, pod("no-map", { spec: volume({ configMap: { name: "nonesuch" } }), container: mounted })),
  ]);
  for (const [name, error] of [["no-command", /\/bin\/nonesuch.*(not found|no such file)/], ["no-word", /nonesuch.*not found in \$PATH/], ["no-program", /\/etc\/passwd.*permission denied/]] as const) {
    await waitsFor(ns, name, /^CrashLoopBackOff$/);
    const [p] = (await c.client.list(PODS, ns, { labelSelector: `app=${name}` })).items;
    t.like(container(p!).lastState?.terminated, { reason: "StartError", exitCode: 128 });
    t.regex(await c.ok(["describe", "pod", name, "-n", ns]), new RegExp(`(Message: |StartError).*${error.source}`));
  }
  t.regex(await waitsFor(ns, "no-user", /Error$/), /CreateContainerConfigError: .*(non-root|runAsNonRoot|root)/i);
  t.regex(await waitsFor(ns, "no-directory", /Error$|ContainerCreating$/), /\/nonesuch\/x/);
  t.regex(await waitsFor(ns, "no-map", /Error$|ContainerCreating$/), /configmap.*nonesuch.*not found/i);
});

test("a pod that fits nowhere says for each group of nodes why", async (t) => {
  const c = cluster();
  const ns = await c.namespace(t, "pending");
  await c.create(PODS, ns, pod("huge", { container: { resources: { requests: { cpu: "1000" } } } }));
  await c.create(PODS, ns, pod("picky", { spec: { nodeSelector: { disk: "ssd" } } }));
  const pods = await c.until(PODS, ns, (items) => items.length === 2 && items.every((p) => p.status?.conditions?.some((x) => x.type === "PodScheduled" && x.status === "False" && x.reason === "Unschedulable")));
  const why = (name: string): string => pods.find((p) => p.metadata.name === name)!.status!.conditions!.find((x) => x.type === "PodScheduled")!.message!;
  t.regex(why("huge"), /0\/2 nodes are available.*2.*[Ii]nsufficient cpu/);
  t.regex(why("picky"), /0\/2 nodes are available.*2.*(selector|affinity)/);
  await until(async () => /FailedScheduling .*[Ii]nsufficient cpu/.test(await c.ok(["describe", "pod", "huge", "-n", ns])), "an event says it");
  const explained = await c.gantry(["why", "pod", "huge", "-n", ns]);
  t.is(explained.code, 0, explained.err);
  t.regex(explained.out, /cpu/);
  t.regex(explained.out, /node-1[\s\S]*node-2|2 nodes/);
  t.regex((await c.gantry(["why", "pod", "picky", "-n", ns])).out, /disk/);
});

test("archives: truncated, malicious, empty, of something else, not there", async (t) => {
  const c = cluster();
  const directory = scratch(t);
  const outside = join(directory, "outside");
  mkdirSync(outside);
  writeFileSync(join(outside, "secret"), "s");
  const load = async (name: string, bytes: Uint8Array): Promise<string> => {
    writeFileSync(join(directory, name), bytes);
    const ran = await c.gantry(["load", join(directory, name)]);
    t.not(ran.code, 0, `${name} was loaded: ${ran.out}`);
    return ran.err;
  };
  const good = ociArchive([{ name: "gantry.local/good:1", image: await testImage() }]);
  t.regex(await load("truncated.tar", good.subarray(0, good.length / 2)), /truncated|ends in the middle|unexpected end|incomplete/i);
  t.regex(await load("empty.tar", new Uint8Array()), /empty|no image|truncated|not an? /i);
  t.regex(await load("text.tar", Buffer.from("this is no archive at all\n".repeat(100))), /not a(n|) .*archive|not a tar|checksum/i);
  t.regex(await load("other.tar", writeTar([{ path: "README", content: "hello" }])), /neither|no image|index\.json|manifest\.json/i);
  for (const [name, { files, error }] of Object.entries(maliciousLayers(outside))) {
    const image = await testImage({ layers: [files] });
    t.regex(await load("malicious.tar", ociArchive([{ name: "gantry.local/evil:1", image }])), error, name);
  }
  t.deepEqual(readdirSync(outside), ["secret"]);
  t.is(readFileSync(join(outside, "secret"), "utf8"), "s");
  t.regex((await c.gantry(["load", join(directory, "nonesuch.tar")])).err, /no such file/);
  writeFileSync(join(directory, "good.tar"), good);
  t.regex((await c.gantry(["load", join(directory, "good.tar")])).out, /loaded gantry\.local\/good:1 on 2 nodes/);
});

test("a stranger can't join: no token, a malformed, an unknown, an expired one, and one of another cluster", async (t) => {
  const c = cluster();
  const directory = scratch(t);
  const join_ = async (token: string, extra: readonly string[] = []): Promise<string> => {
    const ran = await c.gantry([
      "node-agent", "--node-name", "stranger", "--control-planes", `127.0.0.1:${c.state.agentPort}`, "--data-dir", join(directory, "data"), "--run-dir", join(directory, "run"),
      "--cgroup-root", `gantry-${c.layout.id}/stranger`, "--metrics-address", "", "--log-format", "text", ...extra,
    ], { env: token === "" ? {} : { GANTRY_JOIN_TOKEN: token }, timeoutMs: 30_000 });
    t.is(ran.code, 1, `${ran.out}${ran.err}`);
    return ran.out + ran.err;
  };
  const created = await c.gantry("token create");
  t.is(created.code, 0, created.err);
  const [, id, secret, fingerprint] = created.out.trim().split(".") as [string, string, string, string];
  t.regex(await join_(""), /a join token is needed.*gantry token create/s);
  t.regex(await join_("hello"), /malformed join token/);
  t.regex(await join_(`gantry.${id}.${"0".repeat(16)}.${fingerprint}`), /join token.*(unknown|wrong|expired|invalid|not valid)|(unknown|wrong|expired|invalid).*join token/i);
  t.regex(await join_(`gantry.zzzzzz.${secret}.${fingerprint}`), /join token.*(unknown|wrong|expired|invalid|not valid)|(unknown|wrong|expired|invalid).*join token/i);
  t.regex(await join_(`gantry.${id}.${secret}.${"A".repeat(43)}`), /CA mismatch.*the token is of another cluster/s);
  const short = (await c.gantry("token create --ttl 1ms")).out.trim();
  t.regex(await join_(short), /join token.*expired/i);
  const output = await join_(`gantry.${id}.${"0".repeat(16)}.${fingerprint}`);
  t.notRegex(output, new RegExp(secret), "a token's secret is never logged");
  t.false((await c.ok("get nodes -o name")).includes("stranger"));
});

test("certificates: expired ones, of another CA, none at all: on both ports", async (t) => {
  const c = cluster();
  const clock = new SystemClock();
  const pki = join(c.layout.dataDir, "control-plane/pki");
  const authority = { certificatePem: readFileSync(join(pki, "ca.pem"), "utf8"), privateKeyPem: readFileSync(join(pki, "ca.key"), "utf8") };
  const admin = { commonName: "kubernetes-admin", organizations: ["system:masters"], usage: "client", clock } as const;
  const node = { commonName: "system:node:node-1", organizations: ["system:nodes"], usage: "client", clock } as const;
  const stranger = await createAuthority("somebody else", clock);
  const [good, expired, foreign, goodNode, expiredNode, foreignNode] = await Promise.all([
    issue(authority, { ...admin, validForMs: 60_000 }), issue(authority, { ...admin, validForMs: -60_000 }), issue(stranger, { ...admin, validForMs: 60_000 }),
    issue(authority, { ...node, validForMs: 60_000 }), issue(authority, { ...node, validForMs: -60_000 }), issue(stranger, { ...node, validForMs: 60_000 }),
  ]);
  /** What the API answers, or how the handshake ends. */
  const ask = (pair?: KeyPair): Promise<string> => new Promise((answered) => {
    const { apiPort: port } = c.state;
    const request = httpsGet({ host: "127.0.0.1", port, path: "/api/v1/pods", agent: false, ca: authority.certificatePem, ...(pair ? { cert: pair.certificatePem, key: pair.privateKeyPem } : {}) }, (response) => {
      response.resume();
      answered(String(response.statusCode));
    });
    request.on("error", (error) => answered(error.message));
  });
  /** What the dispatcher answers a node. */
  const beat = (pair: KeyPair): Promise<string> => new Promise((answered) => {
    const credentials = ChannelCredentials.createSsl(Buffer.from(authority.certificatePem), Buffer.from(pair.privateKeyPem), Buffer.from(pair.certificatePem));
    const dispatcher = new DispatcherClient(`127.0.0.1:${c.state.agentPort}`, credentials, { ...CHANNEL_OPTIONS });
    dispatcher.heartbeat({ sessionId: "none", conditions: [], node: undefined }, new Metadata(), { deadline: Date.now() + 10_000 }, (error) => {
      dispatcher.close();
      answered(error ? `${Status[error.code]}: ${error.details}` : "accepted");
    });
  });
  t.is(await ask(good), "200");
  for (const pair of [expired, foreign, undefined]) t.is(await ask(pair), "401");
  t.regex(await beat(goodNode), /^FAILED_PRECONDITION|^NOT_FOUND|^ABORTED/, "known, but in no session");
  t.regex(await beat(expiredNode), /^UNAUTHENTICATED: .*expired/i);
  t.regex(await beat(foreignNode), /^UNAUTHENTICATED: .*not valid here/);
  t.regex(await beat(good), /^(UNAUTHENTICATED|PERMISSION_DENIED): .*kubernetes-admin/, "an administrator is no node");

  const directory = scratch(t);
  writeFileSync(join(directory, "cert.pem"), expired.certificatePem);
  writeFileSync(join(directory, "key.pem"), expired.privateKeyPem);
  const config = JSON.parse(readFileSync(c.layout.kubeconfig, "utf8")) as { readonly users: readonly { readonly name: string }[] };
  const refused = async (user: object): Promise<string> => {
    writeFileSync(join(directory, "kubeconfig"), JSON.stringify({ ...config, users: config.users.map(({ name }) => ({ name, user })) }));
    return c.fails(["get", "pods", "--kubeconfig", join(directory, "kubeconfig")]);
  };
  t.regex(await refused({ "client-certificate": join(directory, "cert.pem"), "client-key": join(directory, "key.pem") }), /expired|Unauthorized|logged in/i);
  t.regex(await refused({ token: "made-up" }), /Unauthorized|logged in/i);
});

test("garbage on either port: those connections end, and everybody else is served", async (t) => {
  const c = cluster();
  const greet = async (port: number, bytes: Uint8Array | string, count: number): Promise<void> => {
    const sockets = await Promise.all(Array.from({ length: count }, () => new Promise<Socket>((connected) => {
      const socket = connectTcp(port, "127.0.0.1", () => {
        socket.write(bytes);
        connected(socket);
      });
      socket.on("error", () => undefined).resume();
    })));
    t.teardown(() => sockets.forEach((s) => s.destroy()));
  };
  const random = Buffer.from(Array.from({ length: 4096 }, (_, i) => (i * 7919 + 13) % 256));
  // A TLS record that says that 16 kB of handshake follow, and nothing does.
  const half = Buffer.from([0x16, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc]);
  for (const port of [c.state.apiPort, c.state.agentPort]) {
    for (const bytes of ["GET / HTTP/1.0\r\n\r\n", "\n\n\n", random, half]) await greet(port, bytes, 25);
    // TLS, and garbage below it.
    await new Promise<void>((ended) => {
      const socket = connectTls({ host: "127.0.0.1", port, rejectUnauthorized: false, ALPNProtocols: ["h2"] }, () => socket.write(random));
      socket.on("error", () => undefined).on("close", () => ended()).resume();
      t.teardown(() => void socket.destroy());
    });
  }
  t.regex(await c.ok("get nodes"), /node-1 +Ready[\s\S]*node-2 +Ready/);
  const ns = await c.namespace(t, "after-garbage");
  await c.create(PODS, ns, pod("works", { container: { image: EXAMPLE_IMAGE } }));
  await c.until(PODS, ns, ([p]) => p !== undefined && isReady(p));
  t.pass();
});

test("gantry says what is wrong with a command, and exits with 2", async (t) => {
  const c = cluster();
  const wrong = async (args: string, error: RegExp): Promise<void> => {
    const ran = await c.gantry(args);
    t.is(ran.code, 2, `${args}: ${ran.err}`);
    t.regex(ran.err, error);
  };
  await wrong("upp", /unknown command "upp"; did you mean up\?/);
  await wrong("up --nodes three", /--nodes: "three" is not a whole number/);
  await wrong("up --replcas 3", /unknown flag --replcas; did you mean --replicas\?/);
  await wrong("get podz", /podz.*did you mean pods\?/);
  await wrong("scale deployment web --replicas -1", /replicas.*-1/);
  await wrong("control-plane --node-lease soon", /--node-lease: "soon" is not a duration such as 500ms/);
});
