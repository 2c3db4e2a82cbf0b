// What docker's flags say of a container's first process and control group, and Kubernetes has no field for: annotations of a pod, that hold for each of its
// containers. `gantry run` writes them, the API checks them, the node agent obeys. Pure.
import { GantryError } from "../errors.ts";

export const ExtrasAnnotation = {
  /** "nofile=1024:2048,core=-1": soft and hard limit, -1 for none; one number is both. */
  ulimits: "gantry.io/ulimits",
  /** "/dev/fuse:/dev/fuse:rwm,/dev/kvm:/dev/kvm:rw": path on the node (a folder: all that is in it), path in the container, access. */
  devices: "gantry.io/devices",
  /** "true": a small init is process 1, that passes signals on and buries orphans. */
  init: "gantry.io/init",
  /** Processes and threads; -1: without a limit. */
  pidsLimit: "gantry.io/pids-limit",
  /** Weight of its CPU time, 2 to 262144; 1024 is docker's usual. */
  cpuShares: "gantry.io/cpu-shares",
  /** "0-2,7". */
  cpusetCpus: "gantry.io/cpuset-cpus",
  /** NUMA nodes, in the same form. */
  cpusetMems: "gantry.io/cpuset-mems",
  /** Bytes of memory and swap together; -1: without a limit. */
  memorySwap: "gantry.io/memory-swap",
  /** -1000 to 1000; docker's --oom-score-adj. */
  oomScoreAdj: "gantry.io/oom-score-adj",
  /** "audio,video": more groups of its user, by names that only the image's /etc/group knows. */
  groups: "gantry.io/groups",
  /** Weight of its block I/O, 10 to 1000. */
  blkioWeight: "gantry.io/blkio-weight",
  /** "/dev/vda:1048576,/dev/vdb:65536": bytes a second, and below operations a second, of block devices of the node. */
  deviceReadBps: "gantry.io/device-read-bps",
  deviceWriteBps: "gantry.io/device-write-bps",
  deviceReadIops: "gantry.io/device-read-iops",
  deviceWriteIops: "gantry.io/device-write-iops",
  /** "30x90": rows and columns that its terminal begins with. */
  consoleSize: "gantry.io/console-size",
} as const;

/** `<prefix><volume>: "mode=1770,uid=1000,noexec"`: how the pod's volume in memory (emptyDir, medium Memory) is mounted. */
export const TMPFS_ANNOTATION_PREFIX = "tmpfs.gantry.io/";

export const ULIMITS = ["as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio", "rttime", "sigpending", "stack"] as const;

export interface Ulimit {
  readonly name: (typeof ULIMITS)[number];
  /** -1: unlimited. */
  readonly soft: number;
  readonly hard: number;
}

export interface DeviceMapping {
  readonly source: string;
  readonly target: string;
  /** Some of r, w, m (mknod). */
  readonly access: string;
}

/** Of one block device. */
export interface DeviceRate {
  readonly device: string;
  /** Bytes or operations a second. */
  readonly rate: number;
}

export interface BlockIo {
  readonly blkioWeight?: number;
  readonly deviceReadBps?: readonly DeviceRate[];
  readonly deviceWriteBps?: readonly DeviceRate[];
  readonly deviceReadIops?: readonly DeviceRate[];
  readonly deviceWriteIops?: readonly DeviceRate[];
}

export interface ContainerExtras extends BlockIo {
  readonly ulimits: readonly Ulimit[];
  readonly devices: readonly DeviceMapping[];
  readonly init: boolean;
  readonly groups: readonly string[];
  /** Undefined, here and below: as without it. */
  readonly pidsLimit?: number;
  readonly cpuShares?: number;
  readonly cpusetCpus?: string;
  readonly cpusetMems?: string;
  readonly memorySwapBytes?: number;
  readonly oomScoreAdj?: number;
  readonly consoleSize?: ConsoleSize;
}

export interface ConsoleSize {
  readonly height: number;
  readonly width: number;
}

export const NO_EXTRAS: ContainerExtras = { ulimits: [], devices: [], init: false, groups: [] };

const fault = (where: string, text: string, wanted: string): GantryError => new GantryError("BadRequest", `${where}: ${JSON.stringify(text)} is not ${wanted}`);

/** "nofile=1024:2048". "BadRequest" names `where`, here and below. */
export const parseUlimit = (where: string, text: string): Ulimit => {
  const match = /^([a-z]+)=(-1|\d{1,15})(?::(-1|\d{1,15}))?$/.exec(text);
  const name = ULIMITS.find((n) => n === match?.[1]);
  if (!match || !name) throw fault(where, text, `NAME=SOFT[:HARD], such as nofile=1024:2048; NAME is one of ${ULIMITS.join(", ")}`);
  const [soft, hard] = [Number(match[2]), Number(match[3] ?? match[2])];
  if (hard !== -1 && (soft === -1 || soft > hard)) throw fault(where, text, "right: the soft limit may not be above the hard one");
  return { name, soft, hard };
};

