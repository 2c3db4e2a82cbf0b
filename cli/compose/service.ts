// One service of a Compose file as a container request. Every key is known here: read, harmless (a warning), or refused because leaving
// it out would change what runs. Pure; files are read through the surroundings.
import { resolve } from "node:path";
import { nearest } from "../../base/config.ts";
import { GantryError } from "../../base/errors.ts";
import { parseBlkioWeight, parseCpuShares, parseCpuset, parseDevice, parseDeviceRate, parseGroup, parseOomScoreAdj, parsePidsLimit, parseUlimit, type BlockIo, type ContainerExtras, type Ulimit } from "../../base/kube/container-extras.ts";
import { HEALTH_DEFAULTS, NEW_CONTAINER, parseRestart, type ContainerRequest, type HealthCheck } from "../docker/container-request.ts";
import { parseDotEnv } from "../docker/env-file.ts";
import { TMPFS_DEFAULT, parseTmpfsFlag, parseVolumeFlag, type MountRequest } from "../docker/mount-flag.ts";
import { nameFrom } from "../docker/names.ts";
import { parsePortMapping, type PortMapping } from "../docker/port-mapping.ts";
import { securityOf } from "../docker/security-options.ts";
import { parseGoDurationMs, parseMilliCpus, parseSizeBytes } from "../docker/sizes.ts";
import { bool, commandWords, fault, isMapping, list, mapping, pairs, text, texts, textOrTexts, whole, type Mapping } from "./fields.ts";
import { interpolate } from "./interpolate.ts";

export interface ServiceSurroundings {
  readonly project: string;
  readonly folder: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly read: (path: string) => string | undefined;
  readonly warn: (text: string) => void;
  /** Key of the file -> the claim's name. */
  readonly volumes: ReadonlyMap<string, string>;
  /** Key of the file -> the object's name. */
  readonly secrets: ReadonlyMap<string, string>;
  readonly configs: ReadonlyMap<string, string>;
}

export interface Dependency {
  readonly service: string;
  readonly condition: "service_started" | "service_healthy" | "service_completed_successfully";
  readonly required: boolean;
}

export interface BuildPlan {
  readonly context: string;
  readonly dockerfile: string;
  readonly target: string;
  readonly args: ReadonlyMap<string, string>;
  readonly noCache: boolean;
  readonly tags: readonly string[];
}

export interface ServicePlan {
  readonly name: string;
  readonly scale: number;
  /** deploy.mode replicated: what ends or is lost with its node is replaced. */
  readonly asDeployment: boolean;
  readonly build: BuildPlan | undefined;
  readonly pullPolicy: string;
  readonly dependsOn: readonly Dependency[];
  readonly profiles: readonly string[];
  /** "": numbered names of the project. */
  readonly containerName: string;
  /** Its name is the service's; each container gets its own. */
  readonly request: ContainerRequest;
}

const READ = [
  "image", "build", "command", "entrypoint", "environment", "env_file", "ports", "expose", "volumes", "tmpfs", "depends_on", "healthcheck", "restart", "deploy", "networks", "network_mode", "user", "working_dir",
  "labels", "hostname", "container_name", "stop_grace_period", "stop_signal", "cap_add", "cap_drop", "privileged", "read_only", "secrets", "configs", "extra_hosts", "tty", "stdin_open", "scale", "pull_policy",
  "init", "pids_limit", "ulimits", "devices", "cpu_shares", "cpuset", "memswap_limit", "blkio_config", "oom_score_adj", "cpu_quota", "cpu_period", "runtime", "profiles", "dns", "dns_search", "dns_opt", "sysctls", "security_opt", "group_add", "pid", "ipc", "shm_size", "mem_limit", "mem_reservation", "cpus", "platform", "annotations",
];
const HARMLESS = [
  "logging", "links", "oom_kill_disable", "mem_swappiness", "cgroup_parent", "storage_opt",
  "isolation", "mac_address", "domainname", "cgroup",
];
const SILENT = ["develop", "attach"];
const REFUSED: Readonly<Record<string, string>> = {
  gpus: "there are no device plugins: name the GPU's devices in devices", volumes_from: "name the volumes in this service's own volumes",
  userns_mode: "leave it out: user namespaces are the pod's hostUsers", uts: "the host's UTS namespace can't be shared", credential_spec: "it is for Windows", provider: "services of other programs can't be made",
  post_start: "hooks are not supported here", pre_stop: "hooks are not supported here", external_links: "put both containers into one project", device_cgroup_rules: "name the devices themselves in devices", use_api_socket: "there is no docker socket",
};

