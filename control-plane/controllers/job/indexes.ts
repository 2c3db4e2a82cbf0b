// Completion indexes of Indexed jobs, as status.completedIndexes writes them: "0,2-4,7". Pure.
import type { Job, Pod, PodTemplateSpec } from "../../../base/kube/types.gen.ts";

export const COMPLETION_INDEX = "batch.kubernetes.io/job-completion-index";
const INDEX_ENV = "JOB_COMPLETION_INDEX";

export const isIndexed = (job: Job): boolean => job.spec?.completionMode === "Indexed";

/** -1 for a pod without a usable index. */
export const indexOf = (pod: Pod): number => {
  const text = pod.metadata.annotations?.[COMPLETION_INDEX];
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : -1;
};

export const parseIndexes = (text: string | undefined): Set<number> => {
  const indexes = new Set<number>();
  for (const part of text ? text.split(",") : []) {
    const [first, last = first] = part.split("-").map(Number) as [number, number?];
    for (let i = first; i <= last; i++) indexes.add(i);
  }
  return indexes;
};

export const formatIndexes = (indexes: Iterable<number>): string => {
  const runs: [first: number, last: number][] = [];
  for (const index of [...indexes].sort((a, b) => a - b)) {
    const run = runs.at(-1);
    if (run && run[1] === index - 1) run[1] = index;
    else runs.push([index, index]);
  }
  return runs.map(([first, last]) => (first === last ? String(first) : `${first}-${last}`)).join(",");
};

/** The template of one index: host name, annotation, label and environment tell the pod its number, as upstream's do. */
export const templateAt = (job: Job, template: PodTemplateSpec, index: number): PodTemplateSpec => {
  const env = { name: INDEX_ENV, valueFrom: { fieldRef: { apiVersion: "v1", fieldPath: `metadata.annotations['${COMPLETION_INDEX}']` } } };
  const numbered = <C extends { env?: { name: string }[] | undefined }>(c: C): C => (c.env?.some((e) => e.name === INDEX_ENV) ? c : { ...c, env: [...(c.env ?? []), env] });
  const spec = template.spec!;
  return {
    ...template,
    metadata: { ...template.metadata, annotations: { ...template.metadata?.annotations, [COMPLETION_INDEX]: String(index) }, labels: { ...template.metadata?.labels, [COMPLETION_INDEX]: String(index) } },
    spec: {
      ...spec, hostname: `${job.metadata.name!}-${index}`, containers: spec.containers.map(numbered),
      ...(spec.initContainers && { initContainers: spec.initContainers.map(numbered) }),
    },
  };
};
