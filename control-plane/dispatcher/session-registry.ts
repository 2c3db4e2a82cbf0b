// The live sessions: at most one per node. Owns their lifetimes; a session is known by an id that only its agent was told.
import type { ServerWritableStream } from "@grpc/grpc-js";
import type { Clock } from "../../base/clock.ts";
import { GantryError } from "../../base/errors.ts";
import { newId } from "../../base/ids.ts";
import type { Logger } from "../../base/logger.ts";
import type { Metrics } from "../../base/metrics.ts";
import { SessionMessage } from "../../proto/gen/gantry/v1/agent.ts";
import type { SessionRequest } from "../../proto/gen/gantry/v1/agent.ts";
import { toServiceError } from "../../proto/grpc-errors.ts";
import type { NodeIdentity } from "./listener.ts";

/** What is written is an encoded SessionMessage (see EncodedDispatcherService). */
export type SessionCall = ServerWritableStream<SessionRequest, Uint8Array>;

export class Session {
  readonly id = newId();
  readonly nodeName: string;
  readonly nodeUid: string;
  readonly identity: NodeIdentity;
  readonly #call: SessionCall;
  readonly #onEnd = new Set<(error: GantryError) => void>();
  /** Newest generation of each pod's status that this session brought. */
  readonly generations = new Map<string, number>();
  lastHeartbeatMs: number;
  #ended: GantryError | undefined;

  constructor(identity: NodeIdentity, nodeUid: string, call: SessionCall, nowMonotonicMs: number) {
    this.nodeName = identity.nodeName;
    this.nodeUid = nodeUid;
    this.identity = identity;
    this.#call = call;
    this.lastHeartbeatMs = nowMonotonicMs;
  }

  get ended(): boolean {
    return this.#ended !== undefined;
  }

  /** True when the agent keeps up; otherwise the message waits and `onDrain` is called once it doesn't. */
  send(message: SessionMessage["message"] | Uint8Array, onDrain?: () => void): boolean {
    if (this.#ended) return true;
    const room = this.#call.write(message instanceof Uint8Array ? message : SessionMessage.encode({ message }).finish());
    if (!room && onDrain) this.#call.once("drain", onDrain);
    return room;
  }

  /** Called once, at once when it has ended already. */
  onEnd(handler: (error: GantryError) => void): Disposable {
    if (this.#ended) handler(this.#ended);
    else this.#onEnd.add(handler);
    return { [Symbol.dispose]: () => void this.#onEnd.delete(handler) };
  }

  /** Through the registry, which also forgets it. */
  finish(error: GantryError): void {
    if (this.#ended) return;
    this.#ended = error;
    for (const handler of this.#onEnd) handler(error);
    this.#onEnd.clear();
    // Not destroy(): that would drop the status that tells the agent why.
    this.#call.emit("error", toServiceError(error));
  }
}

export class SessionRegistry {
  readonly #byNode = new Map<string, Session>();
  readonly #claims = new Map<string, symbol>();
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #endings;

  constructor({ clock, logger, metrics }: { readonly clock: Clock; readonly logger: Logger; readonly metrics: Metrics }) {
    this.#clock = clock;
    this.#logger = logger;
    metrics.gauge("gantry_dispatcher_sessions", "Nodes with a live session.", [], (gauge) => gauge.set(this.#byNode.size));
    metrics.gauge("gantry_dispatcher_oldest_heartbeat_seconds", "Age of the oldest last heartbeat among the live sessions.", [], (gauge) =>
      gauge.set(Math.max(0, ...this.all().map((s) => clock.monotonicMs() - s.lastHeartbeatMs)) / 1000));
    this.#endings = metrics.counter("gantry_dispatcher_sessions_ended_total", "Sessions that ended, by the code of the reason.", ["code"]);
  }

  /** For a call that will become a session once its node is written: of two at once the later one wins. */
  claim(nodeName: string): { isNewest(): boolean } {
    const ticket = Symbol(nodeName);
    this.#claims.set(nodeName, ticket);
    return { isNewest: () => this.#claims.get(nodeName) === ticket };
  }

  add(session: Session, call: SessionCall): void {
    this.end(this.#byNode.get(session.nodeName), new GantryError("Conflict", "a newer session of this node replaced this one"));
    this.#byNode.set(session.nodeName, session);
    call.once("cancelled", () => this.end(session, new GantryError("Cancelled", "the agent closed the connection, or it broke")));
    this.#logger.info("session opened", { node: session.nodeName, session: session.id });
  }

  end(session: Session | undefined, error: GantryError): void {
    if (session === undefined || session.ended) return;
    if (this.#byNode.get(session.nodeName) === session) this.#byNode.delete(session.nodeName);
    this.#endings.inc({ code: error.code });
    this.#logger.info("session ended", { node: session.nodeName, session: session.id, err: error });
    session.finish(error);
  }

  get(nodeName: string): Session | undefined {
    return this.#byNode.get(nodeName);
  }

  all(): readonly Session[] {
    return [...this.#byNode.values()];
  }

  /** The caller's own live session. "NotFound": it is over; "Unauthorized": its certificate expired meanwhile. */
  require(identity: NodeIdentity, sessionId: string): Session {
    const session = this.#byNode.get(identity.nodeName);
    if (session?.id !== sessionId) throw new GantryError("NotFound", "the session is over; open a new one");
    if (identity.notAfterMs <= this.#clock.nowMs()) {
      // TLS looked at the dates only when the connection was made.
      const error = new GantryError("Unauthorized", `the certificate of node ${identity.nodeName} expired at ${new Date(identity.notAfterMs).toISOString()}; dial again with a renewed one`);
      this.end(session, error);
      throw error;
    }
    return session;
  }
}
