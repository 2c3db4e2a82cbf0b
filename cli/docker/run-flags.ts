// docker run's flags as a container request. Pure: files, environment and folder are arguments.
import { booleanOption, eachOption, numberOption, stringOption, type OptionTable, type OptionValues } from "../../base/config.ts";
import { GantryError } from "../../base/errors.ts";
import { parseBlkioWeight, parseCpuShares, parseCpuset, parseDevice, parseDeviceRate, parseGroup, parseOomScoreAdj, parsePidsLimit, parseUlimit, type BlockIo, type ContainerExtras } from "../../base/kube/container-extras.ts";
import { HEALTH_DEFAULTS, NEW_CONTAINER, parseRestart, type ContainerRequest, type HealthCheck } from "./container-request.ts";
import { parseEnvFile, parseEnvFlag } from "./env-file.ts";
import { parseMountFlag, parseTmpfsFlag, parseVolumeFlag } from "./mount-flag.ts";
import { objectName } from "./names.ts";
import { parseLink, parseVolumesFrom } from "./other-containers.ts";
import { parsePortMapping } from "./port-mapping.ts";
import { REFUSED_FLAGS } from "./refused-flags.ts";
import { securityOf } from "./security-options.ts";
import { parseGoDurationMs, parseMilliCpus, parseSizeBytes } from "./sizes.ts";