/** Of blkio_config; each device is { path, rate }. */
const DEVICE_RATES = { device_read_bps: ["deviceReadBps", parseSizeBytes], device_write_bps: ["deviceWriteBps", parseSizeBytes], device_read_iops: ["deviceReadIops", undefined], device_write_iops: ["deviceWriteIops", undefined] } as const;

const checkKeys = (path: string, service: Mapping, warn: (text: string) => void): void => {
  if (isMapping(service["blkio_config"]) && "weight_device" in service["blkio_config"]) warn(`${path}.blkio_config.weight_device has no effect here`);
  for (const key of Object.keys(service)) {
    if (READ.includes(key) || SILENT.includes(key) || key.startsWith("x-")) continue;
    if (HARMLESS.includes(key)) {
      warn(`${path}.${key} has no effect here`);
      continue;
    }
    if (Object.hasOwn(REFUSED, key)) throw fault(`${path}.${key}`, `is not supported: ${REFUSED[key]!}`);
    const hint = nearest(key, READ);
    throw fault(`${path}.${key}`, `there is no such key${hint ? `; did you mean ${hint}?` : ""}`);
  }
};

/** Faults of docker's own notations, with the place in the file. */
const at = <T>(path: string, run: () => T): T => {
  try {
    return run();
  } catch (error) {
    if (!(error instanceof GantryError) || error.message.startsWith("services.")) throw error;
    throw fault(path, error.message);
  }
};

const portsOf = (path: string, value: unknown): readonly PortMapping[] =>
  list(path, value).flatMap((entry, i): readonly PortMapping[] => {
    const where = `${path}[${i}]`;
    if (!isMapping(entry)) return parsePortMapping(where, text(where, entry));
    const target = text(`${where}.target`, entry["target"]);
    if (target === "") throw fault(`${where}.target`, "the container's port is needed");
    const published = text(`${where}.published`, entry["published"]);
    const ip = text(`${where}.host_ip`, entry["host_ip"]);
    return parsePortMapping(where, `${ip === "" ? "" : `${ip.includes(":") ? `[${ip}]` : ip}:`}${published === "" && ip === "" ? "" : `${published}:`}${target}/${text(`${where}.protocol`, entry["protocol"]) || "tcp"}`);
  });

const mountsOf = (path: string, value: unknown, { folder, volumes }: ServiceSurroundings): readonly MountRequest[] =>
  list(path, value).map((entry, i): MountRequest => {
    const where = `${path}[${i}]`;
    const named = (mount: MountRequest, key: string): MountRequest => {
      if (mount.type !== "volume" || key === "") return mount;
      const claim = volumes.get(key);
      if (claim === undefined) throw fault(where, `there is no volume ${JSON.stringify(key)} in the file's volumes${volumes.size > 0 ? ` (${[...volumes.keys()].join(", ")})` : ""}`);
      return { ...mount, source: claim };
    };
    if (!isMapping(entry)) {
      const short = text(where, entry);
      return named(parseVolumeFlag(where, short, folder), short.includes(":") ? short.slice(0, short.indexOf(":")) : "");
    }
    const [type, source, target] = (["type", "source", "target"] as const).map((key) => text(`${where}.${key}`, entry[key])) as [string, string, string];
    if (!target.startsWith("/")) throw fault(`${where}.target`, `${JSON.stringify(target)} must be an absolute path in the container`);
    const common = { target, readOnly: bool(`${where}.read_only`, entry["read_only"]) };
    switch (type || "volume") {
      case "bind": {
        if (source === "") throw fault(`${where}.source`, "a bind mount needs a path");
        return { ...(parseVolumeFlag(where, `${source.startsWith("/") || source.startsWith("~") ? "" : "./"}${source}:${target}`, folder) as MountRequest & { type: "bind" }), ...common };
      }
      case "tmpfs": {
        const { size, mode } = mapping(`${where}.tmpfs`, entry["tmpfs"]);
        return { type: "tmpfs", ...common, sizeBytes: sizeOf(`${where}.tmpfs.size`, size), options: mode === undefined ? TMPFS_DEFAULT : `${TMPFS_DEFAULT},mode=${typeof mode === "number" ? mode.toString(8).padStart(3, "0") : text(`${where}.tmpfs.mode`, mode)}` };
      }
      case "volume": {
        const subPath = text(`${where}.volume.subpath`, mapping(`${where}.volume`, entry["volume"])["subpath"]);
        return named({ type: "volume", source, ...common, ...(subPath ? { subPath } : {}) }, source);
      }
      default: throw fault(`${where}.type`, `${JSON.stringify(type)} is not bind, volume or tmpfs`);
    }
  });

