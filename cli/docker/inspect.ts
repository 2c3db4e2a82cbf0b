// `inspect`: containers, volumes, nodes and networks in docker's shape, with the Kubernetes object beside. Pure.
import { NO_EXTRAS, parseExtras, type ContainerExtras, type DeviceRate } from "../../base/kube/container-extras.ts";
import { HOSTS_GROUP_LABEL, NETWORK_ANNOTATION, USER_ANNOTATION, AUTO_REMOVE_ANNOTATION, MAX_RESTARTS_ANNOTATION, hostsNames } from "../../base/kube/pod-extras.ts";
import { toMilli, toUnits } from "../../base/kube/quantity.ts";
import type { Node, Pod } from "../../base/kube/types.gen.ts";
import { healthOf, networkOf, phaseOf } from "./container-rows.ts";
import { idOf, nameOf, type FoundContainer } from "./find-container.ts";
import { networkRows } from "./networks.ts";
import { volumeRow, type Claim } from "./volumes.ts";

const NEVER = "0001-01-01T00:00:00Z";
const NANOS_PER_MILLI_CPU = 1_000_000;

const restartPolicy = (pod: Pod): { readonly Name: string; readonly MaximumRetryCount: number } =>
  ({ Name: ({ Always: "always", OnFailure: "on-failure" } as Record<string, string>)[pod.spec?.restartPolicy ?? ""] ?? "no", MaximumRetryCount: Number(pod.metadata.annotations?.[MAX_RESTARTS_ANNOTATION] ?? 0) });

/** What can't be read (an object from before it was checked) says nothing. */
const deviceRates = (rates: readonly DeviceRate[] | undefined): readonly { readonly Path: string; readonly Rate: number }[] | null => rates?.map(({ device, rate }) => ({ Path: device, Rate: rate })) ?? null;

const extrasOf = (annotations: Readonly<Record<string, string>>): ContainerExtras => {
  try {
    return parseExtras(annotations);
  } catch {
    return NO_EXTRAS;
  }
};

