// Commands in running containers: `crun exec` (or runc's) with pipes, or with a terminal. The command runs with the container's own
// user, environment, capabilities and filter.
import { spawn, type ChildProcess } from "node:child_process";
import { closeSync, constants, mkdirSync, openSync, rmSync, unlinkSync, writeFileSync } from "node:fs";
import { Socket } from "node:net";
import { join } from "node:path";
import type { Writable } from "node:stream";
import { ReadStream } from "node:tty";
import { GantryError } from "../../base/errors.ts";
import { makeNode } from "../linux/files.ts";
import * as libc from "../linux/libc.ts";
import { OutputReader } from "../linux/output-reader.ts";
import { ociJson, type OciProcess } from "./bundle.ts";
import type { ExecOptions } from "./container-runtime.ts";
import { openExecDirectory, type OpenDirectory } from "./check-cage.ts";
import { mendNullDevice } from "./null-device.ts";
import { ociMessage, readIfThere, startFailure, type DirectoryHandover, type OciRuntime } from "./oci-runtime.ts";
import { resizeTerminalOf, setTerminalSize, type TerminalSize } from "./terminal-size.ts";

/** asm-generic/ioctls.h, the same on every architecture that Node runs on but PowerPC and MIPS. */
const Ioctl = { unlockPty: 0x40045431, ptyNumber: 0x80045430 } as const;
const O_NOCTTY = 0o400;

interface Streams {
  /** What the command gets as 0, 1, 2; closed here after the spawn. */
  readonly theirs: readonly [number, number, number];
  readonly stdin: Writable | undefined;
  /** A terminal has no half-close: it ends with the command. */
  readonly canEnd: boolean;
  readonly outputs: readonly { readonly from: Socket; readonly to: (data: Uint8Array) => Promise<void> }[];
  /** `pid`: the command's, on this machine; undefined before it runs. */
  resize(size: TerminalSize, child: ChildProcess, pid: number | undefined): void;
}

interface ExecTarget {
  readonly id: string;
  /** Of its first process, on this machine. */
  readonly pid: number;
  readonly process: OciProcess;
  /** For what this needs in files; made and removed here. */
  readonly directory: string;
}

