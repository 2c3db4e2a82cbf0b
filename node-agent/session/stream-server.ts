// Serves what the control plane asks of this node (logs, exec, images) over a call that the node makes: nothing has to reach it.
import type { Readable } from "node:stream";
import type { ClientDuplexStream } from "@grpc/grpc-js";
import type { Clock } from "../../base/clock.ts";
import { describeError, GantryError } from "../../base/errors.ts";
import type { Logger } from "../../base/logger.ts";
import type { DispatcherClient, StreamFrame, StreamRequest, StreamResult } from "../../proto/gen/gantry/v1/agent.ts";
import type { ImageService } from "../images/image-service.ts";
import type { PodService } from "../pods/pod-service.ts";

export interface StreamServerOptions {
  readonly pods: Pick<PodService, "logs" | "exec">;
  readonly images: Pick<ImageService, "load">;
  readonly clock: Clock;
  readonly logger: Logger;
}

type Call = ClientDuplexStream<StreamFrame, StreamFrame>;

/** A request that can't be served fails well within this time; then it is refused, and the API can still answer with an error. */
const ACCEPT_AFTER_MS = 20;

const OK: StreamResult = { code: "", message: "", exitCode: 0, names: [] };

/** One call: says `accept` or `refuse` first, then frames, then the result. */
class Answer {
  readonly abort = new AbortController();
  readonly #call: Call;
  readonly #id: string;
  #accepted = false;

  constructor(call: Call, id: string) {
    this.#call = call;
    this.#id = id;
    // Also when it ended well: whoever asked is gone.
    call.on("status", () => this.abort.abort(new GantryError("Cancelled", "the control plane closed the stream")));
    call.on("error", () => this.abort.abort(new GantryError("Cancelled", "the control plane cancelled the stream")));
  }

  accept(): void {
    if (this.#accepted || this.abort.signal.aborted) return;
    this.#accepted = true;
    this.#call.write({ frame: { $case: "accept", value: this.#id } });
  }

  /** Resolves when there is room for more; throws once nobody listens. */
  async send(frame: StreamFrame): Promise<void> {
    this.accept();
    const { signal } = this.abort;
    signal.throwIfAborted();
    if (this.#call.write(frame)) return;
    await new Promise<void>((resolve, reject) => {
      const onAbort = (): void => {
        this.#call.off("drain", onDrain);
        reject(signal.reason as Error);
      };
      const onDrain = (): void => {
        signal.removeEventListener("abort", onAbort);
        resolve();
      };
      this.#call.once("drain", onDrain);
      signal.addEventListener("abort", onAbort, { once: true });
    });
  }

  finish(result: StreamResult): void {
    this.accept();
    if (this.abort.signal.aborted) return;
    this.#call.write({ frame: { $case: "result", value: result } });
    this.#call.end();
  }

  fail(error: unknown): void {
    if (this.abort.signal.aborted) return;
    const code = error instanceof GantryError ? error.code : "InternalError";
    const message = describeError(error);
    if (this.#accepted) this.finish({ ...OK, code, message });
    else {
      this.#call.write({ frame: { $case: "refuse", value: { id: this.#id, code, message } } });
      this.#call.end();
    }
  }
}

async function* archiveOf(frames: AsyncIterable<StreamFrame>): AsyncGenerator<Uint8Array> {
  for await (const { frame } of frames) {
    if (frame?.$case === "stdin") yield frame.value;
    if (frame?.$case === "stdinClosed") return;
  }
  throw new GantryError("Cancelled", "the archive was cut off");
}

/** The control plane's frames. Leaving the loop must not destroy the call: the result is still to be sent. */
const framesOf = (call: Call): AsyncIterable<StreamFrame> => (call as unknown as Readable).iterator({ destroyOnReturn: false });

const serve = async (request: StreamRequest, call: Call, answer: Answer, { pods, images }: StreamServerOptions): Promise<StreamResult> => {
  const { signal } = answer.abort;
  switch (request.kind?.$case) {
    case "logs": {
      call.resume();
      for await (const frame of pods.logs(request.kind.value, signal)) await answer.send(frame);
      return OK;
    }
    case "exec": {
      const { exitCode } = await pods.exec(request.kind.value, framesOf(call), (frame) => answer.send(frame), signal);
      return { ...OK, exitCode };
    }
    case "loadImage": {
      // The archive comes only once the stream is accepted.
      answer.accept();
      const { name } = request.kind.value;
      const names = await images.load(archiveOf(framesOf(call)), name === "" ? undefined : name);
      return { ...OK, names: [...names] };
    }
    default:
      throw new GantryError("MethodNotAllowed", `this node does not serve ${request.kind?.$case ?? "such"} streams yet`);
  }
};

/** Never throws; ends when either side does, or with the session's signal. */
export const answerStream = async (client: DispatcherClient, request: StreamRequest, session: AbortSignal, options: StreamServerOptions): Promise<void> => {
  const call = client.stream();
  const answer = new Answer(call, request.id);
  const onSessionEnd = (): void => call.cancel();
  session.addEventListener("abort", onSessionEnd, { once: true });
  const accepting = options.clock.setTimer(ACCEPT_AFTER_MS, () => answer.accept());
  try {
    answer.finish(await serve(request, call, answer, options));
  } catch (error) {
    options.logger.debug("stream failed", { stream: request.id, kind: request.kind?.$case, err: error });
    answer.fail(error);
  } finally {
    accepting[Symbol.dispose]();
    session.removeEventListener("abort", onSessionEnd);
    // Otherwise the status is never read, and the call never over.
    call.resume();
  }
};
