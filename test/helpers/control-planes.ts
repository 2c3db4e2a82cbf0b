// Real control-plane processes on a real etcd of their own members, over TCP on loopback, for tests of what several processes do together.
// Everything is ended, by pid, and removed with the test.
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { ExecutionContext } from "ava";
import { ApiClient, loadKubeconfig, text } from "../../cli/api-client.ts";
import { SystemClock } from "../../base/clock.ts";
import { createAuthority } from "../../base/tls/authority.ts";
import type { Authority } from "../../base/tls/authority.ts";
import { memoryCredentials, nodeCredentials, startFakeAgent } from "./fake-agent.ts";
import type { FakeAgent } from "./fake-agent.ts";

const MAIN = join(import.meta.dirname, "../../cli/main.ts");
const clock = new SystemClock();

export const temporaryFolder = (t: ExecutionContext, name: string): string => {
  const dir = mkdtempSync(join(tmpdir(), `gantry-${name}-`));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
};

/** For programs that can't choose a port by themselves. */
export const freePorts = async (count: number): Promise<readonly number[]> => {
  const servers = Array.from({ length: count }, () => createServer().listen(0, "127.0.0.1"));
  await Promise.all(servers.map((s) => once(s, "listening")));
  const ports = servers.map((s) => (s.address() as AddressInfo).port);
  await Promise.all(servers.map((s) => once(s.close(), "close")));
  return ports;
};

/** A process that ends with the test, also when it is stopped. */
export const startProcess = (t: ExecutionContext, command: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): ChildProcess => {
  const child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ["ignore", "ignore", "pipe"] });
  const closed = once(child, "close");
  const kill = (): void => void child.kill("SIGKILL");
  // A test file that crashes runs no teardown.
  process.once("exit", kill);
  t.teardown(async () => {
    process.off("exit", kill);
    kill();
    await closed;
  });
  return child;
};

export interface EtcdMembers {
  readonly endpoints: readonly string[];
  kill(member: number, signal?: NodeJS.Signals): Promise<void>;
}

/** `tls`: paths of CA, certificate and key, for clients' connections. Resolves when the members have a leader. */
export const startEtcdMembers = async (t: ExecutionContext, count: number, tls?: { readonly ca: string; readonly cert: string; readonly key: string }): Promise<EtcdMembers> => {
  const dir = temporaryFolder(t, "members");
  const ports = await freePorts(2 * count);
  const client = (i: number): string => `${tls ? "https" : "http"}://127.0.0.1:${ports[i]!}`;
  const peer = (i: number): string => `http://127.0.0.1:${ports[count + i]!}`;
  const members = Array.from({ length: count }, (_, i) => startProcess(t, "etcd", [
    `--name=m${i}`, `--data-dir=${dir}/m${i}`, `--listen-client-urls=${client(i)}`, `--advertise-client-urls=${client(i)}`, `--listen-peer-urls=${peer(i)}`, `--initial-advertise-peer-urls=${peer(i)}`,
    `--initial-cluster=${Array.from({ length: count }, (_unused, n) => `m${n}=${peer(n)}`).join(",")}`, "--logger=zap", "--log-outputs=stderr",
    ...(tls ? [`--trusted-ca-file=${tls.ca}`, `--cert-file=${tls.cert}`, `--key-file=${tls.key}`, "--client-cert-auth"] : []),
  ], process.arch === "arm64" ? { ETCD_UNSUPPORTED_ARCH: "arm64" } : {}));
  await Promise.all(members.map(async (member, i) => {
    const said: string[] = [];
    for await (const line of createInterface({ input: member.stderr! })) {
      said.push(line);
      if (line.includes("serving client traffic")) return void member.stderr!.resume();
    }
    throw new Error(`etcd member ${i} ended: ${said.slice(-5).join("\n")}`);
  }));
  return {
    endpoints: members.map((_, i) => client(i)),
    async kill(member, signal = "SIGKILL") {
      members[member]!.kill(signal);
      if (signal === "SIGKILL") await once(members[member]!, "exit");
    },
  };
};

export interface ControlPlaneProcess {
  readonly name: string;
  readonly child: ChildProcess;
  /** https://127.0.0.1:PORT */
  readonly api: string;
  /** host:port for agents. */
  readonly agents: string;
  readonly client: ApiClient;
  /** Every line of its log so far. */
  readonly log: readonly string[];
  /** What /readyz?verbose says, whatever its status. */
  readiness(): Promise<string>;
  leads(): Promise<boolean>;
}

/** Started with the CA of `authority`, as replicas share one. Resolves when it serves. */
export const startControlPlane = async (t: ExecutionContext, name: string, authority: Authority, flags: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<ControlPlaneProcess> => {
  const dir = temporaryFolder(t, name);
  mkdirSync(join(dir, "pki"), { mode: 0o700 });
  writeFileSync(join(dir, "pki/ca.pem"), authority.certificatePem, { mode: 0o600 });
  writeFileSync(join(dir, "pki/ca.key"), authority.privateKeyPem, { mode: 0o600 });
  const child = startProcess(t, process.execPath, [
    "--disable-warning=ExperimentalWarning", MAIN, "control-plane", "--data-dir", dir, "--bind-address", "127.0.0.1", "--api-port", "0", "--agent-port", "0", "--advertise-addresses", "127.0.0.1", "--log-format", "json", ...flags,
  ], env);
  const log: string[] = [];
  const serving = Promise.withResolvers<{ readonly api: string; readonly agents: string }>();
  createInterface({ input: child.stderr! }).on("line", (line) => {
    log.push(line);
    if (line.includes('"message":"serving"')) serving.resolve(JSON.parse(line) as { api: string; agents: string });
  });
  child.once("exit", (code, signal) => serving.reject(new Error(`${name} ended (${code ?? signal}): ${log.slice(-5).join("\n")}`)));
  const { api, agents } = await serving.promise;
  const client = new ApiClient(loadKubeconfig(join(dir, "admin.kubeconfig")));
  t.teardown(() => client[Symbol.dispose]());
  const readiness = async (): Promise<string> => client.send("GET", "/readyz?verbose", { signal: AbortSignal.timeout(3000) }).then(text, String);
  return { name, child, api, agents, client, log, readiness, leads: async () => (await readiness()).includes("[+]leader ok: this process leads") };
};

export const newAuthority = (): Promise<Authority> => createAuthority("test-ca", clock);

/** Real sessions with containers that only say that they run. */
export const startNodes = async (t: ExecutionContext, authority: Authority, names: readonly string[], targets: readonly string[]): Promise<readonly FakeAgent[]> => {
  const agents = await Promise.all(names.map(async (nodeName, i) => startFakeAgent({
    nodeName, target: [...targets.slice(i % targets.length), ...targets.slice(0, i % targets.length)], credentials: memoryCredentials(await nodeCredentials(authority, nodeName)),
  })));
  t.teardown(async () => void (await Promise.all(agents.map((agent) => agent.close()))));
  await Promise.all(agents.map((agent) => agent.session.opened()));
  return agents;
};
