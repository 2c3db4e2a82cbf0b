// Gets blobs from other nodes before a registry is asked, so that a cluster costs a registry one download of each. Every failure here only means
// that the registry is asked after all. What comes is verified by whoever commits it; nothing is believed.
import { Agent, request as httpsRequest } from "node:https";
import type { IncomingMessage } from "node:http";
import type { Clock } from "../../base/clock.ts";
import { describeError, GantryError } from "../../base/errors.ts";
import type { Logger } from "../../base/logger.ts";
import type { Metrics } from "../../base/metrics.ts";
import type { BlobPeers } from "../images/blob-peers.ts";
import type { Ingest } from "../images/content-store.ts";
import { isDigest, type Digest } from "../images/digest.ts";
import type { RemoteImage } from "../images/image-service.ts";
import { throwIfAborted } from "../images/shared-task.ts";
import { BlobTracker, trackerOf } from "./blob-tracker.ts";
import { peerNameOf, type PeerCredentials } from "./peer-server.ts";

export interface Peer {
  readonly nodeName: string;
  readonly address: string;
  readonly port: number;
}

export interface PeersOptions {
  readonly nodeName: string;
  readonly credentials: () => PeerCredentials;
  readonly hasBlob: (digest: Digest) => boolean;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

/** A node that does not answer within this time has more to do than to help. */
const ANSWER_TIMEOUT_MS = 2_000;
/** Nothing for this long: what it reads along has stalled, perhaps. */
const IDLE_TIMEOUT_MS = 15_000;
const MAX_SOURCES = 6;
/** Nodes that are asked at a time whether they have a blob that nobody was heard to have, or an image by its name. */
const MAX_PROBES = 16;
/** An image that was made in the cluster is on nearly all of its nodes. */
const MAX_WAVES = 4;
const MAX_ANSWER_BYTES = 4096;

export class Peers implements BlobPeers, Disposable {
  readonly #options: PeersOptions;
  readonly #tracker = new BlobTracker();
  readonly #probes = new Map<Digest, Promise<void>>();
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 16 });
  readonly #fetched;
  #peers: ReadonlyMap<string, Peer> = new Map();

  constructor(options: PeersOptions) {
    this.#options = options;
    this.#fetched = options.metrics.counter("gantry_image_peer_received_bytes_total", "Bytes of image blobs that came from other nodes instead of a registry.");
  }

  /** The other nodes of the cluster that give blobs. */
  setPeers(peers: readonly Peer[]): void {
    this.#peers = new Map(peers.filter((p) => p.nodeName !== this.#options.nodeName && p.port > 0).map((p) => [p.nodeName, p]));
  }

  [Symbol.dispose](): void {
    this.#agent.destroy();
  }

  async fill(ingest: Ingest, { signal, onProgress, holder }: Parameters<BlobPeers["fill"]>[1]): Promise<boolean> {
    if (this.#peers.size === 0) return false;
    const useless: string[] = [];
    while (useless.length < MAX_SOURCES) {
      throwIfAborted(signal);
      const source = await this.#ask(ingest.digest, useless, holder ?? "", signal);
      const peer = source === undefined ? undefined : this.#peers.get(source);
      if (source === undefined) return false;
      try {
        if (peer === undefined) throw new GantryError("NotFound", `node ${source} is not known here`);
        await this.#read(peer, ingest, signal, onProgress);
        if (ingest.verify()) return true;
        await ingest.reset();
        throw new GantryError("Invalid", "it sent content that does not have this digest");
      } catch (error) {
        throwIfAborted(signal);
        useless.push(source);
        this.#options.logger.debug("another node could not give a blob", { node: source, blob: ingest.digest, offsetBytes: ingest.offsetBytes, err: describeError(error) });
      }
    }
    return false;
  }

  async findImage(name: string, signal: AbortSignal): Promise<RemoteImage | undefined> {
    const peers = [...this.#peers.values()].slice(0, MAX_WAVES * MAX_PROBES);
    for (let at = 0; at < peers.length; at += MAX_PROBES) {
      const answers = await Promise.allSettled(peers.slice(at, at + MAX_PROBES).map((peer) => this.#imageOn(peer, name, signal)));
      throwIfAborted(signal);
      for (const answer of answers) if (answer.status === "fulfilled" && answer.value) return answer.value;
    }
    return undefined;
  }

  async #imageOn(peer: Peer, name: string, signal: AbortSignal): Promise<RemoteImage | undefined> {
    const response = await this.#send(peer, `/v1/images?${new URLSearchParams({ name }).toString()}`, { method: "GET", signal: AbortSignal.any([signal, AbortSignal.timeout(ANSWER_TIMEOUT_MS)]) });
    const { digest, sizeBytes, mediaType } = JSON.parse((await shortAnswer(response)).toString("utf8") || "{}") as { readonly digest?: unknown; readonly sizeBytes?: unknown; readonly mediaType?: unknown };
    if (typeof digest !== "string" || !isDigest(digest) || typeof sizeBytes !== "number" || typeof mediaType !== "string") return undefined;
    return { names: [name], manifestDigest: digest, manifestBytes: sizeBytes, mediaType, node: peer.nodeName };
  }

  /** As the keeper of a digest's list: for this node and for those who ask. */
  async sourceFor(digest: Digest, node: string, useless: readonly string[], holder: string): Promise<string | undefined> {
    const { nodeName, hasBlob } = this.#options;
    if (hasBlob(digest) && node !== nodeName) this.#tracker.found(digest, [nodeName]);
    if (holder !== "" && !useless.includes(holder)) this.#tracker.found(digest, [holder]);
    // A list that was lost (a restart) or never was (an image that was loaded): ask around before the registry is asked.
    if (!this.#tracker.knows(digest)) {
      let probe = this.#probes.get(digest);
      if (probe === undefined) {
        probe = this.#probe(digest, node).finally(() => this.#probes.delete(digest));
        this.#probes.set(digest, probe);
      }
      await probe;
    }
    return this.#tracker.sourceFor(digest, node, useless);
  }

  async #probe(digest: Digest, except: string): Promise<void> {
    const asked = [...this.#peers.values()].filter((p) => p.nodeName !== except).sort((a, b) => (trackerOf(digest, [a.nodeName, b.nodeName]) === a.nodeName ? -1 : 1)).slice(0, MAX_PROBES);
    const signal = AbortSignal.timeout(ANSWER_TIMEOUT_MS);
    const answers = await Promise.allSettled(asked.map(async (peer) => {
      const response = await this.#send(peer, `/v1/blobs/${digest}`, { method: "HEAD", signal });
      response.resume();
      return response.statusCode === 200;
    }));
    const holders = asked.filter((_, i) => answers[i]!.status === "fulfilled" && (answers[i] as PromiseFulfilledResult<boolean>).value);
    if (holders.length > 0) this.#tracker.found(digest, holders.map((p) => p.nodeName));
  }

  async #ask(digest: Digest, useless: readonly string[], holder: string, signal: AbortSignal): Promise<string | undefined> {
    const { nodeName, logger } = this.#options;
    const tracker = trackerOf(digest, [nodeName, ...this.#peers.keys()])!;
    if (tracker === nodeName) return this.sourceFor(digest, nodeName, useless, holder);
    try {
      const query = new URLSearchParams({ not: useless.join(","), holder });
      const response = await this.#send(this.#peers.get(tracker)!, `/v1/sources/${digest}?${query.toString()}`, { method: "GET", signal: AbortSignal.any([signal, AbortSignal.timeout(2 * ANSWER_TIMEOUT_MS)]) });
      const answer = await shortAnswer(response);
      if (response.statusCode !== 200) throw new GantryError("ServiceUnavailable", `it answered ${response.statusCode}`);
      const { from } = JSON.parse(answer.toString("utf8")) as { from?: unknown };
      return typeof from === "string" && from !== "" && from !== nodeName ? from : undefined;
    } catch (error) {
      throwIfAborted(signal);
      logger.debug("could not ask another node who has a blob", { node: tracker, blob: digest, err: describeError(error) });
      // Who is said to have it can be asked all the same.
      return holder !== "" && !useless.includes(holder) && holder !== nodeName ? holder : undefined;
    }
  }

  async #read(peer: Peer, ingest: Ingest, signal: AbortSignal, onProgress: (bytes: number) => void): Promise<void> {
    const from = ingest.offsetBytes;
    const idle = new AbortController();
    const { clock } = this.#options;
    let timer = clock.setTimer(ANSWER_TIMEOUT_MS + IDLE_TIMEOUT_MS, () => idle.abort());
    try {
      const response = await this.#send(peer, `/v1/blobs/${ingest.digest}`, { method: "GET", signal: AbortSignal.any([signal, idle.signal]), ...(from > 0 ? { range: `bytes=${from}-` } : {}) });
      const { statusCode: status } = response;
      if (status !== 200 && status !== 206) {
        response.resume();
        throw new GantryError("NotFound", `it answered ${status}`);
      }
      if (status === 200 && from > 0) await ingest.reset();
      for await (const chunk of response as AsyncIterable<Buffer>) {
        timer[Symbol.dispose]();
        await ingest.append(chunk);
        this.#fetched.inc(chunk.length);
        onProgress(ingest.offsetBytes);
        timer = clock.setTimer(IDLE_TIMEOUT_MS, () => idle.abort());
      }
      if (ingest.offsetBytes < ingest.sizeBytes) throw new GantryError("ServiceUnavailable", `it sent ${ingest.offsetBytes} of ${ingest.sizeBytes} bytes`);
    } finally {
      timer[Symbol.dispose]();
    }
  }

  #send(peer: Peer, path: string, { method, signal, range }: { readonly method: "GET" | "HEAD"; readonly signal: AbortSignal; readonly range?: string }): Promise<IncomingMessage> {
    const { caPem, certificatePem, privateKeyPem } = this.#options.credentials();
    return new Promise((resolve, reject) => {
      const request = httpsRequest({
        host: peer.address, port: peer.port, path, method, signal, agent: this.#agent, ca: caPem, cert: certificatePem, key: privateKeyPem, minVersion: "TLSv1.3", servername: "",
        headers: range === undefined ? {} : { range },
        // Nodes have names, not addresses, in their certificates: who answers has to be the node that was meant.
        checkServerIdentity: (_host, certificate) => (peerNameOf(certificate) === peer.nodeName ? undefined : new Error(`it is not node ${peer.nodeName}`)),
      }, resolve);
      request.setTimeout(IDLE_TIMEOUT_MS, () => request.destroy(new Error("it sent nothing")));
      request.on("error", reject);
      request.end();
    });
  }
}

const shortAnswer = async (response: IncomingMessage): Promise<Buffer> => {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    if ((size += chunk.length) > MAX_ANSWER_BYTES) throw new GantryError("Invalid", "the answer is too long");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
};
