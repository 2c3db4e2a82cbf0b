// One container as docker's words describe it, and the pod that it becomes. `gantry run` and `gantry compose` meet here. Pure.
import { isIP } from "node:net";
import { GantryError } from "../../base/errors.ts";
import { NO_EXTRAS, TMPFS_ANNOTATION_PREFIX, extrasAnnotations, type ContainerExtras } from "../../base/kube/container-extras.ts";
import { isLabelKey, isLabelValue } from "../../base/kube/labels.ts";
import { AUTO_REMOVE_ANNOTATION, HOSTS_GROUP_LABEL, HOSTS_NAMES_ANNOTATION, MAX_RESTARTS_ANNOTATION, NETWORK_ANNOTATION, USER_ANNOTATION } from "../../base/kube/pod-extras.ts";
import { formatBytes, formatMilliCpu } from "../../base/kube/quantity.ts";
import type { Container, PodTemplateSpec, Probe, SecurityContext, Volume } from "../../base/kube/types.gen.ts";
import { volumeNameFor, type MountRequest } from "./mount-flag.ts";
import type { Link, VolumesFrom } from "./other-containers.ts";
import type { PortMapping } from "./port-mapping.ts";

export const RUN_LABEL = "gantry.io/run";
const STOP_SIGNAL_ANNOTATION = "gantry.io/stop-signal";
const KEEP_LAYER_ANNOTATION = "gantry.io/keep-writable-layer";

export interface HealthCheck {
  readonly command: readonly string[];
  readonly intervalMs: number;
  readonly timeoutMs: number;
  readonly retries: number;
  readonly startPeriodMs: number;
}

/** docker's. */
export const HEALTH_DEFAULTS: Omit<HealthCheck, "command"> = { intervalMs: 30_000, timeoutMs: 30_000, retries: 3, startPeriodMs: 0 };

export interface RestartRequest {
  readonly policy: "no" | "always" | "on-failure" | "unless-stopped";
  /** Of on-failure; 0: without end. */
  readonly most: number;
}

export interface ContainerRequest {
  readonly name: string;
  readonly image: string;
  /** Undefined: the image's; empty: none, the command is all. */
  readonly entrypoint: readonly string[] | undefined;
  readonly args: readonly string[];
  readonly env: ReadonlyMap<string, string>;
  readonly labels: ReadonlyMap<string, string>;
  /** Of the pod; what other fields say goes before. */
  readonly annotations: ReadonlyMap<string, string>;
  readonly ports: readonly PortMapping[];
  readonly mounts: readonly MountRequest[];
  /** "bridge", "host", "none", or the name of a network whose containers find each other by name. */
  readonly network: string;
  /** Names beside the container's own, in a named network. */
  readonly aliases: readonly string[];
  readonly restart: RestartRequest;
  readonly user: string;
  /** Numbers, and names that only the image's /etc/group knows. */
  readonly groups: readonly string[];
  readonly workingDir: string;
  readonly hostname: string;
  readonly readOnly: boolean;
  readonly tty: boolean;
  readonly stdin: boolean;
  /** Its standard input ends with the first client's, as that of a program in a pipe. */
  readonly stdinOnce: boolean;
  readonly privileged: boolean;
  readonly capAdd: readonly string[];
  readonly capDrop: readonly string[];
  readonly noNewPrivileges: boolean | undefined;
  readonly unconfinedSeccomp: boolean;
  /** Name of an AppArmor profile of the node's, "unconfined", or "" for the default. */
  readonly appArmor?: string;
  /** 0: unlimited. */
  readonly memoryBytes: number;
  /** Undefined: what is limited is also reserved, as Kubernetes does. */
  readonly memoryReservationBytes: number | undefined;
  readonly milliCpus: number;
  readonly extras: ContainerExtras;
  /** Name of a RuntimeClass; "": the node's usual one. */
  readonly runtimeClass: string;
  /** What only other objects say, and prepare() looks up: the image's ports, other containers' addresses and mounts. */
  readonly publishAll: boolean;
  readonly links: readonly Link[];
  readonly volumesFrom: readonly VolumesFrom[];
  /** What the scheduler sets aside; 0: nothing, as docker. */
  readonly milliCpusReserved: number;
  readonly shmBytes: number;
  /** `NAME:IP`. */
  readonly extraHosts: readonly string[];
  readonly dns: { readonly servers: readonly string[]; readonly searches: readonly string[]; readonly options: readonly string[] };
  readonly sysctls: ReadonlyMap<string, string>;
  readonly health: HealthCheck | undefined;
  /** Without one of its own the image's holds, with these times in place of the image's; undefined: not even that. */
  readonly imageHealth: Partial<Omit<HealthCheck, "command">> | undefined;
  readonly hostPid: boolean;
  readonly hostIpc: boolean;
  /** A user namespace of its own. */
  readonly ownUsers: boolean;
  readonly stopSignal: string;
  readonly stopGraceSeconds: number;
  readonly pull: "missing" | "always" | "never";
  /** No progress. */
  readonly quiet: boolean;
  /** Undefined: stays after its end. */
  readonly removeAfter: string | undefined;
  readonly nodeSelector: ReadonlyMap<string, string>;
  /** Names of nodes of which it must be one; empty: any. For bind mounts of this machine's folders. */
  readonly nodes: readonly string[];
}

