// Event: https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/ (in its core/v1 form)
import { EVENTS } from "../../../base/kube/resources.ts";
import type { Event } from "../../../base/kube/types.gen.ts";
import { column, wide } from "./columns.ts";
import type { ResourceDefinition } from "./definition.ts";
import { invalid, required } from "./faults.ts";
import { age } from "./human-duration.ts";
import { validateMetadata } from "./metadata.ts";

const firstSeen = (e: Event): string | undefined => e.firstTimestamp ?? e.eventTime;
const lastSeen = (e: Event): string | undefined => e.series?.lastObservedTime ?? e.lastTimestamp ?? firstSeen(e);

export const EVENT: ResourceDefinition<Event> = {
  type: EVENTS,
  singular: "event",
  shortNames: ["ev"],
  categories: [],
  schema: "core/v1.Event",
  defaults: (event) => event,
  validate: (event, previous) => {
    // Events about cluster-scoped objects live in "default".
    const about = event.involvedObject?.namespace || "default";
    return [
      ...validateMetadata(EVENTS, event, previous),
      ...(event.involvedObject ? [] : [required("involvedObject")]),
      ...(event.involvedObject && event.metadata.namespace !== undefined && event.metadata.namespace !== about
        ? [invalid("involvedObject.namespace", event.involvedObject.namespace ?? "", `does not match event.namespace ${JSON.stringify(event.metadata.namespace)}`)] : []),
    ];
  },
  strategy: { generationOf: () => undefined },
  columns: [
    column("Last Seen", "string", "Time this event was last seen", (e, nowMs) => age(lastSeen(e), nowMs)),
    column("Type", "string", "Type of this event (Normal, Warning), new types could be added in the future", (e) => e.type ?? ""),
    column("Reason", "string", "This should be a short, machine understandable string that gives the reason for the transition into the object's current status.", (e) => e.reason ?? ""),
    column("Object", "string", "The object that this event is about.", (e) =>
      (e.involvedObject?.name ? `${(e.involvedObject.kind ?? "").toLowerCase()}/${e.involvedObject.name}` : (e.involvedObject?.kind ?? "").toLowerCase())),
    wide("Subobject", "string", "If referring to a piece of an object instead of an entire object, this should contain a valid JSON/Go field access statement.", (e) => e.involvedObject?.fieldPath ?? ""),
    wide("Source", "string", "The component reporting this event.", (e) => [e.source?.component || e.reportingComponent, e.source?.host || e.reportingInstance].filter(Boolean).join(", ")),
    column("Message", "string", "A human-readable description of the status of this operation.", (e) => (e.message ?? "").trim()),
    wide("First Seen", "string", "The time at which the event was first recorded.", (e, nowMs) => age(firstSeen(e), nowMs)),
    wide("Count", "integer", "The number of times this event has occurred.", (e) => e.series?.count ?? e.count ?? 1),
    { ...wide<Event>("Name", "string", "Name must be unique within a namespace.", (e) => e.metadata.name ?? ""), format: "name" },
  ],
  fieldSelectors: {
    "involvedObject.kind": (e) => e.involvedObject?.kind ?? "",
    "involvedObject.namespace": (e) => e.involvedObject?.namespace ?? "",
    "involvedObject.name": (e) => e.involvedObject?.name ?? "",
    "involvedObject.uid": (e) => e.involvedObject?.uid ?? "",
    "involvedObject.apiVersion": (e) => e.involvedObject?.apiVersion ?? "",
    "involvedObject.resourceVersion": (e) => e.involvedObject?.resourceVersion ?? "",
    "involvedObject.fieldPath": (e) => e.involvedObject?.fieldPath ?? "",
    reason: (e) => e.reason ?? "",
    reportingComponent: (e) => e.reportingComponent || e.source?.component || "",
    source: (e) => e.source?.component || e.reportingComponent || "",
    type: (e) => e.type ?? "",
  },
  subresources: {},
};
