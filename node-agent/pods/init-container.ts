// The init process of a shared process namespace (shareProcessNamespace): a namespace lives as long as its first process, and none of a
// pod's containers lives as long as the pod. A program of some 170 bytes that ignores its children, so that the kernel buries orphans,
// and sleeps for ever. It is made here because nothing can be counted on in the pods' images or on the node. Pure but for ensureInitLayer.
import { ensureProgram, staticProgram, type ProgramText } from "../linux/static-program.ts";
import type { ContainerSpec } from "../runtime/container-runtime.ts";
import type { Assignment } from "./assignment.ts";
import type { SandboxFacts } from "./container-spec.ts";

/** No container can have this name: it is not a DNS label. */
export const INIT_NAME = "_init";

/**
 * rt_sigaction(SIGCHLD, &{ sa_handler: SIG_IGN }, NULL, 8); for (;;) pause();
 * As the first process of a namespace it gets no signal that it has no handler for, but SIGKILL from outside.
 */
const CODE: ProgramText = {
  // mov eax,13; mov edi,17; lea rsi,[rip+19]; xor edx,edx; mov r10d,8; syscall; again: mov eax,34; syscall; jmp again
  x64: "b80d000000bf11000000488d351300000031d241ba080000000f05b8220000000f05ebf7",
  // mov x8,134; mov x0,17; adr x1,+44; mov x2,0; mov x3,8; svc 0; again: mov x0,0; mov x1,0; mov x2,0; mov x3,0; mov x8,73 (ppoll); svc 0; b again
  arm64: "c81080d2200280d261010010020080d2030180d2010000d4000080d2010080d2020080d2030080d2280980d2010000d4faffff17",
};

export const initProgram = (arch: string): Buffer => {
  const action = Buffer.alloc(32); // struct sigaction of the kernel: handler, flags, restorer, mask
  action.writeBigUInt64LE(1n, 0); // SIG_IGN
  return staticProgram("shareProcessNamespace", arch, CODE, action);
};

/** The directory, with the program in it. Idempotent. */
export const ensureInitLayer = (directory: string, arch: string): string => {
  ensureProgram(directory, "init", initProgram(arch));
  return directory;
};

/** With less right than anybody: no user, no capability, no network of note; it does nothing. */
export const buildInitSpec = ({ id, pod, sandbox, layerDir, logPath }: {
  readonly id: string; readonly pod: Assignment; readonly sandbox: SandboxFacts; readonly layerDir: string; readonly logPath: string;
}): ContainerSpec => ({
  id, name: INIT_NAME, layerDirs: [layerDir], args: ["/init"], env: [], cwd: "/", user: "65535:65535", supplementalGroups: [],
  // Of the pod's own users, where it has such: the namespace must be theirs, or the others can't join it (runc) or mount its /proc.
  hostname: sandbox.hostname, namespaces: sandbox.namespaces, mounts: [],
  tty: false, stdin: false, readOnlyRoot: true, privileged: false, noNewPrivileges: true, capabilitiesAdd: [], capabilitiesDrop: ["ALL"], seccomp: { type: "RuntimeDefault" }, sysctls: {},
  cgroupPath: `${sandbox.cgroupPath}/${id}`, limits: { cpuShares: 2, cpuQuotaMilli: 0, memoryBytes: 0, pids: 0 }, oomScoreAdj: -998, logPath, ...(pod.runtimeClass === "" ? {} : { handler: pod.runtimeClass }),
  labels: {
    "io.kubernetes.pod.uid": pod.uid, "io.kubernetes.pod.namespace": pod.namespace, "io.kubernetes.pod.name": pod.name,
    "io.kubernetes.container.name": INIT_NAME, "io.gantry.container.attempt": "0",
  },
});
