// The control plane's side of the agent protocol (proto/gantry/v1/agent.proto): puts the parts in this folder together and maps
// each RPC to one of them. Writes Nodes (as "agent"), node leases and pod statuses; nobody else writes those for agents.
import type { Clock } from "../../base/clock.ts";
import { GantryError, isCode } from "../../base/errors.ts";
import { NODES } from "../../base/kube/resources.ts";
import type { Logger } from "../../base/logger.ts";
import type { Metrics } from "../../base/metrics.ts";
import type { Authority } from "../../base/tls/authority.ts";
import { DispatcherService, NodeRegistrationService } from "../../proto/gen/gantry/v1/agent.ts";
import type {
  ClusterNetwork, HeartbeatRequest, HeartbeatResponse, RegisterRequest, RenewCertificateRequest, UpdateStatusRequest, UpdateStatusResponse,
} from "../../proto/gen/gantry/v1/agent.ts";
import type { WatchCache } from "../state/cache.ts";
import type { EventRecorder } from "../state/event-recorder.ts";
import type { NodeStreams } from "../state/node-streams.ts";
import type { Fence, Store } from "../state/store.ts";
import { AgentStreams } from "./agent-streams.ts";
import type { StreamCall } from "./agent-streams.ts";
import { AssignmentFeed } from "./assignment-feed.ts";
import type { AssignmentsCall } from "./assignment-feed.ts";
import { EncodedDispatcherService } from "./assignment-set.ts";
import { ClusterRoutes, encodeOpened } from "./cluster-routes.ts";
import { createListener, newNodeServer, newStrangerServer } from "./listener.ts";
import type { NodeIdentity, ServerMaterial } from "./listener.ts";
import { checkDescription } from "./node-object.ts";
import { NodeWriter } from "./node-writer.ts";
import { PodStarts } from "./pod-starts.ts";
import { Registration } from "./registration.ts";
import { Rpc } from "./rpc.ts";
import { Session, SessionRegistry } from "./session-registry.ts";
import type { SessionCall } from "./session-registry.ts";
import { letVolumeGo } from "./removed-volumes.ts";
import { StatusWriter } from "./status-writer.ts";

/** Sessions live on the leader: its fence is what makes ranges of pod addresses unique and old statuses harmless. */
export interface Leadership {
  /** undefined while this process does not lead. */
  fence(): Fence | undefined;
  /** host:port of the leader's dispatcher, where it is known. */
  leader?(): string | undefined;
}

export interface DispatcherSettings {
  /** Between heartbeats; each is jittered by 10 %. Default 5,000. */
  readonly heartbeatPeriodMs?: number;
  /** Without a heartbeat for this long a session is over and the node's lease runs out. Default 20,000. */
  readonly leaseMs?: number;
  readonly clusterCidr?: string;
  /** Prefix length of each node's range. */
  readonly nodeMask?: number;
  readonly clusterDomain?: string;
  readonly dnsServers?: readonly string[];
  /** host:port of the dispatchers of all replicas, this one first. */
  readonly controlPlanes?: readonly string[];
  readonly nodeCertificateMs?: number;
  /** How long an agent may take to answer a request for a stream. */
  readonly streamTimeoutMs?: number;
}

export interface DispatcherOptions extends DispatcherSettings {
  readonly store: Store;
  readonly cache: WatchCache;
  readonly clock: Clock;
  readonly random: () => number;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly tls: ServerMaterial;
  /** Signs node certificates. */
  readonly authority: Authority;
  /** Absent: this process always serves (one process, or tests). */
  readonly leadership?: Leadership;
  /** Tells what goes wrong with pods on their nodes. */
  readonly events?: EventRecorder;
}

export interface Dispatcher {
  /** Port 0 takes a free one. */
  listen(host: string, port: number): Promise<void>;
  readonly port: number;
  readonly streams: NodeStreams;
  /** Leadership was lost: agents are told to dial again. */
  endSessions(reason: string): void;
  /** A renewed server certificate; for new connections. */
  updateTls(material: ServerMaterial): void;
  close(): Promise<void>;
}

