// The store over etcd while its connection is being broken: nothing lost, nothing doubled, order kept, every watcher converges.
import test from "ava";
import type { ExecutionContext } from "ava";
import { SystemClock } from "../../base/clock.ts";
import { isCode } from "../../base/errors.ts";
import { newId } from "../../base/ids.ts";
import { CONFIG_MAPS } from "../../base/kube/resources.ts";
import type { ConfigMap } from "../../base/kube/types.gen.ts";
import { silentLogger } from "../../base/logger.ts";
import { Metrics } from "../../base/metrics.ts";
import { EtcdStore } from "../../control-plane/state/etcd-store.ts";
import type { EtcdStoreOptions } from "../../control-plane/state/etcd-store.ts";
import { configMap, keyOfMap, record, replay, seededRandom, stateOf } from "../../control-plane/state/store-contract.ts";
import type { ObjectKey, Stored } from "../../control-plane/state/store.ts";
import { createWatchCache } from "../../control-plane/state/watch-cache.ts";
import { BreakableProxy } from "../helpers/breakable-proxy.ts";
import { startEtcd } from "../helpers/etcd.ts";
import type { TestEtcd } from "../helpers/etcd.ts";

const clock = new SystemClock();
const api = { writer: "api" } as const;
let etcd: TestEtcd;
test.before(async () => {
  etcd = await startEtcd();
});
test.after.always(() => etcd?.stop());

interface Subject {
  readonly proxy: BreakableProxy;
  /** Through the proxy. */
  readonly store: EtcdStore;
  /** Straight to etcd: sees what is true. */
  readonly witness: EtcdStore;
  readonly metrics: Metrics;
}

const open = async (t: ExecutionContext, options: Partial<EtcdStoreOptions> = {}): Promise<Subject> => {
  const proxy = await BreakableProxy.start({ path: etcd.socketPath });
  t.teardown(() => proxy.close());
  const metrics = new Metrics();
  const base = { clock, logger: silentLogger, prefix: `/test-${newId()}` };
  const store = await EtcdStore.connect({ ...base, endpoints: [proxy.endpoint], metrics, callTimeoutMs: 400, requestTimeoutMs: 30_000, watchSilenceMs: 200, ...options });
  t.teardown(() => store.close());
  const witness = await EtcdStore.connect({ ...base, endpoints: etcd.endpoints });
  t.teardown(() => witness.close());
  return { proxy, store, witness, metrics };
};

const until = async <T>(read: () => Promise<T | undefined>): Promise<T> => {
  for (;;) {
    const value = await read();
    if (value !== undefined) return value;
    await clock.sleep(5);
  }
};

test.serial("a write whose answer was lost is reported as what it was, even when the object was changed and deleted meanwhile", async (t) => {
  const { proxy, store, witness } = await open(t);
  const start = (await witness.snapshot()).resourceVersion;
  using truth = record(witness, start);
  await store.create(keyOfMap("updated"), configMap("updated"), api);
  await store.create(keyOfMap("deleted"), configMap("deleted"), api);
  await store.create(keyOfMap("taken"), configMap("taken"), api);

  proxy.swallowAnswers();
  const created = store.create(keyOfMap("created"), configMap("created"), api);
  const taken = store.create(keyOfMap("taken"), configMap("taken"), api);
  // The updates' reads wait for the proxy to heal; the creates need none and are on their way.
  await until(() => witness.get(keyOfMap("created")));
  await witness.update(keyOfMap("created"), (m) => ({ ...m, data: { by: "witness" } }), api);
  await witness.delete(keyOfMap("created"), api);
  proxy.heal();

  const { resourceVersion } = await created;
  t.is(truth.events.find((e) => e.name === "created")?.resourceVersion, resourceVersion);
  t.true(isCode(await t.throwsAsync(taken), "AlreadyExists"));
  t.is(await witness.get(keyOfMap("created")), undefined, "the deleted object came back");
});

