// Wires the node agent together, in the order in which its parts depend on each other; everything is closed in reverse order. Nothing
// else in node-agent/ constructs a part. Closing stops no container.
import { createSocket } from "node:dgram";
import { mkdirSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { backoffDelayMs, defaultBackoff } from "../base/backoff.ts";
import type { Clock } from "../base/clock.ts";
import { GantryError, isCode } from "../base/errors.ts";
import { toMilli, toUnits } from "../base/kube/quantity.ts";
import type { Logger } from "../base/logger.ts";
import type { Metrics } from "../base/metrics.ts";
import type { NodeDescription, Resources, Taint } from "../proto/gen/gantry/v1/agent.ts";
import { CgroupTree } from "./cgroups/cgroup-tree.ts";
import { readCgroupLayout } from "./cgroups/detect.ts";
import { prepareHybridHost } from "./cgroups/hybrid.ts";
import { startHealthServer } from "./health-server.ts";
import { LinuxImageService } from "./images/linux-image-service.ts";
import { parseRegistryConfig, type RegistryConfig } from "./images/registry-config.ts";
import { readHostFacts } from "./linux/host-facts.ts";
import { LocalState } from "./local-state.ts";
import { LinuxPodNetwork } from "./network/linux-pod-network.ts";
import { HYBRID_MOUNTS_RECORD, type NodeAgentOptions } from "./options.ts";
import { createPodService } from "./pods/local-pod-service.ts";
import { ConmonRuntime } from "./runtime/conmon-runtime.ts";
import { credentialFiles } from "./session/credentials.ts";
import { ensureCredentials, parseTarget } from "./session/join.ts";
import { createSession } from "./session/session.ts";
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

  const cgroups = openCgroups(options, clock, logger);
  const description = describeNode(parts, nodeName, nodeAddress, cgroups);
  const runtime = await ConmonRuntime.open({
    root: options.dataDir, runRoot: options.runDir, ociRuntime: options.runtime, conmon: options.conmon, cgroups, clock, logger, metrics,
  });
  stack.defer(() => runtime.close());
  const state = stack.use(LocalState.open(join(options.dataDir, "state.db"), logger));
  const images = await LinuxImageService.open({ root: join(options.dataDir, "images"), clock, random, logger, metrics, registries: registriesOf(options) });
  const network = new LinuxPodNetwork({ bridgeName: options.bridge, addresses: state.addresses, nodeAddress, clock, logger, metrics });
  stack.defer(() => network.close());
  const volumes = new VolumeService({ root: join(options.dataDir, "pods"), localRoot: join(options.dataDir, "volumes") });
  const pods = createPodService({
    state, runtime, images, network, volumes, cgroups, clock, random, logger, metrics,
    options: { runRoot: options.runDir, logRoot: join(options.dataDir, "logs"), nodeMemoryBytes: description.capacity!.memoryBytes, defaultPidsLimit: options.podPidsLimit, hostIp: () => nodeAddress },
  });
  stack.defer(() => pods.close());
  await pods.recover();

  const session = createSession({
    controlPlanes: options.controlPlanes, credentials, describe: () => ({ ...description, runtimeVersion: runtime.version }), pods, images, network, clock, random, logger, metrics,
  });
  stack.defer(() => session.close());
  session.start();
  if (options.metricsAddress !== "") {
    const health = await startHealthServer({ address: options.metricsAddress, metrics, problems: () => [...(session.connected ? [] : ["no session with the control plane"]), ...network.problems] });
    stack.defer(() => void health.close());
  }
  await Promise.race([session.opened(), clock.sleep(2000)]);
  logger.info("running", { controlPlanes: options.controlPlanes.join(","), address: nodeAddress, runtime: runtime.version, cgroups: cgroups.describe().version, version: parts.version });
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

const describeNode = ({ options, version }: NodeAgentParts, nodeName: string, nodeAddress: string, cgroups: CgroupTree): NodeDescription => {
  const facts = readHostFacts(options.dataDir);
  const capacity: Resources = { milliCpu: facts.milliCpu, memoryBytes: facts.memoryBytes, ephemeralStorageBytes: facts.diskBytes, pods: options.maxPods, extended: {} };
  return {
    hostname: nodeName, addresses: [nodeAddress], machineId: facts.machineId, bootId: facts.bootId, kernelVersion: facts.kernelVersion, osImage: facts.osImage, architecture: facts.architecture,
    agentVersion: version, runtimeVersion: "", capacity,
    allocatable: { ...capacity, milliCpu: Math.max(0, capacity.milliCpu - toMilli(options.reservedCpu)), memoryBytes: Math.max(0, capacity.memoryBytes - toUnits(options.reservedMemory)) },
    labels: Object.fromEntries(options.labels.map((l) => keyValue("--labels", l))), taints: options.taints.map(parseTaint), cgroupNotes: [cgroups.describe().version, ...cgroups.describe().notes], images: [],
  };
};

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

const registriesOf = (options: NodeAgentOptions): RegistryConfig => {
  const settings: Record<string, { http?: boolean; skipTlsVerify?: boolean; mirrors?: string[] }> = {};
  for (const registry of options.insecureRegistries) settings[registry] = { ...settings[registry], http: true };
  for (const [registry, mirror] of options.registryMirrors.map((m) => keyValue("--registry-mirrors", m))) {
    settings[registry] = { ...settings[registry], mirrors: [...(settings[registry]?.mirrors ?? []), mirror] };
  }
  return parseRegistryConfig(settings, "--registry-mirrors, --insecure-registries");
};
