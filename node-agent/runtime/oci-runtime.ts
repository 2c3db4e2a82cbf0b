// The OCI runtime's command (crun, runc): which one there is, and what it does without being spawned. What crun keeps in its state
// directory was read in its source and is stable since 1.0; everything else goes through the command line.
import { execFile } from "node:child_process";
import { accessSync, closeSync, constants, existsSync, openSync, readFileSync, rmSync, statSync, unlinkSync, writeSync } from "node:fs";
import { basename, delimiter, join } from "node:path";
import { promisify } from "node:util";
import { GantryError, describeError } from "../../base/errors.ts";
import { sealedCopy } from "../linux/sealed-copy.ts";

const execute = promisify(execFile);

export interface OciRuntime {
  readonly name: string;
  /** By which it is executed: good as long as this process lives. */
  readonly path: string;
  /** "1.8.1". */
  readonly version: string;
  /** Where it keeps its own state: one directory a container. */
  readonly stateRoot: string;
  /** Before the command's name. */
  readonly globalArgs: readonly string[];
  /** May its state directory be used as crun's? */
  readonly isCrun: boolean;
  /** Are its containers this kernel's processes, in mount namespaces of it? Others may be virtual machines, whose process here shows nothing of what is inside. */
  readonly showsInside: boolean;
  readonly directoryHandover: DirectoryHandover;
}

/**
 * How it is told a command's working directory. What a name leads to may be made a link out of the container between our look and the runtime's
 * entering (CVE-2024-21626), so that a name is for runtimes only that look again once they are there.
 * - "name": runc with the fix.
 * - "inherited": as descriptor 3, which crun keeps open until just before the program runs (read in the source of 1.8 and of 1.24).
 * - "preserved": as descriptor 3, by --preserve-fds: the command finds its own working directory open there. runc without the fix.
 * - "unseen": others may be virtual machines, whose process here shows nothing of what is inside; it is theirs to guard.
 */
export type DirectoryHandover = "name" | "inherited" | "preserved" | "unseen";

/** What runc says when it finds itself outside (1.1.12 and later). Looked for in the program itself, because distributions mend older versions. */
const RUNC_LOOKS = "current working directory is outside of container mount namespace root";

export const directoryHandover = (name: string, read: () => Buffer): DirectoryHandover => {
  if (name === "crun") return "inherited";
  if (name !== "runc") return "unseen";
  return read().includes(RUNC_LOOKS) ? "name" : "preserved";
};

const PREFERRED = ["crun", "runc"];

/** Path of a command on PATH; undefined when there is none. */
export const findCommand = (name: string, searchPath = process.env["PATH"] ?? ""): string | undefined => {
  for (const directory of name.includes("/") ? [""] : [...searchPath.split(delimiter), "/usr/sbin", "/usr/bin", "/sbin", "/bin"]) {
    const path = directory === "" ? name : join(directory, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not here: the next directory.
    }
  }
  return undefined;
};

/** By far more than it takes: were this thread held up for that long, node would take the answer away that had come, and call that a success. */
export const VERSION_DEADLINE_MS = 60_000;

const INSTALL = "on Debian: apt-get install crun (or runc); elsewhere see https://github.com/containers/crun";

/** `wanted`: a name or path; "" takes crun, else runc. "FailedPrecondition" when there is none or it does not run. */
export const openOciRuntime = async (wanted: string, stateRoot: string): Promise<OciRuntime> => {
  const path = (wanted === "" ? PREFERRED : [wanted]).map((name) => findCommand(name)).find((found) => found !== undefined);
  if (path === undefined) throw new GantryError("FailedPrecondition", `no OCI runtime: ${wanted === "" ? "neither crun nor runc" : JSON.stringify(wanted)} is installed (${INSTALL})`);
  let text: string;
  try {
    text = (await execute(path, ["--version"], { timeout: VERSION_DEADLINE_MS })).stdout;
  } catch (error) {
    throw new GantryError("FailedPrecondition", `${path} --version fails (${INSTALL}): ${describeError(error)}`, { cause: error });
  }
  // "crun version 1.8.1", "runc version 1.1.5+ds1".
  const match = /^(\S+) version (\S+)/m.exec(text);
  if (!match) throw new GantryError("FailedPrecondition", `${path} --version says ${JSON.stringify(text.slice(0, 100))}: "NAME version X.Y.Z" was expected, is it an OCI runtime?`);
  const [, name, version] = match as unknown as [string, string, string];
  const isCrun = name === "crun" && Number(version.split(".")[0]) >= 1;
  return { name, path: isCrun && basename(path) === "crun" ? ownCopy(path) : path, version, stateRoot, globalArgs: [`--root=${stateRoot}`], isCrun, showsInside: PREFERRED.includes(name), directoryHandover: directoryHandover(name, () => readFileSync(path)) };
};

/** By path and time of change: a process may open many runtimes. */
const copies = new Map<string, string>();

/**
 * What enters a container must not be a file of the host's that those in there could write to (CVE-2019-5736). So crun first mounts itself
 * somewhere, read-only, and executes itself again from there, unless it is such a copy already: that second loading is a fifth of all that it does.
 */
