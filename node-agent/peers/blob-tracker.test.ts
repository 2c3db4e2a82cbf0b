import test from "ava";
import { BlobTracker, trackerOf } from "./blob-tracker.ts";

test("only the first fetches; the others form a tree in which nobody waits for a later one", (t) => {
  const tracker = new BlobTracker();
  const nodes = Array.from({ length: 40 }, (_, i) => `n${i}`);
  const sources = nodes.map((node) => tracker.sourceFor("d", node, []));
  t.is(sources.filter((s) => s === undefined).length, 1);
  t.true(sources.slice(1).every((s, i) => nodes.indexOf(s!) <= i));
  const load = Map.groupBy(sources.slice(1), (s) => s!);
  t.true([...load.values()].every((l) => l.length <= 3));
  t.is(tracker.sourceFor("d", "n0", []), undefined, "the same answer again");
  t.is(tracker.sourceFor("d", "n5", []), sources[5]);
  t.is(tracker.sourceFor("other", "n9", []), undefined);
});

test("who tried in vain is told another, and at last to fetch itself", (t) => {
  const tracker = new BlobTracker();
  for (const node of ["a", "b", "c"]) tracker.sourceFor("d", node, []);
  t.is(tracker.sourceFor("d", "b", ["a"]), undefined, "a failed: b is the next to fetch");
  t.is(tracker.sourceFor("d", "c", ["a"]), "b");
  t.is(tracker.sourceFor("d", "c", ["a", "b"]), undefined);
});

test("nodes that were found to have it are asked first; forgotten digests start over", (t) => {
  const tracker = new BlobTracker();
  tracker.found("d", ["x", "y"]);
  t.is(tracker.sourceFor("d", "a", []), "x");
  t.is(tracker.sourceFor("d", "a", ["x", "y"]), undefined);
  for (let i = 0; i < 5000; i++) tracker.sourceFor(`d${i}`, "a", []);
  t.false(tracker.knows("d"));
});

test("trackers spread evenly, and hardly move when a node goes", (t) => {
  const nodes = Array.from({ length: 10 }, (_, i) => `node-${i}`);
  const digests = Array.from({ length: 2000 }, (_, i) => `sha256:${i.toString(16).padStart(64, "0")}`);
  const before = digests.map((d) => trackerOf(d, nodes)!);
  for (const [, list] of Map.groupBy(before, (n) => n)) t.true(list.length > 120 && list.length < 290, String(list.length));
  t.true(digests.every((d, i) => before[i] === "node-3" || trackerOf(d, nodes.filter((n) => n !== "node-3")) === before[i]));
  t.is(trackerOf("d", []), undefined);
});
