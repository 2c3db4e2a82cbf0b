import test from "ava";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { isAlive, parseStat, processStartTime, signalProcess } from "./process.ts";
import { makeDevice } from "./files.ts";
import { SystemCallError, isErrno } from "./libc.ts";
import { openProcess } from "./process.ts";

test("a process name with spaces and brackets does not shift the fields of stat", (t) => {
  const fields = Array.from({ length: 49 }, (_, i) => String(i + 4));
  t.deepEqual(parseStat(`42 (a) b (c)) S ${fields.join(" ")}`), { state: "S", startTicks: 22 });
});

test("a signal reaches the process that was meant and no other that has its pid", async (t) => {
  const child = spawn("sleep", ["60"], { stdio: "ignore" });
  t.teardown(() => child.kill("SIGKILL"));
  const started = processStartTime(child.pid!);
  t.truthy(started);
  t.false(signalProcess(child.pid!, started! - 1, "SIGKILL"));
  t.true(isAlive(child.pid!, started!));
  t.true(signalProcess(child.pid!, started!, "SIGTERM"));
  const [, signal] = (await once(child, "exit")) as [number | null, string];
  t.is(signal, "SIGTERM");
  t.false(isAlive(child.pid!, started!));
  t.false(signalProcess(child.pid!, started!, "SIGTERM"));
});

test("a failed system call names itself, its arguments and the errno", (t) => {
  const error = t.throws(() => openProcess(2 ** 22 + 1), { instanceOf: SystemCallError });
  t.true(isErrno(error, "ESRCH", "EINVAL"));
  t.regex(error.message, /^pidfd_open\(4194305, 0\): (ESRCH|EINVAL) \(/);
});

test("device numbers are encoded as the C library does", (t) => {
  t.is(makeDevice(1, 3), 0x103n);
  t.is(makeDevice(259, 300), 0x11032cn);
  t.is(makeDevice(0xfffff, 0xfffff), 0xff000ffffffffn);
});
