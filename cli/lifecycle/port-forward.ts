// `port-forward`: ports of this machine lead to ports of a pod. Each connection has a WebSocket of its own (subprotocol v4.channel.k8s.io), so that a slow one
// holds up no other.
import { createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { WebSocket } from "ws";
import { GantryError, describeError } from "../../base/errors.ts";
import { PODS } from "../../base/kube/resources.ts";
import type { Pod } from "../../base/kube/types.gen.ts";
import { apiError, type ApiClient } from "../api-client.ts";

export interface PortPair {
  /** 0: a free one. */
  readonly local: number;
  readonly remote: number;
}

/** "8080", "8080:80", ":80", as kubectl's; a name is a port of the pod's containers. */
export const parsePortPair = (text: string, pod: Pod): PortPair => {
  const [first = "", second, ...more] = text.split(":");
  const wrong = (): GantryError => new GantryError("BadRequest", `${JSON.stringify(text)}: ports are given as PORT, LOCAL:REMOTE or :REMOTE`);
  if (more.length > 0) throw wrong();
  const number = (word: string, least: number): number => {
    const port = Number(word);
    if (!/^\d+$/.test(word) || port < least || port > 65_535) throw wrong();
    return port;
  };
  const remoteWord = second ?? first;
  const named = (pod.spec?.containers ?? []).flatMap((c) => c.ports ?? []).find((p) => p.name === remoteWord)?.containerPort;
  const remote = named ?? number(remoteWord, 1);
  return { local: second === undefined ? remote : first === "" ? 0 : number(first, 0), remote };
};

const MAX_UNSENT_BYTES = 1 << 20;

/** One connection, until either side is done. */
const carry = (client: ApiClient, pod: Pod, remote: number, socket: Socket, fail: (error: unknown) => void): void => {
  const url = client.url(`${client.pathOf(PODS, pod.metadata.namespace, pod.metadata.name, "portforward")}?ports=${remote}`);
  url.protocol = "wss:";
  const web = new WebSocket(url, ["v4.channel.k8s.io"], client.connectOptions);
  const seen = [false, false];
  const end = (): void => {
    web.terminate();
    socket.destroy();
  };
  socket.pause();
  socket.on("error", end);
  socket.on("close", () => web.close());
  web.on("open", () => socket.resume());
  socket.on("data", (data: Buffer) => {
    web.send(Buffer.concat([Buffer.of(0), data]), () => {
      if (web.bufferedAmount <= MAX_UNSENT_BYTES) socket.resume();
    });
    if (web.bufferedAmount > MAX_UNSENT_BYTES) socket.pause();
  });
  web.on("message", (message: Buffer) => {
    const channel = message[0]!;
    const data = message.subarray(1);
    // The first message of each channel is its port.
    if (channel > 1 || !seen[channel]) {
      if (channel <= 1) seen[channel] = true;
      return;
    }
    if (channel === 1) {
      fail(new GantryError("ServiceUnavailable", data.toString("utf8")));
      return;
    }
    if (socket.write(data)) return;
    web.pause();
    socket.once("drain", () => web.resume());
  });
  web.on("unexpected-response", (_request, response) => {
    const chunks: Buffer[] = [];
    response.on("data", (c: Buffer) => chunks.push(c));
    response.on("end", () => {
      fail(apiError(response.statusCode ?? 500, Buffer.concat(chunks).toString("utf8")));
      end();
    });
  });
  web.on("error", (error) => {
    fail(new GantryError("ServiceUnavailable", "the connection to the API server broke", { cause: error }));
    end();
  });
  web.on("close", () => socket.destroySoon());
};

const listen = (address: string, port: number): Promise<Server> =>
  new Promise((resolve, reject) => {
    const server = createServer({ allowHalfOpen: true });
    server.once("error", (cause: NodeJS.ErrnoException) => reject(new GantryError("FailedPrecondition", `can't listen on ${address}:${port}${cause.code === "EADDRINUSE" ? ": another process uses this port" : ""}`, { cause })));
    server.listen(port, address, () => resolve(server));
  });

/** Listens until the signal is aborted. */
export const forwardPorts = async (client: ApiClient, pod: Pod, pairs: readonly PortPair[], addresses: readonly string[], signal: AbortSignal): Promise<void> => {
  const servers: Server[] = [];
  const open = new Set<Socket>();
  try {
    for (const { local, remote } of pairs) {
      for (const address of addresses) {
        const server = await listen(address === "localhost" ? "127.0.0.1" : address, local);
        servers.push(server);
        server.on("connection", (socket) => {
          open.add(socket);
          socket.on("close", () => open.delete(socket));
          carry(client, pod, remote, socket, (error) => console.error(`gantry: port ${remote}: ${describeError(error)}`));
        });
        console.log(`Forwarding from ${address === "localhost" ? "127.0.0.1" : address}:${(server.address() as AddressInfo).port} -> ${remote}`);
      }
    }
    await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
  } finally {
    for (const server of servers) server.close();
    for (const socket of open) socket.destroy();
  }
};