/** docker's defaults. */
export const NEW_CONTAINER: Omit<ContainerRequest, "name" | "image"> = {
  entrypoint: undefined, args: [], env: new Map(), labels: new Map(), annotations: new Map(), ports: [], mounts: [], network: "bridge", aliases: [], restart: { policy: "no", most: 0 }, user: "", groups: [], workingDir: "",
  hostname: "", readOnly: false, tty: false, stdin: false, stdinOnce: false, privileged: false, capAdd: [], capDrop: [], noNewPrivileges: undefined, unconfinedSeccomp: false, memoryBytes: 0, memoryReservationBytes: undefined,
  extras: NO_EXTRAS, runtimeClass: "", publishAll: false, links: [], volumesFrom: [], milliCpus: 0, milliCpusReserved: 0, shmBytes: 0, extraHosts: [], dns: { servers: [], searches: [], options: [] }, sysctls: new Map(), health: undefined, imageHealth: {}, hostPid: false, hostIpc: false, ownUsers: false, stopSignal: "",
  stopGraceSeconds: 10, pull: "missing", quiet: false, removeAfter: undefined, nodeSelector: new Map(), nodes: [],
};

export const parseRestart = (where: string, text: string): RestartRequest => {
  const match = /^(no|always|on-failure|unless-stopped)(?::(\d{1,6}))?$/.exec(text === "" ? "no" : text);
  if (!match || (match[2] !== undefined && match[1] !== "on-failure")) throw new GantryError("BadRequest", `${where}: ${JSON.stringify(text)} is not no, always, unless-stopped or on-failure[:N]`);
  return { policy: match[1] as RestartRequest["policy"], most: Number(match[2] ?? 0) };
};

const RESTART_POLICIES = { no: "Never", always: "Always", "unless-stopped": "Always", "on-failure": "OnFailure" } as const;
const PULL_POLICIES = { missing: "IfNotPresent", always: "Always", never: "Never" } as const;

const capability = (name: string): string => name.toUpperCase().replace(/^CAP_/, "");

/** A check's result decides whether the container is ready; nothing is restarted for it, as in docker. */
export const toProbe = ({ command, intervalMs, timeoutMs, retries }: HealthCheck): Probe => ({
  exec: { command: [...command] }, periodSeconds: Math.max(1, Math.round(intervalMs / 1000)), timeoutSeconds: Math.max(1, Math.round(timeoutMs / 1000)), failureThreshold: Math.max(1, retries),
});

/** "NAME:IP", also with = and with [IPv6]. */
const hostAlias = (text: string): { readonly ip: string; readonly name: string } => {
  const match = /^([^:=]+)[:=]\[?([^\]]+)\]?$/.exec(text);
  if (!match || isIP(match[2]!) === 0) throw new GantryError("BadRequest", `extra host ${JSON.stringify(text)} is not NAME:IP`);
  return { name: match[1]!, ip: match[2]! };
};