const fileMounts = (kind: "secret" | "config", path: string, value: unknown, known: ReadonlyMap<string, string>): readonly MountRequest[] =>
  list(path, value).map((entry, i): MountRequest => {
    const where = `${path}[${i}]`;
    const long = isMapping(entry) ? entry : { source: entry };
    const source = text(`${where}.source`, long["source"]);
    const object = known.get(source);
    if (object === undefined) throw fault(where, `there is no ${kind} ${JSON.stringify(source)} in the file's ${kind}s`);
    const target = text(`${where}.target`, long["target"]) || source;
    const mode = long["mode"] === undefined ? undefined : typeof long["mode"] === "string" ? Number.parseInt(long["mode"], 8) : whole(`${where}.mode`, long["mode"]);
    return { type: kind, source: object, key: nameOfEntry(source), target: target.startsWith("/") ? target : kind === "secret" ? `/run/secrets/${target}` : `/${target}`, readOnly: true, ...(mode === undefined ? {} : { mode }) };
  });

/** Under which name a secret's or config's text stands in its object. */
export const nameOfEntry = (key: string): string => key.replaceAll(/[^-\w.]/g, "_");

const sizeOf = (path: string, value: unknown): number => (value === undefined || value === null ? 0 : parseSizeBytes(path, text(path, value)));
const cpusOf = (path: string, value: unknown): number => (value === undefined || value === null ? 0 : parseMilliCpus(path, text(path, value)));
const durationOf = (path: string, value: unknown, fallbackMs: number): number => (value === undefined || value === null ? fallbackMs : parseGoDurationMs(path, text(path, value)));

const healthOf = (path: string, value: unknown): HealthCheck | undefined => {
  const health = mapping(path, value);
  const test = health["test"];
  if (test === undefined || bool(`${path}.disable`, health["disable"])) return undefined;
  const words = Array.isArray(test) ? texts(`${path}.test`, test) : ["CMD-SHELL", text(`${path}.test`, test)];
  if (words[0] === "NONE") return undefined;
  if (words[0] !== "CMD" && words[0] !== "CMD-SHELL") throw fault(`${path}.test`, `must begin with CMD, CMD-SHELL or NONE, not ${JSON.stringify(words[0] ?? "")}`);
  return {
    command: words[0] === "CMD" ? words.slice(1) : ["/bin/sh", "-c", words.slice(1).join(" ")], ...HEALTH_DEFAULTS, ...healthTimesOf(path, value),
  };
};

const ulimitsOf = (path: string, value: unknown): readonly Ulimit[] =>
  Object.entries(mapping(path, value)).map(([name, limit]) => {
    const where = `${path}.${name}`;
    const { soft, hard } = isMapping(limit) ? limit : { soft: limit, hard: limit };
    return parseUlimit(where, `${name}=${text(`${where}.soft`, soft)}:${text(`${where}.hard`, hard)}`);
  });

