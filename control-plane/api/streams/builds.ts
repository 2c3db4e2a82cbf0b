// Owns POST /apis/gantry.io/v1/builds: a line of options and a context go to the one node that builds; what it tells comes back line by line, and the image is on
// every node in the end. The context is passed on as it comes, and never held as a whole.
// Query: name= (the image's; decides which node, so that the same image finds its cache), node= (this one), platform=.
import { createHash } from "node:crypto";
import { GantryError, describeError } from "../../../base/errors.ts";
import { newId } from "../../../base/ids.ts";
import { NODES } from "../../../base/kube/resources.ts";
import type { NodeStream, NodeStreams } from "../../state/node-streams.ts";
import type { ApiContext } from "../context.ts";
import type { ByteSink, Exchange } from "../exchange.ts";
import { spread, type MadeImage } from "./spread-image.ts";

/** The protocol's limit for one frame of data. */
const FRAME_BYTES = 64 * 1024;

export interface BuildNode {
  readonly name: string;
  /** "amd64"; "" when it is not known. */
  readonly architecture: string;
  readonly isCordoned: boolean;
}

/**
 * The node that builds `image`: by rendezvous hashing, so that the same image is built where its cache is, whichever control plane is asked, and only a node's own builds move when
 * one comes or goes. Pure. Errors: "ServiceUnavailable", "NotFound", "Invalid" (no node of that platform).
 */
export const chooseBuilder = (nodes: readonly BuildNode[], image: string, platform: string, wanted: string): string => {
  if (nodes.length === 0) throw new GantryError("ServiceUnavailable", "no node is connected: there is nowhere to build");
  if (wanted !== "") {
    if (nodes.some((node) => node.name === wanted)) return wanted;
    throw new GantryError("NotFound", `node: ${wanted} is not connected; connected nodes: ${nodes.map((node) => node.name).join(", ")}`);
  }
  const [os = "", architecture = ""] = platform.split("/");
  const fitting = platform === "" ? nodes : nodes.filter((node) => os === "linux" && (architecture === "" || node.architecture === architecture || node.architecture === ""));
  if (fitting.length === 0) {
    const there = [...new Set(nodes.map((node) => `linux/${node.architecture}`))];
    throw new GantryError("Invalid", `platform: ${JSON.stringify(platform)}: no node builds for it; there are nodes of ${there.join(", ")}`);
  }
  const open = fitting.filter((node) => !node.isCordoned);
  const repository = image.replace(/@.*$/, "").replace(/:[^:/]*$/, "");
  const weight = ({ name }: BuildNode): string => createHash("sha256").update(`${name}\0${repository}`).digest("hex");
  return (open.length > 0 ? open : fitting).toSorted((a, b) => (weight(a) < weight(b) ? 1 : -1))[0]!.name;
};

/** Passes the body on; the slower side sets the pace. Ends early, and without an error, when the agent takes no more: its own frames say why. */
const upload = async (exchange: Exchange, stream: NodeStream): Promise<void> => {
  for await (const chunk of exchange.body()) {
    for (let at = 0; at < chunk.length; at += FRAME_BYTES) {
      try {
        await stream.send({ frame: { $case: "stdin", value: chunk.subarray(at, at + FRAME_BYTES) } });
      } catch {
        return;
      }
    }
  }
  stream.end();
};

/** Bytes in pieces -> whole lines. */
async function* linesOf(stream: NodeStream): AsyncGenerator<string, void> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const { frame } of stream.frames) {
    if (frame?.$case !== "stdout") continue;
    const lines = (rest + decoder.decode(frame.value, { stream: true })).split("\n");
    rest = lines.pop()!;
    yield* lines;
  }
}

const write = async (sink: ByteSink, text: string): Promise<void> => {
  if (!sink.write(`${text}\n`)) await sink.ready();
};

/** On the last line of a build that went well. */
const imageOf = (line: string): MadeImage | undefined => (line.startsWith('{"image":') ? (JSON.parse(line) as { readonly image: MadeImage }).image : undefined);

/** Tells the lines of one vertex around `work`, as an agent does of its own. */
const asVertex = async (say: (event: object) => Promise<void>, context: ApiContext, name: string, work: (vertex: string) => Promise<void>): Promise<void> => {
  const vertex = `api ${name}`;
  const startedMs = context.clock.monotonicMs();
  const done = (error?: unknown): Promise<void> => say({ vertex, done: true, seconds: Math.round(context.clock.monotonicMs() - startedMs) / 1000, ...(error === undefined ? {} : { error: describeError(error) }) });
  await say({ vertex, name });
  try {
    await work(vertex);
  } catch (error) {
    await done(error);
    throw error;
  }
  await done();
};

export const serveBuild = async (exchange: Exchange, streams: NodeStreams, context: ApiContext): Promise<void> => {
  const { query, signal } = exchange;
  const known = context.cache.resource(NODES);
  const nodes = streams.connectedNodes().map((name): BuildNode => {
    const node = known.get("", name)?.object;
    return { name, architecture: node?.status?.nodeInfo?.architecture ?? "", isCordoned: node?.spec?.unschedulable === true };
  });
  const builder = chooseBuilder(nodes, query.get("name") ?? "", query.get("platform") ?? "", query.get("node") ?? "");
  await using stream = await streams.open(builder, { id: newId(), kind: { $case: "build", value: {} } }, signal);
  const sink = exchange.open(200, "application/x-ndjson");
  const say = (event: object): Promise<void> => write(sink, JSON.stringify(event));
  const uploading = upload(exchange, stream);
  uploading.catch(() => undefined); // the agent sees the end of it, and says so
  try {
    await say({ node: builder });
    let image: MadeImage | undefined;
    for await (const line of linesOf(stream)) {
      if (signal.aborted) return;
      image ??= imageOf(line);
      await write(sink, line);
    }
    const built = image;
    if (built === undefined) throw new GantryError("InternalError", `node ${builder} ended the build without an image`);
    if (nodes.length > 1) await asVertex(say, context, `loading onto ${nodes.length} nodes`, () => spread(built, builder, streams, context, signal));
    await say({ finished: true });
  } catch (error) {
    await say({ error: describeError(error), code: error instanceof GantryError ? error.code : "InternalError" });
  } finally {
    sink.end();
  }
};