/** "/dev/a[:/dev/b][:rwm]". */
export const parseDevice = (where: string, text: string): DeviceMapping => {
  const parts = text.split(":");
  const access = parts.length > 1 && /^[rwm]{1,3}$/.test(parts.at(-1)!) ? parts.pop()! : "rwm";
  const [source = "", target = source] = parts;
  if (parts.length > 2 || !source.startsWith("/") || !target.startsWith("/") || new Set(access).size !== access.length) throw fault(where, text, "/dev/NAME[:/dev/NAME-IN-THE-CONTAINER][:rwm]");
  return { source, target, access };
};

/** A name or number of a group. */
export const parseGroup = (where: string, text: string): string => {
  if (!/^[^\s:,]{1,256}$/.test(text)) throw fault(where, text, "a group: a number, or a name of the image's /etc/group");
  return text;
};

export const parseCpuset = (where: string, text: string): string => {
  if (!/^\d{1,5}(-\d{1,5})?(,\d{1,5}(-\d{1,5})?)*$/.test(text)) throw fault(where, text, "a list such as 0-2,7");
  return text;
};

const wholeOf = (where: string, text: string, least: number, most: number): number => {
  const value = /^-?\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= least && value <= most)) throw fault(where, text, `a whole number from ${least} to ${most}`);
  return value;
};

/** -1 for no limit, or 1 and more. */
const limitOf = (where: string, text: string): number => {
  if (text === "0") throw fault(where, text, "more than 0, or -1 for no limit");
  return wholeOf(where, text, -1, Number.MAX_SAFE_INTEGER);
};

export const parsePidsLimit = limitOf;
export const parseCpuShares = (where: string, text: string): number => wholeOf(where, text, 2, 262_144);
export const parseBlkioWeight = (where: string, text: string): number => wholeOf(where, text, 10, 1000);

const wholeRate = (where: string, text: string): number => wholeOf(where, text, 1, Number.MAX_SAFE_INTEGER);

/** "/dev/vda:1048576"; `parseRate` reads what stands behind the device. */
export const parseDeviceRate = (where: string, text: string, parseRate: (where: string, text: string) => number = wholeRate): DeviceRate => {
  const match = /^(\/[^:,]+):([^:]+)$/.exec(text);
  const rate = match ? parseRate(where, match[2]!) : 0;
  if (!match || rate < 1) throw fault(where, text, "/dev/NAME:RATE with a rate above 0, such as /dev/sda:1048576");
  return { device: match[1]!, rate };
};

const rates = (where: string, text: string): readonly DeviceRate[] => text.split(",").map((one) => parseDeviceRate(where, one));

export const parseOomScoreAdj = (where: string, text: string): number => wholeOf(where, text, -1000, 1000);

const parsers: { readonly [K in keyof typeof ExtrasAnnotation]: (where: string, text: string) => Partial<ContainerExtras> } = {
  ulimits: (where, text) => ({ ulimits: text.split(",").map((one) => parseUlimit(where, one)) }),
  devices: (where, text) => ({ devices: text.split(",").map((one) => parseDevice(where, one)) }),
  init: (where, text) => {
    if (text !== "true" && text !== "false") throw fault(where, text, "true or false");
    return { init: text === "true" };
  },
  pidsLimit: (where, text) => ({ pidsLimit: parsePidsLimit(where, text) }),
  cpuShares: (where, text) => ({ cpuShares: parseCpuShares(where, text) }),
  cpusetCpus: (where, text) => ({ cpusetCpus: parseCpuset(where, text) }),
  cpusetMems: (where, text) => ({ cpusetMems: parseCpuset(where, text) }),
  memorySwap: (where, text) => ({ memorySwapBytes: limitOf(where, text) }),
  oomScoreAdj: (where, text) => ({ oomScoreAdj: parseOomScoreAdj(where, text) }),
  groups: (where, text) => ({ groups: text.split(",").map((one) => parseGroup(where, one)) }),
  blkioWeight: (where, text) => ({ blkioWeight: parseBlkioWeight(where, text) }),
  deviceReadBps: (where, text) => ({ deviceReadBps: rates(where, text) }),
  deviceWriteBps: (where, text) => ({ deviceWriteBps: rates(where, text) }),
  deviceReadIops: (where, text) => ({ deviceReadIops: rates(where, text) }),
  deviceWriteIops: (where, text) => ({ deviceWriteIops: rates(where, text) }),
  consoleSize: (where, text) => {
    const match = /^(\d{1,5})x(\d{1,5})$/.exec(text);
    if (!match) throw fault(where, text, "ROWSxCOLUMNS, such as 24x80");
    return { consoleSize: { height: Number(match[1]), width: Number(match[2]) } };
  },
};

