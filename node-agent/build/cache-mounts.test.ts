import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { FakeClock } from "../../base/clock.ts";
import { CacheMounts, type CacheMountRequest } from "./cache-mounts.ts";

const setUp = (t: ExecutionContext) => {
  const directory = mkdtempSync(join(tmpdir(), "gantry-mounts-"));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const clock = new FakeClock(Date.now());
  const [uid, gid] = [process.getuid!(), process.getgid!()];
  const mounts = new CacheMounts(directory, clock);
  const request = (changes: Partial<CacheMountRequest>): CacheMountRequest => ({ id: "npm", sharing: "shared", mode: 0o700, uid, gid, seed: () => Promise.resolve(), signal: new AbortController().signal, ...changes });
  return { directory, clock, mounts, request };
};

test("shared is one directory for all, private one for each, and what was written stays", async (t) => {
  const { mounts, request } = setUp(t);
  const [a, b] = [await mounts.take(request({ seed: async (d) => writeFileSync(join(d, "seed"), "") })), await mounts.take(request({}))];
  t.is(a.directory, b.directory);
  t.deepEqual(readdirSync(a.directory), ["seed"]);
  t.is(statSync(a.directory).mode & 0o777, 0o700);
  const c = await mounts.take(request({ sharing: "private" }));
  t.not(c.directory, a.directory);
  for (const taken of [a, b, c]) taken[Symbol.dispose]();
  t.is((await mounts.take(request({ sharing: "private" }))).directory, a.directory);
});

test("locked lets one in after another, and who gives up is left out", async (t) => {
  const { mounts, request } = setUp(t);
  const first = await mounts.take(request({ sharing: "locked" }));
  const order: string[] = [];
  const abort = new AbortController();
  const given = mounts.take(request({ sharing: "locked", signal: abort.signal }));
  const second = mounts.take(request({ sharing: "locked" })).then((taken) => { order.push("second"); return taken; });
  abort.abort();
  await t.throwsAsync(given, { message: /cancelled/ });
  t.deepEqual(order, []);
  order.push("first ends");
  first[Symbol.dispose]();
  (await second)[Symbol.dispose]();
  t.deepEqual(order, ["first ends", "second"]);
});

test("what nobody used for long goes, what is in use stays", async (t) => {
  const { mounts, request, clock, directory } = setUp(t);
  const used = await mounts.take(request({}));
  (await mounts.take(request({ id: "old" })))[Symbol.dispose]();
  await clock.advance(20 * 86_400_000);
  await mounts.prune();
  t.deepEqual(readdirSync(directory).map((name) => join(directory, name)), [used.directory]);
});
