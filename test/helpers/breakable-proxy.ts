// A TCP proxy that can be broken in the ways networks break: cut (connections reset), refused, delayed, half-open (nothing gets
// through, nobody is told), and one-way (requests arrive, answers do not).
import { connect, createServer } from "node:net";
import type { AddressInfo, NetConnectOpts, Server, Socket } from "node:net";

interface Pair {
  readonly client: Socket;
  readonly server: Socket;
}

export class BreakableProxy {
  readonly #target: NetConnectOpts;
  readonly #server: Server;
  readonly #pairs = new Set<Pair>();
  #delayMs = 0;
  #refusing = false;
  readonly #stalled = { toServer: false, toClient: false };
  /** Connections accepted so far. */
  connections = 0;
  /** Bytes that came from clients so far. */
  bytesFromClients = 0;

  /** `target`: {path} of a Unix socket, or {host, port}. */
  static async start(target: NetConnectOpts): Promise<BreakableProxy> {
    const proxy = new BreakableProxy(target);
    await new Promise<void>((listening) => proxy.#server.listen(0, "127.0.0.1", listening));
    return proxy;
  }

  private constructor(target: NetConnectOpts) {
    this.#target = target;
    this.#server = createServer((client) => this.#accept(client));
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Resets every connection; new ones are welcome. */
  cut(): void {
    for (const { client, server } of this.#pairs) {
      client.resetAndDestroy();
      server.destroy();
    }
  }

  /** Resets every connection, and new ones, until healed. */
  refuse(): void {
    this.#refusing = true;
    this.cut();
  }

  /** Everything takes this much longer each way. */
  delay(delayMs: number): void {
    this.#delayMs = delayMs;
  }

  /** Nothing gets through in either direction, on old and new connections; nobody is told. What comes meanwhile is lost. */
  halfOpen(): void {
    this.#stalled.toServer = this.#stalled.toClient = true;
  }

  /** Requests arrive, answers are lost. */
  swallowAnswers(): void {
    this.#stalled.toClient = true;
  }

  /** As new. Connections that lost bytes are cut, or their streams would be torn. */
  heal(): void {
    if (this.#stalled.toServer || this.#stalled.toClient) this.cut();
    this.#stalled.toServer = this.#stalled.toClient = this.#refusing = false;
    this.#delayMs = 0;
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((done) => this.#server.close(() => done()));
    this.cut();
    await closed;
  }

  #accept(client: Socket): void {
    this.connections++;
    if (this.#refusing) {
      client.on("error", ignore);
      client.resetAndDestroy();
      return;
    }
    const server = connect(this.#target);
    const pair = { client, server };
    this.#pairs.add(pair);
    this.#pipe(client, server, "toServer");
    this.#pipe(server, client, "toClient");
    client.once("close", () => this.#pairs.delete(pair));
  }

  #pipe(from: Socket, to: Socket, direction: "toServer" | "toClient"): void {
    const waiting: Buffer[] = [];
    from.setNoDelay(true);
    from.on("error", ignore);
    from.on("data", (chunk) => {
      if (direction === "toServer") this.bytesFromClients += chunk.length;
      if (this.#stalled[direction]) return;
      if (this.#delayMs === 0 && waiting.length === 0) {
        if (!to.destroyed) to.write(chunk);
        return;
      }
      // One queue, whatever the delay is meanwhile: bytes must not overtake one another.
      waiting.push(chunk);
      setTimeout(() => {
        const next = waiting.shift()!;
        if (!to.destroyed) to.write(next);
      }, this.#delayMs);
    });
    from.on("close", () => to.destroy());
  }
}

const ignore = (): void => undefined;
