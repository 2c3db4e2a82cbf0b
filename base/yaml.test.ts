import test from "ava";
import { parseYaml } from "./yaml.ts";

for (const [text, value] of [
  ["a: 1\nb: [x, 'y']\n", { a: 1, b: ["x", "y"] }],
  [' \n{"a": 1}', { a: 1 }],
  ["{a: 1, b: {c: d}}", { a: 1, b: { c: "d" } }],
  ["", null],
] as const) test(`read: ${JSON.stringify(text)}`, (t) => t.deepEqual(parseYaml(text), value));

test("what is neither says where", (t) => {
  t.throws(() => parseYaml("{a: 1"), { message: /line 1, column 6/ });
});
