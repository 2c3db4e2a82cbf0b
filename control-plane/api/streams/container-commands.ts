// Owns /apis/gantry.io/v1/namespaces/NS/pods/NAME/{kill,top,archive,diff,commit}: one-off questions and orders to a pod's node.
import { GantryError } from "../../../base/errors.ts";
import { newId } from "../../../base/ids.ts";
import { signalNumber } from "../../../base/signals.ts";
import type { StreamRequest } from "../../../proto/gen/gantry/v1/agent.ts";
import type { NodeStreams } from "../../state/node-streams.ts";
import type { ApiContext } from "../context.ts";
import type { Exchange } from "../exchange.ts";
import { isTrue } from "../router.ts";
import { successStatus } from "../status.ts";
import { askInTime } from "./image-operations.ts";
import { checkResult } from "./logs.ts";
import { containerOf, findPodIn } from "./pod-target.ts";
import { spread } from "./spread-image.ts";

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
  for await (const { frame } of stream.frames) {
    if (frame?.$case === "stdout") pieces.push(frame.value);
    if (frame?.$case === "result") checkResult(frame.value);
  }
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

const FRAME_BYTES = 64 * 1024;
/** What the file is, as docker's archive endpoint says it: base64 of JSON. */
const STAT_HEADER = "x-gantry-path-stat";

const pathOf = ({ query }: Exchange): string => {
  const path = query.get("path") ?? "";
  if (path === "") throw new GantryError("BadRequest", "path: which file or directory of the container?");
  return path.startsWith("/") ? path : `/${path}`;
};

/** GET archive?path=&follow=: a tar, with what the path is in a header. With stat=true only that, as JSON. */
export const serveReadArchive = async (exchange: Exchange, context: ApiContext, streams: NodeStreams): Promise<void> => {
  const { query, signal } = exchange;
  const path = pathOf(exchange);
  const { node, podUid, container } = await commandedContainer(exchange, context);
  const statOnly = isTrue(query.get("stat"));
  await using stream = await streams.open(node, { id: newId(), kind: { $case: "readArchive", value: { podUid, container, path, follow: isTrue(query.get("follow")), statOnly } } }, signal);
  let sink: ReturnType<Exchange["open"]> | undefined;
  for await (const { frame } of stream.frames) {
    if (signal.aborted) return;
    if (frame?.$case !== "stdout") continue;
    if (!sink) {
      if (statOnly) {
        exchange.bytes(200, "application/json", frame.value);
        return;
      }
      sink = exchange.open(200, "application/x-tar", { [STAT_HEADER]: frame.value.toString("base64") });
    } else if (!sink.write(frame.value)) await sink.ready();
  }
  sink?.end();
};

/** PUT archive?path=&keepOwners=: the body is a tar, unpacked into the directory. */
export const serveWriteArchive = async (exchange: Exchange, context: ApiContext, streams: NodeStreams): Promise<void> => {
  const { query, signal } = exchange;
  const path = pathOf(exchange);
  const { node, podUid, container } = await commandedContainer(exchange, context);
  await using stream = await streams.open(node, { id: newId(), kind: { $case: "writeArchive", value: { podUid, container, path, keepOwners: isTrue(query.get("keepOwners")) } } }, signal);
  // A node that refuses an entry says so while the rest still comes in.
  const state = { isOver: false };
  const answered = (async () => {
    try {
      for await (const { frame } of stream.frames) if (frame?.$case === "result") return;
    } finally {
      state.isOver = true;
    }
  })();
  // Told below, whenever it comes.
  answered.catch(() => undefined);
  for await (const chunk of exchange.body()) {
    for (let at = 0; at < chunk.length && !state.isOver; at += FRAME_BYTES) await stream.send({ frame: { $case: "stdin", value: chunk.subarray(at, at + FRAME_BYTES) } }).catch(() => void (state.isOver = true));
    if (state.isOver) break;
  }
  if (!state.isOver) stream.end();
  await answered;
  exchange.value(200, successStatus(200));
};

/** GET diff: a JSON list of { kind, path }. */
export const serveDiff = async (exchange: Exchange, context: ApiContext, streams: NodeStreams): Promise<void> => {
  const { node, podUid, container } = await commandedContainer(exchange, context);
  const lines = (await askNode(streams, node, { $case: "diff", value: { podUid, container } }, exchange.signal)).toString("utf8").split("\n").filter((line) => line !== "");
  exchange.bytes(200, "application/json", `[${lines.join(",")}]`);
};

/** POST commit?reference=&author=&message=&change=&pause=: answers with the image's id and name, when every node has it. */
export const serveCommit = async (exchange: Exchange, context: ApiContext, streams: NodeStreams): Promise<void> => {
  const { query, signal } = exchange;
  const { node, podUid, container } = await commandedContainer(exchange, context);
  const value = {
    podUid, container, reference: query.get("reference") ?? "", author: query.get("author") ?? "", message: query.get("message") ?? "", changes: query.getAll("change"), pause: query.get("pause") === null || isTrue(query.get("pause")),
  };
  await using stream = await streams.open(node, { id: newId(), kind: { $case: "commit", value } }, signal);
  for await (const { frame } of stream.frames) {
    if (frame?.$case !== "result") continue;
    const [id = "", name = ""] = frame.value.names;
    const { images: [image] } = await askInTime({ exchange, streams, context }, node, { $case: "inspect", value: { reference: id } });
    if (!image) throw new GantryError("NotFound", `the image ${id} was removed from node ${node} before the others had it`);
    await spread(image, node, streams, context, signal);
    exchange.value(201, { id, name, node });
    return;
  }
  throw new GantryError("ServiceUnavailable", "the node ended the stream without a result");
};
