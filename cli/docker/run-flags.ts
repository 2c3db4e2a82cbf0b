// docker run's flags as a container request. Pure: files, environment and folder are arguments.
import { booleanOption, eachOption, numberOption, stringOption, type OptionTable, type OptionValues } from "../../base/config.ts";
import { GantryError } from "../../base/errors.ts";
import { NEW_CONTAINER, parseRestart, type ContainerRequest, type HealthCheck } from "./container-request.ts";
import { parseEnvFile, parseEnvFlag } from "./env-file.ts";
import { parseMountFlag, parseTmpfsFlag, parseVolumeFlag } from "./mount-flag.ts";
import { objectName } from "./names.ts";
import { parsePortMapping } from "./port-mapping.ts";
import { securityOf } from "./security-options.ts";
import { parseGoDurationMs, parseMilliCpus, parseSizeBytes } from "./sizes.ts";

/** What `run` and `create` share. */
export const CONTAINER_OPTIONS = {
  name: stringOption("Name of the container, and of its pod (default: two random words)", "", { placeholder: "NAME" }),
  publish: eachOption("Port of the node for a port of the container: 8080:80, 127.0.0.1:8080:80, 53:53/udp; 80 takes any free one", { short: "p", placeholder: "[IP:][HOST:]PORT" }),
  expose: eachOption("Port that the container serves, for other pods to know", { placeholder: "PORT" }),
  volume: eachOption("Mount a folder of the node or a named volume", { short: "v", placeholder: "SOURCE:TARGET[:ro]" }),
  mount: eachOption("The same in long form: type=bind|volume|tmpfs,source=...,target=...,readonly", { placeholder: "FIELDS" }),
  tmpfs: eachOption("A folder in memory", { placeholder: "TARGET[:size=64m]" }),
  env: eachOption("Environment variable; the name alone takes its value from here", { short: "e", placeholder: "NAME[=VALUE]" }),
  envFile: eachOption("File of environment variables", { placeholder: "FILE" }),
  label: eachOption("Label of the container", { short: "l", placeholder: "KEY[=VALUE]" }),
  network: stringOption("bridge, host, none, or any name: containers of one name find each other by their names", "bridge", { placeholder: "NETWORK" }),
  networkAlias: eachOption("Another name for the container in its network", { placeholder: "NAME" }),
  restart: stringOption("When to start it again: no, always, unless-stopped, on-failure[:N] (default no)", "", { placeholder: "POLICY" }),
  rm: booleanOption("Remove it when it ends"),
  interactive: booleanOption("Pass standard input on", { short: "i" }), tty: booleanOption("With a terminal", { short: "t" }),
  memory: stringOption("Most memory: 512m, 1g", "", { short: "m", placeholder: "SIZE" }), memoryReservation: stringOption("Memory to set aside on the node (default: as --memory)", "", { placeholder: "SIZE" }),
  cpus: stringOption("Most CPU time: 1.5", "", { placeholder: "N" }), shmSize: stringOption("Size of /dev/shm", "", { placeholder: "SIZE" }),
  user: stringOption("User, or user:group, as names or numbers", "", { short: "u", placeholder: "USER" }), groupAdd: eachOption("Another group, as a number", { placeholder: "GID" }),
  workdir: stringOption("Working directory", "", { short: "w", placeholder: "DIR" }), entrypoint: stringOption("Instead of the image's entrypoint", "", { placeholder: "COMMAND" }),
  hostname: stringOption("Host name in the container", "", { placeholder: "NAME" }), addHost: eachOption("A line for /etc/hosts", { placeholder: "NAME:IP" }),
  dns: eachOption("DNS server", { placeholder: "IP" }), dnsSearch: eachOption("DNS search domain", { placeholder: "DOMAIN" }), dnsOption: eachOption("Option of resolv.conf", { placeholder: "OPTION" }),
  readOnly: booleanOption("Nothing can be written outside of mounts"), privileged: booleanOption("All devices and capabilities, no confinement"),
  capAdd: eachOption("Add a capability, or ALL", { placeholder: "NAME" }), capDrop: eachOption("Take a capability away, or ALL", { placeholder: "NAME" }),
  securityOpt: eachOption("no-new-privileges[=false] or seccomp=unconfined", { placeholder: "OPTION" }), sysctl: eachOption("Kernel setting of its namespaces", { placeholder: "NAME=VALUE" }),
  pid: stringOption("host: sees the node's processes", "", { choices: ["", "host"] }), ipc: stringOption("host: the node's shared memory", "", { choices: ["", "host", "private"] }),
  healthCmd: stringOption("Command that tells whether it is healthy", "", { placeholder: "COMMAND" }), healthInterval: stringOption("Time between two checks", "30s", { placeholder: "30s" }),
  healthTimeout: stringOption("Time that a check may take", "30s", { placeholder: "30s" }), healthRetries: numberOption("Failures in a row until it counts as unhealthy", 3, { least: 1 }),
  healthStartPeriod: stringOption("Time to start in which failures don't count", "0s", { placeholder: "0s" }), noHealthcheck: booleanOption("No health check"),
  stopSignal: stringOption("Signal that asks it to end (default: the image's, else SIGTERM)", "", { placeholder: "SIGNAL" }), stopTimeout: numberOption("Seconds that it has to end", 10, { least: 0 }),
  pull: stringOption("When to fetch the image", "missing", { choices: ["missing", "always", "never"] }), platform: stringOption("Architecture of the node: linux/amd64", "", { placeholder: "OS/ARCH" }),
  node: stringOption("Run it on this node", "", { placeholder: "NODE" }),
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

const healthOf = (values: ContainerOptionValues): HealthCheck | undefined => {
  if (values.healthCmd === "" || values.noHealthcheck) return undefined;
  return {
    command: ["/bin/sh", "-c", values.healthCmd], intervalMs: parseGoDurationMs("--health-interval", values.healthInterval), timeoutMs: parseGoDurationMs("--health-timeout", values.healthTimeout),
    retries: values.healthRetries, startPeriodMs: parseGoDurationMs("--health-start-period", values.healthStartPeriod),
  };
};

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

/** "BadRequest" names the flag. Host ports that may be any are still 0. */
export const requestOfFlags = (values: ContainerOptionValues, image: string, args: readonly string[], { env, folder, readFile, newName }: Surroundings): ContainerRequest => {
  if (values.rm && values.restart !== "" && values.restart !== "no") throw new GantryError("BadRequest", "--rm and --restart exclude each other");
  if (values.network === "host" && values.publish.length > 0) throw new GantryError("BadRequest", "--publish has no effect with --network host: the container's ports are the node's");
  if (values.network === "none" && values.publish.length > 0) throw new GantryError("BadRequest", "--publish can't go with --network none");
  const group = values.groupAdd.find((g) => !/^\d+$/.test(g));
  if (group !== undefined) throw new GantryError("BadRequest", `--group-add: ${JSON.stringify(group)} must be a number`);
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
    entrypoint: values.entrypoint === "" ? undefined : [values.entrypoint], args,
    env: new Map([...fromFiles, ...fromFlags]), labels: pairs("--label", values.label, false),
    ports: [...values.publish.flatMap((p) => parsePortMapping("--publish", p)), ...values.expose.flatMap((p) => parsePortMapping("--expose", p).map((m) => ({ ...m, hostPort: undefined })))],
    mounts: [...values.volume.map((v) => parseVolumeFlag("--volume", v, folder)), ...values.mount.map((m) => parseMountFlag("--mount", m, folder)), ...values.tmpfs.map((m) => parseTmpfsFlag("--tmpfs", m))],
    network: ["bridge", "host", "none", "default"].includes(values.network) ? values.network.replace("default", "bridge") : objectName("--network", values.network),
    aliases: values.networkAlias.map((a) => objectName("--network-alias", a)),
    restart: parseRestart("--restart", values.restart), user: values.user, groups: values.groupAdd.map(Number), workingDir: values.workdir, hostname: values.hostname,
    readOnly: values.readOnly, tty: values.tty, stdin: values.interactive, privileged: values.privileged, capAdd: values.capAdd, capDrop: values.capDrop, ...securityOf(values.securityOpt),
    memoryBytes, memoryReservationBytes: reservation, milliCpus: values.cpus === "" ? 0 : parseMilliCpus("--cpus", values.cpus), shmBytes: values.shmSize === "" ? 0 : parseSizeBytes("--shm-size", values.shmSize),
    extraHosts: values.addHost, dns: { servers: values.dns, searches: values.dnsSearch, options: values.dnsOption }, sysctls: pairs("--sysctl", values.sysctl, true), health: healthOf(values),
    hostPid: values.pid === "host", hostIpc: values.ipc === "host", stopSignal: values.stopSignal, stopGraceSeconds: values.stopTimeout, pull: values.pull as ContainerRequest["pull"],
    removeAfter: values.rm ? "0s" : undefined, nodeSelector: nodeSelectorOf(values),
  };
};
