import test from "ava";
import { settle } from "../../base/clock.ts";
import { isCode } from "../../base/errors.ts";
import { pendingOf } from "../../base/kube/quota.ts";
import { PODS, RESOURCE_QUOTAS } from "../../base/kube/resources.ts";
import type { Pod, ResourceQuota } from "../../base/kube/types.gen.ts";
import { silentLogger } from "../../base/logger.ts";
import { createCharged } from "./admission.ts";
import { keyOf } from "./store.ts";
import { createTestState } from "./testing.ts";
import { quotasOf } from "./quotas.ts";
import { createWatchCache } from "./watch-cache.ts";

const quota = (hard: Record<string, string>): ResourceQuota => ({ apiVersion: "v1", kind: "ResourceQuota", metadata: { name: "q", namespace: "ns", uid: "q" }, spec: { hard } });
const pod = (name: string): Pod => ({ apiVersion: "v1", kind: "Pod", metadata: { name, namespace: "ns", uid: name }, spec: { containers: [{ name: "c", image: "x" }] }, status: { phase: "Pending" } });

const setUp = async (hard: Record<string, string>) => {
  const state = await createTestState();
  await state.store.create(keyOf(RESOURCE_QUOTAS, quota(hard)), quota(hard), { writer: "api" });
  await settle();
  const create = (name: string, context = state) => createCharged(context, PODS, pod(name), () => state.store.create(keyOf(PODS, pod(name)), pod(name), { writer: "api" }));
  return { ...state, create, stored: async () => (await state.store.get(keyOf(RESOURCE_QUOTAS, quota({}))))!.object };
};

test("of many at once just so many come through as there is room for, in few writes", async (t) => {
  const { store, cache, create, stored } = await setUp({ pods: "10" });
  let writes = 0;
  using _ = cache.resource(RESOURCE_QUOTAS).subscribe(() => void writes++);
  const outcomes = await Promise.allSettled(Array.from({ length: 100 }, (_, i) => create(`p${i}`)));
  t.deepEqual(outcomes.map((o) => o.status), Array.from({ length: 100 }, (_, i) => (i < 10 ? "fulfilled" : "rejected")));
  const refused = outcomes.find((o) => o.status === "rejected")!.reason as Error;
  t.true(isCode(refused, "Forbidden"));
  t.is(refused.message, 'pods "p10" is forbidden: exceeded quota: q, requested: pods=1, used: pods=10, limited: pods=10');
  t.is((await store.list(PODS)).items.length, 10);
  t.like(await stored(), { status: { used: { pods: "10" } } });
  await settle();
  t.is(writes, 2);
});

test("two processes never give away the same room", async (t) => {
  const state = await setUp({ pods: "10" });
  const other = createWatchCache({ store: state.store, clock: state.clock, logger: silentLogger });
  await other.start();
  const contexts = [state, { ...state, cache: other }];
  await Promise.allSettled(Array.from({ length: 40 }, (_, i) => state.create(`p${i}`, contexts[i % 2])));
  t.is((await state.store.list(PODS)).items.length, 10);
  other.close();
});

test("what was not made after all is given back; what may have been made is not", async (t) => {
  const { create, stored, store, cache, clock } = await setUp({ pods: "2" });
  await create("a");
  await t.throwsAsync(create("a"), { message: /already exists/ });
  t.deepEqual((await stored()).status?.used, { pods: "1" });
  const unknown = { ...pod("b") };
  await t.throwsAsync(createCharged({ store, cache, clock }, PODS, unknown, () => Promise.reject(new Error("the answer was lost"))));
  t.deepEqual((await stored()).status?.used, { pods: "2" });
  t.deepEqual(Object.keys(pendingOf(await stored())).includes("pods/b"), true);
});

test("a rehearsal charges nothing and refuses as well", async (t) => {
  const { store, cache, clock, create, stored } = await setUp({ pods: "1" });
  const quotas = quotasOf({ store, cache, clock });
  await quotas.charge(PODS, pod("a"), { dryRun: true });
  t.is((await stored()).status, undefined);
  await create("a");
  await settle();
  await t.throwsAsync(quotas.charge(PODS, pod("b"), { dryRun: true }), { message: /exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1/ });
});

test("room that a deleted object left is there at once", async (t) => {
  const { store, create } = await setUp({ pods: "1" });
  for (const name of ["a", "b", "c"]) {
    await create(name);
    await store.delete(keyOf(PODS, pod(name)), { writer: "api" });
    await settle();
  }
  t.pass();
});

test("a second quota that refuses takes nothing from the first", async (t) => {
  const { store, create, stored } = await setUp({ pods: "5" });
  const second = { ...quota({ "requests.cpu": "1" }), metadata: { name: "r", namespace: "ns", uid: "r" } };
  await store.create(keyOf(RESOURCE_QUOTAS, second), second, { writer: "api" });
  await settle();
  await t.throwsAsync(create("a"), { message: 'pods "a" is forbidden: failed quota: r: must specify requests.cpu for: c' });
  t.deepEqual((await stored()).status?.used, { pods: "0" });
});

test("a quota that is gone limits nothing", async (t) => {
  const { store, create, stored } = await setUp({ pods: "0" });
  await t.throwsAsync(create("a"));
  await store.delete(keyOf(RESOURCE_QUOTAS, await stored()), { writer: "api" });
  await t.notThrowsAsync(create("b"));
});

test("of two changes of one object the second waits for the first to be seen, or not to be made", async (t) => {
  const { store, cache, clock } = await setUp({ "requests.cpu": "8" });
  const quotas = quotasOf({ store, cache, clock });
  const sized = (cpu: string): Pod => ({ ...pod("a"), spec: { containers: [{ name: "c", image: "x", resources: { requests: { cpu } } }] } });
  await store.create(keyOf(PODS, sized("1")), sized("1"), { writer: "api" });
  await settle();
  const change = (cpu: string, before: string) => quotas.charge(PODS, sized(cpu), { before: sized(before) });
  const isAnswered = async (charge: Promise<unknown>): Promise<boolean> => {
    await clock.advance(100);
    return Promise.race([charge.then(() => true), settle().then(() => false)]);
  };
  const refund = await change("2", "1");
  const second = change("3", "1");
  t.false(await isAnswered(second));
  await refund();
  t.true(await isAnswered(second));
  const third = change("4", "1");
  t.false(await isAnswered(third));
  await store.update(keyOf(PODS, sized("1")), (current) => ({ ...current, spec: sized("3").spec! }), { writer: "api" });
  t.true(await isAnswered(third));
});
