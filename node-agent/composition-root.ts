// Wires the node agent together, in the order in which its parts depend on each other; everything is closed in reverse order. Nothing
// else in node-agent/ constructs a part. Closing stops no container.
import { createSocket } from "node:dgram";
import { mkdirSync, readFileSync } from "node:fs";
import { statfs } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { parse as parseYaml } from "yaml";
import { backoffDelayMs, defaultBackoff } from "../base/backoff.ts";
import type { Clock } from "../base/clock.ts";
import { GantryError, isCode } from "../base/errors.ts";
import { hugePagesResource } from "../base/kube/huge-pages.ts";
import { toMilli, toUnits } from "../base/kube/quantity.ts";
import type { Logger } from "../base/logger.ts";
import type { Metrics } from "../base/metrics.ts";
import type { NodeDescription, Resources, Taint } from "../proto/gen/gantry/v1/agent.ts";
import { Builder } from "./build/builder.ts";
import { CgroupTree } from "./cgroups/cgroup-tree.ts";
import { readCgroupLayout } from "./cgroups/detect.ts";
import { prepareHybridHost } from "./cgroups/hybrid.ts";
import { startHealthServer } from "./health-server.ts";
import { allocatableOf } from "./eviction/allocatable.ts";
import { EvictionManager } from "./eviction/eviction-manager.ts";
import { parseAmount, parsePairs, parseThresholds, type Threshold } from "./eviction/thresholds.ts";
import { ImageCollector } from "./images/image-collector.ts";
import { LinuxImageService } from "./images/linux-image-service.ts";
import { parseRegistryConfig, type RegistryConfig, type RegistrySettings } from "./images/registry-config.ts";
import { detectPlatform } from "./images/platform.ts";
import { PLAIN_PINS, Pins, type PinsOfPods } from "./linux/pins.ts";
import { goFirst } from "./linux/scheduling.ts";
import { readHostFacts, readHugePages, type HostFacts } from "./linux/host-facts.ts";
import { LocalState } from "./local-state.ts";
import { LinuxPodNetwork } from "./network/linux-pod-network.ts";
import type { PodNetwork } from "./network/pod-network.ts";
import { HYBRID_MOUNTS_RECORD, type NodeAgentOptions } from "./options.ts";
import { createPeerServer } from "./peers/peer-server.ts";
import { Peers } from "./peers/peers.ts";
import { createPodService } from "./pods/local-pod-service.ts";
import { parseIdRange } from "./pods/user-ids.ts";
import { openUserNamespaces } from "./pods/user-namespaces.ts";
import { ConmonRuntime } from "./runtime/conmon-runtime.ts";
import { credentialFiles, type CredentialStore, type NodeCredentials } from "./session/credentials.ts";
import { readHost } from "./runtime/host.ts";
import { openOciRuntime } from "./runtime/oci-runtime.ts";
import { ensureCredentials, parseTarget } from "./session/join.ts";
import { createSession } from "./session/session.ts";
import { exposition } from "./stats/exposition.ts";
import { observeNode } from "./stats/node-usage.ts";
import { StatsCollector } from "./stats/stats-collector.ts";
import { VolumeService } from "./volumes/volume-service.ts";

export interface NodeAgentParts {
  readonly options: NodeAgentOptions;
  readonly clock: Clock;
  readonly random: () => number;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly version: string;
}

