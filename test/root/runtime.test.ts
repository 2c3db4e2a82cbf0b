// The container runtime with real namespaces, mounts, cgroups and processes; on crun and on runc. Each test leaves nothing behind.
import { execFileSync } from "node:child_process";
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, readdirSync, readlinkSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { SystemClock } from "../../base/clock.ts";
import { isCode } from "../../base/errors.ts";
import { silentLogger } from "../../base/logger.ts";
import { Metrics } from "../../base/metrics.ts";
import type { CgroupTree } from "../../node-agent/cgroups/cgroup-tree.ts";
import { readCgroupLayout } from "../../node-agent/cgroups/detect.ts";
import { readMounts, unmountAllBelow } from "../../node-agent/linux/mount.ts";
import { ConmonRuntime } from "../../node-agent/runtime/conmon-runtime.ts";
import { findCommand } from "../../node-agent/runtime/oci-runtime.ts";
import { FOR_EVER, execute, exitOf, runtimeContract } from "../../node-agent/runtime/runtime-contract.ts";

import { eventually } from "../helpers/hosts.ts";
import { allProcesses } from "../helpers/leftovers.ts";
import { openMachine, ourCgroups, run, start } from "../helpers/runtime-machine.ts";

const clock = new SystemClock();
const MB = 2 ** 20;

runtimeContract(test, "crun", (t) => openMachine(t));
if (findCommand("runc")) runtimeContract(test, "runc", (t) => openMachine(t, "runc"));

