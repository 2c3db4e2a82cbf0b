// Runs controllers on the memory store with a clock that stands still. For tests only.
import type { ExecutionContext } from "ava";
import { settle } from "../../base/clock.ts";
import type { FakeClock } from "../../base/clock.ts";
import { isCode } from "../../base/errors.ts";
import type { KubeObject, ResourceType } from "../../base/kube/resources.ts";
import { NAMESPACES, PODS } from "../../base/kube/resources.ts";
import type { Deployment, Pod, PodTemplateSpec } from "../../base/kube/types.gen.ts";
import { silentLogger } from "../../base/logger.ts";
import type { WatchCache } from "../state/cache.ts";
import type { EventRecorder, RecordedEvent } from "../state/event-recorder.ts";
import type { MemoryStore, MemoryStoreOptions } from "../state/memory-store.ts";
import { keyOf } from "../state/store.ts";
import type { NodeStreams } from "../state/node-streams.ts";
import { NO_NODES, createTestState } from "../state/testing.ts";
import { timestamp } from "./objects.ts";
import type { Controller, ControllerContext, ControllerOptions } from "./reconcile-loop.ts";
import { startControllers } from "./run.ts";

export interface Bench {
  readonly store: MemoryStore;
  readonly cache: WatchCache;
  readonly clock: FakeClock;
  readonly events: RecordedEvent[];
  put<T extends KubeObject>(type: ResourceType<T>, object: T): Promise<T>;
  change<T extends KubeObject>(type: ResourceType<T>, name: string, change: (current: T) => T): Promise<T>;
  /** Changes the spec as the API does: the generation rises. */
  changeSpec<T extends KubeObject & { spec?: object | undefined }>(type: ResourceType<T>, name: string, spec: Partial<NonNullable<T["spec"]>>): Promise<T>;
  remove<T extends KubeObject>(type: ResourceType<T>, name: string): Promise<void>;
  get<T extends KubeObject>(type: ResourceType<T>, name: string): T | undefined;
  list<T extends KubeObject>(type: ResourceType<T>): T[];
  /** Lets everything that is due happen; `ms` of time passes. */
  run(ms?: number): Promise<void>;
  /** What an agent would report. */
  setPod(pod: Pod, status: NonNullable<Pod["status"]>): Promise<void>;
  /** Binds and makes ready all pods that are pending. */
  startPods(node?: string): Promise<void>;
  /** As agents do: marked pods end. */
  endMarkedPods(): Promise<void>;
}

export const NS = "default";

export const createBench = async (t: ExecutionContext, controllers: readonly ((context: ControllerContext) => Controller)[], options: { readonly store?: MemoryStoreOptions; readonly controllers?: Partial<ControllerOptions>; readonly streams?: (clock: FakeClock) => NodeStreams } = {}): Promise<Bench> => {
  const { store, cache, clock } = await createTestState(options.store);
  const events: RecordedEvent[] = [];
  const recorder: EventRecorder = { record: (event) => void events.push(event), flush: async () => undefined, [Symbol.dispose]: () => undefined };
  const stop = new AbortController();
  const put = async <T extends KubeObject>(type: ResourceType<T>, object: T): Promise<T> => (await store.create(keyOf(type, object), object, { writer: "api" })).object;
  await put(NAMESPACES, { apiVersion: "v1", kind: "Namespace", metadata: { name: NS, uid: "ns-default" }, spec: { finalizers: ["kubernetes"] }, status: { phase: "Active" } });
  await settle();
  const done = startControllers({
    store, cache, clock, random: () => 0.5, logger: silentLogger, fence: undefined, signal: stop.signal, events: recorder, streams: options.streams?.(clock) ?? NO_NODES, options: options.controllers,
  }, controllers);
  t.teardown(async () => {
    stop.abort();
    await done;
    if (clock.pendingTimers > 0) throw new Error(`the controllers left ${clock.pendingTimers} timers behind`);
  });
  const key = <T extends KubeObject>(type: ResourceType<T>, name: string) => ({ type, namespace: type.namespaced ? NS : "", name });
  const change: Bench["change"] = async (type, name, edit) => (await store.update(key(type, name), edit, { writer: "api" })).object;
  const bench: Bench = {
    store, cache, clock, events, put, change,
    changeSpec: (type, name, spec) => change(type, name, (current) => ({ ...current, spec: { ...current.spec, ...spec }, metadata: { ...current.metadata, generation: (current.metadata.generation ?? 0) + 1 } })),
    remove: async (type, name) => void (await store.delete(key(type, name), { writer: "api" })),
    get: <T extends KubeObject>(type: ResourceType<T>, name: string) => cache.resource(type).get(type.namespaced ? NS : "", name)?.object,
    list: <T extends KubeObject>(type: ResourceType<T>) => Array.from(cache.resource(type).list(), (s) => s.object),
    run: async (ms = 0) => {
      // Chains of passes: each costs a turn or two, and time stands still meanwhile.
      for (let i = 0; i < 12; i++) await clock.advance(0);
      if (ms > 0) await clock.advance(ms);
      for (let i = 0; i < 12; i++) await clock.advance(0);
    },
    setPod: async (pod, status) => {
      try {
        await store.update(keyOf(PODS, pod), (current) => ({ ...current, status: { ...current.status, ...status } }), { writer: "agent" });
      } catch (error) {
        if (!isCode(error, "NotFound")) throw error;
      }
    },
    startPods: async (node = "node-1") => {
      for (const pod of bench.list(PODS).filter((p) => p.status?.phase === "Pending" && !p.metadata.deletionTimestamp)) {
        await store.update(keyOf(PODS, pod), (current) => ({ ...current, spec: { ...current.spec!, nodeName: node } }), { writer: "scheduler" });
        await bench.setPod(pod, { phase: "Running", conditions: [{ type: "Ready", status: "True", lastTransitionTime: timestamp(clock.nowMs()) }] });
      }
    },
    endMarkedPods: async () => {
      for (const pod of bench.list(PODS).filter((p) => p.metadata.deletionTimestamp)) {
        if (pod.metadata.finalizers?.length) await bench.setPod(pod, { phase: "Failed" });
        else await store.delete(keyOf(PODS, pod), { writer: "agent" });
      }
    },
  };
  return bench;
};

export const template = (labels: Record<string, string>, image = "example:1"): PodTemplateSpec => ({
  metadata: { labels },
  spec: { containers: [{ name: "main", image }], restartPolicy: "Always", terminationGracePeriodSeconds: 1 },
});

export const deployment = (name: string, replicas: number, more: Partial<NonNullable<Deployment["spec"]>> = {}): Deployment => ({
  apiVersion: "apps/v1", kind: "Deployment",
  metadata: { name, namespace: NS, uid: `uid-${name}`, generation: 1, creationTimestamp: "2026-01-01T00:00:00Z" },
  spec: {
    replicas, selector: { matchLabels: { app: name } }, template: template({ app: name }),
    strategy: { type: "RollingUpdate", rollingUpdate: { maxSurge: "25%", maxUnavailable: "25%" } }, revisionHistoryLimit: 10, progressDeadlineSeconds: 600, ...more,
  },
});