const ownCopy = (path: string): string => {
  const key = `${path} ${statSync(path).mtimeMs}`;
  const known = copies.get(key);
  if (known !== undefined) return known;
  try {
    const copy = sealedCopy(path, "crun");
    accessSync(copy, constants.X_OK);
    copies.set(key, copy);
    return copy;
  } catch {
    return path; // it sees to itself, then
  }
};

/** Runs a command of the runtime to its end. Errors carry what it said. */
export const runOci = async (runtime: OciRuntime, args: readonly string[]): Promise<void> => {
  try {
    await execute(runtime.path, [...runtime.globalArgs, ...args], { timeout: 60_000, env: { PATH: process.env["PATH"] ?? "" } });
  } catch (error) {
    const said = (error as { stderr?: string }).stderr?.trim();
    throw new GantryError("InternalError", `${runtime.name} ${args[0]}: ${said ? ociMessage(said) : describeError(error)}`);
  }
};

const fifo = (runtime: OciRuntime, id: string): string => join(runtime.stateRoot, id, "exec.fifo");

/** crun: the FIFO that the created process waits on is there until start. */
export const waitsForStart = (runtime: OciRuntime, id: string): boolean => existsSync(fifo(runtime, id));

/**
 * OCI start. For crun it is what `crun start` does: one byte into the FIFO that the created process waits on (0.05 ms against 3 ms
 * for the command). "FailedPrecondition" when nothing waits there.
 */
export const startContainer = async (runtime: OciRuntime, id: string): Promise<void> => {
  if (!startAtOnce(runtime, id)) await runOci(runtime, ["start", id]);
};

/** false: this runtime can be started by its command only. */
export const startAtOnce = (runtime: OciRuntime, id: string): boolean => {
  if (!runtime.isCrun) return false;
  const path = fifo(runtime, id);
  let fd: number;
  try {
    // Without NONBLOCK this would hang for ever when the process that was to read has been killed.
    fd = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    throw new GantryError("FailedPrecondition", `container ${id} can't be started: ${code === "ENXIO" ? "its process has ended" : code === "ENOENT" ? "it is not in the state created" : describeError(error)}`, { cause: error });
  }
  try {
    unlinkSync(path);
    writeSync(fd, "\0");
  } finally {
    closeSync(fd);
  }
  return true;
};

/** Forgets a container whose process has ended. Its cgroup and mounts are the caller's. Idempotent. */
export const forgetContainer = async (runtime: OciRuntime, id: string): Promise<void> => {
  if (!runtime.isCrun) {
    if (existsSync(join(runtime.stateRoot, id))) await runOci(runtime, ["delete", "--force", id]);
    return;
  }
  // `crun delete` of a stopped container is: remove the cgroup (done by us), run poststop hooks (none), remove this directory.
  rmSync(join(runtime.stateRoot, id), { recursive: true, force: true });
};

/** The seccomp filter that crun compiled for a container that is not started yet; undefined when it kept none. */
export const compiledSeccomp = (runtime: OciRuntime, id: string): Buffer | undefined => {
  if (!runtime.isCrun) return undefined;
  try {
    const data = readFileSync(join(runtime.stateRoot, id, "seccomp.bpf"));
    return data.length > 0 && data.length % 8 === 0 ? data : undefined;
  } catch {
    return undefined;
  }
};

/** A file that the OCI runtime may have written, such as its log: "" when it did not. */
export const readIfThere = (path: string): string => {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return "";
  }
};

/** What an OCI runtime says about a failed create or exec, without timestamps, log framing and its own name. */
export const ociMessage = (said: string): string => {
  const lines = said.split("\n").map((line) => line.trim()).filter((line) => line !== "" && !line.startsWith("[conmon:"));
  const texts = lines.map((line) => {
    if (line.startsWith("{")) {
      try {
        return (JSON.parse(line) as { msg?: string }).msg ?? line;
      } catch {
        return line;
      }
    }
    return /msg="((?:[^"\\]|\\.)*)"/.exec(line)?.[1]?.replaceAll("\\\"", "\"") ?? line.replace(/^\S+T\S+Z?: /, "");
  });
  return texts.join("; ");
};

/** As crun and runc say it. Not "No such file" alone: that may be a mount's source, a device, or the root that is being removed. */
const NOT_FOUND = /executable file .*not found|exec: "[^"]*": stat .*no such file|exec container process .*No such file/;
const NOT_EXECUTABLE = /^open executable: |exec: "[^"]*": .*(?:permission denied|is a directory)|exec container process .*(?:Permission denied|Is a directory|Exec format error)|^exec \S+: (?:permission denied|exec format error)/;

/** The way that a failure to run the command itself is put: exit code as shells have it (127 not found, 126 not executable); 128: it was something else. */
export const startFailure = (message: string, command: string): { readonly exitCode: 126 | 127 | 128; readonly message: string } => {
  const prefix = `unable to start container process: exec: ${JSON.stringify(command)}:`;
  if (NOT_FOUND.test(message)) return { exitCode: 127, message: command.includes("/") ? `${prefix} stat ${command}: no such file or directory` : `${prefix} executable file not found in $PATH` };
  if (NOT_EXECUTABLE.test(message)) return { exitCode: 126, message: `${prefix} ${/exec format error/i.test(message) ? "exec format error" : "permission denied"}` };
  return { exitCode: 128, message };
};
