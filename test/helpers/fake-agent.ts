// A node without containers: the real session of the agent over real gRPC, on pods that only say that they run. For tests and
// benches of the control plane. Also starts a dispatcher with a CA of its own.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { SystemClock } from "../../base/clock.ts";
import { GantryError } from "../../base/errors.ts";
import { silentLogger } from "../../base/logger.ts";
import type { Logger } from "../../base/logger.ts";
import { Metrics } from "../../base/metrics.ts";
import { createAuthority, issue } from "../../base/tls/authority.ts";
import type { Authority } from "../../base/tls/authority.ts";
import { CONTROL_PLANE_SERVER_NAME, NODE_GROUP, nodeCommonName } from "../../base/tls/node-identity.ts";
import { createDispatcher } from "../../control-plane/dispatcher/dispatcher.ts";
import type { Dispatcher, DispatcherOptions } from "../../control-plane/dispatcher/dispatcher.ts";
import type { ServerMaterial } from "../../control-plane/dispatcher/listener.ts";
import { MemoryStore } from "../../control-plane/state/memory-store.ts";
import { createWatchCache } from "../../control-plane/state/watch-cache.ts";
import type { ImageService } from "../../node-agent/images/image-service.ts";
import type { PodNetwork } from "../../node-agent/network/pod-network.ts";
import type { Assignment } from "../../node-agent/pods/assignment.ts";
import type { PodService, RunningPod } from "../../node-agent/pods/pod-service.ts";
import { newCredentials } from "../../node-agent/session/credentials.ts";
import type { CredentialStore, NodeCredentials } from "../../node-agent/session/credentials.ts";
import { createSession } from "../../node-agent/session/session.ts";
import type { AgentSession } from "../../node-agent/session/session.ts";
import type { ClusterNetwork, ContainerState, NodeDescription, PodStatus, StreamFrame } from "../../proto/gen/gantry/v1/agent.ts";

const DAY_MS = 86_400_000;