/** What `run` and `create` share. */
export const CONTAINER_OPTIONS = {
  name: stringOption("Name of the container, and of its pod (default: two random words)", "", { placeholder: "NAME" }),
  publish: eachOption("Port of the node for a port of the container: 8080:80, 127.0.0.1:8080:80, 53:53/udp; 80 takes any free one", { short: "p", placeholder: "[IP:][HOST:]PORT" }),
  publishAll: booleanOption("Any free port of the node for each port that the image or --expose names", { short: "P" }),
  expose: eachOption("Port that the container serves, for other pods to know", { placeholder: "PORT" }),
  volume: eachOption("Mount a folder of the node or a named volume", { short: "v", placeholder: "SOURCE:TARGET[:ro]" }),
  mount: eachOption("The same in long form: type=bind|volume|tmpfs,source=...,target=...,readonly", { placeholder: "FIELDS" }),
  tmpfs: eachOption("A folder in memory", { placeholder: "TARGET[:size=64m,mode=1777]" }),
  env: eachOption("Environment variable; the name alone takes its value from here", { short: "e", placeholder: "NAME[=VALUE]" }),
  envFile: eachOption("File of environment variables", { placeholder: "FILE" }),
  label: eachOption("Label of the container", { short: "l", placeholder: "KEY[=VALUE]" }), labelFile: eachOption("File of labels", { placeholder: "FILE" }), annotation: eachOption("Annotation of the pod", { placeholder: "KEY=VALUE" }),
  network: stringOption("bridge, host, none, or any name: containers of one name find each other by their names", "bridge", { placeholder: "NETWORK", aliases: ["net"] }),
  networkAlias: eachOption("Another name for the container in its network", { placeholder: "NAME", aliases: ["net-alias"] }),
  link: eachOption("Know another container, that runs, by its name or another; a --network NAME does it for all", { placeholder: "CONTAINER[:NAME]" }),
  volumesFrom: eachOption("Mount what another container mounts: its named volumes, folders, secrets and config maps", { placeholder: "CONTAINER[:ro]" }), volumeDriver: stringOption("local: there is no other", "local", { choices: ["local"] }),
  restart: stringOption("When to start it again: no, always, unless-stopped, on-failure[:N] (default no)", "", { placeholder: "POLICY" }),
  rm: booleanOption("Remove it when it ends"),
  interactive: booleanOption("Pass standard input on", { short: "i" }), tty: booleanOption("With a terminal", { short: "t" }),
  memory: stringOption("Most memory: 512m, 1g", "", { short: "m", placeholder: "SIZE" }), memoryReservation: stringOption("Memory to set aside on the node (default: as --memory)", "", { placeholder: "SIZE" }),
  memorySwap: stringOption("Most memory and swap together; -1: any (with --memory)", "", { placeholder: "SIZE" }), oomScoreAdj: stringOption("Who is ended first when the node's memory is full: -1000 (last) to 1000", "", { placeholder: "N" }),
  cpus: stringOption("Most CPU time: 1.5", "", { placeholder: "N" }), cpuPeriod: numberOption("Microseconds of which --cpu-quota is a part", 100_000, { least: 1000, most: 1_000_000 }), cpuQuota: numberOption("Most CPU time in each --cpu-period, in microseconds; 0: any", 0, { least: 0 }),
  cpuShares: stringOption("Weight of its CPU time when the node is busy; 1024 is usual", "", { short: "c", placeholder: "N" }), cpusetCpus: stringOption("CPUs that it may use", "", { placeholder: "0-2,7" }), cpusetMems: stringOption("NUMA nodes that it may use", "", { placeholder: "0,1" }),
  pidsLimit: stringOption("Most processes and threads; -1: any", "", { placeholder: "N" }), ulimit: eachOption("Limit of its processes; -1: none", { placeholder: "NAME=SOFT[:HARD]" }),
  device: eachOption("Device of the node, or a folder of them", { placeholder: "PATH[:PATH][:rwm]" }), init: booleanOption("A small init as process 1, that passes signals on and buries orphans (of the node: tini or catatonit)"), shmSize: stringOption("Size of /dev/shm", "", { placeholder: "SIZE" }),
  blkioWeight: stringOption("Weight of its block I/O: 10 to 1000", "", { placeholder: "N" }),
  deviceReadBps: eachOption("Most bytes a second that it reads of a device of the node", { placeholder: "PATH:SIZE" }), deviceWriteBps: eachOption("Most bytes a second that it writes to a device of the node", { placeholder: "PATH:SIZE" }),
  deviceReadIops: eachOption("Most reads a second of a device of the node", { placeholder: "PATH:N" }), deviceWriteIops: eachOption("Most writes a second to a device of the node", { placeholder: "PATH:N" }),
  user: stringOption("User, or user:group, as names or numbers", "", { short: "u", placeholder: "USER" }), groupAdd: eachOption("Another group, as a number or a name of the image's /etc/group", { placeholder: "GROUP" }),
  workdir: stringOption("Working directory", "", { short: "w", placeholder: "DIR" }), entrypoint: eachOption("Instead of the image's entrypoint; \"\": none", { placeholder: "COMMAND" }),
  hostname: stringOption("Host name in the container", "", { short: "h", placeholder: "NAME" }), addHost: eachOption("A line for /etc/hosts", { placeholder: "NAME:IP" }),
  dns: eachOption("DNS server", { placeholder: "IP" }), dnsSearch: eachOption("DNS search domain", { placeholder: "DOMAIN" }), dnsOption: eachOption("Option of resolv.conf", { placeholder: "OPTION", aliases: ["dns-opt"] }),
  readOnly: booleanOption("Nothing can be written outside of mounts"), privileged: booleanOption("All devices and capabilities, no confinement"),
  capAdd: eachOption("Add a capability, or ALL", { placeholder: "NAME" }), capDrop: eachOption("Take a capability away, or ALL", { placeholder: "NAME" }),
  securityOpt: eachOption("no-new-privileges[=false], seccomp=unconfined or apparmor=PROFILE", { placeholder: "OPTION" }), sysctl: eachOption("Kernel setting of its namespaces", { placeholder: "NAME=VALUE" }),
  pid: stringOption("host: sees the node's processes", "", { choices: ["", "host"] }), ipc: stringOption("host: the node's shared memory", "", { choices: ["", "host", "private", "shareable"] }),
  uts: stringOption("host: the node's host name (with --network host)", "", { choices: ["", "host"] }), isolation: stringOption("default: there is no other", "default", { choices: ["default", ""] }),
  userns: stringOption("auto: users of its own, root inside is nobody on the node; host: the node's", "host", { choices: ["host", "auto", ""] }),
  runtime: stringOption("Another OCI runtime: the name of a RuntimeClass", "", { placeholder: "NAME" }),
  healthCmd: stringOption("Command that tells whether it is healthy", "", { placeholder: "COMMAND" }), healthInterval: stringOption("Time between two checks (default: the image's, else 30s)", "", { placeholder: "30s" }),
  healthTimeout: stringOption("Time that a check may take (default: the image's, else 30s)", "", { placeholder: "30s" }), healthRetries: numberOption("Failures in a row until it counts as unhealthy (default: the image's, else 3)", 0, { least: 0 }),
  healthStartPeriod: stringOption("Time to start in which failures don't count (default: the image's, else 0s)", "", { placeholder: "0s" }), noHealthcheck: booleanOption("No health check"),
  stopSignal: stringOption("Signal that asks it to end (default: the image's, else SIGTERM)", "", { placeholder: "SIGNAL" }), stopTimeout: numberOption("Seconds that it has to end", 10, { least: 0 }),
  pull: stringOption("When to fetch the image", "missing", { choices: ["missing", "always", "never"] }), platform: stringOption("Architecture of the node: linux/amd64", "", { placeholder: "OS/ARCH" }),
  quiet: booleanOption("No progress", { short: "q" }), cidfile: stringOption("File to write the container's id to; it must not exist", "", { placeholder: "FILE" }),
  logDriver: stringOption("json-file or local, which are the same here: files on the node, for gantry logs", "", { choices: ["", "json-file", "local", "k8s-file"] }),
  logOpt: eachOption("Has no effect: nodes keep the last 5 files of 10 MiB", { placeholder: "NAME=VALUE" }), disableContentTrust: booleanOption("Has no effect: images are verified by digest, and signatures are not looked at"),
  node: stringOption("Run it on this node", "", { placeholder: "NODE" }),
  ...REFUSED_FLAGS,
} as const satisfies OptionTable;

