// Owns POST /apis/gantry.io/v1/images?name=: an image archive of any size goes to every connected node at once, chunk by
// chunk, and is never held as a whole. The answer is a line of JSON for each node as it finishes, and a summary.
import { GantryError, describeError } from "../../../base/errors.ts";
import { newId } from "../../../base/ids.ts";
import type { NodeStream, NodeStreams } from "../../state/node-streams.ts";
import type { Exchange } from "../exchange.ts";
import { chosenNodes } from "./image-operations.ts";
import { checkResult } from "./logs.ts";

/** The protocol's limit for one frame of data. */
const FRAME_BYTES = 64 * 1024;

interface Target {
  readonly node: string;
  readonly stream: NodeStream;
  /** Takes no more data: it failed, or it has all that it needs. */
  isDone: boolean;
}

const opened = async (node: string, name: string, streams: NodeStreams, signal: AbortSignal): Promise<Target> => ({
  node, isDone: false, stream: await streams.open(node, { id: newId(), kind: { $case: "loadImage", value: { name } } }, signal),
});

/** Waits for the agent's result: the names under which the image is known now. */
const namesLoaded = async ({ stream }: Target): Promise<readonly string[]> => {
  for await (const { frame } of stream.frames) {
    if (frame?.$case !== "result") continue;
    checkResult(frame.value);
    return frame.value.names;
  }
  throw new GantryError("ServiceUnavailable", "the node ended the stream without a result");
};

export const serveImageLoad = async (exchange: Exchange, streams: NodeStreams): Promise<void> => {
  const { query, signal } = exchange;
  const nodes = chosenNodes({ exchange, streams });

  await using cleanup = new AsyncDisposableStack();
  const sink = exchange.open(200, "application/x-ndjson");
  const say = (line: object): void => void sink.write(`${JSON.stringify(line)}\n`);
  let loaded = 0;
  let failed = 0;
  const fail = (node: string, error: unknown): void => {
    failed++;
    say({ node, error: describeError(error) });
  };

  const attempts = await Promise.allSettled(nodes.map((node) => opened(node, query.get("name") ?? "", streams, signal)));
  const targets = attempts.flatMap((attempt, i): Target[] => {
    if (attempt.status === "fulfilled") return [attempt.value];
    fail(nodes[i]!, attempt.reason);
    return [];
  });
  for (const { stream } of targets) cleanup.use(stream);

  // Listening starts before sending: a node that refuses the archive half-way says so while the rest still comes in.
  const results = targets.map(async (target) => {
    try {
      say({ node: target.node, done: true, names: await namesLoaded(target) });
      loaded++;
    } catch (error) {
      fail(target.node, error);
    } finally {
      target.isDone = true;
    }
  });
  try {
    for await (const chunk of exchange.body()) {
      for (let at = 0; at < chunk.length; at += FRAME_BYTES) {
        const value = chunk.subarray(at, at + FRAME_BYTES);
        const live = targets.filter((t) => !t.isDone);
        // All failed: the rest of the body is not worth reading.
        if (live.length === 0) break;
        // The slowest node sets the pace. A send that fails ends this node's frames too, which is where it is told.
        await Promise.all(live.map((t) => t.stream.send({ frame: { $case: "stdin", value } }).catch(() => void (t.isDone = true))));
      }
      if (targets.every((t) => t.isDone)) break;
    }
  } catch (error) {
    for (const { node } of targets.filter((t) => !t.isDone)) say({ node, error: `the upload broke off: ${describeError(error)}` });
    sink.end();
    return;
  }
  for (const target of targets) if (!target.isDone) target.stream.end();
  await Promise.all(results);
  say({ summary: { loaded, failed } });
  sink.end();
};