const HEARTBEAT_JITTER = 0.1;
const DAY_MS = 86_400_000;

export const createDispatcher = (options: DispatcherOptions): Dispatcher => {
  const { store, cache, clock, random, metrics, leadership } = options;
  const logger = options.logger.child({ component: "dispatcher" });
  const heartbeatPeriodMs = options.heartbeatPeriodMs ?? 5000;
  const leaseMs = options.leaseMs ?? 20_000;
  const clusterCidr = options.clusterCidr ?? "10.64.0.0/12";

  const fence = (): Fence | undefined => {
    if (!leadership) return undefined;
    const held = leadership.fence();
    if (!held) throw new GantryError("ServiceUnavailable", "this control plane does not lead; dial another");
    return held;
  };

  const sessions = new SessionRegistry({ clock, logger, metrics });
  const nodes = new NodeWriter({ store, cache, clock, logger, fence, clusterCidr, nodeMask: options.nodeMask ?? 24, leaseMs });
  const routes = new ClusterRoutes({ cache, clock, sessions });
  // Before the feed: it must have seen a pod that the feed sends in the same turn.
  const starts = new PodStarts({ cache, clock, metrics });
  const feed = new AssignmentFeed({ cache, logger, metrics, starts });
  const statuses = new StatusWriter({ store, cache, clock, logger, metrics, fence, events: options.events, starts });
  const streams = new AgentStreams({ sessions, clock, metrics, answerTimeoutMs: options.streamTimeoutMs ?? 10_000 });
  const registration = new Registration({ store, cache, clock, logger, metrics, sessions, authority: options.authority, nodeCertificateMs: options.nodeCertificateMs ?? 90 * DAY_MS });
  const heartbeats = metrics.counter("gantry_dispatcher_heartbeats_total", "Heartbeats of nodes, by what became of them.", ["result"]);

  const [nodeServer, strangerServer] = [newNodeServer(), newStrangerServer()];
  const listener = createListener({ material: options.tls, nodes: nodeServer, strangers: strangerServer, logger, metrics });

  const endAll = (error: GantryError): void => {
    for (const session of sessions.all()) sessions.end(session, error);
  };

  const rpc = new Rpc({
    logger, identify: (call) => listener.identify(call), leader: () => leadership?.leader?.(),
    // A fenced write means that another process leads by now: all agents belong there.
    onError: (error) => isCode(error, "Fenced") && endAll(new GantryError("ServiceUnavailable", "this control plane no longer leads", { cause: error })),
  });

  const networkOf = (podCidr: string): ClusterNetwork => ({
    clusterCidr, podCidr, routes: [], dnsServers: [...(options.dnsServers ?? [])], clusterDomain: options.clusterDomain ?? "cluster.local",
  });

  const openSession = async (identity: NodeIdentity, call: SessionCall): Promise<void> => {
    fence();
    const description = checkDescription(call.request.node);
    const claim = sessions.claim(identity.nodeName);
    const node = await nodes.describe(identity.nodeName, description);
    // The cache of a process that leads since a moment ago may lag behind what its predecessor wrote. Assignments from it would
    // lack the pods bound last, and their node would stop them: so it first has to show a write of our own.
    await cache.waitFor(await nodes.renewLease(identity.nodeName, node.metadata.uid ?? ""));
    if (call.cancelled) return;
    if (!claim.isNewest()) throw new GantryError("Conflict", "a newer session of this node replaced this one");
    const session = new Session(identity, node.metadata.uid ?? "", call, clock.monotonicMs());
    sessions.add(session, call);
    session.send(encodeOpened({
      sessionId: session.id, nodeName: identity.nodeName, heartbeatPeriodMs, leaseMs, network: networkOf(node.spec?.podCIDR ?? ""), controlPlanes: [...(options.controlPlanes ?? [])],
    }, routes.snapshot()));
  };

  const heartbeat = async (identity: NodeIdentity, request: HeartbeatRequest): Promise<HeartbeatResponse> => {
    try {
      const session = sessions.require(identity, request.sessionId);
      session.lastHeartbeatMs = clock.monotonicMs();
      const description = request.node && checkDescription(request.node);
      await Promise.all([nodes.renewLease(session.nodeName, session.nodeUid), nodes.report(session.nodeName, request.conditions, description)]);
      heartbeats.inc({ result: "ok" });
      return { nextPeriodMs: Math.round(heartbeatPeriodMs * (1 + HEARTBEAT_JITTER * (2 * random() - 1))) };
    } catch (error) {
      heartbeats.inc({ result: error instanceof GantryError ? error.code : "InternalError" });
      throw error;
    }
  };

  const updateStatus = async (identity: NodeIdentity, { sessionId, pods, removedVolumes }: UpdateStatusRequest): Promise<UpdateStatusResponse> => {
    const session = sessions.require(identity, sessionId);
    await Promise.all(removedVolumes.map((id) => letVolumeGo({ store, cache, fence }, session.nodeName, id)));
    return { unknown: [...(await statuses.write(session, pods))] };
  };

  nodeServer.addService(EncodedDispatcherService, {
    session: rpc.streaming("Session", openSession),
    heartbeat: rpc.unary("Heartbeat", heartbeat),
    assignments: rpc.streaming("Assignments", (identity, call: AssignmentsCall) => feed.attach(sessions.require(identity, call.request.sessionId), call)),
    updateStatus: rpc.unary("UpdateStatus", updateStatus),
    stream: rpc.streaming("Stream", (identity, call: StreamCall) => streams.answer(identity, call)),
    renewCertificate: rpc.unary("RenewCertificate", (identity, { csrPem }: RenewCertificateRequest) => registration.renew(identity, csrPem)),
  });
  strangerServer.addService(DispatcherService, rpc.refuseAll(Object.keys(DispatcherService)));
  strangerServer.addService(NodeRegistrationService, { register: rpc.open("Register", (request: RegisterRequest) => registration.register(request)) });

  const nodeDeletions = cache.resource(NODES).subscribe(({ type, stored: { object } }) => {
    if (type !== "deleted") return;
    const session = sessions.get(object.metadata.name ?? "");
    // The agent's next session makes a new object; to take a node away for good, stop its agent first.
    if (session?.nodeUid === object.metadata.uid) sessions.end(session, new GantryError("NotFound", "the node's object was deleted"));
  });

  // Ends sessions whose agent hangs while its kernel still answers keepalives.
  const sweepMs = leaseMs / 2;
  let sweep: Disposable | undefined;
  const armSweep = (): void => {
    const armedMs = clock.monotonicMs();
    sweep = clock.setTimer(sweepMs, () => {
      const nowMs = clock.monotonicMs();
      // When this process itself was stopped, heartbeats wait unread in its sockets: nobody is late because we slept.
      const stalled = nowMs - armedMs > 2 * sweepMs;
      for (const session of stalled ? [] : sessions.all()) {
        if (nowMs - session.lastHeartbeatMs > leaseMs) sessions.end(session, new GantryError("Timeout", `no heartbeat for ${leaseMs / 1000} s`));
      }
      armSweep();
    });
  };

  return {
    async listen(host, port) {
      await listener.listen(host, port);
      armSweep();
      logger.info("listening for node agents", { host, port: listener.port });
    },
    get port() {
      return listener.port;
    },
    streams,
    endSessions(reason) {
      endAll(new GantryError("ServiceUnavailable", reason));
    },
    updateTls: (material) => listener.updateMaterial(material),
    async close() {
      sweep?.[Symbol.dispose]();
      nodeDeletions[Symbol.dispose]();
      endAll(new GantryError("ServiceUnavailable", "the control plane is stopping"));
      // One turn, so that the reason still reaches the agents. Not a timer of the clock: those let the process end meanwhile.
      await new Promise((resolve) => setImmediate(resolve));
      for (const part of [feed, starts, routes, nodes]) part[Symbol.dispose]();
      await listener.close();
    },
  };
};