/** docker's fields where there is something to say, and all that Kubernetes knows below Kubernetes. `node`: where it runs, if that is known. */
export const inspectContainer = (found: FoundContainer, node: Node | undefined, nowMs: number): Record<string, unknown> => {
  const { pod, container, status } = found;
  const { spec, metadata } = pod;
  const phase = phaseOf(found);
  const ended = status?.state?.terminated ?? (phase === "running" || phase === "paused" ? undefined : status?.lastState?.terminated);
  const startedAt = status?.state?.running?.startedAt ?? ended?.startedAt ?? NEVER;
  const health = healthOf(found, nowMs);
  const annotations = metadata.annotations ?? {};
  const mounts = (container.volumeMounts ?? []).map((m) => {
    const volume = spec?.volumes?.find((v) => v.name === m.name);
    const [Type, Source, Name] = volume?.hostPath ? ["bind", volume.hostPath.path, ""] : volume?.persistentVolumeClaim ? ["volume", "", volume.persistentVolumeClaim.claimName]
      : volume?.emptyDir?.medium === "Memory" ? ["tmpfs", "", ""] : ["volume", "", m.name];
    return { Type, ...(Name ? { Name } : {}), Source, Destination: m.mountPath, Mode: m.readOnly ? "ro" : "", RW: !m.readOnly, Propagation: m.mountPropagation ?? "" };
  });
  const key = (p: { containerPort: number; protocol?: string | undefined }): string => `${p.containerPort}/${(p.protocol ?? "TCP").toLowerCase()}`;
  const ports = container.ports ?? [];
  const bindings = (address: string): Record<string, unknown> => Object.fromEntries(ports.map((p) => [key(p), p.hostPort ? [{ HostIp: p.hostIP || address, HostPort: String(p.hostPort) }] : null]));
  const security = container.securityContext ?? {};
  const extras = extrasOf(annotations);
  const words = [...(container.command ?? []), ...(container.args ?? [])];
  const network = networkOf(found);
  return {
    Id: idOf(found), Created: metadata.creationTimestamp ?? "", Path: words[0] ?? "", Args: words.slice(1),
    State: {
      Status: phase, Running: phase === "running" || phase === "paused", Paused: phase === "paused", Restarting: phase === "restarting", OOMKilled: ended?.reason === "OOMKilled", Dead: phase === "dead",
      ExitCode: ended?.exitCode ?? 0, Error: ended?.message ?? status?.state?.waiting?.message ?? "", StartedAt: startedAt, FinishedAt: ended?.finishedAt ?? NEVER, ...(health === "" ? {} : { Health: { Status: health } }),
    },
    Image: (status?.imageID ?? "").replace(/^.*@/, ""), Name: `/${nameOf(found)}`, RestartCount: status?.restartCount ?? 0, Driver: "overlay2", Platform: "linux",
    Node: { Name: spec?.nodeName ?? "", IP: pod.status?.hostIP ?? "", ...(node ? { OS: node.status?.nodeInfo?.osImage ?? "", Architecture: node.status?.nodeInfo?.architecture ?? "", Runtime: node.status?.nodeInfo?.containerRuntimeVersion ?? "" } : {}) },
    HostConfig: {
      Binds: mounts.filter((m) => m.Type === "bind").map((m) => `${m.Source}:${m.Destination}${m.RW ? "" : ":ro"}`), NetworkMode: network, PortBindings: bindings(""), RestartPolicy: restartPolicy(pod), AutoRemove: annotations[AUTO_REMOVE_ANNOTATION] !== undefined,
      CapAdd: security.capabilities?.add ?? null, CapDrop: security.capabilities?.drop ?? null, Dns: spec?.dnsConfig?.nameservers ?? [], DnsOptions: (spec?.dnsConfig?.options ?? []).map((o) => o.name ?? ""), DnsSearch: spec?.dnsConfig?.searches ?? [],
      ExtraHosts: (spec?.hostAliases ?? []).flatMap((a) => (a.hostnames ?? []).map((h) => `${h}:${a.ip}`)), Privileged: security.privileged ?? false, ReadonlyRootfs: security.readOnlyRootFilesystem ?? false,
      Memory: container.resources?.limits?.["memory"] ? toUnits(container.resources.limits["memory"]) : 0, MemoryReservation: container.resources?.requests?.["memory"] ? toUnits(container.resources.requests["memory"]) : 0,
      NanoCpus: container.resources?.limits?.["cpu"] ? toMilli(container.resources.limits["cpu"]) * NANOS_PER_MILLI_CPU : 0, PidMode: spec?.hostPID ? "host" : "", IpcMode: spec?.hostIPC ? "host" : "private",
      CpuShares: extras.cpuShares ?? 0, CpusetCpus: extras.cpusetCpus ?? "", CpusetMems: extras.cpusetMems ?? "", MemorySwap: extras.memorySwapBytes ?? 0, PidsLimit: extras.pidsLimit ?? null, OomScoreAdj: extras.oomScoreAdj ?? 0, Init: extras.init,
      GroupAdd: [...(spec?.securityContext?.supplementalGroups ?? []).map(String), ...extras.groups],
      Ulimits: extras.ulimits.map((u) => ({ Name: u.name, Soft: u.soft, Hard: u.hard })), Devices: extras.devices.map((d) => ({ PathOnHost: d.source, PathInContainer: d.target, CgroupPermissions: d.access })), Runtime: spec?.runtimeClassName ?? "",
      BlkioWeight: extras.blkioWeight ?? 0, BlkioDeviceReadBps: deviceRates(extras.deviceReadBps), BlkioDeviceWriteBps: deviceRates(extras.deviceWriteBps), BlkioDeviceReadIOps: deviceRates(extras.deviceReadIops), BlkioDeviceWriteIOps: deviceRates(extras.deviceWriteIops),
      Sysctls: Object.fromEntries((spec?.securityContext?.sysctls ?? []).map((s) => [s.name, s.value])),
    },
    Mounts: mounts,
    Config: {
      Hostname: spec?.hostname ?? metadata.name ?? "", User: annotations[USER_ANNOTATION] ?? (security.runAsUser === undefined ? "" : `${security.runAsUser}${security.runAsGroup === undefined ? "" : `:${security.runAsGroup}`}`),
      Tty: container.tty ?? false, OpenStdin: container.stdin ?? false, Env: (container.env ?? []).map((e) => `${e.name}=${e.value ?? ""}`), Cmd: container.args ?? null, Entrypoint: container.command ?? null, Image: container.image ?? "",
      WorkingDir: container.workingDir ?? "", Labels: metadata.labels ?? {}, ExposedPorts: Object.fromEntries(ports.map((p) => [key(p), {}])), StopTimeout: spec?.terminationGracePeriodSeconds ?? 0,
      ...(container.readinessProbe?.exec ? { Healthcheck: { Test: ["CMD", ...(container.readinessProbe.exec.command ?? [])] } } : {}),
    },
    NetworkSettings: {
      Ports: bindings(pod.status?.hostIP ?? "0.0.0.0"), IPAddress: annotations[NETWORK_ANNOTATION] === "none" ? "" : (pod.status?.podIP ?? ""),
      Networks: { [network]: { IPAddress: pod.status?.podIP ?? "", Aliases: metadata.labels?.[HOSTS_GROUP_LABEL] ? hostsNames(metadata) : null } },
    },
    Kubernetes: pod,
  };
};

