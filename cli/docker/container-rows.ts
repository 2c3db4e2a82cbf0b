// The rows of `ps`: a container each, in docker's words. Pure.
import { HOSTS_GROUP_LABEL, NETWORK_ANNOTATION } from "../../base/kube/pod-extras.ts";
import type { Container } from "../../base/kube/types.gen.ts";
import { humanDuration } from "../human.ts";
import { labelTest, passes, passesAll, type Filters } from "./filters.ts";
import { idOf, nameOf, type FoundContainer } from "./find-container.ts";

/** docker's states. */
export type ContainerPhase = "created" | "running" | "paused" | "restarting" | "removing" | "exited" | "dead";
export type Health = "" | "starting" | "healthy" | "unhealthy";

const SHORT_ID = 12;
const SHORT_COMMAND = 20;

export const shortId = (id: string): string => id.slice(0, SHORT_ID);

export const phaseOf = ({ pod, status }: FoundContainer): ContainerPhase => {
  const state = status?.state;
  if (pod.metadata.deletionTimestamp) return "removing";
  if (state?.running) return pod.metadata.annotations?.["gantry.io/desired-state"] === "paused" ? "paused" : "running";
  if (state?.terminated) return "exited";
  if (pod.status?.phase === "Failed" || pod.status?.phase === "Succeeded") return "dead";
  const reason = state?.waiting?.reason ?? "";
  return reason === "CrashLoopBackOff" || (status?.restartCount ?? 0) > 0 ? (reason === "Stopped" ? "exited" : "restarting") : "created";
};

export const healthOf = ({ container, status }: FoundContainer, nowMs: number): Health => {
  const probe = container.readinessProbe;
  const startedAt = status?.state?.running?.startedAt;
  if (!probe || startedAt === undefined) return "";
  if (status?.ready) return "healthy";
  const patienceMs = ((probe.initialDelaySeconds ?? 0) + (probe.periodSeconds ?? 10) * (probe.failureThreshold ?? 3)) * 1000;
  return nowMs - Date.parse(startedAt) < patienceMs ? "starting" : "unhealthy";
};

const since = (instant: string | undefined, nowMs: number): string => (instant ? humanDuration(Math.max(0, nowMs - Date.parse(instant))) : "some time");

/** "Up 3 minutes (healthy)", "Exited (0) 5 seconds ago", "Restarting (1) 2 seconds ago". */
export const statusText = (found: FoundContainer, nowMs: number): string => {
  const { status, pod } = found;
  const ended = status?.state?.terminated ?? status?.lastState?.terminated;
  const waiting = status?.state?.waiting;
  switch (phaseOf(found)) {
    case "running": case "paused": {
      const health = healthOf(found, nowMs);
      const remarks = [...(health === "" ? [] : [health === "starting" ? "health: starting" : health]), ...(phaseOf(found) === "paused" ? ["Paused"] : [])];
      return `Up ${since(status?.state?.running?.startedAt, nowMs)}${remarks.map((r) => ` (${r})`).join("")}`;
    }
    case "exited": return `Exited (${ended?.exitCode ?? 0}) ${since(ended?.finishedAt, nowMs)} ago`;
    case "restarting": return `Restarting (${ended?.exitCode ?? 0}) ${since(ended?.finishedAt, nowMs)} ago`;
    case "removing": return "Removal In Progress";
    case "dead": return `Dead${pod.status?.reason ? ` (${pod.status.reason})` : ""}`;
    case "created": {
      const reason = waiting?.reason ?? (pod.spec?.nodeName ? "" : pod.status?.conditions?.some((c) => c.type === "PodScheduled" && c.status === "False") ? "Unschedulable" : "");
      return ["", "ContainerCreating", "PodInitializing", "Created"].includes(reason) ? "Created" : `Created (${reason})`;
    }
  }
};

/** "0.0.0.0:8080->80/tcp, 9000/tcp". */
export const portsText = (container: Container): string =>
  (container.ports ?? []).map((p) => {
    const inside = `${p.containerPort}/${(p.protocol ?? "TCP").toLowerCase()}`;
    return p.hostPort ? `${p.hostIP || "0.0.0.0"}:${p.hostPort}->${inside}` : inside;
  }).join(", ");