export const startNodeAgent = async (parts: NodeAgentParts, stack: AsyncDisposableStack, signal: AbortSignal): Promise<void> => {
  const { options, clock, random, metrics } = parts;
  const nodeName = options.nodeName || hostname().toLowerCase();
  const logger = parts.logger.child({ node: nodeName });
  for (const dir of [options.dataDir, options.runDir]) mkdirSync(dir, { recursive: true, mode: 0o711 });
  const credentials = credentialFiles(join(options.dataDir, "pki"));
  await joinCluster(parts, nodeName, credentials, logger, signal);
  const nodeAddress = options.nodeAddress || (await addressTowards(options.controlPlanes[0]!));

  if (!(await goFirst())) logger.info("without the right to a higher priority (CAP_SYS_NICE) this agent waits for processors like any other process");
  const cgroups = openCgroups(options, clock, logger);
  const thresholds = parseThresholds({ hard: options.evictionHard, soft: options.evictionSoft, softGrace: options.evictionSoftGracePeriod });
  const facts = readHostFacts(options.dataDir);
  const description = describeNode(parts, nodeName, nodeAddress, cgroups, facts);
  const amounts = (): NodeAmounts => amountsOf(options, facts, readHugePages(), thresholds);
  const runtime = await ConmonRuntime.open({
    root: options.dataDir, runRoot: options.runDir, ociRuntime: options.runtime, handlers: Object.fromEntries(options.runtimeHandlers.map((h) => keyValue("--runtime-handlers", h))), conmon: options.conmon, cgroups, clock, logger, metrics,
  });
  stack.defer(() => runtime.close());
  const state = stack.use(LocalState.open(join(options.dataDir, "state.db"), logger));
  const imageRoot = join(options.dataDir, "images");
  const peers = stack.use(new Peers({ nodeName, credentials: () => credentials.load()!, hasBlob: (digest) => images.hasBlob(digest), clock, logger, metrics }));
  const images: LinuxImageService = await LinuxImageService.open({
    root: imageRoot, clock, random, logger, metrics, registries: registriesOf(options), peers,
    limits: { maxBytes: toUnits(options.imageMaxBytes), maxEntries: options.imageMaxEntries, maxRatio: options.imageMaxRatio },
  });
  stack.defer(() => images.close());
  const network = new LinuxPodNetwork({ bridgeName: options.bridge, addresses: state.addresses, nodeAddress, clock, logger, metrics });
  stack.defer(() => network.close());
  const volumes = new VolumeService({ root: join(options.dataDir, "pods"), localRoot: join(options.dataDir, "volumes") });
  const userNamespaces = openUserNamespaces({ directory: join(options.dataDir, "user-namespaces"), runRoot: options.runDir, range: parseIdRange(options.userNamespaceIds), arch: process.arch });
  if (!userNamespaces.isSupported) logger.warn("pods with hostUsers: false can't run here", { reason: userNamespaces.reason });
  const namespaces = stack.use(openPins(options.runDir, logger));
  const pods = createPodService({
    state, runtime, images, namespaces, userNamespaces, makeImage: (work) => images.make(work), network, volumes, cgroups, clock, random, logger, metrics,
    options: { runRoot: options.runDir, logRoot: join(options.dataDir, "logs"), nodeMemoryBytes: facts.memoryBytes, allocatable: () => amounts().allocatable, defaultPidsLimit: options.podPidsLimit, singleProcessOomKill: options.singleProcessOomKill, allowedSysctls: options.allowedUnsafeSysctls, maxLogBytes: toUnits(options.containerLogMaxSize), maxLogFiles: options.containerLogMaxFiles, hostIp: () => nodeAddress },
  });
  stack.defer(() => pods.close());
  await pods.recover();

  const paths = { nodefs: options.dataDir, imagefs: join(options.dataDir, "images") };
  const stats = new StatsCollector({
    running: () => pods.running(), cgroups, clock,
    paths: { layer: (id) => join(options.dataDir, "containers", id, "upper"), volume: (uid, name) => join(options.dataDir, "pods", uid, "volumes", name), ...paths },
  });
  // Before anything is collected: the build cache says what it needs.
  const builder = await Builder.open({
    root: join(options.dataDir, "build"), runRoot: join(options.runDir, "build"), images, platform: detectPlatform(), pidsLimit: options.podPidsLimit, clock, logger, metrics, cgroups,
    oci: await openOciRuntime(options.runtime, join(options.runDir, "oci-build")), host: readHost(cgroups, join(options.dataDir, "seccomp")),
  });
  const collector = new ImageCollector({
    images, inUse: () => pods.imagesInUse(), disk: () => diskOf(imageRoot), stateFile: join(options.dataDir, "images-last-used.json"), clock, logger, metrics, periodMs: options.imageGcPeriod, minAgeMs: options.imageGcMinAge,
    maxAgeMs: options.imageGcMaxAge, highPercent: options.imageGcHigh, lowPercent: Math.min(options.imageGcLow, options.imageGcHigh),
  });
  collector.start();
  stack.defer(() => collector.close());
  const peerServer = createPeerServer({ credentials: credentials.load()!, blobs: images, sourceFor: (...args) => peers.sourceFor(...args), logger, metrics });
  if (options.peerPort > 0) {
    await peerServer.listen(nodeAddress, options.peerPort);
    stack.defer(() => peerServer.close());
  }
  const eviction = stack.use(new EvictionManager({
    pods, stats, observe: () => observeNode(paths), collectImages: () => images.collectGarbage(pods.imagesInUse()), thresholds, clock, logger, metrics,
    minimumReclaim: new Map([...parsePairs("--eviction-minimum-reclaim", options.evictionMinimumReclaim)].map(([signal, text]) => [signal, parseAmount("--eviction-minimum-reclaim", text)])),
    transitionMs: options.evictionPressureTransitionPeriod, maxGraceMs: options.evictionMaxPodGracePeriod, periodMs: options.evictionMonitoringPeriod,
  }));
  eviction.start();
  const session = createSession({
    controlPlanes: options.controlPlanes, credentials: renewing(credentials, (next) => peerServer.updateCredentials(next)), describe: () => ({ ...description, ...amounts(), runtimeVersion: runtime.version, runtimeHandlers: runtime.handlers().map(({ name, joinsUserNamespaces }) => ({ name, userNamespaces: userNamespaces.isSupported && joinsUserNamespaces })) }), pods, stats, conditions: () => eviction.conditions(), images, builder, volumes, network: tellingPeers(network, peers), clock, random, logger, metrics,
    imageDirectories: { containers: join(options.dataDir, "containers"), volumes: join(options.dataDir, "volumes"), builds: join(options.dataDir, "build") },
  });
  stack.defer(() => session.close());
  session.start();
  if (options.metricsAddress !== "") {
    const containers = async (): Promise<string> => exposition(await stats.counters());
    const health = await startHealthServer({ address: options.metricsAddress, metrics, containers, problems: () => [...(session.connected ? [] : ["no session with the control plane"]), ...network.problems] });
    stack.defer(() => void health.close());
  }
  await Promise.race([session.opened(), clock.sleep(2000)]);
  logger.info("running", { controlPlanes: options.controlPlanes.join(","), address: nodeAddress, runtime: runtime.version, cgroups: cgroups.describe().version, version: parts.version });
};

