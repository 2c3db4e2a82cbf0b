import test from "ava";
import { DEFAULT_DETACH_KEYS, DetachWatch, parseDetachKeys } from "./detach-keys.ts";

test("keys by docker's names", (t) => {
  t.deepEqual([...parseDetachKeys(DEFAULT_DETACH_KEYS)], [16, 17]);
  t.deepEqual([...parseDetachKeys("ctrl-@,a,ctrl-],ctrl-Z")], [0, 97, 29, 26]);
  t.is(parseDetachKeys("").length, 0);
  for (const wrong of ["ctrl-", "ctrl-1", "ab", "ctrl-p,,q", "é"]) t.throws(() => parseDetachKeys(wrong), { code: "BadRequest", message: /is no key/ }, wrong);
});

const typed = (keys: string, ...chunks: readonly string[]): string => {
  const watch = new DetachWatch(parseDetachKeys(keys));
  return chunks.map((chunk) => {
    const { data, detached } = watch.push(Buffer.from(chunk));
    return `${data.toString()}${detached ? "!" : ""}`;
  }).join("|");
};

test("the sequence is found wherever it is cut; what only begins like it is passed on", (t) => {
  t.is(typed("ctrl-p,ctrl-q", "ls\u0010\u0011"), "ls!");
  t.is(typed("ctrl-p,ctrl-q", "ls\u0010", "\u0011"), "ls|!");
  t.is(typed("ctrl-p,ctrl-q", "a\u0010b", "\u0011"), "a\u0010b|\u0011");
  t.is(typed("ctrl-p,ctrl-q", "\u0010\u0010\u0011"), "\u0010!", "the second begins it");
  t.is(typed("q", "abq"), "ab!");
  t.is(typed("", "\u0010\u0011"), "\u0010\u0011");
});
