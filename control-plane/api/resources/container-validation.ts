// Rules for containers: pkg/apis/core/validation.validateContainers and validateInitContainers.
import type { FieldCause } from "../../../base/errors.ts";
import type { Container, ContainerPort, EnvFromSource, EnvVar, LifecycleHandler, PodSpec, Probe, VolumeMount } from "../../../base/kube/types.gen.ts";
import { validateFieldRef } from "./field-refs.ts";
import { forbidden, invalid, nonNegative, notFound, oneOf, positive, required } from "./faults.ts";
import { duplicates } from "./metadata.ts";
import { isConfigMapKey, isDnsLabel, isEnvName, isPortName, isPortNumber, PORT_RANGE } from "./names.ts";
import { validateResizePolicy } from "./pod-resize.ts";
import { validateResources } from "./quantities.ts";
import { validateContainerSecurity } from "./security-validation.ts";
import { climbs, validateLocalPath } from "./volume-validation.ts";

const PULL_POLICIES = ["Always", "IfNotPresent", "Never"];
const MESSAGE_POLICIES = ["File", "FallbackToLogsOnError"];
const PROTOCOLS = ["TCP", "UDP", "SCTP"];
const PROPAGATIONS = ["Bidirectional", "HostToContainer", "None"];
const SCHEMES = ["HTTP", "HTTPS"];
const HANDLERS = ["exec", "httpGet", "tcpSocket", "grpc", "sleep"] as const;
const PROBE_HANDLERS = ["exec", "httpGet", "tcpSocket", "grpc"] as const;

const validatePort = (path: string, port: number | string | undefined, named: ReadonlySet<string>): FieldCause[] => {
  if (port === undefined) return [required(path)];
  if (typeof port === "number") return isPortNumber(port) ? [] : [invalid(path, port, PORT_RANGE)];
  const faults = isPortName(port).map((m) => invalid(path, port, m));
  return faults.length > 0 || named.has(port) ? faults : [invalid(path, port, "no port of the container has this name")];
};

const validateHandler = (path: string, handler: LifecycleHandler & Probe, allowed: readonly (typeof HANDLERS)[number][], ports: ReadonlySet<string>): FieldCause[] => {
  const given = HANDLERS.filter((h) => handler[h] !== undefined);
  const { exec, httpGet, tcpSocket, grpc, sleep } = handler;
  return [
    ...(given.length === 0 ? [required(path, "must specify a handler type")] : []),
    ...given.filter((h, i) => i > 0 || !allowed.includes(h)).map((h) => forbidden(`${path}.${h}`, allowed.includes(h) ? "may not specify more than 1 handler type" : `supported handlers: ${allowed.join(", ")}`)),
    ...(exec && !exec.command?.length ? [required(`${path}.exec.command`)] : []),
    ...(httpGet ? [
      ...(httpGet.path ? [] : [required(`${path}.httpGet.path`)]), ...validatePort(`${path}.httpGet.port`, httpGet.port, ports), ...oneOf(`${path}.httpGet.scheme`, httpGet.scheme, SCHEMES),
      ...(httpGet.httpHeaders ?? []).flatMap((h, i) => (/^[-A-Za-z0-9]+$/.test(h.name ?? "") ? []
        : [invalid(`${path}.httpGet.httpHeaders[${i}]`, h.name ?? "", "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')")])),
    ] : []),
    ...(tcpSocket ? validatePort(`${path}.tcpSocket.port`, tcpSocket.port, ports) : []),
    ...(grpc && !isPortNumber(grpc.port) ? [invalid(`${path}.grpc.port`, grpc.port, PORT_RANGE)] : []),
    ...(sleep && sleep.seconds < 0 ? [invalid(`${path}.sleep.seconds`, sleep.seconds, "must be non-negative")] : []),
  ];
};