/** Polls a condition of the outside world; fails with `what` after `timeoutMs`. */
export const eventually = async (condition: () => boolean | Promise<boolean>, what: string, timeoutMs = 60_000): Promise<void> => {
  const deadline = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${what}`);
    await wait(5);
  }
};

export const serverMaterial = async (authority: Authority, validForMs = DAY_MS): Promise<ServerMaterial> => {
  const pair = await issue(authority, { commonName: "gantry-control-plane", dnsNames: [CONTROL_PLANE_SERVER_NAME], usage: "server", validForMs, clock: new SystemClock() });
  return { certificatePem: pair.certificatePem + authority.certificatePem, privateKeyPem: pair.privateKeyPem, caPem: authority.certificatePem };
};

/** Credentials as if the node had joined. */
export const nodeCredentials = async (authority: Authority, nodeName: string, validForMs = DAY_MS): Promise<NodeCredentials> => {
  const pair = await issue(authority, { commonName: nodeCommonName(nodeName), organizations: [NODE_GROUP], usage: "client", validForMs, clock: new SystemClock() });
  return newCredentials(authority.certificatePem, pair.certificatePem, pair.privateKeyPem);
};

export interface TestDispatcher {
  readonly dispatcher: Dispatcher;
  readonly store: MemoryStore;
  readonly cache: ReturnType<typeof createWatchCache>;
  readonly authority: Authority;
  readonly metrics: Metrics;
  readonly target: string;
  close(): Promise<void>;
}

export const startTestDispatcher = async (options: Partial<DispatcherOptions> & { readonly port?: number; readonly store?: MemoryStore } = {}): Promise<TestDispatcher> => {
  const clock = options.clock ?? new SystemClock();
  const metrics = options.metrics ?? new Metrics();
  const store = options.store ?? new MemoryStore();
  const cache = createWatchCache({ store, clock, logger: silentLogger });
  await cache.start();
  const authority = options.authority ?? (await createAuthority("test-ca", clock));
  const tls = options.tls ?? (await serverMaterial(authority));
  const dispatcher = createDispatcher({ random: Math.random, logger: silentLogger, ...options, store, cache, clock, metrics, authority, tls });
  await dispatcher.listen("127.0.0.1", options.port ?? 0);
  return {
    dispatcher, store, cache, authority, metrics, target: `127.0.0.1:${dispatcher.port}`,
    async close() {
      await dispatcher.close();
      cache.close();
    },
  };
};

const echo = async (input: AsyncIterable<StreamFrame>, output: (frame: StreamFrame) => Promise<void>): Promise<void> => {
  for await (const { frame } of input) {
    if (frame?.$case === "stdinClosed") return;
    if (frame?.$case === "stdin") await output({ frame: { $case: "stdout", value: frame.value } });
    if (frame?.$case === "resize") await output({ frame: { $case: "stdout", value: Buffer.from(`${frame.value.width}x${frame.value.height}`) } });
  }
};

/** "Runs" what it is told at once: a pod is Running a turn after it was assigned and gone a turn after it was deleted. */
export class FakePods implements PodService {
  readonly assignments = new Map<string, Assignment>();
  readonly #statuses = new Map<string, PodStatus>();
  readonly #handlers = new Set<(status: PodStatus) => void>();
  readonly #podIp: (assignment: Assignment) => string;
  /** How often a whole desired state came. */
  completeSets = 0;
  /** Log lines by pod uid and container name, for `logs`. */
  readonly logLines = new Map<string, readonly string[]>();

  /** Attach and port-forward echo; signals are kept. */
  readonly signals: number[] = [];
  readonly commands: PodService["commands"] = {
    attach: (_, input, output) => echo(input, output),
    portForward: ({ port }, input, output) => (port === 1 ? Promise.reject(new GantryError("ServiceUnavailable", "nobody listens on port 1 in the pod")) : echo(input, output)),
    kill: async ({ signal }) => void this.signals.push(signal),
    top: () => ({ processes: [] }),
    readArchive: async ({ path }, output) => output({ frame: { $case: "stdout", value: Buffer.from(JSON.stringify({ name: path, size: 0, mode: 0o644, isDirectory: false, mtimeMs: 0, linkTarget: "" })) } }),
    writeArchive: async (_, input) => { for await (const { frame } of input) if (frame?.$case === "stdinClosed") return; },
    diff: () => Promise.resolve([]),
    commit: ({ reference }) => Promise.resolve(["sha256:00", reference]),
  };

  constructor(podIp: (assignment: Assignment) => string = () => "10.64.0.2") {
    this.#podIp = podIp;
  }

  async recover(): Promise<void> {}

  setAll(assignments: readonly Assignment[]): void {
    this.completeSets++;
    const wanted = new Set(assignments.map((a) => a.uid));
    for (const uid of this.assignments.keys()) if (!wanted.has(uid)) this.remove(uid);
    for (const assignment of assignments) this.upsert(assignment);
  }

  upsert(assignment: Assignment): void {
    const known = this.assignments.has(assignment.uid);
    this.assignments.set(assignment.uid, assignment);
    if (known && !assignment.deletion) return;
    setImmediate(() => this.report(assignment.uid, assignment.deletion ? { gone: true, phase: "Succeeded" } : {}));
  }

  remove(uid: string): void {
    this.assignments.delete(uid);
    this.#statuses.delete(uid);
  }

  statuses(): readonly PodStatus[] {
    return [...this.#statuses.values()];
  }

  onStatus(handler: (status: PodStatus) => void): Disposable {
    this.#handlers.add(handler);
    return { [Symbol.dispose]: () => void this.#handlers.delete(handler) };
  }

  /** Reports the pod as running and ready, but for what `change` says. */
  report(uid: string, change: Partial<PodStatus> = {}): void {
    const assignment = this.assignments.get(uid);
    if (!assignment) return;
    const nowMs = Date.now();
    const state: ContainerState = { state: { $case: "running", value: { startedAtMs: nowMs } } };
    const status: PodStatus = {
      uid, namespace: assignment.namespace, name: assignment.name, generation: (this.#statuses.get(uid)?.generation ?? 0) + 1,
      phase: "Running", reason: "", message: "", podIps: [this.#podIp(assignment)], hostIp: "127.0.0.1", startTimeMs: nowMs, initContainers: [],
      containers: assignment.containers.map((c) => ({
        name: c.name, containerId: `fake://${uid}-${c.name}`, image: c.image, imageId: "sha256:0", ready: true, started: true, restartCount: 0, state, lastState: undefined, allocated: undefined, actualRequests: undefined, actualLimits: undefined,
      })),
      ephemeralContainers: [], gone: false, initialized: true, staged: false, stagesMs: { accepted: nowMs, started: nowMs }, resize: undefined, discarded: [], incidents: [], ...change,
    };
    this.#statuses.set(uid, status);
    for (const handler of this.#handlers) handler(status);
  }

  async *logs(...[request, signal]: Parameters<PodService["logs"]>): ReturnType<PodService["logs"]> {
    const lines = this.logLines.get(`${request.podUid}/${request.container}`);
    if (!lines) throw new GantryError("NotFound", `container ${request.container} of pod ${request.podUid} has no logs here`);
    for (const line of lines) yield { frame: { $case: "stdout", value: Buffer.from(line) } };
    if (request.follow) await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true }));
  }

  /** Echoes stdin to stdout; the exit code is how many bytes came, modulo 256. Without stdin: prints the command. */
  async exec(...[request, input, output]: Parameters<PodService["exec"]>): ReturnType<PodService["exec"]> {
    if (!this.assignments.has(request.podUid)) throw new GantryError("NotFound", `no pod ${request.podUid} on this node`);
    if (!request.stdin) await output({ frame: { $case: "stdout", value: Buffer.from(request.command.join(" ")) } });
    let bytes = 0;
    if (request.stdin) {
      for await (const { frame } of input) {
        if (frame?.$case === "stdinClosed") break;
        if (frame?.$case !== "stdin") continue;
        bytes += frame.value.length;
        await output({ frame: { $case: "stdout", value: frame.value } });
      }
    }
    return { exitCode: bytes % 256 };
  }

  running(): readonly RunningPod[] {
    return [];
  }

  evict(): boolean {
    return false;
  }

  imagesInUse(): ReadonlySet<string> {
    return new Set();
  }

  imageUsers(): readonly [] {
    return [];
  }

  async close(): Promise<void> {}
}