const blockIoOf = (path: string, value: unknown): BlockIo => {
  const config = mapping(path, value);
  const known = ["weight", "weight_device", ...Object.keys(DEVICE_RATES)];
  for (const key of Object.keys(config)) if (!known.includes(key)) throw fault(`${path}.${key}`, `there is no such key; there are ${known.join(", ")}`);
  const weight = text(`${path}.weight`, config["weight"]);
  return {
    ...(weight === "" ? {} : { blkioWeight: parseBlkioWeight(`${path}.weight`, weight) }),
    ...Object.fromEntries(Object.entries(DEVICE_RATES).filter(([key]) => config[key] !== undefined).map(([key, [field, parse]]) => [field, list(`${path}.${key}`, config[key]).map((entry, i) => {
      const where = `${path}.${key}[${i}]`;
      const { path: device, rate } = mapping(where, entry);
      return parseDeviceRate(where, `${text(`${where}.path`, device)}:${text(`${where}.rate`, rate)}`, parse);
    })])),
  };
};

const extrasOf = (path: string, service: Mapping): ContainerExtras => {
  const given = <T>(key: string, parse: (where: string, value: string) => T): T | undefined => {
    const value = text(`${path}.${key}`, service[key]);
    return value === "" ? undefined : parse(`${path}.${key}`, value);
  };
  const [pidsLimit, cpuShares, cpusetCpus] = [given("pids_limit", parsePidsLimit), given("cpu_shares", parseCpuShares), given("cpuset", parseCpuset)];
  const [memorySwapBytes, oomScoreAdj] = [given("memswap_limit", (where, value) => (value === "-1" ? -1 : parseSizeBytes(where, value))), given("oom_score_adj", parseOomScoreAdj)];
  return {
    ulimits: ulimitsOf(`${path}.ulimits`, service["ulimits"]), init: bool(`${path}.init`, service["init"]), groups: [],
    devices: list(`${path}.devices`, service["devices"]).map((entry, i) => {
      const where = `${path}.devices[${i}]`;
      return parseDevice(where, isMapping(entry) ? [entry["source"], entry["target"] ?? entry["source"], entry["permissions"] ?? "rwm"].map((part) => text(where, part)).join(":") : text(where, entry));
    }),
    ...(pidsLimit === undefined ? {} : { pidsLimit }), ...(cpuShares === undefined ? {} : { cpuShares }), ...(cpusetCpus === undefined ? {} : { cpusetCpus }),
    ...(memorySwapBytes === undefined ? {} : { memorySwapBytes }), ...(oomScoreAdj === undefined ? {} : { oomScoreAdj }), ...blockIoOf(`${path}.blkio_config`, service["blkio_config"]),
  };
};

/** cpus; without it cpu_quota of each cpu_period. */
const milliCpusOf = (path: string, service: Mapping): number => {
  const cpus = cpusOf(`${path}.cpus`, service["cpus"]);
  if (cpus > 0 || service["cpu_quota"] === undefined) return cpus;
  return Math.round((whole(`${path}.cpu_quota`, service["cpu_quota"]) * 1000) / (service["cpu_period"] === undefined ? 100_000 : whole(`${path}.cpu_period`, service["cpu_period"], 1000)));
};

/** Of a healthcheck without a test: the image's, at other times. */
const healthTimesOf = (path: string, value: unknown): Partial<Omit<HealthCheck, "command">> => {
  const { interval, timeout, start_period: startPeriod, retries } = mapping(path, value);
  return {
    ...(interval === undefined ? {} : { intervalMs: durationOf(`${path}.interval`, interval, 0) }), ...(timeout === undefined ? {} : { timeoutMs: durationOf(`${path}.timeout`, timeout, 0) }),
    ...(startPeriod === undefined ? {} : { startPeriodMs: durationOf(`${path}.start_period`, startPeriod, 0) }), ...(retries === undefined ? {} : { retries: whole(`${path}.retries`, retries, 1) }),
  };
};

const isOff = (path: string, value: unknown): boolean => {
  const { disable, test } = mapping(path, value);
  return bool(`${path}.disable`, disable) || test === "NONE" || (Array.isArray(test) && test[0] === "NONE");
};