const commandText = (container: Container, full: boolean): string => {
  const words = [...(container.command ?? []), ...(container.args ?? [])].join(" ");
  const text = full || words.length <= SHORT_COMMAND ? words : `${words.slice(0, SHORT_COMMAND - 1)}…`;
  return words === "" ? "" : JSON.stringify(text);
};

export type ContainerRow = Readonly<Record<"ID" | "Image" | "Command" | "CreatedAt" | "RunningFor" | "Status" | "State" | "Ports" | "Names" | "Node" | "Labels" | "Mounts" | "Networks" | "Namespace" | "Restarts", string>>;

export const containerRow = (found: FoundContainer, nowMs: number, full: boolean): ContainerRow => {
  const { pod, container, status } = found;
  return {
    ID: full ? idOf(found) : shortId(idOf(found)), Image: container.image ?? "", Command: commandText(container, full), CreatedAt: pod.metadata.creationTimestamp ?? "",
    RunningFor: `${since(pod.metadata.creationTimestamp, nowMs)} ago`, Status: statusText(found, nowMs), State: phaseOf(found), Ports: portsText(container), Names: nameOf(found), Node: pod.spec?.nodeName ?? "",
    Labels: Object.entries(pod.metadata.labels ?? {}).map(([k, v]) => `${k}=${v}`).join(","),
    Mounts: (pod.spec?.volumes ?? []).flatMap((v) => v.hostPath?.path ?? v.persistentVolumeClaim?.claimName ?? []).join(","),
    Networks: networkOf(found), Namespace: pod.metadata.namespace ?? "", Restarts: String(status?.restartCount ?? 0),
  };
};

export const networkOf = ({ pod }: FoundContainer): string =>
  pod.spec?.hostNetwork ? "host" : (pod.metadata.annotations?.[NETWORK_ANNOTATION] ?? pod.metadata.labels?.[HOSTS_GROUP_LABEL] ?? "bridge");

export const CONTAINER_FORMAT = {
  headings: {
    ID: "CONTAINER ID", Image: "IMAGE", Command: "COMMAND", CreatedAt: "CREATED AT", RunningFor: "CREATED", Status: "STATUS", State: "STATE", Ports: "PORTS", Names: "NAMES", Node: "NODE", Labels: "LABELS",
    Mounts: "MOUNTS", Networks: "NETWORKS", Namespace: "NAMESPACE", Restarts: "RESTARTS",
  },
  table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}\t{{.Node}}",
};

export const PS_FILTERS = ["name", "id", "status", "label", "ancestor", "node", "network", "volume", "health", "exited"] as const;

/** `nginx` also means nginx:latest, and either means docker.io/library/nginx:latest. */
const sameImage = (image: string, wanted: string): boolean => {
  const plain = (text: string): string => text.replace(/^(docker\.io\/)?(library\/)?/, "");
  return [plain(image), plain(image).replace(/:latest$/, ""), plain(image).replace(/(:[^:/]+)?(@.*)?$/, "")].includes(plain(wanted));
};

export const passesFilters = (found: FoundContainer, filters: Filters, nowMs: number): boolean => {
  const { pod, container, status } = found;
  return passes(filters, "name", (v) => nameOf(found).includes(v)) && passes(filters, "id", (v) => idOf(found).startsWith(v)) && passes(filters, "status", (v) => phaseOf(found) === v)
    && passesAll(filters, "label", labelTest({ ...pod.metadata.annotations, ...pod.metadata.labels })) && passes(filters, "ancestor", (v) => sameImage(container.image ?? "", v))
    && passes(filters, "node", (v) => pod.spec?.nodeName === v) && passes(filters, "network", (v) => networkOf(found) === v)
    && passes(filters, "volume", (v) => (pod.spec?.volumes ?? []).some((x) => x.persistentVolumeClaim?.claimName === v || x.hostPath?.path === v) || (container.volumeMounts ?? []).some((m) => m.mountPath === v))
    && passes(filters, "health", (v) => (healthOf(found, nowMs) || "none") === v) && passes(filters, "exited", (v) => String(status?.state?.terminated?.exitCode ?? "") === v);
};

/** Newest first, as docker; a pod's containers in their own order. */
export const byAge = (a: FoundContainer, b: FoundContainer): number => (b.pod.metadata.creationTimestamp ?? "").localeCompare(a.pod.metadata.creationTimestamp ?? "");
/** What `ps` shows without -a. */
export const isUp = (found: FoundContainer): boolean => ["running", "paused", "restarting"].includes(phaseOf(found));