test.serial("updates and deletes whose answers were lost take effect once", async (t) => {
  // The guesses come from here, so that the writes need no read first.
  const known = new Map<string, Stored>();
  const { proxy, store, witness } = await open(t, { peek: (key: ObjectKey) => known.get(key.name) });
  for (const name of ["updated", "deleted"]) known.set(name, await store.create(keyOfMap(name), configMap(name, { n: "0" }), api));
  const increment = (m: ConfigMap): ConfigMap => ({ ...m, data: { n: String(Number(m.data!["n"]) + 1) } });

  proxy.swallowAnswers();
  const updated = store.update(keyOfMap("updated"), increment, api);
  const deleted = store.delete(keyOfMap("deleted"), api);
  await until(async () => ((await witness.get(keyOfMap("deleted"))) ? undefined : true));
  await witness.update(keyOfMap("updated"), increment, api);
  proxy.heal();

  t.is((await updated).object.data?.["n"], "1");
  t.is((await deleted).object.metadata.name, "deleted");
  t.is((await witness.get(keyOfMap("updated")))?.object.data?.["n"], "2");
});

test.serial("a write fails in time when etcd can't be reached, and says that nothing was written", async (t) => {
  const { proxy, store, witness } = await open(t, { requestTimeoutMs: 600, callTimeoutMs: 200 });
  proxy.refuse();
  // The first call may break on the connection that was cut, which leaves its outcome open; afterwards there is none to break on.
  await t.throwsAsync(store.ping());
  const error = await t.throwsAsync(store.create(keyOfMap("a"), configMap("a"), api));
  t.true(isCode(error, "ServiceUnavailable"), String(error));
  t.regex(error.message, /nothing was written/);
  await t.throwsAsync(store.get(keyOfMap("a")));
  proxy.heal();
  await store.create(keyOfMap("a"), configMap("a"), api);
  t.truthy(await witness.get(keyOfMap("a")));
});

test.serial("a silently dead connection is noticed by the watch, and nothing is missed", async (t) => {
  const { proxy, store, witness, metrics } = await open(t);
  const start = (await witness.snapshot()).resourceVersion;
  using recording = record(store, start);
  await witness.create(keyOfMap("before"), configMap("before"), api);
  await until(async () => recording.events[0]);
  proxy.halfOpen();
  const made = await witness.create(keyOfMap("meanwhile"), configMap("meanwhile"), api);
  // What half-open connections do when the network comes back: the old ones are dead, new ones work. Healing must not be what wakes the watch.
  await until(async () => (/gantry_etcd_watch_reconnects_total [1-9]/.test(await metrics.text()) ? true : undefined));
  proxy.heal();
  await recording.reached(made.resourceVersion);
  t.deepEqual(recording.events.map((e) => e.name), ["before", "meanwhile"]);
});

test.serial("a quiet watch is not taken for a broken one", async (t) => {
  const { store, witness, metrics } = await open(t, { watchSilenceMs: 50 });
  using recording = record(store, (await witness.snapshot()).resourceVersion);
  await clock.sleep(500);
  t.regex(await metrics.text(), /gantry_etcd_watch_reconnects_total 0/);
  const made = await witness.create(keyOfMap("a"), configMap("a"), api);
  await recording.reached(made.resourceVersion);
});

test.serial("what an outdated guess would forbid, or not need, is decided on the real state", async (t) => {
  const known = new Map<string, Stored>();
  const { store, witness } = await open(t, { peek: (key: ObjectKey) => known.get(key.name) });
  known.set("a", await store.create(keyOfMap("a"), configMap("a", { state: "old" }), api));
  const real = await witness.update(keyOfMap("a"), (m) => ({ ...m, data: { state: "new" } }), api);
  const finish = (m: ConfigMap): ConfigMap => {
    if (m.data!["state"] === "old") throw new Error("not yet");
    return { ...m, data: { state: "done" } };
  };
  t.is((await store.update(keyOfMap("a"), finish, { ...api, resourceVersion: String(real.resourceVersion) })).object.data?.["state"], "done");
  const reset = await store.update(keyOfMap("a"), (m) => (m.data!["state"] === "old" ? m : { ...m, data: { state: "old" } }), api);
  t.true(reset.resourceVersion > real.resourceVersion);
});