const validateProbe = (path: string, probe: Probe | undefined, ports: ReadonlySet<string>, successIsOne: boolean): FieldCause[] => {
  if (!probe) return [];
  return [
    ...validateHandler(path, probe, PROBE_HANDLERS, ports),
    ...(["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] as const).flatMap((f) => nonNegative(`${path}.${f}`, probe[f])),
    ...(successIsOne && probe.successThreshold !== 1 ? [invalid(`${path}.successThreshold`, probe.successThreshold ?? null, "must be 1")] : []),
    ...positive(`${path}.terminationGracePeriodSeconds`, probe.terminationGracePeriodSeconds),
  ];
};

const validatePorts = (path: string, ports: readonly ContainerPort[], hostNetwork: boolean): FieldCause[] => [
  ...ports.flatMap((p, i) => [
    ...(p.name ? isPortName(p.name).map((m) => invalid(`${path}[${i}].name`, p.name, m)) : []),
    ...(p.containerPort === undefined || p.containerPort === 0 ? [required(`${path}[${i}].containerPort`)] : isPortNumber(p.containerPort) ? [] : [invalid(`${path}[${i}].containerPort`, p.containerPort, PORT_RANGE)]),
    ...(p.hostPort !== undefined && !isPortNumber(p.hostPort) ? [invalid(`${path}[${i}].hostPort`, p.hostPort, PORT_RANGE)] : []),
    ...(hostNetwork && p.hostPort !== p.containerPort ? [invalid(`${path}[${i}].hostPort`, p.hostPort ?? null, "must match `containerPort` when `hostNetwork` is true")] : []),
    ...(p.protocol ? oneOf(`${path}[${i}].protocol`, p.protocol, PROTOCOLS) : [required(`${path}[${i}].protocol`)]),
  ]),
  ...duplicates(ports.filter((p) => p.name), (p) => p.name!, (i) => `${path}[${ports.indexOf(ports.filter((p) => p.name)[i]!)}].name`),
];

const validateEnv = (path: string, env: readonly EnvVar[]): FieldCause[] => env.flatMap((e, i) => {
  const at = `${path}[${i}]`;
  const name = e.name ? isEnvName(e.name).map((m) => invalid(`${at}.name`, e.name, m)) : [required(`${at}.name`)];
  if (!e.valueFrom) return name;
  const from = `${at}.valueFrom`;
  const { fieldRef, resourceFieldRef, configMapKeyRef, secretKeyRef, fileKeyRef } = e.valueFrom;
  const count = [fieldRef, resourceFieldRef, configMapKeyRef, secretKeyRef, fileKeyRef].filter((s) => s !== undefined).length;
  return [
    ...name,
    ...(e.value ? [invalid(from, "", "may not be specified when `value` is not empty")] : []),
    ...(count === 0 ? [invalid(from, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`")] : count > 1 ? [invalid(from, "", "may not have more than one field specified at a time")] : []),
    ...(fileKeyRef ? [forbidden(`${from}.fileKeyRef`, "variables from files are not supported by Gantry yet")] : []),
    ...validateFieldRef(`${from}.fieldRef`, fieldRef, "env"),
    ...(resourceFieldRef && !/^(limits|requests)\.(cpu|memory|ephemeral-storage|hugepages-.+)$/.test(resourceFieldRef.resource ?? "")
      ? [invalid(`${from}.resourceFieldRef.resource`, resourceFieldRef.resource ?? "", "must be limits or requests of cpu, memory or ephemeral-storage, for example limits.cpu")] : []),
    ...([[`${from}.configMapKeyRef`, configMapKeyRef], [`${from}.secretKeyRef`, secretKeyRef]] as const).flatMap(([refPath, ref]) => (ref === undefined ? [] : [
      ...(ref.name ? [] : [required(`${refPath}.name`)]),
      ...(ref.key ? isConfigMapKey(ref.key).map((m) => invalid(`${refPath}.key`, ref.key, m)) : [required(`${refPath}.key`)]),
    ])),
  ];
});

const validateEnvFrom = (path: string, sources: readonly EnvFromSource[]): FieldCause[] => sources.flatMap((s, i) => [
  ...(s.prefix ? isEnvName(s.prefix).map((m) => invalid(`${path}[${i}].prefix`, s.prefix, m)) : []),
  ...(!s.configMapRef && !s.secretRef ? [invalid(`${path}[${i}]`, "", "must specify one of: `configMapRef` or `secretRef`")] : []),
  ...(s.configMapRef && s.secretRef ? [invalid(`${path}[${i}]`, "", "may not have more than one field specified at a time")] : []),
  ...(s.configMapRef && !s.configMapRef.name ? [required(`${path}[${i}].configMapRef.name`)] : []),
  ...(s.secretRef && !s.secretRef.name ? [required(`${path}[${i}].secretRef.name`)] : []),
]);

const validateMounts = (path: string, mounts: readonly VolumeMount[], volumes: ReadonlySet<string>, privileged: boolean): FieldCause[] => [
  ...mounts.flatMap((m, i) => {
    const at = `${path}[${i}]`;
    return [
      ...(m.name ? (volumes.has(m.name) ? [] : [notFound(`${at}.name`, m.name)]) : [required(`${at}.name`)]),
      ...(m.mountPath ? [] : [required(`${at}.mountPath`)]),
      ...(m.mountPath && climbs(m.mountPath) ? [invalid(`${at}.mountPath`, m.mountPath, "must not contain '..'")] : []),
      ...(m.subPath ? validateLocalPath(`${at}.subPath`, m.subPath) : []),
      ...(m.subPathExpr ? [...validateLocalPath(`${at}.subPathExpr`, m.subPathExpr), ...(m.subPath ? [invalid(`${at}.subPathExpr`, m.subPathExpr, "subPathExpr and subPath are mutually exclusive")] : [])] : []),
      ...oneOf(`${at}.mountPropagation`, m.mountPropagation, PROPAGATIONS),
      ...(m.mountPropagation === "Bidirectional" && !privileged ? [forbidden(`${at}.mountPropagation`, "Bidirectional mount propagation is available only to privileged containers")] : []),
      ...(m.recursiveReadOnly === "Enabled" ? [forbidden(`${at}.recursiveReadOnly`, "is not supported by Gantry yet; IfPossible and Disabled are")] : []),
    ];
  }),
  ...mounts.flatMap((m, i) => (m.mountPath && mounts.findIndex((o) => o.mountPath === m.mountPath) < i ? [invalid(`${path}[${i}].mountPath`, m.mountPath, "must be unique")] : [])),
];

interface Around {
  readonly volumes: ReadonlySet<string>;
  readonly hostNetwork: boolean;
  readonly init: boolean;
  readonly podRestartPolicy: string | undefined;
}

const validateContainer = (path: string, c: Container, { volumes, hostNetwork, init, podRestartPolicy }: Around): FieldCause[] => {
  const ports = new Set((c.ports ?? []).flatMap((p) => (p.name ? [p.name] : [])));
  const sidecar = init && c.restartPolicy === "Always";
  const probes = (["livenessProbe", "readinessProbe", "startupProbe"] as const);
  return [
    ...(c.name ? isDnsLabel(c.name).map((m) => invalid(`${path}.name`, c.name, m)) : [required(`${path}.name`)]),
    ...(c.image ? (c.image.trim() === c.image ? [] : [invalid(`${path}.image`, c.image, "must not have leading or trailing whitespace")]) : [required(`${path}.image`)]),
    ...validatePorts(`${path}.ports`, c.ports ?? [], hostNetwork),
    ...validateEnv(`${path}.env`, c.env ?? []), ...validateEnvFrom(`${path}.envFrom`, c.envFrom ?? []),
    ...validateMounts(`${path}.volumeMounts`, c.volumeMounts ?? [], volumes, c.securityContext?.privileged === true),
    ...(c.volumeDevices?.length ? [forbidden(`${path}.volumeDevices`, "block volumes are not supported by Gantry yet")] : []),
    ...(init && !sidecar
      ? [...probes, "lifecycle" as const].filter((f) => c[f]).map((f) => forbidden(`${path}.${f}`, "may not be set for init containers without restartPolicy=Always"))
      : [
        ...probes.flatMap((f) => validateProbe(`${path}.${f}`, c[f], ports, f !== "readinessProbe")),
        ...(["postStart", "preStop"] as const).flatMap((f) => (c.lifecycle?.[f] ? validateHandler(`${path}.lifecycle.${f}`, c.lifecycle[f], ["exec", "httpGet", "tcpSocket", "sleep"], ports) : [])),
      ]),
    ...(c.restartPolicy === undefined ? [] : init ? oneOf(`${path}.restartPolicy`, c.restartPolicy, ["Always"]) : [forbidden(`${path}.restartPolicy`, "may not be set for non-init containers")]),
    ...(c.imagePullPolicy ? oneOf(`${path}.imagePullPolicy`, c.imagePullPolicy, PULL_POLICIES) : [required(`${path}.imagePullPolicy`)]),
    ...oneOf(`${path}.terminationMessagePolicy`, c.terminationMessagePolicy, MESSAGE_POLICIES),
    ...validateResources(`${path}.resources`, c.resources),
    ...validateResizePolicy(`${path}.resizePolicy`, c.resizePolicy ?? [], podRestartPolicy),
    ...validateContainerSecurity(`${path}.securityContext`, c.securityContext),
  ];
};

/** What would promise more than a container for debugging gets: nothing waits for it, and the scheduler has never heard of it. */
const NOT_EPHEMERAL = ["ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "resources", "resizePolicy", "restartPolicy"] as const;

const isSet = (value: unknown): boolean => value !== undefined && !(typeof value === "object" && value !== null && Object.keys(value).length === 0);

const validateEphemeral = (path: string, spec: PodSpec, volumes: ReadonlySet<string>): FieldCause[] => {
  const debuggable = new Set([...(spec.containers ?? []), ...(spec.initContainers ?? [])].map((c) => c.name));
  return (spec.ephemeralContainers ?? []).flatMap((c, i) => {
    const at = `${path}.ephemeralContainers[${i}]`;
    const unfit = NOT_EPHEMERAL.filter((f) => isSet(c[f]));
    const plain = { ...c, ...Object.fromEntries(NOT_EPHEMERAL.map((f) => [f, undefined])) };
    return [
      ...validateContainer(at, plain, { volumes, hostNetwork: false, init: false, podRestartPolicy: undefined }),
      ...unfit.map((f) => forbidden(`${at}.${f}`, "cannot be set for an Ephemeral Container")),
      ...(c.volumeMounts ?? []).flatMap((m, j) => (["subPath", "subPathExpr"] as const).filter((f) => m[f]).map((f) => forbidden(`${at}.volumeMounts[${j}].${f}`, "cannot be set for an Ephemeral Container"))),
      ...(c.targetContainerName && !debuggable.has(c.targetContainerName) ? [notFound(`${at}.targetContainerName`, c.targetContainerName)] : []),
    ];
  });
};

/** Two containers of one pod can't have the same port of the node. */
const validateHostPorts = (path: string, containers: readonly Container[]): FieldCause[] => {
  const all = containers.flatMap((c, i) => (c.ports ?? []).flatMap((p, j) => (p.hostPort ? [{ at: `${path}[${i}].ports[${j}].hostPort`, key: `${p.protocol ?? "TCP"}/${p.hostIP ?? ""}/${p.hostPort}` }] : [])));
  return duplicates(all, (p) => p.key, (i) => all[i]!.at);
};

export const validateContainers = (path: string, spec: PodSpec, volumes: ReadonlySet<string>): FieldCause[] => {
  const hostNetwork = spec.hostNetwork === true;
  const containers = spec.containers ?? [];
  const init = spec.initContainers ?? [];
  const named = [...containers.map((c, i) => ({ name: c.name, at: `${path}.containers[${i}].name` })), ...init.map((c, i) => ({ name: c.name, at: `${path}.initContainers[${i}].name` })),
    ...(spec.ephemeralContainers ?? []).map((c, i) => ({ name: c.name, at: `${path}.ephemeralContainers[${i}].name` }))];
  return [
    ...(containers.length === 0 ? [required(`${path}.containers`)] : []),
    ...containers.flatMap((c, i) => validateContainer(`${path}.containers[${i}]`, c, { volumes, hostNetwork, init: false, podRestartPolicy: spec.restartPolicy })),
    ...init.flatMap((c, i) => validateContainer(`${path}.initContainers[${i}]`, c, { volumes, hostNetwork, init: true, podRestartPolicy: spec.restartPolicy })),
    ...duplicates(named.filter((n) => n.name), (n) => n.name, (i) => named.filter((n) => n.name)[i]!.at),
    ...validateHostPorts(`${path}.containers`, containers),
    ...validateEphemeral(path, spec, volumes),
  ];
};
