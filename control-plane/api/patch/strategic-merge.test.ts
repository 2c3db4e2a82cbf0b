import test from "ava";
import { isCode } from "../../../base/errors.ts";
import { PLAIN_WORDS, randomObject, seeded } from "../schema/testing/random-objects.ts";
import { messageSchema, type FieldSchema } from "../schema/schema.ts";
import { applyStrategicMerge } from "./strategic-merge.ts";

const patchPod = (original: unknown, patch: unknown): unknown => applyStrategicMerge("core/v1.Pod", original, patch);
const containers = (...list: object[]): object => ({ spec: { containers: list } });

test("list elements are merged by their key, new ones come last", (t) => {
  t.deepEqual(patchPod(containers({ name: "a", image: "1" }, { name: "b", image: "1" }), containers({ name: "b", image: "2" }, { name: "c", image: "3" })),
    containers({ name: "a", image: "1" }, { name: "b", image: "2" }, { name: "c", image: "3" }));
});

test("$patch: delete removes the element with the key", (t) => {
  t.deepEqual(patchPod(containers({ name: "a" }, { name: "b" }), containers({ name: "a", $patch: "delete" })), containers({ name: "b" }));
});

test("$patch: replace in a list replaces the list", (t) => {
  t.deepEqual(patchPod(containers({ name: "a" }, { name: "b" }), containers({ $patch: "replace" }, { name: "z" })), containers({ name: "z" }));
});

test("$patch: replace in an object replaces the object, $patch: delete removes it", (t) => {
  const original = { spec: { securityContext: { runAsUser: 1, fsGroup: 2 }, dnsConfig: { nameservers: ["1.1.1.1"] } } };
  t.deepEqual(patchPod(original, { spec: { securityContext: { $patch: "replace", fsGroup: 3 }, dnsConfig: { $patch: "delete" } } }), { spec: { securityContext: { fsGroup: 3 } } });
});

test("null removes a field, and a list without a merge key is replaced", (t) => {
  t.deepEqual(patchPod({ spec: { nodeName: "n", tolerations: [{ key: "a" }] } }, { spec: { nodeName: null, tolerations: [{ key: "b" }] } }), { spec: { tolerations: [{ key: "b" }] } });
});

test("lists of plain values are joined, $deleteFromPrimitiveList takes out", (t) => {
  t.deepEqual(patchPod({ metadata: { finalizers: ["a/a", "b/b"] } }, { metadata: { "$deleteFromPrimitiveList/finalizers": ["a/a"], finalizers: ["b/b", "c/c"] } }), { metadata: { finalizers: ["b/b", "c/c"] } });
  t.deepEqual(patchPod({ metadata: {} }, { metadata: { "$deleteFromPrimitiveList/finalizers": ["a/a"] } }), { metadata: {} });
});

test("$retainKeys clears what it doesn't name: kubectl apply changes a strategy's type so", (t) => {
  const original = { spec: { strategy: { type: "RollingUpdate", rollingUpdate: { maxSurge: 1 } } } };
  t.deepEqual(applyStrategicMerge("apps/v1.Deployment", original, { spec: { strategy: { $retainKeys: ["type"], type: "Recreate" } } }), { spec: { strategy: { type: "Recreate" } } });
  const volumes = { spec: { volumes: [{ name: "v", emptyDir: {} }] } };
  t.deepEqual(patchPod(volumes, { spec: { volumes: [{ name: "v", $retainKeys: ["name", "hostPath"], hostPath: { path: "/x" } }] } }), { spec: { volumes: [{ name: "v", hostPath: { path: "/x" } }] } });
});

test("$setElementOrder orders what the patch's author knows; the server's own elements keep their place", (t) => {
  const original = containers({ name: "a" }, { name: "injected" }, { name: "b" });
  t.deepEqual(patchPod(original, { spec: { "$setElementOrder/containers": [{ name: "b" }, { name: "a" }] } }), containers({ name: "injected" }, { name: "b" }, { name: "a" }));
  t.deepEqual(patchPod(original, { spec: { "$setElementOrder/containers": [{ name: "a" }, { name: "n" }, { name: "b" }], containers: [{ name: "n" }] } }), containers({ name: "a" }, { name: "n" }, { name: "injected" }, { name: "b" }));
});

test("a port by TCP and UDP stays two ports", (t) => {
  const ports = (...list: object[]): object => containers({ name: "a", ports: list });
  const [tcp, udp] = [{ containerPort: 53, protocol: "TCP" }, { containerPort: 53, protocol: "UDP" }];
  const order = { "$setElementOrder/ports": [{ containerPort: 53 }, { containerPort: 53 }] };
  t.deepEqual(patchPod(ports(tcp, udp), containers({ name: "a", ports: [{ ...udp, name: "dns" }], ...order })), ports(tcp, { ...udp, name: "dns" }));
});

