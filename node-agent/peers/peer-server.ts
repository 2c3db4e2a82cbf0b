// Gives image blobs to other nodes of this cluster, and keeps the lists of who gets which blob from whom (blob-tracker.ts). HTTPS; only a certificate
// of a node of the same cluster CA is let in. A node may have blobs of private images: who asks for a blob by its digest got the digest from
// the registry, with credentials of its own. By name only images are told that were made in the cluster.
import { createServer } from "node:https";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { pipeline } from "node:stream/promises";
import { Readable } from "node:stream";
import type { TLSSocket } from "node:tls";
import { GantryError, describeError } from "../../base/errors.ts";
import type { Logger } from "../../base/logger.ts";
import type { Metrics } from "../../base/metrics.ts";
import { NODE_GROUP, nodeNameOf } from "../../base/tls/node-identity.ts";
import { isDigest, type Digest } from "../images/digest.ts";

export interface PeerCredentials {
  readonly caPem: string;
  readonly certificatePem: string;
  readonly privateKeyPem: string;
}

export interface PeerServerOptions {
  readonly credentials: PeerCredentials;
  readonly blobs: {
    hasBlob(digest: Digest): boolean;
    findMade(name: string): { readonly digest: Digest; readonly sizeBytes: number; readonly mediaType: string } | undefined;
    readBlob(digest: Digest, start: number, signal: AbortSignal): { readonly sizeBytes: number; readonly bytes: AsyncIterable<Uint8Array> } | undefined;
  };
  /** Where `node` gets the blob; undefined: from the registry. */
  readonly sourceFor: (digest: Digest, node: string, useless: readonly string[], holder: string) => Promise<string | undefined>;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

export interface PeerServer {
  listen(host: string, port: number): Promise<void>;
  readonly port: number;
  /** After a renewal: new connections use it. */
  updateCredentials(credentials: PeerCredentials): void;
  close(): Promise<void>;
}

const HANDSHAKE_TIMEOUT_MS = 10_000;
const IDLE_TIMEOUT_MS = 60_000;

/** The node that a verified certificate names; undefined for every other certificate of the CA (an administrator's, the control plane's). */
export const peerNameOf = (certificate: { readonly subject?: { readonly CN?: string | string[]; readonly O?: string | string[] } }): string | undefined => {
  const { CN, O } = certificate.subject ?? {};
  return typeof CN === "string" && [O].flat().includes(NODE_GROUP) ? nodeNameOf(CN) : undefined;
};

export const createPeerServer = ({ credentials, blobs, sourceFor, logger, metrics }: PeerServerOptions): PeerServer => {
  const sentBytes = metrics.counter("gantry_image_peer_sent_bytes_total", "Bytes of image blobs given to other nodes.");
  const refused = metrics.counter("gantry_image_peer_refused_total", "Connections of other nodes' kind that were refused.");
  const context = (c: PeerCredentials) => ({ ca: c.caPem, cert: c.certificatePem, key: c.privateKeyPem, minVersion: "TLSv1.3" as const });

  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const socket = request.socket as TLSSocket;
    const node = socket.authorized ? peerNameOf(socket.getPeerCertificate()) : undefined;
    const answer = (status: number, body = ""): void => void response.writeHead(status, { "content-length": Buffer.byteLength(body) }).end(body);
    if (node === undefined) return answer(403, "a certificate of a node of this cluster is needed\n");
    const url = new URL(request.url ?? "/", "https://peer");
    const [, version, kind, digest = ""] = url.pathname.split("/");
    if (version === "v1" && kind === "images" && request.method === "GET") {
      const made = blobs.findMade(url.searchParams.get("name") ?? "");
      return made === undefined ? answer(404) : answer(200, JSON.stringify(made));
    }
    if (version !== "v1" || !isDigest(digest)) return answer(404);
    if (kind === "sources" && request.method === "GET") {
      const source = await sourceFor(digest, node, (url.searchParams.get("not") ?? "").split(",").filter((n) => n !== ""), url.searchParams.get("holder") ?? "");
      return answer(200, JSON.stringify({ from: source ?? "" }));
    }
    if (kind !== "blobs") return answer(404);
    if (request.method === "HEAD") return answer(blobs.hasBlob(digest) ? 200 : 404);
    const start = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
    const gone = new AbortController();
    response.once("close", () => gone.abort());
    const blob = blobs.readBlob(digest, start, gone.signal);
    if (blob === undefined) return answer(404);
    if (start > blob.sizeBytes) return answer(416);
    response.writeHead(start > 0 ? 206 : 200, { "content-length": blob.sizeBytes - start, "content-type": "application/octet-stream", ...(start > 0 ? { "content-range": `bytes ${start}-${blob.sizeBytes - 1}/${blob.sizeBytes}` } : {}) });
    const counted = async function* (): AsyncGenerator<Uint8Array, void> {
      for await (const chunk of blob.bytes) {
        sentBytes.inc(chunk.length);
        yield chunk;
      }
    };
    await pipeline(Readable.from(counted(), { objectMode: false }), response);
  };

  const server: Server = createServer({ ...context(credentials), requestCert: true, rejectUnauthorized: true, handshakeTimeout: HANDSHAKE_TIMEOUT_MS }, (request, response) => {
    serve(request, response).catch((error: unknown) => {
      logger.debug("a peer's request failed", { path: request.url, err: describeError(error) });
      if (response.headersSent) response.destroy();
      else response.writeHead(500).end();
    });
  });
  server.setTimeout(IDLE_TIMEOUT_MS);
  server.on("tlsClientError", (error) => {
    refused.inc();
    logger.debug("a connection to the peer port was refused", { err: describeError(error) });
  });
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });

  return {
    listen: (host, port) => new Promise((resolve, reject) => {
      server.once("error", (cause) => reject(new GantryError("FailedPrecondition", `--peer-port: can't listen on ${host}:${port} for other nodes`, { cause })));
      server.listen(port, host, () => {
        server.removeAllListeners("error");
        server.on("error", (error) => logger.error("the peer port failed", { err: error }));
        // What serves other nodes must not keep this one from ending.
        server.unref();
        resolve();
      });
    }),
    get port() {
      return (server.address() as AddressInfo).port;
    },
    updateCredentials: (next) => (server as Server & { setSecureContext(options: object): void }).setSecureContext(context(next)),
    close: async () => {
      const closed = new Promise<void>((resolve) => void server.close(() => resolve()));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
};
