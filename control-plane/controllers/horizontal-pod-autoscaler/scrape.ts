// Fetches what a pod tells of itself: GET /metrics over the agent's port-forward stream, so it works wherever the pod runs and whoever may
// reach its address. Where to ask stands in the pod's annotations, as for Prometheus.
import { request } from "node:http";
import type { IncomingMessage } from "node:http";
import { Duplex } from "node:stream";
import type { Clock } from "../../../base/clock.ts";
import { within } from "../../../base/deadline.ts";
import { describeError, GantryError } from "../../../base/errors.ts";
import { newId } from "../../../base/ids.ts";
import type { Pod } from "../../../base/kube/types.gen.ts";
import type { NodeStream, NodeStreams } from "../../state/node-streams.ts";

export const SCRAPE = "prometheus.io/scrape";
export const PORT = "prometheus.io/port";
export const PATH = "prometheus.io/path";
export const SCHEME = "prometheus.io/scheme";

/** A container port of this name serves metrics. */
const PORT_NAME = "metrics";
const TIMEOUT_MS = 10_000;
const MAX_BYTES = 4 * 1024 * 1024;

export interface ScrapeTarget {
  readonly port: number;
  readonly path: string;
}

/** BadRequest, with what to write where, when the pod doesn't say at which port it can be asked. */
export const scrapeTarget = ({ metadata, spec }: Pod): ScrapeTarget => {
  const { [SCRAPE]: scrape, [PORT]: portText, [PATH]: path = "/metrics", [SCHEME]: scheme = "http" } = metadata.annotations ?? {};
  const fault = (why: string): GantryError => new GantryError("BadRequest", `pod ${metadata.name ?? ""} can't be asked for metrics: ${why}`);
  if (scrape === "false") throw fault(`its annotation ${SCRAPE} is "false"`);
  if (scheme !== "http") throw fault(`its annotation ${SCHEME} is ${JSON.stringify(scheme)}: only "http" is served`);
  if (!/^\/[!-~]*$/.test(path)) throw fault(`its annotation ${PATH} is ${JSON.stringify(path)}: it must begin with / and have no spaces`);
  if (portText !== undefined) {
    const port = Number(portText);
    if (!/^\d{1,5}$/.test(portText) || port < 1 || port > 65_535) throw fault(`its annotation ${PORT} is ${JSON.stringify(portText)}: it must be a port from 1 to 65535`);
    return { port, path };
  }
  const ports = (spec?.containers ?? []).flatMap((c) => c.ports ?? []).filter((p) => (p.protocol ?? "TCP") === "TCP");
  const declared = ports.find((p) => p.name === PORT_NAME) ?? (ports.length === 1 ? ports[0] : undefined);
  if (!declared) throw fault(`it needs the annotation ${PORT}, a container port named ${JSON.stringify(PORT_NAME)}, or just one container port`);
  return { port: declared.containerPort, path };
};

async function* bytesOf(stream: NodeStream): AsyncGenerator<Uint8Array> {
  for await (const { frame } of stream.frames) if (frame?.$case === "stdout") yield frame.value;
}

/** The stream as the connection that node's HTTP client wants. */
const connectionOver = (stream: NodeStream): Duplex => {
  // A request without a body is short, and comes as text.
  const write = async (chunks: AsyncIterable<Buffer | string>): Promise<void> => {
    for await (const chunk of chunks) await stream.send({ frame: { $case: "stdin", value: Buffer.from(chunk as string) } });
    stream.end();
  };
  return Duplex.from({ readable: bytesOf(stream), writable: write });
};

const answerOf = (connection: Duplex, host: string, path: string): Promise<IncomingMessage> =>
  new Promise((resolve, reject) => {
    const asked = request({ createConnection: () => connection, path, headers: { host, accept: "text/plain;version=0.0.4", "user-agent": "gantry-autoscaler", connection: "close" } }, resolve);
    asked.on("error", reject);
    asked.end();
  });

const textOf = async (answer: IncomingMessage): Promise<string> => {
  if (answer.statusCode !== 200) throw new GantryError("ServiceUnavailable", `it answers ${answer.statusCode ?? 0} ${answer.statusMessage ?? ""}`.trimEnd());
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_BYTES) throw new GantryError("RequestEntityTooLarge", `it answers more than ${MAX_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, size).toString();
};

/** The page's text. Throws with the pod, the port and what went wrong. */
export const scrape = async (streams: NodeStreams, clock: Clock, pod: Pod, signal: AbortSignal): Promise<string> => {
  const { port, path } = scrapeTarget(pod);
  try {
    return await within(clock, TIMEOUT_MS, `no answer within ${TIMEOUT_MS / 1000} s`, signal, async (end) => {
      await using stream = await streams.open(pod.spec?.nodeName ?? "", { id: newId(), kind: { $case: "portForward", value: { podUid: pod.metadata.uid!, port } } }, end);
      const connection = connectionOver(stream);
      try {
        return await textOf(await answerOf(connection, `${pod.status?.podIP ?? "localhost"}:${port}`, path));
      } finally {
        connection.destroy();
      }
    });
  } catch (cause) {
    throw new GantryError("ServiceUnavailable", `pod ${pod.metadata.name ?? ""}: GET port ${port} ${path}: ${describeError(cause)}`);
  }
};
