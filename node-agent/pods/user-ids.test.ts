import test from "ava";
import { IDS_PER_POD, chooseIds, parseIdRange } from "./user-ids.ts";

test("a range is whole parts, above the machine's own ids", (t) => {
  t.deepEqual(parseIdRange("65536:7208960"), { firstId: 65_536, pods: 110 });
  t.deepEqual(parseIdRange("65536:2147418112"), { firstId: 65_536, pods: 32_767 });
});

for (const [text, fault] of [
  ["", /"" is not FIRST:COUNT, for example 65536:7208960/], ["65536", /is not FIRST:COUNT/], ["0:65536", /"0:65536": the first id must be a multiple of 65536, and not 0/], ["100000:65536", /the first id must be a multiple/],
  ["65536:1000", /the count must be a multiple of 65536/], ["65536:0", /the count must be/], ["65536:2147483648", /the last id would be 2147549183; 2147483647 is the highest/],
] as const) {
  test(`a range that can't be used is refused: ${JSON.stringify(text)}`, (t) => {
    t.throws(() => parseIdRange(text), { code: "BadRequest", message: fault });
  });
}

test("pods get parts that don't overlap until there are none, and those of one pod are found again at the same place", (t) => {
  const range = { firstId: IDS_PER_POD, pods: 8 };
  const taken = new Set<number>();
  for (let i = 0; i < 8; i++) taken.add(chooseIds(range, `pod-${i}`, taken));
  t.deepEqual([...taken].sort((a, b) => a - b), Array.from({ length: 8 }, (_, i) => (i + 1) * IDS_PER_POD));
  t.throws(() => chooseIds(range, "pod-8", taken), { code: "ServiceUnavailable", message: /8 pods of this node have some/ });
  taken.delete(3 * IDS_PER_POD);
  t.is(chooseIds(range, "pod-8", taken), 3 * IDS_PER_POD);
  t.is(chooseIds(range, "x", new Set()), chooseIds(range, "x", new Set()));
});
