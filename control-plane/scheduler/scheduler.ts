// Binds pending pods to nodes; runs on the leader only. It alone writes spec.nodeName and the PodScheduled condition. Assume in
// memory, bind in one batch, confirm by the cache's event or forget. All of its state is rebuilt from the cache when it starts.
import { describeError, isCode } from "../../base/errors.ts";
import type { Clock } from "../../base/clock.ts";
import type { Logger } from "../../base/logger.ts";
import type { Metrics } from "../../base/metrics.ts";
import { SELECTED_NODE_ANNOTATION, claimNamesOf } from "../../base/kube/claims.ts";
import { DISRUPTION_TARGET } from "../../base/kube/disruption.ts";
import { markedForDeletion, timestamp } from "../../base/kube/meta.ts";
import { isTerminal, priorityOf } from "../../base/kube/pod-state.ts";
import { NODES, PERSISTENT_VOLUMES, PERSISTENT_VOLUME_CLAIMS, POD_DISRUPTION_BUDGETS, PODS, STORAGE_CLASSES } from "../../base/kube/resources.ts";
import { isAhead } from "../../base/kube/staging.ts";
import type { Pod, PodCondition } from "../../base/kube/types.gen.ts";
import type { CacheEvent, WatchCache } from "../state/cache.ts";
import { keyOf, type Fence, type Store } from "../state/store.ts";
import { buildNodeTable, explainClass, namespaceLookup } from "./explain.ts";
import { giveWay } from "./give-way.ts";
import type { NodeTable } from "./node-table.ts";
import { preempt, type LowerPod } from "./preempt.ts";
import { ClassPlacer } from "./placement.ts";
import { classOf, type PodClass } from "./pod-class.ts";
import { inTurns } from "./queue-order.ts";
import { groupsOf, waitsForOthers, type NamespaceLookup } from "./topology.ts";
import { volumeNeeds } from "./volume-needs.ts";

export const SCHEDULER_NAMES: ReadonlySet<string> = new Set(["default-scheduler", "gantry-scheduler"]);

export interface SchedulerEvents {
  record(event: { regarding: Pod; type: "Normal" | "Warning"; reason: string; message: string; writer: "scheduler"; component: string }): void;
}

export interface SchedulerOptions {
  readonly store: Store;
  readonly cache: WatchCache;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly events: SchedulerEvents;
}

interface Pending {
  readonly pod: Pod;
  readonly podClass: PodClass;
  readonly order: number;
  readonly sinceMs: number;
  failures: number;
}

/** Placements of one turn: more would hold up the event loop (100 µs each at worst). */
const MAX_PER_CYCLE = 500;
/** A pod that doesn't fit is announced when it still doesn't after this long: nodes that are just joining cause no noise. */
const ANNOUNCE_DELAY_MS = 200;
const RETRY_MS = 1000;

const standInFor = (uid: string): string => `${uid} nominated`;

const isOurs = (pod: Pod): boolean =>
  !pod.spec?.nodeName && !pod.metadata.deletionTimestamp && !isTerminal(pod) && SCHEDULER_NAMES.has(pod.spec?.schedulerName ?? "default-scheduler");
const isSchedulable = (pod: Pod): boolean => isOurs(pod) && !pod.spec?.schedulingGates?.length;
const isGated = (pod: Pod): boolean => isOurs(pod) && (pod.spec?.schedulingGates?.length ?? 0) > 0;

/** Others' anti-affinity goes by them. */
const sameLabels = (a: Pod, b: Pod): boolean => JSON.stringify(a.metadata.labels ?? {}) === JSON.stringify(b.metadata.labels ?? {});

const withCondition = (pod: Pod, condition: PodCondition): Pod => {
  const others = (pod.status?.conditions ?? []).filter((c) => c.type !== condition.type);
  return { ...pod, status: { ...pod.status, conditions: [...others, condition] } };
};

/** Runs until the signal aborts; rejects when it was fenced off. `fence` is absent only in tests. */
export const runScheduler = async (options: SchedulerOptions, fence: Fence | undefined, signal: AbortSignal): Promise<void> => {
  using scheduler = new Scheduler(options, fence);
  await scheduler.finished(signal);
};

