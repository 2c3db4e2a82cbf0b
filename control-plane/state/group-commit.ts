// Group commit: writes that arrive while one is in flight go to etcd together, as one Txn of nested Txns, each with a compare of its
// own: independent outcomes, one Raft entry, one fsync. Only the EtcdStore uses it.
//
// Exactly once (like client sessions in Raft, Ongaro's dissertation 6.3): each batch also puts this process's *marker* key, under the
// compare that the marker is still as the previous batch left it. So a batch whose answer was lost is simply sent again: it can't apply twice.
// When the marker says that it had applied at revision R, each write's outcome is found by evaluating its compares on the state at R - 1
// (writes of one batch have distinct keys, so they don't see one another). Nothing is lost, doubled or guessed.
import type { ICompare, IKeyValue, IRequestOp, ITxnResponse } from "etcd3/lib/rpc.js";
import { backoffDelayMs } from "../../base/backoff.ts";
import type { BackoffPolicy } from "../../base/backoff.ts";
import type { Clock } from "../../base/clock.ts";
import { GantryError, isCode } from "../../base/errors.ts";
import type { Logger } from "../../base/logger.ts";
import type { Metrics } from "../../base/metrics.ts";
import { awake } from "./awake.ts";
import { VersionCounter, encodeValue } from "./encoding.ts";
import type { EtcdClient } from "./etcd-client.ts";
import type { Fence } from "./store.ts";
import { tooLarge } from "./stored.ts";

/** etcd's --max-txn-ops is 128, nested operations counted at their widest: 1 for the marker, up to 2 within each write. */
const MAX_BATCH = 125;
/** Per write, beside key and value: compares, message framing. */
const OVERHEAD_BYTES = 160;
/** Writes whose history is read at once: 2 operations each, within --max-txn-ops. */
const HISTORY_PART = 60;
const RETRY: BackoffPolicy = { initialMs: 20, maxMs: 1000, factor: 2, jitter: 0 };

export interface Write {
  /** The whole etcd key. */
  readonly key: string;
  /** Succeeds only while the key was last modified at this revision; 0: while it does not exist. */
  readonly ifRevision: number;
  /** What to put; undefined deletes. */
  readonly body: string | undefined;
  readonly fence: Fence | undefined;
}

/** "committed" at a resourceVersion; or refused, with what the key holds instead. */
export type Outcome =
  | { readonly kind: "committed"; readonly resourceVersion: number }
  | { readonly kind: "conflict"; readonly current: IKeyValue | undefined }
  | { readonly kind: "fenced" };

interface Pending extends Write {
  readonly sizeBytes: number;
  readonly queuedMs: number;
  readonly settle: (outcome: Outcome | GantryError) => void;
}

export interface GroupCommitOptions {
  readonly client: EtcdClient;
  readonly markerKey: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics?: Metrics | undefined;
  /** How long a write may wait for etcd before it fails. */
  readonly timeoutMs: number;
  /** etcd's --max-request-bytes, less what framing needs. */
  readonly maxRequestBytes: number;
}

export class GroupCommit {
  readonly #options: GroupCommitOptions;
  readonly #marker: Buffer;
  #queue: Pending[] = [];
  #running = false;
  #closed = false;
  /** Revision of our marker's last put; undefined: not known, to be established. */
  #markerRevision: string | undefined;
  #batches = 0;
  readonly #observeBatch: (size: number) => void;
  readonly #countRetry: () => void;

