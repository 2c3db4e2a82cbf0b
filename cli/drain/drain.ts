// `cordon`, `uncordon` and `drain`: keeps new pods from a node, and sends away those that are there, as their disruption budgets allow.
import { setTimeout as delay } from "node:timers/promises";
import { describeError, GantryError, isCode } from "../../base/errors.ts";
import { controllerOf } from "../../base/kube/meta.ts";
import { isNodeReady } from "../../base/kube/node-taints.ts";
import { DAEMON_SETS, NODES, PODS } from "../../base/kube/resources.ts";
import type { Node, Pod } from "../../base/kube/types.gen.ts";
import { ApiError, type ApiClient } from "../api-client.ts";
import { untilGone } from "../delete.ts";
import { dryRunRemark, type DryRun } from "../dry-run.ts";
import type { Progress } from "../progress.ts";
import { podName, selectPods, type DrainRules } from "./select.ts";

/** As kubectl: a budget has room again when pods elsewhere are ready. */
const RETRY_MS = 5000;

export interface DrainOptions extends DrainRules {
  /** Label selector; "": all pods. */
  readonly podSelector: string;
  /** Undefined: the pod's own. */
  readonly graceSeconds: number | undefined;
  /** Delete pods outright, past their budgets. */
  readonly disableEviction: boolean;
  readonly dryRun: DryRun;
  /** Undefined: as long as it takes. */
  readonly timeoutMs: number | undefined;
}

/** Prints what it did. "NotFound" without such a node. */
export const setSchedulable = async (client: ApiClient, name: string, schedulable: boolean, dryRun: DryRun): Promise<Node> => {
  const node = await client.get(NODES, "", name);
  const word = schedulable ? "uncordoned" : "cordoned";
  if (schedulable === (node.spec?.unschedulable !== true)) console.log(`node/${name} already ${word}${dryRunRemark(dryRun)}`);
  else {
    if (dryRun !== "client") await client.json("PATCH", `${client.pathOf(NODES, undefined, name)}${dryRun === "server" ? "?dryRun=All" : ""}`, { body: { spec: { unschedulable: schedulable ? null : true } }, contentType: "application/merge-patch+json" });
    console.log(`node/${name} ${word}${dryRunRemark(dryRun)}`);
  }
  return node;
};

const daemonSetsOf = async (client: ApiClient, pods: readonly Pod[]): Promise<(pod: Pod) => boolean> => {
  const key = (pod: Pod): string => `${pod.metadata.namespace!}/${controllerOf(pod)!.name}`;
  const wanted = new Map(pods.filter((pod) => controllerOf(pod)?.kind === DAEMON_SETS.kind).map((pod) => [key(pod), pod]));
  const found = new Set<string>();
  await Promise.all(Array.from(wanted, async ([name, pod]) => {
    try {
      await client.get(DAEMON_SETS, pod.metadata.namespace!, controllerOf(pod)!.name);
      found.add(name);
    } catch (error) {
      if (!isCode(error, "NotFound")) throw error;
    }
  }));
  return (pod) => found.has(key(pod));
};

/** What the server has against it, with the budget's name and numbers where it says them. */
const reasonOf = (error: unknown): string => {
  const causes = error instanceof ApiError ? (error.details.causes ?? []).flatMap((c) => c.message ?? []) : [];
  return `${describeError(error)}${causes.length > 0 ? ` ${causes.join("; ")}` : ""}`;
};

/** Asks once. Of this very pod: another one of its name (a StatefulSet's, elsewhere) is not meant. */
const ask = (client: ApiClient, pod: Pod, { graceSeconds, disableEviction, dryRun }: DrainOptions): Promise<unknown> => {
  const options = { preconditions: { uid: pod.metadata.uid }, ...(graceSeconds !== undefined && { gracePeriodSeconds: graceSeconds }), ...(dryRun === "server" && { dryRun: ["All"] }) };
  const path = (subresource?: string): string => client.pathOf(PODS, pod.metadata.namespace, pod.metadata.name, subresource);
  if (disableEviction) return client.json("DELETE", path(), { body: { apiVersion: "v1", kind: "DeleteOptions", ...options } });
  return client.json("POST", path("eviction"), { body: { apiVersion: "policy/v1", kind: "Eviction", metadata: { name: pod.metadata.name, namespace: pod.metadata.namespace }, deleteOptions: options } });
};

