// From a pod of the API to what its node is told: references resolved, units canonical. Pure, so that the same pod and
// references always give the same assignment, and an assignment is sent again exactly when it changed.
import type {
  Container as KubeContainer, EnvVar as KubeEnvVar, LifecycleHandler, Pod, PodSpec, Probe as KubeProbe, RuntimeClass, Secret,
} from "../../base/kube/types.gen.ts";
import { lifecycleOf } from "../../base/kube/desired-state.ts";
import { parseAmounts } from "../../base/kube/pod-requests.ts";
import type {
  Container, ContainerSecurity, Deletion, EnvVar, Handler, HostAlias, PodAssignment, PodSecurity, Probe, RegistryCredential, Resources,
} from "../../proto/gen/gantry/v1/agent.ts";
import { configMapEntries, secretEntries, toVolume } from "./assignment-volumes.ts";
import type { References } from "./assignment-volumes.ts";
import { fieldValue, resourceValue } from "./pod-fields.ts";
import { qosClassOf } from "../../base/kube/qos-class.ts";
import { startAtMs } from "../../base/kube/staging.ts";
import type { NodeAllocatable } from "./pod-fields.ts";

/** As large as the whole object, of no use on the node, and changed by every `kubectl apply`. */
const LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration";

export interface AssignmentContext extends References {
  runtimeClass(name: string): RuntimeClass | undefined;
  readonly allocatable: NodeAllocatable;
  /** Of the others in the pod's group (hosts-group.ts); after the pod's own. */
  readonly hostAliases?: readonly HostAlias[];
}

/** Gathers what could not be resolved: the first fault of each container ("" for the volumes). */
type Unresolved = Record<string, string>;

const toResources = (quantities: Readonly<Record<string, string>> | undefined): Resources => {
  const { cpu = 0, memory = 0, "ephemeral-storage": storage = 0, ...extended } = parseAmounts(quantities);
  return { milliCpu: cpu, memoryBytes: memory, ephemeralStorageBytes: storage, pods: 0, extended };
};

// Environment names may be any printable ASCII but "=" (Kubernetes 1.30, RelaxedEnvironmentVariableValidation).
const ENV_NAME = /^[ -<>-~]+$/;

const CLUSTER_DOMAIN = "cluster.local";

const hostLabel = (name: string): string => name.slice(0, 63).replace(/[-.]+$/, "");

const plain = (name: string, value: string): EnvVar => ({ name, source: { $case: "value", value } });

const toEnv = (pod: Pod, container: KubeContainer, context: AssignmentContext, fault: (message: string) => void): EnvVar[] => {
  const namespace = pod.metadata.namespace ?? "";
  const fromEntries = (prefix: string | undefined, entries: ReadonlyMap<string, Buffer>): EnvVar[] =>
    [...entries].map(([k, v]) => plain(`${prefix ?? ""}${k}`, v.toString())).filter((v) => ENV_NAME.test(v.name));
  const whole = (container.envFrom ?? []).flatMap((source) => {
    if (source.configMapRef) {
      const map = context.configMap(source.configMapRef.name ?? "");
      if (!map && !source.configMapRef.optional) fault(`configmap ${JSON.stringify(source.configMapRef.name ?? "")} not found`);
      return map ? fromEntries(source.prefix, configMapEntries({ ...map, binaryData: undefined })) : [];
    }
    if (source.secretRef) {
      const secret = context.secret(source.secretRef.name ?? "");
      if (!secret && !source.secretRef.optional) fault(`secret ${JSON.stringify(source.secretRef.name ?? "")} not found`);
      return secret ? fromEntries(source.prefix, secretEntries(secret)) : [];
    }
    return [];
  });

  const one = ({ name, value, valueFrom }: KubeEnvVar): EnvVar[] => {
    if (!valueFrom) return [plain(name, value ?? "")];
    if (valueFrom.fieldRef) {
      const field = fieldValue(pod, valueFrom.fieldRef.fieldPath);
      if (field === undefined) fault(`env ${name}: no such field: ${valueFrom.fieldRef.fieldPath}`);
      return field === undefined ? [] : "onNode" in field ? [{ name, source: { $case: "fieldPath", value: field.onNode } }] : [plain(name, field.value)];
    }
    if (valueFrom.resourceFieldRef) {
      const text = resourceValue(pod.spec!, container, valueFrom.resourceFieldRef, context.allocatable);
      if (text === undefined) fault(`env ${name}: no such resource: ${valueFrom.resourceFieldRef.resource}`);
      return text === undefined ? [] : [plain(name, text)];
    }
    const [kind, ref] = valueFrom.configMapKeyRef ? (["configmap", valueFrom.configMapKeyRef] as const) : (["secret", valueFrom.secretKeyRef] as const);
    if (!ref) {
      fault(`env ${name}: valueFrom ${Object.keys(valueFrom).join(", ")} is not supported`);
      return [];
    }
    const referenced = ref.name ?? "";
    const [map, secret] = kind === "configmap" ? [context.configMap(referenced), undefined] : [undefined, context.secret(referenced)];
    const entry = map ? map.data?.[ref.key] : secret?.data?.[ref.key];
    if (entry !== undefined) return [plain(name, secret ? Buffer.from(entry, "base64").toString() : entry)];
    if (!ref.optional) {
      fault(map || secret ? `couldn't find key ${ref.key} in ${kind === "configmap" ? "ConfigMap" : "Secret"} ${namespace}/${referenced}` : `${kind} ${JSON.stringify(referenced)} not found`);
    }
    return [];
  };
  return [...whole, ...(container.env ?? []).flatMap(one)];
};

