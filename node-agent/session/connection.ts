// One session with one control plane, from the dial to its end: everything on it lives and dies with it. What comes after the end
// is decided in session.ts.
import { connectivityState, Metadata } from "@grpc/grpc-js";
import type { ClientReadableStream } from "@grpc/grpc-js";
import { backoffDelayMs, defaultBackoff } from "../../base/backoff.ts";
import { GantryError, isCode } from "../../base/errors.ts";
import { createCsr } from "../../base/tls/csr.ts";
import { nodeCommonName } from "../../base/tls/node-identity.ts";
import { DispatcherClient } from "../../proto/gen/gantry/v1/agent.ts";
import type {
  AssignmentSet, ClusterNetwork, HeartbeatResponse, NodeCondition, NodeDescription, RegisterResponse, SessionMessage, SessionOpened, UpdateStatusResponse,
} from "../../proto/gen/gantry/v1/agent.ts";
import { fromServiceError, leaderOf } from "../../proto/grpc-errors.ts";
import { AssignmentChain } from "./assignment-chain.ts";
import { channelCredentials, CHANNEL_OPTIONS, newCredentials, renewalDueMs } from "./credentials.ts";
import type { NodeCredentials } from "./credentials.ts";
import { NetworkApplier } from "./network-applier.ts";
import type { SessionContext } from "./session-context.ts";
import { answerStream } from "./stream-server.ts";

/** An unanswered dial is given up after this, so that a network that comes back is found again soon. */
const DIAL_TIMEOUT_MS = 5000;
/** A control plane that answers may be slow: thousands of nodes come back at once when it was away. */
const OPEN_TIMEOUT_MS = 20_000;
const STATUS_TIMEOUT_MS = 15_000;
const MAX_IMAGES = 50;

export interface SessionEnd {
  readonly error: GantryError;
  /** Whether it was open at all: a session that never was counts as a failed attempt. */
  readonly opened: boolean;
  /** Where to dial next, when the control plane said so. */
  readonly leader: string | undefined;
  /** All control planes that the last one named. */
  readonly controlPlanes: readonly string[];
  readonly renewed: boolean;
}

type Callback<T> = (error: Error | null, response: T) => void;

export class Connection {
  readonly #context: SessionContext;
  readonly #credentials: NodeCredentials;
  readonly #client: DispatcherClient;
  readonly #abort = new AbortController();
  readonly #ended = Promise.withResolvers<SessionEnd>();
  readonly #network: NetworkApplier;
  readonly #streams = new Set<{ cancel(): void }>();
  #opened: SessionOpened | undefined;
  #described = "";
  #lastHeartbeatMs = 0;
  #heartbeatTimer: Disposable | undefined;
  #renewalTimer: Disposable | undefined;
  #assigned = new Set<string>();

  constructor(target: string, credentials: NodeCredentials, context: SessionContext) {
    this.#context = context;
    this.#credentials = credentials;
    this.#client = new DispatcherClient(target, channelCredentials(credentials.caPem, credentials), CHANNEL_OPTIONS);
    this.#network = new NetworkApplier({ ...context, nodeName: credentials.nodeName, signal: this.#abort.signal });
  }

  get sessionId(): string | undefined {
    return this.#abort.signal.aborted ? undefined : this.#opened?.sessionId;
  }

  run(): Promise<SessionEnd> {
    const { clock } = this.#context;
    let timer = clock.setTimer(DIAL_TIMEOUT_MS, () => {
      if (this.#client.getChannel().getConnectivityState(false) !== connectivityState.READY) {
        this.end(new GantryError("ServiceUnavailable", `ETIMEDOUT: no connection within ${DIAL_TIMEOUT_MS / 1000} s`));
        return;
      }
      timer = clock.setTimer(OPEN_TIMEOUT_MS - DIAL_TIMEOUT_MS, () => this.end(new GantryError("Timeout", `the control plane did not open a session within ${OPEN_TIMEOUT_MS / 1000} s`)));
    });
    const call = this.#client.session({ node: this.#describe() });
    this.#streams.add(call);
    call.on("data", ({ message }: SessionMessage) => {
      if (message?.$case === "opened") timer[Symbol.dispose]();
      this.#onMessage(message);
    });
    call.on("error", (error: Error) => this.end(fromServiceError(error), leaderOf(error)));
    call.on("end", () => this.end(new GantryError("ServiceUnavailable", "the control plane ended the session")));
    this.#abort.signal.addEventListener("abort", () => timer[Symbol.dispose](), { once: true });
    return this.#ended.promise;
  }

