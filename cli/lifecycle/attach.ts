// `attach`: this terminal joined to a container's first process. Ends with the container, with its exit code, or by the detach keys.
import { GantryError, describeError } from "../../base/errors.ts";
import { PODS } from "../../base/kube/resources.ts";
import type { Pod } from "../../base/kube/types.gen.ts";
import type { ApiClient } from "../api-client.ts";
import { joinTerminal } from "../terminal-stream.ts";
import { commandPath } from "./changes.ts";
import { waitForEnd } from "./wait.ts";

export interface AttachOptions {
  readonly container: string;
  /** Standard input is passed on where the container takes any. */
  readonly stdin: boolean;
  readonly detachKeys: Buffer;
  /** Signals that come to this process go to the container's. */
  readonly sigProxy: boolean;
  /** Also what it wrote before: for a container that is about to be started. */
  readonly fromStart?: boolean;
  readonly onOpen?: () => void;
}

const PROXIED = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"] as const;

const proxySignals = (client: ApiClient, pod: Pod, container: string): Disposable => {
  const handlers = PROXIED.map((signal) => {
    const pass = (): void => {
      const query = new URLSearchParams({ signal, container });
      client.send("POST", `${commandPath(pod, "kill")}?${query.toString()}`).then((response) => response.resume(), (error: unknown) => console.error(`gantry: ${signal} could not be passed on: ${describeError(error)}`));
    };
    process.on(signal, pass);
    return [signal, pass] as const;
  });
  return { [Symbol.dispose]: () => { for (const [signal, pass] of handlers) process.off(signal, pass); } };
};

/** Resolves to the container's exit code, or "detached". */
export const attach = async (client: ApiClient, pod: Pod, options: AttachOptions): Promise<number | "detached"> => {
  const spec = [...(pod.spec?.containers ?? []), ...(pod.spec?.initContainers ?? []), ...(pod.spec?.ephemeralContainers ?? [])].find((c) => c.name === options.container);
  if (!spec) throw new GantryError("NotFound", `pod ${pod.metadata.name} has no container ${JSON.stringify(options.container)}`);
  const tty = spec.tty ?? false;
  const stdin = options.stdin && (spec.stdin ?? false);
  const query = new URLSearchParams({ container: options.container, stdin: String(stdin), stdout: "true", stderr: String(!tty), tty: String(tty), ...(options.fromStart ? { "gantry-from-start": "true" } : {}) });
  // A terminal sends keys, not signals.
  using _ = options.sigProxy && !(tty && stdin && process.stdin.isTTY) ? proxySignals(client, pod, options.container) : undefined;
  const end = await joinTerminal(client, { path: `${client.pathOf(PODS, pod.metadata.namespace, pod.metadata.name, "attach")}?${query.toString()}`, stdin, tty, detachKeys: options.detachKeys, ...(options.onOpen ? { onOpen: options.onOpen } : {}) });
  if (end === "detached") return "detached";
  if (end.status !== "Success") throw new GantryError("InternalError", end.message ?? "attaching failed");
  return await waitForEnd(client, pod, options.container, "not-running");
};
