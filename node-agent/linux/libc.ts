// System calls by FFI: the only file that loads a native library. A failed call throws a SystemCallError that names the call, its
// arguments and the errno. All calls are synchronous and stay on the calling thread, because namespaces belong to threads.
import { constants } from "node:os";
import { getSystemErrorMap } from "node:util";
import koffi from "koffi";
import { GantryError } from "../../base/errors.ts";
import type { ErrorCode } from "../../base/errors.ts";
import { Permits } from "../../base/permits.ts";

const ERRNO_NAMES: ReadonlyMap<number, string> = new Map(Object.entries(constants.errno).map(([name, value]) => [value, name]));

/** What an errno means to a caller that matches codes. Everything else is an InternalError. */
const CODES: Readonly<Record<string, ErrorCode>> = {
  ENOENT: "NotFound", ESRCH: "NotFound", ENODEV: "NotFound", ENXIO: "NotFound", EEXIST: "AlreadyExists",
  EPERM: "Forbidden", EACCES: "Forbidden", EINVAL: "Invalid", ENAMETOOLONG: "Invalid", ELOOP: "Invalid", EXDEV: "Invalid",
  EBUSY: "Conflict", ENOTEMPTY: "Conflict", EAGAIN: "ServiceUnavailable", ENOMEM: "ServiceUnavailable", ENOSPC: "ServiceUnavailable",
  ETIMEDOUT: "Timeout", ENOSYS: "FailedPrecondition", EOPNOTSUPP: "FailedPrecondition",
};

const show = (argument: unknown): string =>
  typeof argument === "string" ? JSON.stringify(argument) : argument instanceof Uint8Array ? `[${argument.length} bytes]` : String(argument);

export class SystemCallError extends GantryError {
  /** "ENOENT"; a number in decimal when the platform has no name for it. */
  readonly errno: string;
  readonly call: string;

  constructor(call: string, errno: number, args: readonly unknown[] = []) {
    const name = ERRNO_NAMES.get(errno) ?? String(errno);
    const meaning = getSystemErrorMap().get(-errno)?.[1];
    super(CODES[name] ?? "InternalError", `${call}(${args.map(show).join(", ")}): ${name}${meaning ? ` (${meaning})` : ""}`);
    this.name = "SystemCallError";
    this.errno = name;
    this.call = call;
  }
}

export const isErrno = (error: unknown, ...names: readonly string[]): boolean =>
  error instanceof Error && names.includes(error instanceof SystemCallError ? error.errno : ((error as NodeJS.ErrnoException).code ?? ""));

// The process itself: node is linked with the C library, whichever that is (glibc, musl), so no path is baked in.
const library = koffi.load(null);

type Argument = string | number | bigint | Uint8Array | null;

type Call = (...args: readonly Argument[]) => number;
type Native = ReturnType<typeof library.func>;

/** Throws for -1. koffi keeps the call's errno from being overwritten on the way back, so nothing may be called before koffi.errno(). */
const checked = (name: string, native: (...args: readonly Argument[]) => number | bigint): Call => (...args) => {
  const result = Number(native(...args));
  if (result === -1) throw new SystemCallError(name, koffi.errno(), args);
  return result;
};

/** Enough that the pool's threads don't wait for this one between two; not hundreds, which files and names would wait behind. koffi takes 256. */
const callsElsewhere = new Permits(16);

/**
 * In a thread of Node's pool. Resolves with whether it succeeded: why not is not known, because the errno stays with that thread, but a call
 * that fails is quick and can be made again here. Not for calls on a thread's own namespaces.
 */
const elsewhere = (native: Native) => async (...args: readonly Argument[]): Promise<boolean> => {
  const done = await callsElsewhere.take();
  try {
    return await new Promise((resolve, reject) => {
      native.async(...args, (error: Error | null, result: number | bigint) => (error ? reject(error) : resolve(Number(result) !== -1)));
    });
  } finally {
    done();
  }
};

const bind = (name: string, prototype: string): Call => checked(name, library.func(prototype));

/** For calls that not every C library wraps. Numbers from 424 on are the same on every architecture but alpha. */
const bindNumber = (name: string, number: number, parameters: string): Call => {
  const native = library.func(`long syscall(long number, ${parameters})`);
  return checked(name, (...args) => native(number, ...args) as number | bigint);
};

export const mount: (source: string | null, target: string, type: string | null, flags: number, data: string | null) => number =
  bind("mount", "int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)");
