// Carries out one action of a probe or a lifecycle hook: a command in the container, an HTTP GET, a TCP connection, a gRPC health check, a pause.
import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import { connect } from "node:net";
import type { Clock } from "../../base/clock.ts";
import { GantryError } from "../../base/errors.ts";
import type { Handler, HttpGetAction } from "../../proto/gen/gantry/v1/agent.ts";
import { checkHealth } from "./grpc-health.ts";
import type { ContainerRuntime } from "../runtime/container-runtime.ts";

export interface HandlerTarget {
  readonly runtime: Pick<ContainerRuntime, "exec">;
  readonly clock: Clock;
  readonly containerId: string;
  /** Where httpGet and tcpSocket go unless they name a host. */
  readonly podIp: string;
}

/** Of a command's output, for the message of its failure. */
const MAX_OUTPUT_BYTES = 1024;

/** Resolves when it went well. Otherwise rejects with the reason in words; with the signal's reason when it took too long. */
export const runHandler = async (handler: Handler, target: HandlerTarget, signal: AbortSignal): Promise<void> => {
  const action = handler.handler;
  switch (action?.$case) {
    case "exec": return runCommand(action.value.command, target, signal);
    case "httpGet": return get(action.value, action.value.host || target.podIp, signal);
    case "tcpSocket": return reach(action.value.host || target.podIp, action.value.port, signal);
    case "sleep": return target.clock.sleep(action.value.durationMs, signal);
    case "grpc": return checkHealth(target.podIp, action.value.port, action.value.service, signal);
    case undefined: throw new GantryError("Invalid", "the handler says neither exec, httpGet, tcpSocket nor sleep");
  }
};

const runCommand = async (command: readonly string[], { runtime, containerId }: HandlerTarget, signal: AbortSignal): Promise<void> => {
  let output = "";
  const keep = (data: Uint8Array): Promise<void> => {
    if (output.length < MAX_OUTPUT_BYTES) output += Buffer.from(data).toString("utf8", 0, MAX_OUTPUT_BYTES - output.length);
    return Promise.resolve();
  };
  const { exitCode } = await runtime.exec(containerId, { command, tty: false, stdin: undefined, onStdout: keep, onStderr: keep, signal });
  if (exitCode !== 0) throw new GantryError("FailedPrecondition", `command ${JSON.stringify(command)} ended with exit code ${exitCode}${output.trim() === "" ? "" : `: ${output.trim()}`}`);
};

/** As the kubelet's: any answer from 200 to 399 is well, certificates are not checked, redirects to elsewhere are not followed. */
const get = ({ scheme, port, path, headers }: HttpGetAction, host: string, signal: AbortSignal): Promise<void> =>
  new Promise((resolve, reject) => {
    const url = `${scheme.toLowerCase() || "http"}://${host.includes(":") ? `[${host}]` : host}:${port}${path.startsWith("/") ? path : `/${path}`}`;
    const options = {
      signal, agent: false as const, rejectUnauthorized: false,
      headers: { "user-agent": "gantry-probe", accept: "*/*", connection: "close", ...Object.fromEntries(headers.map((h) => [h.name, h.value])) },
    };
    const request = (url.startsWith("https:") ? httpsRequest : httpRequest)(url, options, (response) => {
      response.resume();
      response.on("error", () => undefined);
      const status = response.statusCode ?? 0;
      if (status >= 200 && status < 400) resolve();
      else reject(new GantryError("FailedPrecondition", `HTTP probe failed with statuscode: ${status}`));
      response.destroy();
    });
    request.on("error", (error) => reject(new GantryError("ServiceUnavailable", `Get ${JSON.stringify(url)}: ${error.message}`)));
    request.end();
  });

const reach = (host: string, port: number, signal: AbortSignal): Promise<void> =>
  new Promise((resolve, reject) => {
    const socket = connect({ host, port, signal }, () => {
      socket.destroy();
      resolve();
    });
    socket.on("error", (error) => reject(new GantryError("ServiceUnavailable", `dial tcp ${host}:${port}: ${error.message}`)));
  });