const portOf = (container: KubeContainer, port: number | string): number =>
  typeof port === "number" ? port : (container.ports?.find((p) => p.name === port)?.containerPort ?? (Number(port) || 0));

const toHandler = (container: KubeContainer, handler: LifecycleHandler & KubeProbe): Handler => {
  if (handler.exec) return { handler: { $case: "exec", value: { command: handler.exec.command ?? [] } } };
  if (handler.httpGet) {
    const { scheme, host, port, path, httpHeaders } = handler.httpGet;
    return { handler: { $case: "httpGet", value: { scheme: scheme ?? "HTTP", host: host ?? "", port: portOf(container, port), path: path ?? "/", headers: httpHeaders ?? [] } } };
  }
  if (handler.tcpSocket) return { handler: { $case: "tcpSocket", value: { host: handler.tcpSocket.host ?? "", port: portOf(container, handler.tcpSocket.port) } } };
  if (handler.grpc) return { handler: { $case: "grpc", value: { port: handler.grpc.port, service: handler.grpc.service ?? "" } } };
  if (handler.sleep) return { handler: { $case: "sleep", value: { durationMs: handler.sleep.seconds * 1000 } } };
  return { handler: undefined };
};

const toProbe = (container: KubeContainer, probe: KubeProbe | undefined): Probe | undefined => probe && {
  handler: toHandler(container, probe),
  initialDelayMs: (probe.initialDelaySeconds ?? 0) * 1000, periodMs: (probe.periodSeconds ?? 10) * 1000, timeoutMs: (probe.timeoutSeconds ?? 1) * 1000,
  successThreshold: probe.successThreshold ?? 1, failureThreshold: probe.failureThreshold ?? 3, terminationGraceMs: (probe.terminationGracePeriodSeconds ?? 0) * 1000,
};

const toContainerSecurity = (container: KubeContainer): ContainerSecurity => {
  const s = container.securityContext ?? {};
  return {
    privileged: s.privileged ?? false, readOnlyRoot: s.readOnlyRootFilesystem ?? false, allowPrivilegeEscalation: s.allowPrivilegeEscalation,
    capabilitiesAdd: s.capabilities?.add ?? [], capabilitiesDrop: s.capabilities?.drop ?? [], runAsUser: s.runAsUser, runAsGroup: s.runAsGroup, runAsNonRoot: s.runAsNonRoot,
    seccompType: s.seccompProfile?.type ?? "", seccompLocalhost: s.seccompProfile?.localhostProfile ?? "", procMount: s.procMount ?? "",
    appArmorType: s.appArmorProfile?.type ?? "", appArmorLocalhost: s.appArmorProfile?.localhostProfile ?? "",
  };
};

