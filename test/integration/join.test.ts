import test from "ava";
import type { ExecutionContext } from "ava";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { FakeClock, SystemClock } from "../../base/clock.ts";
import { isCode } from "../../base/errors.ts";
import { SECRETS } from "../../base/kube/resources.ts";
import { silentLogger } from "../../base/logger.ts";
import { createAuthority } from "../../base/tls/authority.ts";
import { caFingerprint, describeCertificate } from "../../base/tls/describe.ts";
import { createJoinToken } from "../../control-plane/security/join-tokens.ts";
import { credentialFiles } from "../../node-agent/session/credentials.ts";
import { ensureCredentials } from "../../node-agent/session/join.ts";
import type { JoinOptions } from "../../node-agent/session/join.ts";
import { eventually, memoryCredentials, nodeCredentials, startFakeAgent, startTestDispatcher, temporaryDir } from "../helpers/fake-agent.ts";
import type { TestDispatcher } from "../helpers/fake-agent.ts";

const clock = new SystemClock();

const start = async (t: ExecutionContext, options: Parameters<typeof startTestDispatcher>[0] = {}): Promise<TestDispatcher> => {
  const cluster = await startTestDispatcher(options);
  t.teardown(() => cluster.close());
  return cluster;
};

const newToken = async ({ store, authority }: TestDispatcher, validForMs = 60_000): Promise<string> =>
  (await createJoinToken({ store, clock, caFingerprint: caFingerprint(authority.certificatePem), validForMs })).token;

const options = (cluster: TestDispatcher, token: string | undefined, change: Partial<JoinOptions> = {}): JoinOptions =>
  ({ token, controlPlanes: [cluster.target], nodeName: "node-a", credentials: memoryCredentials(undefined), clock, logger: silentLogger, ...change });

test("a machine joins with a token, keeps its credentials, and its session opens", async (t) => {
  const cluster = await start(t);
  const dir = join(temporaryDir(t.teardown), "pki");
  const nodeName = "a".repeat(63);
  const credentials = credentialFiles(dir);
  const joined = await ensureCredentials(options(cluster, await newToken(cluster), { nodeName, credentials }));
  t.is(joined.nodeName, nodeName);
  t.is(statSync(dir).mode & 0o777, 0o700);
  for (const file of ["ca.pem", "node.pem"]) t.is(statSync(join(dir, file)).mode & 0o777, 0o600);
  t.like(describeCertificate(joined.certificatePem), { organizations: ["system:nodes"], commonName: `system:node:${nodeName}` });
  t.deepEqual(await ensureCredentials(options(cluster, undefined, { nodeName, credentials })), joined, "no token is needed again");
  const agent = startFakeAgent({ target: cluster.target, nodeName, credentials });
  t.teardown(() => agent.close());
  await agent.session.opened();
  t.deepEqual(cluster.dispatcher.streams.connectedNodes(), [nodeName]);
});

test("each way in which joining fails is told apart", async (t) => {
  const cluster = await start(t);
  const token = await newToken(cluster);
  const failure = async (change: Partial<JoinOptions>): Promise<Error> => t.throwsAsync(ensureCredentials(options(cluster, token, change)));
  const other = await createAuthority("other", clock);
  const parts = token.split(".");

  t.regex((await failure({ token: undefined })).message, /has not joined a cluster yet: a join token is needed/);
  t.regex((await failure({ token: "kubeadm.abc" })).message, /malformed join token/);
  const unknown = await failure({ token: ["gantry", "zzzzzz", parts[2], parts[3]].join(".") });
  t.true(isCode(unknown, "Unauthorized"));
  t.regex(unknown.message, /unknown token with ID zzzzzz/);
  t.regex((await failure({ token: ["gantry", parts[1], "0".repeat(16), parts[3]].join(".") })).message, /unknown token/);
  const pinned = await failure({ token: ["gantry", parts[1], parts[2], caFingerprint(other.certificatePem)].join(".") });
  t.true(isCode(pinned, "Unauthorized"));
  t.regex(pinned.message, /CA mismatch/);
  t.regex((await failure({ token: await newToken(cluster, -1000) })).message, /expired at 20/);
  t.regex((await failure({ nodeName: "Not_OK" })).message, /node name "Not_OK"/);
  t.regex((await failure({ controlPlanes: ["nonsense"] })).message, /"nonsense": expected HOST:PORT/);

  const closed = createServer();
  await new Promise<void>((resolve) => void closed.listen(0, "127.0.0.1", resolve));
  const { port } = closed.address() as AddressInfo;
  await new Promise((resolve) => closed.close(resolve));
  const refused = await failure({ controlPlanes: [`127.0.0.1:${port}`] });
  t.true(isCode(refused, "ServiceUnavailable"));
  t.regex(refused.message, /nothing listens there/);
  t.is(cluster.dispatcher.streams.connectedNodes().length, 0);
});

