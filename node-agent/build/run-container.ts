// One command of a build, run to its end by the OCI runtime in a root filesystem that is mounted already: `crun run` in the foreground, its output in
// pipes. Ends with the agent's signal; what an agent that was killed leaves running is found by its control group.
import { spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { Socket } from "node:net";
import { join } from "node:path";
import { GantryError } from "../../base/errors.ts";
import * as libc from "../linux/libc.ts";
import { OutputReader } from "../linux/output-reader.ts";
import { makePipe } from "../linux/spawn.ts";
import { buildConfig, type Host } from "../runtime/bundle.ts";
import type { ContainerCgroups } from "../runtime/container-cgroups.ts";
import type { ContainerSpec, RuntimeMount } from "../runtime/container-runtime.ts";
import { forgetContainer, ociMessage, readIfThere, startFailure, type OciRuntime } from "../runtime/oci-runtime.ts";
import { resolveUserIn } from "../runtime/user.ts";

export interface RunOptions {
  readonly id: string;
  /** A directory of its own. */
  readonly bundle: string;
  readonly rootPath: string;
  readonly args: readonly string[];
  readonly env: readonly string[];
  readonly cwd: string;
  readonly user: string;
  /** "host", or a pinned network namespace. */
  readonly network: string;
  readonly mounts: readonly RuntimeMount[];
  readonly cgroupPath: string;
  readonly pidsLimit: number;
  readonly onOutput: (text: string) => Promise<void>;
  readonly signal: AbortSignal;
}

export interface RunParts {
  readonly oci: OciRuntime;
  readonly host: Host;
  readonly cgroups: ContainerCgroups;
}

const HOSTNAME = "buildsandbox";

const specOf = (options: RunOptions): ContainerSpec => ({
  id: options.id, name: "build", layerDirs: [], args: options.args, env: options.env, cwd: options.cwd, user: options.user, supplementalGroups: [], hostname: HOSTNAME,
  namespaces: { network: options.network, ipc: "", uts: "" }, mounts: options.mounts, tty: false, stdin: false, readOnlyRoot: false, privileged: false,
  // sudo and su in a RUN work everywhere else too.
  noNewPrivileges: false, capabilitiesAdd: [], capabilitiesDrop: [], seccomp: { type: "RuntimeDefault" }, sysctls: {}, cgroupPath: options.cgroupPath,
  limits: { cpuShares: 1024, cpuQuotaMilli: 0, memoryBytes: 0, pids: options.pidsLimit }, oomScoreAdj: 500, logPath: "", labels: {},
});

/** Destinations of everything that is mounted in the container: what the runtime makes for them is no part of the layer. */
export const mountDestinations = (options: RunOptions, { host, cgroups }: RunParts): readonly string[] => {
  const config = buildConfig(specOf(options), { uid: 0, gid: 0, additionalGids: [] }, host, { rootPath: options.rootPath, cgroupsPath: cgroups.ociPath(options.cgroupPath) });
  return (config["mounts"] as readonly { readonly destination: string }[]).map((mount) => mount.destination);
};

/** Exit code of the command. "Invalid" when there is no such program; "Cancelled" when the signal is aborted: everything in the container is killed. */
export const runContainer = async (options: RunOptions, parts: RunParts): Promise<number> => {
  const { oci, host, cgroups } = parts;
  const { id, bundle, rootPath, cgroupPath, signal } = options;
  signal.throwIfAborted();
  mkdirSync(bundle, { recursive: true, mode: 0o700 });
  const config = buildConfig(specOf(options), resolveUserIn(rootPath, options.user, []), host, { rootPath, cgroupsPath: cgroups.ociPath(cgroupPath) });
  writeFileSync(join(bundle, "config.json"), JSON.stringify(config), { mode: 0o600 });
  const logPath = join(bundle, "log");
  // Pipes, not node's socket pairs: a program may open /dev/stdout anew, which Linux refuses for sockets.
  const pipe = makePipe();
  const output = new Socket({ fd: pipe.read, readable: true, writable: false });
  let kill: Promise<void> | undefined;
  const onAbort = (): void => {
    kill = cgroups.kill(cgroupPath).catch(() => undefined);
  };
  try {
    const child = spawn(oci.path, [...oci.globalArgs, `--log=${logPath}`, "run", "--bundle", bundle, id], { stdio: ["ignore", pipe.write, pipe.write], env: { PATH: process.env["PATH"] ?? "" } });
    libc.close(pipe.write);
    const ended = new Promise<number>((resolve, reject) => {
      child.on("error", reject);
      child.on("exit", (code, killedBy) => resolve(code ?? (killedBy === null ? 255 : 137)));
    });
    ended.catch(() => undefined);
    const stop = (): void => {
      onAbort();
      child.kill("SIGKILL");
    };
    signal.addEventListener("abort", stop, { once: true });
    try {
      const decoder = new TextDecoder();
      const reader = new OutputReader(output, (chunk) => options.onOutput(decoder.decode(chunk, { stream: true })));
      const exitCode = await ended;
      reader.endAfterSilence();
      await reader.done;
      signal.throwIfAborted();
      const said = readIfThere(logPath);
      if (exitCode !== 0 && said !== "") throw asError(ociMessage(said), options.args[0] ?? "");
      return exitCode;
    } finally {
      signal.removeEventListener("abort", stop);
    }
  } finally {
    output.destroy();
    await kill;
    await cgroups.kill(cgroupPath).catch(() => undefined);
    await cgroups.remove(cgroupPath);
    await forgetContainer(oci, id);
  }
};

const asError = (message: string, command: string): GantryError => {
  const failure = startFailure(message, command);
  return new GantryError(failure.exitCode === 128 ? "InternalError" : "Invalid", failure.message);
};
