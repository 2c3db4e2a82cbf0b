import test from "ava";
import { decodeObject } from "../schema/decode.ts";
import { randomObject, seeded } from "../schema/testing/random-objects.ts";
import { columnDefinitions, toTable } from "../table.ts";
import { storedFrom } from "./definition.ts";
import { DEFINITIONS, definitionOf, definitionOfKind } from "./registry.ts";
import { ALL_RESOURCES } from "../../../base/kube/resources.ts";

const context = { nowMs: Date.UTC(2026, 5, 1), userName: "tester" };

const freeze = <T>(value: T): T => {
  if (typeof value === "object" && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    Object.values(value).forEach(freeze);
  }
  return value;
};

test("every version of a resource has one definition, found by plural and by kind", (t) => {
  t.deepEqual([...new Set(DEFINITIONS.map((d) => d.type.name))].sort(), ALL_RESOURCES.map((r) => r.name).sort());
  for (const d of DEFINITIONS) {
    t.is(definitionOf(d.type.group, d.type.version, d.type.plural), d);
    t.is(definitionOfKind(d.type.apiVersion, d.type.kind), d);
  }
  t.is(definitionOf("apps", "v1", "frobs"), undefined);
});

test("short names are nobody else's", (t) => {
  const names = DEFINITIONS.filter((d) => !d.conversion).flatMap((d) => [d.type.plural, d.singular, ...d.shortNames]);
  t.is(new Set(names).size, names.length);
});

for (const definition of DEFINITIONS) {
  const { apiVersion, kind } = definition.type;
  const name = `${apiVersion} ${kind}`;
  const objects = (seed: number, rounds: number): ReturnType<typeof decodeObject>["object"][] => {
    const random = seeded(seed);
    return Array.from({ length: rounds }, () => freeze(storedFrom(definition, decodeObject(definition.schema, randomObject(definition.schema, random, 7)).object)));
  };

  test(`${name}: whatever a client sends, strategies, defaults, validation and columns cope and change nothing in place`, (t) => {
    for (const object of objects(41, 150)) {
      const created = freeze(definition.defaults(definition.strategy.prepareForCreate?.(object, context) ?? object));
      const causes = definition.validate(created, undefined, context);
      for (const cause of causes) t.regex(cause.message, /^(Required value|Invalid value|Unsupported value|Duplicate value|Forbidden|Not found|Too long|Too many)/);
      definition.strategy.gracePeriodSeconds?.(created);
      for (const selector of Object.values(definition.fieldSelectors)) t.is(typeof selector(created), "string");
      const table = toTable(definition, [object, created], context.nowMs, "None");
      for (const row of table.rows) t.is(row.cells.length, definition.columns.length);
      t.false(JSON.stringify(table).includes("undefined"));
    }
  });

  test(`${name}: updates of anything to anything are judged without a crash`, (t) => {
    const list = objects(43, 60).map((o) => definition.defaults(o));
    for (const [i, next] of list.entries()) {
      const current = list[(i + 1) % list.length]!;
      t.notThrows(() => definition.validate(definition.strategy.prepareForUpdate?.(next, current, context) ?? next, current, context));
    }
  });

  test(`${name}: defaults fill in once; a second time changes nothing`, (t) => {
    for (const object of objects(47, 60)) {
      const once = definition.defaults(object);
      t.is(definition.defaults(once), once);
    }
  });

  test(`${name}: the columns have a name, a type and a description, wide ones priority 1`, (t) => {
    for (const c of columnDefinitions(definition)) {
      t.truthy(c.name);
      t.truthy(c.description);
      t.true(["string", "integer", "number", "boolean", "date"].includes(c.type));
    }
    t.true(definition.columns.some((c) => c.format === "name"));
  });
}