/** Exit code of the command; 127 not found and 126 not executable, with the reason on stderr. "Cancelled" when the signal is aborted: the command is killed. */
export const execInContainer = async (
  runtime: OciRuntime, container: ExecTarget, options: ExecOptions,
): Promise<{ readonly exitCode: number }> => {
  if (options.command.length === 0) throw new GantryError("Invalid", "command: at least the name of a program is needed");
  options.signal.throwIfAborted();
  const { id, directory } = container;
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const [logPath, pidPath] = [join(directory, "log"), join(directory, "pid")] as const;
  try {
    const env = options.tty && !container.process.env.some((entry) => entry.startsWith("TERM=")) ? [...container.process.env, "TERM=xterm"] : container.process.env;
    const process: OciProcess = { ...container.process, env, args: options.command, terminal: options.tty && !options.detach };
    if (options.detach) return await startDetached(runtime, { ...container, process }, logPath, options);
    const { child, streams } = startAttached(runtime, { ...container, process }, { logPath, pidPath }, options);
    const exitCode = await pump(child, streams, options, pidPath);
    options.signal.throwIfAborted();
    const said = readIfThere(logPath);
    if (said === "" || exitCode === 0) return { exitCode };
    const failure = startFailure(ociMessage(said), options.command[0]!);
    if (failure.exitCode === 128) throw new GantryError("InternalError", `exec in container ${id}: ${failure.message}`);
    await options.onStderr(Buffer.from(`OCI runtime exec failed: exec failed: ${failure.message}\n`));
    return { exitCode: failure.exitCode };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
};

/** What `exec` of the OCI runtime is told about where to run the command, to be closed once it has been started. */
const openFolder = (runtime: OciRuntime, { pid, process: { cwd } }: ExecTarget): OpenDirectory | undefined =>
  cwd === "/" || runtime.directoryHandover === "unseen" ? undefined : openExecDirectory(pid, cwd);

const spawnExec = (
  runtime: OciRuntime, { id, process: wanted, directory }: ExecTarget, folder: OpenDirectory | undefined,
  { args, logPath, stdio, detached }: { readonly args: readonly string[]; readonly logPath: string; readonly stdio: readonly (number | "ignore")[]; readonly detached: boolean },
): ChildProcess => {
  const { directoryHandover: handover } = runtime;
  const handedOn = handover === "name" ? undefined : folder;
  const processPath = join(directory, "process.json");
  writeFileSync(processPath, ociJson(handedOn ? enteredByDescriptor(wanted, handedOn.path, handover) : wanted), { mode: 0o600 });
  const preserve = handedOn && handover === "preserved" ? ["--preserve-fds", "1"] : [];
  return spawn(runtime.path, [...runtime.globalArgs, `--log=${logPath}`, "exec", ...preserve, ...args, "--process", processPath, id], {
    stdio: [...stdio, ...(handedOn ? [handedOn.fd] : [])], env: { PATH: process.env["PATH"] ?? "" }, detached,
  });
};

const startAttached = (
  runtime: OciRuntime, container: ExecTarget, { logPath, pidPath }: { readonly logPath: string; readonly pidPath: string }, options: ExecOptions,
): { readonly child: ChildProcess; readonly streams: Streams } => {
  using folder = openFolder(runtime, container);
  const streams = options.tty ? openTerminal(options) : openPipes(container.directory, options);
  try {
    // With a terminal: a session of its own, so that signals of the terminal don't reach this agent.
    return { child: spawnExec(runtime, container, folder, { args: ["--pid-file", pidPath], logPath, stdio: streams.theirs, detached: options.tty }), streams };
  } finally {
    for (const fd of new Set(streams.theirs)) closeSync(fd);
  }
};

/** Descriptor 3 is `directory`. Pure. */
export const enteredByDescriptor = (wanted: OciProcess, directory: string, handover: DirectoryHandover): OciProcess => {
  const [command = "", ...rest] = wanted.args;
  // crun names a script to its interpreter by the working directory that it was told: by then that descriptor is closed.
  const isRelative = command.includes("/") && !command.startsWith("/");
  return { ...wanted, cwd: "/proc/self/fd/3", ...(handover === "inherited" && isRelative ? { args: [join(directory, command), ...rest] } : {}) };
};

/** The OCI runtime ends once the command runs; that belongs to the container from then on. */
const startDetached = async (runtime: OciRuntime, container: ExecTarget, logPath: string, options: ExecOptions): Promise<{ readonly exitCode: number }> => {
  using folder = openFolder(runtime, container);
  const child = spawnExec(runtime, container, folder, { args: ["--detach"], logPath, stdio: ["ignore", "ignore", "ignore"], detached: false });
  const exitCode = await new Promise<number>((resolve, reject) => {
    child.on("error", reject);
    child.on("exit", (code) => resolve(code ?? 255));
  });
  mendNullDevice();
  if (exitCode === 0) return { exitCode };
  const failure = startFailure(ociMessage(readIfThere(logPath)), options.command[0]!);
  throw new GantryError("BadRequest", `OCI runtime exec failed: exec failed: ${failure.message}`);
};

const pump = async (child: ChildProcess, streams: Streams, options: ExecOptions, pidPath: string): Promise<number> => {
  const ended = new Promise<number>((resolve, reject) => {
    child.on("error", reject);
    child.on("exit", (code, signal) => resolve(code ?? (signal === null ? 255 : 137)));
  });
  const commandPid = (): number | undefined => {
    const pid = Number(readIfThere(pidPath));
    return pid > 1 ? pid : undefined;
  };
  const abort = (): void => {
    // The command itself: the OCI runtime in front of it would only leave it behind.
    const pid = commandPid();
    if (pid !== undefined) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // It has ended meanwhile.
      }
    }
    child.kill("SIGKILL");
  };
  options.signal.addEventListener("abort", abort, { once: true });
  const stopInput = new AbortController();
  void feed(streams, options.stdin, stopInput.signal);
  let size: TerminalSize | undefined;
  const applySize = (): void => {
    if (size && !stopInput.signal.aborted) streams.resize(size, child, commandPid());
  };
  const resizing = (async () => {
    for await (size of options.resize ?? []) applySize();
  })().catch(() => undefined);
  void resizing;
  let isSilent = true;
  try {
    const readers = streams.outputs.map(({ from, to }) => new OutputReader(from, (data) => {
      // A size that came between the OCI runtime's look at it and the command's start got lost.
      if (isSilent) applySize();
      isSilent = false;
      return to(data);
    }));
    const exitCode = await ended;
    for (const reader of readers) reader.endAfterSilence();
    await Promise.all(readers.map((reader) => reader.done));
    return exitCode;
  } finally {
    stopInput.abort();
    options.signal.removeEventListener("abort", abort);
    streams.stdin?.destroy();
    for (const { from } of streams.outputs) from.destroy();
  }
};

