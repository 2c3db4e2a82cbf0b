// Owns pods/portforward: TCP connections to ports of a pod. Three carriers: the WebSocket subprotocol v4.channel.k8s.io (client-node: ?ports=N, two channels a
// port, data and error), a SPDY/3.1 connection inside of a WebSocket (kubectl 1.31 and newer, subprotocol SPDY/3.1+portforward.k8s.io), and SPDY/3.1 alone (older
// kubectl: spdy-upgrade.ts). In SPDY each connection is a pair of streams with one requestID. Sources: k8s.io/kubernetes/pkg/kubelet/server/portforward,
// KEP-4006, both by their wire formats.
import { WebSocketServer, type RawData, type WebSocket } from "ws";
import { describeError, GantryError } from "../../../base/errors.ts";
import { newId } from "../../../base/ids.ts";
import type { NodeStreams } from "../../state/node-streams.ts";
import type { ResourceRequest } from "../context.ts";
import { cannotNegotiate, offeredProtocols, type Upgrade } from "./exec.ts";
import { checkResult } from "./logs.ts";
import { checkForwards, findPod } from "./pod-target.ts";
import { SpdyConnection, type SpdyStream, type SpdyTransport } from "./spdy/connection.ts";

const CHANNELS = "v4.channel.k8s.io";
const TUNNEL = "SPDY/3.1+portforward.k8s.io";
const PROTOCOLS = [TUNNEL, CHANNELS];
const MAX_MESSAGE_BYTES = 1024 * 1024;
const FRAME_BYTES = 64 * 1024;
/** How long the second stream of a pair may take; kubectl opens both at once. */
const PAIR_TIMEOUT_MS = 30_000;
/** Unsent bytes of a WebSocket from which on its sender waits. */
const MAX_UNSENT_BYTES = 1024 * 1024;

const server = new WebSocketServer({ noServer: true, maxPayload: MAX_MESSAGE_BYTES, perMessageDeflate: false });
/** `ws` refuses the tunnel's name, since a slash is no part of a token (RFC 6455, 4.1): so it doesn't get to see it, and the answer is written for it. */
const tunnels = new WebSocketServer({ noServer: true, maxPayload: MAX_MESSAGE_BYTES, perMessageDeflate: false });
tunnels.on("headers", (headers) => headers.push(`Sec-WebSocket-Protocol: ${TUNNEL}`));

const asBuffer = (data: RawData): Buffer => (Buffer.isBuffer(data) ? data : Array.isArray(data) ? Buffer.concat(data) : Buffer.from(data));

export const readPort = (text: string | undefined, what: string): number => {
  const port = Number(text ?? "");
  if (!/^\d+$/.test(text ?? "") || port < 1 || port > 65_535) throw new GantryError("BadRequest", `${what}: ${JSON.stringify(text ?? "")} is not a port from 1 to 65535`);
  return port;
};

/** Where connections go. */
export interface ForwardTarget {
  readonly node: string;
  readonly podUid: string;
}

export const forwardTarget = async (request: ResourceRequest): Promise<ForwardTarget> => {
  const pod = await findPod(request);
  checkForwards(pod);
  return { node: pod.spec!.nodeName!, podUid: pod.metadata.uid! };
};

/** One TCP connection, until both sides are done. Rejects with the reason when it can't be made. */
const forward = async (streams: NodeStreams, { node, podUid }: ForwardTarget, port: number, signal: AbortSignal, input: AsyncIterable<Buffer>, send: (data: Buffer) => Promise<void>): Promise<void> => {
  await using stream = await streams.open(node, { id: newId(), kind: { $case: "portForward", value: { podUid, port } } }, signal);
  const inward = async (): Promise<void> => {
    for await (const data of input) for (let at = 0; at < data.length; at += FRAME_BYTES) await stream.send({ frame: { $case: "stdin", value: data.subarray(at, at + FRAME_BYTES) } });
    stream.end();
  };
  // It fails when the pod's side is over; that shows in the frames.
  inward().catch(() => undefined);
  for await (const { frame } of stream.frames) {
    if (frame?.$case === "stdout") await send(frame.value);
    if (frame?.$case === "result") checkResult(frame.value);
  }
};

/** In the order of calls; resolves at once while not much is unsent. */
const sent = (socket: WebSocket, message: Buffer): Promise<void> => {
  if (socket.readyState !== socket.OPEN) return Promise.reject(new GantryError("Cancelled", "the client closed the connection"));
  if (socket.bufferedAmount < MAX_UNSENT_BYTES) {
    socket.send(message, { binary: true });
    return Promise.resolve();
  }
  return new Promise((resolve, reject) => socket.send(message, { binary: true }, (error) => (error ? reject(error) : resolve())));
};

/** Messages of a WebSocket, one after the other; none is read ahead of its turn. */
async function* messagesOf(socket: WebSocket): AsyncGenerator<Buffer> {
  const queue: Buffer[] = [];
  let wake: (() => void) | undefined;
  let isOver = socket.readyState !== socket.OPEN;
  socket.on("message", (data) => {
    queue.push(asBuffer(data));
    socket.pause();
    wake?.();
  });
  const end = (): void => {
    isOver = true;
    wake?.();
  };
  socket.on("close", end);
  socket.on("error", end);
  socket.resume();
  for (;;) {
    const next = queue.shift();
    if (next) yield next;
    else if (isOver) return;
    else {
      socket.resume();
      await new Promise<void>((resolve) => { wake = resolve; });
    }
  }
}

