// Chooses a node for the next pod of a class. One heap a class holds the fitting rows by score; a placement changes one row, so the
// 100th replica costs O(log nodes). Rows that changed meanwhile are learnt from the table's change list. Owned by scheduler.ts.
import type { Pod } from "../../base/kube/types.gen.ts";
import { fits } from "./filters.ts";
import type { NodeTable } from "./node-table.ts";
import type { PodClass } from "./pod-class.ts";
import { score } from "./scores.ts";
import { needsAllRows, noEligibleRows, topologyCheck } from "./topology.ts";

interface Candidate {
  readonly row: number;
  readonly version: number;
  readonly score: number;
}

/** Max-heap by score; equal scores by row, so that choices replay. */
class Heap {
  #items: Candidate[] = [];

  get size(): number {
    return this.#items.length;
  }

  push(item: Candidate): void {
    const items = this.#items;
    let i = items.push(item) - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!before(items[i]!, items[parent]!)) break;
      [items[i], items[parent]] = [items[parent]!, items[i]!];
      i = parent;
    }
  }

  peek(): Candidate | undefined {
    return this.#items[0];
  }

  pop(): void {
    const items = this.#items;
    const last = items.pop();
    if (!last || items.length === 0) return;
    items[0] = last;
    let i = 0;
    for (;;) {
      const [left, right] = [2 * i + 1, 2 * i + 2];
      let best = i;
      if (left < items.length && before(items[left]!, items[best]!)) best = left;
      if (right < items.length && before(items[right]!, items[best]!)) best = right;
      if (best === i) return;
      [items[i], items[best]] = [items[best]!, items[i]!];
      i = best;
    }
  }
}

const before = (a: Candidate, b: Candidate): boolean => a.score > b.score || (a.score === b.score && a.row < b.row);

export class ClassPlacer {
  readonly podClass: PodClass;
  readonly #table: NodeTable;
  #heap = new Heap();
  /** Of classes for which what is best changes with every pod that is placed: all fitting rows with their own scores. */
  readonly #fitting: Map<number, number> | undefined;
  readonly #eligible = noEligibleRows();
  #read = -1;

  constructor(podClass: PodClass, table: NodeTable) {
    this.podClass = podClass;
    this.#table = table;
    this.#fitting = needsAllRows(podClass) ? new Map() : undefined;
  }

  /** The best row that fits `pod`, one of the class, now; or undefined. The caller places the pod in the table before it asks again. */
  choose(pod: Pod): number | undefined {
    this.#catchUp();
    const check = topologyCheck(pod, this.podClass, this.#table, this.#eligible);
    if (this.#fitting) return this.#bestOf(this.#fitting, (row) => check?.allows(row) ?? true, check?.points ?? (() => 0));
    const aside: Candidate[] = [];
    try {
      for (;;) {
        const top = this.#heap.peek();
        if (!top) return undefined;
        // A version that differs means a newer candidate of the row was pushed, or that the row no longer fits or is gone.
        if (top.version === this.#table.version(top.row)) {
          if (check?.allows(top.row) ?? true) return top.row;
          aside.push(top);
        }
        this.#heap.pop();
      }
    } finally {
      for (const candidate of aside) this.#heap.push(candidate);
    }
  }

  #bestOf(fitting: ReadonlyMap<number, number>, mayBe: (row: number) => boolean, points: (row: number) => number): number | undefined {
    let best: { readonly row: number; readonly score: number } | undefined;
    for (const [row, own] of fitting) {
      const total = own + points(row);
      if ((!best || total > best.score || (total === best.score && row < best.row)) && mayBe(row)) best = { row, score: total };
    }
    return best?.row;
  }

  #catchUp(): void {
    const changed = this.#read < 0 ? undefined : this.#table.changesSince(this.#read);
    // Stale candidates pile up in a class that waits long: start over before they outgrow the nodes.
    if (!changed || this.#heap.size + changed.length > 8 * this.#table.size + 1024) {
      this.#heap = new Heap();
      this.#fitting?.clear();
      for (const row of this.#table.rows()) this.#consider(row);
    } else {
      for (const row of new Set(changed)) this.#consider(row);
    }
    this.#read = this.#table.changeCount;
  }

  #consider(row: number): void {
    const version = this.#table.version(row);
    if (version < 0 || !fits(this.podClass, this.#table, row)) {
      this.#fitting?.delete(row);
      return;
    }
    const own = score(this.podClass, this.#table, row);
    if (this.#fitting) this.#fitting.set(row, own);
    else this.#heap.push({ row, version, score: own });
  }
}