const isNumber = (text: string): boolean => /^\d+$/.test(text);

/** uid[:gid] as numbers; undefined for names, which only the image's /etc/passwd knows. */
const numericUser = (user: string): { readonly uid: number; readonly gid?: number } | undefined => {
  const match = /^(\d+)(?::(\d+))?$/.exec(user);
  return match ? { uid: Number(match[1]), ...(match[2] === undefined ? {} : { gid: Number(match[2]) }) } : undefined;
};

const fileMode = (mode: number | undefined): { readonly defaultMode?: number } => (mode === undefined ? {} : { defaultMode: mode });

interface PodVolumes {
  readonly volumes: Volume[];
  readonly mounts: NonNullable<Container["volumeMounts"]>;
  readonly annotations: Readonly<Record<string, string>>;
}

const toVolumes = (request: ContainerRequest): PodVolumes => {
  const used = new Set<string>();
  /** One volume may be mounted twice. */
  const known = new Map<string, string>();
  const volumes: Volume[] = [];
  const annotations: Record<string, string> = {};
  const all: readonly MountRequest[] = request.shmBytes > 0 ? [...request.mounts, { type: "tmpfs", target: "/dev/shm", readOnly: false, sizeBytes: request.shmBytes, options: "noexec" }] : request.mounts;
  const duplicate = all.find((m, i) => all.some((other, j) => j < i && other.target === m.target));
  if (duplicate) throw new GantryError("BadRequest", `two mounts have the same target ${duplicate.target}`);
  const mounts = all.map((mount) => {
    const shared = mount.type === "tmpfs" || mount.source === "" ? undefined : `${mount.type} ${mount.source}${"mode" in mount ? ` ${mount.mode ?? ""}` : ""}`;
    let name = shared === undefined ? undefined : known.get(shared);
    if (name === undefined) {
      name = volumeNameFor(mount, used);
      if (shared !== undefined) known.set(shared, name);
      if (mount.type === "tmpfs" && mount.options !== "") annotations[`${TMPFS_ANNOTATION_PREFIX}${name}`] = mount.options;
      volumes.push(
        mount.type === "bind" ? { name, hostPath: { path: mount.source, type: mount.create ? "DirectoryOrCreate" : "" } }
          : mount.type === "tmpfs" ? { name, emptyDir: { medium: "Memory", ...(mount.sizeBytes > 0 ? { sizeLimit: formatBytes(mount.sizeBytes) } : {}) } }
            : mount.type === "secret" ? { name, secret: { secretName: mount.source, ...fileMode(mount.mode) } }
              : mount.type === "config" ? { name, configMap: { name: mount.source, ...fileMode(mount.mode) } }
                : mount.source === "" ? { name, emptyDir: {} } : { name, persistentVolumeClaim: { claimName: mount.source } },
      );
    }
    return {
      name, mountPath: mount.target, ...(mount.readOnly ? { readOnly: true } : {}),
      ...(mount.type === "bind" && mount.propagation ? { mountPropagation: mount.propagation } : {}), ...(mount.type === "volume" && mount.subPath ? { subPath: mount.subPath } : mount.type === "secret" || mount.type === "config" ? { subPath: mount.key } : {}),
    };
  });
  return { volumes, mounts, annotations };
};

const toSecurity = (request: ContainerRequest): SecurityContext => {
  const user = numericUser(request.user);
  const add = request.capAdd.map(capability);
  const drop = request.capDrop.map(capability);
  return {
    ...(request.privileged ? { privileged: true } : {}), ...(request.readOnly ? { readOnlyRootFilesystem: true } : {}),
    ...(add.length + drop.length > 0 ? { capabilities: { ...(add.length > 0 ? { add } : {}), ...(drop.length > 0 ? { drop } : {}) } } : {}),
    ...(user ? { runAsUser: user.uid, ...(user.gid === undefined ? {} : { runAsGroup: user.gid }) } : {}),
    ...(request.noNewPrivileges === undefined ? {} : { allowPrivilegeEscalation: !request.noNewPrivileges }),
    ...(request.unconfinedSeccomp ? { seccompProfile: { type: "Unconfined" } } : {}),
    ...(request.appArmor ? { appArmorProfile: request.appArmor === "unconfined" ? { type: "Unconfined" } : { type: "Localhost", localhostProfile: request.appArmor } } : {}),
  };
};