export type ContainerOptionValues = OptionValues<typeof CONTAINER_OPTIONS>;

export interface Surroundings {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Relative paths start here. */
  readonly folder: string;
  readonly readFile: (path: string) => string;
  readonly newName: () => string;
}

const pairs = (where: string, texts: readonly string[], valueNeeded: boolean): ReadonlyMap<string, string> =>
  new Map(texts.map((text): [string, string] => {
    const at = text.indexOf("=");
    if (at === 0 || (at < 0 && valueNeeded)) throw new GantryError("BadRequest", `${where}: ${JSON.stringify(text)} is not NAME=VALUE`);
    return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
  }));

/** Those that the command line says. */
const healthTimesOf = ({ healthInterval, healthTimeout, healthRetries, healthStartPeriod }: ContainerOptionValues): Partial<Omit<HealthCheck, "command">> => ({
  ...(healthInterval === "" ? {} : { intervalMs: parseGoDurationMs("--health-interval", healthInterval) }), ...(healthTimeout === "" ? {} : { timeoutMs: parseGoDurationMs("--health-timeout", healthTimeout) }),
  ...(healthRetries === 0 ? {} : { retries: healthRetries }), ...(healthStartPeriod === "" ? {} : { startPeriodMs: parseGoDurationMs("--health-start-period", healthStartPeriod) }),
});

const healthOf = (values: ContainerOptionValues): HealthCheck | undefined =>
  values.healthCmd === "" || values.noHealthcheck ? undefined : { command: ["/bin/sh", "-c", values.healthCmd], ...HEALTH_DEFAULTS, ...healthTimesOf(values) };

const ARCHITECTURES: Readonly<Record<string, string>> = { x86_64: "amd64", aarch64: "arm64" };

const nodeSelectorOf = ({ platform, node }: ContainerOptionValues): ReadonlyMap<string, string> => {
  const selector = new Map<string, string>();
  if (platform !== "") {
    const [os, arch] = platform.includes("/") ? platform.split("/") : ["linux", platform];
    if (os !== "linux" || !arch) throw new GantryError("BadRequest", `--platform: ${JSON.stringify(platform)} is not linux/ARCH, such as linux/amd64`);
    selector.set("kubernetes.io/arch", ARCHITECTURES[arch] ?? arch);
  }
  if (node !== "") selector.set("kubernetes.io/hostname", node);
  return selector;
};

