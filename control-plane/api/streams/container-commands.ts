// Owns /apis/gantry.io/v1/namespaces/NS/pods/NAME/{kill,top}: one-off questions and orders to a pod's node.
import { GantryError } from "../../../base/errors.ts";
import { newId } from "../../../base/ids.ts";
import { signalNumber } from "../../../base/signals.ts";
import type { StreamRequest } from "../../../proto/gen/gantry/v1/agent.ts";
import type { NodeStreams } from "../../state/node-streams.ts";
import type { ApiContext } from "../context.ts";
import type { Exchange } from "../exchange.ts";
import { successStatus } from "../status.ts";
import { containerOf, findPodIn } from "./pod-target.ts";

export interface CommandedContainer {
  readonly node: string;
  readonly podUid: string;
  readonly container: string;
}

/** The container that a request names (?container=), and where it is. "BadRequest" while it has no node. */
export const commandedContainer = async ({ info, query }: Exchange, context: ApiContext): Promise<CommandedContainer> => {
  const pod = await findPodIn(context, info.namespace, info.name);
  const container = containerOf(pod, query.get("container"));
  const node = pod.spec?.nodeName ?? "";
  if (node === "") throw new GantryError("BadRequest", `pod ${info.namespace}/${info.name} has no node yet: nothing of it is anywhere`);
  return { node, podUid: pod.metadata.uid!, container };
};

/** What the node answers to a request without input: all of its output. */
export const askNode = async (streams: NodeStreams, node: string, kind: StreamRequest["kind"], signal: AbortSignal): Promise<Buffer> => {
  await using stream = await streams.open(node, { id: newId(), kind }, signal);
  const pieces: Buffer[] = [];
  for await (const { frame } of stream.frames) if (frame?.$case === "stdout") pieces.push(frame.value);
  return Buffer.concat(pieces);
};

export const serveKill = async (exchange: Exchange, context: ApiContext, streams: NodeStreams): Promise<void> => {
  const name = exchange.query.get("signal") ?? "KILL";
  const signal = signalNumber(name);
  if (signal === undefined) throw new GantryError("BadRequest", `signal: ${JSON.stringify(name)} is none: give a name or a number, such as SIGTERM, TERM or 15`);
  const { node, podUid, container } = await commandedContainer(exchange, context);
  await askNode(streams, node, { $case: "kill", value: { podUid, container, signal } }, exchange.signal);
  exchange.value(200, successStatus(200));
};

export const serveTop = async (exchange: Exchange, context: ApiContext, streams: NodeStreams): Promise<void> => {
  const { node, podUid, container } = await commandedContainer(exchange, context);
  exchange.bytes(200, "application/json", await askNode(streams, node, { $case: "top", value: { podUid, container } }, exchange.signal));
};
