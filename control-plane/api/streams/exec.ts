// Owns pods/exec over WebSocket: the subprotocols v4.channel.k8s.io and v5.channel.k8s.io, one byte of channel number before
// each message. Source: k8s.io/apimachinery/pkg/util/remotecommand and KEP-4006. SPDY (kubectl before 1.30) is a later issue.
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { WebSocketServer } from "ws";
import type { RawData, WebSocket } from "ws";
import { GantryError } from "../../../base/errors.ts";
import { newId } from "../../../base/ids.ts";
import type { Pod, Status } from "../../../base/kube/types.gen.ts";
import type { StreamFrame, StreamResult } from "../../../proto/gen/gantry/v1/agent.ts";
import type { NodeStream, NodeStreams } from "../../state/node-streams.ts";
import type { ResourceRequest } from "../context.ts";
import { isTrue } from "../router.ts";
import { statusOf } from "../status.ts";
import { checkRuns, containerOf, findPod } from "./pod-target.ts";

const CHANNEL = { stdin: 0, stdout: 1, stderr: 2, status: 3, resize: 4, close: 255 } as const;

/** The newest first: the client offers what it knows, we take the first of ours. */
const PROTOCOLS = ["v5.channel.k8s.io", "v4.channel.k8s.io"] as const;

const FRAME_BYTES = 64 * 1024;
/** Largest message that a client may send: kubectl's are at most 32 KiB. */
const MAX_MESSAGE_BYTES = 1024 * 1024;
/** A connection that does not answer for this long is dead: proxies in between forget silent ones. */
const PING_PERIOD_MS = 30_000;

const pickProtocol = (offered: ReadonlySet<string>): string | false => PROTOCOLS.find((p) => offered.has(p)) ?? false;

const server = new WebSocketServer({ noServer: true, maxPayload: MAX_MESSAGE_BYTES, perMessageDeflate: false, handleProtocols: pickProtocol });

const asBuffer = (data: RawData): Buffer => (Buffer.isBuffer(data) ? data : Array.isArray(data) ? Buffer.concat(data) : Buffer.from(data));

/** What the status channel says at the end. */
export const exitStatus = ({ code, message, exitCode }: StreamResult): Status => {
  if (code !== "") return statusOf(new GantryError(code as GantryError["code"], message));
  if (exitCode === 0) return { apiVersion: "v1", kind: "Status", metadata: {}, status: "Success" };
  return {
    apiVersion: "v1", kind: "Status", metadata: {}, status: "Failure", reason: "NonZeroExitCode", message: `command terminated with non-zero exit code: exit status ${exitCode}`,
    details: { causes: [{ reason: "ExitCode", message: String(exitCode) }] },
  };
};

/** A message of the client as a frame for the agent; undefined for what doesn't concern it. Throws BadRequest. */
export const frameFromClient = (message: Buffer): StreamFrame["frame"] => {
  switch (message[0]) {
    case CHANNEL.stdin: return message.length > 1 ? { $case: "stdin", value: message.subarray(1) } : undefined;
    case CHANNEL.resize: {
      const { Width, Height } = JSON.parse(message.toString("utf8", 1)) as { Width?: number; Height?: number };
      return { $case: "resize", value: { width: Width ?? 0, height: Height ?? 0 } };
    }
    case CHANNEL.close: return message[1] === CHANNEL.stdin ? { $case: "stdinClosed", value: true } : undefined;
    case undefined: return undefined;
    default: throw new GantryError("BadRequest", `a client can't send on channel ${message[0]}`);
  }
};

const onChannel = (channel: number, data: Uint8Array): Buffer => Buffer.concat([Buffer.from([channel]), data]);

const sent = (socket: WebSocket, message: Buffer): Promise<void> =>
  new Promise((resolve, reject) => socket.send(message, { binary: true }, (error) => (error ? reject(error) : resolve())));

interface Wanted {
  readonly stdin: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
  readonly tty: boolean;
}

/** The client's messages, in order; while the agent is behind, nothing more is read from the socket. */
const forwardInput = (socket: WebSocket, stream: NodeStream, wanted: Wanted, fail: (error: unknown) => void): void => {
  let chain = Promise.resolve();
  let waiting = 0;
  const send = (frame: StreamFrame["frame"]): void => {
    if (waiting++ === 0) socket.pause();
    chain = chain.then(() => stream.send({ frame })).catch(fail).finally(() => {
      if (--waiting === 0) socket.resume();
    });
  };
  socket.on("message", (data) => {
    try {
      const frame = frameFromClient(asBuffer(data));
      if (frame === undefined || (frame.$case !== "resize" && !wanted.stdin)) return;
      if (frame.$case !== "stdin") return send(frame);
      for (let at = 0; at < frame.value.length; at += FRAME_BYTES) send({ $case: "stdin", value: frame.value.subarray(at, at + FRAME_BYTES) });
    } catch (error) {
      fail(error);
    }
  });
};