class Scheduler implements Disposable {
  readonly #o: SchedulerOptions;
  readonly #fence: Fence | undefined;
  readonly #table: NodeTable;
  readonly #namespaces: NamespaceLookup;
  readonly #active = new Map<string, Pending>();
  readonly #unschedulable = new Map<string, Pending>();
  /** Bound, and waiting for their start time. */
  readonly #staged = new Map<string, Pod>();
  /** Of those, the ones that were asked to go. */
  readonly #leaving = new Set<string>();
  /** Pods that were asked to go for one of higher priority, until they have gone. */
  readonly #victims = new Set<string>();
  /** Waiting pods for which room is being made, and where. A stand-in keeps it in the table meanwhile. */
  readonly #nominated = new Map<string, { readonly pod: Pod; readonly nodeName: string }>();
  readonly #placers = new Map<string, ClassPlacer>();
  readonly #subscriptions = new DisposableStack();
  readonly #failed = Promise.withResolvers<never>();
  readonly #retries = new Set<Disposable>();
  #order = 0;
  #cycleDue = false;
  #announceTimer: Disposable | undefined;
  readonly #attempts;
  readonly #latency;
  readonly #cycle;

  constructor(options: SchedulerOptions, fence: Fence | undefined) {
    this.#o = options;
    this.#fence = fence;
    const { cache, metrics } = options;
    this.#attempts = metricsOf(metrics).attempts;
    this.#latency = metricsOf(metrics).latency;
    this.#cycle = metricsOf(metrics).cycle;
    // In one turn with the subscriptions: no event can fall in between.
    this.#namespaces = namespaceLookup(cache);
    this.#table = buildNodeTable(cache);
    for (const { object } of cache.resource(PODS).byIndex("node", "")) {
      this.#enqueue(object);
      this.#sayGated(object);
    }
    for (const { object } of cache.resource(PODS).list()) if (object.spec?.nodeName && isAhead(object, options.clock.nowMs())) this.#staged.set(object.metadata.uid!, object);
    this.#subscriptions.use(cache.resource(PODS).subscribe((e) => this.#onPod(e)));
    this.#subscriptions.use(cache.resource(NODES).subscribe((e) => {
      if (e.type === "deleted") this.#table.removeNode(e.stored.object.metadata.name!);
      else this.#table.setNode(e.stored.object);
      this.#retryUnschedulable();
    }));
    for (const type of [PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, STORAGE_CLASSES]) this.#subscriptions.use(cache.resource(type).subscribe(() => this.#reviewClaims()));
    metricsOf(metrics).leading = () => ({ active: this.#active.size, unschedulable: this.#unschedulable.size });
  }

  async finished(signal: AbortSignal): Promise<void> {
    const aborted = new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      else signal.addEventListener("abort", () => resolve(), { once: true });
    });
    await Promise.race([aborted, this.#failed.promise]);
  }

  [Symbol.dispose](): void {
    this.#subscriptions.dispose();
    this.#announceTimer?.[Symbol.dispose]();
    for (const retry of this.#retries) retry[Symbol.dispose]();
    metricsOf(this.#o.metrics).leading = undefined;
    this.#active.clear();
    this.#unschedulable.clear();
  }

  #onPod({ type, stored: { object: pod } }: CacheEvent<Pod>): void {
    const uid = pod.metadata.uid!;
    if (type !== "deleted" && pod.spec?.nodeName && isAhead(pod, this.#o.clock.nowMs())) this.#staged.set(uid, pod);
    else this.#staged.delete(uid);
    if (type === "deleted") {
      this.#leaving.delete(uid);
      this.#victims.delete(uid);
    }
    if (type === "deleted" || isTerminal(pod)) {
      this.#forget(uid);
      const wasPlaced = this.#table.isPlaced(uid);
      // Also one whose node isn't known: it must not count when that comes.
      this.#table.remove(uid);
      if (wasPlaced) this.#retryUnschedulable();
    } else if (pod.spec?.nodeName) {
      this.#forget(uid);
      const changes = this.#table.changeCount;
      const wasPlaced = this.#table.isPlaced(uid);
      this.#table.place(pod, pod.spec.nodeName);
      // A pod that was resized may have left room.
      if (wasPlaced && this.#table.changeCount !== changes) this.#retryUnschedulable();
    } else if (isSchedulable(pod)) {
      if (!this.#table.isPlaced(uid)) this.#enqueue(pod);
    } else {
      this.#forget(uid);
      this.#sayGated(pod);
    }
  }

  #forget(uid: string): void {
    this.#unnominate(uid);
    this.#active.delete(uid);
    this.#unschedulable.delete(uid);
  }

  #enqueue(pod: Pod): void {
    if (!isSchedulable(pod)) return;
    const uid = pod.metadata.uid!;
    const known = this.#unschedulable.get(uid) ?? this.#active.get(uid);
    const podClass = classOf(pod, volumeNeeds(pod, this.#o.cache), this.#namespaces);
    // Its own condition was written: nothing that placing it depends on has changed.
    if (known && known.podClass.key === podClass.key && this.#unschedulable.has(uid) && sameLabels(known.pod, pod)) {
      this.#unschedulable.set(uid, { ...known, pod });
      return;
    }
    this.#unschedulable.delete(uid);
    // Of the leader before.
    if (pod.status?.nominatedNodeName && !known) this.#nominate(pod, pod.status.nominatedNodeName);
    this.#active.set(uid, { pod, podClass, order: known?.order ?? this.#order++, sinceMs: known?.sinceMs ?? this.#o.clock.monotonicMs(), failures: known?.failures ?? 0 });
    this.#wake();
  }

  /** Claims, volumes or classes changed: the pods that wait for some may be of another class now. */
  #reviewClaims(): void {
    for (const { pod } of [...this.#unschedulable.values(), ...this.#active.values()]) if (claimNamesOf(pod).length > 0) this.#enqueue(pod);
  }

  /** Says on the pod's claims where it is to go; their volumes are bound or made there, and the pod comes round again when they are. */
  async #selectNode({ pod, podClass }: Pending, nodeName: string): Promise<void> {
    for (const name of podClass.volumes?.unbound ?? []) {
      try {
        await this.#o.store.update({ type: PERSISTENT_VOLUME_CLAIMS, namespace: pod.metadata.namespace!, name }, (current) =>
          (current.metadata.annotations?.[SELECTED_NODE_ANNOTATION] === undefined && current.status?.phase !== "Bound"
            ? { ...current, metadata: { ...current.metadata, annotations: { ...current.metadata.annotations, [SELECTED_NODE_ANNOTATION]: nodeName } } } : undefined),
        { writer: "scheduler", fence: this.#fence });
      } catch (error) {
        this.#couldNot("could not say where a volume is to be", { claim: `${pod.metadata.namespace!}/${name}` }, error);
      }
    }
  }

  #retryUnschedulable(isConcerned: (pending: Pending) => boolean = () => true): void {
    let isAny = false;
    for (const [uid, pending] of this.#unschedulable) {
      if (!isConcerned(pending)) continue;
      this.#active.set(uid, pending);
      this.#unschedulable.delete(uid);
      isAny = true;
    }
    if (isAny) this.#wake();
  }

  /** Work that arrives in one turn is placed together, so that its bindings share a transaction. */
  #wake(): void {
    if (this.#cycleDue) return;
    this.#cycleDue = true;
    setImmediate(() => {
      this.#cycleDue = false;
      if (!this.#subscriptions.disposed) this.#runCycle();
    });
  }

  #runCycle(): void {
    const end = this.#cycle.startTimer();
    const nowMs = this.#o.clock.nowMs();
    const queue = inTurns(Array.from(this.#active.values(), (pending) => ({ pending, namespace: pending.pod.metadata.namespace ?? "", priority: pending.podClass.priority, isAhead: isAhead(pending.pod, nowMs), order: pending.order })), MAX_PER_CYCLE);
    const full = new Set<string>();
    /** For which nobody can make room: asked once, not for each of thousands alike. */
    const hopeless = new Set<string>();
    let placed = 0;
    for (const { pending } of queue) {
      const { pod, podClass } = pending;
      const uid = pod.metadata.uid!;
      this.#active.delete(uid);
      const nominated = this.#nominated.get(uid);
      if (nominated !== undefined) this.#unnominate(uid);
      // Pods of one class may differ in their labels, and so in whom they are kept away from.
      const alike = this.#table.repellerCount === 0 ? podClass.key : `${podClass.key} ${pod.metadata.namespace ?? ""} ${JSON.stringify(pod.metadata.labels ?? {})}`;
      const row = full.has(alike) ? undefined : this.#placer(podClass).choose(pod);
      if (row === undefined) {
        if (nominated !== undefined) this.#nominate(pod, nominated.nodeName);
        const room = isAhead(pod, nowMs) || hopeless.has(alike) || this.#makeRoom(pending, nowMs) ? "later" : this.#preempt(pending);
        if (room === "never") hopeless.add(alike);
        full.add(alike);
        (room === "now" ? this.#active : this.#unschedulable).set(uid, pending);
        this.#attempts.inc({ result: "unschedulable" });
        continue;
      }
      const nodeName = this.#table.nodeName(row);
      if (podClass.volumes && podClass.volumes.unbound.length > 0) {
        this.#unschedulable.set(uid, pending);
        void this.#selectNode(pending, nodeName);
        continue;
      }
      this.#table.place(pod, nodeName);
      placed++;
      void this.#bind(pending, nodeName);
    }
    // A pod that was placed may be the one that others want to be near to, or that evens out a spread.
    if (placed > 0) this.#retryUnschedulable(({ podClass }) => waitsForOthers(podClass));
    if (this.#active.size > 0) this.#wake();
    else this.#dropIdlePlacers();
    if (this.#unschedulable.size > 0) this.#announceTimer ??= this.#o.clock.setTimer(ANNOUNCE_DELAY_MS, () => this.#announce());
    end();
  }

  /** Staged pods go before a pod that is to run now has to wait. It is tried again when they are gone. */
  #makeRoom({ pod, podClass }: Pending, nowMs: number): boolean {
    if (this.#staged.size === 0) return false;
    // What was asked to go already is room enough for as many; whoever still lacks some asks again with the next change.
    if (this.#leaving.size > 0) return true;
    const way = giveWay(podClass, this.#table, this.#staged.values(), nowMs);
    for (const victim of way?.victims ?? []) {
      this.#leaving.add(victim.metadata.uid!);
      void this.#sendAway(victim, pod);
    }
    return way !== undefined;
  }

  /** The room that is being made for a pod counts as taken by it: nobody of lower or equal priority may slip in. */
  #nominate(pod: Pod, nodeName: string): void {
    this.#nominated.set(pod.metadata.uid!, { pod, nodeName });
    this.#table.place({ ...pod, metadata: { ...pod.metadata, uid: standInFor(pod.metadata.uid!) } }, nodeName);
  }

  #unnominate(uid: string): void {
    if (this.#nominated.delete(uid)) this.#table.remove(standInFor(uid));
  }

  /** Pods of lower priority go for one that fits nowhere. It is tried again when they have gone, before all others. "now": only others that wait had a claim on the room. */
  #preempt({ pod, podClass }: Pending): "now" | "later" | "never" {
    const uid = pod.metadata.uid!;
    if (pod.spec?.preemptionPolicy === "Never" || podClass.volumes?.fault) return "later";
    const isLeaving = (other: Pod): boolean => this.#victims.has(other.metadata.uid!) || other.metadata.deletionTimestamp !== undefined;
    const before = this.#nominated.get(uid)?.nodeName;
    // Those that leave for it are on their way still.
    if (before !== undefined && Array.from(this.#o.cache.resource(PODS).byIndex("node", before), (s) => s.object).some((p) => !isTerminal(p) && isLeaving(p) && priorityOf(p) < podClass.priority)) return "later";
    this.#unnominate(uid);
    const waiting = new Map(Array.from(this.#nominated, ([of, { pod: one }]) => [standInFor(of), one]));
    const kindOf = (other: Pod): LowerPod => (waiting.has(other.metadata.uid!) ? "stand-in" : isLeaving(other) ? "leaving" : "victim");
    const found = preempt(pod, podClass, this.#table, kindOf, Array.from(this.#o.cache.resource(POD_DISRUPTION_BUDGETS).list(), (s) => s.object));
    if (!found) return "never";
    for (const { metadata } of found.standIns) this.#withdraw(waiting.get(metadata.uid!)!);
    this.#nominate(pod, found.nodeName);
    for (const victim of found.victims) {
      this.#victims.add(victim.metadata.uid!);
      void this.#evict(victim, found.nodeName, pod);
    }
    void this.#writeNomination(pod, found.nodeName);
    const isWaitedFor = found.victims.length > 0 || (this.#table.podsBelow(podClass.priority).get(this.#table.rowOf(found.nodeName)!) ?? []).some((p) => kindOf(p) === "leaving");
    return found.standIns.length > 0 && !isWaitedFor ? "now" : "later";
  }

  /** One of higher priority takes the room that was being made for this one, which looks for other. */
  #withdraw(pod: Pod): void {
    const uid = pod.metadata.uid!;
    this.#unnominate(uid);
    void this.#writeNomination(pod, undefined);
    this.#retryUnschedulable((pending) => pending.pod.metadata.uid === uid);
  }

  async #evict(victim: Pod, nodeName: string, pod: Pod): Promise<void> {
    try {
      await this.#o.store.update(keyOf(PODS, victim), (current) => {
        if (current.metadata.deletionTimestamp !== undefined) return undefined;
        const graceSeconds = current.spec?.terminationGracePeriodSeconds ?? 30;
        const condition: PodCondition = { type: DISRUPTION_TARGET, status: "True", reason: "PreemptionByScheduler", message: "default-scheduler: preempting to accommodate a higher priority pod", lastTransitionTime: this.#timestamp() };
        return withCondition(markedForDeletion(current, this.#o.clock.nowMs(), graceSeconds), condition);
      }, { writer: "scheduler", fence: this.#fence, uid: victim.metadata.uid });
      this.#o.events.record({ regarding: victim, type: "Normal", reason: "Preempted", writer: "scheduler", component: "default-scheduler",
        message: `Preempted by pod ${pod.metadata.uid!} on node ${nodeName}` });
    } catch (error) {
      this.#victims.delete(victim.metadata.uid!);
      this.#couldNot("a pod could not be preempted", { pod: `${victim.metadata.namespace!}/${victim.metadata.name!}` }, error);
    }
  }

  async #writeNomination(pod: Pod, nodeName: string | undefined): Promise<void> {
    try {
      await this.#o.store.update(keyOf(PODS, pod), (current) => (isSchedulable(current) ? { ...current, status: { ...current.status, nominatedNodeName: nodeName } } : undefined),
        { writer: "scheduler", fence: this.#fence, uid: pod.metadata.uid });
    } catch (error) {
      this.#couldNot("could not say where room is made for a pod", { pod: `${pod.metadata.namespace!}/${pod.metadata.name!}` }, error);
    }
  }

  async #sendAway(victim: Pod, pod: Pod): Promise<void> {
    const name = `${victim.metadata.namespace!}/${victim.metadata.name!}`;
    try {
      await this.#o.store.update(keyOf(PODS, victim), (current) => {
        if (current.metadata.deletionTimestamp !== undefined || !isAhead(current, this.#o.clock.nowMs())) return undefined;
        return markedForDeletion(current, this.#o.clock.nowMs(), 0);
      }, { writer: "scheduler", fence: this.#fence, uid: victim.metadata.uid });
      this.#o.events.record({ regarding: victim, type: "Normal", reason: "GaveWay", writer: "scheduler", component: "default-scheduler",
        message: `Made room for ${pod.metadata.namespace!}/${pod.metadata.name!}, which is to run now, on ${victim.spec!.nodeName!} before its own start time` });
    } catch (error) {
      this.#leaving.delete(victim.metadata.uid!);
      this.#couldNot("a staged pod could not be sent away", { pod: name }, error);
    }
  }

  #placer(podClass: PodClass): ClassPlacer {
    let placer = this.#placers.get(podClass.key);
    if (!placer) this.#placers.set(podClass.key, (placer = new ClassPlacer(podClass, this.#table)));
    return placer;
  }

  #dropIdlePlacers(): void {
    const waiting = new Set([...this.#unschedulable.values()].map((p) => p.podClass.key));
    for (const key of this.#placers.keys()) if (!waiting.has(key)) this.#placers.delete(key);
    const groups = new Set([...this.#placers.values()].flatMap(({ podClass }) => groupsOf(podClass)));
    this.#table.dropGroups((key) => groups.has(key));
  }

  async #bind(pending: Pending, nodeName: string): Promise<void> {
    const { pod } = pending;
    const uid = pod.metadata.uid!;
    try {
      let bound = false;
      await this.#o.store.update(keyOf(PODS, pod), (current) => {
        bound = isSchedulable(current) && current.metadata.uid === uid;
        if (!bound) return undefined;
        const condition: PodCondition = { type: "PodScheduled", status: "True", lastTransitionTime: this.#timestamp() };
        return withCondition({ ...current, spec: { ...current.spec!, nodeName } }, condition);
      }, { writer: "scheduler", fence: this.#fence });
      if (!bound) {
        // Deleted, or bound by somebody through the API: the cache's event has said or will say where it counts.
        this.#table.remove(uid);
        const now = this.#o.cache.resource(PODS).byUid(uid)?.object;
        if (now?.spec?.nodeName && !isTerminal(now)) this.#table.place(now, now.spec.nodeName);
        return;
      }
      this.#attempts.inc({ result: "scheduled" });
      this.#latency.observe((this.#o.clock.monotonicMs() - pending.sinceMs) / 1000);
      this.#o.logger.debug("pod bound", { pod: `${pod.metadata.namespace!}/${pod.metadata.name!}`, podUid: uid, node: nodeName });
      this.#o.events.record({ regarding: pod, type: "Normal", reason: "Scheduled", writer: "scheduler", component: "default-scheduler",
        message: `Successfully assigned ${pod.metadata.namespace!}/${pod.metadata.name!} to ${nodeName}` });
    } catch (error) {
      this.#table.remove(uid);
      if (isCode(error, "NotFound")) return;
      if (isCode(error, "Fenced")) {
        this.#failed.reject(error);
        return;
      }
      this.#attempts.inc({ result: "error" });
      this.#o.logger.warn("binding failed, will be tried again", { pod: `${pod.metadata.namespace!}/${pod.metadata.name!}`, node: nodeName, err: describeError(error) });
      pending.failures++;
      const retry = this.#o.clock.setTimer(Math.min(RETRY_MS * pending.failures, 10_000), () => {
        this.#retries.delete(retry);
        const now = this.#o.cache.resource(PODS).byUid(uid)?.object;
        if (now && !this.#table.isPlaced(uid)) this.#enqueue(now);
      });
      this.#retries.add(retry);
    }
  }

  /** Writes the condition and the event of every pod that still doesn't fit, where they would say something new. */
  #announce(): void {
    this.#announceTimer = undefined;
    const messages = new Map<string, string>();
    for (const { pod, podClass } of this.#unschedulable.values()) {
      let message = messages.get(podClass.key);
      if (message === undefined) {
        const explanation = explainClass(pod, podClass, this.#table);
        if (explanation.fits.length > 0 && podClass.volumes) continue; // its volumes are on their way
        message = explanation.suggestion ? `${explanation.summary} Hint: ${explanation.suggestion}.` : explanation.summary;
        messages.set(podClass.key, message);
      }
      const shown = pod.status?.conditions?.find((c) => c.type === "PodScheduled");
      if (shown?.status === "False" && shown.message === message) continue;
      void this.#writeUnschedulable(pod, message);
    }
  }

  async #writeUnschedulable(pod: Pod, message: string): Promise<void> {
    try {
      await this.#o.store.update(keyOf(PODS, pod), (current) => {
        if (!isSchedulable(current) || current.metadata.uid !== pod.metadata.uid) return undefined;
        const before = current.status?.conditions?.find((c) => c.type === "PodScheduled");
        const lastTransitionTime = before?.status === "False" ? before.lastTransitionTime : this.#timestamp();
        return withCondition(current, { type: "PodScheduled", status: "False", reason: "Unschedulable", message, lastTransitionTime });
      }, { writer: "scheduler", fence: this.#fence });
      this.#o.events.record({ regarding: pod, type: "Warning", reason: "FailedScheduling", message, writer: "scheduler", component: "default-scheduler" });
    } catch (error) {
      this.#couldNot("could not say that a pod is unschedulable", { pod: `${pod.metadata.namespace!}/${pod.metadata.name!}` }, error);
    }
  }

  #sayGated(pod: Pod): void {
    if (isGated(pod) && pod.status?.conditions?.find((c) => c.type === "PodScheduled")?.reason !== "SchedulingGated") void this.#writeGated(pod);
  }

  async #writeGated(pod: Pod): Promise<void> {
    try {
      await this.#o.store.update(keyOf(PODS, pod), (current) => (isGated(current)
        ? withCondition(current, { type: "PodScheduled", status: "False", reason: "SchedulingGated", message: "Scheduling is blocked due to non-empty scheduling gates", lastTransitionTime: this.#timestamp() }) : undefined),
      { writer: "scheduler", fence: this.#fence, uid: pod.metadata.uid });
    } catch (error) {
      this.#couldNot("could not say that a pod is gated", { pod: `${pod.metadata.namespace!}/${pod.metadata.name!}` }, error);
    }
  }

  /** A write failed: of what is gone, or is another by now (Conflict), nothing is left to do; whoever was fenced off leads no longer. */
  #couldNot(what: string, regarding: Readonly<Record<string, string>>, error: unknown): void {
    if (isCode(error, "Fenced")) this.#failed.reject(error);
    else if (!isCode(error, "NotFound", "Conflict")) this.#o.logger.warn(what, { ...regarding, err: describeError(error) });
  }

  #timestamp(): string {
    return timestamp(this.#o.clock.nowMs());
  }
}

const makeInstruments = (metrics: Metrics) => {
  const made = {
    attempts: metrics.counter("gantry_scheduler_attempts_total", "Placements tried, by result (scheduled, unschedulable, error)", ["result"]),
    latency: metrics.histogram("gantry_scheduler_latency_seconds", "From seeing a pending pod to its binding being stored"),
    cycle: metrics.histogram("gantry_scheduler_cycle_seconds", "Time to place one batch in memory", [], [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5]),
    /** Queue lengths, while this process leads. */
    leading: undefined as (() => { readonly active: number; readonly unschedulable: number }) | undefined,
  };
  // Read when asked for: a pod that is deleted while it waits costs no cycle, and one who no longer leads has nothing waiting.
  metrics.gauge("gantry_scheduler_pending_pods", "Pods waiting for a node, by queue (active, unschedulable)", ["queue"], (gauge) => {
    const { active, unschedulable } = made.leading?.() ?? { active: 0, unschedulable: 0 };
    gauge.set({ queue: "active" }, active);
    gauge.set({ queue: "unschedulable" }, unschedulable);
  });
  return made;
};
const instruments = new WeakMap<Metrics, ReturnType<typeof makeInstruments>>();
/** A process leads more than once in its life, and prom-client takes a name only once. */
const metricsOf = (metrics: Metrics): ReturnType<typeof makeInstruments> => {
  let made = instruments.get(metrics);
  if (!made) instruments.set(metrics, (made = makeInstruments(metrics)));
  return made;
};
