import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { isCode } from "../base/errors.ts";
import { parseManifests, readManifests, toYaml } from "./manifests.ts";

const only = (text: string): unknown => parseManifests(text, "f")[0]!.object;

test("YAML means what it means to kubectl", (t) => {
  t.deepEqual(only("{mode: 0644, on: yes, time: 22:22, date: 2026-01-01, stamp: 2026-01-01T00:00:00Z, quoted: '0644', exponent: 1e3}") as object,
    { mode: 420, true: true, time: "22:22", date: "2026-01-01", stamp: "2026-01-01T00:00:00Z", quoted: "0644", exponent: 1000 });
  t.deepEqual(only("base: &b {x: 1}\ncopy: {<<: *b, z: 2}"), { base: { x: 1 }, copy: { x: 1, z: 2 } } as never);
});

test("texts that other readers would take for something else are quoted", (t) => {
  const value = { a: "yes", b: "22:22", c: "2026-01-01T00:00:00Z", d: "0644", e: ["on", "null"], f: "two\nlines\n", g: "", h: 1, i: true, j: "1e3" };
  const text = toYaml(value);
  t.deepEqual(only(text) as object, value);
  t.regex(text, /c: "2026-01-01T00:00:00Z"/);
  t.regex(text, /a: "yes"/);
  t.is(toYaml({ long: "word ".repeat(60).trim() }).split("\n").length, 1);
});

test("documents, lists, empty documents and JSON are all objects", (t) => {
  const kinds = (text: string): unknown[] => parseManifests(text, "f").map((m) => [m.object.kind, m.where]);
  t.deepEqual(kinds("---\nkind: A\n---\n# nothing\n---\nkind: B\n"), [["A", "f"], ["B", "f (document 3)"]]);
  t.deepEqual(kinds("kind: List\nitems: [{kind: A}, {kind: B}]"), [["A", "f"], ["B", "f"]]);
  t.deepEqual(kinds('{"kind": "A"}'), [["A", "f"]]);
  t.deepEqual(kinds(""), []);
});

test("what is wrong is told with its place", (t) => {
  const message = (text: string): string => {
    const error = t.throws(() => parseManifests(text, "f.yaml"));
    t.true(isCode(error, "Invalid"));
    return error.message;
  };
  t.regex(message("kind: A\n---\n{a: b"), /^f\.yaml \(document 2\): .* line 3, column/s);
  t.regex(message("kind: A\nkind: B"), /Map keys must be unique/);
  t.regex(message("[1, 2]"), /^f\.yaml: expected an object with apiVersion, kind and metadata, not \[1,2\]$/);
  t.regex(message("just text"), /not "just text"/);
});

test("a folder is its manifests in order; an empty one, or none, is an error that names it", (t) => {
  const dir = mkdtempSync(join(tmpdir(), "gantry-manifests-"));
  t.teardown(() => rmSync(dir, { recursive: true }));
  writeFileSync(join(dir, "b.yaml"), "kind: B");
  writeFileSync(join(dir, "a.json"), '{"kind": "A"}');
  writeFileSync(join(dir, "README.md"), "# no manifest");
  t.deepEqual(readManifests([dir, join(dir, "b.yaml")]).map((m) => m.object.kind), ["A", "B", "B"]);
  mkdirSync(join(dir, "empty"));
  t.throws(() => readManifests([join(dir, "empty")]), { message: /empty has no \.yaml, \.yml or \.json file/ });
  t.throws(() => readManifests([join(dir, "none")]), { message: /^no such file: .*none$/ });
  writeFileSync(join(dir, "empty", "x.yml"), "# nothing");
  t.throws(() => readManifests([join(dir, "empty")]), { message: /^no object in/ });
});
