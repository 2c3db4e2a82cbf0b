// Elections over etcd: whoever creates the election's key, bound to a lease of its own, leads; the key's create revision is the fence.
// Owns PREFIX/elections/.
import type { IKeyValue } from "etcd3/lib/rpc.js";
import type { Clock } from "../../base/clock.ts";
import { GantryError } from "../../base/errors.ts";
import type { Logger } from "../../base/logger.ts";
import { awake } from "./awake.ts";
import type { Candidate, Elections, Leader, Leadership } from "./election.ts";
import type { EtcdClient, EtcdStream } from "./etcd-client.ts";

export interface EtcdElectionsOptions {
  readonly client: EtcdClient;
  /** PREFIX/elections/ */
  readonly prefix: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Of the leader's lease: how long a cluster is without a leader after its host died. Default 6 s. */
  readonly ttlSeconds?: number | undefined;
}

interface Holder extends Leader {
  readonly instance: string;
}

export class EtcdElections implements Elections {
  readonly #client: EtcdClient;
  readonly #prefix: string;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #ttlSeconds: number;

  constructor({ client, prefix, clock, logger, ttlSeconds }: EtcdElectionsOptions) {
    this.#client = client;
    this.#prefix = prefix;
    this.#clock = clock;
    this.#logger = logger;
    this.#ttlSeconds = ttlSeconds ?? 6;
  }

  async campaign(candidate: Candidate, signal: AbortSignal, onLeader: (leader: Leader | undefined) => void = () => undefined): Promise<Leadership> {
    const key = Buffer.from(this.#prefix + candidate.election);
    const value = Buffer.from(JSON.stringify({ identity: candidate.identity, instance: candidate.instance, addresses: candidate.addresses } satisfies Holder));
    for (;;) {
      signal.throwIfAborted();
      const lease = new Lease(this.#client, this.#clock, this.#ttlSeconds);
      try {
        await lease.grant();
        const response = await this.#client.txn({
          compare: [{ result: "Equal", target: "Create", key, create_revision: "0" }],
          success: [{ request_put: { key, value, lease: lease.id } }],
          failure: [{ request_range: { key } }],
        }, "campaign");
        if (response.succeeded) {
          signal.throwIfAborted();
          lease.keepAlive();
          return { fence: { electionKey: key.toString(), createRevision: response.header.revision }, lost: lease.lost, resign: () => lease.revoke() };
        }
        const held = response.responses[0]!.response_range.kvs[0]!;
        await lease.revoke();
        // The answer to our own success may have been lost, and a killed predecessor of our identity needs no mercy: should it still live,
        // its fence no longer holds.
        const holder = holderOf(held);
        if (holder?.instance === candidate.instance || (candidate.first && holder?.identity === candidate.identity)) {
          this.#logger.info("taking over from our predecessor", { election: candidate.election, identity: candidate.identity });
          await this.#client.leaseRevoke(held.lease);
          continue;
        }
        this.#logger.info("another leads; waiting", { election: candidate.election, leader: holder?.identity, at: holder?.addresses?.agents });
        onLeader(holder);
        await this.#untilDeleted(key, Number(response.header.revision) + 1, signal);
        onLeader(undefined);
      } catch (error) {
        await lease.revoke();
        if (!(error instanceof GantryError && error.retryable)) throw error;
        // Should the answer to our own success be what was lost, the next round finds our instance in the key.
        this.#logger.debug("campaigning again", { election: candidate.election, err: error });
        await awake(this.#clock.sleep(RECONNECT_MS, signal));
      }
    }
  }

  /** Resolves when the key was deleted, and also when that can't be known any more: the caller looks again. */
  async #untilDeleted(key: Buffer, fromRevision: number, signal: AbortSignal): Promise<void> {
    const stream = await this.#client.watch();
    const { promise, resolve } = Promise.withResolvers<void>();
    const wake = (): void => resolve();
    stream.on("error", wake);
    stream.on("end", wake);
    stream.on("data", (response) => {
      if (response.canceled || response.events.length > 0) resolve();
    });
    signal.addEventListener("abort", wake, { once: true });
    stream.write({ create_request: { key, start_revision: fromRevision } });
    // A connection that died silently must not make us wait forever.
    const look = this.#clock.setTimer(this.#ttlSeconds * 10_000, wake);
    try {
      await promise;
    } finally {
      signal.removeEventListener("abort", wake);
      look[Symbol.dispose]();
      stream.cancel();
    }
  }
}

