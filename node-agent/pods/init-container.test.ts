import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import type { Assignment } from "./assignment.ts";
import { buildInitSpec, ensureInitLayer, initProgram } from "./init-container.ts";

test("the program runs, sleeps, and ignores its children", async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "gantry-init-"));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const child = execFile(join(ensureInitLayer(directory, process.arch), "init"), { env: {} });
  t.teardown(() => child.kill("SIGKILL"));
  const status = (): string => readFileSync(`/proc/${child.pid}/status`, "utf8");
  const deadline = performance.now() + 10_000;
  while (!/^Name:\s+init$/m.test(status()) || !/^State:\s+S/m.test(status())) {
    if (performance.now() > deadline) return t.fail(status());
    await new Promise((wake) => setTimeout(wake, 5));
  }
  const ignored = BigInt(`0x${/^SigIgn:\s+(\w+)$/m.exec(status())![1]!}`);
  t.is((ignored >> 16n) & 1n, 1n, "SIGCHLD, 17, is ignored");
  return undefined;
});

test("there is one for each architecture that node runs containers on; all in one page", (t) => {
  for (const [arch, machine] of [["x64", 62], ["arm64", 183]] as const) {
    const program = initProgram(arch);
    t.true(program.length < 4096);
    t.is(program.readUInt16LE(18), machine);
    t.is(program.readBigUInt64LE(program.length - 32), 1n, "SIG_IGN is at the end, where the code looks for it");
  }
  t.throws(() => initProgram("mips"), { message: /not supported on mips/ });
});

test("a half-written program is replaced", (t) => {
  const directory = mkdtempSync(join(tmpdir(), "gantry-init-"));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  writeFileSync(join(directory, "init"), "half");
  ensureInitLayer(directory, "x64");
  t.deepEqual(readFileSync(join(directory, "init")), initProgram("x64"));
  t.is(statSync(join(directory, "init")).mode & 0o777, 0o555);
  t.false(existsSync(join(directory, "init.new")));
});

test("it is in the pod's own namespaces, also that of its users, which owns the process namespace that it makes", (t) => {
  const namespaces = { network: "/ns/net", ipc: "/ns/ipc", uts: "/ns/uts", user: { path: "/ns/user", firstId: 65_536, count: 65_536 } };
  const sandbox = { namespaces, hostname: "h", podIp: "", hostIp: "", files: new Map<string, string>(), cgroupPath: "kubepods/podu" };
  t.deepEqual(buildInitSpec({ id: "i", pod: { uid: "u", namespace: "n", name: "p", runtimeClass: "" } as Assignment, sandbox, layerDir: "/l", logPath: "/log" }).namespaces, namespaces);
});
