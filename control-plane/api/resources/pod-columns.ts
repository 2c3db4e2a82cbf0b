// What `kubectl get pods` shows, line for line the logic of upstream's printPod (pkg/printers/internalversion/printers.go), and Staged.
import type { ContainerStatus, Pod } from "../../../base/kube/types.gen.ts";
import { ageColumn, column, nameColumn, wide } from "./columns.ts";
import type { Column } from "./definition.ts";
import { age } from "./human-duration.ts";

const hasCondition = (pod: Pod, type: string): boolean => pod.status?.conditions?.some((c) => c.type === type && c.status === "True") ?? false;

interface Restarts {
  count: number;
  /** RFC 3339, "" for none: such texts compare like the instants. */
  last: string;
}

const addRestarts = (to: Restarts, status: ContainerStatus): void => {
  to.count += status.restartCount ?? 0;
  const finished = status.lastState?.terminated?.finishedAt ?? "";
  if (finished > to.last) to.last = finished;
};

const exitReason = (status: ContainerStatus): string | undefined => {
  const ended = status.state?.terminated;
  if (!ended) return undefined;
  return ended.reason || (ended.signal ? `Signal:${ended.signal}` : `ExitCode:${ended.exitCode}`);
};

export interface PodSummary {
  readonly ready: number;
  readonly total: number;
  readonly reason: string;
  readonly restarts: number;
  /** When the last of those restarts happened; "" when unknown. */
  readonly lastRestart: string;
}

export const summarizePod = (pod: Pod): PodSummary => {
  const status = pod.status ?? {};
  const sidecars = new Set((pod.spec?.initContainers ?? []).filter((c) => c.restartPolicy === "Always").map((c) => c.name));
  let reason = status.reason || (status.phase ?? "");
  if (status.conditions?.some((c) => c.type === "PodScheduled" && c.reason === "SchedulingGated")) reason = "SchedulingGated";

  const all: Restarts = { count: 0, last: "" };
  const ofSidecars: Restarts = { count: 0, last: "" };
  let ready = 0;
  let initializing = false;
  for (const [i, c] of (status.initContainerStatuses ?? []).entries()) {
    addRestarts(all, c);
    if (sidecars.has(c.name)) addRestarts(ofSidecars, c);
    if (c.state?.terminated?.exitCode === 0) continue;
    if (sidecars.has(c.name) && c.started === true) {
      if (c.ready) ready++;
      continue;
    }
    const waiting = c.state?.waiting?.reason;
    reason = `Init:${exitReason(c) ?? (waiting && waiting !== "PodInitializing" ? waiting : `${i}/${pod.spec?.initContainers?.length ?? 0}`)}`;
    initializing = true;
    break;
  }

  let restarts = all;
  if (!initializing || hasCondition(pod, "Initialized")) {
    restarts = ofSidecars;
    let running = false;
    for (const c of (status.containerStatuses ?? []).toReversed()) {
      addRestarts(restarts, c);
      const ended = exitReason(c);
      if (c.state?.waiting?.reason) reason = c.state.waiting.reason;
      else if (ended) reason = ended;
      else if (c.ready && c.state?.running) {
        running = true;
        ready++;
      }
    }
    // One container is done, another still runs.
    if (reason === "Completed" && running) reason = hasCondition(pod, "Ready") ? "Running" : "NotReady";
  }

  if (status.reason === "Staged") reason = "Staged";
  if (pod.metadata.deletionTimestamp !== undefined) {
    if (status.reason === "NodeLost") reason = "Unknown";
    else if (status.phase !== "Succeeded" && status.phase !== "Failed") reason = "Terminating";
  }
  return { ready, total: (pod.spec?.containers?.length ?? 0) + sidecars.size, reason, restarts: restarts.count, lastRestart: restarts.last };
};

export const POD_COLUMNS: readonly Column<Pod>[] = [
  nameColumn(),
  column("Ready", "string", "The aggregate readiness state of this pod for accepting traffic.", (p) => {
    const { ready, total } = summarizePod(p);
    return `${ready}/${total}`;
  }),
  column("Status", "string", "The aggregate status of the containers in this pod.", (p) => summarizePod(p).reason),
  column("Restarts", "string", "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted.", (p, nowMs) => {
    const { restarts, lastRestart } = summarizePod(p);
    return restarts > 0 && lastRestart !== "" ? `${restarts} (${age(lastRestart, nowMs)} ago)` : String(restarts);
  }),
  ageColumn(),
  wide("IP", "string", "IP address allocated to the pod.", (p) => p.status?.podIPs?.[0]?.ip || p.status?.podIP || "<none>"),
  wide("Node", "string", "Name of the node that runs this pod.", (p) => p.spec?.nodeName || "<none>"),
  wide("Nominated Node", "string", "Node that this pod waits for after a preemption.", (p) => p.status?.nominatedNodeName || "<none>"),
  wide("Readiness Gates", "string", "How many of the pod's readiness gates are open.", (p) => {
    const gates = p.spec?.readinessGates ?? [];
    return gates.length === 0 ? "<none>" : `${gates.filter((g) => hasCondition(p, g.conditionType)).length}/${gates.length}`;
  }),
];
