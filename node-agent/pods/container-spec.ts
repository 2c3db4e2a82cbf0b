// From what the control plane says of a container, and the image's own settings, to what the runtime is told. Pure.
import { GantryError } from "../../base/errors.ts";
import { parseExtras, type ContainerExtras } from "../../base/kube/container-extras.ts";
import { USER_ANNOTATION } from "../../base/kube/pod-extras.ts";
import type { Container, PodSecurity } from "../../proto/gen/gantry/v1/agent.ts";
import type { Image, ImageConfig } from "../images/image-service.ts";
import type { CgroupLimits, ContainerSpec, RuntimeMount } from "../runtime/container-runtime.ts";
import type { Assignment } from "./assignment.ts";
import { hugePagesOf } from "./huge-pages.ts";
import { buildEnvironment, environmentList, expand } from "./environment.ts";

/** What the pod's sandbox gives to each of its containers. */
export interface SandboxFacts {
  readonly namespaces: ContainerSpec["namespaces"];
  readonly hostname: string;
  /** "" for a pod on the host's network without a known address. */
  readonly podIp: string;
  readonly hostIp: string;
  /** /etc/hosts, /etc/hostname, /etc/resolv.conf and the like: path in the container -> path on the node. */
  readonly files: ReadonlyMap<string, string>;
  /** Of the pod, below the node's root: kubepods/burstable/pod<uid>. */
  readonly cgroupPath: string;
}

export interface ContainerSpecInput {
  readonly id: string;
  readonly pod: Assignment;
  readonly container: Container;
  readonly image: Image;
  readonly sandbox: SandboxFacts;
  /** Mounts of volumes, ready to bind. */
  readonly volumeMounts: readonly RuntimeMount[];
  readonly logPath: string;
  readonly nodeMemoryBytes: number;
  /** For containers without a limit of their own. */
  readonly defaultPidsLimit: number;
  /** One process is killed when a container is out of memory, not all. */
  readonly singleProcessOomKill: boolean;
}

/** The value of a field that only the node knows. "Invalid" for any other. */
export const nodeField = (fieldPath: string, facts: { readonly podIp: string; readonly hostIp: string }): string => {
  switch (fieldPath) {
    case "status.podIP": case "status.podIPs": return facts.podIp;
    case "status.hostIP": case "status.hostIPs": return facts.hostIp;
    default: throw new GantryError("Invalid", `field ${JSON.stringify(fieldPath)} is not one that the node knows`);
  }
};

/**
 * Command line: a pod's command replaces the image's entrypoint and drops its cmd; args replace the cmd.
 * https://kubernetes.io/docs/tasks/inject-data-application/define-command-argument-container/#notes
 */
export const commandLine = (container: Pick<Container, "command" | "args">, image: Pick<ImageConfig, "entrypoint" | "cmd">, env: ReadonlyMap<string, string>): readonly string[] => {
  const expanded = (words: readonly string[]): readonly string[] => words.map((w) => expand(w, env));
  const args = container.args.length > 0 ? expanded(container.args) : container.command.length > 0 ? [] : image.cmd;
  return [...(container.command.length > 0 ? expanded(container.command) : image.entrypoint), ...args];
};

/** "1000:1000", "user", ... : what the container says, else the pod, else the pod's annotation (`named`, which may be a name), else the image. */
const userOf = (container: Container, pod: PodSecurity | undefined, image: ImageConfig, named: string): string => {
  const uid = container.security?.runAsUser ?? pod?.runAsUser;
  const gid = container.security?.runAsGroup ?? pod?.runAsGroup;
  const without = named === "" ? image.user : named;
  const user = uid === undefined ? without.split(":")[0]! : String(uid);
  const group = gid === undefined ? (uid === undefined ? (without.split(":")[1] ?? "") : "") : String(gid);
  return group === "" ? user : `${user === "" ? "0" : user}:${group}`;
};

/** Weight of CPU: 1024 a core, as the kubelet's MilliCPUToShares; without a request the least, without that but with a limit the limit's. */
export const cpuShares = (milliCpu: number): number => (milliCpu === 0 ? 2 : Math.min(262_144, Math.max(2, Math.floor((milliCpu * 1024) / 1000))));

/** `together` is docker's: memory and swap, -1 for any. Without it there is no swap, as kubelet's NoSwap; nor is there when the limit of memory has grown beyond it. */
const swapBytes = (memoryBytes: number, together: number | undefined): number =>
  together === -1 ? -1 : together === undefined || memoryBytes === 0 ? 0 : Math.max(0, together - memoryBytes);

/** Without what can't change in a container that runs: huge pages. */
export const limitsOf = (container: Pick<Container, "requests" | "limits" | "pidsLimit">, defaultPidsLimit: number, extras: Pick<ContainerExtras, "cpuShares" | "pidsLimit" | "memorySwapBytes">): CgroupLimits => ({
  cpuShares: extras.cpuShares ?? cpuShares(container.requests?.milliCpu || container.limits?.milliCpu || 0),
  cpuQuotaMilli: container.limits?.milliCpu ?? 0,
  memoryBytes: container.limits?.memoryBytes ?? 0,
  swapBytes: swapBytes(container.limits?.memoryBytes ?? 0, extras.memorySwapBytes),
  pids: extras.pidsLimit === undefined ? (container.pidsLimit > 0 ? container.pidsLimit : defaultPidsLimit) : Math.max(0, extras.pidsLimit),
});

