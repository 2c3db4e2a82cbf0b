import test from "ava";
import { inTurns, type Waiting } from "./queue-order.ts";

const waiting = (namespace: string, order: number, more: Partial<Waiting> = {}): Waiting => ({ namespace, order, priority: 0, isAhead: false, ...more });
const orders = (...all: Waiting[]): number[] => inTurns(all).map((w) => w.order);

test("in one namespace by arrival", (t) => t.deepEqual(orders(waiting("a", 3), waiting("a", 1), waiting("a", 2)), [1, 2, 3]));
test("namespaces take turns, whoever has more", (t) => t.deepEqual(orders(waiting("a", 1), waiting("a", 2), waiting("a", 3), waiting("b", 4), waiting("c", 5), waiting("b", 6)), [1, 4, 5, 2, 6, 3]));
test("priority comes before turns", (t) => t.deepEqual(orders(waiting("a", 1), waiting("b", 2), waiting("a", 3, { priority: 9 }), waiting("a", 4, { priority: 9 })), [3, 4, 1, 2]));
test("what is to run now comes before what waits for its time", (t) => t.deepEqual(orders(waiting("a", 1, { isAhead: true }), waiting("b", 2), waiting("a", 3)), [2, 3, 1]));

for (const seed of [1, 2, 3]) {
  test(`as sorting everything by priority, start, turn and arrival does, and a limit takes the first of that (seed ${seed})`, (t) => {
    let state = seed;
    const below = (n: number): number => (state = (state * 48_271) % 2_147_483_647) % n;
    for (let round = 0; round < 200; round++) {
      const all = Array.from({ length: below(40) }, (_, order) => waiting(`ns${below(4)}`, order, { priority: below(3) - 1, isAhead: below(4) === 0 }));
      if (round % 2 === 0) all.sort(() => below(3) - 1);
      const turnOf = (one: Waiting): number => all.filter((o) => o.priority === one.priority && o.isAhead === one.isAhead && o.namespace === one.namespace && o.order < one.order).length;
      const sorted = [...all].sort((a, b) => b.priority - a.priority || Number(a.isAhead) - Number(b.isAhead) || turnOf(a) - turnOf(b) || a.order - b.order);
      t.deepEqual(inTurns(all), sorted);
      const limit = below(20);
      t.deepEqual(inTurns(all, limit), sorted.slice(0, limit));
    }
  });
}
