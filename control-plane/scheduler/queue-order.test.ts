import test from "ava";
import { inTurns, type Waiting } from "./queue-order.ts";

const waiting = (namespace: string, order: number, more: Partial<Waiting> = {}): Waiting => ({ namespace, order, priority: 0, isAhead: false, ...more });
const orders = (...all: Waiting[]): number[] => inTurns(all).map((w) => w.order);

test("in one namespace by arrival", (t) => t.deepEqual(orders(waiting("a", 3), waiting("a", 1), waiting("a", 2)), [1, 2, 3]));
test("namespaces take turns, whoever has more", (t) => t.deepEqual(orders(waiting("a", 1), waiting("a", 2), waiting("a", 3), waiting("b", 4), waiting("c", 5), waiting("b", 6)), [1, 4, 5, 2, 6, 3]));
test("priority comes before turns", (t) => t.deepEqual(orders(waiting("a", 1), waiting("b", 2), waiting("a", 3, { priority: 9 }), waiting("a", 4, { priority: 9 })), [3, 4, 1, 2]));
test("what is to run now comes before what waits for its time", (t) => t.deepEqual(orders(waiting("a", 1, { isAhead: true }), waiting("b", 2), waiting("a", 3)), [2, 3, 1]));
