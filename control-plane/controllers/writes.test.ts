import test from "ava";
import { PODS } from "../../base/kube/resources.ts";
import type { Pod } from "../../base/kube/types.gen.ts";
import type { MemoryStore } from "../state/memory-store.ts";
import { keyOf } from "../state/store.ts";
import { createTestState } from "../state/testing.ts";
import { generatedName, newPod } from "./new-pod.ts";
import { Writes } from "./writes.ts";

const NOW = Date.UTC(2026, 0, 1);
const pod = (more: Partial<Pod["metadata"]> = {}, spec: Partial<NonNullable<Pod["spec"]>> = {}, phase = "Running"): Pod => ({
  apiVersion: "v1", kind: "Pod", metadata: { name: "p", namespace: "default", uid: "uid-p", generation: 1, ...more },
  spec: { containers: [{ name: "main", image: "x" }], terminationGracePeriodSeconds: 5, ...spec }, status: { phase },
});

const put = async (object: Pod): Promise<{ store: MemoryStore; writes: Writes; stored: Pod; now: () => Promise<Pod | undefined> }> => {
  const { store } = await createTestState();
  const stored = await store.create(keyOf(PODS, object), object, { writer: "api" });
  return { store, writes: new Writes(store, "controller", undefined), stored: stored.object, now: async () => (await store.get(keyOf(PODS, object)))?.object };
};

for (const [title, object, expected] of [
  ["runs nowhere: it goes outright", pod(), undefined],
  ["may be running: it is marked with its own grace", pod({}, { nodeName: "n" }), { deletionTimestamp: "2026-01-01T00:00:05Z", deletionGracePeriodSeconds: 5, generation: 2 }],
  ["has ended: it goes outright", pod({}, { nodeName: "n" }, "Failed"), undefined],
  ["has a finalizer: it is marked", pod({ finalizers: ["x/y"] }), { deletionTimestamp: "2026-01-01T00:00:00Z", deletionGracePeriodSeconds: 0 }],
] as const) {
  test(`deleting a pod that ${title}`, async (t) => {
    const { writes, stored, now } = await put(object);
    await writes.delete(PODS, stored, NOW);
    if (expected) t.like((await now())!.metadata, expected);
    else t.is(await now(), undefined);
  });
}

test("a pod that was bound since we looked is marked, not forgotten", async (t) => {
  const { store, writes, stored, now } = await put(pod());
  await store.update(keyOf(PODS, stored), (current) => ({ ...current, spec: { ...current.spec!, nodeName: "n" } }), { writer: "scheduler" });
  await writes.delete(PODS, stored, NOW);
  t.is((await now())!.metadata.deletionGracePeriodSeconds, 5);
});

test("a pod whose hold was taken off since we looked goes outright", async (t) => {
  const { store, writes, stored, now } = await put(pod({ finalizers: ["x/y"] }, { terminationGracePeriodSeconds: 0, nodeName: "n" }));
  await store.update(keyOf(PODS, stored), (current) => ({ ...current, metadata: { ...current.metadata, finalizers: undefined } }), { writer: "controller" });
  await writes.delete(PODS, stored, NOW);
  t.is(await now(), undefined);
});

test("another object under the same name is not touched", async (t) => {
  const { store, writes, stored, now } = await put(pod());
  await store.delete(keyOf(PODS, stored), { writer: "api" });
  await store.create(keyOf(PODS, stored), pod({ uid: "uid-other" }), { writer: "api" });
  await writes.delete(PODS, stored, NOW);
  t.is(await writes.update(PODS, stored, (current) => ({ ...current, metadata: { ...current.metadata, labels: { a: "b" } } })), undefined);
  t.like((await now())!.metadata, { uid: "uid-other", labels: undefined, deletionTimestamp: undefined });
});

test("deleting what is marked changes nothing, not even its deadline", async (t) => {
  const { writes, stored, now } = await put(pod({}, { nodeName: "n" }));
  await writes.delete(PODS, stored, NOW);
  const marked = await now();
  await writes.delete(PODS, stored, NOW + 60_000);
  await writes.delete(PODS, marked!, NOW + 60_000);
  t.is((await now())!.metadata.resourceVersion, marked!.metadata.resourceVersion);
});

test("the last finalizer of a marked object takes it along, unless an agent still has to stop it", async (t) => {
  const free = await put(pod({ finalizers: ["a", "b"], deletionTimestamp: "2026-01-01T00:00:00Z", deletionGracePeriodSeconds: 0 }));
  await free.writes.removeFinalizer(PODS, free.stored, "a");
  t.deepEqual((await free.now())!.metadata.finalizers, ["b"]);
  await free.writes.removeFinalizer(PODS, free.stored, "b");
  t.is(await free.now(), undefined);
  const running = await put(pod({ finalizers: ["a"], deletionTimestamp: "2026-01-01T00:00:05Z", deletionGracePeriodSeconds: 5 }, { nodeName: "n" }));
  await running.writes.removeFinalizer(PODS, running.stored, "a");
  t.is((await running.now())!.metadata.finalizers, undefined);
});

test("the newest version written is remembered, of deletes too", async (t) => {
  const { store, writes, stored } = await put(pod());
  await writes.delete(PODS, stored, NOW);
  t.is(writes.newestVersion, (await store.list(PODS)).resourceVersion - ((await store.list(PODS)).resourceVersion % 128));
});

test("names are cut so that the suffix fits into a host name", (t) => {
  t.is(generatedName("web-", "abcde"), "web-abcde");
  t.is(generatedName(`${"x".repeat(80)}-`, "abcde").length, 63);
});

test("a template's labels, annotations and finalizers become the pod's; its name does not", (t) => {
  const made = newPod({ metadata: { name: "ignored", labels: { a: "b" }, annotations: { c: "d" }, finalizers: ["e"] }, spec: { containers: [] } },
    { type: PODS, object: pod() }, NOW, { uid: () => "u", suffix: () => "bcdfg" });
  t.like(made.metadata, { name: "p-bcdfg", uid: "u", creationTimestamp: "2026-01-01T00:00:00Z", labels: { a: "b" }, annotations: { c: "d" }, finalizers: ["e"] });
});
