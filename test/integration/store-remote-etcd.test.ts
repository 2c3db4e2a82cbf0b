// The store on an etcd that somebody else runs: over TCP with mutual TLS, with users and passwords, and wrong ones.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { SystemClock } from "../../base/clock.ts";
import { isCode } from "../../base/errors.ts";
import { silentLogger } from "../../base/logger.ts";
import { createAuthority, issue } from "../../base/tls/authority.ts";
import { EtcdClient } from "../../control-plane/state/etcd-client.ts";
import { EtcdStore } from "../../control-plane/state/etcd-store.ts";
import type { EtcdStoreOptions } from "../../control-plane/state/etcd-store.ts";
import { configMap, keyOfMap, record } from "../../control-plane/state/store-contract.ts";

const clock = new SystemClock();
const run = async (command: string, args: readonly string[]): Promise<void> => {
  const child = spawn(command, args, { stdio: "ignore", env: { ...process.env, ETCDCTL_API: "3" } });
  const [code] = (await once(child, "exit")) as [number];
  if (code !== 0) throw new Error(`${command} ${args.join(" ")}: exit code ${code}`);
};
/** etcd can't choose a port by itself. */
const freePort = async (): Promise<number> => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
};

test("mutual TLS and a user's password are used, and wrong ones are said in words", async (t) => {
  const dir = await mkdtemp(join(tmpdir(), "gantry-etcd-"));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  const [ca, foreign] = await Promise.all([createAuthority("etcd CA", clock), createAuthority("other CA", clock)]);
  const pair = (commonName: string, authority = ca) => issue(authority, { commonName, usage: "both", ipAddresses: ["127.0.0.1"], dnsNames: ["localhost"], clock, validForMs: 3_600_000 });
  const [server, client, stranger] = await Promise.all([pair("etcd"), pair("gantry"), pair("gantry", foreign)]);
  const file = async (name: string, pem: string): Promise<string> => {
    await writeFile(join(dir, name), pem);
    return join(dir, name);
  };
  const tlsFiles = [await file("ca", ca.certificatePem), await file("cert", server.certificatePem), await file("key", server.privateKeyPem)] as const;
  const [port, peerPort] = [await freePort(), await freePort()];
  const url = `https://127.0.0.1:${port}`;
  const peer = `http://127.0.0.1:${peerPort}`;
  const etcd = spawn("etcd", [
    `--data-dir=${dir}/data`, `--listen-client-urls=${url}`, `--advertise-client-urls=${url}`, `--listen-peer-urls=${peer}`, `--initial-advertise-peer-urls=${peer}`, `--initial-cluster=default=${peer}`,
    `--trusted-ca-file=${tlsFiles[0]}`, `--cert-file=${tlsFiles[1]}`, `--key-file=${tlsFiles[2]}`, "--client-cert-auth",
  ], { stdio: "ignore", env: { ...process.env, ...(process.arch === "arm64" ? { ETCD_UNSUPPORTED_ARCH: "arm64" } : {}) } });
  t.teardown(async () => {
    etcd.kill("SIGKILL");
    if (etcd.exitCode === null && etcd.signalCode === null) await once(etcd, "exit");
  });
  const tlsOf = (own: typeof client, authority = ca) => ({ ca: Buffer.from(authority.certificatePem), cert: Buffer.from(own.certificatePem), key: Buffer.from(own.privateKeyPem) });
  const connect = async (options: Partial<EtcdStoreOptions>): Promise<EtcdStore> => {
    const store = await EtcdStore.connect({ endpoints: [url], clock, logger: silentLogger, requestTimeoutMs: 2_000, ...options });
    t.teardown(() => store.close());
    return store;
  };

  const plain = await connect({ tls: tlsOf(client), requestTimeoutMs: 20_000 });
  await plain.create(keyOfMap("a"), configMap("a"), { writer: "api" });
  t.true(isCode(await t.throwsAsync(connect({ tls: tlsOf(stranger) })), "ServiceUnavailable", "Timeout"));
  const untrusted = await t.throwsAsync(connect({ tls: tlsOf(client, foreign) }));
  t.regex(untrusted.message, /no TLS connection to etcd \(--etcd-ca/);

  const noPem = await t.throwsAsync(connect({ tls: { ...tlsOf(client), cert: Buffer.from("nonsense") } }));
  t.regex(noPem.message, /must be PEM/);

  const ctl = (...args: string[]): Promise<void> => run("etcdctl", [`--endpoints=${url}`, `--cacert=${tlsFiles[0]}`, `--cert=${tlsFiles[1]}`, `--key=${tlsFiles[2]}`, ...args]);
  await ctl("user", "add", "root:secret");
  await ctl("user", "grant-role", "root", "root");
  await ctl("auth", "enable");
  const wrong = await t.throwsAsync(connect({ tls: tlsOf(client), username: "root", password: "wrong" }));
  t.true(isCode(wrong, "Unauthorized"));
  t.regex(wrong.message, /--etcd-username/);
  const store = await connect({ tls: tlsOf(client), username: "root", password: "secret" });
  using recording = record(store, (await store.snapshot()).resourceVersion);
  const made = await store.create(keyOfMap("b"), configMap("b"), { writer: "api" });
  await recording.reached(made.resourceVersion);
  t.truthy(await store.get(keyOfMap("a")));
});

test("an etcd that is not there is said with its address", async (t) => {
  const endpoint = `http://127.0.0.1:${await freePort()}`;
  const error = await t.throwsAsync(EtcdStore.connect({ endpoints: [endpoint], clock, logger: silentLogger, requestTimeoutMs: 300 }));
  t.true(isCode(error, "ServiceUnavailable"));
  t.true(error.message.includes(endpoint));
  const client = new EtcdClient({ endpoints: [endpoint], clock, requestTimeoutMs: 300 });
  t.teardown(() => client.close());
  t.true(isCode(await t.throwsAsync(client.range({ key: Buffer.from("a") })), "ServiceUnavailable", "Timeout"));
});
