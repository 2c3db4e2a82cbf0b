// What a HorizontalPodAutoscaler does with its target now. Pure: (autoscaler, target, pods, what they use, the past) -> plan.
// Source: k8s.io/kubernetes/pkg/controller/podautoscaler/horizontal.go, whose conditions, events and words are kept.
import { describeError, GantryError } from "../../../base/errors.ts";
import { formatMilliCpu, parseQuantity, toMilli } from "../../../base/kube/quantity.ts";
import type { HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerStatus, MetricSpec, MetricStatus, MetricTarget, MetricValueStatus, Pod } from "../../../base/kube/types.gen.ts";
import { timestamp, withCondition } from "../objects.ts";
import type { Announcement } from "../reconcile-loop.ts";
import { decide, remembered, startOfHistory } from "./behavior.ts";
import type { History } from "./behavior.ts";
import { replicasForAverage, replicasForUtilization } from "./replicas.ts";
import type { Answer, Readings, Tolerances } from "./replicas.ts";

/** Why something could not be found out. */
export interface Fault {
  readonly fault: string;
}

export interface Target {
  readonly replicas: number;
  /** As its selector picks them; without those that wait for a start time to come. */
  readonly pods: readonly Pod[];
  /** The selector's text, and which other autoscalers scale these pods. */
  readonly selector: string;
  readonly rivals: readonly string[];
}

export interface Input {
  readonly hpa: HorizontalPodAutoscaler;
  readonly target: Target | Fault;
  /** For each metric of the spec. */
  readonly readings: readonly (Readings | Fault)[];
  /** undefined: the first look. */
  readonly history: History | undefined;
  readonly nowMs: number;
  readonly monotonicMs: number;
}

export type Say = Pick<Announcement, "type" | "reason" | "message">;

export interface Plan {
  /** The target's new size; undefined: it stays. */
  readonly replicas: number | undefined;
  readonly status: HorizontalPodAutoscalerStatus;
  readonly say: readonly Say[];
  /** As it is once the plan is carried out. */
  readonly history: History | undefined;
}

const DEFAULT_TOLERANCE = 0.1;

/** The part of a status and of an event's reason that names the metric's kind. */
const REASONS: Readonly<Record<string, string>> = {
  Resource: "FailedGetResourceMetric", ContainerResource: "FailedGetContainerResourceMetric", Pods: "FailedGetPodsMetric", Object: "FailedGetObjectMetric", External: "FailedGetExternalMetric",
};

/** Whether metrics decide at all: a target that is scaled to 0 rests, and bounds come first. */
export const needsMetrics = ({ spec }: HorizontalPodAutoscaler, replicas: number): boolean => {
  const { minReplicas = 1, maxReplicas } = spec;
  return !(replicas === 0 && minReplicas !== 0) && replicas <= maxReplicas && replicas >= minReplicas;
};

const isFault = (value: object): value is Fault => "fault" in value;

interface Measured {
  readonly replicas: number;
  readonly name: string;
  readonly status: MetricStatus;
}

const answerFor = (input: Input, pods: readonly Pod[], replicas: number, readings: Readings, target: MetricTarget, resource: string | undefined, container: string | undefined): Answer => {
  const { scaleUp, scaleDown } = input.hpa.spec.behavior ?? {};
  const tolerance = (quantity: string | undefined): number => (quantity === undefined ? DEFAULT_TOLERANCE : parseQuantity(quantity));
  const tolerances: Tolerances = { up: tolerance(scaleUp?.tolerance), down: tolerance(scaleDown?.tolerance) };
  const question = { replicas, pods, readings, tolerances, nowMs: input.nowMs };
  if (target.averageValue !== undefined) return replicasForAverage(question, resource, toMilli(target.averageValue));
  if (resource !== undefined && target.averageUtilization !== undefined) return replicasForUtilization(question, resource, container, target.averageUtilization);
  throw new GantryError("Invalid", "invalid resource metric source: neither an average utilization target nor an average value (usage) target was set");
};

