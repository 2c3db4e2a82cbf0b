import test from "ava";
import type { KubeObject } from "../../base/kube/resources.ts";
import { definitionOf } from "./resources/registry.ts";
import { parseFieldSelector, selectionOf } from "./selection.ts";

const PODS = definitionOf("", "v1", "pods")!;
const pod = (name: string, nodeName: string, labels: Record<string, string> = {}): KubeObject =>
  ({ apiVersion: "v1", kind: "Pod", metadata: { name, namespace: "default", labels }, spec: { nodeName }, status: { phase: "Running" } } as KubeObject);
const matches = (query: string, object: KubeObject): boolean => selectionOf(PODS, { namespace: "", name: "" }, new URLSearchParams(query)).matches(object);

test("field selectors: equality, inequality, several, escapes", (t) => {
  t.deepEqual(parseFieldSelector("a.b=c,d!=e,f==g"), [
    { field: "a.b", equals: true, value: "c" }, { field: "d", equals: false, value: "e" }, { field: "f", equals: true, value: "g" },
  ]);
  t.deepEqual(parseFieldSelector("a=x\\,y\\=z"), [{ field: "a", equals: true, value: "x,y=z" }]);
  t.deepEqual(parseFieldSelector("a="), [{ field: "a", equals: true, value: "" }]);
  t.deepEqual(parseFieldSelector(""), []);
  t.throws(() => parseFieldSelector("nonsense"), { code: "BadRequest", message: /nonsense/ });
});

test("pods by node, phase and label", (t) => {
  const a = pod("a", "n1", { app: "web" });
  t.true(matches("fieldSelector=spec.nodeName=n1", a));
  t.false(matches("fieldSelector=spec.nodeName!=n1", a));
  t.true(matches("fieldSelector=status.phase!=Pending,metadata.name=a&labelSelector=app in (web,db)", a));
  t.false(matches("labelSelector=app=web,tier", a));
  t.true(selectionOf(PODS, { namespace: "default", name: "a" }, new URLSearchParams()).matches(a));
  t.false(selectionOf(PODS, { namespace: "other", name: "" }, new URLSearchParams()).matches(a));
});

test("a field that can't be selected by is refused with those that can", (t) => {
  t.throws(() => matches("fieldSelector=spec.color=red", pod("a", "")), { code: "BadRequest", message: /field label not supported: spec\.color.*spec\.nodeName/ });
});