/** Counts what is loaded; holds nothing. */
export class FakeImages implements Pick<ImageService, "list" | "load"> {
  readonly loaded: { readonly name: string; readonly sizeBytes: number }[] = [];

  list(): ReturnType<ImageService["list"]> {
    return this.loaded.map(({ name, sizeBytes }) => ({
      id: `sha256:${name}`, manifestDigest: "", names: [name], sizeBytes, architecture: "amd64", createdMs: 0, manifestBytes: 0, mediaType: "", layers: [], layerDirs: [],
      config: { entrypoint: [], cmd: [], env: [], workingDir: "", user: "", stopSignal: "", volumes: [], labels: {}, exposedPorts: [] },
    }));
  }

  async load(archive: AsyncIterable<Uint8Array>, fallbackName = "archive"): Promise<readonly string[]> {
    let sizeBytes = 0;
    for await (const chunk of archive) sizeBytes += chunk.length;
    this.loaded.push({ name: fallbackName, sizeBytes });
    return [fallbackName];
  }
}

export interface FakeAgentOptions {
  readonly target: string | readonly string[];
  readonly nodeName: string;
  readonly credentials: CredentialStore;
  readonly description?: Partial<NodeDescription>;
  readonly pods?: FakePods;
  readonly logger?: Logger;
}

export interface FakeAgent {
  readonly session: AgentSession;
  readonly pods: FakePods;
  readonly images: FakeImages;
  /** The newest configuration of its network. */
  readonly networks: ClusterNetwork[];
  readonly metrics: Metrics;
  close(): Promise<void>;
}

export const describeFakeNode = (nodeName: string, change: Partial<NodeDescription> = {}): NodeDescription => {
  const resources = { milliCpu: 4000, memoryBytes: 8 * 2 ** 30, ephemeralStorageBytes: 2 ** 34, pods: 250, extended: {} };
  return {
    hostname: nodeName, addresses: ["127.0.0.1"], machineId: nodeName, bootId: "boot", kernelVersion: "6.18", osImage: "Fake", architecture: "amd64", agentVersion: "v0.1.0",
    runtimeVersion: "fake://1.0.0", capacity: resources, allocatable: resources, labels: {}, taints: [], cgroupNotes: ["none"], images: [], peerPort: 0, runtimeHandlers: [], ...change,
  };
};

export const memoryCredentials = (initial: NodeCredentials | undefined): CredentialStore => {
  let current = initial;
  return { load: () => current, save: (next) => void (current = next) };
};

export const startFakeAgent = ({ target, nodeName, credentials, description, pods = new FakePods(), logger = silentLogger }: FakeAgentOptions): FakeAgent => {
  const [images, metrics, networks] = [new FakeImages(), new Metrics(), [] as ClusterNetwork[]];
  const network = { configure: async (next: ClusterNetwork) => void networks.push(next) } as Partial<PodNetwork> as PodNetwork;
  const session = createSession({
    controlPlanes: [target].flat(), credentials, describe: () => describeFakeNode(nodeName, description), pods, images: images as Partial<ImageService> as ImageService, network, volumes: { removeLocal: async () => undefined }, imageDirectories: { containers: "", volumes: "", builds: "" },
    clock: new SystemClock(), random: Math.random, logger, metrics,
  });
  session.start();
  return { session, pods, images, networks, metrics, close: () => session.close() };
};

export const temporaryDir = (teardown: (fn: () => void) => void): string => {
  const dir = mkdtempSync(join(tmpdir(), "gantry-test-"));
  teardown(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
};
