import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import test, { type ExecutionContext } from "ava";
import { silentLogger } from "../base/logger.ts";
import { PodAssignment } from "../proto/gen/gantry/v1/agent.ts";
import { LocalState } from "./local-state.ts";

const file = (t: ExecutionContext): string => {
  const dir = mkdtempSync(join(tmpdir(), "gantry-state-"));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  return join(dir, "state.db");
};

test("assignments, records and addresses are there after a restart", (t) => {
  const path = file(t);
  {
    using state = LocalState.open(path, silentLogger);
    state.saveAssignment(PodAssignment.fromPartial({ uid: "a", name: "pod-a", generation: 7 }));
    state.saveAssignment(PodAssignment.fromPartial({ uid: "b" }));
    state.saveRecord("a", { restarts: { c: 3 } });
    state.addresses.save("a", "10.64.0.5");
    state.deletePod("b");
  }
  using state = LocalState.open(path, silentLogger);
  t.deepEqual(state.assignments().map((a) => [a.uid, a.name, a.generation]), [["a", "pod-a", 7]]);
  t.deepEqual(state.records().get("a"), { restarts: { c: 3 } });
  t.is(state.addresses.load().get("a"), "10.64.0.5");
});

test("a damaged file is set aside and a new one begun", (t) => {
  const path = file(t);
  writeFileSync(path, "this is no database, however long it is".repeat(100));
  using state = LocalState.open(path, silentLogger);
  t.deepEqual(state.assignments(), []);
  t.true(existsSync(`${path}.corrupt`));
});

test("one address is never given to two pods", (t) => {
  using state = LocalState.open(file(t), silentLogger);
  state.addresses.save("a", "10.64.0.5");
  state.addresses.save("b", "10.64.0.5");
  t.deepEqual([...state.addresses.load()], [["b", "10.64.0.5"]]);
});

test("the write-ahead log is carried over while others write, and begins anew", async (t) => {
  const path = file(t);
  {
    using state = LocalState.open(path, silentLogger);
    const large = "x".repeat(50_000);
    let [most, before] = [0, statSync(path).mtimeMs];
    for (let i = 0; i < 1000; i++) {
      state.together(() => state.saveRecord(`pod-${i % 20}`, { large, i }));
      most = Math.max(most, statSync(`${path}-wal`).size);
      await new Promise((resolve) => setImmediate(resolve));
      // The thread gets its turn, on a busy machine too: two looks, of which the second finds enough.
      if (i % 128 === 127) {
        for (const deadlineMs = Date.now() + 10_000; statSync(path).mtimeMs === before && Date.now() < deadlineMs;) await delay(10);
        before = statSync(path).mtimeMs;
      }
    }
    t.true(statSync(path).size > 500_000, "it is in the file");
    t.true(most < 40_000_000, `${most} bytes of 50 MB`);
    t.true(statSync(`${path}-wal`).size < most, "it was cut when it began anew");
  }
  using state = LocalState.open(path, silentLogger);
  t.is((state.records().get("pod-19") as { i: number }).i, 999);
});
