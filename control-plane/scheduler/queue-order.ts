// In which order pods that wait are placed. Pure.

export interface Waiting {
  readonly namespace: string;
  readonly priority: number;
  /** It has a start time that is to come: it only takes what those leave that are to run now. */
  readonly isAhead: boolean;
  /** Of arrival. */
  readonly order: number;
}

/**
 * By priority, those that are to run now first; within that the namespaces take turns, each with its pods in the order of their arrival: a
 * namespace with thousands of pods holds up nobody else's few. O(n log n).
 */
export const inTurns = <T extends Waiting>(waiting: Iterable<T>): T[] => {
  const byArrival = [...waiting].sort((a, b) => a.order - b.order);
  const turns = new Map<T, number>();
  const taken = new Map<string, number>();
  for (const one of byArrival) {
    const group = `${one.priority} ${one.isAhead} ${one.namespace}`;
    const turn = taken.get(group) ?? 0;
    taken.set(group, turn + 1);
    turns.set(one, turn);
  }
  return byArrival.sort((a, b) => b.priority - a.priority || Number(a.isAhead) - Number(b.isAhead) || turns.get(a)! - turns.get(b)! || a.order - b.order);
};
