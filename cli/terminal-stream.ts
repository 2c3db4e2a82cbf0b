// This terminal, or these pipes, joined to a container over WebSocket, subprotocol v5.channel.k8s.io: one byte of channel, then data; 0 to 2 are
// stdio, 3 the final Status, 4 the terminal's size, 255 closes a channel. What exec and attach have in common.
import { spawnSync } from "node:child_process";
import { WebSocket } from "ws";
import { GantryError } from "../base/errors.ts";
import type { Status } from "../base/kube/types.gen.ts";
import { apiError, type ApiClient } from "./api-client.ts";
import { DetachWatch } from "./detach-keys.ts";

export interface TerminalStream {
  /** With its query. */
  readonly path: string;
  readonly stdin: boolean;
  readonly tty: boolean;
  /** Empty: there are none. Only keys of a terminal count. */
  readonly detachKeys: Buffer;
  /** The connection stands. */
  readonly onOpen?: () => void;
}

const MAX_UNSENT_BYTES = 1 << 20;
const FEW_UNSENT_BYTES = 1 << 18;

/**
 * Node's raw mode still makes a carriage return of every line feed that is shown. The container's terminal has done that where it is wanted; where it isn't, a program
 * such as vim means one line down in the same column. setRawMode(false) restores this too. Without stty it stays as Node has it.
 */
const makeRaw = (): void => {
  process.stdin.setRawMode(true);
  spawnSync("stty", ["-opost"], { stdio: ["inherit", "ignore", "ignore"] });
};

/** Resolves to the Status at the end, or "detached". Rejects with what the server said, or how the connection broke. */
export const joinTerminal = async (client: ApiClient, { path, stdin, tty, detachKeys, onOpen }: TerminalStream): Promise<Status | "detached"> => {
  const url = client.url(path);
  url.protocol = "wss:";
  const socket = new WebSocket(url, ["v5.channel.k8s.io"], client.connectOptions);
  const { promise, resolve, reject } = Promise.withResolvers<Status | "detached">();
  const send = (channel: number, data: Uint8Array): void => {
    if (socket.readyState === socket.OPEN) socket.send(Buffer.concat([Buffer.of(channel), data]));
  };
  const sendSize = (): void => send(4, Buffer.from(JSON.stringify({ Width: process.stdout.columns, Height: process.stdout.rows })));
  // Raw mode without reading would leave nobody to press Ctrl-C.
  const raw = tty && stdin && process.stdin.isTTY;
  const keys = new DetachWatch(raw ? detachKeys : Buffer.alloc(0));

  const type = (chunk: Buffer): void => {
    const { data, detached } = keys.push(chunk);
    if (data.length > 0) send(0, data);
    if (detached) return resolve("detached");
    if (socket.bufferedAmount <= MAX_UNSENT_BYTES) return;
    process.stdin.pause();
    const resume = (): void => void (socket.bufferedAmount > FEW_UNSENT_BYTES ? setTimeout(resume, 5) : process.stdin.resume());
    resume();
  };
  socket.on("open", () => {
    if (raw) makeRaw();
    if (tty && process.stdout.isTTY) {
      sendSize();
      process.stdout.on("resize", sendSize);
    }
    onOpen?.();
    if (!stdin) return;
    process.stdin.on("data", type);
    process.stdin.on("end", () => socket.readyState === socket.OPEN && socket.send(Buffer.of(255, 0)));
  });
  socket.on("message", (message: Buffer) => {
    const data = message.subarray(1);
    if (message[0] === 1 || message[0] === 2) {
      const out = message[0] === 1 ? process.stdout : process.stderr;
      if (out.write(data)) return;
      // Who reads us is slower than the container writes: hold on, or all of it lands in memory.
      socket.pause();
      out.once("drain", () => socket.resume());
    } else if (message[0] === 3 && data.length > 0) {
      try {
        resolve(JSON.parse(data.toString("utf8")) as Status);
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
    process.stdout.off("resize", sendSize);
    process.stdin.off("data", type);
    if (raw) process.stdin.setRawMode(false);
    process.stdin.pause();
    process.stdin.unref?.();
    socket.terminate();
  }
};