const environmentOf = (path: string, service: Mapping, { env, folder, read }: ServiceSurroundings): ReadonlyMap<string, string> => {
  const found = new Map<string, string>();
  for (const [i, entry] of list(`${path}.env_file`, service["env_file"]).entries()) {
    const where = `${path}.env_file[${i}]`;
    const long = isMapping(entry) ? entry : { path: entry };
    const file = resolve(folder, text(`${where}.path`, long["path"]));
    const source = read(file);
    if (source === undefined) {
      if (long["required"] === undefined || bool(`${where}.required`, long["required"])) throw fault(where, `no such file: ${file}`);
      continue;
    }
    for (const [name, value] of parseDotEnv(file, source, (v, soFar) => interpolate(file, v, (n) => env[n] ?? soFar.get(n) ?? found.get(n)), env)) found.set(name, value);
  }
  for (const [name, given] of pairs(`${path}.environment`, service["environment"])) {
    const value = given ?? env[name];
    if (value !== undefined) found.set(name, value);
  }
  return found;
};

const dependenciesOf = (path: string, value: unknown): readonly Dependency[] =>
  Object.entries(mapping(path, value)).map(([service, entry]) => {
    const long = mapping(`${path}.${service}`, entry);
    const condition = text(`${path}.${service}.condition`, long["condition"]) || "service_started";
    if (!["service_started", "service_healthy", "service_completed_successfully"].includes(condition)) throw fault(`${path}.${service}.condition`, `${JSON.stringify(condition)} is not service_started, service_healthy or service_completed_successfully`);
    return { service, condition: condition as Dependency["condition"], required: long["required"] === undefined || bool(`${path}.${service}.required`, long["required"]) };
  });

const buildOf = (path: string, value: unknown, { folder, env, warn }: ServiceSurroundings): BuildPlan | undefined => {
  if (value === undefined) return undefined;
  const build = mapping(path, value);
  const known = ["context", "dockerfile", "target", "args", "no_cache", "tags"];
  if (build["dockerfile_inline"] !== undefined) throw fault(`${path}.dockerfile_inline`, "is not supported: put it into a file and name that in dockerfile");
  for (const key of Object.keys(build)) if (!known.includes(key) && !key.startsWith("x-")) warn(`${path}.${key} has no effect here`);
  const args = [...pairs(`${path}.args`, build["args"])].flatMap(([k, v]): [string, string][] => ((v ?? env[k]) === undefined ? [] : [[k, (v ?? env[k])!]]));
  const context = resolve(folder, text(`${path}.context`, build["context"]) || ".");
  return { context, dockerfile: text(`${path}.dockerfile`, build["dockerfile"]), target: text(`${path}.target`, build["target"]), args: new Map(args), noCache: bool(`${path}.no_cache`, build["no_cache"]), tags: texts(`${path}.tags`, build["tags"]) };
};

const PULL_POLICIES: Readonly<Record<string, ContainerRequest["pull"]>> = { always: "always", never: "never", missing: "missing", if_not_present: "missing", build: "missing", "": "missing" };

const networkOf = (path: string, service: Mapping, project: string): Pick<ContainerRequest, "network" | "aliases"> => {
  const mode = text(`${path}.network_mode`, service["network_mode"]);
  if (mode !== "" && service["networks"] !== undefined) throw fault(`${path}.network_mode`, "can't go with networks");
  if (!["", "bridge", "host", "none"].includes(mode)) throw fault(`${path}.network_mode`, `${JSON.stringify(mode)} is not host, none or bridge; containers of another service can't share theirs`);
  const aliases = Object.entries(mapping(`${path}.networks`, service["networks"])).flatMap(([key, entry]) => texts(`${path}.networks.${key}.aliases`, mapping(`${path}.networks.${key}`, entry)["aliases"]));
  return { network: mode === "host" || mode === "none" ? mode : project, aliases };
};