/** Throws with upstream's words when the metric says nothing. */
const measure = (input: Input, metric: MetricSpec, readings: Readings | Fault, { pods, replicas }: Target): Measured => {
  if (isFault(readings)) throw new GantryError("NotFound", readings.fault);
  const { type } = metric;
  const valueOf = ({ averageMilli, percent }: Answer): MetricValueStatus => ({ ...(percent !== undefined && { averageUtilization: percent }), averageValue: formatMilliCpu(averageMilli) });
  if (metric.pods) {
    const answer = answerFor(input, pods, replicas, readings, metric.pods.target, undefined, undefined);
    return { replicas: answer.replicas, name: `pods metric ${metric.pods.metric.name}`, status: { type, pods: { metric: metric.pods.metric, current: valueOf(answer) } } };
  }
  const source = metric.containerResource ?? metric.resource;
  if (!source) throw new GantryError("Invalid", `unknown metric source type ${JSON.stringify(type)}`);
  const { name, target } = source;
  const container = metric.containerResource?.container;
  const what = target.averageValue !== undefined ? "usage" : "utilization";
  let answer: Answer;
  try {
    answer = answerFor(input, pods, replicas, readings, target, name, container);
  } catch (error) {
    throw new GantryError("NotFound", `failed to get ${name} ${what}: ${describeError(error)}`);
  }
  const current = valueOf(answer);
  return {
    replicas: answer.replicas,
    name: what === "usage" ? `${name} resource` : `${name} ${container === undefined ? "" : "container "}resource utilization (percentage of request)`,
    status: container === undefined ? { type, resource: { name, current } } : { type, containerResource: { name, container, current } },
  };
};

/** What a failed metric's sentence in the summary begins with. */
const failedTo = ({ type, resource, containerResource, pods, object, external }: MetricSpec): string => {
  if (resource) return `failed to get ${resource.name} resource metric value`;
  if (containerResource) return `failed to get ${containerResource.name} container metric value`;
  if (external) return `failed to get ${external.metric.name} external metric value`;
  return `failed to get ${pods ? "pods" : object ? "object" : type} metric value`;
};

class Draft {
  readonly #input: Input;
  readonly say: Say[] = [];
  conditions: readonly HorizontalPodAutoscalerCondition[];

  constructor(input: Input) {
    this.#input = input;
    this.conditions = input.hpa.status?.conditions ?? [];
  }

