// conmon: the small process that stays with a container, holds its standard streams, writes its log and its exit code, and outlives
// this agent. Its options: conmon(8). How it answers: the descriptor in _OCI_SYNCPIPE gets one line of JSON, {"data": pid} or
// {"data": -1, "message": "..."}, so nobody has to poll a pid file.
import { closeSync, constants, openSync, readFileSync, writeSync } from "node:fs";
import { Socket } from "node:net";
import { join } from "node:path";
import { GantryError, describeError } from "../../base/errors.ts";
import * as libc from "../linux/libc.ts";
import { makePipe, reapProcess, spawnElsewhere } from "../linux/spawn.ts";
import type { OciRuntime } from "./oci-runtime.ts";

export interface ConmonPaths {
  readonly conmon: string;
  /** config.json is in here; conmon leaves `ctl`, `pid`, `conmon.pid` and `conmon.err`. */
  readonly bundle: string;
  readonly exitDir: string;
  readonly socketDir: string;
  readonly log: string;
}

const SYNC_FD = 3;
/** conmon's control messages: type, height, width. */
const REOPEN_LOG = "2 0 0\n";

/** The sync pipe's line. Pure. */
export const parseSync = (text: string): { readonly pid: number } | { readonly error: string } | undefined => {
  const line = text.trim().split("\n").at(-1);
  if (!line) return undefined;
  try {
    const { data, message } = JSON.parse(line) as { data?: unknown; message?: unknown };
    return typeof data === "number" && data > 0 ? { pid: data } : { error: typeof message === "string" && message !== "" ? message : `conmon answered ${line}` };
  } catch {
    return { error: `conmon answered ${line}` };
  }
};

/** Starts conmon, which creates the container. Returns its first process. "InternalError" with what the OCI runtime said. */
export const createUnderConmon = async (
  container: { readonly id: string; readonly name: string; readonly tty: boolean; readonly stdin: boolean; readonly stdinOnce?: boolean }, paths: ConmonPaths, runtime: OciRuntime,
): Promise<number> => {
  const errorPath = join(paths.bundle, "conmon.err");
  const args = [
    "--api-version", "1", "-c", container.id, "-u", container.id, "-n", container.name, "-r", runtime.path, ...runtime.globalArgs.flatMap((arg) => ["--runtime-arg", arg]),
    "-b", paths.bundle, "-p", join(paths.bundle, "pid"), "--conmon-pidfile", join(paths.bundle, "conmon.pid"), "--exit-dir", paths.exitDir,
    "--persist-dir", paths.bundle, "--socket-dir-path", paths.socketDir, "-l", `k8s-file:${paths.log}`, "--no-sync-log",
    ...(container.tty ? ["-t"] : []), ...(container.stdin ? ["-i"] : []),
    // A terminal has no end of input of its own: Ctrl-D is a letter like others.
    ...(container.stdin && (container.tty || !container.stdinOnce) ? ["--leave-stdin-open"] : []),
  ];
  const pipe = makePipe();
  const errorFd = openSync(errorPath, "a", 0o600);
  let child: number;
  try {
    // conmon stays in its directory, and makes a file named "oom" there: the agent's would be littered, and could not be unmounted.
    // TZ: log times are then in UTC. The environment is otherwise bare: it is conmon's for as long as the container lives.
    const env = [`_OCI_SYNCPIPE=${SYNC_FD}`, `PATH=${process.env["PATH"] ?? "/usr/sbin:/usr/bin:/sbin:/bin"}`, "TZ=UTC"];
    child = await spawnElsewhere({ path: paths.conmon, args, cwd: paths.bundle, env, fds: [undefined, undefined, errorFd, pipe.write] });
  } catch (error) {
    libc.close(pipe.read);
    throw new GantryError("FailedPrecondition", `can't run ${paths.conmon}: ${describeError(error)}`, { cause: error });
  } finally {
    libc.close(pipe.write);
    closeSync(errorFd);
  }
  const said = await readLine(pipe.read);
  // conmon goes into the background at once: this child has ended long before the background process answers, or gives up.
  reapProcess(child);
  const answer = parseSync(said);
  if (answer && "pid" in answer) return answer.pid;
  throw new GantryError("InternalError", answer?.error ?? `conmon gave up: ${readFileSync(errorPath, "utf8").trim() || "it said nothing"}`);
};

/** Up to the first newline or the end. Closes the descriptor. */
const readLine = (fd: number): Promise<string> =>
  new Promise((resolve) => {
    let said = "";
    const from = new Socket({ fd, readable: true, writable: false });
    from.setEncoding("utf8");
    from.on("error", () => undefined); // its end says the same
    from.on("data", (text: string) => {
      said += text;
      if (said.includes("\n")) from.destroy();
    });
    from.on("close", () => resolve(said));
  });

/** Makes conmon open its log file anew, after a rename. "NotFound" when conmon is gone. */
export const reopenLog = (bundle: string): void => tell(bundle, REOPEN_LOG);

/** Of a container's terminal. "NotFound" when conmon is gone. */
export const resizeTerminal = (bundle: string, { width, height }: { readonly width: number; readonly height: number }): void =>
  tell(bundle, `1 ${height} ${width}\n`);

const tell = (bundle: string, message: string): void => {
  let fd: number;
  try {
    fd = openSync(join(bundle, "ctl"), constants.O_WRONLY | constants.O_NONBLOCK);
  } catch (error) {
    throw new GantryError("NotFound", `no conmon listens at ${bundle}/ctl: its container has ended`, { cause: error });
  }
  try {
    writeSync(fd, message);
  } finally {
    closeSync(fd);
  }
};
