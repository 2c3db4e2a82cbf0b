// The private etcd of a control plane that was given none: started, watched over, restarted with the same data, adopted when its control
// plane was killed. Owns its directory. etcd listens on Unix sockets in that directory (mode 0700): no port, no certificates, and nobody
// but this user can reach it.
import { spawn } from "node:child_process";
import { chmodSync, closeSync, mkdirSync, openSync, readFileSync, readdirSync, rmSync, statSync, truncateSync } from "node:fs";
import { request } from "node:http";
import { connect } from "node:net";
import { join, resolve } from "node:path";
import { backoffDelayMs } from "../../base/backoff.ts";
import type { BackoffPolicy } from "../../base/backoff.ts";
import type { Clock } from "../../base/clock.ts";
import { GantryError } from "../../base/errors.ts";
import type { Logger } from "../../base/logger.ts";
import type { Metrics } from "../../base/metrics.ts";
import { awake } from "./awake.ts";

export interface EtcdProcessOptions {
  /** Everything of this etcd: data, sockets, log. Created when absent. At most 90 bytes long: a Unix socket's path is limited to 107. */
  readonly dir: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics?: Metrics | undefined;
  /** Default "etcd", from the PATH. */
  readonly binary?: string | undefined;
}

const MAX_SOCKET_PATH_BYTES = 107;
const START_TIMEOUT_MS = 20_000;
const STOP_TIMEOUT_MS = 5_000;
const CHECK_MS = 20;
const MAX_LOG_BYTES = 10 * 1024 * 1024;
const RESTART: BackoffPolicy = { initialMs: 50, maxMs: 5_000, factor: 2, jitter: 0 };
/** etcd takes only HOST:PORT of a Unix URL, and makes a socket of that name in its working directory. */
const CLIENT_SOCKET = "client:0";
const PEER_SOCKET = "peer:0";

const dataDirArgument = (dir: string): string => `--data-dir=${join(dir, "data")}`;
const argumentsFor = (dir: string): readonly string[] => [
  "--name=gantry", dataDirArgument(dir),
  `--listen-client-urls=unix://${CLIENT_SOCKET}`, `--advertise-client-urls=unix://${CLIENT_SOCKET}`,
  `--listen-peer-urls=unix://${PEER_SOCKET}`, `--initial-advertise-peer-urls=unix://${PEER_SOCKET}`, `--initial-cluster=gantry=unix://${PEER_SOCKET}`,
  // A member alone elects itself after one election timeout: this is how long a restart takes. Below 500 ms idle CPU rises.
  "--heartbeat-interval=100", "--election-timeout=500",
  // The Raft log since the last snapshot is held in memory, and a batch of writes is one large entry.
  "--snapshot-count=1000", "--max-wals=2", "--max-snapshots=2",
  "--quota-backend-bytes=8589934592", "--enable-grpc-gateway=false", "--logger=zap", "--log-level=warn", "--log-outputs=stderr",
];

const environment = (): NodeJS.ProcessEnv => ({
  PATH: process.env["PATH"] ?? "",
  // Half the usual garbage: memory is worth more here than the last percent of speed.
  GOGC: "50",
  // etcd 3.4 starts on arm64 only when told so.
  ...(process.arch === "arm64" ? { ETCD_UNSUPPORTED_ARCH: "arm64" } : {}),
});

export class EtcdProcess {
  readonly #options: EtcdProcessOptions;
  readonly #dir: string;
  readonly #socket: string;
  readonly #stopping = new AbortController();
  readonly #countRestart: () => void;
  #pid = 0;
  /** Resolves when the present etcd is gone. */
  #exited: Promise<void> = Promise.resolve();
  #supervision: Promise<void> = Promise.resolve();

