// Scales workloads by what their pods use. It alone writes an autoscaler's status. All autoscalers look at the same instants, so that they share
// one measurement of each node; only pods of metrics of type Pods are asked one by one.
import { describeError } from "../../../base/errors.ts";
import { formatSelector, selectorMatches } from "../../../base/kube/labels.ts";
import type { Selector } from "../../../base/kube/labels.ts";
import { HORIZONTAL_POD_AUTOSCALERS, PODS } from "../../../base/kube/resources.ts";
import type { ResourceType } from "../../../base/kube/resources.ts";
import { isAhead } from "../../../base/kube/staging.ts";
import type { HorizontalPodAutoscaler, MetricSpec, Pod } from "../../../base/kube/types.gen.ts";
import { UsageReader, usageByPod } from "../../state/usage-reader.ts";
import { controllerOf, objectKey, sameJson, specChanged, splitKey, withSpec } from "../objects.ts";
import type { Controller, ControllerContext } from "../reconcile-loop.ts";
import { SCALABLE, podSelectorOf, type Scalable } from "../scalable.ts";
import type { History } from "./behavior.ts";
import { readMetrics } from "./exposition.ts";
import { fromAdapter, toldReadings, usageReadings } from "./measure.ts";
import type { Counter, Told, UsageOf } from "./measure.ts";
import { needsMetrics, reconcile } from "./reconcile.ts";
import type { Fault, Target } from "./reconcile.ts";
import type { Readings } from "./replicas.ts";
import { scrape } from "./scrape.ts";
import { SelectorIndex, indexedLabel } from "./selector-index.ts";

/** --horizontal-pod-autoscaler-sync-period */
const SYNC_MS = 15_000;
/** Passes mostly wait for nodes to answer. */
const CONCURRENCY = 64;
/** Pods of one autoscaler that are asked at once. */
const SCRAPES = 32;
/** For how long an index of a namespace's autoscalers serves: that of one round of passes. */
const INDEX_MS = 1000;

interface Memory {
  readonly history: History | undefined;
  readonly counters: ReadonlyMap<string, Counter>;
}

interface Found {
  readonly type: ResourceType<Scalable>;
  readonly object: Scalable;
  readonly selector: Selector;
}