const nativeUmount2 = library.func("int umount2(const char *target, int flags)");
export const umount2: (target: string, flags: number) => number = checked("umount2", nativeUmount2);
export const umount2Elsewhere: (target: string, flags: number) => Promise<boolean> = elsewhere(nativeUmount2);
/** For descriptors that came from here: node warns in worker threads when its own closeSync meets one that it didn't open. */
export const close: (fd: number) => number = bind("close", "int close(int fd)");
export const fchdir: (fd: number) => number = bind("fchdir", "int fchdir(int fd)");
export const unshare: (flags: number) => number = bind("unshare", "int unshare(int flags)");
export const setns: (fd: number, type: number) => number = bind("setns", "int setns(int fd, int type)");
export const sethostname: (name: string, lengthBytes: number) => number = bind("sethostname", "int sethostname(const char *name, size_t length)");
export const ioctl: (fd: number, request: number, argument: Uint8Array) => number =
  bind("ioctl", "int ioctl(int fd, unsigned long request, _Inout_ void *argument)");

export const socket: (domain: number, type: number, protocol: number) => number = bind("socket", "int socket(int domain, int type, int protocol)");
export const connect: (fd: number, address: Uint8Array, lengthBytes: number) => number = bind("connect", "int connect(int fd, const void *address, uint32_t length)");
/** `to` becomes another name of what `from` is; what it was before is closed. */
export const dup3: (from: number, to: number, flags: number) => number = bind("dup3", "int dup3(int from, int to, int flags)");
export const setsockopt: (fd: number, level: number, name: number, value: Uint8Array, lengthBytes: number) => number =
  bind("setsockopt", "int setsockopt(int fd, int level, int name, const void *value, uint32_t length)");
const nativeSend = library.func("intptr_t send(int fd, const void *data, size_t length, int flags)");
export const send: (fd: number, data: Uint8Array, lengthBytes: number, flags: number) => number = checked("send", nativeSend);
export const sendElsewhere: (fd: number, data: Uint8Array, lengthBytes: number, flags: number) => Promise<boolean> = elsewhere(nativeSend);
export const recv: (fd: number, into: Uint8Array, lengthBytes: number, flags: number) => number =
  bind("recv", "intptr_t recv(int fd, _Out_ void *into, size_t length, int flags)");

export const memfdCreate: (name: string, flags: number) => number = bind("memfd_create", "int memfd_create(const char *name, unsigned int flags)");
const nativeFcntl = library.func("int fcntl(int fd, int command, ...)");
const F_ADD_SEALS = 1033;
export const addSeals: (fd: number, seals: number) => number = checked("fcntl", (fd, seals) => nativeFcntl(fd, F_ADD_SEALS, "int", seals) as number);

/** Two descriptors are written into `fds` (8 bytes). */
export const pipe2: (fds: Uint8Array, flags: number) => number = bind("pipe2", "int pipe2(_Out_ void *fds, int flags)");
export const waitpid: (pid: number, status: Uint8Array, options: number) => number = bind("waitpid", "int waitpid(int pid, _Out_ void *status, int options)");

/** Into `time` goes a struct timespec: two 64-bit numbers, seconds and nanoseconds. */
export const clockGettime: (clock: number, time: Uint8Array) => number = bind("clock_gettime", "int clock_gettime(int clock, _Out_ void *time)");

/** Requests that read from the other process's memory are not for this: they answer with what they read. */
export const ptrace: (request: number, pid: number, address: number, data: number) => number = bind("ptrace", "long ptrace(long request, int pid, uintptr_t address, uintptr_t data)");

