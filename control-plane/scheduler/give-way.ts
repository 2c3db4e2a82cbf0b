// Which staged pods make room for a pod that is to run now. Pods that wait for their start time reserve only what would be free: they are the
// first to give way, to everything of their own priority or more. Pure but for the table, which is left as it was.
import { priorityOf } from "../../base/kube/pod-state.ts";
import { isAhead } from "../../base/kube/staging.ts";
import type { Pod } from "../../base/kube/types.gen.ts";
import { fits } from "./filters.ts";
import type { NodeTable } from "./node-table.ts";
import type { PodClass } from "./pod-class.ts";

export interface Way {
  readonly nodeName: string;
  /** As few as possible, the least important first. */
  readonly victims: readonly Pod[];
}

/** Undefined when no node would fit even without its staged pods. `staged` are placed in the table. */
export const giveWay = (podClass: PodClass, table: NodeTable, staged: Iterable<Pod>, nowMs: number): Way | undefined => {
  const byNode = new Map<string, Pod[]>();
  for (const pod of staged) {
    if (!isAhead(pod, nowMs) || priorityOf(pod) > podClass.priority || pod.metadata.deletionTimestamp !== undefined) continue;
    byNode.set(pod.spec!.nodeName!, [...(byNode.get(pod.spec!.nodeName!) ?? []), pod]);
  }
  let best: Way | undefined;
  for (const [nodeName, pods] of byNode) {
    const row = table.rowOf(nodeName);
    if (row === undefined) continue;
    const taken: Pod[] = [];
    // Of equal ones the newest goes: it has had the least work.
    for (const pod of pods.sort((a, b) => priorityOf(a) - priorityOf(b) || (a.metadata.creationTimestamp! < b.metadata.creationTimestamp! ? 1 : -1))) {
      if (best && taken.length + 1 >= best.victims.length) break;
      table.remove(pod.metadata.uid!);
      taken.push(pod);
      if (fits(podClass, table, row)) {
        best = { nodeName, victims: [...taken] };
        break;
      }
    }
    for (const pod of taken) table.place(pod, nodeName);
  }
  return best;
};
