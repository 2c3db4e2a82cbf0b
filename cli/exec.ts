// `exec` over WebSocket, subprotocol v5.channel.k8s.io: one byte of channel, then data; 0 to 2 are stdio, 3 the final Status, 4 the
// terminal's size, 255 closes a channel. Exits with the command's exit code.
import { WebSocket } from "ws";
import { GantryError } from "../base/errors.ts";
import type { Status } from "../base/kube/types.gen.ts";
import { apiError, type ApiClient } from "./api-client.ts";

export interface ExecTarget {
  readonly namespace: string;
  readonly pod: string;
  readonly container: string;
  readonly command: readonly string[];
  readonly stdin: boolean;
  readonly tty: boolean;
}

const exitCodeOf = (status: Status): number => {
  if (status.status === "Success") return 0;
  const cause = status.details?.causes?.find((c) => c.reason === "ExitCode");
  if (cause?.message !== undefined) return Number(cause.message);
  throw new GantryError("InternalError", status.message ?? "the command could not be run");
};

export const exec = async (client: ApiClient, target: ExecTarget): Promise<number> => {
  const tty = target.tty && (process.stdin.isTTY || !target.stdin);
  if (target.tty && !tty) console.error("Warning: standard input is not a terminal: running without one");
  const query = new URLSearchParams([
    ...(target.container ? [["container", target.container]] : []), ["stdin", String(target.stdin)], ["stdout", "true"], ["stderr", String(!tty)], ["tty", String(tty)],
    ...target.command.map((c) => ["command", c]),
  ] as [string, string][]);
  const url = client.url(`/api/v1/namespaces/${encodeURIComponent(target.namespace)}/pods/${encodeURIComponent(target.pod)}/exec?${query.toString()}`);
  url.protocol = "wss:";
  const socket = new WebSocket(url, ["v5.channel.k8s.io"], client.connectOptions);
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  const send = (channel: number, data: Uint8Array): void => socket.send(Buffer.concat([Buffer.of(channel), data]));
  const sendSize = (): void => send(4, Buffer.from(JSON.stringify({ Width: process.stdout.columns, Height: process.stdout.rows })));
  // Raw mode without reading would leave nobody to press Ctrl-C.
  const terminal = tty && target.stdin;

  socket.on("open", () => {
    if (terminal) {
      process.stdin.setRawMode(true);
      sendSize();
      process.stdout.on("resize", sendSize);
    }
    if (!target.stdin) return;
    process.stdin.on("data", (chunk: Buffer) => {
      send(0, chunk);
      if (socket.bufferedAmount > 1 << 20) {
        process.stdin.pause();
        const resume = (): void => void (socket.bufferedAmount > 1 << 18 ? setTimeout(resume, 5) : process.stdin.resume());
        resume();
      }
    });
    process.stdin.on("end", () => socket.send(Buffer.of(255, 0)));
  });
  socket.on("message", (message: Buffer) => {
    const data = message.subarray(1);
    if (message[0] === 1 || message[0] === 2) {
      const out = message[0] === 1 ? process.stdout : process.stderr;
      if (out.write(data)) return;
      // Who reads us is slower than the container writes: hold on, or all of it lands in memory.
      socket.pause();
      out.once("drain", () => socket.resume());
    }
    else if (message[0] === 3) {
      try {
        resolve(exitCodeOf(JSON.parse(data.toString("utf8")) as Status));
      } catch (error) {
        reject(error);
      }
    }
  });
  socket.on("unexpected-response", (_request, response) => {
    const chunks: Buffer[] = [];
    response.on("data", (c: Buffer) => chunks.push(c));
    response.on("end", () => {
      reject(apiError(response.statusCode ?? 500, Buffer.concat(chunks).toString("utf8")));
    });
  });
  socket.on("error", (error) => reject(new GantryError("ServiceUnavailable", "the connection broke", { cause: error })));
  socket.on("close", () => reject(new GantryError("ServiceUnavailable", "the connection ended before the command did")));
  try {
    return await promise;
  } finally {
    if (terminal) process.stdin.setRawMode(false);
    process.stdin.pause();
    process.stdin.unref?.();
    socket.terminate();
  }
};
