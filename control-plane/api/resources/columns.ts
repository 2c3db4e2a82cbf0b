// Columns that several kinds print, as upstream's printers do (pkg/printers/internalversion/printers.go).
import type { KubeObject } from "../../../base/kube/resources.ts";
import { formatSelector, fromLabelSelector } from "../../../base/kube/labels.ts";
import type { Container, LabelSelector } from "../../../base/kube/types.gen.ts";
import type { Column } from "./definition.ts";
import { age } from "./human-duration.ts";

type Cell<T extends KubeObject> = Column<T>["value"];

export const column = <T extends KubeObject>(name: string, type: Column<T>["type"], description: string, value: Cell<T>): Column<T> =>
  ({ name, type, description, priority: 0, value });
/** Shown with -o wide only. */
export const wide = <T extends KubeObject>(name: string, type: Column<T>["type"], description: string, value: Cell<T>): Column<T> =>
  ({ name, type, description, priority: 1, value });

export const nameColumn = <T extends KubeObject>(): Column<T> => ({
  name: "Name", type: "string", format: "name", priority: 0, value: (o) => o.metadata.name ?? "",
  description: "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically.",
});
export const ageColumn = <T extends KubeObject>(): Column<T> =>
  column("Age", "string", "Time since the object was created.", (o, nowMs) => age(o.metadata.creationTimestamp, nowMs));

export const containerColumns = <T extends KubeObject>(containers: (object: T) => readonly Container[]): readonly Column<T>[] => [
  wide("Containers", "string", "Names of each container in the template.", (o) => containers(o).map((c) => c.name).join(",")),
  wide("Images", "string", "Images referenced by each container in the template.", (o) => containers(o).map((c) => c.image ?? "").join(",")),
];
export const selectorColumn = <T extends KubeObject>(selector: (object: T) => LabelSelector | undefined): Column<T> =>
  wide("Selector", "string", "Label selector that picks the pods.", (o) => {
    const s = selector(o);
    return s ? formatSelector(fromLabelSelector(s)) || "<none>" : "<none>";
  });
