// Calls to etcd: connections, authentication, deadlines, metrics, and the translation of its errors. Used by the store, the watch
// feed and the elections only. It never repeats a call by itself: whether that is safe, only the caller knows.
// etcd's API: https://etcd.io/docs/v3.4/learning/api/ ; the messages' types are etcd3's.
import type { Metadata } from "@grpc/grpc-js";
import type { ICompactionRequest, ILeaseGrantResponse, IRangeRequest, IRangeResponse, ITxnRequest, ITxnResponse, IWatchResponse } from "etcd3/lib/rpc.js";
import { ConnectionPool } from "etcd3/lib/connection-pool.js";
import type { Clock } from "../../base/clock.ts";
import { GantryError } from "../../base/errors.ts";
import type { Metrics } from "../../base/metrics.ts";

export interface EtcdClientOptions {
  /** `https://host:port`, `http://host:port` or `unix:///path`. */
  readonly endpoints: readonly string[];
  /** PEM. */
  readonly tls?: { readonly ca: Buffer; readonly cert: Buffer; readonly key: Buffer } | undefined;
  readonly username?: string | undefined;
  readonly password?: string | undefined;
  readonly clock: Clock;
  readonly metrics?: Metrics | undefined;
  /** For one call. */
  readonly requestTimeoutMs: number;
}

/** A bidirectional stream of grpc-js, as far as it is used here. */
export interface EtcdStream<Request, Response> {
  write(message: Request): void;
  on(event: "data", handler: (message: Response) => void): unknown;
  on(event: "error", handler: (error: Error) => void): unknown;
  on(event: "end", handler: () => void): unknown;
  cancel(): void;
}

export interface WatchRequestMessage {
  readonly create_request?: { readonly key: Buffer; readonly range_end?: Buffer; readonly start_revision: number; readonly progress_notify?: boolean };
  readonly progress_request?: Record<string, never>;
}

/** Failures are ours to handle: etcd3's own policies repeat calls and break circuits, which a write must not suffer unasked. */
const PLAIN = { execute: (fn: (context: { signal: AbortSignal }) => unknown) => fn({ signal: NEVER }) };
const NEVER = new AbortController().signal;

const CHANNEL_OPTIONS = {
  // A list can be larger than grpc-js' default of 4 MiB.
  "grpc.max_receive_message_length": -1,
  "grpc.initial_reconnect_backoff_ms": 50,
  "grpc.min_reconnect_backoff_ms": 50,
  "grpc.max_reconnect_backoff_ms": 1000,
  // Half-open connections: etcd allows a ping every 5 s.
  "grpc.keepalive_time_ms": 10_000,
  "grpc.keepalive_timeout_ms": 5_000,
};

export class EtcdClient {
  readonly #pool: ConnectionPool;
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  readonly #where: string;
  readonly #observe: (operation: string, seconds: number) => void;
  #closed = false;

