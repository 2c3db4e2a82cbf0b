// The state store over etcd: reads, optimistic updates through group commit, watches. It owns PREFIX/registry and the markers of its
// group commit under PREFIX/writers. docs/design/state.md tells why it is built this way.
import type { IKeyValue, IRangeRequest, IRangeResponse } from "etcd3/lib/rpc.js";
import type { Clock } from "../../base/clock.ts";
import { GantryError, isCode } from "../../base/errors.ts";
import { newId } from "../../base/ids.ts";
import type { KubeObject, ResourceType } from "../../base/kube/resources.ts";
import type { Logger } from "../../base/logger.ts";
import type { Metrics } from "../../base/metrics.ts";
import { awake } from "./awake.ts";
import { MAX_REQUEST_BYTES, bodyIn, endOf, parsePath, pathOf, revisionOf, slotOf, versionOf } from "./encoding.ts";
import { EtcdClient, endOfPrefix } from "./etcd-client.ts";
import { EtcdElections } from "./etcd-elections.ts";
import { EtcdWatch } from "./etcd-watch.ts";
import { GroupCommit } from "./group-commit.ts";
import type { Outcome } from "./group-commit.ts";
import { planCreate, planDelete, planUpdate } from "./mutation.ts";
import { OwnWrites } from "./own-writes.ts";
import type {
  ListOptions, ObjectKey, Preconditions, Store, StoreSnapshot, Stored, StoredList, WatchHandler, WriteOptions,
} from "./store.ts";
import { alreadyExists, atVersion, expired, fenced, future, notFound, storedFromBody } from "./stored.ts";

export interface EtcdStoreOptions {
  /** `https://host:port`, `http://host:port` or `unix:///path`, of one etcd cluster. */
  readonly endpoints: readonly string[];
  /** PEM. */
  readonly tls?: { readonly ca: Buffer; readonly cert: Buffer; readonly key: Buffer } | undefined;
  readonly username?: string | undefined;
  readonly password?: string | undefined;
  /** Of every key, without a slash at its end. Default "/gantry". */
  readonly prefix?: string | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics?: Metrics | undefined;
  /** The watch cache's latest: the first guess of `update` and `delete`. A stale one only costs a retry. */
  readonly peek?: ((key: ObjectKey) => Stored | undefined) | undefined;
  /** How long a read or write may take, all retries included. Default 10 s. */
  readonly requestTimeoutMs?: number | undefined;
  /** For one call to etcd. Default 5 s. */
  readonly callTimeoutMs?: number | undefined;
  /** etcd's --max-request-bytes, less framing. Default 1.4 MiB, for etcd's default of 1.5 MiB. */
  readonly maxRequestBytes?: number | undefined;
  /** Of a leader's lease: how long the cluster is without a leader when its host dies. Default 6 s. */
  readonly leaseTtlSeconds?: number | undefined;
  /** Silence after which a watch asks for a sign of life. Default 5 s. */
  readonly watchSilenceMs?: number | undefined;
}

/** Keys read at once; larger lists are read in parts, at one revision. */
const PAGE = 2000;
const READ_RETRY_MS = 50;
/** Not a path of an object: a write to it passes through every watch in order with the objects' events. */
const MARK = ".mark";

export class EtcdStore implements Store {
  readonly #options: EtcdStoreOptions;
  readonly #client: EtcdClient;
  readonly #commit: GroupCommit;
  readonly #prefix: string;
  readonly #registry: string;
  readonly #markerKey: string;
  readonly #timeoutMs: number;
  readonly #watches = new Set<EtcdWatch>();
  readonly #ownWrites = new OwnWrites();
  readonly #countReconnect: () => void;
  readonly elections: EtcdElections;

  /** Connects and waits (up to requestTimeoutMs) until etcd answers. Throws "ServiceUnavailable", "Timeout", "Unauthorized". */
  static async connect(options: EtcdStoreOptions): Promise<EtcdStore> {
    const store = new EtcdStore(options);
    try {
      await store.ping();
      return store;
    } catch (error) {
      await store.close();
      throw error;
    }
  }

