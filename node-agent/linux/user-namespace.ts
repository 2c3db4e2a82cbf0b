// User namespaces, and the namespaces of a pod that belong to one. A process with threads, as node is, can't make one: a program of some
// 180 bytes does, waits until its namespaces are pinned, and ends. Source of the calls: unshare(2), user_namespaces(7).
import { mkdirSync, readSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { GantryError } from "../../base/errors.ts";
import * as libc from "./libc.ts";
import { SystemCallError } from "./libc.ts";
import { MountFlags, unmount } from "./mount.ts";
import { bringLoopbackUp, inNamespace, isPinned } from "./namespaces.ts";
import { makePipe, reapProcess, spawnProcess } from "./spawn.ts";
import { staticProgram, type ProgramText } from "./static-program.ts";

/**
 * unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS), of which the kernel makes the user namespace first, so that it owns the others;
 * one byte to 1; waits for 0 to be closed; ends with 0, or with unshare's errno.
 */
const CODE: ProgramText = {
  // mov eax,272; mov edi,0x5c000000; syscall; test eax,eax; js fail; mov eax,1; mov edi,1; mov rsi,rsp; mov edx,1; syscall (write); xor eax,eax;
  // xor edi,edi; syscall (read); xor edi,edi; end: mov eax,60; syscall; fail: neg eax; mov edi,eax; jmp end
  x64: "b810010000bf0000005c0f0585c07823b801000000bf010000004889e6ba010000000f0531c031ff0f0531ffb83c0000000f05f7d889c7ebf3",
  // mov x8,97; mov x0,0x5c000000; svc 0; tbnz x0,63,fail; mov x8,64; mov x0,1; mov x1,sp; mov x2,1; svc 0 (write); mov x8,63; mov x0,0; svc 0 (read);
  // mov x0,0; end: mov x8,93; svc 0; fail: neg x0,x0; b end
  arm64: "280c80d20080abd2010000d48001f8b7080880d2200080d2e1030091220080d2010000d4e80780d2000080d2010000d4000080d2a80b80d2010000d4e00300cbfdffff17",
};

/** The program for `arch` (node's name). */
export const userNamespaceProgram = (arch: string): Buffer => staticProgram("hostUsers: false", arch, CODE);

export interface UserNamespacePins {
  /** Path of userNamespaceProgram, on a file system from which programs may be run. */
  readonly program: string;
  /** Ids 0 to `count` - 1 inside are `firstId` and following ones of the machine, users and groups alike. */
  readonly firstId: number;
  readonly count: number;
  /** Where to bind each new namespace; files and directories are made. */
  readonly user: string;
  readonly net: string;
  readonly ipc: string;
  readonly uts: string;
  readonly hostname: string;
}

/**
 * Makes a user namespace with a network, an IPC and a UTS namespace of its own, and pins all four. The loopback is up, the hostname set. Nothing is done when
 * all are pinned; what an agent that was killed has left half done is made anew. When it fails nothing is left. SystemCallError
 * of unshare: the machine allows no (more) user namespaces.
 */
export const pinUserNamespaces = ({ program, firstId, count, hostname, ...pins }: UserNamespacePins): void => {
  const wanted = (["user", "net", "ipc", "uts"] as const).map((type) => [type, pins[type]] as const);
  if (wanted.every(([, path]) => isPinned(path))) return;
  for (const [, path] of wanted) unmount(path, { detach: true });
  try {
    for (const [, path] of wanted) {
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, "", { flag: "a", mode: 0o444 });
    }
    holding(program, (pid) => {
      const ids = `0 ${firstId} ${count}\n`;
      writeFileSync(`/proc/${pid}/uid_map`, ids);
      writeFileSync(`/proc/${pid}/gid_map`, ids);
      for (const [type, path] of wanted) libc.mount(`/proc/${pid}/ns/${type}`, path, null, MountFlags.bind, null);
    });
    inNamespace("net", pins.net, bringLoopbackUp);
    inNamespace("uts", pins.uts, () => libc.sethostname(hostname, Buffer.byteLength(hostname)));
  } catch (error) {
    for (const [, path] of wanted) {
      unmount(path, { detach: true });
      rmSync(path, { force: true });
    }
    throw error;
  }
};

/** `fn` gets the process that is in the new namespaces; it ends when `fn` does, and also should this agent die. */
const holding = (program: string, fn: (pid: number) => void): void => {
  const [input, output] = [makePipe(), makePipe()];
  let pid: number;
  try {
    pid = spawnProcess({ path: program, args: [], cwd: "/", env: [], fds: [input.read, output.write] });
  } catch (error) {
    libc.close(input.write);
    libc.close(output.read);
    throw error;
  } finally {
    libc.close(input.read);
    libc.close(output.write);
  }
  let isReady = false;
  let exitCode = 0;
  try {
    isReady = readSync(output.read, Buffer.alloc(1)) === 1;
    if (isReady) fn(pid);
  } finally {
    libc.close(output.read);
    libc.close(input.write);
    exitCode = reapProcess(pid);
  }
  if (isReady) return;
  const failure = new SystemCallError("unshare", exitCode, ["CLONE_NEWUSER"]);
  throw new GantryError("FailedPrecondition", `can't make a user namespace: ${failure.message}; /proc/sys/user/max_user_namespaces says how many there may be`, { cause: failure });
};
