import test from "ava";
import { connect, createServer } from "node:tls";
import type { AddressInfo } from "node:net";
import { FakeClock, SystemClock } from "../clock.ts";
import { isCode } from "../errors.ts";
import { createAuthority, issue, readCsr, signCsr } from "./authority.ts";
import { createCsr } from "./csr.ts";
import { caFingerprint, canonicalIp, describeCertificate, isIssuedBy, isPair } from "./describe.ts";
import { formatJoinToken, parseJoinToken } from "./join-token.ts";

const clock = new SystemClock();
const DAY_MS = 86_400_000;

test("a certificate carries its subject, names and dates, dated back for lagging clocks", async (t) => {
  const fake = new FakeClock();
  const ca = await createAuthority("test-ca", fake);
  const pair = await issue(ca, { commonName: "system:node:a", organizations: ["system:nodes"], dnsNames: ["a.example"], ipAddresses: ["10.0.0.1", "::1"], usage: "both", validForMs: DAY_MS, clock: fake });
  const description = describeCertificate(pair.certificatePem);
  t.is(description.commonName, "system:node:a");
  t.deepEqual(description.organizations, ["system:nodes"]);
  t.deepEqual(description.dnsNames, ["a.example"]);
  t.deepEqual(description.ipAddresses.map(canonicalIp), ["10.0.0.1", "::1"]);
  t.is(description.notBeforeMs, fake.nowMs() - 300_000);
  t.is(description.notAfterMs, fake.nowMs() + DAY_MS);
  t.true(isPair(pair.certificatePem, pair.privateKeyPem));
  t.false(isPair(pair.certificatePem, ca.privateKeyPem));
  t.true(isIssuedBy(pair.certificatePem, ca.certificatePem));
  t.false(isIssuedBy(pair.certificatePem, (await createAuthority("test-ca", fake)).certificatePem), "another CA of the same name");
});

test("a name with separators stays one attribute", async (t) => {
  const ca = await createAuthority("test-ca", clock);
  const pair = await issue(ca, { commonName: "x,O=system:masters\nO=system:masters", usage: "client", validForMs: DAY_MS, clock });
  t.deepEqual(describeCertificate(pair.certificatePem).organizations, []);
});

test("mutual TLS works with what the authority issues, and not with another's", async (t) => {
  const ca = await createAuthority("test-ca", clock);
  const other = await createAuthority("test-ca", clock);
  const server = await issue(ca, { commonName: "server", ipAddresses: ["127.0.0.1"], usage: "server", validForMs: DAY_MS, clock });
  const listener = createServer({ ca: ca.certificatePem, cert: server.certificatePem, key: server.privateKeyPem, requestCert: true, rejectUnauthorized: false });
  await new Promise<void>((resolve) => void listener.listen(0, "127.0.0.1", resolve));
  t.teardown(() => listener.close());
  const authorizedAs = async (authority: typeof ca): Promise<boolean> => {
    const client = await issue(authority, { commonName: "client", usage: "client", validForMs: DAY_MS, clock });
    const accepted = new Promise<boolean>((resolve) => void listener.once("secureConnection", (socket) => resolve(socket.authorized)));
    const socket = connect({ host: "127.0.0.1", port: (listener.address() as AddressInfo).port, ca: ca.certificatePem, cert: client.certificatePem, key: client.privateKeyPem });
    await new Promise<void>((resolve, reject) => void socket.once("secureConnect", resolve).once("error", reject));
    t.true(socket.authorized);
    try {
      return await accepted;
    } finally {
      socket.destroy();
    }
  };
  t.true(await authorizedAs(ca));
  t.false(await authorizedAs(other));
});

test("a request is signed for its key only, under the subject that the signer decides", async (t) => {
  const ca = await createAuthority("test-ca", clock);
  const { csrPem, privateKeyPem } = createCsr("system:node:a");
  const csr = await readCsr(csrPem);
  t.is(csr.commonName, "system:node:a");
  const { certificatePem, notAfterMs } = await signCsr(ca, csr, { commonName: "system:node:a", organizations: ["system:nodes"], usage: "client", validForMs: DAY_MS, clock });
  t.true(isPair(certificatePem, privateKeyPem));
  t.deepEqual(describeCertificate(certificatePem).organizations, ["system:nodes"]);
  t.true(Math.abs(notAfterMs - clock.nowMs() - DAY_MS) < 2000);
});

test("an unreadable or forged request is refused", async (t) => {
  t.true(isCode(await t.throwsAsync(readCsr("garbage")), "Invalid"));
  const { csrPem } = createCsr("system:node:a");
  const der = Buffer.from(csrPem.replace(/-----[^-]+-----|\s/g, ""), "base64");
  der[der.indexOf("system:node:a") + 12] = "b".charCodeAt(0);
  const forged = `-----BEGIN CERTIFICATE REQUEST-----\n${der.toString("base64")}\n-----END CERTIFICATE REQUEST-----\n`;
  t.regex((await t.throwsAsync(readCsr(forged))).message, /signature/);
});

test("a join token is read back, and a damaged one says where", async (t) => {
  const token = { id: "abc123", secret: "0123456789abcdef", caFingerprint: caFingerprint((await createAuthority("x", clock)).certificatePem) };
  t.deepEqual(parseJoinToken(`${formatJoinToken(token)}\n`), token);
  for (const [text, why] of [["kubeadm.x", /begin with/], ["gantry.ab.c.d", /ID/], ["gantry.abc123.short.d", /secret/], ["gantry.abc123.0123456789abcdef.zz", /fingerprint/], [`${formatJoinToken(token)}.x`, /more than/]] as const) {
    const error = t.throws(() => parseJoinToken(text));
    t.true(isCode(error, "Invalid"));
    t.regex(error.message, why);
    t.notRegex(error.message, /0123456789abcdef/, "secrets are not repeated");
  }
});