  /** Resolves when etcd serves. "FailedPrecondition" when the binary is missing or the directory unfit; "ServiceUnavailable" when etcd does not start. */
  static async start(options: EtcdProcessOptions): Promise<EtcdProcess> {
    const etcd = new EtcdProcess(options);
    await awake(etcd.#start());
    etcd.#supervision = etcd.#supervise();
    return etcd;
  }

  private constructor(options: EtcdProcessOptions) {
    this.#options = { ...options, logger: options.logger.child({ component: "etcd" }) };
    this.#dir = resolve(options.dir);
    this.#socket = join(this.#dir, CLIENT_SOCKET);
    if (Buffer.byteLength(this.#socket) > MAX_SOCKET_PATH_BYTES) {
      throw new GantryError("FailedPrecondition", `etcd's directory ${this.#dir} has too long a name for Unix sockets in it: at most ${MAX_SOCKET_PATH_BYTES - CLIENT_SOCKET.length - 1} bytes; choose another`);
    }
    const restarts = options.metrics?.counter("gantry_etcd_restarts_total", "Times the private etcd died and was started again.");
    this.#countRestart = () => restarts?.inc();
  }

  /** For EtcdStoreOptions.endpoints. They stay the same over restarts. */
  get endpoints(): readonly string[] {
    return [`unix://${this.#socket}`];
  }

  get pid(): number {
    return this.#pid;
  }

  get socketPath(): string {
    return this.#socket;
  }

  /** Ends etcd; its data stays. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#supervision;
    if (this.#pid === 0) return;
    await awake(endProcess(this.#pid, this.#dir, this.#options.clock).then(() => this.#exited));
    this.#pid = 0;
  }

  /** Lets go of etcd without ending it, as when this process is killed: the next one adopts it. */
  async release(): Promise<void> {
    this.#stopping.abort();
    await this.#supervision;
  }

  async #start(): Promise<void> {
    const { logger, clock } = this.#options;
    mkdirSync(this.#dir, { recursive: true, mode: 0o700 });
    if (process.getuid !== undefined && statSync(this.#dir).uid !== process.getuid()) {
      throw new GantryError("FailedPrecondition", `etcd's directory ${this.#dir} belongs to another user (uid ${statSync(this.#dir).uid})`);
    }
    chmodSync(this.#dir, 0o700);
    const left = findEtcd(this.#dir);
    if (left !== undefined) {
      if (left.sameArguments && (await this.#serves(2_000))) {
        logger.info("adopted the etcd that a control plane before us left", { pid: left.pid });
        this.#pid = left.pid;
        this.#exited = connectionEnds(this.#socket);
        return;
      }
      logger.warn("replacing the etcd that a control plane before us left", { pid: left.pid });
      await endProcess(left.pid, this.#dir, clock);
    }
    await this.#spawn();
  }

  async #spawn(): Promise<void> {
    const { binary = "etcd", logger, clock } = this.#options;
    // Nobody runs on this directory (see #start), and etcd does not take over the sockets of one that was killed.
    for (const socket of [CLIENT_SOCKET, PEER_SOCKET]) rmSync(join(this.#dir, socket), { force: true });
    const logPath = join(this.#dir, "etcd.log");
    // A file, not a pipe: etcd must survive us, and would die of a broken pipe.
    const log = openSync(logPath, "a", 0o600);
    if (statSync(logPath).size > MAX_LOG_BYTES) truncateSync(logPath);
    const logStart = statSync(logPath).size;
    const child = spawn(binary, argumentsFor(this.#dir), { cwd: this.#dir, env: environment(), stdio: ["ignore", log, log], detached: true });
    closeSync(log);
    child.unref();
    let failure: string | undefined;
    this.#exited = new Promise((resolveExit) => {
      child.once("error", (error: NodeJS.ErrnoException) => {
        failure = error.code === "ENOENT" ? "missing" : error.message;
        resolveExit();
      });
      child.once("exit", (code, signal) => {
        failure ??= signal ? `killed by ${signal}` : `exit code ${code}`;
        resolveExit();
      });
    });
    this.#pid = child.pid ?? 0;
    const deadlineMs = clock.monotonicMs() + START_TIMEOUT_MS;
    while (failure === undefined) {
      if (await this.#serves(1_000)) {
        logger.info("etcd serves", { pid: this.#pid });
        return;
      }
      if (this.#stopping.signal.aborted || clock.monotonicMs() > deadlineMs) {
        failure ??= "no answer";
        await endProcess(this.#pid, this.#dir, clock);
      } else {
        await Promise.race([this.#exited, clock.sleep(CHECK_MS)]);
      }
    }
    this.#pid = 0;
    if (failure === "missing") throw new GantryError("FailedPrecondition", `etcd was not found (${binary}): install it (Debian, Ubuntu: apt-get install etcd-server; Fedora, openSUSE, Arch: etcd), or point to a running one with --etcd-endpoints`);
    throw new GantryError("ServiceUnavailable", `etcd did not start (${failure}); the end of its log, ${logPath}: ${logTail(logPath, logStart)}`);
  }

  async #supervise(): Promise<void> {
    const { clock, logger } = this.#options;
    const stopped = new Promise<void>((resolveStop) => this.#stopping.signal.addEventListener("abort", () => resolveStop(), { once: true }));
    const { signal } = this.#stopping;
    for (let failures = 0; !signal.aborted; ) {
      await Promise.race([this.#exited, stopped]);
      if (signal.aborted) return;
      logger.warn("etcd ended; starting it again", { pid: this.#pid });
      this.#countRestart();
      try {
        await awake(this.#start());
        failures = 0;
      } catch (error) {
        logger.error("etcd could not be started again", { err: error, failures });
        this.#exited = Promise.resolve();
        await clock.sleep(backoffDelayMs(RESTART, ++failures, () => 0), signal).catch(() => undefined);
      }
    }
  }

  #serves(timeoutMs: number): Promise<boolean> {
    return new Promise((done) => {
      const call = request({ socketPath: this.#socket, path: "/health", timeout: timeoutMs, agent: false }, (response) => {
        response.resume();
        done(response.statusCode === 200);
      });
      call.once("error", () => done(false));
      call.once("timeout", () => call.destroy(new Error("timeout")));
      call.end();
    });
  }
}

/** The etcd that runs on this directory, whoever started it. */
export const findEtcd = (dir: string): { readonly pid: number; readonly sameArguments: boolean } | undefined => {
  const wanted = argumentsFor(resolve(dir));
  for (const name of readdirSync("/proc")) {
    const pid = Number(name);
    if (!Number.isInteger(pid) || !runsOn(pid, dir)) continue;
    return { pid, sameArguments: commandLine(pid).slice(1).join("\0") === wanted.join("\0") };
  }
  return undefined;
};

/** The data directory stands in etcd's command line, so a pid that another process has got meanwhile is not mistaken for it. */
const runsOn = (pid: number, dir: string): boolean => commandLine(pid).slice(1).includes(dataDirArgument(resolve(dir)));

/** Empty for a process that is gone, or a zombie. */
const commandLine = (pid: number): readonly string[] => {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").slice(0, -1);
  } catch {
    return [];
  }
};

/** It may end between the look and the signal. */
const send = (pid: number, signal: NodeJS.Signals): void => {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
};

const endProcess = async (pid: number, dir: string, clock: Clock): Promise<void> => {
  for (const signal of ["SIGTERM", "SIGKILL"] as const) {
    if (!runsOn(pid, dir)) return;
    send(pid, signal);
    // A stopped process would never see the first.
    send(pid, "SIGCONT");
    const deadlineMs = clock.monotonicMs() + STOP_TIMEOUT_MS;
    while (runsOn(pid, dir) && clock.monotonicMs() < deadlineMs) await clock.sleep(CHECK_MS);
  }
};

/** Stops the etcd on this directory if one runs: for `gantry down` after the control plane was killed. */
export const stopEtcd = async (dir: string, clock: Clock): Promise<void> => {
  const left = findEtcd(dir);
  if (left) await awake(endProcess(left.pid, dir, clock));
};

/** A process that is not our child can't be waited for; a connection that it holds ends with it, and the kernel says so at once. */
const connectionEnds = (socketPath: string): Promise<void> =>
  new Promise((ended) => {
    const socket = connect(socketPath);
    socket.unref();
    socket.on("error", () => undefined);
    socket.once("close", () => ended());
    socket.resume();
  });

const logTail = (path: string, from: number): string => readFileSync(path).subarray(from).toString().trim().split("\n").slice(-5).join(" | ").slice(-2000);
