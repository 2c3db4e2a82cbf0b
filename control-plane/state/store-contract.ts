// What every store promises (store.ts), as one suite: it runs on the memory store, on a real etcd, and on a real etcd behind a proxy that
// is being broken meanwhile. Test code: only tests import it.
import type { ExecutionContext, TestFn } from "ava";
import { isCode } from "../../base/errors.ts";
import type { ErrorCode } from "../../base/errors.ts";
import { CONFIG_MAPS, NODES, PODS } from "../../base/kube/resources.ts";
import type { ConfigMap, Pod } from "../../base/kube/types.gen.ts";
import type { Elections } from "./election.ts";
import { keyOf } from "./store.ts";
import type { ObjectKey, Store, StoreEvent } from "./store.ts";

export interface StoreUnderTest {
  /** Empty. */
  readonly store: Store & { readonly elections: Elections };
  /** Forgets all history up to now. */
  readonly compact: () => Promise<void>;
  /** A second client of the same data, where there can be one. */
  readonly other?: Store;
}

type Opener = (t: ExecutionContext) => Promise<StoreUnderTest>;

const api = { writer: "api" } as const;
const uidOf = (name: string): string => `uid-${name}`;

export const configMap = (name: string, data: Record<string, string> = {}, namespace = "default"): ConfigMap => ({
  apiVersion: "v1", kind: "ConfigMap", metadata: { name, namespace, uid: uidOf(name) }, data,
});
export const keyOfMap = (name: string, namespace = "default"): ObjectKey<ConfigMap> => ({ type: CONFIG_MAPS, namespace, name });
const pod = (name: string): Pod => ({ apiVersion: "v1", kind: "Pod", metadata: { name, namespace: "default", uid: uidOf(name) }, spec: { containers: [] } });

const rejects = async (t: ExecutionContext, code: ErrorCode, promise: Promise<unknown>, text: RegExp): Promise<void> => {
  const error = await t.throwsAsync(promise);
  t.true(isCode(error, code), `expected ${code}: ${String(error)}`);
  t.regex(error.message, text);
};

export interface Recording extends Disposable {
  readonly events: StoreEvent[];
  readonly lost: Error[];
  readonly progress: number[];
  /** Resolves when an event or progress at or after this version was heard. */
  reached(resourceVersion: number): Promise<void>;
}

export const record = (store: Store, after: number): Recording => {
  const events: StoreEvent[] = [];
  const lost: Error[] = [];
  const progress: number[] = [];
  const waiting = new Map<() => void, number>();
  let at = after;
  const moved = (to: number): void => {
    at = Math.max(at, to);
    for (const [resolve, version] of waiting) if (version <= at) resolve();
  };
  const watch = store.watch(after, {
    events: (batch) => {
      events.push(...batch);
      moved(batch.at(-1)!.resourceVersion);
    },
    progress: (version) => {
      progress.push(version);
      moved(version);
    },
    lost: (error) => {
      lost.push(error);
      moved(Number.MAX_SAFE_INTEGER);
    },
  });
  return {
    events, lost, progress,
    reached: (version) => new Promise((resolve) => {
      waiting.set(resolve, version);
      moved(at);
    }),
    [Symbol.dispose]: () => watch[Symbol.dispose](),
  };
};

/** The state that events from the very first on add up to: path -> JSON, sorted. */
export const replay = (events: readonly StoreEvent[]): [string, string][] => {
  const state = new Map<string, string>();
  for (const { resource, namespace, name, stored } of events) {
    const path = `${resource}/${namespace}/${name}`;
    if (stored) state.set(path, stored.bytes().toString());
    else state.delete(path);
  }
  return [...state].sort();
};

export const stateOf = async (store: Store): Promise<[string, string][]> => {
  const { items } = await store.snapshot();
  return items.map(({ resource, namespace, name, stored }): [string, string] => [`${resource}/${namespace}/${name}`, stored.bytes().toString()]).sort();
};

/** Deterministic, [0, 1): mulberry32. */
export const seededRandom = (seed: number): (() => number) => {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
};

