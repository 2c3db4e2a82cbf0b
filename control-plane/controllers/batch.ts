// Many writes of one pass. They are issued together, so that the store commits them as one transaction; only a caller whose last
// pass failed starts slowly, so that a thousand doomed creates cost a few (upstream's slowStartBatch).

export interface BatchOutcome<R> {
  readonly done: readonly R[];
  /** The first error; the items after its batch were not tried. */
  readonly error: unknown;
  readonly failed: number;
}

export const inBatches = async <T, R>(items: readonly T[], carefully: boolean, write: (item: T) => Promise<R>): Promise<BatchOutcome<R>> => {
  const done: R[] = [];
  for (let from = 0, size = carefully ? 1 : items.length; from < items.length; from += size, size *= 2) {
    const results = await Promise.allSettled(items.slice(from, from + size).map(write));
    const failed = results.filter((r) => r.status === "rejected");
    for (const result of results) if (result.status === "fulfilled") done.push(result.value);
    if (failed[0]) return { done, error: failed[0].reason, failed: failed.length };
    if (from === 0 && !carefully) break;
  }
  return { done, error: undefined, failed: 0 };
};
