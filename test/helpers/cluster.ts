// A real cluster for tests: what `gantry up` starts, with a state directory and ports of its own, and its faults at hand. It is taken
// down whatever happens to the test, and a test file fails when something of it is left on the machine.
import { execFile, spawn, type ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { ExecutionContext, TestFn } from "ava";
import { ApiClient, loadKubeconfig } from "../../cli/api-client.ts";
import { layoutOf, readState, type ClusterState, type Layout } from "../../cli/cluster/layout.ts";
import { isRunning, tail } from "../../cli/cluster/processes.ts";
import { buildExampleImage, EXAMPLE_IMAGE } from "../../cli/example-image.ts";
import { loadImage } from "../../cli/load-image.ts";
import { describeError } from "../../base/errors.ts";
import type { KubeObject, ResourceType } from "../../base/kube/resources.ts";
import { cutHost, restoreHost } from "../../node-agent/network/virtual-hosts.ts";
import { findKubectl } from "./kubectl.ts";
import { allProcesses, leftovers } from "./leftovers.ts";

export const GANTRY = resolve(import.meta.dirname, "../../cli/gantry");
const UP_TIMEOUT_MS = 120_000;
const COMMAND_TIMEOUT_MS = 90_000;
const WAIT_MS = 60_000;
const NEWEST_KUBECTL = "1.33";

export interface ClusterOptions {
  /** 0: a control plane alone. Default 3. */
  readonly nodes?: number;
  /** GANTRY_* variables for the daemons: every flag can come from there. */
  readonly env?: Readonly<Record<string, string>>;
  /** The example image on every node. Default true. */
  readonly image?: boolean;
}

export interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

export interface RunOptions {
  readonly input?: string;
  readonly timeoutMs?: number;
  readonly env?: Readonly<Record<string, string>>;
}

/** A container's first process, found by its control group. */
export interface ContainerProcess {
  readonly node: string;
  readonly podUid: string;
  readonly containerId: string;
  readonly pid: number;
  readonly commandLine: string;
}

/** A string is split at spaces; give a list where an argument holds one. */
export type Arguments = string | readonly string[];
const listOf = (args: Arguments): readonly string[] => (typeof args === "string" ? args.split(" ") : args);

const runToEnd = (file: string, args: readonly string[], env: NodeJS.ProcessEnv, { input = "", timeoutMs = COMMAND_TIMEOUT_MS, ...options }: RunOptions): Promise<Ran> =>
  new Promise((done) => {
    const child = execFile(file, args, { env: { ...env, ...options.env }, timeout: timeoutMs, killSignal: "SIGKILL", maxBuffer: 64 << 20 }, (error, out, err) =>
      done({ code: error ? (typeof error.code === "number" ? error.code : -1) : 0, out, err: error?.killed ? `${err}(killed after ${timeoutMs} ms)` : err }));
    child.stdin?.on("error", () => undefined); // it ended before it read everything: its exit code says why
    child.stdin?.end(input);
  });

const freePort = async (): Promise<number> => {
  const server = createServer();
  server.listen(0);
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  await new Promise((closed) => server.close(closed));
  return port;
};

/** Asks again until it is so: for what no watch tells. */
export const until = async (isSo: () => boolean | Promise<boolean>, what: string, timeoutMs = WAIT_MS): Promise<void> => {
  const deadline = performance.now() + timeoutMs;
  while (!(await isSo())) {
    if (performance.now() > deadline) throw new Error(`waited ${timeoutMs} ms in vain until ${what}`);
    await new Promise((wake) => setTimeout(wake, 25));
  }
};

/** Process 1 of its PID namespace; others in a container come from it, or from exec. */
const isFirstOfNamespace = (pid: number): boolean => {
  try {
    return /^NSpid:.*\t1$/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false; // it ended
  }
};

/** A command whose output a test waits for. */
export class Following {
  readonly #child: ChildProcess;
  readonly ended: Promise<number>;
  #text = "";
  #waiting: (() => void)[] = [];

  constructor(child: ChildProcess) {
    this.#child = child;
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding("utf8").on("data", (text: string) => {
        this.#text += text;
        for (const wake of this.#waiting.splice(0)) wake();
      });
    }
    this.ended = once(child, "close").then(([code]) => {
      for (const wake of this.#waiting.splice(0)) wake();
      return (code as number | null) ?? -1;
    });
  }

  get text(): string {
    return this.#text;
  }

  write(text: string): void {
    this.#child.stdin?.write(text);
  }

  /** Resolves when everything that was written so far matches. */
  async until(match: RegExp, timeoutMs = WAIT_MS): Promise<string> {
    const deadline = performance.now() + timeoutMs;
    while (!match.test(this.#text)) {
      const left = deadline - performance.now();
      if (left <= 0 || this.#child.exitCode !== null) throw new Error(`waited for ${String(match)}, but there was: ${this.#text}`);
      await new Promise<void>((wake) => {
        const timer = setTimeout(wake, left);
        this.#waiting.push(() => {
          clearTimeout(timer);
          wake();
        });
      });
    }
    return this.#text;
  }

  stop(): void {
    this.#child.kill("SIGKILL");
  }
}

/** What gantry says otherwise than kubectl. What comes after `--` is a container's. */
const gantryWords = (args: readonly string[]): readonly string[] => {
  const end = args.indexOf("--");
  const own = end < 0 ? args : args.slice(0, end);
  return [...own.filter((a) => !a.startsWith("--request-timeout")).map((a) => (a === "--wait=false" ? "--no-wait" : a)), ...(end < 0 ? [] : args.slice(end))];
};

export class Cluster implements AsyncDisposable {
  readonly layout: Layout;
  readonly nodes: readonly string[];
  readonly #options: ClusterOptions;
  readonly #env: NodeJS.ProcessEnv;
  readonly #ports: { readonly api: number; readonly agent: number };
  readonly #reaper: ChildProcess;
  #client: ApiClient | undefined;

  private constructor(root: string, options: ClusterOptions, ports: { readonly api: number; readonly agent: number }) {
    this.layout = layoutOf(root);
    this.#options = options;
    this.nodes = Array.from({ length: options.nodes ?? 3 }, (_, i) => `node-${i + 1}`);
    this.#ports = ports;
    const inherited = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("GANTRY_") && name !== "NODE_OPTIONS" && name !== "NODE_CHANNEL_FD"));
    this.#env = { ...inherited, PATH: `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin`, KUBECONFIG: this.layout.kubeconfig, KUBECACHEDIR: join(root, "kube-cache"), HOME: root };
    // Outlives this process, however it ends: its standard input ends with us, and then it takes down what is still up. What it takes down
    // stands in its environment and not in its arguments, where it would look like a part of the cluster.
    this.#reaper = spawn("/bin/sh", ["-c", 'cat >/dev/null; if [ -e "$ROOT" ]; then exec "$GANTRY" down --purge --state-dir "$ROOT"; fi'],
      { detached: true, stdio: ["pipe", "ignore", "ignore"], env: { ...this.#env, ROOT: root, GANTRY } });
    this.#reaper.unref();
    (this.#reaper.stdin as Socket).unref();
  }

  static async start(options: ClusterOptions = {}): Promise<Cluster> {
    const cluster = new Cluster(mkdtempSync(join(tmpdir(), "gantry-e2e-")), options, { api: await freePort(), agent: await freePort() });
    try {
      await cluster.up();
      if (options.image !== false && cluster.nodes.length > 0) await cluster.loadExampleImage();
      return cluster;
    } catch (error) {
      const logs = cluster.logs();
      await cluster.down().catch(() => undefined);
      throw new Error(`${describeError(error)}\n${logs}`, { cause: error });
    }
  }

  /** For an `up` that a test breaks off: it gets that command's arguments. */
  static async halfway(root: string, breakOff: (args: readonly string[]) => Promise<void>): Promise<Cluster> {
    const cluster = new Cluster(root, {}, { api: await freePort(), agent: await freePort() });
    await breakOff(cluster.#upArguments);
    return cluster;
  }

  get #upArguments(): readonly string[] {
    return ["up", "--no-example", "--nodes", String(this.nodes.length), "--state-dir", this.layout.root, "--api-port", String(this.#ports.api), "--agent-port", String(this.#ports.agent)];
  }

  /** Starts whatever of the cluster does not run, as a user would. */
  async up(): Promise<void> {
    const ran = await this.gantry(this.#upArguments, { timeoutMs: UP_TIMEOUT_MS, env: { ...this.#options.env } });
    if (ran.code !== 0) throw new Error(`gantry up: ${ran.err}${ran.out}`);
  }

  /** Takes everything away and says what stayed nevertheless. */
  async down(): Promise<readonly string[]> {
    this.#client?.[Symbol.dispose]();
    const ran = await this.gantry(["down", "--purge", "--state-dir", this.layout.root], { timeoutMs: UP_TIMEOUT_MS });
    const left = [...(ran.code === 0 ? [] : [`gantry down: ${ran.err}`]), ...leftovers(this.layout)];
    this.#reaper.stdin?.end();
    if (left.length === 0) rmSync(this.layout.root, { recursive: true, force: true });
    return left;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const left = await this.down();
    if (left.length > 0) throw new Error(`left on the machine:\n${left.join("\n")}`);
  }

  get client(): ApiClient {
    return (this.#client ??= new ApiClient(loadKubeconfig(this.layout.kubeconfig)));
  }

  get state(): ClusterState {
    return readState(this.layout)!;
  }

  /** "control-plane", "etcd", "node-1", ... Throws when it does not run. */
  pid(name: string): number {
    const found = name === "etcd" ? this.#etcdPid() : this.state.processes.find((p) => p.name === name && isRunning(p))?.pid;
    if (found === undefined) throw new Error(`${name} does not run\n${this.logs()}`);
    return found;
  }

  /** By its data and not by its parent: an etcd whose control plane was killed belongs to init. */
  #etcdPid(): number | undefined {
    return allProcesses().find((p) => p.commandLine.startsWith("etcd ") && p.commandLine.includes(`--data-dir=${this.layout.socketDir}/`))?.pid;
  }

  runs(name: string): boolean {
    return name === "etcd" ? this.#etcdPid() !== undefined : this.state.processes.some((p) => p.name === name && isRunning(p));
  }

  kill(name: string, signal: NodeJS.Signals): void {
    process.kill(this.pid(name), signal);
  }

  /** Resolves when the kernel is done with a daemon that was killed. */
  async gone(name: string): Promise<void> {
    await until(() => !this.runs(name), `${name} is dead`);
  }

  #numberOf(node: string): number {
    return this.nodes.indexOf(node) + 1;
  }

  /** The node's packets go nowhere until it is restored. */
  cut(node: string): void {
    cutHost(this.layout.bridge, this.#numberOf(node));
  }

  restore(node: string): void {
    restoreHost(this.layout.bridge, this.#numberOf(node));
  }

  gantry(args: Arguments, options: RunOptions = {}): Promise<Ran> {
    return runToEnd(GANTRY, listOf(args), this.#env, options);
  }

  /** The newest kubectl, or the version that is asked for; where this machine has no kubectl at all, `gantry`, which knows the same words. */
  kubectl(args: Arguments, options: RunOptions & { readonly version?: string } = {}): Promise<Ran> {
    const path = findKubectl(options.version ?? NEWEST_KUBECTL);
    if (path === undefined && options.version !== undefined) throw new Error(`no kubectl ${options.version} on this machine`);
    return runToEnd(path ?? GANTRY, path === undefined ? gantryWords(listOf(args)) : listOf(args), this.#env, options);
  }

  /** What it printed; throws when it fails. */
  async ok(args: Arguments, options: RunOptions & { readonly version?: string } = {}): Promise<string> {
    const ran = await this.kubectl(args, options);
    if (ran.code !== 0) throw new Error(`kubectl ${listOf(args).join(" ")} ended with ${ran.code}: ${ran.err}${ran.out}`);
    return ran.out;
  }

  /** What it complained of; throws when it succeeds. */
  async fails(args: Arguments, options: RunOptions & { readonly version?: string } = {}): Promise<string> {
    const ran = await this.kubectl(args, options);
    if (ran.code === 0) throw new Error(`kubectl ${listOf(args).join(" ")} should have failed: ${ran.out}`);
    return ran.err;
  }

  /** A kubectl that stays; it is ended with the test. */
  follow(t: ExecutionContext, args: Arguments, version?: string): Following {
    const path = findKubectl(version ?? NEWEST_KUBECTL);
    const following = new Following(spawn(path ?? GANTRY, path === undefined ? gantryWords(listOf(args)) : listOf(args), { env: this.#env, stdio: ["pipe", "pipe", "pipe"] }));
    t.teardown(() => following.stop());
    return following;
  }

  /** The same of gantry. */
  followGantry(t: ExecutionContext, args: Arguments): Following {
    const following = new Following(spawn(GANTRY, listOf(args), { env: this.#env, stdio: ["pipe", "pipe", "pipe"] }));
    t.teardown(() => following.stop());
    return following;
  }

  async loadExampleImage(): Promise<void> {
    const archive = join(this.layout.dataDir, "example-image.tar");
    if (!existsSync(archive)) await buildExampleImage(archive, { busyboxPath: "/bin/busybox" });
    const { nodes } = await loadImage(this.client, archive, { name: EXAMPLE_IMAGE, onProgress: () => undefined });
    if (nodes.length !== this.nodes.length) throw new Error(`the image was loaded on ${nodes.join(", ")} only`);
  }

  /** A namespace that goes with the test. */
  async namespace(t: ExecutionContext, name: string): Promise<string> {
    await this.client.json("POST", "/api/v1/namespaces", { body: { apiVersion: "v1", kind: "Namespace", metadata: { name } } });
    t.teardown(() => this.kubectl(["delete", "namespace", name, "--wait=false"]).then(() => undefined));
    return name;
  }

  async create<T extends KubeObject>(type: ResourceType<T>, namespace: string, object: object): Promise<T> {
    return this.client.json<T>("POST", this.client.pathOf(type, namespace), { body: { apiVersion: type.apiVersion, kind: type.kind, ...object } });
  }

  /** Resolves with the objects as soon as `isSo` holds for them: listed, then watched, also across a control plane that is down. */
  async until<T extends KubeObject>(type: ResourceType<T>, namespace: string | undefined, isSo: (items: readonly T[]) => boolean, options: { readonly timeoutMs?: number; readonly selector?: string } = {}): Promise<readonly T[]> {
    const end = AbortSignal.timeout(options.timeoutMs ?? WAIT_MS);
    const query = options.selector === undefined ? {} : { labelSelector: options.selector };
    const seen = new Map<string, T>();
    let last: unknown;
    while (!end.aborted) {
      try {
        const { items, metadata } = await this.client.list(type, namespace, query);
        seen.clear();
        for (const item of items) seen.set(item.metadata.uid!, item);
        if (isSo([...seen.values()])) return [...seen.values()];
        for await (const event of this.client.watch<T>(this.client.pathOf(type, namespace), { ...query, resourceVersion: metadata.resourceVersion }, end)) {
          if (event.type === "ERROR") break;
          if (event.type === "DELETED") seen.delete(event.object.metadata.uid!);
          else if (event.type !== "BOOKMARK") seen.set(event.object.metadata.uid!, event.object);
          if (isSo([...seen.values()])) return [...seen.values()];
        }
      } catch (error) {
        last = error;
        await new Promise((wake) => setTimeout(wake, 100));
      }
    }
    const state = [...seen.values()].slice(0, 5).map((o) => `${o.metadata.name}: ${JSON.stringify((o as { status?: unknown }).status)?.slice(0, 1000)}`).join("\n");
    throw new Error(`waited ${options.timeoutMs ?? WAIT_MS} ms in vain for ${String(isSo)}\n${seen.size} ${type.plural}:\n${state}\n${last === undefined ? "" : `last error: ${describeError(last)}\n`}${this.logs()}`);
  }

  /** The containers of this cluster that run, read from the kernel and not from any daemon. */
  containers(): readonly ContainerProcess[] {
    const path = new RegExp(`/gantry-${this.layout.id}/(node-\\d+)/.*/pod([0-9a-f-]{36})/([^/\\n]+)`);
    return allProcesses().flatMap(({ pid, commandLine, cgroups }) => {
      const [, node, podUid, containerId] = path.exec(cgroups) ?? [];
      return node === undefined || !isFirstOfNamespace(pid) ? [] : [{ node, podUid: podUid!, containerId: containerId!, pid, commandLine }];
    });
  }

  /** Container ids of the conmon processes, by which a container without a living process shows too. */
  conmons(): readonly { readonly containerId: string; readonly pid: number }[] {
    return allProcesses().flatMap(({ pid, commandLine }) => {
      const id = /^\S*conmon .*?-c (\S+) /.exec(commandLine)?.[1];
      return id !== undefined && (commandLine.includes(`${this.layout.socketDir}/`) || commandLine.includes(`${this.layout.root}/`)) ? [{ containerId: id, pid }] : [];
    });
  }

  /** Ends of the daemons' logs, for a failed test. */
  logs(lines = 5): string {
    const shortened = (name: string): string => tail(join(this.layout.logDir, `${name}.log`), lines).replaceAll(/(?<=^.{300}).+$/gm, "...");
    return ["control-plane", ...this.nodes].map((name) => `--- ${name}\n${shortened(name)}`).join("\n");
  }

  logText(name: string): string {
    return readFileSync(join(this.layout.logDir, `${name}.log`), "utf8");
  }
}

/** A cluster for all tests of a file, gone after them; the file fails when something of it stays. */
export const useCluster = (test: TestFn, options: ClusterOptions = {}): (() => Cluster) => {
  let cluster: Cluster | undefined;
  test.serial.before("a cluster comes up", async (t) => {
    t.timeout(2 * UP_TIMEOUT_MS);
    cluster = await Cluster.start(options);
  });
  test.afterEach.always((t) => {
    if (!t.passed && cluster) t.log(cluster.logs());
  });
  test.serial.after.always("and leaves nothing behind", async (t) => {
    t.timeout(UP_TIMEOUT_MS);
    if (cluster) t.deepEqual(await cluster.down(), []);
  });
  return () => {
    if (!cluster) throw new Error("the cluster did not come up");
    return cluster;
  };
};