export const horizontalPodAutoscalerController = ({ cache, clock, logger, streams, signal }: ControllerContext): Controller => {
  const hpas = cache.resource(HORIZONTAL_POD_AUTOSCALERS);
  const pods = cache.resource(PODS);
  const usage = new UsageReader(streams, clock, logger);
  const memories = new Map<string, Memory>();
  const indexes = new Map<string, { readonly madeMs: number; readonly index: SelectorIndex }>();

  const find = ({ metadata, spec }: HorizontalPodAutoscaler): Found | Fault => {
    const { apiVersion = "", kind, name } = spec.scaleTargetRef;
    const type = SCALABLE.find((t) => t.kind === kind && t.group === (apiVersion.includes("/") ? apiVersion.split("/")[0] : ""));
    if (!type) return { fault: `no matches for kind ${JSON.stringify(kind)} in version ${JSON.stringify(apiVersion)}: ${SCALABLE.map((t) => `${t.kind} (${t.apiVersion})`).join(", ")} can be scaled` };
    const object = cache.resource(type).get(metadata.namespace!, name)?.object;
    if (!object) return { fault: `${type.name} ${JSON.stringify(name)} not found` };
    return { type, object, selector: podSelectorOf(type, object) };
  };

  const selected = (namespace: string, selector: Selector): Pod[] => {
    const label = indexedLabel(selector);
    const candidates = label === undefined ? pods.list(namespace) : pods.byIndex("label", label);
    return Array.from(candidates, (s) => s.object).filter((p) => p.metadata.namespace === namespace && selectorMatches(selector, p.metadata.labels));
  };

  const indexOf = (namespace: string): SelectorIndex => {
    const known = indexes.get(namespace);
    if (known && clock.monotonicMs() - known.madeMs < INDEX_MS) return known.index;
    const index = new SelectorIndex(Array.from(hpas.list(namespace), (s) => s.object).filter((hpa) => hpa.metadata.deletionTimestamp === undefined).flatMap((hpa) => {
      const found = find(hpa);
      return "fault" in found ? [] : [{ name: hpa.metadata.name!, selector: found.selector }];
    }));
    indexes.set(namespace, { madeMs: clock.monotonicMs(), index });
    return index;
  };

  /** Other autoscalers whose targets' selectors take these pods as well. Pods of one owner have the same labels, as far as selectors go. */
  const rivalsOf = ({ metadata: { namespace, name } }: HorizontalPodAutoscaler, own: readonly Pod[]): string[] => {
    const kinds = new Map(own.map((p) => [controllerOf(p)?.uid ?? p.metadata.uid, p.metadata.labels ?? {}])).values();
    return [...new Set([...kinds].flatMap((labels) => indexOf(namespace!).matching(labels)))].filter((other) => other !== name);
  };

  const targetOf = (hpa: HorizontalPodAutoscaler, { object, selector }: Found): Target => {
    const own = selected(hpa.metadata.namespace!, selector).filter((p) => !isAhead(p, clock.nowMs()));
    return { replicas: object.spec?.replicas ?? 1, pods: own, selector: formatSelector(selector), rivals: rivalsOf(hpa, own) };
  };

  const ask = async (pod: Pod, names: ReadonlySet<string>): Promise<Told | Fault> => {
    try {
      return { metrics: readMetrics(await scrape(streams, clock, pod, signal), names), atMs: clock.nowMs() };
    } catch (error) {
      return { fault: describeError(error) };
    }
  };

  const askAll = async (running: readonly Pod[], names: ReadonlySet<string>): Promise<ReadonlyMap<string, Told | Fault>> => {
    const told = new Map<string, Told | Fault>();
    const left = running.values();
    const one = async (): Promise<void> => {
      for (const pod of left) told.set(pod.metadata.name!, await ask(pod, names));
    };
    if (names.size > 0) await Promise.all(Array.from({ length: SCRAPES }, one));
    return told;
  };

  /** For each metric of the spec, and what is to be remembered of counters. */
  const measure = async (metrics: readonly MetricSpec[], { pods: own }: Target, counters: ReadonlyMap<string, Counter>): Promise<{ readonly readings: (Readings | Fault)[]; readonly counters: ReadonlyMap<string, Counter> }> => {
    const running = own.filter((p) => p.spec?.nodeName && p.status?.phase === "Running" && p.metadata.deletionTimestamp === undefined);
    const nodes = metrics.some((m) => m.resource ?? m.containerResource) ? [...new Set(running.map((p) => p.spec!.nodeName!))] : [];
    const [samples, told] = await Promise.all([usage.of(nodes, signal), askAll(running, new Set(metrics.flatMap((m) => (m.pods ? [m.pods.metric.name] : []))))]);
    const usageOf: UsageOf = (pod) => {
      const sample = samples.get(pod.spec?.nodeName ?? "");
      const used = sample && usageByPod(sample).get(pod.metadata.uid!);
      return used && { atMs: sample.atMs, usage: used };
    };
    const known = new Map<string, Counter>();
    const readings = metrics.map((metric): Readings | Fault => {
      if (metric.resource) return usageReadings(own, usageOf, metric.resource.name, undefined);
      if (metric.containerResource) return usageReadings(own, usageOf, metric.containerResource.name, metric.containerResource.container);
      if (!metric.pods) return fromAdapter(metric);
      const { readings: found, counters: next } = toldReadings(running, told, metric.pods.metric, counters);
      for (const [key, counter] of next) known.set(key, counter);
      return found;
    });
    return { readings, counters: known };
  };

  return {
    name: "horizontal-pod-autoscaler",
    writer: "controller",
    concurrency: CONCURRENCY,
    *watch(queue) {
      yield hpas.subscribe(({ type, stored: { object }, previous }) => {
        if (type === "deleted" || !previous || specChanged(previous.object, object)) queue.add(objectKey(object));
      });
      for (const type of SCALABLE) {
        yield cache.resource(type).subscribe(({ type: what, stored: { object } }) => {
          // Its size is looked at in time: right after a change, which may be our own, pods say nothing new.
          if (what === "modified") return;
          for (const { object: hpa } of hpas.list(object.metadata.namespace)) {
            if (hpa.spec.scaleTargetRef.kind === type.kind && hpa.spec.scaleTargetRef.name === object.metadata.name) queue.add(objectKey(hpa));
          }
        });
      }
      for (const { object } of hpas.list()) queue.add(objectKey(object));
    },

    async sync(key, { writes, again, announce }) {
      const hpa = hpas.get(...splitKey(key))?.object;
      if (!hpa || hpa.metadata.deletionTimestamp !== undefined) {
        memories.delete(key);
        return;
      }
      again(SYNC_MS - (clock.monotonicMs() % SYNC_MS));
      const memory = memories.get(key);
      const found = find(hpa);
      const target = "fault" in found ? found : targetOf(hpa, found);
      const { readings, counters } = "fault" in target || target.rivals.length > 0 || !needsMetrics(hpa, target.replicas)
        ? { readings: [], counters: new Map<string, Counter>() } : await measure(hpa.spec.metrics ?? [], target, memory?.counters ?? new Map<string, Counter>());
      const plan = reconcile({ hpa, target, readings, history: memory?.history, nowMs: clock.nowMs(), monotonicMs: clock.monotonicMs() });
      const { replicas } = plan;
      if (replicas !== undefined && !("fault" in found)) {
        const seen = found.object.spec?.replicas;
        const after = await writes.update(found.type, found.object, (current) => (current.spec?.replicas === seen ? withSpec(current, { ...current.spec, replicas }) : undefined));
        // Somebody else scaled it meanwhile, or it is gone: what was decided is of the past.
        if (after?.spec?.replicas !== replicas) return;
      }
      memories.set(key, { history: plan.history, counters });
      for (const said of plan.say) announce({ regarding: hpa, ...said });
      if (!sameJson(plan.status, hpa.status ?? {})) await writes.update(HORIZONTAL_POD_AUTOSCALERS, hpa, (current) => ({ ...current, status: plan.status }));
    },
  };
};
