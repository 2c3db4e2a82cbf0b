// Owns the forms in which objects go out: whole (the stored bytes, unchanged), as a Table, or only their metadata.
import type { KubeObject } from "../../base/kube/resources.ts";
import type { ListMeta } from "../../base/kube/types.gen.ts";
import type { Stored } from "../state/store.ts";
import type { Form } from "./negotiate.ts";
import { shownAs } from "./resources/definition.ts";
import type { ResourceDefinition } from "./resources/definition.ts";
import { columnDefinitions, toTable } from "./table.ts";

/** Rows that are rendered at a time: between two slices the client's back-pressure counts and others get their turn. */
const SLICE = 200;

export interface Rendering {
  readonly definition: ResourceDefinition;
  readonly form: Form;
  readonly nowMs: number;
}

const metadataOnly = (object: KubeObject, apiVersion: string): KubeObject => ({ kind: "PartialObjectMetadata", apiVersion, metadata: object.metadata });

/** One object as a JSON value. */
export const renderObject = ({ definition, form, nowMs }: Rendering, object: KubeObject): unknown => {
  switch (form.as) {
    case "object": return shownAs(definition, object);
    case "metadata": return metadataOnly(shownAs(definition, object), form.apiVersion);
    case "table": {
      const { resourceVersion = "" } = object.metadata;
      return { ...toTable(definition, [object], nowMs, form.includeObject), apiVersion: form.apiVersion, metadata: { resourceVersion } };
    }
  }
};

/** A table without its column definitions: what follows the first frame of a watch. */
export const renderRow = (rendering: Rendering & { form: { as: "table" } }, object: KubeObject): unknown => {
  const { columnDefinitions: _, ...table } = renderObject(rendering, object) as { columnDefinitions: unknown };
  return { ...table, columnDefinitions: null };
};

/** Whether the stored bytes are what goes out. */
export const isAsStored = ({ definition, form }: Pick<Rendering, "definition" | "form">): boolean => form.as === "object" && !definition.conversion;

/** One object as JSON bytes; the stored ones where possible. */
export const renderBytes = (rendering: Rendering, stored: Stored): Buffer =>
  isAsStored(rendering) ? stored.bytes() : Buffer.from(JSON.stringify(renderObject(rendering, stored.object)));

const listKind = ({ definition, form }: Rendering): { kind: string; apiVersion: string } => {
  switch (form.as) {
    case "object": return { kind: `${definition.type.kind}List`, apiVersion: definition.type.apiVersion };
    case "metadata": return { kind: "PartialObjectMetadataList", apiVersion: form.apiVersion };
    case "table": return { kind: "Table", apiVersion: form.apiVersion };
  }
};

/** A list as JSON, piece by piece. */
export const renderList = function* (rendering: Rendering, items: readonly Stored[], metadata: ListMeta): Generator<Buffer | string> {
  const { definition, form, nowMs } = rendering;
  const head = { ...listKind(rendering), metadata, ...(form.as === "table" ? { columnDefinitions: columnDefinitions(definition) } : {}) };
  yield `${JSON.stringify(head).slice(0, -1)},"${form.as === "table" ? "rows" : "items"}":[`;
  if (form.as === "table") {
    for (let at = 0; at < items.length; at += SLICE) {
      const rows = toTable(definition, items.slice(at, at + SLICE).map((s) => s.object), nowMs, form.includeObject).rows;
      yield `${at === 0 ? "" : ","}${JSON.stringify(rows).slice(1, -1)}`;
    }
  } else {
    let first = true;
    for (const item of items) {
      if (!first) yield ",";
      first = false;
      yield renderBytes(rendering, item);
    }
  }
  yield "]}";
};
