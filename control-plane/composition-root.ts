// Wires the control plane together, in the order in which its parts depend on each other. Everything that is made here is closed in
// reverse order. Nothing else in control-plane/ constructs a part.
import { readFileSync } from "node:fs";
import { isIPv6 } from "node:net";
import { hostname, networkInterfaces } from "node:os";
import { join, resolve } from "node:path";
import type { Clock } from "../base/clock.ts";
import { GantryError, describeError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import type { Metrics } from "../base/metrics.ts";
import { tokenAuthenticator } from "./api/authentication.ts";
import { parseTokenFile } from "./api/token-file.ts";
import { createApiServer } from "./api/server.ts";
import type { ControllerOptions } from "./controllers/reconcile-loop.ts";
import { startControllers } from "./controllers/run.ts";
import { ensureSystemNamespaces } from "./controllers/namespace/controller.ts";
import { ensureSystemPriorities } from "./controllers/system-priorities.ts";
import { ensureDefaultClass } from "./controllers/volumes/new-objects.ts";
import { createDispatcher } from "./dispatcher/dispatcher.ts";
import type { ControlPlaneOptions } from "./options.ts";
import { createExplainer } from "./scheduler/explain.ts";
import { runScheduler } from "./scheduler/scheduler.ts";
import { ensureClusterSecurity } from "./security/cluster-security.ts";
import { runCompaction } from "./state/compaction.ts";
import { runElection, type Leader } from "./state/election.ts";
import { EtcdProcess } from "./state/etcd-process.ts";
import { EtcdStore, type EtcdStoreOptions } from "./state/etcd-store.ts";
import { createEventRecorder } from "./state/event-recorder.ts";
import type { NodeStreams } from "./state/node-streams.ts";
import type { Fence, ObjectKey, Stored } from "./state/store.ts";
import { createWatchCache } from "./state/watch-cache.ts";

export interface ControlPlaneParts {
  readonly options: ControlPlaneOptions;
  readonly clock: Clock;
  readonly random: () => number;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly version: string;
}

const etcdOptions = async (parts: ControlPlaneParts, stack: AsyncDisposableStack): Promise<Pick<EtcdStoreOptions, "endpoints" | "tls" | "username" | "password">> => {
  const { options } = parts;
  if (options.etcdEndpoints.length === 0) {
    const etcd = await EtcdProcess.start({ dir: join(options.dataDir, "etcd"), clock: parts.clock, logger: parts.logger, metrics: parts.metrics });
    stack.defer(() => etcd.stop());
    return { endpoints: etcd.endpoints };
  }
  const files = [options.etcdCa, options.etcdCert, options.etcdKey];
  if (files.some((f) => f !== "") && files.includes("")) throw new GantryError("BadRequest", "--etcd-ca, --etcd-cert and --etcd-key go together");
  return {
    endpoints: options.etcdEndpoints,
    ...(options.etcdCa === "" ? {} : { tls: { ca: readFileSync(options.etcdCa), cert: readFileSync(options.etcdCert), key: readFileSync(options.etcdKey) } }),
    ...(options.etcdUsername === "" ? {} : { username: options.etcdUsername, password: readFileSync(options.etcdPasswordFile, "utf8").trim() }),
  };
};

/** Where others reach this process, unless --advertise-addresses says so: where it listens, or the machine's first address. */
const ownAddress = ({ advertiseAddresses: [advertised], bindAddress }: ControlPlaneOptions): string => {
  if (advertised !== undefined) return advertised;
  if (bindAddress !== "0.0.0.0" && bindAddress !== "::") return bindAddress;
  return Object.values(networkInterfaces()).flat().find((i) => i && !i.internal && i.family === "IPv4")?.address ?? "127.0.0.1";
};

const hostPort = (host: string, port: number): string => `${isIPv6(host) ? `[${host}]` : host}:${port}`;

const controllerOptions = (options: ControlPlaneOptions): Partial<ControllerOptions> => ({
  nodeLeaseMs: options.nodeLease, podEvictionMs: options.podEvictionDelay, terminatedPodThreshold: options.terminatedPodGcThreshold, eventTtlMs: options.eventTtl,
  evictionPace: { intervalMs: options.nodeEvictionInterval, slowIntervalMs: options.secondaryNodeEvictionInterval, unhealthyPercent: options.unhealthyZoneThreshold, largeZoneNodes: options.largeZoneSize },
});

/** Nodes have their sessions with the leader, so only the leader's API reaches into them. */
const ofLeader = (streams: NodeStreams, leads: () => boolean, leader: () => Leader | undefined): NodeStreams => {
  const check = (): void => {
    if (leads()) return;
    const api = leader()?.addresses?.api;
    throw new GantryError("ServiceUnavailable", `logs, exec and images go through the control plane that leads, and this one does not: ${api === undefined ? "none leads at the moment" : `use ${api}`}`, { retryAfterSeconds: 1 });
  };
  return {
    open: async (...request) => {
      check();
      return streams.open(...request);
    },
    connectedNodes: () => {
      check();
      return streams.connectedNodes();
    },
  };
};

/** Resolves when everything serves; `signal` ends leadership and the loops, `stack` closes the rest. `fail` is for what can't be done without. */
export const startControlPlane = async (parts: ControlPlaneParts, stack: AsyncDisposableStack, signal: AbortSignal, fail: (error: unknown) => void): Promise<void> => {
  const { options, clock, random, logger, metrics } = parts;

  const security = await ensureClusterSecurity(join(options.dataDir, "pki"), { advertiseAddresses: options.advertiseAddresses, clock, logger });

  let peek: (key: ObjectKey) => Stored | undefined = () => undefined;
  const store = await EtcdStore.connect({ ...(await etcdOptions(parts, stack)), prefix: options.etcdPrefix, clock, logger, metrics, peek: (key) => peek(key) });
  stack.defer(() => store.close());
  const cache = createWatchCache({ store, clock, logger, metrics });
  stack.defer(() => cache.close());
  await cache.start();
  peek = (key) => cache.resource(key.type).get(key.namespace, key.name);
  await Promise.all([ensureSystemNamespaces(store, clock), ensureDefaultClass(store, clock), ensureSystemPriorities(store, clock)]);

  const events = stack.use(createEventRecorder({ store, cache, clock, logger, metrics }));

  let fence: Fence | undefined;
  let leader: Leader | undefined;
  const address = ownAddress(options);
  const dispatcher = createDispatcher({
    store, cache, events, clock, random, logger, metrics, authority: security.authority, tls: security.server,
    leadership: { fence: () => fence, leader: () => leader?.addresses?.agents },
    // Only what the administrator has said: agents would waste dials on an address that may be behind NAT.
    get controlPlanes() {
      return options.advertiseAddresses.length > 0 ? [hostPort(address, dispatcher.port)] : [];
    },
    heartbeatPeriodMs: options.heartbeatPeriod, leaseMs: options.nodeLease, clusterCidr: options.clusterCidr, nodeMask: options.nodeCidrMaskSize,
  });
  stack.defer(() => dispatcher.close());
  const api = createApiServer({
    store, cache, streams: ofLeader(dispatcher.streams, () => fence !== undefined, () => leader), explainer: createExplainer(cache), gantryVersion: parts.version,
    tls: { cert: security.server.certificatePem, key: security.server.privateKeyPem, clientCa: security.server.caPem },
    authenticators: options.tokenFile === "" ? [] : [tokenAuthenticator(parseTokenFile(readFileSync(options.tokenFile, "utf8"), options.tokenFile))],
    // Somebody else may write to an etcd that is not ours alone.
    consistency: options.etcdEndpoints.length === 0 ? "process" : "store",
    // For information: one that follows serves all but streams, and is as ready as the leader.
    readiness: [{ name: "leader", check: async () => (fence ? "this process leads" : leader ? `${leader.identity} leads, at ${leader.addresses?.api ?? "an unknown address"}` : "none at the moment") }],
    defaultTolerationSeconds: Math.ceil(options.podEvictionDelay / 1000),
    clock, random, logger, metrics,
  });
  stack.defer(() => api.close());
  await dispatcher.listen(options.bindAddress, options.agentPort);
  await api.listen(options.bindAddress, options.apiPort);

  const election = runElection({
    elections: store.elections, identity: `${hostname()}:${resolve(options.dataDir)}`, clock, logger, metrics, signal,
    addresses: { agents: hostPort(address, dispatcher.port), api: `https://${hostPort(address, api.port)}` },
    onLeader: (now) => {
      leader = now;
    },
    onElected: async (won, term) => {
      fence = won;
      const ended = new AbortController();
      const running = AbortSignal.any([term, ended.signal]);
      const components = [
        startControllers({ store, cache, clock, random, logger, metrics, fence: won, signal: running, events, streams: dispatcher.streams, options: controllerOptions(options) }),
        runScheduler({ store, cache, clock, logger, metrics, events }, won, running),
        runCompaction({ store, clock, logger, signal: running }),
      ];
      try {
        // A leader without one of them is worse than another leader: the first that ends ends all.
        await Promise.race(components);
      } finally {
        fence = undefined;
        ended.abort();
        dispatcher.endSessions("this control plane no longer leads");
        await Promise.allSettled(components);
      }
    },
  }).catch((error: unknown) => fail(error));
  stack.defer(() => election);

  security.writeKubeconfig(options.kubeconfig === "" ? join(options.dataDir, "admin.kubeconfig") : options.kubeconfig, options.kubeconfigServer === "" ? `https://127.0.0.1:${api.port}` : options.kubeconfigServer);
  logger.info("serving", { api: `https://${options.bindAddress}:${api.port}`, agents: `${options.bindAddress}:${dispatcher.port}`, etcd: options.etcdEndpoints.length === 0 ? "private" : options.etcdEndpoints.join(","), version: parts.version });
  stack.defer(() => events.flush().catch((error: unknown) => logger.warn("events were lost at the end", { err: describeError(error) })));
};
