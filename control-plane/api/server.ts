// Owns the API's port: TLS, HTTP/2 and HTTP/1.1, who is let in, limits, metrics, the access log, and the graceful end. What a
// request means is in router.ts and dispatch.ts.
import { constants, createSecureServer } from "node:http2";
import type { Http2ServerRequest, ServerHttp2Session } from "node:http2";
import { ServerResponse } from "node:http";
import type { IncomingMessage } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { TLSSocket } from "node:tls";
import type { Clock } from "../../base/clock.ts";
import { GantryError, isCode } from "../../base/errors.ts";
import type { Logger } from "../../base/logger.ts";
import type { Metrics } from "../../base/metrics.ts";
import type { WatchCache } from "../state/cache.ts";
import type { PodExplainer } from "../state/explain.ts";
import type { NodeStreams } from "../state/node-streams.ts";
import type { Store } from "../state/store.ts";
import { authenticate, certificateAuthenticator, impersonated } from "./authentication.ts";
import type { Authenticator, User } from "./authentication.ts";
import { checkImpersonation, mastersAuthorizer, refusal } from "./authorization.ts";
import type { Authorizer } from "./authorization.ts";
import { Freshness } from "./context.ts";
import type { ApiContext, Consistency } from "./context.ts";
import { Dispatch, definitionFor, isLongRunning, metricResource } from "./dispatch.ts";
import { Exchange } from "./exchange.ts";
import type { HttpRequest, HttpResponse } from "./exchange.ts";
import { parseRequest } from "./router.ts";
import type { RequestInfo } from "./router.ts";
import { StatusError, noSuchResource, statusOf } from "./status.ts";
import { upgradeFor } from "./streams/upgrade.ts";
import { isOpen, serveSystem } from "./system.ts";
import type { ReadinessCheck } from "./system.ts";

/** Go's clients keep idle connections for 90 s: a server that closes earlier makes their next request fail. */
const KEEP_ALIVE_MS = 120_000;
/** How long a client may go on with an upload that is answered already. */
const LINGER_MS = 1000;
const TCP_PROBE_AFTER_MS = 60_000;
/** Ordinary (not long-running) requests that are served at once; upstream's limits add up to 600. */
const MAX_IN_FLIGHT = 600;
/** What open requests get to finish once the server closes. */
const CLOSE_GRACE_MS = 2000;
/** After the last answer, for clients to take it and to close their side; those that don't (nor ever spoke TLS) are not waited for. */
const CLOSE_LINGER_MS = 100;
/** Per stream; the default of 64 KiB makes uploads wait for the other side every 64 KiB. */
const WINDOW_BYTES = 1024 * 1024;