export const inspectVolume = (claim: Claim, users: readonly string[]): Record<string, unknown> => {
  const { Driver, Name, Status, Size, Scope, Mountpoint } = volumeRow(claim);
  return { Name, Driver, Mountpoint, Labels: claim.metadata.labels ?? {}, Scope, CreatedAt: claim.metadata.creationTimestamp ?? "", Status: { Phase: Status, Size }, UsedBy: users, Kubernetes: claim };
};

export const inspectNode = (node: Node, pods: readonly Pod[]): Record<string, unknown> => {
  const own = pods.filter((p) => p.spec?.nodeName === node.metadata.name);
  const { nodeInfo, capacity, allocatable, addresses, conditions } = node.status ?? {};
  const ready = conditions?.find((c) => c.type === "Ready");
  return {
    ID: node.metadata.uid ?? "", Name: node.metadata.name!, CreatedAt: node.metadata.creationTimestamp ?? "", Spec: { Labels: node.metadata.labels ?? {}, Availability: node.spec?.unschedulable ? "drain" : "active" },
    Description: { Hostname: addresses?.find((a) => a.type === "Hostname")?.address ?? "", Platform: { Architecture: nodeInfo?.architecture ?? "", OS: nodeInfo?.operatingSystem ?? "" }, Resources: { Capacity: capacity ?? {}, Allocatable: allocatable ?? {} }, Engine: { EngineVersion: nodeInfo?.containerRuntimeVersion ?? "" } },
    Status: { State: ready?.status === "True" ? "ready" : "down", Addr: addresses?.find((a) => a.type === "InternalIP")?.address ?? "", Message: ready?.message ?? "" }, Containers: own.map((p) => `${p.metadata.namespace!}/${p.metadata.name!}`), Kubernetes: node,
  };
};

export const inspectNetwork = (name: string, pods: readonly Pod[], nodes: readonly Node[]): Record<string, unknown> | undefined => {
  const row = networkRows(pods, nodes).find((r) => r["Name"] === name);
  if (!row) return undefined;
  const members = pods.filter((pod) => (pod.spec?.containers ?? []).some((container) => networkOf({ pod, container, status: undefined }) === name));
  return {
    Name: name, Driver: row["Driver"], Scope: row["Scope"], IPAM: { Config: (row["Subnets"] ?? "").split(",").filter((s) => s !== "").map((Subnet) => ({ Subnet })) },
    Containers: Object.fromEntries(members.map((p) => [p.metadata.uid ?? p.metadata.name!, { Name: p.metadata.name!, IPv4Address: p.status?.podIP ?? "", Aliases: hostsNames(p.metadata) }])),
  };
};