/** The agent's frames, each waited for until the socket has taken it. */
const forwardOutput = async (socket: WebSocket, stream: NodeStream, wanted: Wanted): Promise<Status> => {
  for await (const { frame } of stream.frames) {
    if (frame?.$case === "result") return exitStatus(frame.value);
    if (frame?.$case === "stdout" && wanted.stdout) await sent(socket, onChannel(CHANNEL.stdout, frame.value));
    if (frame?.$case === "stderr" && wanted.stderr) await sent(socket, onChannel(CHANNEL.stderr, frame.value));
  }
  throw new GantryError("InternalError", "the node ended the stream without an exit code");
};

/** From the upgrade to the end of the command. What it throws goes out on the status channel: a plain HTTP error would make kubectl try SPDY and report that. */
const runExec = async (
  { context, exchange: { signal } }: ResourceRequest, streams: NodeStreams, socket: WebSocket, wanted: Wanted,
  { pod, container, command }: { readonly pod: Pod; readonly container: string; readonly command: string[] },
): Promise<Status> => {
  const gone = new AbortController();
  const broken = Promise.withResolvers<never>();
  // It may break before anything waits for it.
  broken.promise.catch(() => undefined);
  const fail = (error: unknown): void => broken.reject(error);
  socket.on("error", fail);
  socket.on("close", () => {
    const error = new GantryError("Cancelled", "the client closed the connection");
    gone.abort(error);
    fail(error);
  });
  const shutDown = (): void => socket.close(1001);
  signal.addEventListener("abort", shutDown, { once: true });
  let pings: Disposable;
  const ping = (): void => {
    socket.ping();
    pings = context.clock.setTimer(PING_PERIOD_MS, ping);
  };
  pings = context.clock.setTimer(PING_PERIOD_MS, ping);
  try {
    // Nothing the client sends may be lost while the node dials back.
    socket.pause();
    await using stream = await streams.open(pod.spec!.nodeName!, {
      id: newId(), kind: { $case: "exec", value: { podUid: pod.metadata.uid!, container, command, ...wanted } },
    }, AbortSignal.any([signal, gone.signal]));
    // An empty message tells the client that the connection stands, before there is any output.
    await sent(socket, Buffer.from([wanted.stdout ? CHANNEL.stdout : wanted.stderr ? CHANNEL.stderr : CHANNEL.status]));
    forwardInput(socket, stream, wanted, fail);
    socket.resume();
    return await Promise.race([forwardOutput(socket, stream, wanted), broken.promise]);
  } finally {
    socket.resume();
    pings[Symbol.dispose]();
    signal.removeEventListener("abort", shutDown);
  }
};

/**
 * Serves one exec on an upgraded connection. Until the upgrade is done, errors are thrown and become a plain HTTP answer;
 * from then on they go out on the status channel.
 */
export const serveExec = async (request: ResourceRequest, streams: NodeStreams, upgrade: { readonly request: IncomingMessage; readonly socket: Duplex; readonly head: Buffer }): Promise<void> => {
  const { exchange: { query } } = request;
  const pod = await findPod(request);
  const container = containerOf(pod, query.get("container"));
  const command = query.getAll("command");
  const tty = isTrue(query.get("tty"));
  // A terminal has one output.
  const wanted: Wanted = { stdin: isTrue(query.get("stdin")), stdout: isTrue(query.get("stdout")), stderr: isTrue(query.get("stderr")) && !tty, tty };
  if (command.length === 0) throw new GantryError("BadRequest", "you must specify at least one command for the container");
  if (!wanted.stdin && !wanted.stdout && !wanted.stderr) throw new GantryError("BadRequest", "you must specify at least one of stdin, stdout, stderr");
  checkRuns(pod, container);
  if (upgrade.request.headers.upgrade?.toLowerCase() !== "websocket") {
    throw new GantryError("BadRequest", `exec over ${upgrade.request.headers.upgrade ?? "plain HTTP"} is not served yet: use a client that speaks WebSocket, such as kubectl 1.30 or newer`);
  }
  const offered = (upgrade.request.headers["sec-websocket-protocol"] ?? "").split(",").map((p) => p.trim());
  if (pickProtocol(new Set(offered)) === false) throw new GantryError("BadRequest", `unable to negotiate protocol: client supports [${offered.join(" ")}], server accepts [${PROTOCOLS.join(" ")}]`);

  const socket = await new Promise<WebSocket>((resolve) => server.handleUpgrade(upgrade.request, upgrade.socket, upgrade.head, resolve));
  const status = await runExec(request, streams, socket, wanted, { pod, container, command }).catch((error: unknown) => statusOf(error));
  if (socket.readyState !== socket.OPEN) return;
  await sent(socket, onChannel(CHANNEL.status, Buffer.from(JSON.stringify(status)))).catch(() => undefined);
  socket.close(1000);
};