const openPins = (runDir: string, logger: Logger): PinsOfPods & Disposable => {
  try {
    return Pins.open(runDir);
  } catch (error) {
    if (Pins.areAt(runDir)) throw error; // pods have theirs there
    logger.warn("namespaces of pods are pinned in this machine's mount namespace: the more there are, the longer each container takes to start", { err: error });
    return { ...PLAIN_PINS, [Symbol.dispose]: () => undefined };
  }
};

/** Other nodes are asked for image blobs where their routes say that they are. */
const tellingPeers = (network: LinuxPodNetwork, peers: Peers): PodNetwork => ({
  attach: (...args) => network.attach(...args), detach: (...args) => network.detach(...args), reconcile: (...args) => network.reconcile(...args), destroy: () => network.destroy(),
  publish: (...args) => network.publish(...args), withdraw: (...args) => network.withdraw(...args), restorePublished: (...args) => network.restorePublished(...args),
  configure: (cluster) => {
    peers.setPeers(cluster.routes.map((route) => ({ nodeName: route.nodeName, address: route.via, port: route.peerPort })));
    return network.configure(cluster);
  },
});

const renewing = (store: CredentialStore, renewed: (credentials: NodeCredentials) => void): CredentialStore => ({
  load: () => store.load(),
  save: (credentials) => {
    store.save(credentials);
    renewed(credentials);
  },
});

const diskOf = async (path: string): Promise<{ readonly capacityBytes: number; readonly availableBytes: number }> => {
  const { blocks, bavail, bsize } = await statfs(path);
  return { capacityBytes: blocks * bsize, availableBytes: bavail * bsize };
};

/** A control plane that isn't there yet is waited for; a bad token or name ends the agent. */
const joinCluster = async ({ options, clock, random }: NodeAgentParts, nodeName: string, credentials: ReturnType<typeof credentialFiles>, logger: Logger, signal: AbortSignal): Promise<void> => {
  for (let failures = 1; ; failures++) {
    try {
      await ensureCredentials({ token: options.joinToken, controlPlanes: options.controlPlanes, nodeName, credentials, clock, logger, signal });
      return;
    } catch (error) {
      if (!isCode(error, "ServiceUnavailable", "Timeout")) throw error;
      await clock.sleep(backoffDelayMs(defaultBackoff, failures, random), signal);
    }
  }
};

const openCgroups = (options: NodeAgentOptions, clock: Clock, logger: Logger): CgroupTree => {
  const layout = readCgroupLayout();
  const mounted = prepareHybridHost(layout, HYBRID_MOUNTS_RECORD);
  if (mounted.length > 0) logger.info("mounted the controllers that were left on the cgroup v2 tree as v1, for crun's sake", { mounts: mounted.join(",") });
  const cgroups = new CgroupTree({ layout: mounted.length > 0 ? readCgroupLayout() : layout, root: options.cgroupRoot, clock, logger });
  cgroups.prepare();
  const { version, controllers, notes } = cgroups.describe();
  logger.info("control groups", { version, controllers: controllers.join(","), notes: notes.join("; ") });
  return cgroups;
};