const toContainer = (request: ContainerRequest, mounts: NonNullable<Container["volumeMounts"]>): Container => {
  const limits = { ...(request.milliCpus > 0 ? { cpu: formatMilliCpu(request.milliCpus) } : {}), ...(request.memoryBytes > 0 ? { memory: formatBytes(request.memoryBytes) } : {}) };
  const memoryReserved = request.memoryReservationBytes ?? 0;
  const requests = {
    // What is limited and not requested would be reserved whole: docker's --cpus is a cap only.
    ...(request.milliCpusReserved > 0 ? { cpu: formatMilliCpu(request.milliCpusReserved) } : request.milliCpus > 0 ? { cpu: "0" } : {}),
    ...(request.memoryReservationBytes === undefined ? {} : { memory: formatBytes(memoryReserved) }),
  };
  const security = toSecurity(request);
  // Kubernetes knows no container without an entrypoint whose image has one: the command takes its place.
  const [command, args] = request.entrypoint?.length === 0 ? [request.args, []] : [request.entrypoint ?? [], request.args];
  return {
    name: request.name, image: request.image, imagePullPolicy: PULL_POLICIES[request.pull],
    ...(command.length > 0 ? { command: command.map(literal) } : {}), ...(args.length > 0 ? { args: args.map(literal) } : {}),
    ...(request.workingDir ? { workingDir: request.workingDir } : {}),
    ...(request.env.size > 0 ? { env: [...request.env].map(([name, value]) => ({ name, value: literal(value) })) } : {}),
    ...(request.ports.length > 0 ? {
      ports: request.ports.map((p) => ({ containerPort: p.containerPort, protocol: p.protocol, ...(p.hostPort === undefined ? {} : { hostPort: p.hostPort }), ...(p.hostIp === "" ? {} : { hostIP: p.hostIp }) })),
    } : {}),
    ...(mounts.length > 0 ? { volumeMounts: mounts } : {}),
    ...(Object.keys(limits).length + Object.keys(requests).length > 0 ? { resources: { ...(Object.keys(limits).length > 0 ? { limits } : {}), ...(Object.keys(requests).length > 0 ? { requests } : {}) } } : {}),
    ...(request.health ? { readinessProbe: toProbe(request.health) } : {}),
    ...(Object.keys(security).length > 0 ? { securityContext: security } : {}),
    ...(request.tty ? { tty: true } : {}), ...(request.stdin ? { stdin: true, ...(request.stdinOnce ? { stdinOnce: true } : {}) } : {}),
  };
};

/** Kubernetes would replace $(NAME); docker takes it as it stands. */
const literal = (text: string): string => text.replaceAll("$(", "$$$$(");

/** Labels whose values Kubernetes would refuse (sentences, URLs) are kept as annotations. */
const splitLabels = (labels: ReadonlyMap<string, string>): { readonly labels: Record<string, string>; readonly annotations: Record<string, string> } => {
  const split = { labels: {} as Record<string, string>, annotations: {} as Record<string, string> };
  for (const [key, value] of labels) {
    if (!isLabelKey(key)) throw new GantryError("BadRequest", `label ${JSON.stringify(key)}: must be letters, digits, -, _ and ., perhaps behind a domain and a /`);
    if (isLabelValue(value)) split.labels[key] = value;
    else split.annotations[key] = value;
  }
  return split;
};

