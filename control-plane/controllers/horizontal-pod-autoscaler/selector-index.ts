// Which autoscalers' targets take pods with given labels: two that do would pull at the same pods in turn. Looked up by label, so that a
// pass doesn't have to go through all autoscalers of its namespace.
import { selectorMatches } from "../../../base/kube/labels.ts";
import type { Labels, Selector } from "../../../base/kube/labels.ts";

/** The requirement that a label index can answer: `key=value`. */
export const indexedLabel = (selector: Selector): string | undefined => {
  const equality = selector.find((r) => r.operator === "In" && r.values.length === 1);
  return equality && `${equality.key}=${equality.values[0]!}`;
};

export interface Selecting {
  readonly name: string;
  readonly selector: Selector;
}

export class SelectorIndex {
  readonly #byLabel: ReadonlyMap<string | undefined, readonly Selecting[]>;

  constructor(all: readonly Selecting[]) {
    this.#byLabel = Map.groupBy(all, ({ selector }) => indexedLabel(selector));
  }

  /** Names of those that take pods with these labels. */
  matching(labels: Labels): string[] {
    const keys = [undefined, ...Object.entries(labels).map(([key, value]) => `${key}=${value}`)];
    return keys.flatMap((key) => (this.#byLabel.get(key) ?? []).filter(({ selector }) => selectorMatches(selector, labels)).map(({ name }) => name));
  }
}
