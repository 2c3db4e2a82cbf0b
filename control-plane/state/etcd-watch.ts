// One watch over the registry in etcd, with our own resume: always from the last revision that was handed on, plus one. (The etcd3
// client's own resume takes the revision of the "created" header, and can skip events after a second drop.) Used by the EtcdStore only.
import type { IWatchResponse } from "etcd3/lib/rpc.js";
import { backoffDelayMs } from "../../base/backoff.ts";
import type { BackoffPolicy } from "../../base/backoff.ts";
import type { Clock } from "../../base/clock.ts";
import { GantryError, isCode } from "../../base/errors.ts";
import type { Logger } from "../../base/logger.ts";
import { SLOTS, VersionCounter, bodyIn, endOf, parsePath, revisionOf, slotOf } from "./encoding.ts";
import { endOfPrefix } from "./etcd-client.ts";
import type { EtcdClient, EtcdStream, WatchRequestMessage } from "./etcd-client.ts";
import type { OwnWrites } from "./own-writes.ts";
import type { StoreEvent, WatchHandler } from "./store.ts";
import { expired, storedFromBody } from "./stored.ts";

export interface EtcdWatchOptions {
  readonly client: EtcdClient;
  /** PREFIX/registry/ */
  readonly registryPrefix: string;
  /** resourceVersion after which to begin. */
  readonly after: number;
  readonly handler: WatchHandler;
  readonly clock: Clock;
  readonly logger: Logger;
  /** After this long without a message etcd is asked for a sign of life, and after as long again the stream counts as broken. */
  readonly silenceMs: number;
  readonly onReconnect: () => void;
  readonly ownWrites: OwnWrites;
}

type WatchStream = EtcdStream<WatchRequestMessage, IWatchResponse>;

const RETRY: BackoffPolicy = { initialMs: 50, maxMs: 2000, factor: 2, jitter: 0 };

export class EtcdWatch implements Disposable {
  readonly #options: EtcdWatchOptions;
  readonly #disposed = new AbortController();
  #nextRevision: number;
  #stream: WatchStream | undefined;
  #failures = 0;
  #lastHeardMs = 0;
  #asked = false;
  #watchdog: Disposable | undefined;

  constructor(options: EtcdWatchOptions) {
    this.#options = options;
    // A version within a revision: that revision is read again, and what is not after it is dropped.
    this.#nextRevision = revisionOf(options.after) + (options.after % SLOTS === SLOTS - 1 ? 1 : 0);
    void this.#connect();
  }

  [Symbol.dispose](): void {
    this.#disposed.abort();
    this.#watchdog?.[Symbol.dispose]();
    this.#drop();
  }

