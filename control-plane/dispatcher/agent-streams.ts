// Streams between the API and nodes (logs, exec, images): announced down the session, carried by a call that the agent makes in
// answer. Owns the streams that wait for their agent and those that are open.
import { finished } from "node:stream";
import type { ServerDuplexStream } from "@grpc/grpc-js";
import type { Clock } from "../../base/clock.ts";
import { describeError, GantryError } from "../../base/errors.ts";
import { newId } from "../../base/ids.ts";
import type { Metrics } from "../../base/metrics.ts";
import type { StreamFrame, StreamRequest } from "../../proto/gen/gantry/v1/agent.ts";
import { asErrorCode, toServiceError } from "../../proto/grpc-errors.ts";
import type { NodeStream, NodeStreams } from "../state/node-streams.ts";
import type { NodeIdentity } from "./listener.ts";
import type { SessionRegistry } from "./session-registry.ts";

export type StreamCall = ServerDuplexStream<StreamFrame, StreamFrame>;

export interface AgentStreamsOptions {
  readonly sessions: SessionRegistry;
  readonly clock: Clock;
  readonly metrics: Metrics;
  /** How long an agent may take to dial back. */
  readonly answerTimeoutMs: number;
}

interface Waiting {
  readonly nodeName: string;
  accept(stream: NodeStream): void;
  refuse(error: GantryError): void;
}

const cancelled = (signal: AbortSignal): GantryError => new GantryError("Cancelled", "the stream was cancelled", { cause: signal.reason });

/** The open stream, on top of the agent's call. `incoming` has given the first frame already. */
class OpenStream implements NodeStream {
  readonly frames: AsyncIterable<StreamFrame>;
  readonly #call: StreamCall;
  #ended = false;

  constructor(call: StreamCall, incoming: AsyncIterator<StreamFrame>, nodeName: string) {
    this.#call = call;
    this.frames = { [Symbol.asyncIterator]: () => readFrames(call, incoming, nodeName) };
  }

