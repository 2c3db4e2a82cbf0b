// The API on a real etcd: what the memory store can't show, such as batches of writes, pages in etcd's key order, guesses from the cache
// that turn out stale, and compaction.
import test from "ava";
import type { ExecutionContext } from "ava";
import { SystemClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/logger.ts";
import { revisionOf } from "../../control-plane/state/encoding.ts";
import { EtcdStore } from "../../control-plane/state/etcd-store.ts";
import { startTestApi } from "../helpers/api-server.ts";
import type { TestApi } from "../helpers/api-server.ts";
import { startEtcd } from "../helpers/etcd.ts";

const CONFIG_PATH = "/api/v1/namespaces/default/configmaps";
const configMap = (name: string, part: object = {}): object => ({ apiVersion: "v1", kind: "ConfigMap", metadata: { name, ...part } });
const MERGE = "application/merge-patch+json";

const start = async (t: ExecutionContext, consistency: "process" | "store"): Promise<{ api: TestApi; store: EtcdStore }> => {
  const etcd = await startEtcd();
  t.teardown(() => etcd.stop());
  let store: EtcdStore | undefined;
  const api = await startTestApi({
    openStore: async (peek) => (store = await EtcdStore.connect({ endpoints: etcd.endpoints, prefix: "/gantry", clock: new SystemClock(), logger: silentLogger, peek })),
    server: { consistency },
  });
  t.teardown(() => api[Symbol.asyncDispose]());
  return { api, store: store! };
};

const names = (list: { items: { metadata: { namespace: string; name: string } }[] }): string[] => list.items.map((i) => `${i.metadata.namespace}/${i.metadata.name}`);

for (const consistency of ["process", "store"] as const) {
  test(`on etcd, consistency ${consistency}: writes are read back, concurrent ones are all there, deletes are final`, async (t) => {
    const { api } = await start(t, consistency);
    const statuses = await Promise.all(Array.from({ length: 300 }, (_, i) => api.call("POST", CONFIG_PATH, { body: configMap(`c${i}`) }).then((r) => r.status)));
    t.deepEqual([...new Set(statuses)], [201]);
    t.is((await api.call("GET", CONFIG_PATH)).json.items.length, 300);
    await Promise.all(Array.from({ length: 50 }, (_, i) => api.call("PATCH", `${CONFIG_PATH}/c0`, { body: { data: { [`k${i}`]: "1" } }, contentType: MERGE })));
    t.is(Object.keys((await api.call("GET", `${CONFIG_PATH}/c0`)).json.data as object).length, 50);
    for (let i = 0; i < 10; i++) {
      t.is((await api.call("DELETE", `${CONFIG_PATH}/c${i}`)).status, 200);
      t.is((await api.call("GET", `${CONFIG_PATH}/c${i}`)).status, 404);
    }
    t.is((await api.call("GET", CONFIG_PATH)).json.items.length, 290);
    await api.call("DELETE", CONFIG_PATH);
    t.is((await api.call("GET", CONFIG_PATH)).json.items.length, 0);
  });

  test(`on etcd, consistency ${consistency}: a finalizer holds, its removal deletes, a stale version conflicts`, async (t) => {
    const { api } = await start(t, consistency);
    const held = (await api.call("POST", CONFIG_PATH, { body: configMap("held", { finalizers: ["example.com/hold"] }) })).json;
    await api.call("DELETE", `${CONFIG_PATH}/held`);
    t.is((await api.call("PUT", `${CONFIG_PATH}/held`, { body: held })).status, 409);
    t.is((await api.call("PATCH", `${CONFIG_PATH}/held`, { body: { metadata: { finalizers: null } }, contentType: MERGE })).status, 200);
    t.is((await api.call("GET", `${CONFIG_PATH}/held`)).status, 404);
    t.is((await api.call("POST", CONFIG_PATH, { body: configMap("held") })).status, 201);
  });
}

test("on etcd: pages over namespaces miss nothing and repeat nothing, in etcd's order; after a compaction they expire", async (t) => {
  const { api, store } = await start(t, "process");
  for (const namespace of ["a", "a-b", "a0"]) {
    await api.call("POST", "/api/v1/namespaces", { body: { apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } } });
    for (const name of ["x", "y", "z"]) await api.call("POST", `/api/v1/namespaces/${namespace}/configmaps`, { body: configMap(name) });
  }
  const whole = names((await api.call("GET", "/api/v1/configmaps")).json);
  t.is(whole.length, 9);
  const paged: string[] = [];
  let token = "";
  do {
    const { json } = await api.call("GET", `/api/v1/configmaps?limit=2${token === "" ? "" : `&continue=${token}`}`);
    paged.push(...names(json));
    token = (json as { metadata: { continue?: string } }).metadata.continue ?? "";
  } while (token !== "");
  t.deepEqual(paged, whole);

  const first = (await api.call("GET", "/api/v1/configmaps?limit=2")).json;
  await api.call("POST", "/api/v1/namespaces/a/configmaps", { body: configMap("later") });
  await store.compact(revisionOf(Number((await api.call("GET", "/api/v1/configmaps")).json.metadata.resourceVersion)));
  t.like((await api.call("GET", `/api/v1/configmaps?limit=2&continue=${first.metadata.continue}`)).json, { code: 410, reason: "Expired" });
});

test("on etcd: an object that etcd can't hold is refused as too large", async (t) => {
  const { api } = await start(t, "process");
  const { json } = await api.call("POST", "/apis/apps/v1/namespaces/default/deployments", { body: {
    apiVersion: "apps/v1", kind: "Deployment", metadata: { name: "big" },
    spec: { selector: { matchLabels: { a: "b" } }, template: { metadata: { labels: { a: "b" } }, spec: { containers: [{ name: "c", image: "x", args: Array.from({ length: 20 }, () => "x".repeat(100_000)) }] } } },
  } });
  t.like(json, { code: 413, reason: "RequestEntityTooLarge" });
});
