// `events`: what happens to containers, volumes' pods and nodes, in docker's words, from the changes of pods; and the cluster's own events.
// Pure; the watching is in follow-events.ts.
import type { Event, Pod } from "../../base/kube/types.gen.ts";
import { labelTest, passes, passesAll, type Filters } from "./filters.ts";
import { containersOf, idOf, nameOf } from "./find-container.ts";
import { phaseOf } from "./container-rows.ts";

export interface ShownEvent {
  readonly Type: "container" | "kubernetes";
  readonly Action: string;
  readonly ID: string;
  readonly Name: string;
  readonly Image: string;
  readonly Node: string;
  readonly Attributes: Readonly<Record<string, string>>;
  readonly Labels: Readonly<Record<string, string>>;
  readonly atMs: number;
}

/** Between two states of a pod; `before` undefined: it is new; `after` undefined: it is gone. */
export const podEvents = (before: Pod | undefined, after: Pod | undefined, nowMs: number): readonly ShownEvent[] => {
  const pod = (after ?? before)!;
  return containersOf(pod).flatMap((found): readonly ShownEvent[] => {
    const old = before && containersOf(before).find((c) => c.container.name === found.container.name);
    const say = (Action: string, at: string | undefined, more: Readonly<Record<string, string>> = {}): ShownEvent => ({
      Type: "container", Action, ID: idOf(found), Name: nameOf(found), Image: found.container.image ?? "", Node: pod.spec?.nodeName ?? "",
      Attributes: { image: found.container.image ?? "", name: nameOf(found), ...(pod.spec?.nodeName ? { node: pod.spec.nodeName } : {}), ...more }, Labels: pod.metadata.labels ?? {}, atMs: at ? Date.parse(at) : nowMs,
    });
    if (!after) return [say("destroy", undefined)];
    const [was, is] = [old?.status, found.status];
    const events: ShownEvent[] = before ? [] : [say("create", pod.metadata.creationTimestamp)];
    const ended = is?.state?.terminated ?? is?.lastState?.terminated;
    const wasEnded = was?.state?.terminated ?? was?.lastState?.terminated;
    if (ended?.finishedAt && ended.finishedAt + (ended.containerID ?? "") !== (wasEnded?.finishedAt ?? "") + (wasEnded?.containerID ?? "")) {
      // It may have come and gone between two looks.
      if (!was?.state?.running && ended.startedAt && !is?.restartCount) events.push(say("start", ended.startedAt));
      if (ended.reason === "OOMKilled") events.push(say("oom", ended.finishedAt));
      events.push(say("die", ended.finishedAt, { exitCode: String(ended.exitCode) }));
    }
    if (is?.state?.running && is.state.running.startedAt !== was?.state?.running?.startedAt) events.push(say((is.restartCount ?? 0) > 0 ? "restart" : "start", is.state.running.startedAt));
    const paused = [old && phaseOf(old) === "paused", phaseOf(found) === "paused"];
    if (paused[1] && !paused[0]) events.push(say("pause", undefined));
    if (paused[0] && !paused[1] && is?.state?.running) events.push(say("unpause", undefined));
    if (found.container.readinessProbe && is?.state?.running && was?.ready !== is.ready && (is.ready || was?.ready)) events.push(say(`health_status: ${is.ready ? "healthy" : "unhealthy"}`, undefined));
    if (after.metadata.deletionTimestamp && before && !before.metadata.deletionTimestamp) events.push(say("stop", undefined));
    return events;
  });
};

export const kubernetesEvent = (event: Event, nowMs: number): ShownEvent => {
  const { kind = "", name = "" } = event.involvedObject;
  const at = event.lastTimestamp ?? event.eventTime ?? event.firstTimestamp ?? event.metadata.creationTimestamp;
  return {
    Type: "kubernetes", Action: event.reason ?? "", ID: `${kind.toLowerCase()}/${name}`, Name: name, Image: "", Node: event.source?.host ?? "",
    Attributes: { message: event.message ?? "", type: event.type ?? "", ...((event.count ?? 1) > 1 ? { count: String(event.count) } : {}) }, Labels: {}, atMs: at ? Date.parse(at) : nowMs,
  };
};

export const EVENT_FILTERS = ["type", "event", "container", "image", "node", "label"] as const;

export const passesEventFilters = (event: ShownEvent, filters: Filters): boolean =>
  passes(filters, "type", (v) => event.Type === v) && passes(filters, "event", (v) => event.Action === v || event.Action.split(":")[0] === v) && passes(filters, "container", (v) => event.Name === v || event.ID.startsWith(v))
  && passes(filters, "image", (v) => event.Image === v || event.Image.replace(/:[^:/]+$/, "") === v) && passes(filters, "node", (v) => event.Node === v) && passesAll(filters, "label", labelTest(event.Labels));

/** "2026-01-01T00:00:00.000Z container die 3f2a... (exitCode=1, image=web, name=web)". */
export const eventLine = ({ Type, Action, ID, Attributes, atMs }: ShownEvent): string =>
  `${new Date(atMs).toISOString()} ${Type} ${Action} ${ID} (${Object.entries(Attributes).sort(([a], [b]) => (a < b ? -1 : 1)).map(([k, v]) => `${k}=${v}`).join(", ")})`;

/** What --format sees, docker's names. */
export const eventFields = ({ Type, Action, ID, Name, Image, Node, Attributes, atMs }: ShownEvent): Record<string, unknown> => ({
  Type, Action, Status: Action, ID, From: Image, Name, Node, Actor: { ID, Attributes }, Time: Math.floor(atMs / 1000), TimeNano: atMs * 1_000_000, scope: "cluster",
});

/** RFC 3339, Unix seconds, or how long ago (10m, 1h30m): an instant in ms; undefined when it can't be read. */
export const parseInstantMs = (text: string, nowMs: number, durationMs: (text: string) => number): number | undefined => {
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text) * 1000;
  if (/^\d{4}-\d\d-\d\d/.test(text)) {
    const ms = Date.parse(text);
    return Number.isNaN(ms) ? undefined : ms;
  }
  try {
    return nowMs - durationMs(text);
  } catch {
    return undefined;
  }
};