  private constructor(options: EtcdStoreOptions) {
    const { endpoints, tls, username, password, clock, metrics } = options;
    const prefix = options.prefix ?? "/gantry";
    if (endpoints.length === 0) throw new GantryError("Invalid", "endpoints: none given; one or more such as https://10.0.0.1:2379 are needed");
    if (prefix === "" || prefix.endsWith("/")) throw new GantryError("Invalid", `prefix: "${prefix}" must not be empty or end in a slash; for example /gantry`);
    this.#options = { ...options, logger: options.logger.child({ component: "store" }) };
    this.#timeoutMs = options.requestTimeoutMs ?? 10_000;
    this.#prefix = prefix;
    this.#registry = `${prefix}/registry/`;
    this.#markerKey = `${prefix}/writers/${newId()}`;
    this.#client = new EtcdClient({ endpoints, tls, username, password, clock, metrics, requestTimeoutMs: Math.min(options.callTimeoutMs ?? 5_000, this.#timeoutMs) });
    this.#commit = new GroupCommit({
      client: this.#client, markerKey: this.#markerKey, clock, logger: this.#options.logger, metrics, timeoutMs: this.#timeoutMs, maxRequestBytes: options.maxRequestBytes ?? MAX_REQUEST_BYTES,
    });
    this.elections = new EtcdElections({ client: this.#client, prefix: `${prefix}/elections/`, clock, logger: this.#options.logger, ttlSeconds: options.leaseTtlSeconds });
    const reconnects = metrics?.counter("gantry_etcd_watch_reconnects_total", "Times the watch on etcd broke and was resumed.");
    this.#countReconnect = () => reconnects?.inc();
  }

  async get<T extends KubeObject>(key: ObjectKey<T>): Promise<Stored<T> | undefined> {
    const { kvs } = await this.#range({ key: this.#keyOf(key) });
    return kvs[0] && (this.#toStored(kvs[0]) as Stored<T>);
  }

  async list<T extends KubeObject>(type: ResourceType<T>, options: ListOptions = {}): Promise<StoredList<T>> {
    const prefix = this.#registry + (options.namespace === undefined ? `${type.name}/` : pathOf({ type, namespace: options.namespace, name: "" }));
    const from = options.after ? `${this.#registry}${pathOf({ type, ...options.after })}\0` : prefix;
    const { kvs, revision, remaining } = await this.#pages(from, endOfPrefix(prefix), options.limit, options.at === undefined ? undefined : revisionOf(options.at));
    const items = kvs.map((kv) => this.#toStored(kv) as Stored<T>);
    const last = remaining > 0 ? items.at(-1)?.object.metadata : undefined;
    return {
      items, resourceVersion: options.at ?? endOf(revision), remaining,
      next: last && { namespace: type.namespaced ? (last.namespace ?? "") : "", name: last.name! },
    };
  }

  async snapshot(): Promise<StoreSnapshot> {
    const { kvs, revision } = await this.#pages(this.#registry, endOfPrefix(this.#registry), undefined, undefined);
    const items = kvs.flatMap((kv) => {
      const parsed = parsePath(kv.key.toString("utf8", this.#registry.length));
      return parsed ? [{ ...parsed, stored: this.#toStored(kv) }] : [];
    });
    return { items, resourceVersion: endOf(revision) };
  }

  async create<T extends KubeObject>(key: ObjectKey<T>, object: T, options: WriteOptions): Promise<Stored<T>> {
    const body = planCreate(key, object, options);
    const outcome = await this.#write(key, 0, body, options);
    if (outcome.kind === "conflict") throw alreadyExists(key);
    return this.#wrote(key, storedFromBody<T>(body, outcome.resourceVersion));
  }

  async update<T extends KubeObject>(key: ObjectKey<T>, change: (current: T) => T | undefined, options: WriteOptions & Preconditions): Promise<Stored<T>> {
    return this.#decideAndWrite(key, options, (current) => {
      const body = planUpdate(key, current, change, options);
      return body === undefined ? undefined : { body, result: (resourceVersion) => this.#wrote(key, storedFromBody<T>(body, resourceVersion)) };
    });
  }

  async delete<T extends KubeObject>(key: ObjectKey<T>, options: WriteOptions & Preconditions): Promise<Stored<T>> {
    return this.#decideAndWrite(key, options, (current) => {
      planDelete(key, current, options);
      return {
        body: undefined,
        result: (resourceVersion) => {
          this.#ownWrites.deleted(pathOf(key));
          return atVersion(current, resourceVersion);
        },
      };
    });
  }

  watch(after: number, handler: WatchHandler): Disposable {
    const { clock, logger, watchSilenceMs } = this.#options;
    const watch = new EtcdWatch({
      client: this.#client, registryPrefix: this.#registry, after, handler, clock, logger, silenceMs: watchSilenceMs ?? 5_000, onReconnect: this.#countReconnect, ownWrites: this.#ownWrites,
    });
    this.#watches.add(watch);
    return {
      [Symbol.dispose]: () => {
        this.#watches.delete(watch);
        watch[Symbol.dispose]();
      },
    };
  }

  requestProgress(): void {
    this.mark().catch((error: unknown) => this.#options.logger.debug("no progress mark was written", { err: error }));
  }

  async ping(signal?: AbortSignal): Promise<void> {
    await this.#range({ key: Buffer.from(this.#markerKey), keys_only: true }, signal);
  }

  async close(): Promise<void> {
    for (const watch of this.#watches) watch[Symbol.dispose]();
    this.#watches.clear();
    this.#commit.close();
    this.#client.close();
  }

  /** Writes the progress mark: an event that every watch gets in order. Returns its revision. */
  async mark(): Promise<number> {
    const put = { request_put: { key: Buffer.from(this.#registry + MARK), value: Buffer.alloc(0) } };
    const { header } = await this.#repeat(() => this.#client.txn({ success: [put] }, "mark"));
    return Number(header.revision);
  }

  /** Forgets what was before `revision`: older lists and watches get "Expired". For compaction.ts. */
  async compact(revision: number): Promise<void> {
    await this.#repeat(() => this.#client.compact({ revision: String(revision) })).catch((error: unknown) => {
      // Someone else has compacted that far already.
      if (!isCode(error, "Expired")) throw error;
    });
  }

  /** Removes markers that were last put before `revision`: those of processes that ended. One still alive makes itself a new one. */
  async removeMarkersBefore(revision: number): Promise<number> {
    const prefix = `${this.#prefix}/writers/`;
    const { kvs } = await this.#range({ key: Buffer.from(prefix), range_end: endOfPrefix(prefix), keys_only: true, max_mod_revision: String(revision) });
    for (const { key, mod_revision } of kvs) {
      await this.#client.txn({ compare: [{ result: "Equal", target: "Mod", key, mod_revision }], success: [{ request_delete_range: { key } }] }, "remove-marker");
    }
    return kvs.length;
  }

  #keyOf(key: ObjectKey): Buffer {
    return Buffer.from(this.#registry + pathOf(key));
  }

  #wrote<T extends KubeObject>(key: ObjectKey<T>, stored: Stored<T>): Stored<T> {
    // Without a feed nothing would take it out again; and the feed may have been faster than the answer.
    const seen = this.#options.peek?.(key)?.resourceVersion ?? 0;
    if (this.#watches.size > 0 && seen < stored.resourceVersion) this.#ownWrites.wrote(pathOf(key), stored);
    return stored;
  }

  #toStored(kv: IKeyValue): Stored {
    const slot = slotOf(kv.value, kv.key.toString());
    return storedFromBody(bodyIn(kv.value), versionOf(Number(kv.mod_revision), slot));
  }

  /** The loop of every read-decide-write: on a lost race it decides again, on what it lost to. */
  async #decideAndWrite<T extends KubeObject>(
    key: ObjectKey<T>,
    options: WriteOptions,
    decide: (current: Stored<T>) => { readonly body: string | undefined; readonly result: (resourceVersion: number) => Stored<T> } | undefined,
  ): Promise<Stored<T>> {
    let current = this.#ownWrites.newest(pathOf(key), this.#options.peek?.(key)) as Stored<T> | undefined;
    let guessed = current !== undefined;
    current ??= await this.get(key);
    for (;;) {
      if (!current) throw notFound(key);
      let decision: ReturnType<typeof decide>;
      try {
        decision = decide(current);
      } catch (error) {
        if (!guessed) throw error;
        decision = undefined;
      }
      if (decision) {
        const outcome = await this.#write(key, revisionOf(current.resourceVersion), decision.body, options);
        if (outcome.kind === "committed") return decision.result(outcome.resourceVersion);
        current = outcome.current && (this.#toStored(outcome.current) as Stored<T>);
      } else {
        // Nothing to write, or an error: true only of the real state, so a guess is checked first.
        if (!guessed) return current;
        current = await this.get(key);
      }
      guessed = false;
    }
  }

  async #write(key: ObjectKey, ifRevision: number, body: string | undefined, options: WriteOptions): Promise<Exclude<Outcome, { kind: "fenced" }>> {
    const outcome = await this.#commit.write({ key: this.#registry + pathOf(key), ifRevision, body, fence: options.fence });
    if (outcome.kind === "fenced") throw fenced(key);
    return outcome;
  }

  async #pages(from: string, end: Buffer, limit: number | undefined, at: number | undefined): Promise<{ kvs: IKeyValue[]; revision: number; remaining: number }> {
    const kvs: IKeyValue[] = [];
    let revision = at;
    let key = Buffer.from(from);
    for (;;) {
      const page = Math.min(PAGE, limit === undefined ? PAGE : limit - kvs.length);
      const answer = await this.#range({ key, range_end: end, limit: page, ...(revision === undefined ? {} : { revision: String(revision) }) });
      revision ??= Number(answer.header.revision);
      kvs.push(...answer.kvs);
      const remaining = Number(answer.count) - answer.kvs.length;
      if (remaining === 0 || answer.kvs.length === 0 || kvs.length === limit) return { kvs, revision, remaining };
      key = Buffer.concat([answer.kvs.at(-1)!.key, Buffer.from([0])]);
    }
  }

  async #range(request: IRangeRequest, signal?: AbortSignal): Promise<IRangeResponse> {
    try {
      return await this.#repeat(() => this.#client.range(request), signal);
    } catch (error) {
      if (isCode(error, "Expired")) throw expired("list");
      if (isCode(error, "BadRequest")) throw future(endOf(Number(request.revision)));
      throw error;
    }
  }

  /** For what may be done twice. */
  async #repeat<R>(call: () => Promise<R>, signal?: AbortSignal): Promise<R> {
    const { clock } = this.#options;
    const endMs = clock.monotonicMs() + this.#timeoutMs;
    for (;;) {
      signal?.throwIfAborted();
      try {
        return await call();
      } catch (error) {
        if (!(error instanceof GantryError && error.retryable) || clock.monotonicMs() + READ_RETRY_MS >= endMs) throw error;
        await awake(clock.sleep(READ_RETRY_MS, signal));
      }
    }
  }
}
