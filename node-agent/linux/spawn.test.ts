import { once } from "node:events";
import { Socket } from "node:net";
import { text } from "node:stream/consumers";
import test from "ava";
import * as libc from "./libc.ts";
import { isErrno } from "./libc.ts";
import { makePipe, reapProcess, spawnElsewhere, spawnProcess, type SpawnOptions } from "./spawn.ts";

type Spawn = (options: SpawnOptions) => Promise<number>;

const outputOf = async (spawn: Spawn, script: string, env: readonly string[] = []): Promise<string> => {
  const { read, write } = makePipe();
  const pid = await spawn({ path: "/bin/sh", args: ["-c", script], cwd: "/usr", env, fds: [undefined, write, write] });
  libc.close(write);
  const socket = new Socket({ fd: read, readable: true, writable: false });
  const said = await text(socket);
  if (!socket.closed) await once(socket, "close");
  reapProcess(pid);
  return said;
};

for (const [where, spawn] of Object.entries<Spawn>({ here: async (options) => spawnProcess(options), elsewhere: spawnElsewhere })) {
  test(`${where}: arguments, environment, directory and descriptors are as given; those that are not given are not there`, async (t) => {
    t.is(await outputOf(spawn, "echo \"$0 $1\"; echo \"$NAME\"; pwd; cat; [ -e /proc/self/fd/3 ] || echo none", ["NAME=a b", "PATH=/usr/bin:/bin"]), "/bin/sh \na b\n/usr\nnone\n");
  });

  // 32 and 33 are the C library's own.
  test(`${where}: signals that node ignores have their effect again`, async (t) => {
    t.regex(await outputOf(spawn, "grep -E 'SigIgn|SigBlk' /proc/self/status", ["PATH=/usr/bin:/bin"]), /SigBlk:\s+0000000000000000\nSigIgn:\s+000000(?:00|01)[08]0000000\n/);
  });

  test(`${where}: a program that isn't there is said at once`, async (t) => {
    t.true(isErrno(await t.throwsAsync(spawn({ path: "/no/such/program", args: [], cwd: "/", env: [], fds: [] })), "ENOENT"));
  });
}

test("many at once are each told their own", async (t) => {
  const scripts = Array.from({ length: 40 }, (_, i) => `echo ${i}`);
  t.deepEqual(await Promise.all(scripts.map((script) => outputOf(spawnElsewhere, script))), scripts.map((_, i) => `${i}\n`));
});