export const storeContract = (test: TestFn, kind: string, open: Opener): void => {
  const check = (title: string, body: (t: ExecutionContext, subject: StoreUnderTest) => Promise<void>): void => {
    test(`${kind}: ${title}`, async (t) => body(t, await open(t)));
  };

  check("what is created can be read, once, with its version filled in and without undefined fields", async (t, { store }) => {
    t.is(await store.get(keyOfMap("a")), undefined);
    const made = await store.create(keyOfMap("a"), { ...configMap("a", { x: "1" }), binaryData: undefined }, api);
    const read = await store.get(keyOfMap("a"));
    t.deepEqual(read?.object, { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "a", namespace: "default", uid: "uid-a", resourceVersion: String(made.resourceVersion) }, data: { x: "1" } });
    t.deepEqual(made.object, read?.object);
    t.false("binaryData" in made.object);
    t.deepEqual(JSON.parse(made.bytes().toString()), made.object);
    t.true(Number.isSafeInteger(made.resourceVersion));
    await rejects(t, "AlreadyExists", store.create(keyOfMap("a"), configMap("a"), api), /^configmaps "a" already exists$/);
  });

  check("an object is stored only under its own name and namespace", async (t, { store }) => {
    await rejects(t, "BadRequest", store.create(keyOfMap("a"), configMap("b"), api), /metadata\.name is "b"/);
    await rejects(t, "BadRequest", store.create(keyOfMap("a", "other"), configMap("a"), api), /metadata\.namespace is "default"/);
    await rejects(t, "BadRequest", store.create({ type: NODES, namespace: "default", name: "a" }, configMap("a"), api), /can't have the name "a" in the namespace "default"/);
    await store.create(keyOfMap("a"), configMap("a"), api);
    await rejects(t, "BadRequest", store.update(keyOfMap("a"), (m) => ({ ...m, metadata: { ...m.metadata, name: "b" } }), api), /metadata\.name is "b"/);
  });

  check("concurrent updates of one object all take effect", async (t, { store, other }) => {
    await store.create(keyOfMap("a"), configMap("a", { count: "0" }), api);
    const increment = (m: ConfigMap): ConfigMap => ({ ...m, data: { count: String(Number(m.data!["count"]) + 1) } });
    const versions = await Promise.all(Array.from({ length: 20 }, async (_, i) => (await (i % 2 ? (other ?? store) : store).update(keyOfMap("a"), increment, api)).resourceVersion));
    t.is((await store.get(keyOfMap("a")))?.object.data?.["count"], "20");
    t.is(new Set(versions).size, 20);
  });

  check("an update that changes nothing writes nothing", async (t, { store }) => {
    const made = await store.create(keyOfMap("a"), configMap("a"), api);
    t.is((await store.update(keyOfMap("a"), (m) => m, api)).resourceVersion, made.resourceVersion);
    t.is((await store.update(keyOfMap("a"), () => undefined, api)).resourceVersion, made.resourceVersion);
    t.is((await store.get(keyOfMap("a")))?.resourceVersion, made.resourceVersion);
  });

  check("updates and deletes keep their preconditions and miss what is absent", async (t, { store }) => {
    const first = await store.create(keyOfMap("a"), configMap("a"), api);
    const label = (m: ConfigMap): ConfigMap => ({ ...m, metadata: { ...m.metadata, labels: { x: "1" } } });
    const second = await store.update(keyOfMap("a"), label, { ...api, resourceVersion: String(first.resourceVersion), uid: "uid-a" });
    t.true(second.resourceVersion > first.resourceVersion);
    await rejects(t, "Conflict", store.update(keyOfMap("a"), label, { ...api, resourceVersion: String(first.resourceVersion) }), /the object has been modified/);
    await rejects(t, "Conflict", store.update(keyOfMap("a"), label, { ...api, uid: "other" }), /UID in precondition: other/);
    await rejects(t, "Conflict", store.delete(keyOfMap("a"), { ...api, resourceVersion: String(first.resourceVersion) }), /the object has been modified/);
    const gone = await store.delete(keyOfMap("a"), { ...api, uid: "uid-a" });
    t.deepEqual(gone.object.metadata.labels, { x: "1" });
    t.true(gone.resourceVersion > second.resourceVersion);
    t.is(gone.object.metadata.resourceVersion, String(gone.resourceVersion));
    await rejects(t, "NotFound", store.delete(keyOfMap("a"), api), /^configmaps "a" not found$/);
    await rejects(t, "NotFound", store.update(keyOfMap("a"), label, api), /^configmaps "a" not found$/);
    t.is(await store.get(keyOfMap("a")), undefined);
  });

  check("an error of the change function reaches the caller and nothing is written", async (t, { store }) => {
    const made = await store.create(keyOfMap("a"), configMap("a"), api);
    await t.throwsAsync(store.update(keyOfMap("a"), () => {
      throw new Error("mine");
    }, api), { message: "mine" });
    t.is((await store.get(keyOfMap("a")))?.resourceVersion, made.resourceVersion);
  });

  check("a writer writes only what is its own", async (t, { store }) => {
    const key = keyOf(PODS, pod("p"));
    await rejects(t, "Forbidden", store.create(key, pod("p"), { writer: "agent" }), /writer "agent" may not create pods/);
    await store.create(key, pod("p"), api);
    await rejects(t, "Forbidden", store.update(key, (p) => ({ ...p, spec: { ...p.spec!, nodeName: "n" } }), { writer: "agent" }), /writer "agent" may not change spec\.nodeName of pods/);
    await rejects(t, "Forbidden", store.delete(key, { writer: "scheduler" }), /writer "scheduler" may not delete pods/);
    const bound = await store.update(key, (p) => ({ ...p, spec: { ...p.spec!, nodeName: "n" } }), { writer: "scheduler" });
    t.is(bound.object.spec?.nodeName, "n");
  });

  check("lists are in key order, by namespace, in pages that all stand at one version", async (t, { store }) => {
    const names = ["a", "b", "c", "d", "e"];
    await Promise.all(names.map((name) => store.create(keyOfMap(name), configMap(name), api)));
    await store.create(keyOfMap("x", "other"), configMap("x", {}, "other"), api);
    await store.create(keyOf(PODS, pod("p")), pod("p"), api);
    const all = await store.list(CONFIG_MAPS);
    t.deepEqual(all.items.map((i) => i.object.metadata.name), [...names, "x"]);
    t.deepEqual([all.remaining, all.next], [0, undefined]);
    t.true(all.items.every((i) => i.resourceVersion <= all.resourceVersion));
    const first = await store.list(CONFIG_MAPS, { namespace: "default", limit: 2 });
    t.deepEqual(first.items.map((i) => i.object.metadata.name), ["a", "b"]);
    t.deepEqual([first.remaining, first.next], [3, { namespace: "default", name: "b" }]);
    await store.delete(keyOfMap("c"), api);
    await store.create(keyOfMap("bb"), configMap("bb"), api);
    const second = await store.list(CONFIG_MAPS, { namespace: "default", limit: 2, after: first.next, at: first.resourceVersion });
    t.deepEqual(second.items.map((i) => i.object.metadata.name), ["c", "d"]);
    t.deepEqual([second.remaining, second.resourceVersion], [1, first.resourceVersion]);
    const last = await store.list(CONFIG_MAPS, { namespace: "default", limit: 2, after: second.next, at: first.resourceVersion });
    t.deepEqual(last.items.map((i) => i.object.metadata.name), ["e"]);
    t.deepEqual([last.remaining, last.next], [0, undefined]);
    t.deepEqual((await store.list(CONFIG_MAPS, { namespace: "nowhere" })).items, []);
    await rejects(t, "BadRequest", store.list(CONFIG_MAPS, { at: all.resourceVersion + 1_000_000 * 128 }), /^resourceVersion: \d+ has not been reached/);
  });

  check("a watch brings every later event once, in order, from any version on, with the versions that the writers got", async (t, { store }) => {
    const start = (await store.snapshot()).resourceVersion;
    using recording = record(store, start);
    const names = Array.from({ length: 40 }, (_, i) => `m${i}`);
    const made = await Promise.all(names.map((name) => store.create(keyOfMap(name), configMap(name), api)));
    const rest = await Promise.all(names.map((name, i) => (i % 3 === 0
      ? store.delete(keyOfMap(name), api)
      : store.update(keyOfMap(name), (m) => ({ ...m, data: { i: String(i) } }), api))));
    const written = [...made, ...rest].map((s) => s.resourceVersion).sort((a, b) => a - b);
    await recording.reached(written.at(-1)!);
    t.deepEqual(recording.events.map((e) => e.resourceVersion), written);
    t.true(recording.events.every((e) => (e.type === "delete") === (e.stored === undefined)));
    t.deepEqual(replay(recording.events), await stateOf(store));
    for (const from of [0, 17, 41, 60, 78]) {
      using resumed = record(store, written[from]!);
      await resumed.reached(written.at(-1)!);
      t.deepEqual(resumed.events.map((e) => e.resourceVersion), written.slice(from + 1));
    }
  });

  check("a disposed watch is silent, and asked-for progress covers what was written", async (t, { store }) => {
    const start = (await store.snapshot()).resourceVersion;
    const disposed = record(store, start);
    using recording = record(store, start);
    disposed[Symbol.dispose]();
    const made = await store.create(keyOfMap("a"), configMap("a"), api);
    await recording.reached(made.resourceVersion);
    t.deepEqual(disposed.events, []);
    const listed = await store.list(CONFIG_MAPS);
    store.requestProgress();
    await recording.reached(listed.resourceVersion);
    t.true(recording.progress.at(-1)! >= listed.resourceVersion);
  });

  check("what was compacted is Expired, for lists and for watches", async (t, { store, compact }) => {
    const first = await store.create(keyOfMap("a"), configMap("a"), api);
    await store.update(keyOfMap("a"), (m) => ({ ...m, data: { x: "1" } }), api);
    await compact();
    await rejects(t, "Expired", store.list(CONFIG_MAPS, { at: first.resourceVersion }), /too old/);
    using recording = record(store, first.resourceVersion);
    await recording.reached(Number.MAX_SAFE_INTEGER);
    t.true(isCode(recording.lost[0], "Expired"));
    t.deepEqual(recording.events, []);
    const { items, resourceVersion } = await store.snapshot();
    t.is(items.length, 1);
    using again = record(store, resourceVersion);
    const made = await store.create(keyOfMap("b"), configMap("b"), api);
    await again.reached(made.resourceVersion);
    t.deepEqual(again.events.map((e) => e.name), ["b"]);
  });

  check("an object too large to store is refused by size, and one just below is stored", async (t, { store }) => {
    await rejects(t, "RequestEntityTooLarge", store.create(keyOfMap("a"), configMap("a", { x: "y".repeat(1_600_000) }), api), /too large to store: 16\d{5} bytes .* the limit is \d+/);
    await store.create(keyOfMap("b"), configMap("b", { x: "y".repeat(1_400_000) }), api);
    t.is((await store.get(keyOfMap("b")))?.object.data?.["x"]?.length, 1_400_000);
  });

  check("many large objects at once are stored, whatever one request may hold", async (t, { store }) => {
    const names = Array.from({ length: 12 }, (_, i) => `large-${i}`);
    await Promise.all(names.map((name) => store.create(keyOfMap(name), configMap(name, { x: "y".repeat(400_000) }), api)));
    t.is((await store.list(CONFIG_MAPS)).items.length, 12);
  });

  check("a leader's write is refused once another leads", async (t, { store }) => {
    const { signal } = new AbortController();
    const candidate = (instance: string) => ({ election: "leader", identity: instance, instance, first: true });
    const first = await store.elections.campaign(candidate("one"), signal);
    await store.create(keyOfMap("a"), configMap("a"), { ...api, fence: first.fence });
    await first.resign();
    const second = await store.elections.campaign(candidate("two"), signal);
    t.not(second.fence.createRevision, first.fence.createRevision);
    const stale = { ...api, fence: first.fence };
    await rejects(t, "Fenced", store.create(keyOfMap("b"), configMap("b"), stale), /configmaps "b".*no longer leads/);
    await rejects(t, "Fenced", store.update(keyOfMap("a"), (m) => ({ ...m, data: { x: "1" } }), stale), /no longer leads/);
    await rejects(t, "Fenced", store.delete(keyOfMap("a"), stale), /no longer leads/);
    await store.update(keyOfMap("a"), (m) => ({ ...m, data: { x: "2" } }), { ...api, fence: second.fence });
    t.is((await store.get(keyOfMap("a")))?.object.data?.["x"], "2");
    await second.resign();
  });
};