/** https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#node-out-of-memory-behavior */
export const oomScoreAdj = (qosClass: string, memoryRequestBytes: number, nodeMemoryBytes: number): number => {
  if (qosClass === "Guaranteed") return -997;
  if (qosClass !== "Burstable") return 1000;
  return Math.min(999, Math.max(3, 1000 - Math.floor((1000 * memoryRequestBytes) / nodeMemoryBytes)));
};

/** The container's own profile, else the pod's, else the runtime's default. */
const profileOf = (kind: "seccomp" | "appArmor", container: Container, pod: PodSecurity | undefined): ContainerSpec["seccomp"] => {
  const from = container.security?.[`${kind}Type`] ? container.security : pod;
  const type = from?.[`${kind}Type`];
  return type === "Localhost" ? { type, profile: from?.[`${kind}Localhost`] ?? "" } : type === "Unconfined" ? { type } : { type: "RuntimeDefault" };
};

/** "Invalid" (CreateContainerConfigError) when there is nothing to run, or it would run as root against runAsNonRoot. */
export const buildContainerSpec = (input: ContainerSpecInput): ContainerSpec => {
  const { pod, container, image, sandbox, singleProcessOomKill } = input;
  const env = buildEnvironment(container.env, (path) => nodeField(path, sandbox));
  const args = commandLine(container, image.config, env);
  if (args.length === 0) throw new GantryError("Invalid", `no command specified: neither the container ${container.name} nor the image ${container.image} has one`);
  const user = userOf(container, pod.security, image.config, pod.annotations[USER_ANNOTATION] ?? "");
  if (container.security?.runAsNonRoot ?? pod.security?.runAsNonRoot ?? false) checkNonRoot(user, container);
  const security = container.security;
  const extras = parseExtras(pod.annotations);
  const mounted = new Set(input.volumeMounts.map((m) => m.destination));
  return {
    id: input.id, name: container.name, layerDirs: image.layerDirs, args, user,
    env: environmentList(image.config.env, env, { hostname: sandbox.hostname, tty: container.tty }),
    cwd: container.workingDir || image.config.workingDir || "/",
    supplementalGroups: [...(pod.security?.supplementalGroups ?? []), ...(pod.security?.fsGroup === undefined ? [] : [pod.security.fsGroup]), ...extras.groups],
    ...(pod.security?.strictGroups && { strictGroups: true }),
    hostname: sandbox.hostname, namespaces: sandbox.namespaces,
    mounts: [
      ...[...sandbox.files].filter(([destination]) => !mounted.has(destination)).map(([destination, source]): RuntimeMount => ({ source, destination, type: "bind", options: security?.readOnlyRoot ? ["ro"] : ["rw"] })),
      ...input.volumeMounts,
    ],
    tty: container.tty, stdin: container.stdin, stdinOnce: container.stdinOnce, readOnlyRoot: security?.readOnlyRoot ?? false, privileged: security?.privileged ?? false,
    ...(security?.procMount === "Unmasked" && { unmaskedProc: true }),
    // Allowing escalation is Kubernetes' default for its own sake; Gantry's is not to, unless the pod says so.
    noNewPrivileges: !(security?.privileged ?? false) && security?.allowPrivilegeEscalation !== true,
    capabilitiesAdd: security?.capabilitiesAdd ?? [], capabilitiesDrop: security?.capabilitiesDrop ?? [],
    seccomp: security?.privileged ? { type: "Unconfined" } : profileOf("seccomp", container, pod.security), appArmor: profileOf("appArmor", container, pod.security), sysctls: pod.security?.sysctls ?? {},
    cgroupPath: `${sandbox.cgroupPath}/${input.id}`, limits: { ...limitsOf(container, input.defaultPidsLimit, extras), hugePages: hugePagesOf(container.limits) },
    rlimits: extras.ulimits, devices: extras.devices, init: extras.init, cpusetCpus: extras.cpusetCpus, cpusetMems: extras.cpusetMems, blockIo: extras, consoleSize: extras.consoleSize,
    oomGroup: !singleProcessOomKill,
    oomScoreAdj: extras.oomScoreAdj ?? oomScoreAdj(pod.qosClass, container.requests?.memoryBytes || container.limits?.memoryBytes || 0, input.nodeMemoryBytes),
    logPath: input.logPath, ...(pod.runtimeClass === "" ? {} : { handler: pod.runtimeClass }),
    labels: { "io.kubernetes.pod.uid": pod.uid, "io.kubernetes.pod.namespace": pod.namespace, "io.kubernetes.pod.name": pod.name, "io.kubernetes.container.name": container.name },
  };
};

const checkNonRoot = (user: string, container: Container): void => {
  const name = user.split(":")[0]!;
  if (name === "" || name === "0" || name === "root") throw new GantryError("Invalid", `container ${container.name} has runAsNonRoot and its image would run as root: set runAsUser`);
  if (!/^\d+$/.test(name)) throw new GantryError("Invalid", `container ${container.name} has runAsNonRoot and its image's user ${JSON.stringify(name)} is not a number, so it can't be told from root: set runAsUser`);
};