const holderOf = (kv: IKeyValue): Holder | undefined => {
  try {
    return JSON.parse(kv.value.toString()) as Holder;
  } catch {
    return undefined;
  }
};

type KeepAliveStream = EtcdStream<{ readonly ID: string }, { readonly TTL: string }>;

/** A lease in etcd, renewed at a third of its time; lost as soon as it may have run out, by our own monotonic clock. */
class Lease {
  readonly #client: EtcdClient;
  readonly #clock: Clock;
  readonly #ttlSeconds: number;
  readonly #lost = new AbortController();
  #id: string | undefined;
  /** Our clock when the renewal that etcd last confirmed was sent: etcd counts from later than that. */
  #confirmedMs = 0;
  #stream: KeepAliveStream | undefined;
  readonly #sentMs: number[] = [];
  #timer: Disposable | undefined;
  #ended = false;

  constructor(client: EtcdClient, clock: Clock, ttlSeconds: number) {
    this.#client = client;
    this.#clock = clock;
    this.#ttlSeconds = ttlSeconds;
  }

  get id(): string {
    return this.#id!;
  }

  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  async grant(): Promise<void> {
    this.#confirmedMs = this.#clock.monotonicMs();
    this.#id = (await this.#client.leaseGrant(this.#ttlSeconds)).ID;
  }

  keepAlive(): void {
    void this.#renew();
  }

  async revoke(): Promise<void> {
    this.#end();
    const id = this.#id;
    this.#id = undefined;
    if (id !== undefined) await this.#client.leaseRevoke(id).catch(() => undefined);
  }

  #end(): void {
    this.#ended = true;
    this.#timer?.[Symbol.dispose]();
    this.#drop();
  }

  #drop(): void {
    const stream = this.#stream;
    this.#stream = undefined;
    this.#sentMs.length = 0;
    stream?.cancel();
  }

  #lose(why: string): void {
    if (this.#ended) return;
    this.#end();
    this.#lost.abort(new GantryError("Fenced", why));
  }

  /** Sends one renewal and comes back in time for the next: sooner while none is confirmed. */
  async #renew(): Promise<void> {
    const ttlMs = this.#ttlSeconds * 1000;
    const leftMs = this.#confirmedMs + ttlMs - this.#clock.monotonicMs();
    if (leftMs <= 0) {
      this.#lose(`the lease could not be renewed for ${this.#ttlSeconds} s`);
      return;
    }
    // Unanswered for a third of its time: another connection may work.
    if (this.#sentMs.length > 0) this.#drop();
    this.#timer = this.#clock.setTimer(Math.min(ttlMs / 3, leftMs), () => void this.#renew());
    try {
      const stream = this.#stream ?? (await this.#open());
      if (this.#ended || (this.#stream ?? stream) !== stream) {
        stream.cancel();
        return;
      }
      this.#stream = stream;
      this.#sentMs.push(this.#clock.monotonicMs());
      stream.write({ ID: this.id });
    } catch {
      this.#drop();
    }
  }

  async #open(): Promise<KeepAliveStream> {
    const stream = await this.#client.leaseKeepAlive();
    const broken = (): void => {
      if (this.#stream !== stream) return;
      this.#drop();
      if (this.#ended) return;
      this.#timer?.[Symbol.dispose]();
      this.#timer = this.#clock.setTimer(RECONNECT_MS, () => void this.#renew());
    };
    stream.on("error", broken);
    stream.on("end", broken);
    stream.on("data", ({ TTL }) => {
      if (this.#stream !== stream) return;
      const sentMs = this.#sentMs.shift();
      if (Number(TTL) <= 0) this.#lose("the lease has expired or was taken over");
      else if (sentMs !== undefined) this.#confirmedMs = sentMs;
    });
    return stream;
  }
}

const RECONNECT_MS = 250;
