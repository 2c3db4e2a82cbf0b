import test from "ava";
import { isCode } from "../base/errors.ts";
import { parseTargets, resourceOfManifest, resourcesIn, resourcesOf, typeLabel } from "./discovery.ts";

const resources = resourcesIn([
  { items: [{ metadata: {}, versions: [{ version: "v1", resources: [
    { resource: "pods", responseKind: { kind: "Pod" }, scope: "Namespaced", singularResource: "pod", shortNames: ["po"], categories: ["all"], subresources: [{ subresource: "log" }] },
    { resource: "nodes", responseKind: { kind: "Node" }, scope: "Cluster", singularResource: "node", shortNames: ["no"] },
    { resource: "events", responseKind: { kind: "Event" }, scope: "Namespaced", singularResource: "event", shortNames: ["ev"] },
  ] }] }] },
  { items: [
    { metadata: { name: "apps" }, versions: [
      { version: "v1", resources: [{ resource: "deployments", responseKind: { kind: "Deployment" }, scope: "Namespaced", singularResource: "deployment", shortNames: ["deploy"], categories: ["all"], subresources: [{ subresource: "scale" }] }] },
      { version: "v1beta1", resources: [{ resource: "deployments", scope: "Namespaced" }] },
    ] },
    { metadata: { name: "events.k8s.io" }, versions: [{ version: "v1", resources: [{ resource: "events", responseKind: { kind: "Event" }, scope: "Namespaced", singularResource: "event" }] }] },
    { metadata: { name: "empty" }, versions: [] },
  ] },
]);

const names = (word: string): string[] => resourcesOf(resources, word).map((r) => r.name);

test("discovery gives each resource in its group's first version", (t) => {
  t.deepEqual(resources.map((r) => `${r.apiVersion} ${r.name}`), ["v1 pods", "v1 nodes", "v1 events", "apps/v1 deployments.apps", "events.k8s.io/v1 events.events.k8s.io"]);
  const deployments = resources[3]!;
  t.true(deployments.scalable && deployments.namespaced);
  t.false(resources[1]!.namespaced);
  t.is(typeLabel(deployments), "deployment.apps");
  t.is(typeLabel(resources[0]!), "pod");
});

test("types are known by plural, singular, kind, short name, group and category", (t) => {
  for (const word of ["pods", "pod", "po", "Pod", "PODS"]) t.deepEqual(names(word), ["pods"], word);
  for (const word of ["deploy", "deployments.apps", "Deployment.apps"]) t.deepEqual(names(word), ["deployments.apps"], word);
  t.deepEqual(names("events"), ["events"]);
  t.deepEqual(names("events.events.k8s.io"), ["events.events.k8s.io"]);
  t.deepEqual(names("all"), ["pods", "deployments.apps"]);
  t.throws(() => names("deploymnet"), { message: 'the server has no resource type "deploymnet"; did you mean deployment?' });
  t.throws(() => names("widgets"), { message: 'the server has no resource type "widgets"' });
});

test("targets are types with names, or TYPE/NAME", (t) => {
  const targets = (...words: string[]): string[] => parseTargets(resources, words).map((x) => `${x.type.name} ${x.name ?? "*"}`);
  t.deepEqual(targets("po,deploy"), ["pods *", "deployments.apps *"]);
  t.deepEqual(targets("pod", "a", "b"), ["pods a", "pods b"]);
  t.deepEqual(targets("pod/a", "deploy/b"), ["pods a", "deployments.apps b"]);
  for (const [words, message] of [[[], /name a resource type/], [["pod", "deploy/b"], /names must all be given as TYPE\/NAME, or none/], [["pod/"], /"pod\/": names/], [["/a"], /"\/a": names/]] as const) {
    t.true(isCode(t.throws(() => targets(...words), { message }), "BadRequest"));
  }
});

test("a manifest's kind must be served; what it lacks is named", (t) => {
  const metadata = { name: "x" };
  t.is(resourceOfManifest(resources, { apiVersion: "apps/v1", kind: "Deployment", metadata }).name, "deployments.apps");
  const fault = (manifest: object, message: RegExp): void => void t.true(isCode(t.throws(() => resourceOfManifest(resources, manifest), { message }), "Invalid"));
  fault({ kind: "Pod", metadata }, /^apiVersion is missing$/);
  fault({ apiVersion: "v1", metadata }, /^kind is missing$/);
  fault({ apiVersion: "v1", kind: "Pod" }, /^Pod has no metadata\.name$/);
  fault({ apiVersion: "v1", kind: "Pod", metadata: { generateName: "x-" } }, /a generated name can't be applied twice/);
  fault({ apiVersion: "v1", kind: "Pood", metadata }, /no kind "Pood" in v1; did you mean Pod\?/);
  fault({ apiVersion: "extensions/v1beta1", kind: "Deployment", metadata }, /no kind "Deployment" in extensions\/v1beta1; it has one in apps\/v1/);
  fault({ apiVersion: 1, kind: "Pod", metadata }, /^apiVersion is missing$/);
});