test("a server with a certificate of the right CA that has expired points at the clocks", async (t) => {
  const authority = await createAuthority("test-ca", clock);
  const { serverMaterial } = await import("../helpers/fake-agent.ts");
  const cluster = await start(t, { authority, tls: await serverMaterial(authority, -60_000) });
  t.regex((await t.throwsAsync(ensureCredentials(options(cluster, await newToken(cluster))))).message, /check the clocks/);
});

test("the next control plane is tried when one can't be reached", async (t) => {
  const cluster = await start(t);
  const joined = await ensureCredentials(options(cluster, await newToken(cluster), { controlPlanes: ["127.0.0.1:1", cluster.target] }));
  t.is(joined.nodeName, "node-a");
});

test("the name of a machine that is connected can't be taken", async (t) => {
  const cluster = await start(t);
  const agent = startFakeAgent({ target: cluster.target, nodeName: "node-a", credentials: memoryCredentials(await nodeCredentials(cluster.authority, "node-a")) });
  t.teardown(() => agent.close());
  await agent.session.opened();
  const error = await t.throwsAsync(ensureCredentials(options(cluster, await newToken(cluster))));
  t.true(isCode(error, "AlreadyExists"));
});

test("a deleted token no longer works", async (t) => {
  const cluster = await start(t);
  const token = await newToken(cluster);
  await cluster.store.delete({ type: SECRETS, namespace: "kube-system", name: `bootstrap-token-${token.split(".")[1]!}` }, { writer: "api" });
  await eventually(() => cluster.cache.resource(SECRETS).size === 0, "the cache shows it");
  t.regex((await t.throwsAsync(ensureCredentials(options(cluster, token)))).message, /was it deleted/);
});

test("an expired certificate asks for a token, and one for another name too", async (t) => {
  const cluster = await start(t);
  const later = new FakeClock(clock.nowMs() + 10 * 86_400_000);
  const credentials = memoryCredentials(await nodeCredentials(cluster.authority, "node-a"));
  t.regex((await t.throwsAsync(ensureCredentials(options(cluster, undefined, { credentials, clock: later })))).message, /certificate of node node-a expired at .*a join token is needed/);
  t.regex((await t.throwsAsync(ensureCredentials(options(cluster, undefined, { credentials, nodeName: "node-b" })))).message, /is for node node-a, not node-b/);
});

test("damaged credential files say what to remove", async (t) => {
  const cluster = await start(t);
  const dir = join(temporaryDir(t.teardown), "pki");
  const credentials = credentialFiles(dir);
  await ensureCredentials(options(cluster, await newToken(cluster), { credentials }));
  writeFileSync(join(dir, "node.pem"), readFileSync(join(dir, "node.pem"), "utf8").slice(0, 200));
  const error = t.throws(() => credentials.load());
  t.true(isCode(error, "Invalid"));
  t.regex(error.message, /node\.pem.*join again/);
});

test("a certificate is renewed in time, under the same CA, and the session goes on with it", async (t) => {
  const cluster = await start(t, { nodeCertificateMs: 3_600_000 });
  // Two thirds of its life are over: it was dated back by five minutes.
  const credentials = memoryCredentials(await nodeCredentials(cluster.authority, "node-a", 100_000));
  const before = credentials.load()!;
  const agent = startFakeAgent({ target: cluster.target, nodeName: "node-a", credentials });
  t.teardown(() => agent.close());
  await eventually(() => credentials.load() !== before, "a new certificate is saved");
  const renewed = credentials.load()!;
  t.true(renewed.notAfterMs > clock.nowMs() + 3_000_000);
  t.is(renewed.caPem, before.caPem);
  t.not(renewed.privateKeyPem, before.privateKeyPem);
  await eventually(() => agent.pods.completeSets >= 2 && agent.session.connected, "a session with the new certificate");
  t.regex(await cluster.metrics.text(), /certificates_issued_total\{reason="renewal"\} 1/);
});
