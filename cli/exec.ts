// `exec`: a command in a container that runs. Exits with the command's exit code.
import { GantryError } from "../base/errors.ts";
import type { Status } from "../base/kube/types.gen.ts";
import type { ApiClient } from "./api-client.ts";
import { joinTerminal } from "./terminal-stream.ts";

export interface ExecTarget {
  readonly namespace: string;
  readonly pod: string;
  readonly container: string;
  readonly command: readonly string[];
  readonly stdin: boolean;
  readonly tty: boolean;
  readonly detachKeys?: Buffer;
  /** Gantry's own parameters: docker's -e, -u, -w, -d. */
  readonly env?: readonly string[];
  readonly user?: string;
  readonly workingDir?: string;
  readonly detach?: boolean;
}

const exitCodeOf = (status: Status): number => {
  if (status.status === "Success") return 0;
  const cause = status.details?.causes?.find((c) => c.reason === "ExitCode");
  if (cause?.message !== undefined) return Number(cause.message);
  throw new GantryError("InternalError", status.message ?? "the command could not be run");
};

export const exec = async (client: ApiClient, target: ExecTarget): Promise<number> => {
  const detach = target.detach ?? false;
  const tty = target.tty && (process.stdin.isTTY || !target.stdin);
  if (target.tty && !tty && !detach) console.error("Warning: standard input is not a terminal: running without one");
  const stdin = target.stdin && !detach;
  const query = new URLSearchParams([
    ...(target.container ? [["container", target.container]] : []), ["stdin", String(stdin)], ["stdout", String(!detach)], ["stderr", String(!tty && !detach)], ["tty", String(tty)],
    ...target.command.map((c) => ["command", c]), ...(target.env ?? []).map((e) => ["gantry-env", e]),
    ...(target.user ? [["gantry-user", target.user]] : []), ...(target.workingDir ? [["gantry-workdir", target.workingDir]] : []), ...(detach ? [["gantry-detach", "true"]] : []),
  ] as [string, string][]);
  const path = `/api/v1/namespaces/${encodeURIComponent(target.namespace)}/pods/${encodeURIComponent(target.pod)}/exec?${query.toString()}`;
  const status = await joinTerminal(client, { path, stdin, tty, detachKeys: target.detachKeys ?? Buffer.alloc(0) });
  return status === "detached" ? 0 : exitCodeOf(status);
};