/** SPDY: pairs the streams of each connection and carries it. */
export const forwardSpdy = async (request: ResourceRequest, streams: NodeStreams, target: ForwardTarget, transport: SpdyTransport): Promise<void> => {
  const { context, exchange } = request;
  const gone = new AbortController();
  const signal = AbortSignal.any([exchange.signal, gone.signal]);
  const waiting = new Map<string, { readonly stream: SpdyStream; readonly timer: Disposable }>();
  const serve = async (data: SpdyStream, error: SpdyStream): Promise<void> => {
    try {
      const port = readPort(data.headers.get("port"), "port");
      await forward(streams, target, port, signal, data.data(), (bytes) => data.send(bytes));
    } catch (cause) {
      if (!signal.aborted) await error.send(Buffer.from(`error forwarding port ${data.headers.get("port")} to pod ${exchange.info.name}: ${describeError(cause)}`));
    }
    await error.end();
    await data.end();
    connection.forget(data);
    connection.forget(error);
  };
  const connection = new SpdyConnection(transport, (stream) => {
    const type = stream.headers.get("streamtype");
    const id = stream.headers.get("requestid") ?? String(type === "error" ? stream.id : stream.id - 2);
    const other = waiting.get(id);
    if (!other) {
      waiting.set(id, { stream, timer: context.clock.setTimer(PAIR_TIMEOUT_MS, () => {
        waiting.delete(id);
        connection.forget(stream);
      }) });
      return;
    }
    waiting.delete(id);
    other.timer[Symbol.dispose]();
    const pair: readonly [SpdyStream, SpdyStream] = type === "data" ? [stream, other.stream] : [other.stream, stream];
    serve(...pair).catch((error: unknown) => context.logger.debug("forwarding a port broke off", { err: error }));
  });
  try {
    await connection.run();
  } finally {
    gone.abort(new GantryError("Cancelled", "the client closed the connection"));
    for (const { timer } of waiting.values()) timer[Symbol.dispose]();
  }
};

/** Input of one channel, as it comes. */
class ChannelInput {
  readonly #items: Buffer[] = [];
  #ended = false;
  #wake: (() => void) | undefined;

  put(data: Buffer): void {
    this.#items.push(data);
    this.#wake?.();
  }

  end(): void {
    this.#ended = true;
    this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer> {
    for (;;) {
      const next = this.#items.shift();
      if (next) yield next;
      else if (this.#ended) return;
      else await new Promise<void>((resolve) => { this.#wake = resolve; });
    }
  }
}

/** Each port has its data on channel 2i and its errors on 2i + 1; the first message of each is the port, little-endian. */
const forwardChannels = async (request: ResourceRequest, streams: NodeStreams, target: ForwardTarget, socket: WebSocket, ports: readonly number[]): Promise<void> => {
  const { exchange } = request;
  const gone = new AbortController();
  const signal = AbortSignal.any([exchange.signal, gone.signal]);
  const inputs = ports.map(() => new ChannelInput());
  const onChannel = (channel: number, data: Uint8Array): Promise<void> => sent(socket, Buffer.concat([Buffer.of(channel), data]));
  const connections = ports.map(async (port, i) => {
    const name = Buffer.alloc(2);
    name.writeUInt16LE(port);
    await onChannel(2 * i, name);
    await onChannel(2 * i + 1, name);
    try {
      await forward(streams, target, port, signal, inputs[i]!, (data) => onChannel(2 * i, data));
    } catch (error) {
      if (!signal.aborted) await onChannel(2 * i + 1, Buffer.from(describeError(error)));
    }
  });
  const reading = async (): Promise<void> => {
    for await (const message of messagesOf(socket)) {
      // An error channel has nothing to take; an empty message keeps the connection alive.
      if (message.length > 1 && message[0]! % 2 === 0) inputs[message[0]! / 2]?.put(message.subarray(1));
    }
    gone.abort(new GantryError("Cancelled", "the client closed the connection"));
    for (const input of inputs) input.end();
  };
  await Promise.race([reading(), Promise.allSettled(connections)]);
  // After what is unsent. Never an empty message: client-node reads the channel's number from its first byte.
  if (socket.readyState === socket.OPEN) socket.close(1000);
};

export const servePortForward = async (request: ResourceRequest, streams: NodeStreams, upgrade: Upgrade): Promise<void> => {
  const { exchange } = request;
  const target = await forwardTarget(request);
  const offered = offeredProtocols(upgrade.request.headers["sec-websocket-protocol"]);
  const isTunnel = offered.includes(TUNNEL);
  if (!isTunnel && !offered.includes(CHANNELS)) throw cannotNegotiate(offered, PROTOCOLS);
  const ports = exchange.query.getAll("ports").flatMap((p) => p.split(",")).map((p) => readPort(p, "ports"));
  if (!isTunnel && ports.length === 0) throw new GantryError("BadRequest", 'query parameter "port" is required: ports=N');
  if (isTunnel) delete upgrade.request.headers["sec-websocket-protocol"];
  const socket = await new Promise<WebSocket>((resolve) => (isTunnel ? tunnels : server).handleUpgrade(upgrade.request, upgrade.socket, upgrade.head, resolve));
  const shutDown = (): void => socket.close(1001);
  exchange.signal.addEventListener("abort", shutDown, { once: true });
  try {
    if (isTunnel) await forwardSpdy(request, streams, target, { chunks: messagesOf(socket), write: (data) => sent(socket, data) });
    else await forwardChannels(request, streams, target, socket, ports);
  } finally {
    exchange.signal.removeEventListener("abort", shutDown);
    socket.close();
  }
};
