// An API server in this process on the memory store, with a CA of its own, a kubeconfig, and node streams that a test answers.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { request as httpsRequest } from "node:https";
import type { IncomingHttpHeaders } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SystemClock } from "../../base/clock.ts";
import type { Clock } from "../../base/clock.ts";
import { GantryError } from "../../base/errors.ts";
import { newUid } from "../../base/ids.ts";
import { NAMESPACES } from "../../base/kube/resources.ts";
import { silentLogger } from "../../base/logger.ts";
import { Metrics } from "../../base/metrics.ts";
import { createAuthority, issue } from "../../base/tls/authority.ts";
import type { Authority } from "../../base/tls/authority.ts";
import { tokenAuthenticator } from "../../control-plane/api/authentication.ts";
import { createApiServer } from "../../control-plane/api/server.ts";
import type { ApiServer, ApiServerOptions } from "../../control-plane/api/server.ts";
import type { WatchCache } from "../../control-plane/state/cache.ts";
import { MemoryStore } from "../../control-plane/state/memory-store.ts";
import type { NodeStream } from "../../control-plane/state/node-streams.ts";
import type { ObjectKey, Store, Stored } from "../../control-plane/state/store.ts";
import { createWatchCache } from "../../control-plane/state/watch-cache.ts";
import type { StreamFrame, StreamRequest } from "../../proto/gen/gantry/v1/agent.ts";

export const ADMIN_TOKEN = "admin-token-of-a-test";
export const GUEST_TOKEN = "guest-token-of-a-test";

/** What a test's node does with a stream: yields frames, reads what the client sends. */
export type NodeBehaviour = (request: StreamRequest, input: AsyncIterable<StreamFrame>, signal: AbortSignal) => AsyncIterable<StreamFrame>;

export interface Response {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  // Tests look into answers of every shape.
  // oxlint-disable-next-line typescript/no-explicit-any
  readonly json: any;
}

export interface TestApi extends AsyncDisposable {
  readonly server: ApiServer;
  readonly store: Store;
  readonly cache: WatchCache;
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly authority: Authority;
  readonly directory: string;
  /** Path of a kubeconfig with the administrator's client certificate. */
  readonly kubeconfig: string;
  readonly admin: { readonly cert: string; readonly key: string };
  readonly nodes: Map<string, NodeBehaviour>;
  call(method: string, path: string, options?: CallOptions): Promise<Response>;
}

export interface CallOptions {
  readonly body?: unknown;
  readonly contentType?: string | undefined;
  readonly accept?: string;
  /** Instead of the administrator's certificate. "" for none. */
  readonly token?: string;
  readonly headers?: Record<string, string>;
  readonly client?: { readonly cert: string; readonly key: string } | undefined;
}

const openStream = (behaviour: NodeBehaviour, request: StreamRequest, signal: AbortSignal): NodeStream => {
  const input = new TransformStream<StreamFrame, StreamFrame>();
  const writer = input.writable.getWriter();
  writer.closed.catch(() => undefined);
  return {
    frames: behaviour(request, input.readable, signal),
    send: (frame) => writer.write(frame),
    end: () => void writer.close().catch(() => undefined),
    [Symbol.asyncDispose]: async () => {
      await writer.abort().catch(() => undefined);
    },
  };
};

const kubeconfigText = (port: number, authority: Authority, admin: { cert: string; key: string }): string => {
  const b64 = (text: string): string => Buffer.from(text).toString("base64");
  return JSON.stringify({
    apiVersion: "v1", kind: "Config", "current-context": "test",
    clusters: [{ name: "test", cluster: { server: `https://127.0.0.1:${port}`, "certificate-authority-data": b64(authority.certificatePem) } }],
    users: [{ name: "admin", user: { "client-certificate-data": b64(admin.cert), "client-key-data": b64(admin.key) } }],
    contexts: [{ name: "test", context: { cluster: "test", user: "admin" } }],
  });
};

export interface TestApiOptions {
  /** A memory store when absent. `peek` is the cache's latest, for stores that guess by it. */
  readonly openStore?: (peek: (key: ObjectKey) => Stored | undefined) => Store | Promise<Store>;
  readonly server?: Partial<ApiServerOptions>;
  readonly ringSize?: number;
}