/** Time may mend it: a budget without room, a namespace that goes, a control plane that restarts. */
const isHindrance = (error: unknown): boolean =>
  isCode(error, "TooManyRequests", "ServiceUnavailable") || (error instanceof Error && "code" in error && error.code === "ECONNRESET")
  || (error instanceof ApiError && error.code === "Forbidden" && error.details.causes?.some((c) => c.reason === "NamespaceTerminating") === true);

/** Resolves when the pod is gone. `held` hears what keeps it, and undefined when nothing does any more. */
const sendAway = async (client: ApiClient, pod: Pod, options: DrainOptions, signal: AbortSignal | undefined, held: (reason: string | undefined) => void): Promise<void> => {
  for (;;) {
    signal?.throwIfAborted();
    try {
      await ask(client, pod, options);
      held(undefined);
      if (options.dryRun === "none") await untilGone(client, PODS, pod.metadata.namespace!, pod.metadata.name!, pod.metadata.uid, signal);
      return;
    } catch (error) {
      signal?.throwIfAborted();
      // Gone meanwhile, or its name's bearer is another one.
      if (isCode(error, "NotFound", "Conflict")) return;
      if (options.dryRun !== "none" || !isHindrance(error)) throw new GantryError("FailedPrecondition", `pod ${podName(pod)}: ${reasonOf(error)}`);
      held(reasonOf(error));
    }
    await delay(RETRY_MS, undefined, { signal });
  }
};

/** Throws when not all that was to go has gone: "FailedPrecondition" when it may not, "Timeout" when it didn't in time. */
export const drain = async (client: ApiClient, name: string, options: DrainOptions, progress: Progress): Promise<void> => {
  const node = await setSchedulable(client, name, false, options.dryRun);
  const { items } = await client.list(PODS, undefined, { fieldSelector: `spec.nodeName=${name}`, ...(options.podSelector !== "" && { labelSelector: options.podSelector }) });
  const { evict, faults, warnings } = selectPods(items, await daemonSetsOf(client, items), options, Date.now());
  if (faults.length > 0) throw new GantryError("FailedPrecondition", `unable to drain node ${JSON.stringify(name)}, which stays cordoned: ${faults.join("; ")}`);
  for (const warning of warnings) console.error(`Warning: ${warning}`);
  if (evict.length > 0 && !isNodeReady(node)) console.error(`Warning: node ${name} is not ready: only its agent can say that a pod has ended. If the machine is off for good, 'gantry delete node ${name}' lets go of its pods, and so does the taint node.kubernetes.io/out-of-service:NoExecute`);

  const signal = options.timeoutMs === undefined ? undefined : AbortSignal.timeout(options.timeoutMs);
  const left = new Set(evict);
  const reasons = new Map<Pod, string>();
  const show = (): void => {
    const [first] = reasons;
    const waiting = [...left].find((pod) => !reasons.has(pod));
    const what = first ? `${podName(first[0])} is held: ${first[1]}${reasons.size > 1 ? ` (and ${reasons.size - 1} more)` : ""}` : waiting ? `waiting for ${podName(waiting)} to end` : "";
    if (left.size > 0) progress.update(`${name}: ${evict.length - left.size} of ${evict.length} pods are gone; ${what}`);
  };
  const outcomes = await Promise.allSettled(evict.map(async (pod) => {
    if (options.dryRun !== "client") await sendAway(client, pod, options, signal, (reason) => {
      if (reason === undefined) reasons.delete(pod);
      else reasons.set(pod, reason);
      show();
    });
    left.delete(pod);
    progress.clear();
    console.log(`pod/${pod.metadata.name!} ${options.disableEviction ? "deleted" : "evicted"}${dryRunRemark(options.dryRun)}`);
    show();
  }));
  progress.clear();
  if (left.size > 0 && signal?.aborted) {
    throw new GantryError("Timeout", `drain of node ${name} did not complete within ${options.timeoutMs! / 1000} s: ${Array.from(left, (pod) => `${podName(pod)} (${reasons.get(pod) ?? "has not ended"})`).join(", ")}`);
  }
  const failures = outcomes.filter((o) => o.status === "rejected");
  if (failures.length > 0) throw new GantryError("FailedPrecondition", `unable to drain node ${JSON.stringify(name)}, which stays cordoned: ${failures.map((f) => describeError(f.reason)).join("; ")}`);
  console.log(`node/${name} drained${dryRunRemark(options.dryRun)}`);
};