test("maps are merged key by key, and keys may look like directives' neighbours", (t) => {
  t.deepEqual(patchPod({ metadata: { labels: { a: "1", b: "2" } } }, { metadata: { labels: { b: null, c: "3" } } }), { metadata: { labels: { a: "1", c: "3" } } });
});

const FAULTS: readonly (readonly [string, unknown, RegExp])[] = [
  ["an element without its merge key", containers({ image: "x" }), /spec\.containers\[0\]: map: .*does not contain declared merge key: name/],
  ["an unknown directive", { spec: { $frob: 1 } }, /spec\.\$frob: there is no such directive/],
  ["an unknown kind of $patch", { spec: { $patch: "frob" } }, /must be replace, merge or delete/],
  ["an order that leaves out an element", { spec: { "$setElementOrder/containers": [{ name: "a" }], containers: [{ name: "b" }] } }, /doesn't name the patch's element "b"/],
  ["retained keys that leave out a field", { spec: { $retainKeys: ["containers"], nodeName: "n" } }, /\$retainKeys doesn't name nodeName/],
  ["no object", [], /must be an object/],
];
for (const [name, patch, message] of FAULTS) {
  test(`a strategic merge patch with ${name} is refused with words`, (t) => {
    const error = t.throws(() => patchPod(containers({ name: "a" }), patch));
    t.true(isCode(error, "BadRequest"));
    t.regex(error.message, message);
  });
}

type Json = Record<string, unknown>;
const isObject = (v: unknown): v is Json => typeof v === "object" && v !== null && !Array.isArray(v);
const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);

/** The patch that kubectl would send: written for this test, from the documentation. */
const difference = (key: string | undefined, from: Json, to: Json): Json => {
  const patch: Json = {};
  for (const name of new Set([...Object.keys(from), ...Object.keys(to)])) {
    const [old, next] = [from[name], to[name]];
    const field: FieldSchema | undefined = key === undefined ? undefined : messageSchema(key)[name];
    const inner = field?.r ? field.t : undefined;
    if (same(old, next)) continue;
    if (next === undefined) patch[name] = null;
    else if (isObject(old) && isObject(next)) patch[name] = difference(inner, old, next);
    else if (Array.isArray(old) && Array.isArray(next) && field?.ps?.includes("merge")) {
      if (field.pk) {
        const mergeKey = field.pk;
        const oldBy = new Map((old as Json[]).map((o) => [JSON.stringify(o[mergeKey]), o]));
        const nextKeys = (next as Json[]).map((o) => JSON.stringify(o[mergeKey]));
        patch[name] = [
          ...(next as Json[]).map((o) => ({ ...difference(inner, oldBy.get(JSON.stringify(o[mergeKey])) ?? {}, o), [mergeKey]: o[mergeKey] })),
          ...[...oldBy].filter(([k]) => !nextKeys.includes(k)).map(([, o]) => ({ $patch: "delete", [mergeKey]: o[mergeKey] })),
        ];
        patch[`$setElementOrder/${name}`] = (next as Json[]).map((o) => ({ [mergeKey]: o[mergeKey] }));
      } else {
        patch[`$deleteFromPrimitiveList/${name}`] = old.filter((v) => !next.includes(v));
        patch[name] = next.filter((v) => !old.includes(v));
        patch[`$setElementOrder/${name}`] = next;
      }
    } else patch[name] = next;
  }
  return patch;
};

/** Every keyed list gets elements with keys, each once; so are plain lists that merge. */
const tidy = (key: string, object: Json): Json => Object.fromEntries(Object.entries(object).map(([name, value]) => {
  const field = messageSchema(key)[name]!;
  if (field.list && field.pk) {
    const items = (value as Json[]).map((item, i) => ({ ...tidy(field.t, item), [field.pk!]: field.pk === "containerPort" ? i % 2 : `k${(JSON.stringify(item).length + i) % 3}` }));
    return [name, [...new Map(items.map((item) => [item[field.pk!], item])).values()]];
  }
  if (field.list && field.ps?.includes("merge")) return [name, [...new Set(value as unknown[])]];
  if (field.r && !field.map) return [name, field.list ? (value as Json[]).map((v) => tidy(field.t, v)) : tidy(field.t, value as Json)];
  return [name, value];
}));

test("a patch made from two random objects turns one into the other, twice as well as once", (t) => {
  const random = seeded(31);
  for (let i = 0; i < 400; i++) {
    const key = ["core/v1.Pod", "apps/v1.Deployment", "core/v1.Node", "batch/v1.Job"][i % 4]!;
    const [from, to] = [tidy(key, randomObject(key, random, 5, PLAIN_WORDS)), tidy(key, randomObject(key, random, 5, PLAIN_WORDS))];
    const patch = difference(key, from, to);
    const before = JSON.stringify(from);
    const once = applyStrategicMerge(key, from, patch);
    t.deepEqual(once, to, `round ${i}`);
    t.deepEqual(applyStrategicMerge(key, once, patch), to);
    t.is(JSON.stringify(from), before);
  }
});
