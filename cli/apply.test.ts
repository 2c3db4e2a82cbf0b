import test from "ava";
import { applyJsonMerge } from "../control-plane/api/patch/json-merge.ts";
import { threeWayPatch } from "./apply.ts";

const merged = (previous: unknown, current: unknown, next: unknown): unknown => {
  const patch = threeWayPatch(previous, current, next);
  return patch === undefined ? current : applyJsonMerge(structuredClone(current), patch);
};

const cases: readonly (readonly [string, unknown, unknown, unknown, unknown])[] = [
  ["nothing to do when all is as the manifest says", { a: 1 }, { a: 1, b: 2 }, { a: 1 }, undefined],
  ["a changed value is set", { a: 1 }, { a: 1, b: 2 }, { a: 3 }, { a: 3 }],
  ["what the manifest no longer says is taken away", { a: 1, b: { c: 1, d: 2 } }, { a: 1, b: { c: 1, d: 2, e: 3 } }, { b: { c: 1 } }, { a: null, b: { d: null } }],
  ["what others added stays", {}, { spec: { replicas: 5, nodeName: "n" } }, { spec: { replicas: 5 } }, undefined],
  ["what is gone already is not taken away again", { a: 1 }, {}, {}, undefined],
  ["what others changed is set back", { replicas: 3 }, { replicas: 5 }, { replicas: 3 }, { replicas: 3 }],
  ["a list is set whole", {}, { l: [1, 2] }, { l: [1] }, { l: [1] }],
  ["defaults that the server added to list items are no difference", { l: [{ name: "a" }] }, { l: [{ name: "a", protocol: "TCP" }] }, { l: [{ name: "a" }] }, undefined],
  ["a field taken out of a list item is a difference", { l: [{ name: "a", command: ["x"] }] }, { l: [{ name: "a", command: ["x"], policy: "Always" }] }, { l: [{ name: "a" }] }, { l: [{ name: "a" }] }],
  ["without an earlier apply, list items may hold more", undefined, { l: [{ name: "a", policy: "Always" }] }, { l: [{ name: "a" }] }, undefined],
  ["an empty map is set where there is none", {}, { v: [] }, { emptyDir: {} }, { emptyDir: {} }],
  ["an empty map takes a scalar's place", {}, { v: 1 }, { v: {} }, { v: {} }],
  ["a map takes a scalar's place", { v: 1 }, { v: 1 }, { v: { a: 1 } }, { v: { a: 1 } }],
  ["null means that it should not be there", {}, { a: 1 }, { a: null, b: null }, { a: null }],
];

for (const [name, previous, current, next, patch] of cases) test(name, (t) => t.deepEqual(threeWayPatch(previous, current, next), patch));

/** mulberry32: the same numbers each time. */
const randomFrom = (seed: number) => (): number => {
  seed = (seed + 0x6d2b79f5) | 0;
  let x = Math.imul(seed ^ (seed >>> 15), seed | 1);
  x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
  return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
};

const randomMap = (random: () => number, depth = 3): Record<string, unknown> => {
  const value = (d: number): unknown => {
    const r = random();
    if (d > 0 && r < 0.35) return randomMap(random, d - 1);
    if (r < 0.5) return Array.from({ length: Math.floor(random() * 3) }, () => (random() < 0.5 ? randomMap(random, 0) : Math.floor(random() * 3)));
    return Math.floor(random() * 3);
  };
  return Object.fromEntries(["a", "b", "c", "d"].filter(() => random() < 0.6).map((k) => [k, value(depth)]));
};

const isMap = (v: unknown): v is Record<string, unknown> => typeof v === "object" && v !== null && !Array.isArray(v);

/** `object` says all that `wanted` says, item by item in lists. */
const says = (object: unknown, wanted: unknown): boolean => {
  if (Array.isArray(wanted)) return Array.isArray(object) && object.length === wanted.length && wanted.every((w, i) => says(object[i], w));
  return isMap(wanted) ? isMap(object) && Object.entries(wanted).every(([k, v]) => says(object[k], v)) : object === wanted;
};

/** Paths of scalars and lists that `before` says and `next` doesn't. */
const dropped = (before: unknown, next: unknown, path: readonly string[] = []): (readonly string[])[] =>
  isMap(before) && isMap(next) ? Object.entries(before).flatMap(([k, v]) => (k in next ? dropped(v, next[k], [...path, k]) : [[...path, k]])) : [];

test("after a patch the object says what the manifest says, lacks what it dropped, and keeps what others added", (t) => {
  const random = randomFrom(20_261_121);
  for (let i = 0; i < 3000; i++) {
    const [previous, others, next] = [randomMap(random), randomMap(random), randomMap(random)];
    const current = applyJsonMerge(structuredClone(others), previous);
    const result = merged(previous, current, next);
    const context = JSON.stringify({ previous, current, next, result });
    t.true(says(result, next), context);
    for (const path of dropped(previous, next)) t.is(path.reduce<unknown>((o, k) => (isMap(o) ? o[k] : undefined), result), undefined, context);
    for (const key of Object.keys(others)) if (!(key in previous) && !(key in next)) t.deepEqual((result as Record<string, unknown>)[key], others[key], context);
    t.is(threeWayPatch(next, result, next), undefined, `a second apply has nothing to do: ${context}`);
  }
});
