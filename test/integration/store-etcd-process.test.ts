// The private etcd: restarted, adopted, replaced, stopped; always one, always the same data.
import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import type { ExecutionContext } from "ava";
import { SystemClock } from "../../base/clock.ts";
import { isCode } from "../../base/errors.ts";
import { silentLogger } from "../../base/logger.ts";
import { EtcdProcess, findEtcd, stopEtcd } from "../../control-plane/state/etcd-process.ts";
import { EtcdStore } from "../../control-plane/state/etcd-store.ts";
import { configMap, keyOfMap, record } from "../../control-plane/state/store-contract.ts";

const clock = new SystemClock();
const api = { writer: "api" } as const;
const directory = async (t: ExecutionContext): Promise<string> => {
  const dir = await mkdtemp(join(tmpdir(), "gantry-etcd-"));
  t.teardown(async () => {
    await stopEtcd(dir, clock);
    await rm(dir, { recursive: true, force: true });
  });
  return dir;
};
const start = async (t: ExecutionContext, dir: string): Promise<EtcdProcess> => {
  const etcd = await EtcdProcess.start({ dir, clock, logger: silentLogger });
  t.teardown(() => etcd.stop());
  return etcd;
};
const connect = async (t: ExecutionContext, etcd: EtcdProcess): Promise<EtcdStore> => {
  const store = await EtcdStore.connect({ endpoints: etcd.endpoints, clock, logger: silentLogger });
  t.teardown(() => store.close());
  return store;
};
const until = async (condition: () => boolean): Promise<void> => {
  while (!condition()) await clock.sleep(10);
};
const alive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

test("a killed etcd comes back with its data, and writes and watches go on through it", async (t) => {
  const etcd = await start(t, await directory(t));
  const store = await connect(t, etcd);
  using recording = record(store, (await store.snapshot()).resourceVersion);
  await store.create(keyOfMap("before"), configMap("before"), api);
  const { pid } = etcd;
  process.kill(pid, "SIGKILL");
  const written = await Promise.all(Array.from({ length: 20 }, (_, i) => store.create(keyOfMap(`m${i}`), configMap(`m${i}`), api)));
  await recording.reached(Math.max(...written.map((w) => w.resourceVersion)));
  t.not(etcd.pid, pid);
  t.deepEqual(recording.events.map((e) => e.name).sort(), ["before", ...written.map((_, i) => `m${i}`)].sort());
});

test("what a killed control plane left is adopted, not started twice, and still watched over", async (t) => {
  const dir = await directory(t);
  const first = await start(t, dir);
  await (await connect(t, first)).create(keyOfMap("a"), configMap("a"), api);
  await first.release();
  const second = await start(t, dir);
  t.is(second.pid, first.pid);
  const store = await connect(t, second);
  t.truthy(await store.get(keyOfMap("a")));
  process.kill(second.pid, "SIGKILL");
  await until(() => second.pid !== first.pid && second.pid !== 0);
  t.truthy(await store.get(keyOfMap("a")));
  t.is(findEtcd(dir)?.pid, second.pid);
});

test("a left-over that does not answer is replaced, with the same data", async (t) => {
  const dir = await directory(t);
  const first = await start(t, dir);
  await (await connect(t, first)).create(keyOfMap("a"), configMap("a"), api);
  await first.release();
  process.kill(first.pid, "SIGSTOP");
  const second = await start(t, dir);
  t.not(second.pid, first.pid);
  t.false(alive(first.pid));
  t.truthy(await (await connect(t, second)).get(keyOfMap("a")));
});

test("stopping ends it; starting again finds the data", async (t) => {
  const dir = await directory(t);
  const first = await start(t, dir);
  await (await connect(t, first)).create(keyOfMap("a"), configMap("a"), api);
  const { pid } = first;
  await first.stop();
  t.false(alive(pid));
  t.is(findEtcd(dir), undefined);
  t.truthy(await (await connect(t, await start(t, dir))).get(keyOfMap("a")));
});

test("its directory is closed to other users", async (t) => {
  const dir = await directory(t);
  await start(t, dir);
  t.is((await stat(dir)).mode & 0o777, 0o700);
});

test("a missing binary, a directory with too long a name and a broken database are said in words", async (t) => {
  const dir = await directory(t);
  const missing = await t.throwsAsync(EtcdProcess.start({ dir, clock, logger: silentLogger, binary: "no-such-etcd" }));
  t.true(isCode(missing, "FailedPrecondition"));
  t.regex(missing.message, /apt-get install etcd-server/);
  const long = await t.throwsAsync(EtcdProcess.start({ dir: join(dir, "x".repeat(100)), clock, logger: silentLogger }));
  t.regex(long.message, /too long a name .* at most 98 bytes/);
  const refused = await t.throwsAsync(EtcdProcess.start({ dir, clock, logger: silentLogger, binary: "false" }));
  t.regex(refused.message, /etcd did not start \(exit code 1\)/);
});