export const startTestApi = async (options: TestApiOptions = {}): Promise<TestApi> => {
  const clock = new SystemClock();
  let peek: (key: ObjectKey) => Stored | undefined = () => undefined;
  const store = (await options.openStore?.((key) => peek(key))) ?? new MemoryStore();
  const cache = createWatchCache({ store, clock, logger: silentLogger, ringSize: options.ringSize });
  await cache.start();
  peek = (key) => cache.resource(key.type).get(key.namespace, key.name);
  for (const name of ["default", "kube-system"]) {
    await store.create({ type: NAMESPACES, namespace: "", name }, {
      apiVersion: "v1", kind: "Namespace", metadata: { name, uid: newUid(), creationTimestamp: new Date(clock.nowMs()).toISOString() }, spec: { finalizers: ["kubernetes"] }, status: { phase: "Active" },
    }, { writer: "controller" });
  }
  const authority = await createAuthority("test", clock);
  const day = 86_400_000;
  const serving = await issue(authority, { commonName: "gantry", ipAddresses: ["127.0.0.1"], dnsNames: ["localhost"], usage: "server", validForMs: day, clock });
  const issued = await issue(authority, { commonName: "kubernetes-admin", organizations: ["system:masters"], usage: "client", validForMs: day, clock });
  const admin = { cert: issued.certificatePem, key: issued.privateKeyPem };
  const nodes = new Map<string, NodeBehaviour>();
  const metrics = new Metrics();
  const server = createApiServer({
    store, cache, clock, random: () => 0.5, logger: silentLogger, metrics, defaultTolerationSeconds: 30,
    tls: { cert: serving.certificatePem, key: serving.privateKeyPem, clientCa: authority.certificatePem },
    authenticators: [tokenAuthenticator([{ token: ADMIN_TOKEN, user: "root", groups: ["system:masters"] }, { token: GUEST_TOKEN, user: "guest", groups: [] }])],
    streams: {
      connectedNodes: () => [...nodes.keys()],
      open: async (node, request, signal) => {
        const behaviour = nodes.get(node);
        if (!behaviour) throw new GantryError("ServiceUnavailable", `node ${node} is not connected`);
        return openStream(behaviour, request, signal);
      },
    },
    explainer: { explain: (namespace, name) => ({ pod: `${namespace}/${name}`, nodeName: undefined, groups: [], fits: [], summary: "0/0 nodes are available.", suggestion: undefined }) },
    ...options.server,
  });
  await server.listen("127.0.0.1", 0);
  const directory = await mkdtemp(join(tmpdir(), "gantry-api-"));
  const kubeconfig = join(directory, "kubeconfig");
  await writeFile(kubeconfig, kubeconfigText(server.port, authority, admin), { mode: 0o600 });

  const call = (method: string, path: string, { body, contentType = "application/json", accept, token, headers = {}, client = token === undefined ? admin : undefined }: CallOptions = {}): Promise<Response> =>
    new Promise((resolve, reject) => {
      const data = body === undefined ? undefined : typeof body === "string" || Buffer.isBuffer(body) ? body : JSON.stringify(body);
      const request = httpsRequest({
        host: "127.0.0.1", port: server.port, method, path, ca: authority.certificatePem, agent: false, ...client,
        headers: { ...(data === undefined ? {} : { "content-type": contentType, "content-length": Buffer.byteLength(data) }), ...(accept === undefined ? {} : { accept }), ...(token ? { authorization: `Bearer ${token}` } : {}), ...headers },
      }, (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("error", reject);
        response.on("end", () => {
          const text = Buffer.concat(chunks).toString();
          resolve({ status: response.statusCode ?? 0, headers: response.headers, text, get json() { return JSON.parse(text) as unknown; } });
        });
      });
      request.on("error", reject);
      request.end(data);
    });

  return {
    server, store, cache, clock, metrics, authority, directory, kubeconfig, admin, nodes, call,
    [Symbol.asyncDispose]: async () => {
      await server.close();
      cache.close();
      await store.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
};
