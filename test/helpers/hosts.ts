// Hosts for tests: network namespaces joined by a bridge, with unique names and ranges per test, and gone at the end of it whatever
// happened. Every command runs by nsenter, so that it counts as running on that host.
import { execFile, spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ExecutionContext } from "ava";
import { customAlphabet } from "nanoid";
import { isCode } from "../../base/errors.ts";
import { unmountAllBelow } from "../../node-agent/linux/mount.ts";
import { cutHost, ensureVirtualHosts, removeVirtualHosts, restoreHost } from "../../node-agent/network/virtual-hosts.ts";
import type { VirtualHost } from "../../node-agent/network/virtual-hosts.ts";

const unique = customAlphabet("0123456789abcdefghijklmnopqrstuvwxyz", 6);
const randomByte = (): number => Number.parseInt(customAlphabet("0123456789abcdef", 2)(), 16);

export interface TestHosts {
  readonly hosts: readonly VirtualHost[];
  /** The machine's own address on the hosts' network. */
  readonly gateway: string;
  readonly name: string;
  readonly directory: string;
  /** The host's packets go nowhere until it is restored. */
  cut(host: VirtualHost): void;
  restore(host: VirtualHost): void;
}

/** Throws away everything below it at the end, mounts first. */
export const temporaryDirectory = (t: ExecutionContext): string => {
  const directory = mkdtempSync(join(tmpdir(), "gantry-test-"));
  t.teardown(() => {
    unmountAllBelow(directory);
    rmSync(directory, { recursive: true, force: true });
  });
  return directory;
};

/** Of 198.18.0.0/15, which is set aside for tests (RFC 2544): 512 ranges of 254 hosts. Another test may have chosen the same. */
const onFreeRange = async <T>(make: (cidr: string) => Promise<T>): Promise<T> => {
  for (let attempt = 1; ; attempt++) {
    try {
      return await make(`198.${18 + (randomByte() & 1)}.${randomByte()}.0/24`);
    } catch (error) {
      if (attempt === 5 || !isCode(error, "Invalid")) throw error;
    }
  }
};

export const createTestHosts = async (t: ExecutionContext, count: number): Promise<TestHosts> => {
  const directory = temporaryDirectory(t);
  const name = `gt${unique()}`;
  t.teardown(() => removeVirtualHosts({ name, count, directory }));
  const { hosts, gateway } = await onFreeRange((cidr) => ensureVirtualHosts({ name, count, cidr, directory }));
  return {
    hosts, gateway, name, directory,
    cut: (host) => cutHost(name, host.number),
    restore: (host) => restoreHost(name, host.number),
  };
};

export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command in a network namespace to its end, for at most `timeoutMs`. Never rejects: an exit code of -1 means killed or not started. */
export const runIn = (netnsPath: string, command: readonly string[], timeoutMs = 60_000): Promise<CommandResult> =>
  new Promise((resolve) => {
    execFile("nsenter", [`--net=${netnsPath}`, ...command], { encoding: "utf8", env: { ...process.env, PATH: `/usr/sbin:/sbin:${process.env["PATH"] ?? ""}` }, timeout: timeoutMs, killSignal: "SIGKILL" }, (error, stdout, stderr) => {
      resolve({ code: error ? (typeof error.code === "number" ? error.code : -1) : 0, stdout, stderr });
    });
  });

/** Starts a command in a network namespace; it is killed at the end of the test. */
export const startIn = (t: ExecutionContext, netnsPath: string, command: readonly string[], options: { readonly cwd?: string } = {}): ChildProcess => {
  const child = spawn("nsenter", [`--net=${netnsPath}`, ...command], { stdio: "ignore", ...options });
  t.teardown(() => {
    if (child.exitCode !== null || child.signalCode !== null) return undefined;
    const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
    child.kill("SIGKILL");
    return ended;
  });
  return child;
};

/** Asks again until it is so. For what the kernel does in the background. */
export const eventually = async (check: () => boolean | Promise<boolean>, timeoutMs = 60_000): Promise<boolean> => {
  const deadline = performance.now() + timeoutMs;
  while (performance.now() < deadline) {
    if (await check()) return true;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return false;
};