const toPodSecurity = (pod: Pod): PodSecurity => {
  const s = pod.spec?.securityContext ?? {};
  return {
    runAsUser: s.runAsUser, runAsGroup: s.runAsGroup, runAsNonRoot: s.runAsNonRoot ?? false, supplementalGroups: s.supplementalGroups ?? [], fsGroup: s.fsGroup,
    sysctls: Object.fromEntries((s.sysctls ?? []).map((v) => [v.name, v.value])),
    seccompType: s.seccompProfile?.type ?? "", seccompLocalhost: s.seccompProfile?.localhostProfile ?? "", userNamespace: pod.spec?.hostUsers === false,
    strictGroups: s.supplementalGroupsPolicy === "Strict", fsGroupChangePolicy: s.fsGroupChangePolicy ?? "",
    appArmorType: s.appArmorProfile?.type ?? "", appArmorLocalhost: s.appArmorProfile?.localhostProfile ?? "",
  };
};

/** A claim that the pod takes read-only is so in each of its containers. */
const isReadOnlyClaim = (pod: Pod, volume: string): boolean => pod.spec?.volumes?.find((v) => v.name === volume)?.persistentVolumeClaim?.readOnly ?? false;

const toContainer = (pod: Pod, container: KubeContainer, context: AssignmentContext, unresolved: Unresolved): Container => ({
  name: container.name, image: container.image ?? "", imagePullPolicy: container.imagePullPolicy ?? "IfNotPresent",
  command: container.command ?? [], args: container.args ?? [], workingDir: container.workingDir ?? "",
  env: toEnv(pod, container, context, (message) => void (unresolved[container.name] ??= message)),
  requests: toResources(container.resources?.requests), limits: toResources(container.resources?.limits),
  mounts: (container.volumeMounts ?? []).map((m) => ({
    volume: m.name, path: m.mountPath, readOnly: (m.readOnly ?? false) || isReadOnlyClaim(pod, m.name), subPath: m.subPath ?? "", subPathExpr: m.subPathExpr ?? "", propagation: m.mountPropagation ?? "None",
  })),
  ports: (container.ports ?? []).map((p) => ({ name: p.name ?? "", containerPort: p.containerPort, hostPort: p.hostPort ?? 0, hostIp: p.hostIP ?? "", protocol: p.protocol ?? "TCP" })),
  security: toContainerSecurity(container),
  liveness: toProbe(container, container.livenessProbe), readiness: toProbe(container, container.readinessProbe), startup: toProbe(container, container.startupProbe),
  postStart: container.lifecycle?.postStart && toHandler(container, container.lifecycle.postStart),
  preStop: container.lifecycle?.preStop && toHandler(container, container.lifecycle.preStop),
  stdin: container.stdin ?? false, stdinOnce: container.stdinOnce ?? false, tty: container.tty ?? false,
  terminationMessagePath: container.terminationMessagePath ?? "/dev/termination-log", terminationMessagePolicy: container.terminationMessagePolicy ?? "File",
  restartPolicy: container.restartPolicy ?? "", pidsLimit: 0, targetContainer: "",
  restartOnResize: (container.resizePolicy ?? []).filter((p) => p.restartPolicy === "RestartContainer").map((p) => p.resourceName),
});

type DockerAuths = Readonly<Record<string, { readonly auth?: string; readonly username?: string; readonly password?: string; readonly identitytoken?: string }>>;

const dockerAuths = (data: Readonly<Record<string, string>>): DockerAuths => {
  const [current, legacy] = [data[".dockerconfigjson"], data[".dockercfg"]];
  const text = Buffer.from(current ?? legacy ?? "", "base64").toString() || "{}";
  const json = JSON.parse(text) as DockerAuths & { readonly auths?: DockerAuths };
  return current === undefined ? json : (json.auths ?? {});
};

/** docker's config.json: auths by registry, each with `auth` (base64 of user:password), or the two apart. Unreadable ones are left out: the pull then says what it lacked. */
const toCredentials = (secret: Secret): RegistryCredential[] => {
  try {
    return Object.entries(dockerAuths(secret.data ?? {})).map(([registry, entry]) => {
      const decoded = Buffer.from(entry.auth ?? "", "base64").toString();
      const colon = decoded.indexOf(":");
      const [user, password] = colon < 0 ? [undefined, undefined] : [decoded.slice(0, colon), decoded.slice(colon + 1)];
      return { registry, username: user ?? entry.username ?? "", password: password ?? entry.password ?? "", identityToken: entry.identitytoken ?? "" };
    });
  } catch {
    return [];
  }
};

