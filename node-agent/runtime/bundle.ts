// From a ContainerSpec to an OCI runtime-spec 1.0 config.json. Pure: what the machine is like comes in as Host.
// Sources: OCI runtime-spec (config.md, config-linux.md); default mounts, masked and read-only paths as containerd's and Docker's.
import { GantryError } from "../../base/errors.ts";
import type { DeviceMapping, Ulimit } from "../../base/kube/container-extras.ts";
import type { CgroupFeatures } from "../cgroups/cgroup-tree.ts";
import { SWAP_FILES, memoryAndSwapBytes } from "../cgroups/limits.ts";
import { ociBlockIo } from "./block-io.ts";
import { containerCapabilities } from "./capabilities.ts";
import type { ContainerSpec } from "./container-runtime.ts";
import { defaultSeccomp, type OciSeccomp } from "./seccomp-default.ts";
import type { OciUser } from "./user.ts";

/** What config.json depends on besides the container. */
export interface Host {
  /** amd64, arm64. */
  readonly architecture: string;
  readonly cgroupV2: boolean;
  readonly cgroupFeatures: CgroupFeatures;
  /** CAP_NAMEs that can be handed on. */
  readonly boundingSet: ReadonlySet<string>;
  /** Lower values than this one's can't be set (no CAP_SYS_RESOURCE); -1000 when they can. */
  readonly leastOomScoreAdj: number;
  /** Devices of the host, for privileged containers. */
  readonly devices: () => readonly OciDevice[];
  /** What lies at a path of the host: one device, or all in a folder; none where there is nothing. */
  readonly devicesAt: (path: string) => readonly OciDevice[];
  /** Path of a static program that is an init for one command (tini, catatonit); undefined where none is installed. */
  readonly initProgram: () => string | undefined;
  readonly readSeccompProfile: (name: string) => OciSeccomp;
  /** Names of the AppArmor profiles that are loaded; undefined where the kernel doesn't have it, or not turned on. */
  readonly appArmorProfiles: () => ReadonlySet<string> | undefined;
}

export interface OciDevice {
  readonly path: string;
  readonly type: "c" | "b";
  readonly major: number;
  readonly minor: number;
  readonly fileMode: number;
  readonly uid: number;
  readonly gid: number;
}

interface OciMount {
  readonly destination: string;
  readonly type: string;
  readonly source: string;
  readonly options: readonly string[];
}

export interface OciProcess {
  readonly terminal: boolean;
  readonly user: OciUser;
  readonly args: readonly string[];
  readonly env: readonly string[];
  readonly cwd: string;
  readonly capabilities: Readonly<Record<"bounding" | "effective" | "permitted", readonly string[]>>;
  readonly noNewPrivileges: boolean;
  readonly apparmorProfile?: string;
  readonly oomScoreAdj: number;
  readonly rlimits?: readonly OciRlimit[];
}

interface OciRlimit {
  readonly type: string;
  /** Unlimited is 2^64 here: see ociJson. */
  readonly soft: number;
  readonly hard: number;
}

/** The parts of config.json that somebody reads again; the rest is for the OCI runtime. */
export interface OciConfig {
  readonly process: OciProcess;
  readonly [key: string]: unknown;
}

const CPU_PERIOD_US = 100_000;
/** The kernel refuses less than 1 ms of quota. */
const LEAST_CPU_QUOTA_US = 1000;

/** Empty in a container, as containerd and Docker have it. */
const MASKED_PATHS = [
  "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi",
  "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
];
const READONLY_PATHS = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/** Cgroup device rules: no access but to the harmless devices (runtime-spec, default devices) and to terminals; nodes may be made (CAP_MKNOD). */
const DEVICE_RULES = [
  { allow: false, access: "rwm" },
  { allow: true, type: "c", access: "m" },
  { allow: true, type: "b", access: "m" },
  ...[[1, 3], [1, 5], [1, 7], [1, 8], [1, 9], [5, 0], [5, 2]].map(([major, minor]) => ({ allow: true, type: "c", major, minor, access: "rwm" })),
  { allow: true, type: "c", major: 136, access: "rwm" },
];