export interface ApiServerOptions {
  readonly store: Store;
  readonly cache: WatchCache;
  readonly streams: NodeStreams;
  readonly explainer: PodExplainer;
  /** PEM. `clientCa` signs the client certificates that are let in. */
  readonly tls: { readonly cert: string; readonly key: string; readonly clientCa: string };
  /** Besides client certificates: tokenAuthenticator(...). */
  readonly authenticators?: readonly Authenticator[];
  readonly authorizer?: Authorizer;
  /** Besides the store and the cache: the composition root's, such as leader election. */
  readonly readiness?: readonly ReadinessCheck[];
  /** "process" (default) while this is the only control-plane process; see context.ts. */
  readonly consistency?: Consistency;
  /** What new pods tolerate of a node that is not ready or not heard of; see state/admission.ts. */
  readonly defaultTolerationSeconds: number;
  /** Shown in /version. */
  readonly gantryVersion?: string;
  readonly clock: Clock;
  readonly random: () => number;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

export interface ApiServer {
  /** Resolves when the port is open. Port 0 takes a free one. */
  listen(host: string, port: number): Promise<void>;
  readonly port: number;
  /** Ends watches, lets other requests finish for a moment, closes. */
  close(): Promise<void>;
}

interface Gauges {
  finished(info: RequestInfo | undefined, code: number, seconds: number, bytes: number): void;
}

const registerMetrics = (metrics: Metrics, dispatch: Dispatch, inFlight: () => number): Gauges => {
  const seconds = metrics.histogram("gantry_api_request_seconds", "Time to answer a request (watches and streams: how long they lasted).", ["verb", "resource", "code"]);
  const sent = metrics.counter("gantry_api_response_bytes_total", "Bytes of answers sent.", ["resource"]);
  metrics.gauge("gantry_api_requests_in_flight", "Ordinary requests being served.", [], (gauge) => gauge.set(inFlight()));
  metrics.gauge("gantry_api_watchers", "Open watches.", ["resource"], (gauge) => {
    for (const [resource, watchers] of dispatch.watches.counts()) gauge.set({ resource }, watchers);
  });
  return {
    finished: (info, code, took, bytes) => {
      const resource = info ? metricResource(info) : "other";
      seconds.observe({ verb: info?.verb ?? "other", resource, code: String(code) }, took);
      if (bytes > 0) sent.inc({ resource }, bytes);
    },
  };
};

const isHttp2 = (request: HttpRequest): request is Http2ServerRequest => request.httpVersionMajor === 2;

/** The TLS connection itself; with HTTP/2 it belongs to the session, and is the same for all of its requests. */
const connectionOf = (request: HttpRequest): TLSSocket => (isHttp2(request) ? request.stream.session!.socket : request.socket) as TLSSocket;

export const createApiServer = (options: ApiServerOptions): ApiServer => {
  const { store, cache, clock, random, logger, metrics, tls, authorizer = mastersAuthorizer } = options;
  const authenticators = [certificateAuthenticator(clock), ...(options.authenticators ?? [])];
  const context: ApiContext = { store, cache, clock, random, logger, freshness: new Freshness(cache, options.consistency ?? "process"), defaultTolerationSeconds: options.defaultTolerationSeconds };
  const dispatch = new Dispatch({ context, streams: options.streams, explainer: options.explainer });
  const system = {
    readiness: [
      { name: "store", check: (signal: AbortSignal) => store.ping(signal) },
      { name: "cache", check: () => (cache.resourceVersion > 0 ? Promise.resolve() : Promise.reject(new GantryError("ServiceUnavailable", "the watch cache is not in sync yet"))) },
      ...(options.readiness ?? []),
    ],
    metrics, clock, gantryVersion: options.gantryVersion ?? "",
  };
  /** Of long-running requests: closing ends them. */
  const longRunning = new Set<AbortController>();
  const sessions = new Set<ServerHttp2Session>();
  /** Also of clients that have not begun to speak TLS. */
  const sockets = new Set<Socket>();
  let inFlight = 0;
  let isClosing = false;
  /** Of every kind, while they are served. */
  let served = 0;
  const { promise: allServed, resolve: endServing } = Promise.withResolvers<void>();
  const gauges = registerMetrics(metrics, dispatch, () => inFlight);

  const userOf = (request: HttpRequest, info: RequestInfo): User => {
    const user = authenticate(authenticators, { headers: request.headers, socket: connectionOf(request) });
    const target = impersonated(request.headers);
    if (target) checkImpersonation(authorizer, user, target);
    const acting = target ?? user;
    if (!authorizer.allows(acting, info)) throw refusal(acting, info);
    return acting;
  };

  const serve = async (exchange: Exchange): Promise<void> => {
    if (exchange.info.isResource) await dispatch.serve(exchange);
    else if (!(await serveSystem(exchange, system))) throw noSuchResource();
  };

  const answerError = (response: HttpResponse, error: unknown, info: RequestInfo | undefined): void => {
    const status = statusOf(error);
    if (status.code >= 500 && !(error instanceof StatusError) && !isCode(error, "Cancelled")) logger.error("a request failed", { verb: info?.verb, path: info?.path, err: error, stack: isCode(error, "ServiceUnavailable", "Timeout") ? undefined : (error as Error).stack });
    if (response.headersSent) {
      // Too late for a Status; a clean end would look like a complete answer.
      if ("stream" in response) response.stream.close(constants.NGHTTP2_INTERNAL_ERROR);
      else response.destroy();
      return;
    }
    const body = JSON.stringify(status);
    const retryAfter = status.details?.retryAfterSeconds;
    (response as ServerResponse).writeHead(status.code, {
      "content-type": "application/json", "content-length": Buffer.byteLength(body), "cache-control": "no-cache, private",
      ...(retryAfter === undefined ? {} : { "retry-after": String(retryAfter) }), ...(status.code === 401 ? { "www-authenticate": 'Bearer realm="gantry"' } : {}),
    });
    response.end(body);
  };

  /**
   * What is left unread of a body would fill the window that all streams of a connection share. It is read and forgotten; a client
   * that goes on after its answer is cut off. (At once would be too early: Go's clients then lose the answer.)
   */
  const dropRest = (request: Http2ServerRequest): void => {
    const { stream } = request;
    const timer = clock.setTimer(LINGER_MS, () => stream.close(constants.NGHTTP2_NO_ERROR));
    stream.once("close", () => timer[Symbol.dispose]());
    request.resume();
  };

  const handle = async (request: HttpRequest, response: HttpResponse, run: (exchange: Exchange) => Promise<void>, onError: (error: unknown, info: RequestInfo | undefined) => void): Promise<void> => {
    const startMs = clock.monotonicMs();
    const controller = new AbortController();
    request.on("error", () => controller.abort());
    response.on("error", () => controller.abort());
    response.on("close", () => controller.abort());
    let info: RequestInfo | undefined;
    let exchange: Exchange | undefined;
    let isCounted = false;
    served++;
    try {
      info = parseRequest(request.method ?? "GET", request.url ?? "/");
      if (isClosing) throw new GantryError("ServiceUnavailable", "this server is shutting down", { retryAfterSeconds: 1 });
      const user = isOpen(info) ? { name: "system:anonymous", groups: [] } : userOf(request, info);
      isCounted = !isLongRunning(info);
      if (!isCounted) longRunning.add(controller);
      if (isCounted && inFlight++ >= MAX_IN_FLIGHT) throw new GantryError("TooManyRequests", "the server has too many requests in flight, please try again later", { retryAfterSeconds: 1 });
      exchange = new Exchange(info, request, response, user, controller.signal);
      await run(exchange);
    } catch (error) {
      onError(error, info);
    } finally {
      longRunning.delete(controller);
      if (isCounted) inFlight--;
      if (--served === 0 && isClosing) endServing();
      const tookMs = clock.monotonicMs() - startMs;
      gauges.finished(info, response.statusCode, tookMs / 1000, exchange?.bytesSent ?? 0);
      logger.debug("request", { verb: info?.verb, path: info?.path, code: response.statusCode, user: exchange?.user.name, ms: Math.round(tookMs * 10) / 10 });
      if (isHttp2(request) && !request.complete && !request.stream.endAfterHeaders) dropRest(request);
    }
  };

  const onUpgrade = async (request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> => {
    socket.on("error", () => socket.destroy());
    // Not attached to the socket unless there is an error to tell: then it writes an ordinary answer.
    const response = new ServerResponse(request);
    let code = 101;
    await handle(request, response, (exchange) => {
      const { info } = exchange;
      const closed = new AbortController();
      socket.once("close", () => closed.abort());
      const serveStream = info.isResource && info.group === "" && info.resource === "pods" ? upgradeFor(info.subresource, request.headers.upgrade ?? "") : undefined;
      if (!serveStream) throw new GantryError("BadRequest", `the connection can't be upgraded to ${JSON.stringify(request.headers.upgrade)} for ${info.path}`);
      return serveStream({ context, definition: definitionFor(info), exchange }, options.streams, { request, socket, head });
    }, (error, info) => {
      code = 0;
      if (socket.destroyed || !socket.writable) return;
      response.assignSocket(socket as TLSSocket);
      response.shouldKeepAlive = false;
      response.on("finish", () => socket.end());
      answerError(response, error, info);
    });
    if (code === 0 && !response.headersSent) socket.destroy();
  };

  const server = createSecureServer({
    cert: tls.cert, key: tls.key, ca: tls.clientCa, requestCert: true, rejectUnauthorized: false, allowHTTP1: true, minVersion: "TLSv1.2",
    settings: { initialWindowSize: WINDOW_BYTES, maxConcurrentStreams: 1000 },
  });
  // Read by node:http for the HTTP/1.1 side; @types knows them only on plain servers. A request may take as long as it
  // likes once its head is there (image uploads); slow heads are cut off by the default headersTimeout.
  Object.assign(server, { keepAliveTimeout: KEEP_ALIVE_MS, requestTimeout: 0 });
  server.on("request", (request: HttpRequest, response: HttpResponse) =>
    void handle(request, response, serve, (error, info) => answerError(response, error, info)));
  server.on("upgrade", (request: IncomingMessage, socket: Duplex, head: Buffer) => void onUpgrade(request, socket, head));
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  server.on("session", (session) => {
    sessions.add(session);
    session.setLocalWindowSize(4 * WINDOW_BYTES);
    session.on("close", () => sessions.delete(session));
  });
  server.on("secureConnection", (socket) => {
    // A watcher whose machine vanished says no goodbye; without probes its watch would stay for ever.
    socket.setKeepAlive(true, TCP_PROBE_AFTER_MS);
  });
  // Garbage on the port: whatever it was, it only costs its own connection.
  server.on("sessionError", (error) => logger.debug("an HTTP/2 session broke", { err: error }));
  server.on("tlsClientError", (error, socket) => {
    logger.debug("a TLS handshake failed", { err: error, remote: socket.remoteAddress });
    socket.destroy();
  });
  server.on("clientError", (error: Error, socket: Duplex) => {
    logger.debug("an unreadable request", { err: error });
    if (socket.writable) socket.end("HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n");
    else socket.destroy();
  });

  return {
    listen: (host, port) => new Promise((resolve, reject) => {
      server.once("error", reject);
      server.listen(port, host, () => {
        server.removeListener("error", reject);
        server.on("error", (error) => logger.error("the API's port failed", { err: error }));
        resolve();
      });
    }),
    get port() {
      return (server.address() as AddressInfo).port;
    },
    close: async () => {
      if (isClosing) return;
      isClosing = true;
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const controller of longRunning) controller.abort(new GantryError("Cancelled", "the server is shutting down"));
      for (const session of sessions) session.close();
      if (served === 0) endServing();
      const finished = allServed.then(() => clock.sleep(CLOSE_LINGER_MS));
      await Promise.race([closed, finished, clock.sleep(CLOSE_GRACE_MS)]);
      for (const session of sessions) session.destroy();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
};
