// A throw-away etcd for a test: its own directory, Unix sockets, gone (with its data) when the test ends.
import { rmSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SystemClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/logger.ts";
import { EtcdProcess, findEtcd } from "../../control-plane/state/etcd-process.ts";

export interface TestEtcd {
  readonly process: EtcdProcess;
  readonly endpoints: readonly string[];
  readonly socketPath: string;
  readonly dir: string;
  stop(): Promise<void>;
}

export const startEtcd = async (): Promise<TestEtcd> => {
  const dir = await mkdtemp(join(tmpdir(), "gantry-etcd-"));
  const etcd = await EtcdProcess.start({ dir, clock: new SystemClock(), logger: silentLogger });
  // It outlives its parent by design; a test file that crashes must not leave it behind.
  const onExit = (): void => {
    // Looked up anew: its pid is 0 between restarts, and 0 would mean our own process group.
    const running = findEtcd(dir);
    if (running) process.kill(running.pid, "SIGKILL");
    rmSync(dir, { recursive: true, force: true });
  };
  process.once("exit", onExit);
  return {
    process: etcd, dir, endpoints: etcd.endpoints, socketPath: etcd.socketPath,
    stop: async () => {
      process.removeListener("exit", onExit);
      await etcd.stop();
      await rm(dir, { recursive: true, force: true });
    },
  };
};
