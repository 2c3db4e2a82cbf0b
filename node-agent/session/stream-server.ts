// Serves what the control plane asks of this node (logs, exec, images) over a call that the node makes: nothing has to reach it.
import type { Readable } from "node:stream";
import type { ClientDuplexStream } from "@grpc/grpc-js";
import type { Clock } from "../../base/clock.ts";
import { describeError, GantryError } from "../../base/errors.ts";
import type { Logger } from "../../base/logger.ts";
import type { DispatcherClient, StreamFrame, StreamRequest, StreamResult } from "../../proto/gen/gantry/v1/agent.ts";
import type { Builder } from "../build/builder.ts";
import { serveBuild } from "../build/build-stream.ts";
import type { ImageService } from "../images/image-service.ts";
import type { PodService } from "../pods/pod-service.ts";
import type { StatsCollector } from "../stats/stats-collector.ts";
import { serveImageRequest, type ImageRequestContext } from "./image-requests.ts";

export interface StreamServerOptions {
  readonly pods: Pick<PodService, "logs" | "exec" | "commands" | "imageUsers" | "statuses">;
  readonly images: ImageService;
  /** What disk usage measures. */
  readonly imageDirectories: ImageRequestContext["directories"];
  readonly stats?: Pick<StatsCollector, "follow">;
  readonly builder?: Pick<Builder, "build">;
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

const asJson = (value: unknown): StreamFrame => ({ frame: { $case: "stdout", value: Buffer.from(JSON.stringify(value)) } });

/** Thousands of changes don't fit into one frame. */
const asJsonLines = function* (values: readonly unknown[]): Generator<StreamFrame> {
  for (let at = 0; at < values.length; at += 200) yield { frame: { $case: "stdout", value: Buffer.from(values.slice(at, at + 200).map((v) => `${JSON.stringify(v)}\n`).join("")) } };
};

const serve = async (request: StreamRequest, call: Call, answer: Answer, { pods, images, stats, builder, clock, imageDirectories }: StreamServerOptions): Promise<StreamResult> => {
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
    case "stats": {
      if (!stats) throw new GantryError("MethodNotAllowed", "this node does not measure what its pods use");
      call.resume();
      answer.accept(); // the first sample may take a second
      for await (const sample of stats.follow(request.kind.value, signal)) await answer.send({ frame: { $case: "stats", value: sample } });
      return OK;
    }
    case "image": {
      call.resume();
      await serveImageRequest(request.kind.value, (frame) => answer.send(frame), signal, { images, pods, clock, directories: imageDirectories });
      return OK;
    }
    case "attach":
      await pods.commands.attach(request.kind.value, framesOf(call), (frame) => answer.send(frame), signal);
      return OK;
    case "portForward":
      await pods.commands.portForward(request.kind.value, framesOf(call), (frame) => answer.send(frame), signal);
      return OK;
    case "kill":
      await pods.commands.kill(request.kind.value);
      return OK;
    case "readArchive":
      call.resume();
      await pods.commands.readArchive(request.kind.value, (frame) => answer.send(frame), signal);
      return OK;
    case "writeArchive":
      // It comes only once the stream is accepted.
      answer.accept();
      await pods.commands.writeArchive(request.kind.value, framesOf(call));
      return OK;
    case "diff":
      for (const frame of asJsonLines(await pods.commands.diff(request.kind.value))) await answer.send(frame);
      return OK;
    case "commit": {
      answer.accept();
      return { ...OK, names: [...(await pods.commands.commit(request.kind.value, signal))] };
    }
    case "top":
      await answer.send(asJson(pods.commands.top(request.kind.value)));
      return OK;
    case "build": {
      if (!builder) throw new GantryError("MethodNotAllowed", "this node does not build images");
      answer.accept();
      const names = await serveBuild(builder, archiveOf(framesOf(call)), (bytes) => answer.send({ frame: { $case: "stdout", value: bytes } }), signal);
      return { ...OK, names: [...names] };
    }
    default:
      throw new GantryError("MethodNotAllowed", `this node does not serve ${(request.kind as { readonly $case: string } | undefined)?.$case ?? "such"} streams yet`);
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