const KEYS = Object.keys(ExtrasAnnotation) as readonly (keyof typeof ExtrasAnnotation)[];

/** "BadRequest" names the annotation, its value and what would be right. */
export const parseExtras = (annotations: Readonly<Record<string, string>> | undefined): ContainerExtras => {
  const given = KEYS.flatMap((key) => {
    const text = annotations?.[ExtrasAnnotation[key]];
    return text === undefined ? [] : [parsers[key](`annotation ${ExtrasAnnotation[key]}`, text)];
  });
  return Object.assign({}, NO_EXTRAS, ...given) as ContainerExtras;
};

const whenGiven = (name: string, value: string | number | undefined): Readonly<Record<string, string>> => (value === undefined || value === "" ? {} : { [name]: String(value) });

const RATES = ["deviceReadBps", "deviceWriteBps", "deviceReadIops", "deviceWriteIops"] as const;

/** What parseExtras reads. */
export const extrasAnnotations = ({ ulimits, devices, init, groups, ...rest }: ContainerExtras): Readonly<Record<string, string>> => ({
  ...whenGiven(ExtrasAnnotation.ulimits, ulimits.map((u) => `${u.name}=${u.soft}:${u.hard}`).join(",")),
  ...whenGiven(ExtrasAnnotation.devices, devices.map((d) => `${d.source}:${d.target}:${d.access}`).join(",")),
  ...whenGiven(ExtrasAnnotation.groups, groups.join(",")),
  ...(init ? { [ExtrasAnnotation.init]: "true" } : {}),
  ...whenGiven(ExtrasAnnotation.pidsLimit, rest.pidsLimit), ...whenGiven(ExtrasAnnotation.cpuShares, rest.cpuShares), ...whenGiven(ExtrasAnnotation.cpusetCpus, rest.cpusetCpus),
  ...whenGiven(ExtrasAnnotation.cpusetMems, rest.cpusetMems), ...whenGiven(ExtrasAnnotation.memorySwap, rest.memorySwapBytes), ...whenGiven(ExtrasAnnotation.oomScoreAdj, rest.oomScoreAdj),
  ...whenGiven(ExtrasAnnotation.blkioWeight, rest.blkioWeight),
  ...Object.assign({}, ...RATES.map((key) => whenGiven(ExtrasAnnotation[key], rest[key]?.map(({ device, rate }) => `${device}:${rate}`).join(",")))),
  ...(rest.consoleSize ? { [ExtrasAnnotation.consoleSize]: `${rest.consoleSize.height}x${rest.consoleSize.width}` } : {}),
});

export interface TmpfsOptions {
  /** Options of mount(8) for tmpfs that are text: "mode=1770,uid=1000". */
  readonly data: readonly string[];
  readonly noExec: boolean;
  readonly noSuid: boolean;
  readonly noDev: boolean;
}

const TMPFS_DATA = /^(mode=0?[0-7]{3,4}|uid=\d{1,10}|gid=\d{1,10}|nr_inodes=\d{1,10}[kmg]?)$/i;
const TMPFS_FLAGS: Readonly<Record<string, Partial<TmpfsOptions>>> = { noexec: { noExec: true }, exec: { noExec: false }, nosuid: { noSuid: true }, suid: { noSuid: false }, nodev: { noDev: true }, dev: { noDev: false } };

/** "mode=1770,uid=1000,noexec". "BadRequest" for any other word. */
export const parseTmpfsOptions = (where: string, text: string): TmpfsOptions => {
  const words = text.split(",").filter((w) => w !== "");
  const flags = words.filter((w) => !TMPFS_DATA.test(w)).map((word): Partial<TmpfsOptions> => {
    const found = TMPFS_FLAGS[word];
    if (!found) throw fault(where, word, `mode=1777, uid=N, gid=N, nr_inodes=N, ${Object.keys(TMPFS_FLAGS).join(", ")}`);
    return found;
  });
  return Object.assign({ data: words.filter((w) => TMPFS_DATA.test(w)), noExec: false, noSuid: true, noDev: true }, ...flags) as TmpfsOptions;
};

export interface ExtrasFault {
  readonly name: string;
  readonly value: string;
  readonly message: string;
}

/** For the API: what is wrong with a pod's annotations, each by itself. */
export const extrasFaults = (annotations: Readonly<Record<string, string>> | undefined): readonly ExtrasFault[] =>
  Object.entries(annotations ?? {}).flatMap(([name, value]) => {
    const key = KEYS.find((k) => ExtrasAnnotation[k] === name);
    try {
      if (key) parsers[key](name, value);
      else if (name.startsWith(TMPFS_ANNOTATION_PREFIX)) parseTmpfsOptions(name, value);
      return [];
    } catch (error) {
      return [{ name, value, message: (error as Error).message.replace(`${name}: `, "") }];
    }
  });