/** The pod, as a template: its name stands in the request. `ownLabels` say whose it is. */
export const toPodTemplate = (request: ContainerRequest, ownLabels: Readonly<Record<string, string>>): PodTemplateSpec => {
  const { volumes, mounts, annotations: ofVolumes } = toVolumes(request);
  const split = splitLabels(request.labels);
  const isNamed = !["bridge", "host", "none", "default"].includes(request.network);
  const names = [...new Set([request.name, ...request.aliases])];
  const { servers, searches, options } = request.dns;
  const [groupIds, groupNames] = [request.groups.filter(isNumber), request.groups.filter((g) => !isNumber(g))];
  const annotations = {
    ...split.annotations, ...Object.fromEntries(request.annotations), ...ofVolumes, ...extrasAnnotations({ ...request.extras, groups: groupNames }),
    [KEEP_LAYER_ANNOTATION]: "true",
    ...(request.stopSignal ? { [STOP_SIGNAL_ANNOTATION]: request.stopSignal } : {}),
    ...(request.removeAfter === undefined ? {} : { [AUTO_REMOVE_ANNOTATION]: request.removeAfter }),
    ...(request.user !== "" && !numericUser(request.user) ? { [USER_ANNOTATION]: request.user } : {}),
    ...(request.network === "none" ? { [NETWORK_ANNOTATION]: "none" } : {}),
    ...(request.restart.most > 0 ? { [MAX_RESTARTS_ANNOTATION]: String(request.restart.most) } : {}),
    ...(isNamed ? { [HOSTS_NAMES_ANNOTATION]: names.join(",") } : {}),
  };
  const podSecurity = { ...(request.sysctls.size > 0 ? { sysctls: [...request.sysctls].map(([name, value]) => ({ name, value })) } : {}), ...(groupIds.length > 0 ? { supplementalGroups: groupIds.map(Number) } : {}) };
  return {
    metadata: { labels: { ...split.labels, ...ownLabels, ...(isNamed ? { [HOSTS_GROUP_LABEL]: request.network } : {}) }, annotations },
    spec: {
      containers: [toContainer(request, mounts)],
      ...(volumes.length > 0 ? { volumes } : {}),
      restartPolicy: RESTART_POLICIES[request.restart.policy], terminationGracePeriodSeconds: request.stopGraceSeconds,
      ...(request.runtimeClass ? { runtimeClassName: request.runtimeClass } : {}),
      ...(request.network === "host" ? { hostNetwork: true } : {}), ...(request.hostPid ? { hostPID: true } : {}), ...(request.hostIpc ? { hostIPC: true } : {}), ...(request.ownUsers ? { hostUsers: false } : {}),
      ...(request.hostname ? { hostname: request.hostname } : {}),
      ...(request.extraHosts.length > 0 ? { hostAliases: request.extraHosts.map(hostAlias).map(({ ip, name }) => ({ ip, hostnames: [name] })) } : {}),
      ...(servers.length + searches.length + options.length > 0 ? {
        ...(servers.length > 0 ? { dnsPolicy: "None" } : {}),
        dnsConfig: {
          ...(servers.length > 0 ? { nameservers: [...servers] } : {}), ...(searches.length > 0 ? { searches: [...searches] } : {}),
          ...(options.length > 0 ? { options: options.map((o) => (o.includes(":") ? { name: o.slice(0, o.indexOf(":")), value: o.slice(o.indexOf(":") + 1) } : { name: o })) } : {}),
        },
      } : {}),
      ...(Object.keys(podSecurity).length > 0 ? { securityContext: podSecurity } : {}),
      ...(request.nodeSelector.size > 0 ? { nodeSelector: Object.fromEntries(request.nodeSelector) } : {}),
      ...(request.nodes.length > 0 ? { affinity: { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [{ matchExpressions: [{ key: "kubernetes.io/hostname", operator: "In", values: [...request.nodes] }] }] } } } } : {}),
    },
  };
};

/** Names of the volumes that must exist. */
export const namedVolumes = (request: ContainerRequest): readonly string[] => [...new Set(request.mounts.flatMap((m) => (m.type === "volume" && m.source !== "" ? [m.source] : [])))];
export const bindMounts = (request: ContainerRequest): readonly string[] => request.mounts.flatMap((m) => (m.type === "bind" ? [m.source] : []));
