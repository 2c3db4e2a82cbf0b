// In which order pods that wait are placed. Pure.

export interface Waiting {
  readonly namespace: string;
  readonly priority: number;
  /** It has a start time that is to come: it only takes what those leave that are to run now. */
  readonly isAhead: boolean;
  /** Of arrival. */
  readonly order: number;
}

const byArrival = (a: Waiting, b: Waiting): number => a.order - b.order;
const isSorted = (all: readonly Waiting[]): boolean => all.every((one, i) => i === 0 || all[i - 1]!.order <= one.order);

/** One turn of each namespace after the other, those whose next pod came first before the rest; at most `limit`. */
const takeTurns = <T extends Waiting>(namespaces: readonly (readonly T[])[], limit: number): T[] => {
  const taken: T[] = [];
  for (let turn = 0, left = namespaces; left.length > 0 && taken.length < limit; turn++) {
    taken.push(...left.map((pods) => pods[turn]!).sort(byArrival));
    left = left.filter((pods) => pods.length > turn + 1);
  }
  return taken.slice(0, limit);
};

/**
 * By priority, those that are to run now first; within that the namespaces take turns, each with its pods in the order of their arrival: a
 * namespace with thousands of pods holds up nobody else's few. The first `limit` of that order. O(n + limit log limit) when `waiting` comes by
 * arrival, as it mostly does: a long queue is gone through once for each cycle, and sorting it whole each time would cost more than placing.
 */
export const inTurns = <T extends Waiting>(waiting: readonly T[], limit = Infinity): T[] => {
  const levels = new Map<number, { readonly now: Map<string, T[]>; readonly ahead: Map<string, T[]> }>();
  for (const one of isSorted(waiting) ? waiting : [...waiting].sort(byArrival)) {
    let level = levels.get(one.priority);
    if (!level) levels.set(one.priority, (level = { now: new Map(), ahead: new Map() }));
    const namespaces = one.isAhead ? level.ahead : level.now;
    const pods = namespaces.get(one.namespace);
    if (pods) pods.push(one);
    else namespaces.set(one.namespace, [one]);
  }
  const taken: T[] = [];
  for (const [, level] of [...levels].sort(([a], [b]) => b - a)) {
    for (const namespaces of [level.now, level.ahead]) {
      if (taken.length < limit) taken.push(...takeTurns([...namespaces.values()], limit - taken.length));
    }
  }
  return taken;
};
