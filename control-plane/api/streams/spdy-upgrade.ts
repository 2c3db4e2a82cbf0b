// Owns exec, attach and port-forward over SPDY/3.1, which kubectl before 1.30 speaks, and newer ones fall back to. The protocol inside is named by X-Stream-Protocol-Version; the
// client opens a stream for each of error, stdin, stdout, stderr and resize that it wants. Source: k8s.io/apimachinery/pkg/util/httpstream/spdy, by its wire format.
import { GantryError } from "../../../base/errors.ts";
import { newId } from "../../../base/ids.ts";
import type { Status } from "../../../base/kube/types.gen.ts";
import type { NodeStream, NodeStreams } from "../../state/node-streams.ts";
import type { ResourceRequest } from "../context.ts";
import { statusOf } from "../status.ts";
import { cannotNegotiate, exitStatus, offeredProtocols, readTerminal, type Terminal, type Upgrade, type Wanted } from "./exec.ts";
import { forwardSpdy, forwardTarget } from "./port-forward.ts";
import { SpdyConnection, type SpdyStream, type SpdyTransport } from "./spdy/connection.ts";

/** v5 differs from v4 over WebSocket only. */
const TERMINAL_PROTOCOLS = ["v4.channel.k8s.io"];
const FORWARD_PROTOCOLS = ["portforward.k8s.io"];
/** How long a client may take to open all streams that it asked for. */
const STREAMS_TIMEOUT_MS = 30_000;
const FRAME_BYTES = 64 * 1024;

/** Sends the 101 and hands over the bytes that follow. Throws "BadRequest" when there is no common protocol. */
const accept = ({ request, socket, head }: Upgrade, protocols: readonly string[]): SpdyTransport => {
  const offered = offeredProtocols(request.headers["x-stream-protocol-version"]);
  const protocol = protocols.find((p) => offered.includes(p));
  if (protocol === undefined) throw cannotNegotiate(offered, protocols);
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: ${protocol}\r\n\r\n`);
  return {
    chunks: (async function* () {
      if (head.length > 0) yield head;
      try {
        for await (const chunk of socket) yield chunk as Buffer;
      } catch {
        // The connection broke: it is at its end, too.
      }
    })(),
    write: (data) => {
      if (socket.destroyed) return Promise.reject(new GantryError("Cancelled", "the client closed the connection"));
      if (socket.write(data)) return Promise.resolve();
      return new Promise((resolve) => {
        const done = (): void => {
          socket.off("drain", done).off("close", done);
          resolve();
        };
        socket.on("drain", done).on("close", done);
      });
    },
  };
};

const neededStreams = (wanted: Wanted): readonly string[] =>
  ["error", ...(["stdin", "stdout", "stderr"] as const).filter((name) => wanted[name]), ...(wanted.tty ? ["resize"] : [])];

/** What the client types, and the sizes of its terminal: one JSON object a line. */
const forwardInput = (streams: ReadonlyMap<string, SpdyStream>, node: NodeStream): void => {
  const stdin = streams.get("stdin");
  const resize = streams.get("resize");
  const typing = async (): Promise<void> => {
    for await (const data of stdin!.data()) for (let at = 0; at < data.length; at += FRAME_BYTES) await node.send({ frame: { $case: "stdin", value: data.subarray(at, at + FRAME_BYTES) } });
    node.end();
  };
  const sizing = async (): Promise<void> => {
    let rest = "";
    for await (const data of resize!.data()) {
      const lines = (rest + data.toString("utf8")).split("\n");
      rest = lines.pop()!;
      for (const line of lines) {
        const { Width, Height } = JSON.parse(line) as { Width?: number; Height?: number };
        await node.send({ frame: { $case: "resize", value: { width: Width ?? 0, height: Height ?? 0 } } });
      }
    }
  };
  // They fail once the command is over, which shows in its result.
  if (stdin) typing().catch(() => undefined);
  if (resize) sizing().catch(() => undefined);
};

const carry = async (nodes: NodeStreams, { node, kind }: Terminal, streams: ReadonlyMap<string, SpdyStream>, signal: AbortSignal): Promise<Status> => {
  await using stream = await nodes.open(node, { id: newId(), kind }, signal);
  forwardInput(streams, stream);
  for await (const { frame } of stream.frames) {
    if (frame?.$case === "result") return exitStatus(frame.value);
    if (frame?.$case === "stdout" || frame?.$case === "stderr") await streams.get(frame.$case)?.send(frame.value);
  }
  throw new GantryError("InternalError", "the node ended the stream without an exit code");
};

export const serveTerminalOverSpdy = async (request: ResourceRequest, nodes: NodeStreams, upgrade: Upgrade): Promise<void> => {
  const { context, exchange } = request;
  const terminal = await readTerminal(request);
  const transport = accept(upgrade, TERMINAL_PROTOCOLS);
  const needed = neededStreams(terminal.wanted);
  const streams = new Map<string, SpdyStream>();
  const complete = Promise.withResolvers<void>();
  const gone = new AbortController();
  const timer = context.clock.setTimer(STREAMS_TIMEOUT_MS, () => complete.reject(new GantryError("Timeout", `the client did not open the streams ${needed.filter((n) => !streams.has(n)).join(", ")}`)));
  const connection = new SpdyConnection(transport, (stream) => {
    streams.set(stream.headers.get("streamtype") ?? "", stream);
    if (needed.every((name) => streams.has(name))) complete.resolve();
  });
  connection.run().catch((error: unknown) => context.logger.debug("a SPDY connection broke", { err: error })).finally(() => {
    const error = new GantryError("Cancelled", "the client closed the connection");
    gone.abort(error);
    complete.reject(error);
  });
  try {
    await complete.promise;
    const status = await carry(nodes, terminal, streams, AbortSignal.any([exchange.signal, gone.signal])).catch((error: unknown) => statusOf(error));
    if (gone.signal.aborted) return;
    await streams.get("error")!.send(Buffer.from(JSON.stringify(status)));
    for (const stream of streams.values()) await stream.end();
  } catch (error) {
    context.logger.debug("an exec or attach over SPDY broke off", { err: error });
  } finally {
    timer[Symbol.dispose]();
    upgrade.socket.end();
  }
};

export const servePortForwardOverSpdy = async (request: ResourceRequest, nodes: NodeStreams, upgrade: Upgrade): Promise<void> => {
  const target = await forwardTarget(request);
  const transport = accept(upgrade, FORWARD_PROTOCOLS);
  const { signal } = request.exchange;
  const shutDown = (): void => void upgrade.socket.destroy();
  signal.addEventListener("abort", shutDown, { once: true });
  try {
    await forwardSpdy(request, nodes, target, transport);
  } catch (error) {
    request.context.logger.debug("a port-forward over SPDY broke off", { err: error });
  } finally {
    signal.removeEventListener("abort", shutDown);
    upgrade.socket.end();
  }
};