/** Flags that change nothing, and are worth saying so. */
export const warningsOf = ({ logOpt }: ContainerOptionValues): readonly string[] =>
  logOpt.length === 0 ? [] : [`--log-opt ${logOpt.join(", ")} has no effect: nodes keep the last 5 files of 10 MiB of each container's log`];

const given = <T>(flag: string, text: string, parse: (flag: string, text: string) => T): T | undefined => (text === "" ? undefined : parse(flag, text));

const blockIoOf = ({ blkioWeight, deviceReadBps, deviceWriteBps, deviceReadIops, deviceWriteIops }: ContainerOptionValues): BlockIo => {
  const rates = (key: keyof BlockIo, flag: string, texts: readonly string[], parse?: (where: string, text: string) => number): BlockIo =>
    (texts.length === 0 ? {} : { [key]: texts.map((text) => parseDeviceRate(flag, text, parse)) });
  return {
    ...(blkioWeight === "" ? {} : { blkioWeight: parseBlkioWeight("--blkio-weight", blkioWeight) }),
    ...rates("deviceReadBps", "--device-read-bps", deviceReadBps, parseSizeBytes), ...rates("deviceWriteBps", "--device-write-bps", deviceWriteBps, parseSizeBytes),
    ...rates("deviceReadIops", "--device-read-iops", deviceReadIops), ...rates("deviceWriteIops", "--device-write-iops", deviceWriteIops),
  };
};

const extrasOf = (values: ContainerOptionValues): ContainerExtras => {
  const swap = values.memorySwap === "-1" ? -1 : given("--memory-swap", values.memorySwap, parseSizeBytes);
  if (swap !== undefined && values.memory === "") throw new GantryError("BadRequest", "--memory-swap needs --memory");
  if (swap !== undefined && swap !== -1 && swap < parseSizeBytes("--memory", values.memory)) throw new GantryError("BadRequest", `--memory-swap ${values.memorySwap} is less than --memory ${values.memory}: it is memory and swap together`);
  const [pidsLimit, cpuShares, cpusetCpus] = [given("--pids-limit", values.pidsLimit, parsePidsLimit), given("--cpu-shares", values.cpuShares, parseCpuShares), given("--cpuset-cpus", values.cpusetCpus, parseCpuset)];
  const [cpusetMems, oomScoreAdj] = [given("--cpuset-mems", values.cpusetMems, parseCpuset), given("--oom-score-adj", values.oomScoreAdj, parseOomScoreAdj)];
  return {
    ulimits: values.ulimit.map((u) => parseUlimit("--ulimit", u)), devices: values.device.map((d) => parseDevice("--device", d)), init: values.init, groups: [],
    ...(pidsLimit === undefined ? {} : { pidsLimit }), ...(cpuShares === undefined ? {} : { cpuShares }), ...(cpusetCpus === undefined ? {} : { cpusetCpus }), ...(cpusetMems === undefined ? {} : { cpusetMems }),
    ...(swap === undefined ? {} : { memorySwapBytes: swap }), ...(oomScoreAdj === undefined ? {} : { oomScoreAdj }),
    ...blockIoOf(values),
  };
};

const milliCpusOf = ({ cpus, cpuQuota, cpuPeriod }: ContainerOptionValues): number => {
  if (cpus !== "" && cpuQuota > 0) throw new GantryError("BadRequest", "--cpus and --cpu-quota say the same: leave one out");
  return cpus === "" ? Math.round((cpuQuota * 1000) / cpuPeriod) : parseMilliCpus("--cpus", cpus);
};

/** docker's container:NAME, which joins two containers' namespaces. */
const checkNoJoining = (flag: string, value: string): void => {
  if (value.startsWith("container:")) throw new GantryError("BadRequest", `${flag} ${value} is not supported: containers that share namespaces are containers of one pod: put both into a manifest for gantry apply; kubectl debug --target looks into one that runs`);
};

const linesOf = (text: string): readonly string[] => text.split("\n").map((l) => l.trim()).filter((l) => l !== "" && !l.startsWith("#"));

