// Writes what agents report of their pods. One batch's writes go out together, so that the store commits them together.
import type { Clock } from "../../base/clock.ts";
import { isCode } from "../../base/errors.ts";
import { PODS } from "../../base/kube/resources.ts";
import type { Pod } from "../../base/kube/types.gen.ts";
import type { Logger } from "../../base/logger.ts";
import type { Metrics } from "../../base/metrics.ts";
import type { PodStatus } from "../../proto/gen/gantry/v1/agent.ts";
import type { WatchCache } from "../state/cache.ts";
import type { EventRecorder, RecordedEvent } from "../state/event-recorder.ts";
import type { Fence, Store, WriteOptions } from "../state/store.ts";
import { podTroubles } from "./pod-events.ts";
import type { PodStarts } from "./pod-starts.ts";
import { toPodStatus } from "./pod-status.ts";
import type { Session } from "./session-registry.ts";

export interface StatusWriterOptions {
  readonly store: Store;
  readonly cache: WatchCache;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly fence: () => Fence | undefined;
  readonly events?: EventRecorder | undefined;
  readonly starts: PodStarts;
}

const BATCH_BUCKETS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];

type Outcome = "written" | "unknown" | "outdated";

/** How an event says which container of the pod it is about: as the kubelet's. */
const fieldPathOf = ({ spec }: Pod, container: string): string | undefined => {
  const is = ({ name }: { readonly name: string }): boolean => name === container;
  const list = spec?.containers.some(is) ? "containers" : spec?.initContainers?.some(is) ? "initContainers" : spec?.ephemeralContainers?.some(is) ? "ephemeralContainers" : undefined;
  return list && `spec.${list}{${container}}`;
};

export class StatusWriter {
  readonly #options: StatusWriterOptions;
  readonly #batches;
  readonly #outcomes;

  constructor(options: StatusWriterOptions) {
    this.#options = options;
    const { metrics } = options;
    this.#batches = metrics.histogram("gantry_dispatcher_status_batch_size", "Pod statuses in one report of a node.", [], BATCH_BUCKETS);
    this.#outcomes = metrics.counter("gantry_dispatcher_statuses_total", "Pod statuses reported by nodes, by what became of them.", ["outcome"]);
  }

  /** Uids that nobody knows. Throws when a write failed: the agent then sends the batch again. */
  async write(session: Session, reports: readonly PodStatus[]): Promise<readonly string[]> {
    this.#batches.observe(reports.length);
    const outcomes = await Promise.allSettled(reports.map((report) => this.#one(session, report)));
    const failed = outcomes.find((o) => o.status === "rejected");
    if (failed) throw failed.reason;
    return reports.filter((_, i) => (outcomes[i] as PromiseFulfilledResult<Outcome>).value === "unknown").map((r) => r.uid);
  }

  async #one(session: Session, report: PodStatus): Promise<Outcome> {
    const outcome = await this.#decide(session, report);
    this.#outcomes.inc({ outcome });
    return outcome;
  }

  async #decide(session: Session, report: PodStatus): Promise<Outcome> {
    const { generations } = session;
    if ((generations.get(report.uid) ?? 0) > report.generation) return "outdated";
    generations.set(report.uid, report.generation);
    const pod = await this.#find(report);
    if (pod === undefined) {
      generations.delete(report.uid);
      return "unknown";
    }
    if (pod.spec?.nodeName !== session.nodeName) {
      this.#options.logger.warn("a node reported on a pod of another", { node: session.nodeName, pod: `${report.namespace}/${report.name}`, podUid: report.uid, boundTo: pod.spec?.nodeName });
      return "unknown";
    }
    try {
      await (report.gone ? this.#remove(session, pod, report) : this.#update(session, pod, report));
    } catch (error) {
      // Deleted meanwhile, or its name belongs to another pod by now.
      if (isCode(error, "NotFound", "Conflict") && (await this.#find(report)) === undefined) return "unknown";
      throw error;
    }
    this.#tell(session, pod, report);
    this.#options.starts.stored(report);
    this.#options.logger.debug("pod status stored", { node: session.nodeName, session: session.id, pod: `${report.namespace}/${report.name}`, podUid: report.uid, phase: report.phase, gone: report.gone });
    return "written";
  }

  /** Of the cache; and before anybody is told that a pod is unknown, and so stops it, of the store itself. */
  async #find(report: PodStatus): Promise<Pod | undefined> {
    const { store, cache } = this.#options;
    const cached = cache.resource(PODS).byUid(report.uid);
    if (cached) return cached.object;
    if (report.namespace === "" || report.name === "") return undefined;
    const stored = await store.get({ type: PODS, namespace: report.namespace, name: report.name });
    return stored?.object.metadata.uid === report.uid ? stored.object : undefined;
  }

  #writeOptions(pod: Pod): WriteOptions & { readonly uid: string } {
    return { writer: "agent", uid: pod.metadata.uid ?? "", fence: this.#options.fence() };
  }

  async #update(session: Session, pod: Pod, report: PodStatus, changeMetadata?: (metadata: Pod["metadata"]) => Pod["metadata"]): Promise<void> {
    const key = { type: PODS, namespace: pod.metadata.namespace ?? "", name: pod.metadata.name ?? "" };
    let before = pod.status;
    const written = await this.#options.store.update(key, (current) => {
      before = current.status;
      // A retry that comes round after the session ended, or after a newer report, must not undo what came later.
      if (session.ended || (session.generations.get(report.uid) ?? 0) > report.generation) return undefined;
      const status = toPodStatus(report, current, this.#options.clock.nowMs());
      const metadata = changeMetadata ? changeMetadata(current.metadata) : current.metadata;
      return status === current.status && metadata === current.metadata ? undefined : { ...current, metadata, status };
    }, this.#writeOptions(pod));
    if (written.object.status === undefined || written.object.metadata.deletionTimestamp !== undefined) return;
    for (const { reason, message } of podTroubles(before, written.object.status)) this.#record(session, written.object, { type: "Warning", reason, message });
  }

  /** What the node says of the pod beyond its status. */
  #tell(session: Session, pod: Pod, { incidents }: PodStatus): void {
    for (const { type, reason, message, container } of incidents) {
      this.#record(session, pod, { type: type === "Normal" ? type : "Warning", reason, message, fieldPath: fieldPathOf(pod, container) });
    }
  }

  #record(session: Session, regarding: Pod, event: Pick<RecordedEvent, "type" | "reason" | "message" | "fieldPath">): void {
    this.#options.events?.record({ ...event, regarding, writer: "agent", component: "node-agent", host: session.nodeName });
  }

  /** The node has nothing left of a pod that was to be deleted. */
  async #remove(session: Session, pod: Pod, report: PodStatus): Promise<void> {
    if (pod.metadata.deletionTimestamp === undefined) {
      this.#options.logger.warn("a node gave up a pod that nobody deleted", { node: session.nodeName, pod: `${report.namespace}/${report.name}`, podUid: report.uid });
      await this.#update(session, pod, report);
      return;
    }
    if ((pod.metadata.finalizers ?? []).length > 0) {
      // Grace 0 says that only the finalizers are left to wait for: whoever takes off the last one deletes the object.
      await this.#update(session, pod, report, (metadata) => (metadata.deletionGracePeriodSeconds === 0 ? metadata : { ...metadata, deletionGracePeriodSeconds: 0 }));
      return;
    }
    await this.#options.store.delete({ type: PODS, namespace: pod.metadata.namespace ?? "", name: pod.metadata.name ?? "" }, this.#writeOptions(pod));
    session.generations.delete(report.uid);
  }
}
