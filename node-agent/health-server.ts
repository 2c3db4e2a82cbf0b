// The agent's own HTTP port, for Prometheus and for health checks: /metrics, /metrics/cadvisor (usage of
// containers), /healthz, /readyz. Loopback unless told otherwise.
import { createServer, type Server } from "node:http";
import { GantryError, describeError } from "../base/errors.ts";
import type { Metrics } from "../base/metrics.ts";

export interface HealthServerOptions {
  /** host:port; port 0 takes a free one. */
  readonly address: string;
  readonly metrics: Metrics;
  /** Why the node can't take pods now; empty when it can. */
  readonly problems: () => readonly string[];
  /** Usage of containers, in the text format: as many series as there are containers, so not a part of /metrics. */
  readonly containers?: () => Promise<string>;
}

export const startHealthServer = async ({ address, metrics, problems, containers }: HealthServerOptions): Promise<Server> => {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]/]*)):(\d{1,5})$/.exec(address);
  if (!match) throw new GantryError("BadRequest", `--metrics-address: ${JSON.stringify(address)} is not HOST:PORT`);
  const server = createServer((request, response) => {
    const path = request.url?.split("?")[0];
    const answer = (status: number, text: string): void => void response.writeHead(status, { "content-type": "text/plain; charset=utf-8" }).end(text);
    if (request.method !== "GET" && request.method !== "HEAD") answer(405, "only GET\n");
    else if (path === "/healthz" || path === "/livez") answer(200, "ok\n");
    else if (path === "/readyz") {
      const why = problems();
      answer(why.length === 0 ? 200 : 503, why.length === 0 ? "ok\n" : `${why.join("\n")}\n`);
    } else if (path === "/metrics") {
      metrics.text().then((text) => response.writeHead(200, { "content-type": metrics.registry.contentType }).end(text), (error: unknown) => answer(500, `${describeError(error)}\n`));
    } else if (path === "/metrics/cadvisor" && containers) {
      containers().then((text) => response.writeHead(200, { "content-type": metrics.registry.contentType }).end(text), (error: unknown) => answer(500, `${describeError(error)}\n`));
    } else answer(404, "there are /metrics, /metrics/cadvisor, /healthz and /readyz\n");
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) => reject(new GantryError("FailedPrecondition", `--metrics-address ${address} can't be listened on`, { cause: error })));
    server.listen(Number(match[3]), match[1] ?? match[2] ?? "127.0.0.1", resolve);
  });
  return server;
};