const toDeletion = (pod: Pod): Deletion | undefined => {
  if (pod.metadata.deletionTimestamp === undefined) return undefined;
  // The timestamp is when the grace ends, not when the deletion was asked for.
  const graceMs = (pod.metadata.deletionGracePeriodSeconds ?? 0) * 1000;
  return { requestedMs: Date.parse(pod.metadata.deletionTimestamp) - graceMs, graceMs };
};

/** Of a pod with a subdomain. There is no cluster DNS to answer for it yet, but the pod itself and its /etc/hosts know it. */
const fqdnOf = ({ metadata, spec }: Pod): string => (spec?.subdomain ? `${spec.hostname ?? hostLabel(metadata.name ?? "")}.${spec.subdomain}.${metadata.namespace ?? ""}.svc.${CLUSTER_DOMAIN}` : "");

/** What nodes call the OCI runtime of the pod's RuntimeClass; "" for their default. */
const handlerOf = (spec: PodSpec, context: AssignmentContext, unresolved: Unresolved): string => {
  if (!spec.runtimeClassName) return "";
  const found = context.runtimeClass(spec.runtimeClassName);
  if (!found) unresolved[""] ??= `RuntimeClass ${JSON.stringify(spec.runtimeClassName)} not found`;
  return found?.handler ?? "";
};

/** `generation` is 0: the sender numbers what it sends. */
export const toAssignment = (pod: Pod, context: AssignmentContext): PodAssignment => {
  const spec = pod.spec ?? { containers: [] };
  const unresolved: Unresolved = {};
  const { [LAST_APPLIED]: _, ...annotations } = pod.metadata.annotations ?? {};
  const { desiredState, stopGraceSeconds, stopSignal, restartRequest, keepWritableLayer } = lifecycleOf(annotations);
  return {
    uid: pod.metadata.uid ?? "", namespace: pod.metadata.namespace ?? "", name: pod.metadata.name ?? "", generation: 0,
    labels: pod.metadata.labels ?? {}, annotations, deletion: toDeletion(pod),
    // Host names hold at most 63 characters (RFC 1123); upstream cuts the pod's name the same way.
    hostname: spec.setHostnameAsFQDN && spec.subdomain ? fqdnOf(pod) : spec.hostname ?? hostLabel(pod.metadata.name ?? ""),
    hostNetwork: spec.hostNetwork ?? false, hostPid: spec.hostPID ?? false, hostIpc: spec.hostIPC ?? false,
    restartPolicy: spec.restartPolicy ?? "Always", terminationGraceMs: (spec.terminationGracePeriodSeconds ?? 30) * 1000, activeDeadlineMs: (spec.activeDeadlineSeconds ?? 0) * 1000,
    initContainers: (spec.initContainers ?? []).map((c) => toContainer(pod, c, context, unresolved)),
    containers: spec.containers.map((c) => toContainer(pod, c, context, unresolved)),
    ephemeralContainers: (spec.ephemeralContainers ?? []).map((c) => ({ ...toContainer(pod, c, context, unresolved), targetContainer: c.targetContainerName ?? "" })),
    volumes: (spec.volumes ?? []).map((v) => toVolume(pod, v, context, context.allocatable, (message) => void (unresolved[""] ??= message))),
    credentials: (spec.imagePullSecrets ?? []).flatMap((ref) => {
      const secret = context.secret(ref.name ?? "");
      return secret ? toCredentials(secret) : [];
    }),
    security: toPodSecurity(pod),
    hostAliases: [...(spec.hostAliases ?? []).map((a) => ({ ip: a.ip, hostnames: a.hostnames ?? [] })), ...(context.hostAliases ?? [])],
    dns: {
      policy: spec.dnsPolicy ?? "ClusterFirst", nameservers: spec.dnsConfig?.nameservers ?? [], searches: spec.dnsConfig?.searches ?? [],
      options: (spec.dnsConfig?.options ?? []).map((o) => (o.value === undefined ? (o.name ?? "") : `${o.name ?? ""}:${o.value}`)),
    },
    runtimeClass: handlerOf(spec, context, unresolved), qosClass: qosClassOf(spec), startAtMs: startAtMs(pod),
    fqdn: fqdnOf(pod), unresolved, serviceAccount: spec.serviceAccountName ?? "", shareProcessNamespace: spec.shareProcessNamespace ?? false,
    priority: spec.priority ?? 0,
    desiredState, stopGraceMs: stopGraceSeconds === undefined ? undefined : stopGraceSeconds * 1000, stopSignal, restartRequest, keepWritableLayer,
  };
};
