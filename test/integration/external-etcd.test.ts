// A control plane on an etcd that somebody else runs: with client certificates, with users and passwords, and with three members of
// which one dies.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import type { ExecutionContext } from "ava";
import { SystemClock } from "../../base/clock.ts";
import { DEPLOYMENTS, PODS } from "../../base/kube/resources.ts";
import { createAuthority, issue } from "../../base/tls/authority.ts";
import type { Authority } from "../../base/tls/authority.ts";
import { newAuthority, startControlPlane, startEtcdMembers, startNodes, temporaryFolder, type ControlPlaneProcess } from "../helpers/control-planes.ts";
import { eventually } from "../helpers/fake-agent.ts";
import { deployment, isReady } from "../helpers/workloads.ts";

const allReady = (plane: ControlPlaneProcess, name: string, replicas: number): Promise<void> => eventually(async () => {
  const { items } = await plane.client.list(PODS, "default", { labelSelector: `app=${name}` });
  return items.length === replicas && items.every(isReady);
}, `${replicas} pods of ${name} are ready`, 20_000);

const create = (plane: ControlPlaneProcess, name: string, replicas: number): Promise<unknown> =>
  plane.client.json("POST", plane.client.pathOf(DEPLOYMENTS, "default"), { body: deployment(name, replicas) });

const scale = (plane: ControlPlaneProcess, name: string, replicas: number): Promise<unknown> =>
  plane.client.json("PATCH", plane.client.pathOf(DEPLOYMENTS, "default", name, "scale"), { body: { spec: { replicas } }, contentType: "application/merge-patch+json" });

interface TlsFiles {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

const tlsFiles = async (dir: string, name: string, authority: Authority): Promise<TlsFiles> => {
  const pair = await issue(authority, { commonName: name, usage: "both", ipAddresses: ["127.0.0.1"], dnsNames: ["localhost"], clock: new SystemClock(), validForMs: 3_600_000 });
  const file = (part: string, content: string): string => {
    writeFileSync(join(dir, `${name}.${part}`), content, { mode: 0o600 });
    return join(dir, `${name}.${part}`);
  };
  return { ca: file("ca", authority.certificatePem), cert: file("pem", pair.certificatePem), key: file("key", pair.privateKeyPem) };
};

const flagsOf = (endpoints: readonly string[], { ca, cert, key }: TlsFiles): readonly string[] =>
  ["--etcd-endpoints", endpoints.join(","), "--etcd-ca", ca, "--etcd-cert", cert, "--etcd-key", key];

/** Ends with an error; gives what it said. */
const failure = async (t: ExecutionContext, authority: Authority, flags: readonly string[]): Promise<string> =>
  (await t.throwsAsync(startControlPlane(t, "refused", authority, flags))).message;

test("client certificates, then a user and a password, and a prefix of its own", async (t) => {
  t.timeout(90_000);
  const dir = temporaryFolder(t, "tls");
  const [authority, etcdAuthority] = await Promise.all([newAuthority(), createAuthority("etcd CA", new SystemClock())]);
  const [server, client] = await Promise.all([tlsFiles(dir, "server", etcdAuthority), tlsFiles(dir, "client", etcdAuthority)]);
  const stranger = { ...(await tlsFiles(dir, "stranger", await createAuthority("another CA", new SystemClock()))), ca: client.ca };
  const { endpoints } = await startEtcdMembers(t, 1, server);

  const plane = await startControlPlane(t, "tls", authority, flagsOf(endpoints, client));
  await startNodes(t, authority, ["node-a"], [plane.agents]);
  await create(plane, "web", 5);
  await allReady(plane, "web", 5);

  t.regex(await failure(t, authority, flagsOf(endpoints, stranger)), /no TLS connection to etcd|can't be reached|did not answer/);
  t.regex(await failure(t, authority, ["--etcd-endpoints", endpoints.join(","), "--etcd-cert", client.cert]), /--etcd-ca, --etcd-cert and --etcd-key go together/);

  const ctl = async (...args: string[]): Promise<void> => {
    const child = spawn("etcdctl", [`--endpoints=${endpoints.join(",")}`, `--cacert=${client.ca}`, `--cert=${client.cert}`, `--key=${client.key}`, ...args], { stdio: "ignore", env: { ...process.env, ETCDCTL_API: "3" } });
    t.is((await once(child, "exit"))[0], 0, args.join(" "));
  };
  await ctl("user", "add", "root:root-secret");
  await ctl("user", "grant-role", "root", "root");
  await ctl("user", "add", "gantry:sesame");
  await ctl("role", "add", "gantry");
  await ctl("role", "grant-permission", "gantry", "--prefix=true", "readwrite", "/west/");
  await ctl("user", "grant-role", "gantry", "gantry");
  await ctl("auth", "enable");
  const password = join(dir, "password");
  writeFileSync(password, "sesame\n");
  const user = [...flagsOf(endpoints, client), "--etcd-prefix", "/west", "--etcd-username", "gantry", "--etcd-password-file", password];
  const west = await startControlPlane(t, "west", authority, user);
  await startNodes(t, authority, ["node-w"], [west.agents]);
  await create(west, "web", 3);
  await allReady(west, "web", 3);

  writeFileSync(password, "wrong\n");
  const refused = await failure(t, authority, user);
  t.regex(refused, /etcd refused our credentials \(--etcd-username, --etcd-password/);
  t.false(refused.includes("wrong") || west.log.join("").includes("sesame"), "passwords are not logged");
});

test("three members: when one is killed, also the leader, nothing breaks", async (t) => {
  t.timeout(90_000);
  const [authority, etcd] = await Promise.all([newAuthority(), startEtcdMembers(t, 3)]);
  const plane = await startControlPlane(t, "quorum", authority, ["--etcd-endpoints", etcd.endpoints.join(",")]);
  const nodes = await startNodes(t, authority, ["node-a", "node-b"], [plane.agents]);
  await create(plane, "web", 10);
  await allReady(plane, "web", 10);

  // The one that the control plane dialled first is as good as any: its connections break, whoever leads.
  const killedMs = performance.now();
  await etcd.kill(0);
  await scale(plane, "web", 100);
  await allReady(plane, "web", 100);
  t.log(`100 of 100 ready ${Math.round(performance.now() - killedMs)} ms after a member was killed`);
  t.regex(await plane.readiness(), /\[\+\]store ok\n/);
  t.true(nodes.every((n) => n.session.connected), "no node had to dial again");
  await scale(plane, "web", 10);
  await allReady(plane, "web", 10);

  // Without a majority nothing can be written, and the control plane says so; once there is one again, it goes on.
  await etcd.kill(1, "SIGSTOP");
  await eventually(async () => /\[-\]store failed: /.test(await plane.readiness()), "not ready, and why", 60_000);
  await etcd.kill(1, "SIGCONT");
  await eventually(async () => (await plane.readiness()).includes("readyz check passed"), "ready again", 60_000);
  await eventually(() => scale(plane, "web", 20).then(() => true, () => false), "writes are taken again", 60_000);
  await allReady(plane, "web", 20);
});
