// The store's contract on a real etcd: directly, and through a proxy.
import test from "ava";
import type { ExecutionContext } from "ava";
import { SystemClock } from "../../base/clock.ts";
import { newId } from "../../base/ids.ts";
import { silentLogger } from "../../base/logger.ts";
import { EtcdStore } from "../../control-plane/state/etcd-store.ts";
import type { EtcdStoreOptions } from "../../control-plane/state/etcd-store.ts";
import { seededRandom, storeContract } from "../../control-plane/state/store-contract.ts";
import { BreakableProxy } from "../helpers/breakable-proxy.ts";
import { startEtcd } from "../helpers/etcd.ts";
import type { TestEtcd } from "../helpers/etcd.ts";

let etcd: TestEtcd;
let proxy: BreakableProxy;
test.before(async () => {
  etcd = await startEtcd();
  proxy = await BreakableProxy.start({ path: etcd.socketPath });
  proxy.delay(2);
});
test.after.always(async () => {
  await proxy?.close();
  await etcd?.stop();
});

const connect = (endpoints: readonly string[], prefix: string, options: Partial<EtcdStoreOptions> = {}): Promise<EtcdStore> =>
  EtcdStore.connect({ endpoints, prefix, clock: new SystemClock(), logger: silentLogger, ...options });

/** Resets all connections of its proxy again and again. */
const keepCutting = async (t: ExecutionContext): Promise<readonly string[]> => {
  const own = await BreakableProxy.start({ path: etcd.socketPath });
  const random = seededRandom(7);
  const stopped = new AbortController();
  const clock = new SystemClock();
  const cutting = (async () => {
    while (!stopped.signal.aborted) {
      // Now and then it leaves time for a large request on a busy machine: without that none would ever get through.
      await clock.sleep(random() < 0.1 ? 600 : 15 + random() * 60, stopped.signal).catch(() => undefined);
      own.cut();
    }
  })();
  t.teardown(async () => {
    stopped.abort();
    await cutting;
    await own.close();
  });
  return [own.endpoint];
};

const kinds: readonly (readonly [string, (t: ExecutionContext) => Promise<readonly string[]>])[] = [
  ["etcd", async () => etcd.endpoints],
  ["etcd behind a slow proxy", async () => [proxy.endpoint]],
  ["etcd behind a proxy that keeps cutting", keepCutting],
];

// Serial: compaction is etcd's own, not a prefix's.
for (const [kind, endpointsOf] of kinds) {
  storeContract(test.serial as typeof test, kind, async (t) => {
    const prefix = `/test-${newId()}`;
    const endpoints = await endpointsOf(t);
    const [store, other] = await Promise.all([connect(endpoints, prefix), connect(endpoints, prefix)]);
    t.teardown(() => Promise.all([store.close(), other.close()]));
    return { store, other, compact: async () => store.compact(await store.mark()) };
  });
}