const feed = async ({ stdin, canEnd }: Streams, source: AsyncIterable<Uint8Array> | undefined, stop: AbortSignal): Promise<void> => {
  if (!stdin) return;
  stdin.on("error", () => undefined); // EPIPE: the command doesn't read any more
  try {
    for await (const chunk of source ?? []) {
      if (stop.aborted) return;
      if (!stdin.write(chunk)) await new Promise<void>((resolve) => stdin.once("drain", resolve).once("close", resolve));
    }
  } catch {
    // The far end broke off: the command sees the end of its input.
  }
  if (canEnd) stdin.end();
};

/** Pipes, not node's socket pairs: a program may open /dev/stdout anew, which Linux refuses for sockets. */
const openPipes = (directory: string, options: ExecOptions): Streams => {
  const pipe = (name: string): { readonly read: number; readonly write: number } => {
    const path = join(directory, name);
    makeNode(path, { type: "fifo", mode: 0o600 });
    const read = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const write = openSync(path, constants.O_WRONLY);
    unlinkSync(path);
    return { read, write };
  };
  const [out, err] = [pipe("stdout"), pipe("stderr")];
  const outputs = [{ from: new Socket({ fd: out.read, readable: true, writable: false }), to: options.onStdout }, { from: new Socket({ fd: err.read, readable: true, writable: false }), to: options.onStderr }];
  // At its end from the start. Not /dev/null: the OCI runtime may give what it gets to the container's user (null-device.ts).
  if (!options.stdin) {
    const { read, write } = pipe("stdin");
    closeSync(write);
    return { theirs: [read, out.write, err.write], stdin: undefined, canEnd: false, outputs, resize: () => undefined };
  }
  // Opened through the FIFO twice, because our writing end must not block and the command's reading end must.
  const path = join(directory, "stdin");
  makeNode(path, { type: "fifo", mode: 0o600 });
  const keep = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const write = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
  const read = openSync(path, constants.O_RDONLY);
  closeSync(keep);
  unlinkSync(path);
  return { theirs: [read, out.write, err.write], stdin: new Socket({ fd: write, readable: false, writable: true }), canEnd: true, outputs, resize: () => undefined };
};

/** A terminal of this machine between us and the OCI runtime, which relays it to the container's own: so no descriptor has to be passed. */
const openTerminal = (options: ExecOptions): Streams => {
  const main = openSync("/dev/ptmx", constants.O_RDWR | O_NOCTTY | constants.O_NONBLOCK);
  const number = Buffer.alloc(4);
  libc.ioctl(main, Ioctl.unlockPty, Buffer.alloc(4));
  libc.ioctl(main, Ioctl.ptyNumber, number);
  const side = openSync(`/dev/pts/${number.readUInt32LE(0)}`, constants.O_RDWR | O_NOCTTY);
  const stream = new ReadStream(main);
  return {
    theirs: [side, side, side], stdin: options.stdin ? stream : undefined, canEnd: false, outputs: [{ from: stream, to: options.onStdout }],
    resize: (size, child, pid) => {
      setTerminalSize(main, size);
      // runc gives the container's own terminal the new size then; crun 1.8 only hands the signal on.
      child.kill("SIGWINCH");
      if (pid !== undefined) resizeTerminalOf(pid, size);
    },
  };
};