test("a container is closed in: capabilities, filter, no new privileges, masked and read-only paths, the first and the next one alike", async (t) => {
  const machine = await openMachine(t);
  const script = "grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status; head -c1 /proc/kcore | cat; echo 1 > /proc/sys/kernel/printk; chroot / echo chrooted; mknod /dev/sda b 8 0; head -c1 /dev/sda; ls /sys/firmware; echo end";
  // The second gets its filter compiled by the first.
  for (const spec of [machine.spec(script), machine.spec(script)]) {
    const out = await run(machine, spec);
    t.regex(out, /CapEff:\s+00000000a80425fb/);
    t.regex(out, /CapBnd:\s+00000000a80425fb/);
    t.regex(out, /NoNewPrivs:\s+1/);
    t.regex(out, /Seccomp:\s+2/);
    t.regex(out, /can't create \/proc\/sys\/kernel\/printk: Read-only file system/);
    t.regex(out, /chrooted/);
    t.regex(out, /\/dev\/sda: Operation not permitted/);
    t.regex(out, /end\n/);
  }
  const open = await run(machine, machine.spec("grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status", { seccomp: { type: "Unconfined" }, noNewPrivileges: false, capabilitiesAdd: ["NET_ADMIN"], capabilitiesDrop: ["ALL"] }));
  t.regex(open, /NoNewPrivs:\s+0[\s\S]*Seccomp:\s+0/);
  const calls = await execute(machine.runtime, await start(machine, machine.spec(FOR_EVER)), ["sh", "-c", "grep -E '^(Seccomp|CapEff|NoNewPrivs):' /proc/self/status"]);
  t.regex(calls.out, /CapEff:\s+00000000a80425fb\nNoNewPrivs:\s+1\nSeccomp:\s+2/);
});

test("crun runs out of a copy that nobody can write to, and loads once", async (t) => {
  const machine = await openMachine(t, "crun");
  const spec = machine.spec(FOR_EVER);
  await machine.runtime.create(spec);
  const state = machine.runtime.inspect(spec.id)!;
  t.is(state.phase, "created");
  const [pid] = machine.runtime.processes(spec.id);
  // What executes itself again does so from a file or a mount of its own.
  t.regex(readlinkSync(`/proc/${pid}/exe`), /^\/memfd:crun /);
  const program = openSync(`/proc/${pid}/exe`, "r");
  t.deepEqual(readFileSync(program), readFileSync(findCommand("crun")!));
  t.throws(() => writeFileSync(`/proc/self/fd/${program}`, "pwned"), { message: /EPERM|ETXTBSY/ });
  closeSync(program);
});

test("users come from the image's passwd and group, and numbers need neither", async (t) => {
  const machine = await openMachine(t);
  t.regex(await run(machine, machine.spec("id; pwd; echo $HOME", { user: "app", cwd: "/home/app", supplementalGroups: [99] })), /uid=1234.* gid=2345.* groups=.*99.*2345.*3456[\s\S]*\/home\/app\n\/home\/app/);
  t.regex(await run(machine, machine.spec("id", { user: "77:88", supplementalGroups: ["extra"] })), /uid=77 gid=88 groups=.*3456/);
  t.regex((await t.throwsAsync(machine.runtime.create(machine.spec("id", { user: "nobody-there" })))).message, /unable to find user nobody-there/);
});

test("the root is the image's, writable and private; read-only on demand; mounts lie where they were asked for", async (t) => {
  const machine = await openMachine(t);
  t.regex(await run(machine, machine.spec("touch /new && echo written; cat /etc/passwd | head -1")), /written\nroot:x:0/);
  t.false(existsSync(join(machine.directory, "layer/new")), "the layer was written to");
  t.regex(await run(machine, machine.spec("touch /new", { readOnlyRoot: true })), /Read-only file system/);
  const source = join(machine.directory, "shared");
  mkdirSync(source);
  const mounts = [{ source, destination: "/deep/er", type: "bind", options: ["rw"] }, { source, destination: "/ro", type: "bind", options: ["ro"] }, { source: "tmpfs", destination: "/scratch", type: "tmpfs", options: ["size=65536"] }] as const;
  t.regex(await run(machine, machine.spec("exec 2>&1; echo hi > /deep/er/f; cat /ro/f; touch /ro/g; dd if=/dev/zero of=/scratch/x bs=1k count=128 2>&1", { mounts })), /hi\ntouch: \/ro\/g: Read-only file system[\s\S]*No space left/);
  t.is(readFileSync(join(source, "f"), "utf8"), "hi\n");
});

test("what the image's links point at outside is not read", async (t) => {
  const machine = await openMachine(t);
  const layer = join(machine.directory, "evil");
  mkdirSync(layer);
  writeFileSync(join(machine.directory, "passwd"), "spy:x:4321:4321::/:/bin/sh\n");
  symlinkSync(machine.directory, join(layer, "etc"));
  t.regex((await t.throwsAsync(machine.runtime.create(machine.spec("id", { layerDirs: [layer], user: "spy" })))).message, /unable to find user spy/);
});

for (const name of ["crun", "runc"].filter((each) => findCommand(each))) {
  test(`${name}: a container's root is mounted for it alone; who a command runs as is looked up in what it sees, and not beyond`, async (t) => {
    const machine = await openMachine(t, name);
    writeFileSync(join(machine.directory, "passwd"), "spy:x:4321:4321::/:/bin/sh\n");
    const script = `echo later:x:5678:6789::/:/bin/sh >> /etc/passwd; echo ready; ${FOR_EVER}`;
    const id = await start(machine, machine.spec(script));
    t.true(await eventually(() => machine.log(id).includes("ready")));
    t.true(await eventually(() => !readMounts().some((mount) => mount.target.endsWith(`${id}/rootfs`))));
    const idOf = (user: string): ReturnType<typeof execute> => execute(machine.runtime, id, ["id"], { user });
    t.regex((await idOf("later")).out, /uid=5678.* gid=6789/);
    t.regex((await idOf("app:extra")).out, /uid=1234.* gid=3456/);
    const outside = execute(machine.runtime, id, ["sh", "-c", `mv /etc /old; ln -s ${machine.directory} /etc`]);
    t.is((await outside).exitCode, 0);
    t.regex((await t.throwsAsync(idOf("spy"))).message, /unable to find user spy/);
    t.is((await idOf("7:8")).exitCode, 0);
  });
}

test("a container that takes more memory than it may have is OOMKilled", async (t) => {
  const machine = await openMachine(t);
  const spec = machine.spec("x=0123456789abcdef; while :; do x=$x$x; done", { limits: { cpuShares: 2, cpuQuotaMilli: 0, memoryBytes: 16 * 1024 * 1024, pids: 0 } });
  const exited = exitOf(machine.runtime, spec.id);
  await start(machine, spec);
  t.like(await exited, { exitCode: 137, signal: 9, oomKilled: true });
});

test("limits are in the container's cgroup", async (t) => {
  const machine = await openMachine(t);
  const limits = { cpuShares: 512, cpuQuotaMilli: 250, memoryBytes: 64 * MB, swapBytes: 0, pids: 33 };
  const disk = readdirSync("/sys/class/block").map((name) => `/dev/${name}`).find((path) => existsSync(path));
  const spec = machine.spec(FOR_EVER, { limits, blockIo: { blkioWeight: 500, ...(disk ? { deviceReadBps: [{ device: disk, rate: MB }] } : {}) } }); // a weight that the kernel can't give is left out
  await start(machine, spec);
  const read = (controller: string, v1: string, v2: string): string => {
    const layout = readCgroupLayout();
    const directory = layout.version === "v2" ? layout.unified! : layout.hierarchies.get(controller)!;
    return readFileSync(join(directory, machine.cgroups.ociPath(spec.cgroupPath), layout.version === "v2" ? v2 : v1), "utf8").trim();
  };
  t.is(read("memory", "memory.limit_in_bytes", "memory.max"), String(64 * MB));
  t.is(read("pids", "pids.max", "pids.max"), "33");
  t.regex(read("cpu", "cpu.cfs_quota_us", "cpu.max"), /^25000/);
  const { ioRates, swap: countsSwap } = machine.cgroups.features();
  if (disk && ioRates) t.regex(read(readCgroupLayout().version === "v2" ? "io" : "blkio", "blkio.throttle.read_bps_device", "io.max"), /^\d+:\d+ (rbps=)?1048576/);
  if (!countsSwap) return;
  const swap = (): string => read("memory", "memory.memsw.limit_in_bytes", "memory.swap.max");
  const expected = (memoryMb: number, swapMb: number): string => String((readCgroupLayout().version === "v2" ? swapMb : memoryMb + swapMb) * MB);
  t.is(swap(), expected(64, 0));
  for (const [memoryMb, swapMb] of [[128, 0], [32, 8], [48, 0]] as const) { // up, down, and up with less swap
    machine.cgroups.apply(spec.cgroupPath, { ...limits, memoryBytes: memoryMb * MB, swapBytes: swapMb * MB });
    t.is(read("memory", "memory.limit_in_bytes", "memory.max"), String(memoryMb * MB));
    t.is(swap(), expected(memoryMb, swapMb));
  }
});

test("exec: not executable is 126, a terminal is one, and has the size that is asked for", async (t) => {
  const machine = await openMachine(t);
  const id = await start(machine, machine.spec(FOR_EVER, { user: "app" }));
  const denied = await execute(machine.runtime, id, ["/bin/not-executable"]);
  t.is(denied.exitCode, 126, denied.err);
  t.regex(denied.err, /permission denied/);
  const terminal = await execute(machine.runtime, id, ["sh", "-c", "tty; id; echo $TERM; exit 4"], { tty: true });
  t.is(terminal.exitCode, 4);
  t.regex(terminal.out, /\/dev\/pts\/0\r\nuid=1234[\s\S]*xterm/);
  t.is((await execute(machine.runtime, id, ["sh", "-c", "echo x > /dev/stdout"])).out, "x\n");

  let out = "";
  const first = Promise.withResolvers<void>();
  const sizes = (async function* () {
    yield { width: 101, height: 37 };
    await first.promise;
    yield { width: 50, height: 20 };
  })();
  await machine.runtime.exec(id, {
    command: ["sh", "-c", "for wanted in '37 101' '20 50'; do until [ \"$(stty size 2>/dev/null)\" = \"$wanted\" ]; do sleep 0.02; done; echo is $wanted; done"], tty: true, stdin: undefined, resize: sizes, signal: new AbortController().signal,
    onStdout: async (data) => {
      out += Buffer.from(data).toString();
      if (out.includes("is 37 101")) first.resolve();
    },
    onStderr: async () => undefined,
  });
  t.is(out, "is 37 101\r\nis 20 50\r\n");
});

test("exec: a cancelled command is killed, one that leaves a process behind doesn't hang, and much output arrives whole", async (t) => {
  const machine = await openMachine(t);
  const id = await start(machine, machine.spec(FOR_EVER));
  const cancel = new AbortController();
  const hanging = machine.runtime.exec(id, { command: ["sleep", "777"], tty: false, stdin: undefined, onStdout: async () => undefined, onStderr: async () => undefined, signal: cancel.signal });
  await new Promise((resolve) => setTimeout(resolve, 150));
  cancel.abort(new Error("enough"));
  await t.throwsAsync(hanging, { message: "enough" });
  t.notRegex((await execute(machine.runtime, id, ["ps"])).out, /sleep 777/);
  t.is((await execute(machine.runtime, id, ["sh", "-c", "sleep 30 & echo left"])).out, "left\n");
  t.is((await execute(machine.runtime, id, ["sh", "-c", "dd if=/dev/zero bs=64k count=64 2>/dev/null"])).out.length, 4 * 1024 * 1024);
});

test("a log that was renamed goes on in a new file", async (t) => {
  const machine = await openMachine(t);
  const spec = machine.spec("echo before; while [ ! -e /go ]; do sleep 0.02; done; echo after; sleep 30");
  const id = await start(machine, spec);
  const { renameSync } = await import("node:fs");
  while (!existsSync(spec.logPath) || !readFileSync(spec.logPath, "utf8").includes("before")) await new Promise((resolve) => setTimeout(resolve, 10));
  renameSync(spec.logPath, `${spec.logPath}.1`);
  await machine.runtime.reopenLog(id);
  while (!existsSync(spec.logPath)) await new Promise((resolve) => setTimeout(resolve, 10));
  await execute(machine.runtime, id, ["touch", "/go"]);
  while (!readFileSync(spec.logPath, "utf8").includes("after")) await new Promise((resolve) => setTimeout(resolve, 10));
  t.regex(readFileSync(`${spec.logPath}.1`, "utf8"), /^\d{4}-\d\d-\d\dT[\d:.]+\+00:00 stdout F before\n$/);
  t.notRegex(readFileSync(spec.logPath, "utf8"), /before/);
});

test("remove leaves no mount, process, cgroup or file of the container", async (t) => {
  const machine = await openMachine(t);
  const spec = machine.spec(`sleep 1000 & ${FOR_EVER}`);
  const id = await start(machine, spec);
  const state = machine.runtime.inspect(id);
  const pid = state?.phase === "running" ? state.pid : 0;
  t.true(existsSync(`/proc/${pid}`));
  await machine.runtime.remove(id);
  t.false(existsSync(`/proc/${pid}`));
  t.deepEqual(readMounts().filter((m) => m.target.includes(`/containers/${id}`)), []);
  t.deepEqual(machine.cgroups.processes(spec.cgroupPath), []);
  t.false(machine.cgroups.exists(spec.cgroupPath));
  for (const directory of ["root/containers", "run/containers", "run/exits", "run/oci"]) t.deepEqual(readdirSync(join(machine.directory, directory)).filter((name) => name.includes(id)), [], directory);
  t.true(existsSync(spec.logPath), "logs stay");
});

test("an agent that is killed in the midst of creating leaves what the next one clears away", async (t) => {
  const machine = await openMachine(t);
  const spec = machine.spec(FOR_EVER);
  await machine.runtime.create(spec);
  // As after a SIGKILL before the last file was written.
  rmSync(join(machine.directory, "run/containers", spec.id, "container.json"));
  const next = await machine.restart();
  t.deepEqual(await next.recover(), []);
  t.deepEqual(readMounts().filter((m) => m.target.includes(`/containers/${spec.id}`)), []);
  t.false(machine.cgroups.exists(spec.cgroupPath));
  await t.notThrowsAsync(next.create(spec), "the id is free again");
});

test("a container whose conmon was killed with it is found as ended after a restart, with a code that says that nobody knows", async (t) => {
  const machine = await openMachine(t);
  const spec = machine.spec(FOR_EVER);
  const id = await start(machine, spec);
  const conmon = Number(readFileSync(join(machine.directory, "run/containers", id, "conmon.pid"), "utf8"));
  const state = machine.runtime.inspect(id);
  const next = await machine.restart();
  process.kill(conmon, "SIGKILL");
  process.kill(state?.phase === "running" ? state.pid : 0, "SIGKILL");
  await new Promise((resolve) => setTimeout(resolve, 50));
  const found = (await next.recover())[0];
  t.like(found?.state.phase === "exited" ? found.state.exit : undefined, { exitCode: 255 });
});

test("what is missing on the machine is said in words", async (t) => {
  const options = { root: "/nowhere", runRoot: mkdtempSync(join(tmpdir(), "gantry-rt-")), cgroups: { describe: () => ({ version: "v1" }), features: () => ({ swap: false, oomGroup: false, hugePageSizes: [], ioWeight: false, ioRates: false }) } as unknown as CgroupTree, clock, logger: silentLogger, metrics: new Metrics() };
  t.teardown(() => {
    unmountAllBelow(options.runRoot);
    rmSync(options.runRoot, { recursive: true, force: true });
    rmSync("/nowhere", { recursive: true, force: true });
  });
  const noRuntime = await t.throwsAsync(ConmonRuntime.open({ ...options, ociRuntime: "no-such-runtime" }));
  t.true(isCode(noRuntime, "FailedPrecondition"));
  t.regex(noRuntime.message, /no OCI runtime: "no-such-runtime" is installed \(on Debian: apt-get install crun/);
  t.regex((await t.throwsAsync(ConmonRuntime.open({ ...options, conmon: "/no/conmon" }))).message, /\/no\/conmon is not installed \(on Debian: apt-get install conmon\)/);
});

test("a kept layer: files stay, can be read and written while nothing runs, and a new instance waits until that is done", async (t) => {
  const { runtime, spec, directory } = await openMachine(t);
  const own = spec("echo run >> /tmp/runs; exit 0", { keepLayer: true });
  const run = async (): Promise<void> => {
    const exited = exitOf(runtime, own.id);
    await runtime.create(own);
    await runtime.start(own.id);
    await exited;
    await runtime.remove(own.id, { keepLayer: true });
  };
  await run();
  await run();
  const root = await runtime.openRoot(own.id, own.layerDirs);
  t.is(readFileSync(`/proc/self/fd/${root.fd}/tmp/runs`, "utf8"), "run\nrun\n");
  writeFileSync(`/proc/self/fd/${root.fd}/tmp/runs`, "own\n");
  let isCreated = false;
  const again = run().then(() => { isCreated = true; return undefined; });
  await new Promise((wake) => setTimeout(wake, 100));
  t.false(isCreated);
  root[Symbol.dispose]();
  await again;
  using second = await runtime.openRoot(own.id, own.layerDirs);
  t.is(readFileSync(`/proc/self/fd/${second.fd}/tmp/runs`, "utf8"), "own\nrun\n");
  second[Symbol.dispose]();
  await runtime.remove(own.id);
  t.false(existsSync(join(directory, "root/containers", own.id)));
  t.true(isCode(await t.throwsAsync(runtime.openRoot(own.id, own.layerDirs)), "FailedPrecondition"));
});

test("whoever asks for the files of a container that is being made gets that container's, and it starts", async (t) => {
  const { runtime, spec } = await openMachine(t);
  const own = spec("exec sleep 1000", { keepLayer: true });
  const created = runtime.create(own);
  // A second mount of its layer, beside the one being made, would leave it unable to make a file.
  const [root] = await Promise.all([runtime.openRoot(own.id, own.layerDirs), created]);
  writeFileSync(`/proc/self/fd/${root.fd}/tmp/copied`, "in");
  root[Symbol.dispose]();
  await runtime.start(own.id);
  let out = "";
  const { exitCode } = await runtime.exec(own.id, {
    command: ["sh", "-c", "cat /tmp/copied && echo > /etc/made"], tty: false, stdin: undefined, signal: new AbortController().signal,
    onStdout: async (data) => void (out += Buffer.from(data).toString()), onStderr: async (data) => void (out += Buffer.from(data).toString()),
  });
  t.is(out, "in");
  t.is(exitCode, 0);
  // In the moment in which its process has ended and nobody has said so yet.
  const { pid } = await created;
  process.kill(pid, "SIGKILL");
  using after = await runtime.openRoot(own.id, own.layerDirs);
  t.is(readFileSync(`/proc/self/fd/${after.fd}/tmp/copied`, "utf8"), "in");
});

test("what is typed reaches a container through conmon, with its end only where stdinOnce says so; the terminal gets its size", async (t) => {
  const machine = await openMachine(t);
  const { runtime, spec } = machine;
  const log = (id: string): string => machine.log(id);
  const once = spec("cat; echo end", { stdin: true, stdinOnce: true });
  const exited = exitOf(runtime, once.id);
  await runtime.create(once);
  await runtime.start(once.id);
  const input = runtime.openInput(once.id);
  await input.write(Buffer.from("x".repeat(100_000)));
  await input.write(Buffer.from("\n"));
  input.end();
  t.is((await exited).exitCode, 0);
  t.is([...log(once.id).matchAll(/stdout [FP] (x*)/g)].map((m) => m[1]!.length).reduce((a, b) => a + b, 0), 100_000);

  const stays = spec("read a; echo got $a; read b; echo got $b; stty size", { stdin: true, tty: true });
  const ended = exitOf(runtime, stays.id);
  await runtime.create(stays);
  await runtime.start(stays.id);
  const first = runtime.openInput(stays.id);
  await first.write(Buffer.from("one\n"));
  first[Symbol.dispose]();
  runtime.resizeTerminal(stays.id, { width: 111, height: 33 });
  using second = runtime.openInput(stays.id);
  await second.write(Buffer.from("two\n"));
  t.is((await ended).exitCode, 0);
  t.regex(log(stays.id), /got one[\s\S]*got two[\s\S]*33 111/);
});

test("a test that fails in the midst of a create leaves nothing behind", async (t) => {
  const outside = mkdtempSync(join(tmpdir(), "gantry-stuck-"));
  t.teardown(() => rmSync(outside, { recursive: true, force: true }));
  // A runtime whose create has begun and doesn't end by itself: nobody writes to the pipe.
  const [command, begun, pipe] = [join(outside, "stuck-crun"), join(outside, "begun"), join(outside, "pipe")];
  execFileSync("mkfifo", [pipe]);
  writeFileSync(command, `#!/bin/sh\ncase " $* " in *" create "*) : > ${begun}; read -r never < ${pipe};; esac\nexec ${findCommand("crun")} "$@"\n`, { mode: 0o755 });
  const teardowns: (() => unknown)[] = [];
  const machine = await openMachine({ teardown: (fn: () => unknown) => void teardowns.push(fn) }, command);
  const spec = machine.spec(FOR_EVER);
  const created = machine.runtime.create(spec).then(() => "created", () => "undone");
  while (!existsSync(begun)) await clock.sleep(5);
  const root = machine.cgroups.ociPath("");
  for (const run of teardowns) await run();
  t.is(await created, "undone");
  t.false(existsSync(machine.directory));
  t.deepEqual(ourCgroups(root), []);
  t.deepEqual(readMounts().filter((m) => m.target.startsWith(machine.directory)), []);
  t.deepEqual(allProcesses().filter((p) => p.commandLine.includes(machine.directory)), []);
});
