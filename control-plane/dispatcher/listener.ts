// The port that agents dial. TLS ends here, so that who may talk to what is decided before gRPC sees a byte: a connection with a
// verified node certificate reaches the Dispatcher service, every other one only NodeRegistration and refusals that say why.
import { createServer } from "node:tls";
import type { PeerCertificate, TLSSocket } from "node:tls";
import type { AddressInfo, Socket } from "node:net";
import { constants } from "node:crypto";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import type { ServerOptions } from "@grpc/grpc-js";
import { GantryError } from "../../base/errors.ts";
import type { Logger } from "../../base/logger.ts";
import type { Metrics } from "../../base/metrics.ts";
import { describeCertificate } from "../../base/tls/describe.ts";
import { NODE_GROUP, nodeNameOf } from "../../base/tls/node-identity.ts";
import { MAX_MESSAGE_BYTES } from "../../proto/grpc-errors.ts";

export interface ServerMaterial {
  /** Leaf first, then the CA: joining agents compare the CA with the fingerprint in their token. */
  readonly certificatePem: string;
  readonly privateKeyPem: string;
  readonly caPem: string;
}

/** Who called, from the certificate alone. */
export interface NodeIdentity {
  readonly nodeName: string;
  readonly notAfterMs: number;
}

/** Part of every server call of grpc-js. */
export interface Caller {
  getPeer(): string;
  getAuthContext(): { readonly sslPeerCertificate?: PeerCertificate };
}

export interface Listener {
  listen(host: string, port: number): Promise<void>;
  readonly port: number;
  /** "Unauthorized", with the reason, unless the call's connection has a verified certificate of a node. */
  identify(call: Caller): NodeIdentity;
  /** New connections use it. */
  updateMaterial(material: ServerMaterial): void;
  close(): Promise<void>;
}

const HANDSHAKE_TIMEOUT_MS = 10_000;
/** TLS sessions are never resumed: a resumed one would skip the check of the client's certificate. */
const SECURE_OPTIONS = constants.SSL_OP_NO_TICKET;

const SERVER_OPTIONS: ServerOptions = {
  "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
  "grpc.max_send_message_length": MAX_MESSAGE_BYTES,
  // Finds peers that vanished without a FIN; the session's heartbeat finds those that hang.
  "grpc.keepalive_time_ms": 20_000,
  "grpc.keepalive_timeout_ms": 10_000,
  "grpc-node.max_session_memory": 64,
};

export const newNodeServer = (): Server => new Server(SERVER_OPTIONS);
/** Strangers have little to say: they may neither stay nor send much. */
export const newStrangerServer = (): Server =>
  new Server({ ...SERVER_OPTIONS, "grpc.max_receive_message_length": 64 << 10, "grpc.max_connection_idle_ms": 30_000, "grpc.max_connection_age_ms": 60_000 });