for (const seed of [1, 2, 3]) {
  test.serial(`under cuts, refusals, delays and lost answers every write takes effect exactly once and all watchers agree (seed ${seed})`, async (t) => {
    let peek: (key: ObjectKey) => Stored | undefined = () => undefined;
    const { proxy, store, witness, metrics } = await open(t, { peek: (key) => peek(key) });
    const random = seededRandom(seed);
    const start = (await witness.snapshot()).resourceVersion;
    using truth = record(witness, start);
    using recording = record(store, start);
    const cache = createWatchCache({ store, clock, logger: silentLogger });
    await cache.start();
    t.teardown(() => cache.close());
    peek = (key) => cache.resource(key.type).get(key.namespace, key.name);

    const SHARED = 4;
    for (let i = 0; i < SHARED; i++) await store.create(keyOfMap(`shared-${i}`), configMap(`shared-${i}`), api);
    const tokens: { readonly key: string; readonly token: string; readonly version: number }[] = [];
    const present = new Set<string>();
    const lane = async (id: number): Promise<void> => {
      for (let n = 0; n < 25; n++) {
        const token = `t-${id}-${n}`;
        const key = `shared-${Math.floor(random() * SHARED)}`;
        const own = `own-${id}-${n}`;
        if (random() < 0.5) {
          const { resourceVersion } = await store.update(keyOfMap(key), (m) => ({ ...m, data: { ...m.data, [token]: String(Number(m.data?.[token] ?? 0) + 1) } }), api);
          tokens.push({ key, token, version: resourceVersion });
        } else {
          await store.create(keyOfMap(own), configMap(own), api);
          present.add(own);
          if (random() < 0.5) {
            await store.delete(keyOfMap(own), api);
            present.delete(own);
          }
        }
      }
    };
    const done = new AbortController();
    const breakThings = async (): Promise<void> => {
      while (!done.signal.aborted) {
        const kind = random();
        if (kind < 0.35) proxy.cut();
        else if (kind < 0.6) proxy.swallowAnswers();
        else if (kind < 0.7) proxy.halfOpen();
        else if (kind < 0.8) proxy.refuse();
        else proxy.delay(1 + Math.floor(random() * 10));
        await clock.sleep(10 + random() * 60);
        proxy.heal();
        await clock.sleep(random() * 60);
      }
    };
    const breaking = breakThings();
    await Promise.all(Array.from({ length: 12 }, (_, id) => lane(id)));
    done.abort();
    await breaking;

    const end = (await witness.snapshot()).resourceVersion;
    witness.requestProgress();
    await Promise.all([truth.reached(end), recording.reached(end), cache.waitFor(end)]);
    const state = await stateOf(witness);
    t.deepEqual(replay(truth.events), state);
    t.deepEqual(recording.events.map((e) => e.resourceVersion), truth.events.map((e) => e.resourceVersion));
    t.true(truth.events.every((e, i) => i === 0 || e.resourceVersion > truth.events[i - 1]!.resourceVersion));
    t.deepEqual([...cache.resource(CONFIG_MAPS).list()].map((s) => s.bytes().toString()).sort(), state.map(([, json]) => json).sort());

    const maps = new Map((await witness.list(CONFIG_MAPS)).items.map((s) => [s.object.metadata.name!, s.object]));
    t.deepEqual([...maps.keys()].filter((name) => name.startsWith("own-")).sort(), [...present].sort());
    t.deepEqual(tokens.filter(({ key, token }) => maps.get(key)?.data?.[token] !== "1"), []);
    const inStore = [...maps.values()].filter((m) => m.metadata.name!.startsWith("shared-")).flatMap((m) => Object.keys(m.data ?? {}));
    t.deepEqual(inStore.sort(), tokens.map(({ token }) => token).sort());
    t.is(new Set(tokens.map(({ version }) => version)).size, tokens.length);
    t.regex(await metrics.text(), /gantry_group_commit_retries_total [1-9]/, "the faults hit nothing");
  });
}