const baseMounts = (spec: ContainerSpec, host: Host): readonly OciMount[] => {
  const writable = spec.privileged ? "rw" : "ro";
  return [
    { destination: "/proc", type: "proc", source: "proc", options: ["nosuid", "noexec", "nodev"] },
    { destination: "/dev", type: "tmpfs", source: "tmpfs", options: ["nosuid", "strictatime", "mode=755", "size=65536k"] },
    { destination: "/dev/pts", type: "devpts", source: "devpts", options: ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
    { destination: "/dev/shm", type: "tmpfs", source: "shm", options: ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
    { destination: "/dev/mqueue", type: "mqueue", source: "mqueue", options: ["nosuid", "noexec", "nodev"] },
    // A new sysfs can only be mounted by the owner of the network namespace; a pod joins one, so this holds in every case.
    { destination: "/sys", type: "sysfs", source: "sysfs", options: ["nosuid", "noexec", "nodev", writable] },
    { destination: "/sys/fs/cgroup", type: "cgroup", source: "cgroup", options: ["nosuid", "noexec", "nodev", "relatime", writable] },
  ].filter((mount) => host.cgroupV2 || mount.destination !== "/sys/fs/cgroup" || spec.privileged);
};

/** Where the init is in the container; below /dev, which is the container's own tmpfs: nothing of it stays in the writable layer. */
const INIT_PATH = "/dev/init";

const initMount = (host: Host): OciMount => {
  const source = host.initProgram();
  if (source === undefined) throw new GantryError("Invalid", "--init: this node has no init to give: install tini (Debian: apt-get install tini) or catatonit");
  return { source, destination: INIT_PATH, type: "bind", options: ["bind", "ro", "nosuid", "nodev"] };
};

declare global {
  interface JSON {
    /** https://github.com/tc39/proposal-json-parse-with-source */
    rawJSON(text: string): unknown;
  }
}

const RLIM_INFINITY = 2n ** 64n - 1n;
/** What JSON.parse makes of it: a number of JavaScript has not so many digits. */
const UNLIMITED = Number(RLIM_INFINITY);

/** For all that an OCI runtime reads: the one number that JSON.stringify would write too large for it is written as it is. */
export const ociJson = (value: unknown): string => JSON.stringify(value, (_key, item: unknown) => (item === UNLIMITED ? JSON.rawJSON(RLIM_INFINITY.toString()) : item));

/** https://github.com/opencontainers/runtime-spec/blob/main/config.md#posix-process */
const rlimits = (given: readonly Ulimit[]): readonly OciRlimit[] => {
  const value = (limit: number): number => (limit === -1 ? UNLIMITED : limit);
  return given.map(({ name, soft, hard }) => ({ type: `RLIMIT_${name.toUpperCase()}`, soft: value(soft), hard: value(hard) }));
};

/** Each device under its name in the container, with its rule for the control group. "Invalid" when there is none. */
const ownDevices = (mappings: readonly DeviceMapping[], host: Host): readonly { readonly device: OciDevice; readonly access: string }[] =>
  mappings.flatMap(({ source, target, access }) => {
    const found = host.devicesAt(source);
    if (found.length === 0) throw new GantryError("Invalid", `device ${JSON.stringify(source)}: this node has no such device`);
    return found.map((device) => ({ device: { ...device, path: `${target}${device.path.slice(source.length)}` }, access }));
  });

/** Parents before what is mounted inside them, whatever order they came in. A mount of the same path replaces a default one. */
const allMounts = (spec: ContainerSpec, host: Host): readonly OciMount[] => {
  const own = spec.mounts.map((m) => ({ ...m, options: m.type === "bind" && !m.options.some((o) => o === "bind" || o === "rbind") ? ["rbind", ...m.options] : m.options }));
  const taken = new Set(own.map((m) => m.destination));
  const depth = (path: string): number => path.split("/").filter(Boolean).length;
  return [...baseMounts(spec, host).filter((m) => !taken.has(m.destination)), ...own.sort((a, b) => depth(a.destination) - depth(b.destination))];
};

const namespaces = (spec: ContainerSpec, host: Host): readonly { type: string; path?: string }[] => {
  const joined = (type: string, path: string | undefined): { type: string; path?: string }[] =>
    path === "host" ? [] : path === undefined || path === "" ? [{ type }] : [{ type, path }];
  return [
    { type: "mount" },
    ...joined("pid", spec.namespaces.pid),
    ...joined("network", spec.namespaces.network),
    ...joined("ipc", spec.namespaces.ipc),
    ...joined("uts", spec.namespaces.uts),
    ...(spec.namespaces.user ? [{ type: "user", path: spec.namespaces.user.path }] : []),
    ...(host.cgroupV2 && !spec.privileged ? [{ type: "cgroup" }] : []),
  ];
};

/** runc wants to be told what the namespace that is joined knows already; crun compares. */
const idMappings = ({ namespaces: { user } }: ContainerSpec): Record<string, unknown> => {
  if (!user) return {};
  const mappings = [{ containerID: 0, hostID: user.firstId, size: user.count }];
  return { uidMappings: mappings, gidMappings: mappings };
};

const isProcBare = ({ privileged, unmaskedProc }: Pick<ContainerSpec, "privileged" | "unmaskedProc">): boolean => privileged || unmaskedProc === true;

/** What config.json asks for to keep /proc and /sys from being used against the machine. */
export interface ClosedPaths {
  /** Show nothing. */
  readonly masked: readonly string[];
  readonly readOnly: readonly string[];
  /** Whole file systems of the kernel, without which the two above would hide and protect something else. */
  readonly fileSystems: readonly { readonly path: string; readonly type: string }[];
}

export const closedPaths = (spec: Pick<ContainerSpec, "privileged" | "unmaskedProc" | "mounts">): ClosedPaths => {
  if (isProcBare(spec)) return { masked: [], readOnly: [], fileSystems: [] };
  // A volume on /sys shows itself, and nothing of the machine that its owner didn't give.
  const hasSys = !spec.mounts.some((m) => m.destination === "/sys");
  return { masked: MASKED_PATHS, readOnly: READONLY_PATHS, fileSystems: [{ path: "/proc", type: "proc" }, ...(hasSys ? [{ path: "/sys", type: "sysfs" }] : [])] };
};

const seccomp = (spec: ContainerSpec, host: Host, capabilities: readonly string[]): OciSeccomp | undefined => {
  if (spec.privileged || spec.seccomp.type === "Unconfined") return undefined;
  return spec.seccomp.type === "Localhost" ? host.readSeccompProfile(spec.seccomp.profile) : defaultSeccomp(host.architecture, new Set(capabilities));
};

/** Those that docker and containerd load for themselves: Gantry brings none of its own. */
const DEFAULT_APP_ARMOR = ["docker-default", "cri-containerd.apparmor.d", "containers-default"];

const appArmor = ({ privileged, appArmor: wanted = { type: "RuntimeDefault" } }: ContainerSpec, host: Host): string | undefined => {
  const loaded = wanted.type === "Unconfined" ? undefined : host.appArmorProfiles();
  if (wanted.type !== "Localhost") return privileged ? undefined : DEFAULT_APP_ARMOR.find((name) => loaded?.has(name));
  if (!loaded) throw new GantryError("Invalid", `appArmorProfile.localhostProfile: cannot enforce ${JSON.stringify(wanted.profile)}: AppArmor is not enabled on this node`);
  if (!loaded.has(wanted.profile)) throw new GantryError("Invalid", `appArmorProfile.localhostProfile: no profile ${JSON.stringify(wanted.profile)} is loaded on this node`);
  return wanted.profile;
};

/** `memory.swap` is memory and swap together, as version 1 has it, and can't say "no swap, and any amount of memory" of version 2. */
const memoryOf = ({ limits: { memoryBytes, swapBytes } }: ContainerSpec, { cgroupV2, cgroupFeatures }: Host): Record<string, unknown> => {
  if (memoryBytes === 0) return {};
  return { memory: { limit: memoryBytes, ...(cgroupV2 || !cgroupFeatures.swap || swapBytes === undefined ? {} : { swap: memoryAndSwapBytes(memoryBytes, swapBytes) }) } };
};

/** Files of version 2 that have no name in the specification. */
const unifiedOf = ({ limits: { swapBytes }, oomGroup }: ContainerSpec, { cgroupV2, cgroupFeatures }: Host): Record<string, unknown> => {
  const files = {
    ...(cgroupFeatures.swap && swapBytes !== undefined ? { [SWAP_FILES.v2]: swapBytes < 0 ? "max" : String(swapBytes) } : {}),
    ...(cgroupFeatures.oomGroup && oomGroup ? { "memory.oom.group": "1" } : {}),
  };
  return cgroupV2 && Object.keys(files).length > 0 ? { unified: files } : {};
};

const blockIoOf = ({ blockIo = {} }: ContainerSpec, { cgroupFeatures, devicesAt }: Host): Record<string, unknown> => {
  const io = ociBlockIo(blockIo, cgroupFeatures, devicesAt);
  return io ? { blockIO: io } : {};
};

const resources = (spec: ContainerSpec, host: Host, devices: ReturnType<typeof ownDevices>): Record<string, unknown> => {
  const { cpuShares, cpuQuotaMilli, pids, hugePages } = spec.limits;
  const { hugePageSizes } = host.cgroupFeatures;
  const own = devices.map(({ device: { type, major, minor }, access }) => ({ allow: true, type, major, minor, access }));
  return {
    devices: spec.privileged ? [{ allow: true, access: "rwm" }] : [...DEVICE_RULES, ...own],
    cpu: {
      shares: Math.max(2, cpuShares),
      ...(spec.cpusetCpus ? { cpus: spec.cpusetCpus } : {}), ...(spec.cpusetMems ? { mems: spec.cpusetMems } : {}),
      ...(cpuQuotaMilli > 0 ? { quota: Math.max(LEAST_CPU_QUOTA_US, Math.round((cpuQuotaMilli * CPU_PERIOD_US) / 1000)), period: CPU_PERIOD_US } : {}),
    },
    ...memoryOf(spec, host), ...unifiedOf(spec, host), ...blockIoOf(spec, host),
    ...(pids > 0 ? { pids: { limit: pids } } : {}),
    ...(hugePages && hugePageSizes.length > 0 ? { hugepageLimits: hugePageSizes.map((pageSize) => ({ pageSize, limit: hugePages[pageSize] ?? 0 })) } : {}),
  };
};

/** A privileged container has all of the host's; those that are given besides have another name. */
const deviceNodes = (spec: ContainerSpec, host: Host, own: readonly OciDevice[]): { readonly devices?: readonly OciDevice[] } => {
  const taken = new Set(own.map((d) => d.path));
  const all = spec.privileged ? [...host.devices().filter((d) => !taken.has(d.path)), ...own] : own;
  return all.length === 0 ? {} : { devices: all };
};

/**
 * `user` was looked up in the root filesystem; `cgroupsPath` is absolute below the mount of each hierarchy; `rootPath` is the mounted
 * root. "Invalid" for an empty command, a relative working directory, an unknown capability.
 */
export const buildConfig = (spec: ContainerSpec, user: OciUser, host: Host, paths: { readonly rootPath: string; readonly cgroupsPath: string }): OciConfig => {
  if (spec.args.length === 0) throw new GantryError("Invalid", "no command specified: neither the container nor its image says what to run");
  if (!spec.cwd.startsWith("/")) throw new GantryError("Invalid", `workingDir: ${JSON.stringify(spec.cwd)} is not an absolute path`);
  const capabilities = containerCapabilities({ privileged: spec.privileged, add: spec.capabilitiesAdd, drop: spec.capabilitiesDrop }, host.boundingSet);
  const profile = seccomp(spec, host, capabilities);
  const apparmorProfile = appArmor(spec, host);
  const devices = ownDevices(spec.devices ?? [], host);
  return {
    ociVersion: "1.0.2",
    process: {
      terminal: spec.tty, ...(spec.tty && spec.consoleSize ? { consoleSize: spec.consoleSize } : {}),
      user,
      args: spec.init ? [INIT_PATH, "--", ...spec.args] : spec.args,
      env: spec.env,
      cwd: spec.cwd,
      capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities },
      noNewPrivileges: spec.noNewPrivileges && !spec.privileged,
      ...(apparmorProfile === undefined ? {} : { apparmorProfile }),
      oomScoreAdj: Math.max(host.leastOomScoreAdj, spec.oomScoreAdj),
      ...(spec.rlimits && spec.rlimits.length > 0 ? { rlimits: rlimits(spec.rlimits) } : {}),
    },
    root: { path: paths.rootPath, readonly: spec.readOnlyRoot },
    // The name of a joined UTS namespace is its owner's; setting it again would need no right of ours, but says nothing new.
    ...(spec.namespaces.uts === "" ? { hostname: spec.hostname } : {}),
    mounts: [...allMounts(spec, host), ...(spec.init ? [initMount(host)] : [])],
    // For whoever finds the bundle after a crash: the way back from linux.cgroupsPath.
    annotations: { "io.gantry.cgroup": spec.cgroupPath },
    linux: {
      namespaces: namespaces(spec, host),
      ...idMappings(spec),
      resources: resources(spec, host, devices),
      cgroupsPath: paths.cgroupsPath,
      ...(Object.keys(spec.sysctls).length > 0 ? { sysctl: spec.sysctls } : {}),
      ...(profile ? { seccomp: profile } : {}),
      ...deviceNodes(spec, host, devices.map(({ device }) => device)),
      ...(isProcBare(spec) ? {} : { maskedPaths: MASKED_PATHS, readonlyPaths: READONLY_PATHS }),
    },
  };
};
