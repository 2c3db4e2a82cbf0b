// Owns pods/exec and pods/attach: over WebSocket with the subprotocols v4.channel.k8s.io and v5.channel.k8s.io, one byte of channel number
// before each message; over SPDY (kubectl before 1.30) in spdy-terminal.ts. Source: k8s.io/apimachinery/pkg/util/remotecommand and KEP-4006.
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { WebSocketServer } from "ws";
import type { RawData, WebSocket } from "ws";
import { GantryError } from "../../../base/errors.ts";
import { newId } from "../../../base/ids.ts";
import type { Pod, Status } from "../../../base/kube/types.gen.ts";
import type { StreamFrame, StreamRequest, StreamResult } from "../../../proto/gen/gantry/v1/agent.ts";
import type { NodeStream, NodeStreams } from "../../state/node-streams.ts";
import type { ResourceRequest } from "../context.ts";
import { isTrue } from "../router.ts";
import { statusOf } from "../status.ts";
import { checkAttachable, checkRuns, containerOf, findPod } from "./pod-target.ts";

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

export interface Wanted {
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
const runTerminal = async ({ context, exchange: { signal } }: ResourceRequest, streams: NodeStreams, socket: WebSocket, { node, kind, wanted }: Terminal): Promise<Status> => {
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
    await using stream = await streams.open(node, { id: newId(), kind }, AbortSignal.any([signal, gone.signal]));
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

/** What an exec or attach asks of which node. */
export interface Terminal {
  readonly node: string;
  readonly kind: StreamRequest["kind"];
  readonly wanted: Wanted;
}

/** Gantry's own parameters of exec: docker's --env, --user, --workdir and --detach, for which Kubernetes has no words. */
const execExtras = (query: URLSearchParams): { readonly env: string[]; readonly user: string; readonly workingDir: string; readonly detach: boolean } => {
  const env = query.getAll("gantry-env");
  const wrong = env.find((e) => !/^[^=]+=/.test(e));
  if (wrong !== undefined) throw new GantryError("BadRequest", `gantry-env: ${JSON.stringify(wrong)} is not NAME=VALUE`);
  const workingDir = query.get("gantry-workdir") ?? "";
  if (workingDir !== "" && !workingDir.startsWith("/")) throw new GantryError("BadRequest", `gantry-workdir: ${JSON.stringify(workingDir)} is not an absolute path`);
  return { env, user: query.get("gantry-user") ?? "", workingDir, detach: isTrue(query.get("gantry-detach")) };
};

/** Throws what is wrong with the request, or with the pod. */
export const readTerminal = async (request: ResourceRequest): Promise<Terminal> => {
  const { exchange: { query, info } } = request;
  const pod: Pod = await findPod(request);
  const container = containerOf(pod, query.get("container"));
  const command = query.getAll("command");
  const tty = isTrue(query.get("tty"));
  // A terminal has one output.
  const wanted: Wanted = { stdin: isTrue(query.get("stdin")), stdout: isTrue(query.get("stdout")), stderr: isTrue(query.get("stderr")) && !tty, tty };
  const extras = execExtras(query);
  if (info.subresource === "exec" && command.length === 0) throw new GantryError("BadRequest", "you must specify at least one command for the container");
  if (!wanted.stdin && !wanted.stdout && !wanted.stderr && !extras.detach) throw new GantryError("BadRequest", "you must specify at least one of stdin, stdout, stderr");
  const common = { podUid: pod.metadata.uid!, container, ...wanted };
  if (info.subresource === "attach") {
    checkAttachable(pod, container);
    return { node: pod.spec!.nodeName!, wanted, kind: { $case: "attach", value: { ...common, fromStart: isTrue(query.get("gantry-from-start")) } } };
  }
  checkRuns(pod, container);
  return { node: pod.spec!.nodeName!, wanted, kind: { $case: "exec", value: { ...common, command, ...extras } } };
};

/** A connection that node:http has handed over. */
export interface Upgrade {
  readonly request: IncomingMessage;
  readonly socket: Duplex;
  readonly head: Buffer;
}

/** What the client offers of protocols inside the connection. */
export const offeredProtocols = (header: string | string[] | undefined): readonly string[] => [header ?? []].flat().flatMap((h) => h.split(",")).map((p) => p.trim()).filter((p) => p !== "");

export const cannotNegotiate = (offered: readonly string[], accepted: readonly string[]): GantryError =>
  new GantryError("BadRequest", `unable to negotiate protocol: client supports [${offered.join(" ")}], server accepts [${accepted.join(" ")}]`);

/**
 * Serves one exec or attach on an upgraded connection. Until the upgrade is done, errors are thrown and become a plain HTTP answer;
 * from then on they go out on the status channel.
 */
export const serveTerminal = async (request: ResourceRequest, streams: NodeStreams, upgrade: Upgrade): Promise<void> => {
  const terminal = await readTerminal(request);
  const offered = offeredProtocols(upgrade.request.headers["sec-websocket-protocol"]);
  if (pickProtocol(new Set(offered)) === false) throw cannotNegotiate(offered, PROTOCOLS);

  const socket = await new Promise<WebSocket>((resolve) => server.handleUpgrade(upgrade.request, upgrade.socket, upgrade.head, resolve));
  const status = await runTerminal(request, streams, socket, terminal).catch((error: unknown) => statusOf(error));
  if (socket.readyState !== socket.OPEN) return;
  await sent(socket, onChannel(CHANNEL.status, Buffer.from(JSON.stringify(status)))).catch(() => undefined);
  socket.close(1000);
};
