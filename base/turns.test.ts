import test from "ava";
import { Turns } from "./turns.ts";

test("one caller's work in each turn of the event loop, in order of arrival", async (t) => {
  const turns = new Turns();
  let turn = 0;
  const count = (): void => void setImmediate(() => {
    turn++;
    if (turn < 1000) count();
  }).unref();
  count();
  const seen: { readonly who: string; readonly turn: number }[] = [];
  const work = async (who: string, portions: number): Promise<void> => {
    for (let i = 0; i < portions; i++) {
      await turns.next();
      seen.push({ who, turn });
    }
  };
  await Promise.all([work("a", 2), work("b", 2)]);
  t.deepEqual(seen.map(({ who }) => who), ["a", "b", "a", "b"]);
  t.is(new Set(seen.map((s) => s.turn)).size, 4);
  await work("c", 1);
  t.is(seen.at(-1)!.who, "c", "and again after it was idle");
});
