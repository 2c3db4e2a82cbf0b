// Watches pods and the cluster's events for `events`.
import { setTimeout as delay } from "node:timers/promises";
import { isCode } from "../../base/errors.ts";
import { EVENTS, PODS, type KubeObject, type ResourceType } from "../../base/kube/resources.ts";
import type { Event, Pod } from "../../base/kube/types.gen.ts";
import { apiError, type ApiClient } from "../api-client.ts";
import { kubernetesEvent, podEvents, type ShownEvent } from "./events.ts";

const WATCH_AGAIN_MS = 500;

export interface FollowOptions {
  readonly namespace: string | undefined;
  /** Undefined: from now on. */
  readonly sinceMs: number | undefined;
  readonly untilMs: number | undefined;
  readonly print: (event: ShownEvent) => void;
}

/** Lists, then watches, over and over; `known` is what the list said. */
const follow = async <T extends KubeObject>(client: ApiClient, type: ResourceType<T>, namespace: string | undefined, signal: AbortSignal, onList: (items: readonly T[], again: boolean) => void, onChange: (kind: string, object: T) => void): Promise<void> => {
  for (let again = false; !signal.aborted; again = true) {
    try {
      const { items, metadata } = await client.list(type, namespace);
      onList(items, again);
      for await (const event of client.watch<T>(client.pathOf(type, namespace), { resourceVersion: metadata.resourceVersion }, signal)) {
        if (event.type === "ERROR") throw apiError((event.object as { code?: number }).code ?? 500, JSON.stringify(event.object));
        if (event.type !== "BOOKMARK") onChange(event.type, event.object);
      }
    } catch (error) {
      if (signal.aborted) return;
      if (!isCode(error, "Expired", "ServiceUnavailable")) throw error;
    }
    await delay(WATCH_AGAIN_MS, undefined, { signal }).catch(() => undefined);
  }
};

export const followEvents = async (client: ApiClient, { namespace, sinceMs, untilMs, print }: FollowOptions): Promise<void> => {
  const nowMs = Date.now();
  const end = new AbortController();
  const timer = untilMs === undefined || untilMs <= nowMs ? undefined : setTimeout(() => end.abort(), untilMs - nowMs);
  const isWanted = (event: ShownEvent): boolean => event.atMs >= (sinceMs ?? 0) && (untilMs === undefined || event.atMs <= untilMs);
  const known = new Map<string, Pod>();
  /** Before the watch, what is still to be told of the past, in order. */
  let past: ShownEvent[] | undefined = sinceMs === undefined ? undefined : [];
  const emit = (events: readonly ShownEvent[]): void => {
    for (const event of events.filter(isWanted)) if (past) past.push(event);
    else print(event);
  };
  const onPods = (items: readonly Pod[], again: boolean): void => {
    const uids = new Set(items.map((p) => p.metadata.uid!));
    for (const [uid, pod] of known) if (!uids.has(uid)) emit(podEvents(pod, undefined, Date.now()));
    for (const pod of items) {
      if (again || sinceMs !== undefined) emit(podEvents(known.get(pod.metadata.uid!), pod, Date.now()));
      known.set(pod.metadata.uid!, pod);
    }
  };
  const onEvents = (items: readonly Event[], again: boolean): void => {
    if (!again && sinceMs !== undefined) emit(items.map((e) => kubernetesEvent(e, nowMs)));
  };
  try {
    if (sinceMs !== undefined) {
      const [pods, events] = await Promise.all([client.list(PODS, namespace), client.list(EVENTS, namespace)]);
      onPods(pods.items, false);
      onEvents(events.items, false);
      const sorted = past!.sort((a, b) => a.atMs - b.atMs);
      past = undefined;
      for (const event of sorted) print(event);
    }
    if (untilMs !== undefined && untilMs <= nowMs) return;
    const started = sinceMs !== undefined;
    await Promise.all([
      follow(client, PODS, namespace, end.signal, (items, again) => onPods(items, again || started), (kind, pod) => {
        const before = known.get(pod.metadata.uid!);
        if (kind === "DELETED") known.delete(pod.metadata.uid!);
        else known.set(pod.metadata.uid!, pod);
        emit(podEvents(before, kind === "DELETED" ? undefined : pod, Date.now()));
      }),
      follow(client, EVENTS, namespace, end.signal, () => undefined, (kind, event) => {
        if (kind !== "DELETED") emit([kubernetesEvent(event, Date.now())]);
      }),
    ]);
  } finally {
    clearTimeout(timer);
  }
};