export interface ListenerOptions {
  readonly material: ServerMaterial;
  readonly nodes: Server;
  readonly strangers: Server;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

export const createListener = ({ material, nodes, strangers, logger, metrics }: ListenerOptions): Listener => {
  // Keyed by the certificate object that a verified socket hands out (see below), so an identity can't be had in any other way.
  const identities = new WeakMap<PeerCertificate, NodeIdentity>();
  /** Why a stranger is one, by peer address: for the message only, never for a decision. */
  const reasons = new Map<string, string>();
  const connections = metrics.counter("gantry_dispatcher_connections_total", "Connections to the dispatcher's port, by what their certificate said.", ["result"]);

  const inject = {
    node: nodes.createConnectionInjector(ServerCredentials.createInsecure()),
    stranger: strangers.createConnectionInjector(ServerCredentials.createInsecure()),
  };

  /** The node's identity, or why it is none. OpenSSL has verified chain, dates and purpose where `authorized` says so. */
  const identityOf = (socket: TLSSocket): NodeIdentity | string => {
    const x509 = socket.getPeerX509Certificate();
    if (x509 === undefined) return "no client certificate was presented";
    const { commonName, organizations, notAfterMs } = describeCertificate(x509);
    if (!socket.authorized) {
      const why = String(socket.authorizationError);
      const remedy = why.includes("CERT_HAS_EXPIRED") ? "; its machine must join again, with a token of `gantry token create`" : "";
      return `the certificate of ${JSON.stringify(commonName)} is not valid here: ${why}${remedy}`;
    }
    const nodeName = organizations.includes(NODE_GROUP) ? nodeNameOf(commonName) : undefined;
    return nodeName === undefined ? `the certificate of ${JSON.stringify(commonName)} is not a node's` : { nodeName, notAfterMs };
  };

  const secureContext = (m: ServerMaterial) => ({ ca: m.caPem, cert: m.certificatePem, key: m.privateKeyPem, minVersion: "TLSv1.2" as const, secureOptions: SECURE_OPTIONS });
  const server = createServer({
    ...secureContext(material), ALPNProtocols: ["h2"], handshakeTimeout: HANDSHAKE_TIMEOUT_MS, noDelay: true,
    // Strangers must be able to register. What is unverified never reaches the Dispatcher: see identityOf.
    requestCert: true, rejectUnauthorized: false,
  });
  const sockets = new Set<Socket>();
  const track = (socket: Socket): void => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  };
  server.on("connection", track);
  server.on("secureConnection", track);
  server.on("tlsClientError", (error, socket) => {
    connections.inc({ result: "garbage" });
    logger.debug("connection was no TLS handshake", { peer: socket.remoteAddress, err: error });
    socket.destroy();
  });
  server.on("secureConnection", (socket) => {
    socket.on("error", (error) => logger.debug("connection broke", { peer: socket.remoteAddress, err: error }));
    if (socket.alpnProtocol !== "h2") {
      connections.inc({ result: "garbage" });
      socket.end("HTTP/1.1 505 HTTP Version Not Supported\r\ncontent-length: 52\r\nconnection: close\r\n\r\nThis port speaks gRPC (HTTP/2) to Gantry node agents");
      return;
    }
    const identity = identityOf(socket);
    if (typeof identity === "string") {
      connections.inc({ result: "stranger" });
      const peer = `${socket.remoteAddress}:${socket.remotePort}`;
      reasons.set(peer, identity);
      socket.once("close", () => reasons.delete(peer));
      inject.stranger.injectConnection(socket);
      return;
    }
    connections.inc({ result: "node" });
    // gRPC asks the socket for the certificate on each call; parsing it every time would cost more than a heartbeat.
    const certificate = socket.getPeerCertificate();
    identities.set(certificate, identity);
    socket.getPeerCertificate = (() => certificate) as typeof socket.getPeerCertificate;
    inject.node.injectConnection(socket);
  });

  let port = 0;
  return {
    async listen(host, wanted) {
      await new Promise<void>((resolve, reject) => {
        server.once("error", (cause: NodeJS.ErrnoException) =>
          reject(new GantryError("FailedPrecondition", `can't listen on ${host}:${wanted} for node agents: ${cause.code === "EADDRINUSE" ? "another process uses this port" : cause.message}`, { cause })));
        server.listen(wanted, host, resolve);
      });
      server.removeAllListeners("error");
      server.on("error", (error) => logger.error("the dispatcher's port failed", { err: error }));
      port = (server.address() as AddressInfo).port;
    },
    get port() {
      return port;
    },
    identify(call) {
      const { sslPeerCertificate } = call.getAuthContext();
      const identity = sslPeerCertificate && identities.get(sslPeerCertificate);
      if (identity) return identity;
      throw new GantryError("Unauthorized", `a node certificate of this cluster is needed: ${reasons.get(call.getPeer()) ?? "the connection has none"}`);
    },
    updateMaterial(next) {
      server.setSecureContext(secureContext(next));
    },
    async close() {
      const closed = new Promise<void>((resolve) => void server.close(() => resolve()));
      for (const injector of Object.values(inject)) injector.destroy();
      nodes.forceShutdown();
      strangers.forceShutdown();
      // HTTP/2 would wait for the other end to close too, which may be gone.
      await new Promise((resolve) => setImmediate(resolve));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
};