const restartOf = (path: string, service: Mapping, policy: Mapping): ContainerRequest["restart"] => {
  if (service["restart"] !== undefined) return parseRestart(`${path}.restart`, text(`${path}.restart`, service["restart"] === false ? "no" : service["restart"]));
  const condition = text(`${path}.deploy.restart_policy.condition`, policy["condition"]);
  if (condition === "") return { policy: Object.keys(policy).length > 0 ? "always" : "no", most: 0 };
  if (!["none", "on-failure", "any"].includes(condition)) throw fault(`${path}.deploy.restart_policy.condition`, `${JSON.stringify(condition)} is not none, on-failure or any`);
  return condition === "none" ? { policy: "no", most: 0 } : condition === "any" ? { policy: "always", most: 0 } : { policy: "on-failure", most: whole(`${path}.deploy.restart_policy.max_attempts`, policy["max_attempts"] ?? 0) };
};

export const planService = (name: string, service: Mapping, surroundings: ServiceSurroundings): ServicePlan => {
  const path = `services.${name}`;
  const { project, warn } = surroundings;
  checkKeys(path, service, warn);
  return at(path, () => {
    const build = buildOf(`${path}.build`, service["build"], surroundings);
    const image = text(`${path}.image`, service["image"]) || (build ? `${project}-${nameFrom(name)}` : "");
    if (image === "") throw fault(path, "needs an image or a build");
    const deploy = mapping(`${path}.deploy`, service["deploy"]);
    const mode = text(`${path}.deploy.mode`, deploy["mode"]);
    if (!["", "replicated"].includes(mode)) throw fault(`${path}.deploy.mode`, `${JSON.stringify(mode)} is not supported: only replicated`);
    const resources = mapping(`${path}.deploy.resources`, deploy["resources"]);
    const [limits, reserved] = (["limits", "reservations"] as const).map((k) => mapping(`${path}.deploy.resources.${k}`, resources[k])) as [Mapping, Mapping];
    if (reserved["devices"] !== undefined) throw fault(`${path}.deploy.resources.reservations.devices`, "there are no device plugins: name the devices in the service's own devices");
    const restart = restartOf(path, service, mapping(`${path}.deploy.restart_policy`, deploy["restart_policy"]));
    const replicas = deploy["replicas"] === undefined ? undefined : whole(`${path}.deploy.replicas`, deploy["replicas"]);
    const scale = service["scale"] === undefined ? (replicas ?? 1) : whole(`${path}.scale`, service["scale"]);
    const containerName = text(`${path}.container_name`, service["container_name"]);
    if (containerName !== "" && scale > 1) throw fault(`${path}.container_name`, `can't go with ${scale} containers: names are unique`);
    const memoryBytes = sizeOf(`${path}.mem_limit`, service["mem_limit"]) || sizeOf(`${path}.deploy.resources.limits.memory`, limits["memory"]);
    const reservation = sizeOf(`${path}.mem_reservation`, service["mem_reservation"]) || sizeOf(`${path}.deploy.resources.reservations.memory`, reserved["memory"]);
    const pullPolicy = text(`${path}.pull_policy`, service["pull_policy"]);
    if (!Object.hasOwn(PULL_POLICIES, pullPolicy)) throw fault(`${path}.pull_policy`, `${JSON.stringify(pullPolicy)} is not always, never, missing or build`);
    const options = texts(`${path}.security_opt`, service["security_opt"]);
    const { network, aliases } = networkOf(path, service, project);
    const platform = text(`${path}.platform`, service["platform"]);
    const request: ContainerRequest = {
      ...NEW_CONTAINER, name: nameFrom(name), image,
      entrypoint: commandWords(`${path}.entrypoint`, service["entrypoint"]), args: commandWords(`${path}.command`, service["command"]) ?? [], env: environmentOf(path, service, surroundings),
      labels: new Map([...pairs(`${path}.annotations`, service["annotations"]), ...pairs(`${path}.labels`, service["labels"])].map(([k, v]) => [k, v ?? ""])),
      ports: [...portsOf(`${path}.ports`, service["ports"]), ...texts(`${path}.expose`, service["expose"]).flatMap((p, i) => parsePortMapping(`${path}.expose[${i}]`, p).map((m) => ({ ...m, hostPort: undefined })))],
      mounts: [
        ...mountsOf(`${path}.volumes`, service["volumes"], surroundings), ...textOrTexts(`${path}.tmpfs`, service["tmpfs"]).map((m) => parseTmpfsFlag(`${path}.tmpfs`, m)),
        ...fileMounts("secret", `${path}.secrets`, service["secrets"], surroundings.secrets), ...fileMounts("config", `${path}.configs`, service["configs"], surroundings.configs),
      ],
      network, aliases: [...new Set([nameFrom(name), name, ...(containerName === "" ? [] : [containerName]), ...aliases])], restart,
      user: text(`${path}.user`, service["user"]), groups: texts(`${path}.group_add`, service["group_add"]).map((g, i) => parseGroup(`${path}.group_add[${i}]`, g)), workingDir: text(`${path}.working_dir`, service["working_dir"]),
      hostname: text(`${path}.hostname`, service["hostname"]), readOnly: bool(`${path}.read_only`, service["read_only"]), tty: bool(`${path}.tty`, service["tty"]), stdin: bool(`${path}.stdin_open`, service["stdin_open"]),
      privileged: bool(`${path}.privileged`, service["privileged"]), capAdd: texts(`${path}.cap_add`, service["cap_add"]), capDrop: texts(`${path}.cap_drop`, service["cap_drop"]),
      ...securityOf(options, `${path}.security_opt`),
      memoryBytes, memoryReservationBytes: reservation > 0 ? reservation : undefined, extras: extrasOf(path, service), runtimeClass: text(`${path}.runtime`, service["runtime"]), milliCpus: milliCpusOf(path, service) || cpusOf(`${path}.deploy.resources.limits.cpus`, limits["cpus"]),
      milliCpusReserved: cpusOf(`${path}.deploy.resources.reservations.cpus`, reserved["cpus"]), shmBytes: sizeOf(`${path}.shm_size`, service["shm_size"]),
      extraHosts: [...pairs(`${path}.extra_hosts`, service["extra_hosts"])].map(([host, ip]) => `${host}:${ip ?? ""}`),
      dns: { servers: textOrTexts(`${path}.dns`, service["dns"]), searches: textOrTexts(`${path}.dns_search`, service["dns_search"]), options: texts(`${path}.dns_opt`, service["dns_opt"]) },
      sysctls: new Map([...pairs(`${path}.sysctls`, service["sysctls"])].map(([k, v]) => [k, v ?? ""])), health: healthOf(`${path}.healthcheck`, service["healthcheck"]), imageHealth: isOff(`${path}.healthcheck`, service["healthcheck"]) ? undefined : healthTimesOf(`${path}.healthcheck`, service["healthcheck"]),
      hostPid: oneOf(`${path}.pid`, service["pid"], ["", "host"]) === "host", hostIpc: oneOf(`${path}.ipc`, service["ipc"], ["", "host", "private", "shareable"]) === "host",
      stopSignal: text(`${path}.stop_signal`, service["stop_signal"]), stopGraceSeconds: Math.ceil(durationOf(`${path}.stop_grace_period`, service["stop_grace_period"], 10_000) / 1000), pull: PULL_POLICIES[pullPolicy]!,
      nodeSelector: platform === "" ? new Map() : new Map([["kubernetes.io/arch", platform.split("/")[1] ?? platform]]),
    };
    return {
      name, scale, asDeployment: replicas !== undefined && ["always", "unless-stopped", "no"].includes(restart.policy) && containerName === "", build, pullPolicy,
      dependsOn: dependenciesOf(`${path}.depends_on`, service["depends_on"]), profiles: texts(`${path}.profiles`, service["profiles"]), containerName, request,
    };
  });
};

const oneOf = (path: string, value: unknown, choices: readonly string[]): string => {
  const given = text(path, value);
  if (!choices.includes(given)) throw fault(path, `${JSON.stringify(given)} is not ${choices.filter((c) => c !== "").join(" or ")}`);
  return given;
};