  async #connect(): Promise<void> {
    const { client, registryPrefix } = this.#options;
    let stream: WatchStream;
    try {
      // A plain read first: it fails fast while etcd is away, and renews an authentication that ran out, which a stream can't.
      if (this.#failures > 0) await client.range({ key: Buffer.from(registryPrefix), keys_only: true });
      stream = await client.watch();
    } catch (error) {
      this.#reconnect(undefined, error);
      return;
    }
    if (this.#disposed.signal.aborted) {
      stream.on("error", ignore);
      stream.cancel();
      return;
    }
    this.#stream = stream;
    stream.on("data", (response) => {
      if (this.#stream === stream) this.#receive(stream, response);
    });
    stream.on("error", (error) => this.#reconnect(stream, error));
    stream.on("end", () => this.#reconnect(stream, new GantryError("ServiceUnavailable", "etcd ended the watch")));
    stream.write({ create_request: { key: Buffer.from(registryPrefix), range_end: endOfPrefix(registryPrefix), start_revision: this.#nextRevision, progress_notify: true } });
    this.#heard();
    this.#watch();
  }

  #receive(stream: WatchStream, response: IWatchResponse): void {
    this.#heard();
    if (response.canceled) {
      if (Number(response.compact_revision) > 0) this.#lose(expired("watch"));
      else this.#reconnect(stream, new GantryError("ServiceUnavailable", "etcd cancelled the watch", { cause: new Error(String((response as { cancel_reason?: string }).cancel_reason)) }));
      return;
    }
    if (response.created) this.#failures = 0;
    if (response.events.length === 0) return;
    // The header's revision says nothing about what is still to come on this stream (etcd 3.4 answers a progress request past events
    // that wait to be sent), so only events move us on.
    let events: StoreEvent[];
    let marked: boolean;
    try {
      ({ events, marked } = this.#decode(response));
    } catch (error) {
      this.#lose(error instanceof Error ? error : new Error(String(error)));
      return;
    }
    const revision = Number(response.events.at(-1)!.kv.mod_revision);
    this.#nextRevision = revision + 1;
    if (events.length > 0) this.#tell((handler) => handler.events(events));
    if (marked) this.#tell((handler) => handler.progress(endOf(revision)));
  }

  /** All events of one etcd transaction come in one response, in the order of its operations. */
  #decode(response: IWatchResponse): { readonly events: StoreEvent[]; readonly marked: boolean } {
    const { registryPrefix, after, ownWrites } = this.#options;
    const versions = new VersionCounter();
    const events: StoreEvent[] = [];
    let marked = false;
    for (const { type, kv } of response.events) {
      const path = kv.key.toString("utf8", registryPrefix.length);
      const parsed = parsePath(path);
      if (!parsed) {
        marked = true;
        continue;
      }
      const revision = Number(kv.mod_revision);
      // The messages hold the names of etcd's proto file, "PUT" and "DELETE"; etcd3's types declare "Put" and "Delete".
      if (type.toUpperCase() === "DELETE") {
        const resourceVersion = versions.delete(revision);
        ownWrites.seen(path, resourceVersion);
        if (resourceVersion > after) events.push({ type: "delete", ...parsed, resourceVersion, stored: undefined });
        continue;
      }
      const resourceVersion = versions.put(revision, slotOf(kv.value, path));
      const own = ownWrites.seen(path, resourceVersion);
      if (resourceVersion > after) events.push({ type: "put", ...parsed, resourceVersion, stored: own ?? storedFromBody(bodyIn(kv.value), resourceVersion) });
    }
    return { events, marked };
  }

  #heard(): void {
    this.#lastHeardMs = this.#options.clock.monotonicMs();
    this.#asked = false;
  }

  /** A connection can die without a word; silence is how it shows. */
  #watch(): void {
    const { clock, silenceMs } = this.#options;
    this.#watchdog?.[Symbol.dispose]();
    this.#watchdog = clock.setTimer(Math.max(1, this.#lastHeardMs + silenceMs - clock.monotonicMs()), () => {
      const stream = this.#stream;
      if (!stream) return;
      if (clock.monotonicMs() - this.#lastHeardMs >= silenceMs) {
        if (this.#asked) {
          this.#reconnect(stream, new GantryError("Timeout", `the watch on etcd was silent for ${2 * silenceMs} ms`));
          return;
        }
        stream.write({ progress_request: {} });
        this.#lastHeardMs = clock.monotonicMs();
        this.#asked = true;
      }
      this.#watch();
    });
  }

  #reconnect(stream: WatchStream | undefined, cause: unknown): void {
    if (this.#disposed.signal.aborted || stream !== this.#stream) return;
    this.#drop();
    this.#options.onReconnect();
    const delayMs = backoffDelayMs(RETRY, ++this.#failures, () => 0);
    this.#options.logger.info("the watch on etcd broke; resuming", { fromRevision: this.#nextRevision, delayMs, err: cause });
    this.#options.clock.sleep(delayMs, this.#disposed.signal).then(() => this.#connect(), ignore);
  }

  #lose(error: Error): void {
    this[Symbol.dispose]();
    if (!isCode(error, "Expired")) this.#options.logger.error("the watch on etcd can't go on", { err: error });
    this.#tell((handler) => handler.lost(error));
  }

  #drop(): void {
    this.#watchdog?.[Symbol.dispose]();
    const stream = this.#stream;
    this.#stream = undefined;
    stream?.cancel();
  }

  #tell(call: (handler: WatchHandler) => void): void {
    try {
      call(this.#options.handler);
    } catch (error) {
      this.#options.logger.error("a watch handler threw", { err: error });
    }
  }
}

const ignore = (): void => undefined;