  async send(frame: StreamFrame): Promise<void> {
    const call = this.#call;
    if (this.#ended || call.cancelled || call.writableEnded) throw new GantryError("Cancelled", "the stream has ended");
    if (call.write(frame)) return;
    await new Promise<void>((resolve, reject) => {
      const done = (error?: GantryError): void => {
        call.off("drain", onDrain);
        call.off("cancelled", onCancelled);
        if (error) reject(error);
        else resolve();
      };
      const onDrain = (): void => done();
      const onCancelled = (): void => done(new GantryError("Cancelled", "the agent closed the stream"));
      call.once("drain", onDrain);
      call.once("cancelled", onCancelled);
    });
  }

  /** In band: a gRPC server that ends its direction ends the whole call. */
  end(): void {
    if (this.#ended || this.#call.cancelled || this.#call.writableEnded) return;
    this.#ended = true;
    this.#call.write({ frame: { $case: "stdinClosed", value: true } });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#call.cancelled || this.#call.writableEnded) return;
    // A status other than OK tells the agent to stop what it does for us.
    this.#call.emit("error", toServiceError(new GantryError("Cancelled", "the stream is no longer wanted")));
  }
}

async function* readFrames(call: StreamCall, incoming: AsyncIterator<StreamFrame>, nodeName: string): AsyncGenerator<StreamFrame> {
  for (;;) {
    let next: IteratorResult<StreamFrame>;
    try {
      next = await incoming.next();
    } catch (cause) {
      throw new GantryError("ServiceUnavailable", `the stream to node ${nodeName} broke: ${describeError(cause)}`, { cause });
    }
    const frame = next.done === true ? undefined : next.value.frame;
    const result = frame?.$case === "result" ? frame.value : undefined;
    // The agent has said all that it had to say.
    if (frame === undefined || result) call.end();
    if (result && result.code !== "") throw new GantryError(asErrorCode(result.code), result.message);
    // Not even a cancelled call shows as an error here; but an agent that is done says so.
    if (frame === undefined) throw new GantryError("ServiceUnavailable", `the stream to node ${nodeName} broke off`);
    yield { frame };
    if (result) return;
  }
}

export class AgentStreams implements NodeStreams {
  readonly #options: AgentStreamsOptions;
  readonly #waiting = new Map<string, Waiting>();
  readonly #results;
  #open = 0;

  constructor(options: AgentStreamsOptions) {
    this.#options = options;
    options.metrics.gauge("gantry_dispatcher_streams", "Open streams to nodes.", [], (gauge) => gauge.set(this.#open));
    this.#results = options.metrics.counter("gantry_dispatcher_streams_total", "Streams asked of nodes, by kind and how opening them went.", ["kind", "result"]);
  }

  connectedNodes(): readonly string[] {
    return this.#options.sessions.all().map((s) => s.nodeName);
  }

  async open(nodeName: string, request: StreamRequest, signal: AbortSignal): Promise<NodeStream> {
    const kind = request.kind?.$case ?? "none";
    try {
      const stream = await this.#announce(nodeName, request, signal);
      this.#results.inc({ kind, result: "opened" });
      return stream;
    } catch (error) {
      this.#results.inc({ kind, result: error instanceof GantryError ? error.code : "InternalError" });
      throw error;
    }
  }

  /** The agent's answer. */
  async answer(identity: NodeIdentity, call: StreamCall): Promise<void> {
    const refuse = (error: GantryError): void => void call.emit("error", toServiceError(error));
    const incoming = (call as AsyncIterable<StreamFrame>)[Symbol.asyncIterator]();
    const answerBy = this.#options.clock.setTimer(this.#options.answerTimeoutMs, () => refuse(new GantryError("Timeout", "the first frame did not come in time")));
    let first: StreamFrame["frame"];
    try {
      first = (await incoming.next()).value?.frame as StreamFrame["frame"];
    } catch {
      return;
    } finally {
      answerBy[Symbol.dispose]();
    }
    const id = first?.$case === "accept" ? first.value : first?.$case === "refuse" ? first.value.id : "";
    const waiting = this.#waiting.get(id);
    // Ids are secret to the node that was asked; the name is checked all the same.
    if (waiting?.nodeName !== identity.nodeName) {
      refuse(new GantryError("NotFound", "nobody waits for this stream: it was cancelled, or answered before"));
      return;
    }
    this.#waiting.delete(id);
    if (first?.$case === "refuse") {
      waiting.refuse(new GantryError(asErrorCode(first.value.code), first.value.message));
      call.end();
      return;
    }
    this.#open++;
    finished(call, () => void this.#open--);
    waiting.accept(new OpenStream(call, incoming, identity.nodeName));
  }

  #announce(nodeName: string, request: StreamRequest, signal: AbortSignal): Promise<NodeStream> {
    return new Promise((resolve, reject) => {
      const session = this.#options.sessions.get(nodeName);
      if (!session) {
        reject(new GantryError("ServiceUnavailable", `node ${nodeName} is not connected to this control plane: is its agent running?`));
        return;
      }
      if (signal.aborted) {
        reject(cancelled(signal));
        return;
      }
      const id = newId();
      const settle = (): void => {
        this.#waiting.delete(id);
        timer[Symbol.dispose]();
        ending[Symbol.dispose]();
        signal.removeEventListener("abort", onAbort);
      };
      const refuse = (error: GantryError): void => {
        settle();
        reject(error);
      };
      const onAbort = (): void => refuse(cancelled(signal));
      const timer = this.#options.clock.setTimer(this.#options.answerTimeoutMs, () =>
        refuse(new GantryError("Timeout", `node ${nodeName} did not answer within ${this.#options.answerTimeoutMs / 1000} s`)));
      const ending = session.onEnd((error) => refuse(new GantryError("ServiceUnavailable", `node ${nodeName} lost its connection: ${error.message}`)));
      signal.addEventListener("abort", onAbort, { once: true });
      this.#waiting.set(id, {
        nodeName, refuse,
        accept: (stream) => {
          settle();
          const dispose = (): void => void stream[Symbol.asyncDispose]();
          // From here on an abort ends the stream itself, and so the agent's part in it.
          signal.addEventListener("abort", dispose, { once: true });
          resolve(stream);
        },
      });
      session.send({ $case: "stream", value: { ...request, id } });
    });
  }
}
