import test from "ava";
import type { ExecutionContext } from "ava";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parse } from "yaml";
import { FakeClock } from "../../base/clock.ts";
import { isCode } from "../../base/errors.ts";
import { SECRETS } from "../../base/kube/resources.ts";
import { silentLogger } from "../../base/logger.ts";
import { describeCertificate, isPair } from "../../base/tls/describe.ts";
import { parseJoinToken } from "../../base/tls/join-token.ts";
import { createTestState } from "../state/testing.ts";
import { ensureClusterSecurity } from "./cluster-security.ts";
import { createJoinToken, verifyJoinToken } from "./join-tokens.ts";

const DAY_MS = 86_400_000;

const newDir = (t: ExecutionContext): string => {
  const dir = mkdtempSync(join(tmpdir(), "gantry-security-"));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  return join(dir, "pki");
};

const ensure = (dir: string, clock: FakeClock, advertiseAddresses: readonly string[] = []) => ensureClusterSecurity(dir, { advertiseAddresses, clock, logger: silentLogger });

test("everything is made once, kept afterwards, and readable by its owner only", async (t) => {
  const [dir, clock] = [newDir(t), new FakeClock()];
  const first = await ensure(dir, clock);
  const second = await ensure(dir, clock);
  t.deepEqual([second.authority, second.server, second.admin], [first.authority, first.server, first.admin]);
  t.is(statSync(dir).mode & 0o777, 0o700);
  for (const file of ["ca.pem", "ca.key", "server.pem", "server.key", "admin.pem", "admin.key"]) t.is(statSync(join(dir, file)).mode & 0o777, 0o600, file);
  t.like(describeCertificate(first.admin.certificatePem), { commonName: "kubernetes-admin", organizations: ["system:masters"] });
});

test("the server's certificate is renewed for a new name or when half its time is over, under the same CA", async (t) => {
  const [dir, clock] = [newDir(t), new FakeClock()];
  const first = await ensure(dir, clock);
  const named = await ensure(dir, clock, ["cluster.example", "2001:db8::1"]);
  t.not(named.server.certificatePem, first.server.certificatePem);
  t.true(describeCertificate(named.server.certificatePem).dnsNames.includes("cluster.example"));
  t.deepEqual((await ensure(dir, clock, ["cluster.example", "2001:DB8:0::1"])).server, named.server, "another spelling of an address is the same name");
  t.deepEqual((await ensure(dir, clock)).server, named.server, "a name too many does no harm");
  await clock.advance(500 * DAY_MS);
  const later = await ensure(dir, clock);
  t.not(later.server.certificatePem, named.server.certificatePem);
  t.deepEqual(later.authority, first.authority);
});

test("a pair that a crash left half written is made anew; a damaged CA is not", async (t) => {
  const [dir, clock] = [newDir(t), new FakeClock()];
  const { admin } = await ensure(dir, clock);
  writeFileSync(join(dir, "server.key"), admin.privateKeyPem);
  const { server } = await ensure(dir, clock);
  t.true(isPair(server.certificatePem, server.privateKeyPem));
  writeFileSync(join(dir, "ca.key"), admin.privateKeyPem);
  const mismatch = await t.throwsAsync(ensure(dir, clock));
  t.true(isCode(mismatch, "Invalid"));
  t.regex(mismatch.message, /ca\.key is not the key of/);
  rmSync(join(dir, "ca.key"));
  t.regex((await t.throwsAsync(ensure(dir, clock))).message, /without its key/);
});

test("an advertise address that is none is named", async (t) => {
  t.regex((await t.throwsAsync(ensure(newDir(t), new FakeClock(), ["not ok"]))).message, /"not ok": must be an IP address/);
});

test("the admin's kubeconfig is complete", async (t) => {
  const dir = newDir(t);
  const security = await ensure(dir, new FakeClock());
  const path = join(dir, "admin.kubeconfig");
  security.writeKubeconfig(path, "https://127.0.0.1:6443");
  t.is(statSync(path).mode & 0o777, 0o600);
  const config = parse(readFileSync(path, "utf8")) as { clusters: { cluster: Record<string, string> }[]; users: { user: Record<string, string> }[]; "current-context": string };
  t.is(config.clusters[0]!.cluster["server"], "https://127.0.0.1:6443");
  t.is(Buffer.from(config.clusters[0]!.cluster["certificate-authority-data"]!, "base64").toString(), security.authority.certificatePem);
  t.is(Buffer.from(config.users[0]!.user["client-key-data"]!, "base64").toString(), security.admin.privateKeyPem);
});

test("a join token works until it expires or its Secret is deleted, and the refusal says which", async (t) => {
  const state = await createTestState();
  const { store, clock } = state;
  const { token } = await createJoinToken({ store, clock, caFingerprint: "x".repeat(43), validForMs: 60_000, description: "test" });
  const { id, secret } = parseJoinToken(token);
  const text = `${id}.${secret}`;
  await t.notThrowsAsync(verifyJoinToken(text, state));
  const refusal = async (presented: string): Promise<string> => {
    const error = await t.throwsAsync(verifyJoinToken(presented, state));
    t.true(isCode(error, "Unauthorized"));
    t.notRegex(error.message, new RegExp(secret));
    return error.message;
  };
  t.regex(await refusal(`${id}.${"0".repeat(16)}`), /unknown token/);
  t.regex(await refusal(`zzzzzz.${secret}`), /unknown token with ID zzzzzz/);
  t.regex(await refusal("nonsense"), /malformed/);
  await clock.advance(61_000);
  t.regex(await refusal(text), /expired at 2026-01-01T00:01:00Z/);
  await store.delete({ type: SECRETS, namespace: "kube-system", name: `bootstrap-token-${id}` }, { writer: "api" });
  await clock.advance(0);
  t.regex(await refusal(text), /unknown token/);
});

test("only a Secret of the right type and usage is a token", async (t) => {
  const state = await createTestState();
  const { store, clock } = state;
  const { token } = await createJoinToken({ store, clock, caFingerprint: "x".repeat(43), validForMs: 60_000 });
  const { id, secret } = parseJoinToken(token);
  const key = { type: SECRETS, namespace: "kube-system", name: `bootstrap-token-${id}` };
  await store.update(key, (s) => ({ ...s, data: { ...s.data, "usage-bootstrap-authentication": "" } }), { writer: "api" });
  await clock.advance(0);
  t.regex((await t.throwsAsync(verifyJoinToken(`${id}.${secret}`, state))).message, /may not be used to join/);
  await store.update(key, (s) => ({ ...s, type: "Opaque" }), { writer: "api" });
  await clock.advance(0);
  t.regex((await t.throwsAsync(verifyJoinToken(`${id}.${secret}`, state))).message, /unknown token/);
});