/** The address from which this machine reaches the control plane. Connecting a UDP socket sends nothing. */
const addressTowards = (target: string): Promise<string> => {
  const { host, port } = parseTarget(target);
  return new Promise((resolve, reject) => {
    const socket = createSocket(host.includes(":") ? "udp6" : "udp4");
    socket.once("error", (cause) => reject(new GantryError("FailedPrecondition", `this machine has no route to the control plane ${target}; give --node-address`, { cause })));
    socket.connect(port, host, () => {
      resolve(socket.address().address);
      socket.close();
    });
  });
};

type NodeAmounts = { readonly capacity: Resources; readonly allocatable: Resources };

const amountsOf = (options: NodeAgentOptions, facts: HostFacts, hugePages: ReadonlyMap<number, number>, thresholds: readonly Threshold[]): NodeAmounts => {
  const capacity: Resources = {
    milliCpu: facts.milliCpu, memoryBytes: facts.memoryBytes, ephemeralStorageBytes: facts.diskBytes, pods: options.maxPods,
    extended: Object.fromEntries([...hugePages].map(([pageBytes, bytes]) => [hugePagesResource(pageBytes), bytes])),
  };
  return { capacity, allocatable: allocatableOf(capacity, { milliCpu: toMilli(options.reservedCpu), memoryBytes: toUnits(options.reservedMemory), storageBytes: toUnits(options.reservedStorage) }, thresholds) };
};

/** Without what can change while the agent runs. */
const describeNode = ({ options, version }: NodeAgentParts, nodeName: string, nodeAddress: string, cgroups: CgroupTree, facts: HostFacts): NodeDescription => ({
  hostname: nodeName, addresses: [nodeAddress], machineId: facts.machineId, bootId: facts.bootId, kernelVersion: facts.kernelVersion, osImage: facts.osImage, architecture: facts.architecture,
  agentVersion: version, runtimeVersion: "", capacity: undefined, allocatable: undefined,
  labels: Object.fromEntries(options.labels.map((l) => keyValue("--labels", l))), taints: options.taints.map(parseTaint), cgroupNotes: [cgroups.describe().version, ...cgroups.describe().notes], images: [], peerPort: options.peerPort, runtimeHandlers: [],
});

const keyValue = (flag: string, text: string): readonly [string, string] => {
  const equals = text.indexOf("=");
  if (equals < 1) throw new GantryError("BadRequest", `${flag}: ${JSON.stringify(text)} is not KEY=VALUE`);
  return [text.slice(0, equals), text.slice(equals + 1)];
};

const parseTaint = (text: string): Taint => {
  const match = /^([^=:]+)(?:=([^:]*))?:(NoSchedule|PreferNoSchedule|NoExecute)$/.exec(text);
  if (!match) throw new GantryError("BadRequest", `--taints: ${JSON.stringify(text)} is not KEY=VALUE:EFFECT with the effect NoSchedule, PreferNoSchedule or NoExecute`);
  return { key: match[1]!, value: match[2] ?? "", effect: match[3]! };
};

/** The file of --registry-config, and what the flags add to it. */
const registriesOf = (options: NodeAgentOptions): RegistryConfig => {
  const readFile = (path: string): string => readFileSync(path, "utf8");
  let file: RegistryConfig = {};
  if (options.registryConfig !== "") {
    try {
      file = parseRegistryConfig(parseYaml(readFile(options.registryConfig)) ?? {}, "registries", readFile);
    } catch (cause) {
      throw new GantryError("Invalid", `--registry-config ${options.registryConfig} can't be used`, { cause });
    }
  }
  const settings: Record<string, RegistrySettings> = { ...file };
  for (const registry of options.insecureRegistries) settings[registry] = { ...settings[registry], insecure: true };
  for (const [registry, caFile] of options.registryCas.map((c) => keyValue("--registry-cas", c))) settings[registry] = { ...settings[registry], caFile };
  for (const [registry, mirror] of options.registryMirrors.map((m) => keyValue("--registry-mirrors", m))) {
    settings[registry] = { ...settings[registry], mirrors: [...(settings[registry]?.mirrors ?? []), mirror] };
  }
  return parseRegistryConfig(settings, "--registry-mirrors, --registry-cas, --insecure-registries", readFile);
};