/** These answer with the errno itself. */
const direct = (name: string, native: Native): ((...args: readonly unknown[]) => void) => (...args) => {
  const errno = Number(native(...args));
  if (errno !== 0) throw new SystemCallError(name, errno);
};
const bindDirect = (name: string, prototype: string): ReturnType<typeof direct> => direct(name, library.func(prototype));
type Spawn<T> = (pid: Uint8Array, path: string, actions: Uint8Array, attributes: Uint8Array, args: readonly (string | null)[], env: readonly (string | null)[]) => T;
const nativeSpawn = library.func("int posix_spawn(_Out_ void *pid, const char *path, const void *actions, const void *attributes, const char **args, const char **env)");
export const posixSpawn: Spawn<void> = direct("posix_spawn", nativeSpawn);
/** In a thread of Node's pool: a child of this process all the same, in that thread's namespaces. */
export const posixSpawnElsewhere: Spawn<Promise<void>> = async (...args) => {
  const done = await callsElsewhere.take();
  try {
    const errno = await new Promise<number>((resolve, reject) => {
      nativeSpawn.async(...args, (error: Error | null, result: number) => (error ? reject(error) : resolve(result)));
    });
    if (errno !== 0) throw new SystemCallError("posix_spawn", errno);
  } finally {
    done();
  }
};
export const spawnActions = {
  init: bindDirect("posix_spawn_file_actions_init", "int posix_spawn_file_actions_init(_Inout_ void *actions)"),
  duplicate: bindDirect("posix_spawn_file_actions_adddup2", "int posix_spawn_file_actions_adddup2(_Inout_ void *actions, int from, int to)"),
  // glibc 2.29, musl 1.1.24
  changeDirectory: bindDirect("posix_spawn_file_actions_addchdir_np", "int posix_spawn_file_actions_addchdir_np(_Inout_ void *actions, const char *path)"),
  destroy: bindDirect("posix_spawn_file_actions_destroy", "int posix_spawn_file_actions_destroy(_Inout_ void *actions)"),
} as const;
export const spawnAttributes = {
  init: bindDirect("posix_spawnattr_init", "int posix_spawnattr_init(_Inout_ void *attributes)"),
  setFlags: bindDirect("posix_spawnattr_setflags", "int posix_spawnattr_setflags(_Inout_ void *attributes, short flags)"),
  setDefaultSignals: bindDirect("posix_spawnattr_setsigdefault", "int posix_spawnattr_setsigdefault(_Inout_ void *attributes, const void *signals)"),
  setSignalMask: bindDirect("posix_spawnattr_setsigmask", "int posix_spawnattr_setsigmask(_Inout_ void *attributes, const void *signals)"),
} as const;

/** `parameters` is struct sched_param: one int, the priority. */
export const schedSetscheduler: (pid: number, policy: number, parameters: Uint8Array) => number =
  bind("sched_setscheduler", "int sched_setscheduler(int pid, int policy, const void *parameters)");

/** `which` 0 and `who` 0: the calling thread (Linux; POSIX would have the process). */
export const setpriority: (which: number, who: number, nice: number) => number = bind("setpriority", "int setpriority(int which, unsigned int who, int nice)");

/** Of this thread alone, whatever the C library. */
export const prctl: (option: number, argument: number, unused3: number, unused4: number, unused5: number) => number =
  bind("prctl", "int prctl(int option, unsigned long argument, unsigned long unused3, unsigned long unused4, unsigned long unused5)");
/** These answer with the id before, and never with an error. */
export const setfsuid: (id: number) => number = bind("setfsuid", "int setfsuid(uint32_t id)");
export const setfsgid: (id: number) => number = bind("setfsgid", "int setfsgid(uint32_t id)");

export const mknod: (path: string, mode: number, device: bigint) => number = bind("mknod", "int mknod(const char *path, uint32_t mode, uint64_t device)");
export const lsetxattr: (path: string, name: string, value: Uint8Array, sizeBytes: number, flags: number) => number =
  bind("lsetxattr", "int lsetxattr(const char *path, const char *name, const void *value, size_t size, int flags)");
export const lgetxattr: (path: string, name: string, value: Uint8Array | null, sizeBytes: number) => number =
  bind("lgetxattr", "intptr_t lgetxattr(const char *path, const char *name, _Out_ void *value, size_t size)");
export const llistxattr: (path: string, list: Uint8Array | null, sizeBytes: number) => number =
  bind("llistxattr", "intptr_t llistxattr(const char *path, _Out_ void *list, size_t size)");
export const lremovexattr: (path: string, name: string) => number = bind("lremovexattr", "int lremovexattr(const char *path, const char *name)");

export const pidfdSendSignal: (pidfd: number, signal: number, info: null, flags: number) => number =
  bindNumber("pidfd_send_signal", 424, "int pidfd, int signal, void *info, unsigned int flags");
export const pidfdOpen: (pid: number, flags: number) => number = bindNumber("pidfd_open", 434, "int pid, unsigned int flags");
export const openTree: (directory: number, path: string, flags: number) => number = bindNumber("open_tree", 428, "int directory, const char *path, unsigned int flags");
export const moveMount: (from: number, fromPath: string, to: number, toPath: string, flags: number) => number =
  bindNumber("move_mount", 429, "int from, const char *fromPath, int to, const char *toPath, unsigned int flags");
export const openat2: (directory: number, path: string, how: Uint8Array, sizeBytes: number) => number =
  bindNumber("openat2", 437, "int directory, const char *path, const void *how, size_t size");
export const mountSetattr: (directory: number, path: string, flags: number, attributes: Uint8Array, sizeBytes: number) => number =
  bindNumber("mount_setattr", 442, "int directory, const char *path, unsigned int flags, const void *attributes, size_t size");
