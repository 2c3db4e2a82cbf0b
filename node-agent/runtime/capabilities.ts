// Linux capabilities by name and number (linux/capability.h), and the set that a container gets. Pure but for readBoundingSet.
import { readFileSync } from "node:fs";
import { GantryError } from "../../base/errors.ts";

/** In order of their numbers. */
const CAPABILITIES = (
  "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER "
  + "SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP "
  + "MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
).split(" ");

/** What Docker and containerd leave a container. */
const DEFAULT = "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE".split(" ");

const plainName = (field: string, name: string): string => {
  const plain = name.toUpperCase().replace(/^CAP_/, "");
  if (plain === "ALL" || CAPABILITIES.includes(plain)) return plain;
  throw new GantryError("Invalid", `${field}: ${JSON.stringify(name)} is not a Linux capability: one such as NET_ADMIN, or ALL`);
};

/** CAP_NAMEs of a container; `bounding` is what this machine can give at all. "Invalid" for an unknown name. */
export const containerCapabilities = (
  options: { readonly privileged: boolean; readonly add: readonly string[]; readonly drop: readonly string[] }, bounding: ReadonlySet<string>,
): readonly string[] => {
  const add = new Set(options.add.map((name) => plainName("capabilities.add", name)));
  const drop = new Set(options.drop.map((name) => plainName("capabilities.drop", name)));
  const base = options.privileged || add.has("ALL") ? CAPABILITIES : drop.has("ALL") ? [] : DEFAULT;
  const kept = new Set([...base.filter((name) => !drop.has(name)), ...add]);
  return CAPABILITIES.filter((name) => kept.has(name)).map((name) => `CAP_${name}`).filter((name) => bounding.has(name));
};

/** The capabilities that a mask of /proc/PID/status stands for. */
export const capabilitiesOfMask = (hex: string): ReadonlySet<string> => {
  const mask = BigInt(`0x${hex}`);
  return new Set(CAPABILITIES.filter((_, i) => (mask >> BigInt(i)) & 1n).map((name) => `CAP_${name}`));
};

/** What this process may hand on: asking an OCI runtime for more makes it fail. */
export const readBoundingSet = (): ReadonlySet<string> => {
  const mask = /^CapBnd:\s*([0-9a-f]+)/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1];
  return capabilitiesOfMask(mask ?? "0");
};
