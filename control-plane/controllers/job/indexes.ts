// Completion indexes of Indexed jobs, as status.completedIndexes and failedIndexes write them: "0,2-4,7". What each index has
// behind it is carried by its pods' annotations. Pure.
import type { Job, Pod, PodTemplateSpec, SuccessPolicy } from "../../../base/kube/types.gen.ts";

export const COMPLETION_INDEX = "batch.kubernetes.io/job-completion-index";
/** On pods of jobs with backoffLimitPerIndex: failures of the index before this pod, counted and ignored ones. */
export const FAILURE_COUNT = "batch.kubernetes.io/job-index-failure-count";
export const IGNORED_FAILURE_COUNT = "batch.kubernetes.io/job-index-ignored-failure-count";
const INDEX_ENV = "JOB_COMPLETION_INDEX";

export const isIndexed = (job: Job): boolean => job.spec?.completionMode === "Indexed";
export const hasLimitPerIndex = (job: Job): boolean => isIndexed(job) && job.spec?.backoffLimitPerIndex !== undefined;

const numberIn = (pod: Pod, annotation: string): number | undefined => {
  const text = pod.metadata.annotations?.[annotation];
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined;
};

/** -1 for a pod without a usable index. */
export const indexOf = (pod: Pod): number => numberIn(pod, COMPLETION_INDEX) ?? -1;
export const failuresBefore = (pod: Pod): number => numberIn(pod, FAILURE_COUNT) ?? 0;
export const ignoredBefore = (pod: Pod): number => numberIn(pod, IGNORED_FAILURE_COUNT) ?? 0;

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

/** The first rule that the succeeded indexes fulfil; undefined when none does. */
export const metSuccessRule = (policy: SuccessPolicy | undefined, succeeded: ReadonlySet<number>): number | undefined => {
  const at = policy?.rules.findIndex(({ succeededIndexes, succeededCount }) => {
    if (succeededIndexes === undefined) return succeeded.size >= (succeededCount ?? Infinity);
    const wanted = parseIndexes(succeededIndexes);
    const have = [...wanted].filter((index) => succeeded.has(index)).length;
    return have >= (succeededCount ?? wanted.size);
  }) ?? -1;
  return at < 0 ? undefined : at;
};

/** What a pod of an index is told: its number, and how often the index failed before. */
export interface Attempt {
  readonly index: number;
  /** Of jobs with a limit per index. */
  readonly failures?: { readonly counted: number; readonly ignored: number } | undefined;
}

/** The template of one index: host name, annotation, label and environment tell the pod its number, as upstream's do. */
export const templateAt = (job: Job, template: PodTemplateSpec, { index, failures }: Attempt): PodTemplateSpec => {
  const env = { name: INDEX_ENV, valueFrom: { fieldRef: { apiVersion: "v1", fieldPath: `metadata.annotations['${COMPLETION_INDEX}']` } } };
  const numbered = <C extends { env?: { name: string }[] | undefined }>(c: C): C => (c.env?.some((e) => e.name === INDEX_ENV) ? c : { ...c, env: [...(c.env ?? []), env] });
  const spec = template.spec!;
  const history = failures && { [FAILURE_COUNT]: String(failures.counted), ...(failures.ignored > 0 && { [IGNORED_FAILURE_COUNT]: String(failures.ignored) }) };
  return {
    ...template,
    metadata: { ...template.metadata, annotations: { ...template.metadata?.annotations, [COMPLETION_INDEX]: String(index), ...history }, labels: { ...template.metadata?.labels, [COMPLETION_INDEX]: String(index) } },
    spec: {
      ...spec, hostname: `${job.metadata.name!}-${index}`, containers: spec.containers.map(numbered),
      ...(spec.initContainers && { initContainers: spec.initContainers.map(numbered) }),
    },
  };
};
