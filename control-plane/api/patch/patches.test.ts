import test from "ava";
import { createPatch } from "rfc6902";
import { isCode } from "../../../base/errors.ts";
import { PLAIN_WORDS, randomObject, seeded } from "../schema/testing/random-objects.ts";
import { applyJsonMerge } from "./json-merge.ts";
import { applyJsonPatch } from "./json-patch.ts";

// RFC 7386, appendix A
const MERGES: readonly (readonly [unknown, unknown, unknown])[] = [
  [{ a: "b" }, { a: "c" }, { a: "c" }],
  [{ a: "b" }, { b: "c" }, { a: "b", b: "c" }],
  [{ a: "b" }, { a: null }, {}],
  [{ a: "b", b: "c" }, { a: null }, { b: "c" }],
  [{ a: ["b"] }, { a: "c" }, { a: "c" }],
  [{ a: "c" }, { a: ["b"] }, { a: ["b"] }],
  [{ a: { b: "c" } }, { a: { b: "d", c: null } }, { a: { b: "d" } }],
  [{ a: [{ b: "c" }] }, { a: [1] }, { a: [1] }],
  [{ e: null }, { a: 1 }, { e: null, a: 1 }],
  [[1, 2], { a: "b", c: null }, { a: "b" }],
  [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
];
for (const [original, patch, result] of MERGES) {
  test(`${JSON.stringify(original)} merged with ${JSON.stringify(patch)} is ${JSON.stringify(result)}`, (t) => t.deepEqual(applyJsonMerge(original, patch), result));
}

test("a merge patch leaves its arguments alone and can't reach a prototype", (t) => {
  const original = { a: { b: 1 } };
  const result = applyJsonMerge(original, JSON.parse('{"a": {"c": 2}, "__proto__": {"polluted": true}}'));
  t.deepEqual(original, { a: { b: 1 } });
  t.false("polluted" in {});
  t.deepEqual(Object.keys(result as object).sort(), ["__proto__", "a"]);
});

test("merge patches that are no object, or absurdly deep, are refused", (t) => {
  for (const patch of [1, [], null, "x"]) t.true(isCode(t.throws(() => applyJsonMerge({}, patch)), "BadRequest"));
  const deep = JSON.parse(`${'{"a":'.repeat(50_000)}1${"}".repeat(50_000)}`) as unknown;
  t.regex(t.throws(() => applyJsonMerge({}, deep)).message, /nested more than 200 levels/);
  t.regex(t.throws(() => applyJsonPatch({}, [{ op: "add", path: "/a", value: deep }])).message, /nested more than 200 levels/);
});

test("a JSON patch made from two pods turns one into the other", (t) => {
  const random = seeded(21);
  for (let i = 0; i < 100; i++) {
    const [from, to] = [randomObject("core/v1.Pod", random, 3, PLAIN_WORDS), randomObject("core/v1.Pod", random, 3, PLAIN_WORDS)];
    const before = structuredClone(from);
    t.deepEqual(applyJsonPatch(from, createPatch(from, to)), to);
    t.deepEqual(from, before);
  }
});

test("all six operations of a JSON patch work, in order", (t) => {
  t.deepEqual(applyJsonPatch({ a: [1, 2], b: { "x/y": 1 } }, [
    { op: "test", path: "/a/0", value: 1 }, { op: "add", path: "/a/-", value: 3 }, { op: "remove", path: "/a/0" }, { op: "replace", path: "/b/x~1y", value: 9 },
    { op: "copy", from: "/b", path: "/c" }, { op: "move", from: "/a", path: "/d" },
  ]), { b: { "x/y": 9 }, c: { "x/y": 9 }, d: [2, 3] });
});

const FAULTS: readonly (readonly [string, unknown, string, RegExp])[] = [
  ["a failed test", [{ op: "test", path: "/a", value: 2 }], "Invalid", /operation 0 .*testing value failed/],
  ["a path that is not there", [{ op: "remove", path: "/b" }], "Invalid", /operation 0 .*remove "\/b": doesn't fit the object/],
  ["no list", { op: "remove" }, "BadRequest", /must be an array/],
  ["an unknown operation", [{ op: "frob", path: "/a" }], "BadRequest", /op "frob": must be one of add/],
  ["a path without slash", [{ op: "remove", path: "a" }], "BadRequest", /path "a": must be a JSON pointer/],
  ["no value", [{ op: "add", path: "/a" }], "BadRequest", /no value, which add needs/],
  ["no source", [{ op: "move", path: "/a" }], "BadRequest", /move needs a JSON pointer/],
  ["a prototype", [{ op: "add", path: "/__proto__/x", value: 1 }], "BadRequest", /not allowed/],
];
for (const [name, patch, code, message] of FAULTS) {
  test(`a JSON patch with ${name} is refused with words`, (t) => {
    const error = t.throws(() => applyJsonPatch({ a: 1 }, patch));
    t.true(isCode(error, code as "Invalid"));
    t.regex(error.message, message);
  });
}
