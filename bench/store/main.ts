// Writes per second of the state store on a private etcd: one at a time, and many at once (group commit). See bench/README.md.
// Usage: node bench/store/main.ts [seconds per line]
import { mkdtemp, rm } from "node:fs/promises";
import { readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { IRequestOp } from "etcd3/lib/rpc.js";
import { SystemClock } from "../../base/clock.ts";
import { CONFIG_MAPS } from "../../base/kube/resources.ts";
import type { ConfigMap } from "../../base/kube/types.gen.ts";
import { silentLogger } from "../../base/logger.ts";
import { EtcdClient } from "../../control-plane/state/etcd-client.ts";
import { EtcdProcess } from "../../control-plane/state/etcd-process.ts";
import { EtcdStore } from "../../control-plane/state/etcd-store.ts";
import type { ObjectKey } from "../../control-plane/state/store.ts";
import { createWatchCache } from "../../control-plane/state/watch-cache.ts";

const VALUE_BYTES = 1500;
const OBJECTS = 2000;
const seconds = Number(process.argv[2] ?? 3);
const clock = new SystemClock();
const writer = { writer: "api" } as const;

const keyOf = (i: number): ObjectKey<ConfigMap> => ({ type: CONFIG_MAPS, namespace: "bench", name: `object-${i}` });
const object = (i: number): ConfigMap => ({
  apiVersion: "v1", kind: "ConfigMap", metadata: { name: `object-${i}`, namespace: "bench", uid: `uid-${i}` }, data: { filler: "x".repeat(VALUE_BYTES - 130), n: "0" },
});
const filler = Buffer.alloc(VALUE_BYTES, "x");
const conditionalPut = (key: string): IRequestOp => ({
  request_txn: {
    compare: [{ result: "Greater", target: "Mod", key: Buffer.from(key), mod_revision: "-1" }],
    success: [{ request_put: { key: Buffer.from(key), value: filler } }],
  },
});
const pssMiB = (pid: number): number => Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"))?.[1] ?? 0) / 1024;

/** `width` loops, each writing one object after another, for `seconds`. */
const measure = async (width: number, write: (i: number, n: number) => Promise<unknown>): Promise<{ readonly perSecond: number; readonly p50Ms: number; readonly p99Ms: number }> => {
  const startMs = clock.monotonicMs();
  const endMs = startMs + seconds * 1000;
  const latenciesMs: number[] = [];
  await Promise.all(Array.from({ length: width }, async (_, lane) => {
    for (let n = 0; clock.monotonicMs() < endMs; n++) {
      const beforeMs = clock.monotonicMs();
      await write(lane, n);
      latenciesMs.push(clock.monotonicMs() - beforeMs);
    }
  }));
  latenciesMs.sort((a, b) => a - b);
  const at = (share: number): number => latenciesMs[Math.floor((latenciesMs.length - 1) * share)]!;
  return { perSecond: latenciesMs.length / ((clock.monotonicMs() - startMs) / 1000), p50Ms: at(0.5), p99Ms: at(0.99) };
};

const dir = await mkdtemp(join(tmpdir(), "gantry-bench-"));
const etcd = await EtcdProcess.start({ dir, clock, logger: silentLogger });
try {
  const peek = (key: ObjectKey) => cache.resource(key.type).get(key.namespace, key.name);
  const store = await EtcdStore.connect({ endpoints: etcd.endpoints, clock, logger: silentLogger, peek });
  const cache = createWatchCache({ store, clock, logger: silentLogger });
  await cache.start();
  const print = (what: string, { perSecond, p50Ms, p99Ms }: Awaited<ReturnType<typeof measure>>): void =>
    console.log(`${what.padEnd(44)} ${perSecond.toFixed(0).padStart(7)}/s   p50 ${p50Ms.toFixed(2)} ms   p99 ${p99Ms.toFixed(2)} ms`);

  // The floor on this machine, at this moment: bare conditional puts through the same client, nothing around them.
  const client = new EtcdClient({ endpoints: etcd.endpoints, clock, requestTimeoutMs: 5_000 });
  const bare = (size: number) => () => client.txn({ success: Array.from({ length: size }, (_, i) => conditionalPut(`/floor/${i}`)) });
  const floorOne = await measure(1, bare(1));
  const floorHundred = await measure(1, bare(100));
  print("floor: bare compare-and-put", floorOne);
  print("floor: 100 nested in one Txn", { ...floorHundred, perSecond: floorHundred.perSecond * 100 });
  client.close();

  const createStartMs = clock.monotonicMs();
  const made = await Promise.all(Array.from({ length: OBJECTS }, (_, i) => store.create(keyOf(i), object(i), writer)));
  const createMs = clock.monotonicMs() - createStartMs;
  console.log(`${`create ${OBJECTS} objects of ${VALUE_BYTES} bytes at once`.padEnd(44)} ${(OBJECTS / (createMs / 1000)).toFixed(0).padStart(7)}/s   ${createMs.toFixed(0)} ms in all`);
  await cache.waitFor(Math.max(...made.map((m) => m.resourceVersion)));
  console.log(`${"... until the watch cache shows them".padEnd(44)} ${(clock.monotonicMs() - createStartMs).toFixed(0).padStart(9)} ms in all`);

  const update = (i: number, n: number) => store.update(keyOf(i), (m) => ({ ...m, data: { ...m.data, n: String(n) } }), writer);
  const one = await measure(1, update);
  print("update, one at a time", one);
  const hundred = await measure(100, update);
  print("update, 100 at once", hundred);
  print("update, 1000 at once", await measure(1000, update));
  console.log(`share of the floor: one at a time ${((one.perSecond / floorOne.perSecond) * 100).toFixed(0)} %, 100 at once ${(hundred.perSecond / floorHundred.perSecond).toFixed(0)} %`);
  console.log(`memory (PSS): etcd ${pssMiB(etcd.pid).toFixed(0)} MiB, this process ${pssMiB(process.pid).toFixed(0)} MiB`);
  cache.close();
  await store.close();
} finally {
  await etcd.stop();
  await rm(dir, { recursive: true, force: true });
}
