// Which pods of a node `drain` sends away, and what forbids it. Pure. The rules are kubectl's: k8s.io/kubectl/pkg/drain/filters.go.
import { controllerOf } from "../../base/kube/meta.ts";
import { isTerminal } from "../../base/kube/pod-state.ts";
import type { Pod } from "../../base/kube/types.gen.ts";

export interface DrainRules {
  /** Pods that nobody makes anew go too. */
  readonly force: boolean;
  readonly ignoreDaemonsets: boolean;
  /** Pods that lose files by it go too. */
  readonly deleteEmptydirData: boolean;
  /** Pods whose deletion is older than this are not waited for; 0: all are. */
  readonly skipWaitMs: number;
}

export interface Selection {
  readonly evict: readonly Pod[];
  /** Why nothing may go; empty when all may. */
  readonly faults: readonly string[];
  /** What the flags that were given let happen. */
  readonly warnings: readonly string[];
}

type Verdict = "evict" | "leave" | { readonly fault: string } | { readonly warning: string; readonly evict: boolean };

/** Of a pod that a file stands for on its node: no API can delete it. */
const MIRROR = "kubernetes.io/config.mirror";

export const podName = ({ metadata }: Pod): string => `${metadata.namespace ?? ""}/${metadata.name ?? ""}`;

const ofDaemonSet = (pod: Pod, exists: boolean, { force, ignoreDaemonsets }: DrainRules): Verdict => {
  // Its node would get another at once: DaemonSets do not heed a cordon.
  if (isTerminal(pod)) return "evict";
  if (!exists) return force ? { warning: "deleting Pods whose DaemonSet is gone", evict: true } : { fault: "cannot delete Pods whose DaemonSet is gone (use --force to override)" };
  return ignoreDaemonsets ? { warning: "ignoring DaemonSet-managed Pods", evict: false } : { fault: "cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore)" };
};

const judge = (pod: Pod, daemonSetExists: (pod: Pod) => boolean, rules: DrainRules, nowMs: number): readonly Verdict[] => {
  const { deletionTimestamp, annotations } = pod.metadata;
  if (annotations?.[MIRROR] !== undefined) return ["leave"];
  if (rules.skipWaitMs > 0 && deletionTimestamp !== undefined && nowMs - Date.parse(deletionTimestamp) > rules.skipWaitMs) return ["leave"];
  if (controllerOf(pod)?.kind === "DaemonSet") return [ofDaemonSet(pod, daemonSetExists(pod), rules)];
  if (isTerminal(pod)) return ["evict"];
  const hasFiles = pod.spec?.volumes?.some((v) => v.emptyDir) === true;
  return [
    ...(controllerOf(pod) ? [] : [rules.force ? { warning: "deleting Pods that declare no controller", evict: true } : { fault: "cannot delete Pods that declare no controller (use --force to override)" }]),
    ...(!hasFiles ? [] : [rules.deleteEmptydirData ? { warning: "deleting Pods with local storage", evict: true } : { fault: "cannot delete Pods with local storage (use --delete-emptydir-data to override)" }]),
    "evict",
  ];
};

/** `daemonSetExists` is asked for pods that a DaemonSet controls. */
export const selectPods = (pods: readonly Pod[], daemonSetExists: (pod: Pod) => boolean, rules: DrainRules, nowMs: number): Selection => {
  const judged = pods.map((pod) => ({ pod, verdicts: judge(pod, daemonSetExists, rules, nowMs) }));
  const said = (textOf: (v: Verdict) => string | undefined): string[] => {
    const texts = new Map<string, string[]>();
    for (const { pod, verdicts } of judged) for (const text of verdicts.map(textOf)) if (text !== undefined) texts.set(text, [...(texts.get(text) ?? []), podName(pod)]);
    return Array.from(texts, ([text, names]) => `${text}: ${names.join(", ")}`);
  };
  const goes = (v: Verdict): boolean => v === "evict" || (typeof v === "object" && "evict" in v && v.evict);
  return {
    evict: judged.filter(({ verdicts }) => verdicts.every(goes)).map(({ pod }) => pod),
    faults: said((v) => (typeof v === "object" && "fault" in v ? v.fault : undefined)),
    warnings: said((v) => (typeof v === "object" && "warning" in v ? v.warning : undefined)),
  };
};