  constructor({ endpoints, tls, username, password, clock, metrics, requestTimeoutMs }: EtcdClientOptions) {
    this.#clock = clock;
    this.#timeoutMs = requestTimeoutMs;
    this.#where = endpoints.join(",");
    const seconds = metrics?.histogram("gantry_etcd_request_seconds", "Round trips to etcd.", ["operation"]);
    this.#observe = (operation, duration) => seconds?.observe({ operation }, duration);
    try {
      this.#pool = new ConnectionPool({
        hosts: [...endpoints],
        ...(tls ? { credentials: { rootCertificate: tls.ca, certChain: tls.cert, privateKey: tls.key } } : {}),
        ...(username !== undefined ? { auth: { username, password: password ?? "" } } : {}),
        grpcOptions: CHANNEL_OPTIONS,
        faultHandling: { host: () => PLAIN as never, global: PLAIN as never },
      });
    } catch (error) {
      throw new GantryError("Invalid", `can't connect to etcd at ${this.#where}: endpoints must be all https or all not, and CA, certificate and key must be PEM`, { cause: error });
    }
  }

  range(request: IRangeRequest): Promise<IRangeResponse> {
    return this.#call("KV", "range", request);
  }

  txn(request: ITxnRequest, operation = "txn"): Promise<ITxnResponse> {
    return this.#call("KV", "txn", request, operation);
  }

  compact(request: ICompactionRequest): Promise<unknown> {
    return this.#call("KV", "compact", request);
  }

  leaseGrant(ttlSeconds: number): Promise<ILeaseGrantResponse> {
    return this.#call("Lease", "leaseGrant", { TTL: ttlSeconds });
  }

  leaseRevoke(lease: string): Promise<unknown> {
    return this.#call("Lease", "leaseRevoke", { ID: lease });
  }

  watch(): Promise<EtcdStream<WatchRequestMessage, IWatchResponse>> {
    return this.#stream("Watch", "watch");
  }

  leaseKeepAlive(): Promise<EtcdStream<{ readonly ID: string }, { readonly TTL: string }>> {
    return this.#stream("Lease", "leaseKeepAlive");
  }

  close(): void {
    this.#closed = true;
    this.#pool.close();
  }

  async #call<T>(service: "KV" | "Lease", method: string, payload: unknown, operation = method): Promise<T> {
    if (this.#closed) throw new GantryError("Cancelled", "the connection to etcd was closed");
    const startMs = this.#clock.monotonicMs();
    try {
      return await this.#pool.exec<T>(service, method, payload, { deadline: this.#clock.nowMs() + this.#timeoutMs });
    } catch (error) {
      throw translateEtcdError(error, this.#where);
    } finally {
      this.#observe(operation, (this.#clock.monotonicMs() - startMs) / 1000);
    }
  }

  async #stream<Request, Response>(service: "Watch" | "Lease", method: string): Promise<EtcdStream<Request, Response>> {
    if (this.#closed) throw new GantryError("Cancelled", "the connection to etcd was closed");
    try {
      return await this.#pool.withConnection(service, ({ client, metadata }) =>
        (client as unknown as Record<string, (metadata: Metadata) => EtcdStream<Request, Response>>)[method]!(metadata));
    } catch (error) {
      throw translateEtcdError(error, this.#where);
    }
  }
}

/** etcd's and gRPC's errors, by the text that etcd's rpctypes fix, as ours. What is not listed may or may not have taken effect. */
const MEANINGS: readonly (readonly [RegExp, ConstructorParameters<typeof GantryError>[0], string])[] = [
  [/required revision has been compacted/, "Expired", "the requested version was compacted"],
  [/required revision is a future revision/, "BadRequest", "the requested version has not been reached"],
  [/request is too large|larger than max|too many operations/, "RequestEntityTooLarge", "etcd refused the request as too large"],
  [/database space exceeded/, "ServiceUnavailable", "etcd's database is full: raise its quota (--quota-backend-bytes), compact and defragment it, then disarm the alarm with etcdctl alarm disarm"],
  [/duplicate key given/, "InternalError", "a key stood twice in one transaction"],
  [/permission denied|invalid user ID or password|user name is empty|invalid auth token|authentication is not enabled/, "Unauthorized", "etcd refused our credentials (--etcd-username, --etcd-password, or the client certificate)"],
  [/certificate|handshake|self.signed|unable to verify|EPROTO|wrong version number/i, "ServiceUnavailable", "no TLS connection to etcd (--etcd-ca, --etcd-cert, --etcd-key)"],
  [/DEADLINE_EXCEEDED|request timed out|Deadline exceeded/, "Timeout", "etcd did not answer in time"],
];

export const translateEtcdError = (error: unknown, where: string): GantryError => {
  if (error instanceof GantryError) return error;
  const text = error instanceof Error ? error.message : String(error);
  for (const [pattern, code, meaning] of MEANINGS) if (pattern.test(text)) return new GantryError(code, `${meaning} (etcd at ${where})`, { cause: error });
  return new GantryError("ServiceUnavailable", `etcd at ${where} can't be reached`, { cause: error });
};

/** The end of the range that holds every key with this prefix. `prefix` ends in a byte below 255. */
export const endOfPrefix = (prefix: string): Buffer => {
  const end = Buffer.from(prefix);
  end[end.length - 1]! += 1;
  return end;
};
