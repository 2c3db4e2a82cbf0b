import test from "ava";
import { SystemClock } from "../base/clock.ts";
import { createAuthority, issue } from "../base/tls/authority.ts";
import type { ApiTarget } from "./api-client.ts";
import { connectionFault, expiryFault } from "./connection-fault.ts";

const clock = new SystemClock();
const DAY_MS = 86_400_000;
const target = (more: Partial<ApiTarget> = {}): ApiTarget => ({ server: new URL("https://10.0.0.1:6443"), ca: undefined, cert: undefined, key: undefined, token: undefined, namespace: "default", context: "c", insecure: false, ...more });
const error = (code: string, message = code): Error => Object.assign(new Error(message), { code });

for (const [title, given, code, message] of [
  ["nothing listens", error("ECONNREFUSED", "connect ECONNREFUSED 10.0.0.1:6443"), "ServiceUnavailable", "the API server 10.0.0.1:6443 can't be reached: connect ECONNREFUSED 10.0.0.1:6443; nothing listens there: is the control plane running (gantry status, gantry up)?"],
  ["of several addresses the first speaks", new AggregateError([error("EHOSTUNREACH")]), "ServiceUnavailable", "the API server 10.0.0.1:6443 can't be reached: EHOSTUNREACH; is that machine on, and the address in the kubeconfig right?"],
  ["a server's certificate that is out of date", error("CERT_HAS_EXPIRED", "certificate has expired"), "ServiceUnavailable", "the API server 10.0.0.1:6443 can't be reached: certificate has expired; a restart of the control plane renews its certificate; if it is not old, this machine's clock is wrong"],
  ["another cluster's server", error("SELF_SIGNED_CERT_IN_CHAIN", "self-signed"), "FailedPrecondition", "the API server 10.0.0.1:6443 is not the one that the kubeconfig means: its certificate is not of the certificate-authority there (self-signed). Is the kubeconfig of another cluster, or older than this one?"],
  ["whatever else", error("EPIPE", "broken pipe"), "ServiceUnavailable", "the API server 10.0.0.1:6443 can't be reached: broken pipe"],
] as const) test(`no connection: ${title}`, (t) => t.like(connectionFault(given, target(), 0), { code, message }));

test("no connection: certificates that are none, and a client's own that is out of date", async (t) => {
  t.is(connectionFault(error("ERR_OSSL"), target({ key: Buffer.from("x") }), 0).message, `the kubeconfig's client-key of context "c" is not PEM, or damaged`);
  const authority = await createAuthority("ca", clock);
  const { certificatePem } = await issue(authority, { commonName: "me", usage: "client", validForMs: DAY_MS, clock });
  const mine = target({ cert: Buffer.from(certificatePem) });
  t.is(expiryFault(mine, clock.nowMs()), undefined);
  t.is(expiryFault(target(), clock.nowMs()), undefined);
  const late = clock.nowMs() + 2 * DAY_MS;
  t.regex(connectionFault(error("ECONNRESET", "socket hang up"), mine, late).message, /^the API server 10\.0\.0\.1:6443 does not let us in: the client certificate of context "c" expired at \S+Z: take a new kubeconfig/);
  t.regex(connectionFault(error("ECONNREFUSED"), mine, late).message, /can't be reached/);
  t.regex(expiryFault(mine, clock.nowMs() - 2 * DAY_MS)!, /is valid only from \S+Z on: is this machine's clock right\?/);
});