  end(error: GantryError, leader?: string, renewed = false): void {
    if (this.#abort.signal.aborted) return;
    this.#abort.abort(error);
    this.#heartbeatTimer?.[Symbol.dispose]();
    this.#renewalTimer?.[Symbol.dispose]();
    // A closed client lets its calls go on.
    for (const call of this.#streams) call.cancel();
    this.#client.close();
    this.#ended.resolve({ error, leader, renewed, opened: this.#opened !== undefined, controlPlanes: this.#opened?.controlPlanes ?? [] });
  }

  #describe(): NodeDescription {
    const { describe, images } = this.#context;
    const known = images.list().filter((image) => image.names.length > 0).sort((a, b) => b.sizeBytes - a.sizeBytes).slice(0, MAX_IMAGES);
    const description = { ...describe(), images: known.map((image) => ({ names: [...image.names], sizeBytes: image.sizeBytes })) };
    this.#described = JSON.stringify(description);
    return description;
  }

  #onMessage(message: SessionMessage["message"]): void {
    switch (message?.$case) {
      case "opened":
        void this.#onOpened(message.value);
        break;
      case "network":
        void this.#network.replace(message.value);
        break;
      case "routes":
        void this.#network.change(message.value);
        break;
      case "stream":
        void answerStream(this.#client, message.value, this.#abort.signal, this.#context);
        break;
      case undefined:
        this.#context.logger.debug("message of an unknown kind: this control plane is newer than the agent");
    }
  }

  async #onOpened(opened: SessionOpened): Promise<void> {
    const { clock, logger, reporter, pods, onOpened } = this.#context;
    this.#opened = opened;
    this.#lastHeartbeatMs = clock.monotonicMs();
    logger.info("session opened", { session: opened.sessionId });
    onOpened();
    reporter.attach({
      signal: this.#abort.signal,
      send: async (batch) => (await this.#call<UpdateStatusResponse>((done, options) =>
        this.#client.updateStatus({ sessionId: opened.sessionId, pods: [...batch], removedVolumes: [] }, options.metadata, options, done), STATUS_TIMEOUT_MS)).unknown,
      onUnknown: (uid) => {
        if (this.#assigned.has(uid)) return;
        logger.info("the control plane does not know this pod; it goes", { podUid: uid });
        pods.remove(uid);
      },
    });
    this.#scheduleRenewal();
    await this.#network.replace(opened.network ?? emptyNetwork);
    if (this.#abort.signal.aborted) return;
    // Only now: a pod can't be attached to a network that is not there yet.
    this.#followAssignments(0);
    await this.#heartbeat();
  }

  /** What is not reported now, because the connection broke, is asked for again by the next one. */
  async #removeVolumes(ids: readonly string[]): Promise<void> {
    const { volumes, logger } = this.#context;
    for (const id of ids) {
      try {
        await volumes.removeLocal(id);
        await this.#call<UpdateStatusResponse>((done, options) => this.#client.updateStatus({ sessionId: this.#opened!.sessionId, pods: [], removedVolumes: [id] }, options.metadata, options, done), STATUS_TIMEOUT_MS);
        logger.info("volume removed", { volume: id });
      } catch (error) {
        if (!this.#abort.signal.aborted) logger.warn("a volume could not be removed; with the next session it is tried again", { volume: id, err: error });
      }
    }
  }

  async #heartbeat(): Promise<void> {
    const { clock, logger, metrics } = this.#context;
    const opened = this.#opened!;
    let nextMs = opened.heartbeatPeriodMs;
    const startedMs = clock.monotonicMs();
    try {
      const before = this.#described;
      const node = this.#describe();
      const changed = this.#described !== before;
      const response = await this.#call<HeartbeatResponse>((done, options) =>
        this.#client.heartbeat({ sessionId: opened.sessionId, conditions: this.#conditions(), node: changed ? node : undefined }, options.metadata, options, done), opened.heartbeatPeriodMs);
      this.#lastHeartbeatMs = clock.monotonicMs();
      metrics.heartbeat.observe((this.#lastHeartbeatMs - startedMs) / 1000);
      nextMs = response.nextPeriodMs;
    } catch (cause) {
      if (this.#abort.signal.aborted) return;
      const error = fromServiceError(cause);
      // Those are final; all else may be a stall of the control plane, which half a lease is waited for.
      if (isCode(error, "NotFound", "Unauthorized", "Forbidden")) {
        this.end(error);
        return;
      }
      // What the lost heartbeat carried counts as untold.
      this.#described = "";
      logger.warn("heartbeat failed", { err: error });
      if (clock.monotonicMs() - this.#lastHeartbeatMs > opened.leaseMs / 2) {
        this.end(new GantryError("ServiceUnavailable", `no heartbeat was answered for ${opened.leaseMs / 2000} s`, { cause: error }));
        return;
      }
      nextMs = Math.max(0, Math.min(1000, opened.heartbeatPeriodMs) - (clock.monotonicMs() - startedMs));
    }
    if (!this.#abort.signal.aborted) this.#heartbeatTimer = clock.setTimer(nextMs, () => void this.#heartbeat());
  }

  #conditions(): NodeCondition[] {
    return [...(this.#context.conditions?.() ?? []), this.#network.condition()];
  }

  #followAssignments(failures: number): void {
    const { pods, clock, random, logger, metrics } = this.#context;
    const chain = new AssignmentChain();
    let received = false;
    const call: ClientReadableStream<AssignmentSet> = this.#client.assignments({ sessionId: this.#opened!.sessionId });
    this.#streams.add(call);
    const again = (error: GantryError): void => {
      call.removeAllListeners("data").removeAllListeners("end").removeAllListeners("error").on("error", () => undefined);
      call.cancel();
      this.#streams.delete(call);
      if (this.#abort.signal.aborted) return;
      if (isCode(error, "NotFound", "Unauthorized")) {
        this.end(error);
        return;
      }
      metrics.restarts.inc();
      const next = received ? 1 : failures + 1;
      logger.warn("assignments start over", { err: error });
      clock.setTimer(backoffDelayMs(defaultBackoff, next, random), () => {
        if (!this.#abort.signal.aborted) this.#followAssignments(next);
      });
    };
    call.on("data", (set: AssignmentSet) => {
      try {
        const change = chain.accept(set);
        if (change === undefined) return;
        received = true;
        if (change.removeVolumes.length > 0) void this.#removeVolumes(change.removeVolumes);
        if (change.complete) {
          this.#assigned = new Set(change.upsert.map((a) => a.uid));
          pods.setAll(change.upsert);
          return;
        }
        logger.debug("assignments changed", { session: this.#opened!.sessionId, upsert: change.upsert.length, remove: change.remove.length });
        for (const uid of change.remove) {
          this.#assigned.delete(uid);
          pods.remove(uid);
        }
        for (const assignment of change.upsert) {
          this.#assigned.add(assignment.uid);
          pods.upsert(assignment);
        }
      } catch (error) {
        again(fromServiceError(error));
      }
    });
    call.on("error", (error: Error) => again(fromServiceError(error)));
    call.on("end", () => again(new GantryError("ServiceUnavailable", "the control plane ended the stream")));
  }

  #scheduleRenewal(delayMs = renewalDueMs(this.#credentials) - this.#context.clock.nowMs()): void {
    const { clock, logger } = this.#context;
    this.#renewalTimer = clock.setTimer(Math.max(0, delayMs), () => {
      this.#renew().catch((error: unknown) => {
        if (this.#abort.signal.aborted) return;
        logger.error("the node certificate could not be renewed; trying again", { notAfter: new Date(this.#credentials.notAfterMs).toISOString(), err: error });
        // Often enough that many tries fit into the third of its life that is left.
        this.#scheduleRenewal(Math.max(1000, (this.#credentials.notAfterMs - clock.nowMs()) / 20));
      });
    });
  }

  async #renew(): Promise<void> {
    const { credentials, logger } = this.#context;
    const { csrPem, privateKeyPem } = createCsr(nodeCommonName(this.#credentials.nodeName));
    const response = await this.#call<RegisterResponse>((done, options) => this.#client.renewCertificate({ csrPem }, options.metadata, options, done), STATUS_TIMEOUT_MS);
    // The CA that was pinned stays: an answer can't replace it.
    const renewed = newCredentials(this.#credentials.caPem, response.certificatePem, privateKeyPem);
    credentials.save(renewed);
    logger.info("node certificate renewed", { notAfter: new Date(renewed.notAfterMs).toISOString() });
    this.end(new GantryError("Cancelled", "the certificate was renewed"), undefined, true);
  }

  #call<T>(start: (done: Callback<T>, options: { readonly metadata: Metadata; readonly deadline: number }) => unknown, timeoutMs: number): Promise<T> {
    return new Promise((resolve, reject) => {
      start((error, response) => (error ? reject(fromServiceError(error)) : resolve(response)), { metadata: new Metadata(), deadline: this.#context.clock.nowMs() + timeoutMs });
    });
  }
}

const emptyNetwork: ClusterNetwork = { clusterCidr: "", podCidr: "", routes: [], dnsServers: [], clusterDomain: "" };