/** "BadRequest" names the flag. Host ports that may be any are still 0. */
export const requestOfFlags = (values: ContainerOptionValues, image: string, args: readonly string[], { env, folder, readFile, newName }: Surroundings): ContainerRequest => {
  if (values.rm && values.restart !== "" && values.restart !== "no") throw new GantryError("BadRequest", "--rm and --restart exclude each other");
  if (values.network === "host" && values.publish.length > 0) throw new GantryError("BadRequest", "--publish has no effect with --network host: the container's ports are the node's");
  if (values.network === "none" && values.publish.length > 0) throw new GantryError("BadRequest", "--publish can't go with --network none");
  if ((values.network === "host" || values.network === "none") && values.publishAll) throw new GantryError("BadRequest", `--publish-all can't go with --network ${values.network}`);
  if (values.uts === "host" && values.network !== "host") throw new GantryError("BadRequest", "--uts host needs --network host: pods share both with the node, or neither");
  checkNoJoining("--network", values.network);
  const fromFiles = values.envFile.flatMap((file) => [...parseEnvFile(file, readFile(file), env)]);
  const fromFlags = values.env.flatMap((text) => {
    const one = parseEnvFlag("--env", text, env);
    return one ? [one] : [];
  });
  const reservation = values.memoryReservation === "" ? undefined : parseSizeBytes("--memory-reservation", values.memoryReservation);
  const memoryBytes = values.memory === "" ? 0 : parseSizeBytes("--memory", values.memory);
  if (reservation !== undefined && memoryBytes > 0 && reservation > memoryBytes) throw new GantryError("BadRequest", `--memory-reservation ${values.memoryReservation} is more than --memory ${values.memory}`);
  return {
    ...NEW_CONTAINER,
    name: values.name === "" ? newName() : objectName("--name", values.name), image,
    entrypoint: values.entrypoint.length === 0 ? undefined : values.entrypoint.slice(-1).filter((word) => word !== ""), args,
    env: new Map([...fromFiles, ...fromFlags]), labels: pairs("--label", [...values.labelFile.flatMap((file) => linesOf(readFile(file))), ...values.label], false), annotations: pairs("--annotation", values.annotation, true),
    ports: [...values.publish.flatMap((p) => parsePortMapping("--publish", p)), ...values.expose.flatMap((p) => parsePortMapping("--expose", p).map((m) => ({ ...m, hostPort: undefined })))],
    mounts: [...values.volume.map((v) => parseVolumeFlag("--volume", v, folder)), ...values.mount.map((m) => parseMountFlag("--mount", m, folder)), ...values.tmpfs.map((m) => parseTmpfsFlag("--tmpfs", m))],
    network: ["bridge", "host", "none", "default"].includes(values.network) ? values.network.replace("default", "bridge") : objectName("--network", values.network),
    aliases: values.networkAlias.map((a) => objectName("--network-alias", a)),
    restart: parseRestart("--restart", values.restart), user: values.user, groups: values.groupAdd.map((g) => parseGroup("--group-add", g)), workingDir: values.workdir, hostname: values.hostname,
    readOnly: values.readOnly, tty: values.tty, stdin: values.interactive, privileged: values.privileged, capAdd: values.capAdd, capDrop: values.capDrop, ...securityOf(values.securityOpt),
    memoryBytes, memoryReservationBytes: reservation, milliCpus: milliCpusOf(values), extras: extrasOf(values), shmBytes: values.shmSize === "" ? 0 : parseSizeBytes("--shm-size", values.shmSize),
    extraHosts: values.addHost, dns: { servers: values.dns, searches: values.dnsSearch, options: values.dnsOption }, sysctls: pairs("--sysctl", values.sysctl, true), health: healthOf(values), imageHealth: values.noHealthcheck ? undefined : healthTimesOf(values),
    hostPid: values.pid === "host", hostIpc: values.ipc === "host", ownUsers: values.userns === "auto", stopSignal: values.stopSignal, stopGraceSeconds: values.stopTimeout, pull: values.pull as ContainerRequest["pull"], quiet: values.quiet,
    removeAfter: values.rm ? "0s" : undefined, nodeSelector: nodeSelectorOf(values), runtimeClass: values.runtime,
    publishAll: values.publishAll, links: values.link.map((l) => parseLink("--link", l)), volumesFrom: values.volumesFrom.map((v) => parseVolumesFrom("--volumes-from", v)),
  };
};
