import test from "ava";
import { isCode } from "../../base/errors.ts";
import { PODS } from "../../base/kube/resources.ts";
import { VersionCounter, bodyIn, encodeValue, endOf, parsePath, pathOf, registryPath, revisionOf, slotOf, versionOf } from "./encoding.ts";
import { seededRandom } from "./store-contract.ts";

test("a version holds revision and slot, beyond 32 bits too", (t) => {
  const version = versionOf(2 ** 40 + 5, 77);
  t.is(revisionOf(version), 2 ** 40 + 5);
  t.is(version % 128, 77);
  t.true(Number.isSafeInteger(endOf(2 ** 45)));
});

test("a path is parsed into what it was made of, and a progress mark is no path", (t) => {
  t.is(pathOf({ type: PODS, namespace: "default", name: "a" }), "pods/default/a");
  for (const [resource, namespace, name] of [["pods", "default", "a.b-c"], ["nodes", "", "n1"], ["leases.coordination.k8s.io", "kube-node-lease", "n1"]] as const) {
    t.deepEqual(parsePath(registryPath(resource, namespace, name)), { resource, namespace, name });
  }
  t.is(parsePath(".mark"), undefined);
  t.is(parsePath("a/b"), undefined);
});

test("a value gives back slot and body, and one of a newer format is refused by name", (t) => {
  const value = encodeValue(126, '{"ü":1}');
  t.is(slotOf(value, "x"), 126);
  t.is(bodyIn(value), '{"ü":1}');
  const error = t.throws(() => slotOf(Buffer.from([9, 0, 1]), "pods/default/a"));
  t.true(isCode(error, "InternalError"));
  t.regex(error.message, /pods\/default\/a .*format 9/);
});

test("versions within a revision rise strictly whatever was put, deleted or refused in a batch", (t) => {
  const random = seededRandom(3);
  for (let round = 0; round < 200; round++) {
    const counter = new VersionCounter();
    let last = -1;
    for (let revision = 1; revision <= 3; revision++) {
      for (let slot = 0; slot < 125; slot++) {
        const what = random();
        if (what < 0.3) continue;
        const version = what < 0.6 ? counter.put(revision, slot) : counter.delete(revision);
        t.true(version > last && version <= versionOf(revision, slot), `revision ${revision} slot ${slot}: ${version} after ${last}`);
        last = version;
      }
    }
  }
});