  constructor(options: GroupCommitOptions) {
    this.#options = options;
    this.#marker = Buffer.from(options.markerKey);
    const sizes = options.metrics?.histogram("gantry_group_commit_batch_size", "Writes sent to etcd in one transaction.", [], [1, 2, 5, 10, 25, 50, 100, 125]);
    const retries = options.metrics?.counter("gantry_group_commit_retries_total", "Batches sent again because their outcome was unknown.");
    options.metrics?.gauge("gantry_group_commit_queue_length", "Writes that wait for the batch in flight.", [], (gauge) => gauge.set(this.#queue.length));
    this.#observeBatch = (size) => sizes?.observe(size);
    this.#countRetry = () => retries?.inc();
  }

  /**
   * Throws "RequestEntityTooLarge"; "ServiceUnavailable" when it was certainly not written in time; "Timeout" when etcd was lost after
   * sending and did not come back in time: it may or may not be written.
   */
  write(write: Write): Promise<Outcome> {
    if (this.#closed) return Promise.reject(new GantryError("Cancelled", "the store was closed"));
    const sizeBytes = Buffer.byteLength(write.key) * 3 + (write.body === undefined ? 0 : Buffer.byteLength(write.body)) + OVERHEAD_BYTES;
    const limit = this.#options.maxRequestBytes;
    if (sizeBytes > limit) return Promise.reject(tooLarge(sizeBytes, limit));
    return new Promise((resolve, reject) => {
      this.#queue.push({ ...write, sizeBytes, queuedMs: this.#options.clock.monotonicMs(), settle: (o) => (o instanceof GantryError ? reject(o) : resolve(o)) });
      if (this.#running) return;
      this.#running = true;
      // What else is written in this turn belongs into the same batch.
      setImmediate(() => void this.#run());
    });
  }

  close(): void {
    this.#closed = true;
    this.#failQueue(new GantryError("Cancelled", "the store was closed"));
  }

  async #run(): Promise<void> {
    while (this.#queue.length > 0 && !this.#closed) {
      const batch = this.#take();
      this.#observeBatch(batch.length);
      try {
        await this.#commit(batch);
      } catch (error) {
        const failure = error instanceof GantryError ? error : new GantryError("InternalError", "a batch of writes failed", { cause: error });
        for (const write of batch) write.settle(failure);
      }
    }
    this.#running = false;
  }

  /** The next batch, oldest first: each key once (etcd refuses duplicates), within etcd's limits. */
  #take(): Pending[] {
    const batch: Pending[] = [];
    const left: Pending[] = [];
    const keys = new Set<string>();
    let sizeBytes = 0;
    let full = false;
    for (const write of this.#queue) {
      full ||= batch.length === MAX_BATCH || sizeBytes + write.sizeBytes > this.#options.maxRequestBytes;
      if (full || keys.has(write.key)) {
        left.push(write);
        // Writes to one key keep their order.
        keys.add(write.key);
        continue;
      }
      keys.add(write.key);
      sizeBytes += write.sizeBytes;
      batch.push(write);
    }
    this.#queue = left;
    return batch;
  }

  async #commit(batch: readonly Pending[]): Promise<void> {
    const { client, clock, logger } = this.#options;
    const id = String(++this.#batches);
    const nested = batch.map((write, slot) => toRequest(write, slot));
    let maybeApplied = false;
    for (let failures = 0; ; ) {
      try {
        this.#markerRevision ??= await this.#establish();
        const response = await client.txn({
          compare: [compare("Mod", this.#marker, this.#markerRevision)],
          success: [{ request_put: { key: this.#marker, value: Buffer.from(id) } }, ...nested],
          failure: [{ request_range: { key: this.#marker } }],
        }, "commit");
        if (response.succeeded) {
          this.#markerRevision = response.header.revision;
          settleAll(batch, response.header.revision, batch.map((write, i) => resultOf(write, response.responses[i + 1]!.response_txn)));
          return;
        }
        const marker = response.responses[0]!.response_range.kvs[0];
        if (marker?.value.toString() === id) {
          // Only when the results are known is the marker's revision taken over: should reading them fail, the batch must not pass its compare.
          const results = await this.#resultsFromHistory(batch, marker.mod_revision);
          this.#markerRevision = marker.mod_revision;
          settleAll(batch, marker.mod_revision, results);
          return;
        }
        // An earlier batch's number: that one was given up and applied late; ours did not apply, and can't any more. No marker at all: removed by
        // compaction's clean-up or by a restored backup, and with it the proof.
        logger.warn("the group commit's marker was not as we left it", { marker: this.#options.markerKey, found: marker?.value.toString() });
        this.#markerRevision = marker?.mod_revision;
        if (!marker && maybeApplied) throw outcomeUnknown("its marker in etcd was removed");
        maybeApplied = false;
      } catch (error) {
        if (isCode(error, "Expired")) throw outcomeUnknown("the revisions in question were compacted", error);
        if (!isCode(error, "ServiceUnavailable", "Timeout") || error.message.startsWith(UNKNOWN) || this.#closed) throw error;
        maybeApplied ||= !neverSent(error);
        this.#countRetry();
        logger.debug("a batch of writes is sent again", { failures, writes: batch.length, err: error });
        if (this.#expire(batch, maybeApplied, error)) {
          this.#markerRevision = undefined;
          return;
        }
        await awake(clock.sleep(backoffDelayMs(RETRY, ++failures, () => 0)));
      }
    }
  }

  /** Creates our marker. Repeating it is harmless: it only ever creates. */
  async #establish(): Promise<string> {
    const response = await this.#options.client.txn({
      compare: [compare("Create", this.#marker, "0")],
      success: [{ request_put: { key: this.#marker, value: Buffer.from("0") } }],
      failure: [{ request_range: { key: this.#marker } }],
    }, "establish");
    return response.succeeded ? response.header.revision : response.responses[0]!.response_range.kvs[0]!.mod_revision;
  }

  /** The batch applied at `revision` but its answer was lost: what became of each write. */
  async #resultsFromHistory(batch: readonly Pending[], revision: string): Promise<Result[]> {
    const { client } = this.#options;
    const before = String(Number(revision) - 1);
    const results: Result[] = [];
    for (let from = 0; from < batch.length; from += HISTORY_PART) {
      const part = batch.slice(from, from + HISTORY_PART);
      const { responses } = await client.txn({
        success: part.flatMap(({ key, fence }): IRequestOp[] => [key, fence?.electionKey ?? key].map((k) => ({ request_range: { key: Buffer.from(k), revision: before, keys_only: true } }))),
      }, "history");
      for (const [i, write] of part.entries()) {
        const [then, leader] = responses.slice(i * 2, i * 2 + 2).map((op) => op.response_range.kvs[0]);
        const refused = refusal(write, leader);
        if (refused) results.push(refused);
        else if (Number(then?.mod_revision ?? 0) === write.ifRevision) results.push("applied");
        else results.push({ kind: "conflict", current: (await client.range({ key: Buffer.from(write.key) })).kvs[0] });
      }
    }
    return results;
  }

  /** Fails what has waited for too long; true when nobody waits for this batch any more. */
  #expire(batch: readonly Pending[], maybeApplied: boolean, cause: unknown): boolean {
    const { clock, timeoutMs } = this.#options;
    const oldest = clock.monotonicMs() - timeoutMs;
    const unavailable = new GantryError("ServiceUnavailable", `etcd was not available for ${timeoutMs} ms; nothing was written`, { cause });
    const unknown = outcomeUnknown(`etcd did not answer for ${timeoutMs} ms`, cause);
    const late = (write: Pending): boolean => write.queuedMs <= oldest;
    for (const write of this.#queue.filter(late)) write.settle(unavailable);
    this.#queue = this.#queue.filter((write) => !late(write));
    for (const write of batch.filter(late)) write.settle(maybeApplied ? unknown : unavailable);
    return batch.every(late);
  }

  #failQueue(error: GantryError): void {
    for (const write of this.#queue) write.settle(error);
    this.#queue = [];
  }
}

type Result = "applied" | Exclude<Outcome, { readonly kind: "committed" }>;

const UNKNOWN = "the outcome of the write is unknown";
const outcomeUnknown = (why: string, cause?: unknown): GantryError => new GantryError("Timeout", `${UNKNOWN}: ${why}`, { cause });

/** grpc-js fails a call that found no connection with this text: then nothing was sent. */
const neverSent = (error: GantryError): boolean => error.cause instanceof Error && error.cause.message.includes("No connection established");

const compare = (target: "Mod" | "Create", key: Buffer, revision: string): ICompare =>
  target === "Mod" ? { result: "Equal", target, key, mod_revision: revision } : { result: "Equal", target, key, create_revision: revision };

const toRequest = (write: Pending, slot: number): IRequestOp => {
  const key = Buffer.from(write.key);
  const leader = write.fence && Buffer.from(write.fence.electionKey);
  return {
    request_txn: {
      compare: [compare("Mod", key, String(write.ifRevision)), ...(write.fence ? [compare("Create", leader!, write.fence.createRevision)] : [])],
      success: [write.body === undefined ? { request_delete_range: { key } } : { request_put: { key, value: encodeValue(slot, write.body) } }],
      failure: [{ request_range: { key } }, ...(leader ? [{ request_range: { key: leader, keys_only: true } }] : [])],
    },
  };
};

const refusal = ({ fence }: Pending, leader: IKeyValue | undefined): Result | undefined =>
  fence && leader?.create_revision !== fence.createRevision ? { kind: "fenced" } : undefined;

const resultOf = (write: Pending, { succeeded, responses }: ITxnResponse): Result =>
  succeeded ? "applied" : (refusal(write, responses[1]?.response_range.kvs[0]) ?? { kind: "conflict", current: responses[0]!.response_range.kvs[0] });

/** In the order of the batch, so that the versions come out as every watcher computes them. */
const settleAll = (batch: readonly Pending[], revision: string, results: readonly Result[]): void => {
  const versions = new VersionCounter();
  for (const [slot, write] of batch.entries()) {
    const result = results[slot]!;
    if (result !== "applied") write.settle(result);
    else write.settle({ kind: "committed", resourceVersion: write.body === undefined ? versions.delete(Number(revision)) : versions.put(Number(revision), slot) });
  }
};
