// Pods, and the pod templates of workloads.
import type { Container, ContainerState, ContainerStatus, EnvVar, Pod, PodSpec, Probe, Volume } from "../../base/kube/types.gen.ts";
import { amountLines, conditionLines, field, fields, mapLines, tolerationText } from "./text.ts";

const stateText = (state: ContainerState | undefined): string => {
  const [running, ended, waiting] = [state?.running, state?.terminated, state?.waiting];
  if (running) return `Running since ${running.startedAt ?? "?"}`;
  if (ended) {
    return `Terminated: ${ended.reason ?? ""}, exit code ${ended.exitCode}${ended.signal ? `, signal ${ended.signal}` : ""}, ${ended.startedAt ?? "?"} to ${ended.finishedAt ?? "?"}${ended.message ? ` (${ended.message})` : ""}`;
  }
  return waiting ? `Waiting: ${waiting.reason ?? ""}${waiting.message ? ` (${waiting.message})` : ""}` : "Waiting";
};

const envText = ({ name, value, valueFrom }: EnvVar): string => {
  if (!valueFrom) return `${name}: ${value ?? ""}`;
  const { fieldRef, resourceFieldRef, configMapKeyRef, secretKeyRef } = valueFrom;
  const key = configMapKeyRef ?? secretKeyRef;
  const from = fieldRef ? `field ${fieldRef.fieldPath}` : resourceFieldRef ? `resource ${resourceFieldRef.resource}` : key ? `key ${key.key} of ${secretKeyRef ? "secret" : "config map"} ${key.name ?? ""}` : "?";
  return `${name}: <${from}>${key?.optional ? " optional" : ""}`;
};

const probeText = (probe: Probe): string => {
  const { exec, httpGet, tcpSocket, grpc } = probe;
  const what = exec ? `exec ${exec.command?.join(" ") ?? ""}` : httpGet ? `http-get ${(httpGet.scheme ?? "HTTP").toLowerCase()}://${httpGet.host ?? ""}:${httpGet.port}${httpGet.path ?? "/"}` : tcpSocket ? `tcp-socket ${tcpSocket.host ?? ""}:${tcpSocket.port}` : `grpc :${grpc?.port ?? "?"}`;
  return `${what} delay=${probe.initialDelaySeconds ?? 0}s timeout=${probe.timeoutSeconds ?? 1}s period=${probe.periodSeconds ?? 10}s #success=${probe.successThreshold ?? 1} #failure=${probe.failureThreshold ?? 3}`;
};

const containerLines = (c: Container, status: ContainerStatus | undefined, indent: string): string[] => {
  const inner = `${indent}  `;
  const probes = [["Liveness", c.livenessProbe], ["Readiness", c.readinessProbe], ["Startup", c.startupProbe]] as const;
  return [
    `${indent}${c.name}:`, ...(status?.containerID ? [field("Container ID", status.containerID, inner)] : []), field("Image", c.image, inner), ...(status?.imageID ? [field("Image ID", status.imageID, inner)] : []),
    ...(c.ports?.length ? [field("Ports", c.ports.map((p) => `${p.containerPort}/${p.protocol ?? "TCP"}${p.name ? ` (${p.name})` : ""}${p.hostPort ? ` on host port ${p.hostPort}` : ""}`).join(", "), inner)] : []),
    ...(c.command ? [field("Command", c.command.join(" "), inner)] : []), ...(c.args ? [field("Args", c.args.join(" "), inner)] : []),
    ...(status ? [field("State", stateText(status.state), inner), ...(status.lastState && Object.keys(status.lastState).length > 0 ? [field("Last State", stateText(status.lastState), inner)] : []), field("Ready", status.ready, inner), field("Restart Count", status.restartCount, inner)] : []),
    ...amountLines("Limits", c.resources?.limits, inner), ...amountLines("Requests", c.resources?.requests, inner),
    ...probes.flatMap(([name, probe]) => (probe ? [field(name, probeText(probe), inner)] : [])),
    ...(c.envFrom?.length ? fields("Env From", c.envFrom.map((e) => (e.secretRef ? `secret ${e.secretRef.name ?? ""}` : `config map ${e.configMapRef?.name ?? ""}`)), inner) : []),
    ...fields("Environment", (c.env ?? []).map(envText), inner),
    ...fields("Mounts", (c.volumeMounts ?? []).map((m) => `${m.mountPath} from ${m.name}${m.subPath ? `, path ${m.subPath}` : ""} (${m.readOnly ? "ro" : "rw"})`), inner),
  ];
};

const volumeText = ({ name, ...source }: Volume): string => {
  const [kind, value] = Object.entries(source).find(([, v]) => v !== undefined) ?? ["emptyDir", {}];
  const details = Object.entries(value as Record<string, unknown>).filter(([, v]) => typeof v !== "object").map(([k, v]) => `${k}=${String(v)}`);
  return `${name}: ${kind}${details.length > 0 ? ` (${details.join(", ")})` : ""}`;
};

/** What a pod and a template have in common. */
export const podSpecLines = (spec: PodSpec, statuses: ReadonlyMap<string, ContainerStatus>, indent = ""): string[] => [
  ...(spec.initContainers?.length ? [`${indent}Init Containers:`, ...spec.initContainers.flatMap((c) => containerLines(c, statuses.get(c.name), `${indent}  `))] : []),
  `${indent}Containers:`, ...spec.containers.flatMap((c) => containerLines(c, statuses.get(c.name), `${indent}  `)),
  ...fields("Volumes", (spec.volumes ?? []).map(volumeText), indent), ...mapLines("Node-Selectors", spec.nodeSelector, indent), ...fields("Tolerations", (spec.tolerations ?? []).map(tolerationText), indent),
];

export const podLines = ({ metadata, spec, status }: Pod): string[] => [
  field("Node", spec?.nodeName ? `${spec.nodeName}${status?.hostIP ? `/${status.hostIP}` : ""}` : undefined), ...(status?.startTime ? [field("Start Time", status.startTime)] : []),
  field("Status", metadata.deletionTimestamp ? "Terminating" : (status?.phase ?? "Unknown")), ...(status?.reason ? [field("Reason", status.reason)] : []), ...(status?.message ? [field("Message", status.message)] : []),
  field("IP", status?.podIP), field("QoS Class", status?.qosClass),
  ...(spec ? podSpecLines(spec, new Map([...(status?.initContainerStatuses ?? []), ...(status?.containerStatuses ?? [])].map((c) => [c.name, c]))) : []),
  ...conditionLines(status?.conditions),
];