  set(type: "AbleToScale" | "ScalingActive" | "ScalingLimited", status: "True" | "False", reason: string, message: string): void {
    this.conditions = withCondition(this.conditions, { type, status, reason, message, lastTransitionTime: timestamp(this.#input.nowMs) });
  }

  warn(reason: string, message: string): void {
    this.say.push({ type: "Warning", reason, message });
  }
}

/** The largest of what the metrics ask for; undefined when they can't be trusted with the decision. */
const wantedBy = (input: Input, target: Target, draft: Draft): { readonly wanted: Measured | undefined; readonly statuses: MetricStatus[] } => {
  const { metrics = [] } = input.hpa.spec;
  const statuses: MetricStatus[] = [];
  let wanted: Measured | undefined;
  let first: { readonly reason: string; readonly condition: string; readonly error: string } | undefined;
  let failed = 0;
  for (const [i, metric] of metrics.entries()) {
    try {
      const measured = measure(input, metric, input.readings[i] ?? { fault: "it was not measured" }, target);
      // By its place a status belongs to its metric, for whoever prints both.
      statuses.push(measured.status);
      if (!wanted || measured.replicas > wanted.replicas) wanted = measured;
    } catch (error) {
      const reason = REASONS[metric.type] ?? "InvalidMetricSourceType";
      const text = describeError(error);
      statuses.push({ type: metric.type });
      draft.warn(reason, text);
      first ??= { reason, condition: `the HPA was unable to compute the replica count: ${text}`, error: `${failedTo(metric)}: ${text}` };
      failed++;
    }
  }
  // Some metrics are enough to go up by; to go down, the silent one might be the one that needs the pods.
  if (first && (!wanted || wanted.replicas < target.replicas)) {
    draft.set("ScalingActive", "False", first.reason, first.condition);
    draft.warn("FailedComputeMetricsReplicas", `invalid metrics (${failed} invalid out of ${metrics.length}), first error is: ${first.error}`);
    return { wanted: undefined, statuses };
  }
  if (wanted) draft.set("ScalingActive", "True", "ValidMetricFound", `the HPA was able to successfully calculate a replica count from ${wanted.name}`);
  return { wanted, statuses };
};

export const reconcile = (input: Input): Plan => {
  const { hpa, target, nowMs, monotonicMs: atMs } = input;
  const { minReplicas: min = 1, maxReplicas: max, behavior } = hpa.spec;
  const before: HorizontalPodAutoscalerStatus = hpa.status ?? { desiredReplicas: 0 };
  const draft = new Draft(input);
  const end = (part: Partial<HorizontalPodAutoscalerStatus>, replicas: number | undefined, history: History | undefined): Plan => ({
    replicas, say: draft.say, history,
    status: {
      observedGeneration: hpa.metadata.generation, ...(before.lastScaleTime !== undefined && { lastScaleTime: before.lastScaleTime }), desiredReplicas: before.desiredReplicas,
      ...part, conditions: [...draft.conditions],
    },
  });
  if (isFault(target)) {
    draft.warn("FailedGetScale", target.fault);
    draft.set("AbleToScale", "False", "FailedGetScale", `the HPA controller was unable to get the target's current scale: ${target.fault}`);
    return end({ currentReplicas: before.currentReplicas, currentMetrics: before.currentMetrics }, undefined, input.history);
  }
  const { replicas } = target;
  draft.set("AbleToScale", "True", "SucceededGetScale", "the HPA controller was able to get the target's current scale");
  const history = input.history ?? startOfHistory(replicas, atMs);
  const scaled = (to: number, reason: string, part: Partial<HorizontalPodAutoscalerStatus>, wanted: number | undefined): Plan => {
    draft.set("AbleToScale", "True", "SucceededRescale", `the HPA controller was able to update the target scale to ${to}`);
    draft.say.push({ type: "Normal", reason: "SuccessfulRescale", message: `New size: ${to}; reason: ${reason}` });
    return end({ ...part, currentReplicas: replicas, desiredReplicas: to, lastScaleTime: timestamp(nowMs) }, to, remembered({ behavior, history, wanted, replicas, atMs }, to));
  };
  if (replicas === 0 && min !== 0) {
    draft.set("ScalingActive", "False", "ScalingDisabled", "scaling is disabled since the replica count of the target is zero");
    return end({ currentReplicas: 0, desiredReplicas: 0 }, undefined, history);
  }
  if (replicas > max) return scaled(max, "Current number of replicas above Spec.MaxReplicas", {}, undefined);
  if (replicas < min) return scaled(min, "Current number of replicas below Spec.MinReplicas", {}, undefined);
  if (target.rivals.length > 0) {
    const message = `pods by selector ${target.selector} are controlled by multiple HPAs: ${[hpa.metadata.name!, ...target.rivals].sort().join(", ")}`;
    draft.warn("AmbiguousSelector", message);
    draft.set("ScalingActive", "False", "AmbiguousSelector", message);
    return end({ currentReplicas: replicas, currentMetrics: before.currentMetrics }, undefined, history);
  }
  const { wanted, statuses } = wantedBy(input, target, draft);
  if (!wanted) return end({ currentReplicas: replicas, currentMetrics: statuses }, undefined, history);
  const verdict = decide({ replicas, wanted: wanted.replicas, min, max, behavior, history, atMs });
  draft.set("AbleToScale", "True", verdict.stabilized.reason, verdict.stabilized.message);
  draft.set("ScalingLimited", verdict.limited.isLimited ? "True" : "False", verdict.limited.reason, verdict.limited.message);
  const part = { currentMetrics: statuses };
  if (verdict.replicas !== replicas) return scaled(verdict.replicas, wanted.replicas > replicas ? `${wanted.name} above target` : "All metrics below target", part, wanted.replicas);
  return end({ ...part, currentReplicas: replicas, desiredReplicas: replicas }, undefined, remembered({ behavior, history, wanted: wanted.replicas, replicas, atMs }, replicas));
};
