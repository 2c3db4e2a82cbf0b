// Brings an image that was made on one node (built, or committed) to all others: no registry has it.
import { GantryError, describeError } from "../../../base/errors.ts";
import { newId } from "../../../base/ids.ts";
import type { ImageReceiveRequest } from "../../../proto/gen/gantry/v1/agent.ts";
import type { NodeStreams } from "../../state/node-streams.ts";
import type { ApiContext } from "../context.ts";

/** What the agent that made it says of it. */
export interface MadeImage {
  readonly id: string;
  readonly manifestDigest: string;
  readonly manifestBytes: number;
  readonly mediaType: string;
  /** None: it is known by its id alone. */
  readonly names: readonly string[];
}

const receive = async (node: string, value: ImageReceiveRequest, streams: NodeStreams, signal: AbortSignal): Promise<void> => {
  await using stream = await streams.open(node, { id: newId(), kind: { $case: "image", value: { action: { $case: "receive", value } } } }, signal);
  for await (const { frame } of stream.frames) if (frame?.$case === "result") return;
};

/** The whole image through this process, for nodes that can't reach the maker: as it comes, the slowest sets the pace. Errors by node. */
const relay = async (image: MadeImage, maker: string, nodes: readonly string[], streams: NodeStreams, signal: AbortSignal): Promise<readonly PromiseSettledResult<void>[]> => {
  await using cleanup = new AsyncDisposableStack();
  const references = image.names.length > 0 ? [...image.names] : [image.id];
  const source = cleanup.use(await streams.open(maker, { id: newId(), kind: { $case: "image", value: { action: { $case: "save", value: { references } } } } }, signal));
  const targets = await Promise.allSettled(nodes.map(async (node) => cleanup.use(await streams.open(node, { id: newId(), kind: { $case: "loadImage", value: { name: "" } } }, signal))));
  const live = new Set(targets.flatMap((target) => (target.status === "fulfilled" ? [target.value] : [])));
  // Listening starts before sending: a node that refuses half-way says so.
  const results = targets.map(async (target) => {
    if (target.status === "rejected") throw target.reason;
    try {
      for await (const { frame } of target.value.frames) if (frame?.$case === "result") return;
    } finally {
      live.delete(target.value);
    }
  });
  const settled = Promise.allSettled(results);
  for await (const { frame } of source.frames) {
    if (frame?.$case !== "stdout") continue;
    const { value } = frame;
    await Promise.all([...live].map((stream) => stream.send({ frame: { $case: "stdin", value } }).catch(() => void live.delete(stream))));
    if (live.size === 0) break;
  }
  for (const stream of live) stream.end();
  return await settled;
};

/** Every other node gets what it lacks of the image from the maker and from one another, or the whole of it through here. Errors: "InternalError" lists the nodes that failed. */
export const spread = async (image: MadeImage, maker: string, streams: NodeStreams, context: ApiContext, signal: AbortSignal): Promise<void> => {
  const value: ImageReceiveRequest = { names: [...image.names], manifestDigest: image.manifestDigest, manifestBytes: image.manifestBytes, mediaType: image.mediaType, fromNode: maker };
  const others = streams.connectedNodes().filter((node) => node !== maker);
  const results = await Promise.allSettled(others.map((node) => receive(node, value, streams, signal)));
  const without = others.filter((_, i) => results[i]!.status === "rejected");
  if (without.length === 0) return;
  context.logger.info("an image goes through the control plane: nodes could not get it from one another", { nodes: without.join(","), err: results.flatMap((r) => (r.status === "rejected" ? [describeError(r.reason)] : []))[0] });
  const relayed = await relay(image, maker, without, streams, signal);
  const failed = relayed.flatMap((result, i) => (result.status === "rejected" ? [`${without[i]!}: ${describeError(result.reason)}`] : []));
  if (failed.length > 0) throw new GantryError("InternalError", `the image was made on ${maker}, but did not reach every node:\n  ${failed.join("\n  ")}`);
};
